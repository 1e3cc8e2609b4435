package sqlite

import (
	"context"
	"fmt"

	"github.com/grapnel-hooks/grapnel/deliver"
)

// One that left its line without an attempt is due at some time, so that is
// taken away too.
const finishDelivery = "UPDATE deliveries SET state=1, due=0, attempts=1, spent=1 WHERE event=? AND endpoint=? AND state=0 AND attempts=0"

// Joined with the list, not by (event, endpoint) IN (VALUES …): with that, SQLite
// goes through all that is pending instead of looking each key up.
var finishMany = "UPDATE deliveries SET state=1, due=0, attempts=1, spent=1 FROM (SELECT column1 AS e, column2 AS p FROM (VALUES " +
	values("(?,?)", manyRows) + ")) WHERE event=e AND endpoint=p AND +state=0 AND +attempts=0"

// Record implements [deliver.Books].
func (s *Store) Record(ctx context.Context, r deliver.Record) error { return s.w.record(ctx, r) }

// OnBooked implements [deliver.Books]. The records are valid until the function
// returns.
func (s *Store) OnBooked(f func([]deliver.Record)) { s.w.onBooked.Store(&f) }

// book writes records: the state of each delivery, its attempt, and what
// follows for the endpoint.
func (t *txn) book(records []deliver.Record) error {
	if len(records) == 0 {
		return nil
	}
	plain := t.inserter(manySuccesses, oneSuccess, 0, attemptArgs)
	for i := range records {
		r := &records[i]
		t.rows++
		if !t.careful && isPlain(r) {
			t.plain = append(t.plain, r)
			if err := addPlain(plain, r); err != nil {
				return err
			}
			if len(t.plain) == manyRows {
				if err := t.finish(); err != nil {
					return err
				}
			}
			continue
		}
		if err := t.one(r); err != nil {
			return fmt.Errorf("attempt %d of event %d to endpoint %d: %w", r.Attempt.Number, r.Event, r.Endpoint, err)
		}
	}
	if err := t.finish(); err != nil {
		return err
	}
	if err := plain.flush(); err != nil {
		return err
	}
	return t.health(records)
}

// isPlain reports whether r is what most records are: a success at the first
// attempt, with nothing of the response to keep.
func isPlain(r *deliver.Record) bool {
	return r.Next.State == deliver.Delivered && r.Next.Spent == 1 && r.Attempt.Number == 1 &&
		r.Attempt.Trigger == deliver.First && r.Attempt.Class == deliver.OK &&
		r.Next.Reason == deliver.NoReason && r.Next.Disable == "" && r.Line == deliver.Line{} && bare(&r.Attempt)
}

// finish makes the deliveries of t.plain delivered. All of them have to be pending;
// when one was cancelled meanwhile, the transaction is run again with care.
func (t *txn) finish() error {
	n := len(t.plain)
	if n == 0 {
		return nil
	}
	defer func() { t.plain = t.plain[:0] }()
	changed, err := t.finishRows()
	if err != nil {
		return err
	}
	if changed != int64(n) {
		return errCareful
	}
	for _, r := range t.plain {
		t.tally(r.Endpoint, -1, 0)
	}
	return nil
}

// finishRows returns how many of t.plain were pending.
func (t *txn) finishRows() (changed int64, err error) {
	if len(t.plain) == manyRows {
		st, err := t.c.prepare(finishMany)
		if err != nil {
			return 0, err
		}
		for i, r := range t.plain {
			st.set(2*i, r.Event, r.Endpoint)
		}
		return st.exec()
	}
	for _, r := range t.plain {
		one, err := t.c.exec(finishDelivery, r.Event, r.Endpoint)
		if err != nil {
			return 0, err
		}
		changed += one
	}
	return changed, nil
}

// orgOf is the row of the org of an endpoint, removed or not. Store.mu is held.
func (s *Store) orgOf(endpoint int64) int64 {
	if e := s.endpoints[endpoint]; e != nil {
		if o := s.orgs[e.Org]; o != nil {
			return o.row
		}
	}
	return s.removed[endpoint]
}

// one books a single record. With care it does so in a savepoint, and a
// record that the database refuses is dropped and logged: it can never be
// booked, and must not hold up the others.
func (t *txn) one(r *deliver.Record) error {
	if !t.careful {
		return t.bookOne(r)
	}
	if _, err := t.c.exec("SAVEPOINT record"); err != nil {
		return err
	}
	counts, after := t.counts, len(t.after)
	t.counts = make(map[int64]change)
	err := t.bookOne(r)
	if err != nil {
		if faultOf(err) != faultOp {
			return err
		}
		t.s.log.Error("an outcome cannot be booked and is dropped; its delivery is sent again after a restart",
			"event_number", r.Event, "endpoint_number", r.Endpoint, "attempt", r.Attempt.Number, "error", err)
		if _, err := t.c.exec("ROLLBACK TO record"); err != nil {
			return err
		}
		t.counts, t.after = counts, t.after[:after]
	} else {
		for endpoint, c := range t.counts {
			own := counts[endpoint]
			counts[endpoint] = change{own.pending + c.pending, own.dead + c.dead}
		}
		t.counts = counts
	}
	_, err = t.c.exec("RELEASE record")
	return err
}

func (t *txn) bookOne(r *deliver.Record) error {
	if r.Held {
		return t.hold(r)
	}
	n := &r.Next
	due, trigger := int64(0), int64(0)
	if n.State == deliver.Pending {
		due, trigger = max(toMillis(n.Due), 1), int64(deliver.Retry)
	}
	changed, err := t.c.exec("UPDATE deliveries SET state=?, reason=?, due=?, attempts=?4, spent=?, trigger=? WHERE event=? AND endpoint=? AND state=0 AND attempts<?4",
		int64(n.State), int64(n.Reason), due, int64(r.Attempt.Number), int64(n.Spent), trigger, r.Event, r.Endpoint)
	if err != nil {
		return err
	}
	if changed == 0 {
		// Cancelled meanwhile: what came of the attempt is kept, the state stays.
		kept, err := t.c.exec("UPDATE deliveries SET attempts=?1 WHERE event=?2 AND endpoint=?3 AND state<>0 AND attempts<?1", int64(r.Attempt.Number), r.Event, r.Endpoint)
		if err != nil || kept == 0 {
			return err // this attempt is booked already, or the delivery is gone with retention
		}
		if gone, err := t.isExpunged(r.Event); err != nil {
			return err
		} else if gone { // while the request was under way
			r.Payload, r.Attempt.Header, r.Attempt.Body, r.Attempt.Truncated = nil, nil, nil, false
		}
	} else if n.State != deliver.Pending {
		dead := int64(0)
		if n.State == deliver.Dead {
			dead = 1
		}
		t.tally(r.Endpoint, -1, dead)
		if dead > 0 {
			if err := t.announceDead(r); err != nil {
				return err
			}
		}
	}
	if err := t.insertAttempt(r); err != nil {
		return err
	}
	if err := t.settle(r); err != nil {
		return err
	}
	if n.Disable != "" {
		silent, err := t.operational(r)
		if err != nil {
			return err
		}
		if err := t.disableRow(r.Endpoint, n.Disable, silent); err != nil {
			return err
		}
	}
	return t.keep(r.Payload)
}

// maxKept bounds what is remembered of which payloads are stored.
const maxKept = 1 << 16

// keep stores a payload, once for each event.
func (t *txn) keep(p *deliver.Payload) error {
	if p == nil {
		return nil
	}
	if _, ok := t.w.kept[p.Event]; ok {
		return nil
	}
	var trace any
	if p.TraceParent != "" {
		trace = p.TraceParent
	}
	if _, err := t.c.exec("INSERT OR IGNORE INTO payloads(event, org, key, type, traceparent, stored, body) VALUES(?,?,?,?,?,?,?)",
		p.Event, p.Org, p.ID[:], p.Type, trace, toNanos(p.Stored), nonNil(p.Body)); err != nil {
		return err
	}
	event := p.Event
	t.after = append(t.after, func() {
		if len(t.w.kept) >= maxKept {
			clear(t.w.kept)
		}
		t.w.kept[event] = struct{}{}
	})
	return nil
}

func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
