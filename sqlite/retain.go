package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"math"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
)

// RetainOptions says what may go. A zero time keeps everything of its kind.
type RetainOptions struct {
	FinishedBefore time.Time // delivered and cancelled deliveries whose last attempt was before this
	DeadBefore     time.Time // dead ones, and rejected messages
	// MaxBytes is how much of the database may be in use (see [Store.UsedBytes]). Beyond,
	// finished deliveries go before FinishedBefore, the oldest first, unless they are
	// younger than LeastKept. Dead ones do not. 0: any number.
	MaxBytes  int64
	LeastKept time.Duration
	Step      int // rows removed by one transaction, about; 0: 1,000
}

// Removed counts what retention removed.
type Removed struct {
	Deliveries, Attempts, Payloads, Events, Rejected int64
	KeyRuns                                          int64 // blocks of 65,536 event IDs
	// TooLarge: what is left is more than MaxBytes.
	TooLarge bool
}

// revisitSteps bounds how many steps of one Retain look again at what had to
// stay at an earlier one.
const revisitSteps = 20

// retention is one call of Retain.
type retention struct {
	s              *Store
	step           int
	finished, dead int64 // ms
	maxBytes       int64
	youngest       int64 // ms; however large the database is, nothing younger goes
	removed        Removed
}

// Retain removes what is old enough, from the oldest event on, in small
// transactions beside the traffic. Pending deliveries never go. An event goes with its last
// delivery; the payload that is kept for it already when nothing is pending or
// dead.
//
// It walks on from where it stopped the last time, so what had to stay behind
// (pending, or not yet old enough) costs nothing. That is looked at again round by round, a
// bounded number of rows in each call: call it every few minutes.
func (s *Store) Retain(ctx context.Context, o RetainOptions) (Removed, error) {
	r := &retention{s: s, step: o.Step, finished: toMillis(o.FinishedBefore), dead: toMillis(o.DeadBefore)}
	r.maxBytes, r.youngest = o.MaxBytes, toMillis(s.now().Add(-o.LeastKept))
	if r.step <= 0 {
		r.step = 1000
	}
	err := r.run(ctx)
	if err != nil {
		err = fmt.Errorf("retention: %w", err)
	}
	return r.removed, err
}

func (r *retention) run(ctx context.Context) error {
	for more := true; more; {
		var err error
		if more, err = r.do(ctx, (*txn).retainFront); err != nil {
			return err
		}
	}
	for range revisitSteps {
		more, err := r.do(ctx, (*txn).retainBehind)
		if err != nil {
			return err
		}
		if !more {
			break
		}
	}
	for more := true; more; {
		var err error
		if more, err = r.do(ctx, (*txn).retainRejected); err != nil {
			return err
		}
	}
	for more := true; more; {
		var err error
		if more, err = r.do(ctx, (*txn).retainOthers); err != nil {
			return err
		}
	}
	if err := r.dropRuns(ctx); err != nil {
		return err
	}
	return r.shrink(ctx)
}

const (
	shrinkSlack = 32  // what is too large becomes smaller by so much of it more
	shrinkSteps = 500 // steps of one Retain that look again at what had to stay
)

// shrink removes finished deliveries until the database is small enough, or none
// is left that is old enough.
func (r *retention) shrink(ctx context.Context) error {
	if r.maxBytes <= 0 {
		return nil
	}
	used, err := r.s.UsedBytes()
	if err != nil || used <= r.maxBytes {
		return err
	}
	r.finished = max(r.finished, r.youngest)
	for _, part := range []struct {
		step  func(*txn, *retention) (Removed, bool, error)
		times int
	}{{(*txn).retainFront, math.MaxInt}, {(*txn).retainBehind, shrinkSteps}} {
		for more, n := true, 0; more && n < part.times; n++ {
			if more, err = r.do(ctx, part.step); err != nil {
				return err
			}
			if used, err = r.s.UsedBytes(); err != nil {
				return err
			}
			if used <= r.maxBytes-r.maxBytes/shrinkSlack {
				return r.dropRuns(ctx)
			}
		}
	}
	r.removed.TooLarge = used > r.maxBytes
	return r.dropRuns(ctx)
}

// retainOthers removes old answers, audit entries, secrets that have ended, settings of earlier requests and replays that
// were finished, which are not counted.
func (t *txn) retainOthers(r *retention) (Removed, bool, error) {
	n, err := t.retainAnswers(r.step)
	if err == nil {
		_, err = t.dropSecrets(r.step)
	}
	if err == nil {
		_, err = t.retainReplays(r.step)
	}
	if err == nil {
		_, err = t.retainRequestSettings(r)
	}
	return Removed{}, n >= int64(r.step), err
}

// do runs one step in the writer, and counts it when it is durable.
func (r *retention) do(ctx context.Context, f func(*txn, *retention) (Removed, bool, error)) (more bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	var n Removed
	err = r.s.w.do(ctx, func(t *txn) error {
		r.s.o.Failpoint("retention.step")
		var err error
		n, more, err = f(t, r)
		return err
	})
	if err != nil {
		return false, err
	}
	r.removed.Deliveries += n.Deliveries
	r.removed.Attempts += n.Attempts
	r.removed.Payloads += n.Payloads
	r.removed.Events += n.Events
	r.removed.Rejected += n.Rejected
	r.removed.KeyRuns += n.KeyRuns
	return more, nil
}

// pair is the key of a delivery as a place to walk by.
type pair struct{ event, endpoint int64 }

// looked is what one step saw.
type looked struct {
	spans  [][2]pair        // consecutive deliveries that go
	first  int64            // events
	last   pair             // the last one seen
	rows   int              // seen
	recent bool             // came to events that are too young
	upTo   map[int64]place  // by org: the latest place at which something goes
	counts map[int64]change // by endpoint
}

// retainFront walks on into events that were never looked at.
func (t *txn) retainFront(r *retention) (Removed, bool, error) {
	m := make(row, 2)
	if _, err := t.c.one(m, "SELECT event, endpoint FROM retention WHERE id=1"); err != nil {
		return Removed{}, false, err
	}
	seen, err := t.look(r, pair{m.int(0), m.int(1)}, pair{1<<63 - 1, 1<<63 - 1}, max(r.finished, r.dead))
	if err != nil || seen.rows == 0 {
		return Removed{}, false, err
	}
	removed, err := t.remove(seen)
	if err != nil {
		return Removed{}, false, err
	}
	for org := range seen.upTo {
		if _, err := t.c.exec("DELETE FROM segments WHERE org=? AND event<=?", org, seen.last.event); err != nil {
			return Removed{}, false, err
		}
	}
	_, err = t.c.exec("UPDATE retention SET event=?, endpoint=?, high=max(high, ?1) WHERE id=1", seen.last.event, seen.last.endpoint)
	return removed, seen.rows == r.step && !seen.recent, err
}

// retainBehind looks again at what earlier walks left, and begins anew when it has
// been through.
func (t *txn) retainBehind(r *retention) (Removed, bool, error) {
	m := make(row, 4)
	if _, err := t.c.one(m, "SELECT revisit_event, revisit_endpoint, event, endpoint FROM retention WHERE id=1"); err != nil {
		return Removed{}, false, err
	}
	from, to := pair{m.int(0), m.int(1)}, pair{m.int(2), m.int(3)}
	seen, err := t.look(r, from, to, 1<<63-1)
	if err != nil {
		return Removed{}, false, err
	}
	removed, err := t.remove(seen)
	if err != nil {
		return Removed{}, false, err
	}
	more := seen.rows == r.step
	next := seen.last
	if !more {
		next = pair{}
	}
	if next != from {
		_, err = t.c.exec("UPDATE retention SET revisit_event=?, revisit_endpoint=? WHERE id=1", next.event, next.endpoint)
	}
	return removed, more, err
}

// look reads up to a step of deliveries after from, up to to, of events that
// were fanned out before a time, and decides which go. The time that counts is when the last attempt
// began, or without one when the event was fanned out.
func (t *txn) look(r *retention, from, to pair, before int64) (looked, error) {
	seen := looked{upTo: make(map[int64]place), counts: make(map[int64]change)}
	open := false // the last span goes on
	err := t.c.query(func(v row) error {
		if seen.recent {
			return nil
		}
		at, org, state, fanned := pair{v.int(0), v.int(1)}, v.int(2), deliver.State(v.int(3)), v.int(6)
		if fanned >= before {
			seen.recent = true
			return nil
		}
		if seen.rows++; seen.rows == 1 {
			seen.first = at.event
		}
		seen.last = at
		cut := r.finished
		if state == deliver.Dead {
			cut = r.dead
		}
		if state == deliver.Pending || max(fanned, v.int(7)) >= cut {
			open = false
			return nil
		}
		if !open {
			seen.spans = append(seen.spans, [2]pair{at, at})
			open = true
		}
		seen.spans[len(seen.spans)-1][1] = at
		if p := (place{v.int(4), v.int(5)}); seen.upTo[org].before(p) {
			seen.upTo[org] = p
		}
		if state == deliver.Dead {
			c := seen.counts[at.endpoint]
			c.dead--
			seen.counts[at.endpoint] = c
		}
		return nil
	}, `SELECT d.event, d.endpoint, d.org, d.state, e.incarnation, e.seq, e.stored+e.fanned,
			ifnull((SELECT max(a.started) FROM attempts a WHERE a.event=d.event AND a.endpoint=d.endpoint), 0)
		FROM deliveries d CROSS JOIN events e ON e.id=d.event
		WHERE (d.event, d.endpoint) > (?, ?) AND (d.event, d.endpoint) <= (?, ?) ORDER BY d.event, d.endpoint LIMIT ?`,
		from.event, from.endpoint, to.event, to.endpoint, int64(r.step))
	return seen, err
}

func (p place) before(q place) bool {
	return p.incarnation < q.incarnation || p.incarnation == q.incarnation && p.seq < q.seq
}

// remove deletes the deliveries that go and what hung on them.
func (t *txn) remove(seen looked) (n Removed, err error) {
	if seen.rows == 0 {
		return n, nil
	}
	del := func(count *int64, query string, args ...driver.Value) {
		if err == nil {
			var rows int64
			rows, err = t.c.exec(query, args...)
			*count += rows
		}
	}
	const within = " WHERE (event, endpoint) >= (?, ?) AND (event, endpoint) <= (?, ?)"
	for _, s := range seen.spans {
		del(&n.Attempts, "DELETE FROM attempts"+within, s[0].event, s[0].endpoint, s[1].event, s[1].endpoint)
		del(&n.Deliveries, "DELETE FROM deliveries"+within, s[0].event, s[0].endpoint, s[1].event, s[1].endpoint)
	}
	del(&n.Payloads, "DELETE FROM payloads WHERE event BETWEEN ? AND ? AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.event=payloads.event AND d.state IN (0, 2))",
		seen.first, seen.last.event)
	del(&n.Events, "DELETE FROM events WHERE id BETWEEN ? AND ? AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.event=events.id)",
		seen.first, seen.last.event)
	if err != nil {
		return n, err
	}
	for org, at := range seen.upTo {
		if err := t.incomplete(org, at); err != nil {
			return n, err
		}
	}
	for endpoint, c := range seen.counts {
		t.tally(endpoint, c.pending, c.dead)
	}
	if n.Payloads > 0 {
		t.after = append(t.after, func() { clear(t.w.kept) })
	}
	return n, nil
}

// incomplete notes that rows up to that place of the org's stream may be gone.
func (t *txn) incomplete(org int64, at place) error {
	_, err := t.c.exec(`UPDATE cursors SET complete = CASE WHEN complete_incarnation=?2 THEN max(complete, ?3) ELSE ?3 END, complete_incarnation=?2
		WHERE org=?1 AND incarnation=?2`, org, at.incarnation, at.seq)
	return err
}

// retainRejected removes the oldest rejected messages. Their rows ascend in the order of time.
func (t *txn) retainRejected(r *retention) (Removed, bool, error) {
	m := make(row, 2)
	if _, err := t.c.one(m, "SELECT ifnull(max(id), 0), count(*) FROM (SELECT id, at FROM rejected ORDER BY id LIMIT ?) WHERE at < ?", int64(r.step), r.dead); err != nil {
		return Removed{}, false, err
	}
	last, rows := m.int(0), m.int(1)
	if rows == 0 {
		return Removed{}, false, nil
	}
	upTo := make(map[int64]place)
	err := t.c.query(func(v row) error {
		if p := (place{v.int(1), v.int(2)}); upTo[v.int(0)].before(p) {
			upTo[v.int(0)] = p
		}
		return nil
	}, "SELECT org, incarnation, seq FROM rejected WHERE id <= ?", last)
	if err != nil {
		return Removed{}, false, err
	}
	for org, at := range upTo {
		if err := t.incomplete(org, at); err != nil {
			return Removed{}, false, err
		}
	}
	n, err := t.c.exec("DELETE FROM rejected WHERE id <= ?", last)
	return Removed{Rejected: n}, rows == int64(r.step), err
}

// dropRuns drops the runs of keys of whose events none is left.
func (r *retention) dropRuns(ctx context.Context) error {
	for _, u := range r.s.keys.sealedRuns() {
		left, err := r.s.column("SELECT id FROM events WHERE id BETWEEN ? AND ? LIMIT 1", u.first, u.last)
		if err != nil {
			return err
		}
		if len(left) > 0 {
			continue
		}
		_, err = r.do(ctx, func(t *txn, r *retention) (Removed, bool, error) {
			if _, err := t.c.exec("UPDATE retention SET high=max(high, ?) WHERE id=1", u.last); err != nil {
				return Removed{}, false, err
			}
			if _, err := t.c.exec("DELETE FROM key_chunks WHERE id >= ? AND id < ?", u.id*chunksPerRun, (u.id+1)*chunksPerRun); err != nil {
				return Removed{}, false, err
			}
			n, err := t.c.exec("DELETE FROM key_runs WHERE run=?", u.id)
			t.after = append(t.after, func() { r.s.keys.dropped(u.id) })
			return Removed{KeyRuns: n}, false, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
