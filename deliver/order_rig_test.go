package deliver

import (
	"cmp"
	"context"
	"slices"
)

// standing lists the pending deliveries of the endpoint that stand in lines.
func (b *books) standing(endpoint int64) []Ticket {
	var ts []Ticket
	for k, t := range b.rows {
		if k.Endpoint == endpoint && b.lines[k] != (Line{}) {
			ts = append(ts, t)
		}
	}
	slices.SortFunc(ts, func(x, y Ticket) int { return cmp.Compare(x.Event, y.Event) })
	return ts
}

func (b *books) Lined(context.Context) (map[int64][]int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	rules := map[int64][]int64{}
	for k, l := range b.lines {
		if _, pending := b.rows[k]; pending && !slices.Contains(rules[k.Endpoint], l.Rule) {
			rules[k.Endpoint] = append(rules[k.Endpoint], l.Rule)
		}
	}
	return rules, nil
}

func (b *books) Lines(_ context.Context, endpoint int64, limit int) ([]LineHead, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	seen := map[Line]bool{}
	var held, others []LineHead
	for _, t := range b.standing(endpoint) {
		l := b.lines[t.Key]
		switch {
		case seen[l]:
		case t.Due == HeldBack:
			held = append(held, LineHead{t.Place(), l})
		default:
			others = append(others, LineHead{t.Place(), l})
		}
		seen[l] = true
	}
	heads := append(held, others...)
	return heads[:min(len(heads), limit)], nil
}

func (b *books) Line(_ context.Context, endpoint int64, line Line, from int64, limit int) ([]Ticket, error) {
	b.mu.Lock()
	var ts []Ticket
	for _, t := range b.standing(endpoint) {
		if b.lines[t.Key] == line && t.Event >= from && len(ts) < limit {
			ts = append(ts, t)
		}
	}
	b.mu.Unlock()
	if b.snapshot != nil {
		b.snapshot()
	}
	return ts, nil
}

func (b *books) LeaveLines(_ context.Context, endpoint, keep, due int64, limit int) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	left := 0
	for _, t := range b.standing(endpoint) {
		if b.lines[t.Key].Rule == keep {
			continue
		}
		if left++; left > limit {
			return true, nil
		}
		delete(b.lines, t.Key)
		if t.Due == HeldBack {
			t.Due = due
			b.rows[t.Key] = t
		}
	}
	return false, nil
}

// place books where a delivery stands. b.mu is held.
func (b *books) place(r *Record) {
	delete(b.lines, r.Key)
	if r.Line != (Line{}) && r.Next.State == Pending {
		b.lines[r.Key] = r.Line
	}
}
