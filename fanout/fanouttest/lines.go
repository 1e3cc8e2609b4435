package fanouttest

import (
	"cmp"
	"context"
	"slices"

	"github.com/grapnel-hooks/grapnel/deliver"
)

// standing lists the pending deliveries of the endpoint that stand in lines, by
// event. disk.mu is held.
func (b *Books) standing(endpoint int64) []*delivery {
	var all []*delivery
	for _, e := range b.disk.events {
		for _, d := range e.deliveries {
			if d.Endpoint == endpoint && d.state == deliver.Pending && d.line != (deliver.Line{}) {
				all = append(all, d)
			}
		}
	}
	slices.SortFunc(all, func(a, b *delivery) int { return cmp.Compare(a.Event, b.Event) })
	return all
}

// hold books that a delivery is held back.
func (d *delivery) hold(r *deliver.Record) {
	if d.state == deliver.Pending && d.Attempts == r.Attempt.Number {
		d.Due, d.line = deliver.HeldBack, r.Line
	}
}

// Lined implements [deliver.LineBooks].
func (b *Books) Lined(ctx context.Context) (map[int64][]int64, error) {
	if err := b.begin(CallRead, "lined"); err != nil {
		return nil, err
	}
	defer b.end()
	rules := map[int64][]int64{}
	for _, ep := range b.disk.endpoints {
		for _, d := range b.standing(ep.Row) {
			if !slices.Contains(rules[ep.Row], d.line.Rule) {
				rules[ep.Row] = append(rules[ep.Row], d.line.Rule)
			}
		}
	}
	return rules, nil
}

// Lines implements [deliver.LineBooks].
func (b *Books) Lines(ctx context.Context, endpoint int64, limit int) ([]deliver.LineHead, error) {
	if err := b.begin(CallRead, "lines of %d", endpoint); err != nil {
		return nil, err
	}
	defer b.end()
	if b.Broken.ForgetLines {
		return nil, nil
	}
	var heads []deliver.LineHead
	for _, d := range b.standing(endpoint) {
		if !slices.ContainsFunc(heads, func(h deliver.LineHead) bool { return h.Line == d.line }) {
			heads = append(heads, deliver.LineHead{Place: d.Place(), Line: d.line})
		}
	}
	slices.SortStableFunc(heads, func(a, b deliver.LineHead) int {
		switch {
		case a.Due == deliver.HeldBack && b.Due != deliver.HeldBack:
			return -1
		case a.Due != deliver.HeldBack && b.Due == deliver.HeldBack:
			return 1
		}
		return 0
	})
	return heads[:min(len(heads), limit)], nil
}

// Line implements [deliver.LineBooks].
func (b *Books) Line(ctx context.Context, endpoint int64, line deliver.Line, from int64, limit int) ([]deliver.Ticket, error) {
	if err := b.begin(CallRead, "line of %d", endpoint); err != nil {
		return nil, err
	}
	defer b.end()
	var ts []deliver.Ticket
	for _, d := range b.standing(endpoint) {
		if d.line == line && d.Event >= from && len(ts) < limit {
			ts = append(ts, d.Ticket)
		}
	}
	return ts, nil
}

// LeaveLines implements [deliver.LineBooks].
func (b *Books) LeaveLines(ctx context.Context, endpoint, keep, due int64, limit int) (more bool, err error) {
	if err := b.begin(callAdmin, "leave lines of %d", endpoint); err != nil {
		return false, err
	}
	defer b.end()
	left := 0
	for _, d := range b.standing(endpoint) {
		if d.line.Rule == keep {
			continue
		}
		if left == limit {
			return true, nil
		}
		left++
		d.line = deliver.Line{}
		if d.Due == deliver.HeldBack {
			d.Due = due
		}
	}
	return false, nil
}
