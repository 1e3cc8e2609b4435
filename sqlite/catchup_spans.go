package sqlite

import (
	"errors"
	"fmt"
	"slices"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
)

// begin subscribes a new endpoint from its start on.
func (t *txn) begin(o *orgState, e *deliver.Endpoint, at place, start Start) error {
	if start.After != nil {
		from := place{max(at.incarnation, 1), int64(*start.After)}
		if from.before(at) {
			return t.fallBehind(o, e, from, fanout.Backfill) // also one that is disabled: it keeps the place
		}
		at = from
	}
	if !e.Enabled() {
		return nil
	}
	return t.subscribe(o, e, at)
}

// SetParkAfter changes [Options].ParkAfter, for what is booked from now on.
func (s *Store) SetParkAfter(n int64) { s.parkAfter.Store(n) }

// park makes those endpoints catch up for which the present operation has made
// more rows pending than one may have: from where the org was read to, by this
// very commit. As long as all of the org together has fewer, that is one
// comparison.
func (t *txn) park(o *orgState) error {
	limit := t.s.parkAfter.Load()
	if limit <= 0 || o.pending.Load()+t.rows <= limit {
		return nil
	}
	over := map[int64]int64{} // endpoints that have more, and how many
	t.s.standing.mu.Lock()
	for row, more := range t.counts {
		if n := t.s.standing.of[row].pending + t.earlier[row].pending + more.pending; more.pending > 0 && n > limit {
			over[row] = n
		}
	}
	t.s.standing.mu.Unlock()
	var rows []int64
	t.s.mu.RLock()
	for row, n := range over {
		if e := t.s.endpoints[row]; e == nil || n > fanout.ParksAbove(limit, &e.Options) {
			rows = append(rows, row)
		}
	}
	t.s.mu.RUnlock()
	slices.Sort(rows)
	for _, row := range rows {
		if err := t.parkOne(o, row); err != nil {
			return fmt.Errorf("park endpoint %d: %w", row, err)
		}
	}
	return nil
}

func (t *txn) parkOne(o *orgState, endpoint int64) error {
	r := make(row, 3)
	open, err := t.c.one(r, "SELECT id, incarnation, from_seq FROM subscriptions WHERE org=? AND endpoint=? AND until_seq IS NULL", o.row, endpoint)
	if err != nil || !open {
		return err // disabled, removed, or behind already: its rows were read again
	}
	at, err := t.place(o)
	if err != nil {
		return err
	}
	if at.before(place{r.int(1), r.int(2)}) {
		return nil // its start lies ahead
	}
	if _, err := t.c.exec("UPDATE subscriptions SET until_incarnation=?, until_seq=? WHERE id=?", at.incarnation, at.seq, r.int(0)); err != nil {
		return err
	}
	c := catchup{endpoint: endpoint, org: o.row, reason: fanout.Parked, began: toMillis(t.now), place: at, from: at.seq, span: r.int(0)}
	if err := t.insertCatchup(&c); err != nil {
		return err
	}
	return t.bump(o)
}

// fallBehind makes the endpoint catch up from a place that the org has passed.
// It has no open span.
func (t *txn) fallBehind(o *orgState, e *deliver.Endpoint, at place, reason fanout.CatchupReason) error {
	c := catchup{endpoint: e.Row, org: o.row, reason: reason, began: toMillis(t.now), place: at, from: at.seq}
	var err error
	if c.span, err = t.grow(o, e, at); err != nil {
		return err
	}
	return t.insertCatchup(&c)
}

func (t *txn) insertCatchup(c *catchup) error {
	if _, err := t.c.exec("INSERT INTO catchups(endpoint, org, reason, began_at, incarnation, from_seq, seq, span) VALUES(?,?,?,?,?,?,?,?)",
		c.endpoint, c.org, string(c.reason), c.began, c.incarnation, c.from, c.seq, c.span); err != nil {
		return err
	}
	t.keptCatchup(*c)
	return nil
}

// grow makes a span that ends where it begins, and returns its id.
func (t *txn) grow(o *orgState, e *deliver.Endpoint, at place) (int64, error) {
	if err := t.subscribe(o, e, at); err != nil {
		return 0, err
	}
	r := make(row, 1)
	if found, err := t.c.one(r, "SELECT id FROM subscriptions WHERE org=? AND endpoint=? AND until_seq IS NULL", o.row, e.Row); err != nil || !found {
		return 0, errors.Join(err, fmt.Errorf("endpoint %s has no span: %v", e.ID, found))
	}
	_, err := t.c.exec("UPDATE subscriptions SET until_incarnation=incarnation, until_seq=from_seq WHERE id=?", r.int(0))
	return r.int(0), err
}

// regrow makes another span grow from the place on: with what the endpoint wants
// by now, or since something lies between.
func (t *txn) regrow(o *orgState, e *deliver.Endpoint, c *catchup) error {
	if _, err := t.c.exec("DELETE FROM subscriptions WHERE id=? AND incarnation=until_incarnation AND from_seq=until_seq", c.span); err != nil {
		return err
	}
	var err error
	if c.span, err = t.grow(o, e, c.place); err != nil {
		return err
	}
	return t.keepCatchup(c)
}

// anew moves those of the org that are behind into the incarnation that the plan
// begins: what was not read for them of the one before, which ended at far, is
// lost.
func (t *txn) anew(o *orgState, p fanout.Plan, far place) error {
	rows, err := t.behind(o)
	if err != nil {
		return err
	}
	for _, endpoint := range rows {
		c, ok, err := t.catchup(endpoint)
		if err != nil {
			return err
		}
		e, err := t.endpoint(o, "p.id = ?", endpoint)
		if errors.Is(err, ErrNotFound) || err == nil && !ok {
			continue
		}
		if err != nil {
			return err
		}
		c.first, c.atRisk, c.from = 0, false, int64(p.Began)
		if err := t.lose(o, &e, &c, place{int64(p.To.Incarnation), int64(p.Began)}, far.seq); err != nil {
			return fmt.Errorf("endpoint %s is behind: %w", e.ID, err)
		}
	}
	return nil
}

// behind lists the endpoints of the org that are.
func (t *txn) behind(o *orgState) (rows []int64, err error) {
	err = t.c.query(func(r row) error {
		rows = append(rows, r.int(0))
		return nil
	}, "SELECT endpoint FROM catchups WHERE org=? ORDER BY endpoint", o.row)
	return rows, err
}

// open ends a catch-up whose place is the furthest one: its span has no end any
// more, from the same sequence on.
func (t *txn) open(o *orgState, c *catchup) error {
	if _, err := t.c.exec("UPDATE subscriptions SET until_incarnation=NULL, until_seq=NULL WHERE id=?", c.span); err != nil {
		return err
	}
	if err := t.dropCatchup(c.endpoint); err != nil {
		return err
	}
	t.s.o.Failpoint("catchup.open")
	// Crash here or before: it is still behind. After the commit: it is subscribed.
	return t.bump(o) // plans of before would leave it out
}

// lose records that the stream had nothing any more from the place of c up to
// upTo, in the incarnation of c, and moves the place to another.
func (t *txn) lose(o *orgState, e *deliver.Endpoint, c *catchup, to place, upTo int64) error {
	if from := c.seq + 1; from <= upTo {
		n, err := t.c.exec("UPDATE endpoint_gaps SET to_seq=?, at=? WHERE endpoint=? AND incarnation=? AND to_seq=?",
			upTo, toMillis(t.now), c.endpoint, c.incarnation, c.seq)
		if err == nil && n == 0 {
			_, err = t.c.exec("INSERT INTO endpoint_gaps(endpoint, incarnation, from_seq, to_seq, at) VALUES(?,?,?,?,?)",
				c.endpoint, c.incarnation, from, upTo, toMillis(t.now))
		}
		if err != nil {
			return err
		}
		c.lost += upTo - c.seq
		if err := t.announceGap(o, cursorGap{
			Incarnation: c.incarnation, From: from, To: upTo, Count: upTo - c.seq, Reason: gapParked, EndpointID: e.ID,
		}); err != nil {
			return err
		}
	}
	c.place = to
	return t.regrow(o, e, c)
}

// forgetCatchup drops all that is kept of an endpoint that was behind.
func (t *txn) forgetCatchup(endpoint int64) error {
	if _, err := t.c.exec("DELETE FROM endpoint_gaps WHERE endpoint=?", endpoint); err != nil {
		return err
	}
	return t.dropCatchup(endpoint)
}
