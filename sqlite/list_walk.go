package sqlite

import (
	"context"
	"slices"

	"github.com/grapnel-hooks/grapnel/deliver"
)

// byPending finds pending deliveries by their index. It is in the order in
// which they are due, so each query goes through all of it; run sees to it that it is
// not large.
func (l *list) byPending(ctx context.Context) error {
	clause, more := "", []any(nil)
	if l.endpoint != 0 {
		clause, more = " AND endpoint=?", []any{l.endpoint}
	}
	for {
		args := append([]any{l.o.row, l.oldest, l.after.Event, l.after.Event, l.after.Endpoint}, more...)
		rows, full, err := l.entries(`SELECT k.event, k.endpoint, e.type, e.stored FROM (
			SELECT event, endpoint FROM deliveries INDEXED BY deliveries_pending
				WHERE state=0 AND org=? AND event>=? AND event<=? AND NOT (event=? AND endpoint<=?)`+clause+`
				ORDER BY event DESC, endpoint LIMIT ?) k CROSS JOIN events e ON e.id=k.event`, append(args, l.look())...)
		if err != nil || full || rows < l.look() {
			return err
		}
		if l.over(ctx) {
			l.next = l.after
			return ctx.Err()
		}
	}
}

// byIndex finds dead or cancelled deliveries by their index.
func (l *list) byIndex(ctx context.Context) error {
	narrow := l.f.Type != "" || !l.f.Until.IsZero()
	for part, err := range l.spans(l.after.Event, narrow) {
		if err != nil {
			return err
		}
		l.enter(part)
		for {
			if l.over(ctx) {
				l.next = l.after
				return ctx.Err()
			}
			if l.after.Event <= part.low {
				break
			}
			more, full, err := l.failed(part.low)
			if err != nil || full {
				return err
			}
			if !more {
				break
			}
		}
	}
	return nil
}

// enter goes on with a part of the chain.
func (l *list) enter(part eventSpan) {
	if part.high < l.after.Event {
		l.after = deliver.Key{Event: part.high}
	}
}

const failedIndex = ` FROM deliveries d INDEXED BY deliveries_failed WHERE d.org=? AND d.state>=2 AND d.state=? AND d.event>? AND d.event<=?`

// failed looks at some entries of the index, of events after low, and says
// whether there are more.
func (l *list) failed(low int64) (more, full bool, err error) {
	args := []any{l.o.row, int(*l.f.State), low, l.after.Event}
	edge := low // what is looked at comes after it
	clause, own := "", []any(nil)
	if l.endpoint != 0 {
		// Those of others are passed over within the index, up to this event.
		clause, own = " AND d.endpoint=?", []any{l.endpoint}
		found, err := l.s.column(`SELECT d.event`+failedIndex+` ORDER BY d.event DESC LIMIT 1 OFFSET ?`, append(args, indexStep)...)
		if err != nil {
			return false, false, err
		}
		if len(found) > 0 {
			edge = found[0] - 1
			args[2] = edge
		}
	}
	args = append(args, l.after.Event, l.after.Endpoint)
	rows, full, err := l.entries(`SELECT k.event, k.endpoint, e.type, e.stored FROM (SELECT d.event, d.endpoint`+failedIndex+`
		AND NOT (d.event=? AND d.endpoint<=?)`+clause+` ORDER BY d.event DESC, d.endpoint LIMIT ?) k CROSS JOIN events e ON e.id=k.event`,
		append(append(args, own...), l.look())...)
	if err != nil || full || rows == l.look() {
		return true, full, err
	}
	l.after = deliver.Key{Event: edge}
	return edge > low, false, nil
}

// look is how many entries of an index are looked at by one query.
func (l *list) look() int {
	if l.filtered() {
		return rowsStep
	}
	return l.limit + 1
}

// entries takes those of the keys that a query finds whose event is wanted.
// What comes behind the last one is next.
func (l *list) entries(query string, args ...any) (rows int, full bool, err error) {
	err = l.s.read(func(scan func(...any) error) error {
		var k deliver.Key
		var typ string
		var stored int64
		if err := scan(&k.Event, &k.Endpoint, &typ, &stored); err != nil {
			return err
		}
		rows++
		if l.after = k; l.wants(typ, stored) {
			full = full || !l.take(k)
		}
		return nil
	}, query, args...)
	l.looked = true
	return rows, full, err
}

// walk finds deliveries along the chain of the org's events.
func (l *list) walk(ctx context.Context) error {
	start := l.after.Event
	if l.after == newest {
		err := l.s.readDB.QueryRowContext(background, "SELECT last_event FROM cursors WHERE org=?", l.o.row).Scan(&start)
		if err != nil {
			return err
		}
	}
	for part, err := range l.spans(start, l.f.Type != "" || l.endpoint != 0 || !l.f.Until.IsZero()) {
		if err != nil {
			return err
		}
		l.enter(part)
		size := firstStep
		for at := part.high; ; size = min(2*size, lastStep) {
			if l.over(ctx) {
				l.next = l.after
				return ctx.Err()
			}
			if at <= part.low {
				break
			}
			st, err := l.step(at, part.low, size)
			if err != nil {
				return err
			}
			if done, err := l.deliveriesOf(ctx, st.events); err != nil || done {
				return err
			}
			at = st.next
			l.after = deliver.Key{Event: at}
		}
	}
	return nil
}

// step is some events of the org that are wanted, newest first.
type step struct {
	events []int64
	next   int64 // where to go on; 0: the org has no more
}

// step looks at up to size events of the org, from the one given on and after
// low, where each says where the one before it is.
func (l *list) step(from, low int64, size int) (step, error) {
	l.looked = true
	if from < l.low {
		return l.left(from, low)
	}
	st, seen := step{}, 0
	err := l.s.read(func(scan func(...any) error) error {
		var id, prev, stored int64
		var typ string
		if err := scan(&id, &prev, &typ, &stored); err != nil {
			return err
		}
		seen++
		if st.next = 0; prev > 0 {
			st.next = id - prev
		}
		if l.wants(typ, stored) {
			st.events = append(st.events, id)
		}
		return nil
	}, `WITH RECURSIVE chain(id, prev, type, stored, n) AS (
			SELECT id, prev, type, stored, 1 FROM events WHERE id=?1 AND org=?2
			UNION ALL
			SELECT e.id, e.prev, e.type, e.stored, n+1 FROM chain c JOIN events e ON e.id = c.id - c.prev
				WHERE c.prev > 0 AND e.id > ?3 AND n < ?4)
		SELECT id, prev, type, stored FROM chain`, from, l.o.row, low, size)
	if err == nil && seen == 0 {
		// Retention has been here just now, or the caller made this place up.
		return l.left(from, low)
	}
	return st, err
}

// left looks through events of all orgs, where the chain has holes.
func (l *list) left(from, low int64) (step, error) {
	var st step
	seen := 0
	err := l.s.read(func(scan func(...any) error) error {
		var id, stored int64
		var typ string
		var own bool
		if err := scan(&id, &typ, &stored, &own); err != nil {
			return err
		}
		seen++
		st.next = id - 1
		if own && l.wants(typ, stored) {
			st.events = append(st.events, id)
		}
		return nil
	}, `SELECT id, type, stored, org=?2 FROM events WHERE id <= ?1 AND id > ?3 ORDER BY id DESC LIMIT ?4`, from, l.o.row, low, rowsStep)
	if seen < rowsStep {
		st.next = low
	}
	return st, err
}

// deliveriesOf takes those deliveries of events, in their order, that the
// filter lets through, and says whether the page is done. The order is that of
// the join: CROSS keeps the events outside.
func (l *list) deliveriesOf(ctx context.Context, events []int64) (done bool, err error) {
	clause, more := "", []any(nil)
	look := rowsStep
	if l.endpoint != 0 {
		clause, more = " AND d.endpoint=?", []any{l.endpoint}
	}
	for len(events) > 0 {
		if l.f.State == nil {
			look = l.limit - len(l.found) + 1
		}
		rows, full, last := 0, false, deliver.Key{}
		args := append([]any{numbers(events), l.o.row, l.after.Event, l.after.Endpoint}, more...)
		err := l.s.read(func(scan func(...any) error) error {
			var state deliver.State
			if err := scan(&last.Event, &last.Endpoint, &state); err != nil {
				return err
			}
			rows++
			if l.f.State == nil || state == *l.f.State {
				full = full || !l.take(last)
			}
			return nil
		}, `SELECT d.event, d.endpoint, d.state FROM json_each(?) j CROSS JOIN deliveries d ON d.event=j.value
			WHERE d.org=? AND NOT (d.event=? AND d.endpoint<=?)`+clause+` LIMIT ?`, append(args, look)...)
		if err != nil || full {
			return full, err
		}
		if rows < look {
			return false, nil
		}
		if l.after = last; l.over(ctx) {
			l.next = l.after
			return true, ctx.Err()
		}
		events = events[slices.Index(events, last.Event):]
	}
	return false, nil
}
