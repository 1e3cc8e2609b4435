package sqlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
)

// The two statements of the hot path. What is the same for all rows of a plan is
// bound once: ?1 is the org, ?2 the incarnation.
const (
	insertEvents     = "INSERT INTO events(id, org, incarnation, seq, prev, key, type, stored, fanned) VALUES "
	insertDeliveries = "INSERT INTO deliveries(event, endpoint, org, state, reason, due, attempts, spent, trigger) VALUES "

	eventShared, eventArgs       = 2, 7
	deliveryShared, deliveryArgs = 1, 2
)

var (
	insertEvent        = insertEvents + eventRows(1)
	insertManyEvents   = insertEvents + eventRows(manyRows)
	insertDelivery     = insertDeliveries + deliveryRows(1)
	insertManyDelivery = insertDeliveries + deliveryRows(manyRows)
)

func eventRows(n int) string {
	rows := make([]string, n)
	for i := range rows {
		a := eventShared + eventArgs*i
		rows[i] = fmt.Sprintf("(?%d,?1,?2,?%d,?%d,?%d,?%d,?%d,?%d)", a+1, a+2, a+3, a+4, a+5, a+6, a+7)
	}
	return strings.Join(rows, ",")
}

func deliveryRows(n int) string {
	rows := make([]string, n)
	for i := range rows {
		a := deliveryShared + deliveryArgs*i
		rows[i] = fmt.Sprintf("(?%d,?%d,?1,0,0,0,0,0,0)", a+1, a+2)
	}
	return strings.Join(rows, ",")
}

// Commit implements [fanout.Books]. What is known of the plan's IDs is looked up
// before the writer is asked: nobody else commits for this org meanwhile.
func (s *Store) Commit(ctx context.Context, p fanout.Plan) ([]fanout.Written, error) {
	if err := checkMove(p); err != nil {
		return nil, fmt.Errorf("commit %s after %d: %w", p.Org, p.From.Seq, err)
	}
	o, err := s.find(p.Org)
	if err != nil {
		return nil, err
	}
	o.commit.Lock()
	defer o.commit.Unlock()
	var written []fanout.Written
	for {
		known, err := s.known(o, p)
		if err != nil {
			return nil, fmt.Errorf("commit %s after %d: look up events: %w", p.Org, p.From.Seq, public(err))
		}
		err = s.w.submit(ctx, &op{plan: true, done: make(chan struct{}), run: func(t *txn) (err error) {
			written, err = t.commit(o, p, known)
			return err
		}})
		switch {
		case errors.Is(err, errForgotten):
			continue
		case err != nil:
			return nil, fmt.Errorf("commit %s after %d: %w", p.Org, p.From.Seq, err)
		}
		if p.From.Incarnation == p.To.Incarnation {
			o.pace.count(s.now(), float64(p.To.Seq-p.From.Seq))
		}
		return written, nil
	}
}

// errForgotten: an event that was known when the plan's IDs were looked up is
// gone with retention since. They have to be looked up again.
var errForgotten = errors.New("event is gone")

// checkMove refuses what no reading of a stream can have caused.
func checkMove(p fanout.Plan) error {
	same := p.From.Incarnation == p.To.Incarnation
	switch {
	case p.To.Incarnation < 1:
		return errors.New("a position without an incarnation")
	case p.Change != cursor.Same && p.To.Incarnation <= p.From.Incarnation:
		return errors.New("another stream, and no new incarnation")
	case p.Change == cursor.Same && !same && p.From.Incarnation != 0:
		return errors.New("a new incarnation of the same stream")
	case same && p.To.Seq < p.From.Seq:
		return errors.New("the position would move back")
	}
	return nil
}

// earlier says what the books know of the ID of one event of a plan.
type earlier struct {
	event int64 // 0: nothing
	same  bool  // at the same place in the stream: it is read again
}

// known looks up the IDs of the plan's events; nil when all are new.
func (s *Store) known(o *orgState, p fanout.Plan) ([]earlier, error) {
	var all []earlier
	var found []int64
	for i := range p.Events {
		ev := &p.Events[i]
		var err error
		if found, err = s.keys.lookup(s.readDB, ev.ID, found[:0]); err != nil {
			return nil, err
		}
		for _, event := range found {
			at, err := s.event(o, event)
			if err != nil {
				return nil, err
			}
			if at == nil || at.ID != ev.ID {
				continue // removed by retention, of a removed org, or another with the same hash
			}
			if all == nil {
				all = make([]earlier, len(p.Events))
			}
			all[i] = earlier{event: event, same: at.Incarnation == p.To.Incarnation && at.Seq == ev.Seq}
			if all[i].same {
				break
			}
		}
	}
	return all, nil
}

// commit writes the plan.
func (t *txn) commit(o *orgState, p fanout.Plan, known []earlier) ([]fanout.Written, error) {
	var err error
	if p.Again {
		if p, known, err = t.readAgain(o, p, known); err != nil {
			return nil, fmt.Errorf("read again: %w", err)
		}
	}
	removed, err := t.removedOf(o, p)
	if err != nil {
		return nil, err
	}
	written, err := t.enter(o, p, known, removed, func(last, fresh, duplicates int64) error {
		t.after = append(t.after, func() {
			c := &t.w.stats
			c.matched.Add(fresh)
			c.unmatched.Add(int64(p.Unmatched))
			c.duplicates.Add(duplicates)
		})
		if p.Change != cursor.Same {
			return t.moveAnew(o, p, last, fresh, duplicates)
		}
		return t.move(o, p, last, fresh, duplicates)
	})
	if err != nil {
		return nil, err
	}
	if err := t.exceptions(o, p); err != nil {
		return nil, err
	}
	return written, t.park(o)
}

// enter writes events and deliveries. In between, move notes for the org which
// event is its last, and how many are new and how many duplicates.
func (t *txn) enter(o *orgState, p fanout.Plan, known []earlier, removed map[int64]bool, move func(last, fresh, duplicates int64) error) ([]fanout.Written, error) {
	withheld, err := t.withheld(o, p)
	if err != nil {
		return nil, fmt.Errorf("look what was expunged: %w", err)
	}
	written := make([]fanout.Written, len(p.Events))
	last, fresh, duplicates := t.chain(o), int64(0), int64(p.Duplicates)
	prevs := make([]int64, len(p.Events))
	open := o.segment
	for i := range p.Events {
		var k earlier
		if known != nil {
			k = known[i]
		}
		switch {
		case k.event == 0:
			written[i] = fanout.Written{Event: t.next}
			if !withheld[int64(p.Events[i].Seq)] {
				written[i].Endpoints, _ = parted(p.Events[i].Endpoints, removed)
			}
			if last != 0 {
				prevs[i] = t.next - last
			}
			last = t.next
			t.next++
			fresh++
			if open.add(&p.Events[i]); (o.events+fresh)%t.s.o.segment == 0 {
				if err := t.cut(o, &open, last); err != nil {
					return nil, fmt.Errorf("cut segment: %w", err)
				}
			}
		case k.same:
			written[i].Event = k.event
		case !p.Again:
			duplicates++
		}
	}
	if err := move(last, fresh, duplicates); err != nil {
		return nil, err
	}
	if fresh > 0 {
		t.after = append(t.after, func() {
			open.to = nil // is the plan's
			o.lastEvent, o.segment = last, open
			o.events += fresh
			t.s.keys.add(func(yield func(keyed) bool) {
				for i := range written {
					if known == nil || known[i].event == 0 {
						if !yield(keyed{p.Events[i].ID, written[i].Event}) {
							return
						}
					}
				}
			})
		})
	}
	if err := t.insertEvents(o, p, known, written, prevs); err != nil {
		return nil, fmt.Errorf("insert events: %w", err)
	}
	if err := t.insertDeliveries(o, p, known, removed, withheld, written); err != nil {
		return nil, fmt.Errorf("insert deliveries: %w", err)
	}
	return written, nil
}

// chain is the org's newest event. Two plans of one org are never in one
// transaction, so memory is right.
func (t *txn) chain(o *orgState) int64 { return o.lastEvent }

// move swaps the position, if it and the subscriptions are still those of the
// plan.
func (t *txn) move(o *orgState, p fanout.Plan, last, fresh, duplicates int64) error {
	to := p.To
	least, most := reaches(p)
	n, err := t.c.exec(`UPDATE cursors SET stream=?, created=?, incarnation=?, position=?4, anchor=?5, hash=?6, updated_at=?, last_event=?,
		events=events+?, unmatched=unmatched+?, duplicates=duplicates+?,
		furthest=iif(?12, furthest, ?4), furthest_anchor=iif(?12, furthest_anchor, ?5), furthest_hash=iif(?12, furthest_hash, ?6)
		WHERE org=?13 AND incarnation=? AND position=? AND version=? AND furthest BETWEEN ? AND ?`,
		to.Stream, toNanos(to.Created), int64(to.Incarnation), int64(to.Seq), toNanos(to.Anchor), int64(to.Hash), toMillis(t.now), last,
		fresh, int64(p.Unmatched), duplicates, p.Again,
		o.row, int64(p.From.Incarnation), int64(p.From.Seq), p.Version, least, most)
	if err != nil {
		return fmt.Errorf("move the position: %w", err)
	}
	if n == 0 {
		return t.refused(o, p)
	}
	return nil
}

// moveAnew is move into another incarnation.
func (t *txn) moveAnew(o *orgState, p fanout.Plan, last, fresh, duplicates int64) error {
	far, err := t.place(o)
	if err != nil {
		return err
	}
	if err := t.move(o, p, last, fresh, duplicates); err != nil {
		return err
	}
	if _, err := t.c.exec("UPDATE cursors SET complete_incarnation=?, complete=? WHERE org=?", int64(p.To.Incarnation), int64(p.Began), o.row); err != nil {
		return err
	}
	if err := t.incarnate(o, p, far.seq); err != nil {
		return err
	}
	return t.anew(o, p, far)
}

// reaches is where the furthest place has to be for the plan: what is read again
// may not go over it, and what is new begins there.
func reaches(p fanout.Plan) (least, most int64) {
	switch {
	case p.Change != cursor.Same:
		return 0, math.MaxInt64
	case p.Again:
		return int64(p.To.Seq), math.MaxInt64
	}
	return int64(p.From.Seq), int64(p.From.Seq)
}

// refused says why the position could not be swapped.
func (t *txn) refused(o *orgState, p fanout.Plan) error {
	r := make(row, 4)
	found, err := t.c.one(r, "SELECT incarnation, position, version, furthest FROM cursors WHERE org=?", o.row)
	least, most := reaches(p)
	switch {
	case err != nil:
		return err
	case !found:
		return fanout.ErrNoOrg
	case r.int(0) != int64(p.From.Incarnation) || r.int(1) != int64(p.From.Seq):
		return fmt.Errorf("%w: it is at %d.%d", fanout.ErrMoved, r.int(0), r.int(1))
	case r.int(3) < least || r.int(3) > most:
		return fmt.Errorf("%w: it was at %d before", fanout.ErrMoved, r.int(3))
	default:
		return fmt.Errorf("%w: version %d, the plan is of %d", fanout.ErrStale, r.int(2), p.Version)
	}
}

// insertEvents writes a row for each event that is new.
func (t *txn) insertEvents(o *orgState, p fanout.Plan, known []earlier, written []fanout.Written, prevs []int64) error {
	in := t.inserter(insertManyEvents, insertEvent, eventShared, eventArgs, o.row, int64(p.To.Incarnation))
	now := toMillis(t.now)
	for i := range p.Events {
		if known != nil && known[i].event != 0 {
			continue
		}
		ev := &p.Events[i]
		stored := toMillis(ev.Stored)
		if err := in.add(written[i].Event, int64(ev.Seq), prevs[i], ev.ID[:], ev.Type, stored, now-stored); err != nil {
			return err
		}
	}
	return in.flush()
}

// insertDeliveries writes a row for each pair that is new. For an event that
// is read again these are the pairs that are missing.
func (t *txn) insertDeliveries(o *orgState, p fanout.Plan, known []earlier, removed, withheld map[int64]bool, written []fanout.Written) error {
	in := t.inserter(insertManyDelivery, insertDelivery, deliveryShared, deliveryArgs, o.row)
	made := int64(0)
	var to []int64 // neighbours mostly share the list; they are counted together
	var alike int64
	count := func() {
		for _, endpoint := range to {
			t.tally(endpoint, alike, 0)
		}
	}
	for i := range p.Events {
		there, gone := parted(p.Events[i].Endpoints, removed)
		var unsent []int64
		if withheld[int64(p.Events[i].Seq)] {
			there, unsent = nil, there
		}
		switch {
		case known == nil || known[i].event == 0:
			if list := there; len(list) != len(to) || len(list) == 0 || &list[0] != &to[0] {
				count()
				to, alike = list, 0
			}
			alike++
			for _, endpoint := range there {
				if err := in.add(written[i].Event, endpoint); err != nil {
					return err
				}
			}
			made += int64(len(there))
		case known[i].same:
			if found, err := t.c.one(make(row, 1), "SELECT 1 FROM events WHERE id=?", known[i].event); err != nil || !found {
				return cmp.Or(err, errForgotten)
			}
			before := made
			for _, endpoint := range there {
				n, err := t.c.exec("INSERT OR IGNORE INTO deliveries(event, endpoint, org, state, reason, due, attempts, spent, trigger) VALUES(?,?,?,0,0,0,0,0,0)",
					known[i].event, endpoint, o.row)
				if err != nil {
					return err
				}
				if n > 0 {
					written[i].Endpoints = append(written[i].Endpoints, endpoint)
					t.tally(endpoint, 1, 0)
					made++
				}
			}
			if made > before || len(unsent) > 0 {
				if err := t.gained(o, known[i].event); err != nil {
					return err
				}
			}
		default:
			continue
		}
		if err := t.insertCancelled(o, written[i].Event, deliver.EndpointDeleted, gone); err != nil {
			return err
		}
		if len(unsent) > 0 {
			if err := t.withhold(o, p, p.Events[i].Seq, written[i].Event, unsent); err != nil {
				return err
			}
		}
	}
	count()
	t.rows += made
	return in.flush()
}
