package sqlite

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// An endpoint that is behind ([fanout.Catchup]) is a row of catchups, and a span
// of subscriptions that ends at its place and grows with it:
//
//	begins     the open span is ended where the org was read to (parked), or one
//	           is made at the start that was asked for (backfill)
//	step       deliveries + the place + the end of the span       one transaction
//	lost, or   the span stays behind; another grows from the place on
//	changed
//	ends       the end of the span is taken away, and the row     one transaction
//
// So that whoever proves the books finds, as for all others, what was booked for
// it in its spans, and nothing beyond.

// catchupNear is how small the rest is, in sequences, that is read while the
// org's commits wait. Without that, an endpoint might run after a cursor for ever
// that moves while it reads: what is read is old once it is booked. So the last
// piece is read when nothing can move. It is bounded, and so is the wait: a cursor
// makes no more than a few batches while the lock is waited for.
const catchupNear = 1024

// catchup is a row of catchups.
type catchup struct {
	endpoint, org int64
	reason        fanout.CatchupReason
	began         int64
	place         // how far was read for it
	from, span    int64
	first         int64
	atRisk        bool
	lost          int64 // sequences, ever; of endpoint_gaps
}

const catchupColumns = `c.endpoint, c.org, c.reason, c.began_at, c.incarnation, c.seq, c.from_seq, c.span, c.first_seq, c.at_risk,
	(SELECT ifnull(sum(to_seq-from_seq+1), 0) FROM endpoint_gaps g WHERE g.endpoint=c.endpoint)`

func scanCatchup(r row) catchup {
	return catchup{
		endpoint: r.int(0), org: r.int(1), reason: fanout.CatchupReason(r.text(2)), began: r.int(3),
		place: place{r.int(4), r.int(5)}, from: r.int(6), span: r.int(7), first: r.int(8), atRisk: r.int(9) != 0, lost: r.int(10),
	}
}

// loadCatchups brings what is in memory of them up to date. Nobody else is there yet.
func (s *Store) loadCatchups() error {
	s.catchups = make(map[int64]catchup)
	return s.w.c.query(func(r row) error {
		c := scanCatchup(r)
		s.catchups[c.endpoint] = c
		return nil
	}, "SELECT "+catchupColumns+" FROM catchups c")
}

// Catchups implements [fanout.CatchupBooks].
func (s *Store) Catchups(context.Context) ([]fanout.Catchup, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var list []fanout.Catchup
	for row := range s.catchups {
		if c, ok := s.catchupOf(row); ok {
			list = append(list, c)
		}
	}
	return list, nil
}

// CatchupOf is how far an endpoint is behind; ok is false when it is not.
func (s *Store) CatchupOf(row int64) (c fanout.Catchup, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.catchupOf(row)
}

func (s *Store) catchupOf(row int64) (fanout.Catchup, bool) {
	c, ok := s.catchups[row]
	e := s.endpoints[row]
	if !ok || e == nil {
		return fanout.Catchup{}, false
	}
	return fanout.Catchup{
		Org: e.Org, Endpoint: row, ID: e.ID, Reason: c.reason, Began: fromMillis(c.began),
		Incarnation: int(c.incarnation), From: stream.Seq(c.from), Seq: stream.Seq(c.seq), Wants: s.wants(e, c.place),
		Enabled: e.Enabled(), Revision: e.Revision, First: stream.Seq(c.first), AtRisk: c.atRisk, Lost: uint64(c.lost),
	}, true
}

// wants is what the endpoint would be subscribed to from there on.
func (s *Store) wants(e *deliver.Endpoint, at place) fanout.Subscription {
	return fanout.Subscription{
		Endpoint: e.Row, Types: e.EventTypes, Workspace: e.Workspace, Filter: s.filters.Get(e.Filter),
		Incarnation: int(at.incarnation), From: stream.Seq(at.seq),
	}
}

// CatchUp implements [fanout.CatchupBooks].
func (s *Store) CatchUp(ctx context.Context, c fanout.Catchup, n int, read fanout.CatchupRead) (fanout.CaughtUp, error) {
	got := fanout.CaughtUp{Catchup: c}
	o, err := s.find(c.Org)
	if err != nil {
		return got, err
	}
	far, err := s.Furthest(ctx, c.Org)
	if err != nil {
		return got, err
	}
	var st fanout.Stretch
	near := n > 0 && far.Seq <= c.Seq+catchupNear
	if !near {
		if st, err = read(ctx, c, far); err != nil {
			return got, err
		}
	}
	o.commit.Lock() // from here on the furthest place stays, but for a move by hand
	defer o.commit.Unlock()
	if near {
		return s.lastSteps(ctx, o, got, read)
	}
	return s.catchUp(ctx, o, got, st, n)
}

// lastSteps reads all that is left, and opens the subscription.
func (s *Store) lastSteps(ctx context.Context, o *orgState, got fanout.CaughtUp, read fanout.CatchupRead) (fanout.CaughtUp, error) {
	const most = 16 // steps: then the others have their turn
	for range most {
		far, err := s.Furthest(ctx, got.Org)
		if err != nil {
			return got, err
		}
		st, err := read(ctx, got.Catchup, far)
		if err != nil {
			return got, err
		}
		if got, err = s.catchUp(ctx, o, got, st, math.MaxInt); err != nil || got.Done {
			return got, err
		}
	}
	return got, nil
}

// catchUp books one stretch. The org's commits wait.
func (s *Store) catchUp(ctx context.Context, o *orgState, got fanout.CaughtUp, st fanout.Stretch, n int) (fanout.CaughtUp, error) {
	if len(st.Events) > n {
		st.Through = st.Events[n].Seq - 1
		st.Events = st.Events[:n]
	}
	for {
		p, known, err := s.unhad(o, &got.Catchup, st.Events)
		if err != nil {
			return got, err
		}
		made, done := 0, false
		err = s.w.submit(ctx, &op{plan: true, done: make(chan struct{}), caller: Caller{Actor: itself}, run: func(t *txn) (err error) {
			made, done, err = t.catchUp(o, &got.Catchup, st, p, known)
			return err
		}})
		switch {
		case errors.Is(err, errForgotten):
			continue
		case err != nil:
			return got, fmt.Errorf("catch up endpoint %s after %d: %w", got.ID, got.Seq, err)
		}
		got.Made += made
		if got.Done = done; done {
			got.Seq = max(got.Seq, st.Through)
			return got, nil
		}
		if is, ok := s.CatchupOf(got.Endpoint); ok {
			got.Catchup = is
		}
		return got, nil
	}
}

// unhad plans those of the events that the endpoint never had and that are not
// duplicates.
func (s *Store) unhad(o *orgState, c *fanout.Catchup, events []stream.Event) (fanout.Plan, []earlier, error) {
	p := fanout.Plan{Org: c.Org, To: cursor.Position{Incarnation: c.Incarnation}, Events: make([]fanout.Planned, len(events))}
	to := []int64{c.Endpoint}
	for i := range events {
		p.Events[i] = fanout.Planned{Event: events[i], Endpoints: to}
	}
	known, err := s.known(o, p)
	if err != nil || known == nil {
		return p, nil, err
	}
	all := p.Events
	p.Events = nil
	var left []earlier
	for i, k := range known {
		if k.event != 0 {
			had, err := s.column("SELECT 1 FROM deliveries WHERE event=? AND endpoint=? AND org=?", k.event, c.Endpoint, o.row)
			if err != nil {
				return p, nil, err
			}
			if !k.same || len(had) > 0 {
				continue
			}
		}
		p.Events, left = append(p.Events, all[i]), append(left, k)
	}
	return p, left, nil
}

// catchUp takes a step, see [fanout.CatchupBooks].
func (t *txn) catchUp(o *orgState, c *fanout.Catchup, st fanout.Stretch, p fanout.Plan, known []earlier) (made int, done bool, err error) {
	t.s.o.Failpoint("catchup.step")
	is, e, err := t.unmoved(o, c)
	if err != nil {
		return 0, false, err
	}
	at, err := t.place(o)
	switch through := (place{is.incarnation, int64(st.Through)}); {
	case err != nil:
		return 0, false, err
	case at.incarnation != is.incarnation || at.before(through) || through.before(is.place):
		return 0, false, fmt.Errorf("%w: it was read up to %d.%d", fanout.ErrMoved, at.incarnation, at.seq)
	}
	if int64(st.Lost) > is.seq {
		if err := t.lose(o, &e, &is, place{is.incarnation, int64(st.Lost)}, int64(st.Lost)); err != nil {
			return 0, false, fmt.Errorf("record what is lost: %w", err)
		}
	}
	if p, known, err = t.unexcepted(o, p, known); err != nil {
		return 0, false, err
	}
	if len(p.Events) > 0 {
		_, err := t.enter(o, p, known, nil, func(last, fresh, _ int64) error {
			_, err := t.c.exec("UPDATE cursors SET last_event=?, events=events+? WHERE org=?", last, fresh, o.row)
			return err
		})
		if err != nil {
			return 0, false, err
		}
	}
	is.seq = int64(st.Through)
	if is.place == at {
		return len(p.Events), true, t.open(o, &is)
	}
	if _, err := t.c.exec("UPDATE subscriptions SET until_seq=? WHERE id=?", is.seq, is.span); err != nil {
		return 0, false, err
	}
	return len(p.Events), false, t.keepCatchup(&is)
}

// unmoved reads the catch-up and its endpoint, which have to be as c says.
func (t *txn) unmoved(o *orgState, c *fanout.Catchup) (catchup, deliver.Endpoint, error) {
	is, ok, err := t.catchup(c.Endpoint)
	switch {
	case err != nil:
		return is, deliver.Endpoint{}, err
	case !ok || is.org != o.row || is.place != place{int64(c.Incarnation), int64(c.Seq)}:
		return is, deliver.Endpoint{}, fmt.Errorf("%w: the endpoint is elsewhere", fanout.ErrMoved)
	}
	e, err := t.endpoint(o, "p.id = ?", c.Endpoint)
	if err == nil && e.Revision != c.Revision {
		err = fmt.Errorf("%w: the endpoint is at revision %d, not %d", fanout.ErrStale, e.Revision, c.Revision)
	}
	return is, e, err
}

// unexcepted takes out of the plan what has a reason not to be made: a record as
// gated, rejected or skipped. What retention may have removed of others is made
// all the same: this endpoint never had it.
func (t *txn) unexcepted(o *orgState, p fanout.Plan, known []earlier) (fanout.Plan, []earlier, error) {
	if len(p.Events) == 0 {
		return p, known, nil
	}
	incarnation := int64(p.To.Incarnation)
	in := span{int64(p.Events[0].Seq), int64(p.Events[len(p.Events)-1].Seq)}
	skipped, err := t.skipped(o, incarnation, in)
	if err != nil {
		return p, known, err
	}
	gated, err := t.spans("gated", o, incarnation, in)
	if err != nil {
		return p, known, err
	}
	rejected, err := t.rejectedIn(o, incarnation, in)
	if err != nil || len(skipped)+len(gated)+len(rejected) == 0 {
		return p, known, err
	}
	var events []fanout.Planned
	var left []earlier
	for i, ev := range p.Events {
		if seq := int64(ev.Seq); within(skipped, seq) || within(gated, seq) || rejected[seq] {
			continue
		}
		events = append(events, ev)
		if known != nil {
			left = append(left, known[i])
		}
	}
	p.Events = events
	return p, left, nil
}

// catchup reads that of an endpoint.
func (t *txn) catchup(endpoint int64) (catchup, bool, error) {
	r := make(row, 11)
	found, err := t.c.one(r, "SELECT "+catchupColumns+" FROM catchups c WHERE c.endpoint=?", endpoint)
	if err != nil || !found {
		return catchup{}, false, err
	}
	return scanCatchup(r), true, nil
}

// keepCatchup writes what can change of it.
func (t *txn) keepCatchup(c *catchup) error {
	if _, err := t.c.exec("UPDATE catchups SET incarnation=?, seq=?, from_seq=?, span=?, first_seq=?, at_risk=? WHERE endpoint=?",
		c.incarnation, c.seq, c.from, c.span, c.first, c.atRisk, c.endpoint); err != nil {
		return err
	}
	t.keptCatchup(*c)
	return nil
}

// keptCatchup puts it into memory once it is durable.
func (t *txn) keptCatchup(c catchup) {
	t.after = append(t.after, func() {
		t.s.mu.Lock()
		defer t.s.mu.Unlock()
		t.s.catchups[c.endpoint] = c
	})
}

// dropCatchup ends it, without a word about the subscription.
func (t *txn) dropCatchup(endpoint int64) error {
	if _, err := t.c.exec("DELETE FROM catchups WHERE endpoint=?", endpoint); err != nil {
		return err
	}
	t.after = append(t.after, func() {
		t.s.mu.Lock()
		defer t.s.mu.Unlock()
		delete(t.s.catchups, endpoint)
	})
	return nil
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
	}
	c.place = to
	return t.regrow(o, e, c)
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

// park makes those endpoints catch up for which the present operation has made
// more rows pending than one may have: from where the org was read to, by this
// very commit. As long as all of the org together has fewer, that is one
// comparison.
func (t *txn) park(o *orgState) error {
	limit := t.s.o.ParkAfter
	if limit <= 0 || o.pending.Load()+t.rows <= limit {
		return nil
	}
	var rows []int64
	t.s.standing.mu.Lock()
	for row, more := range t.counts {
		if more.pending > 0 && t.s.standing.of[row].pending+t.earlier[row].pending+more.pending > limit {
			rows = append(rows, row)
		}
	}
	t.s.standing.mu.Unlock()
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

// WatchCatchup implements [fanout.CatchupBooks].
func (s *Store) WatchCatchup(ctx context.Context, c fanout.Catchup) error {
	o, err := s.find(c.Org)
	if err != nil {
		return err
	}
	err = s.w.do(ctx, func(t *txn) error {
		is, _, err := t.unmoved(o, &c)
		if err != nil {
			return err
		}
		is.first, is.atRisk = int64(c.First), c.AtRisk
		return t.keepCatchup(&is)
	})
	if err != nil {
		return fmt.Errorf("watch endpoint %s: %w", c.ID, err)
	}
	return nil
}

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
