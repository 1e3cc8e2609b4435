package sqlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

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

// CatchingUp reports whether the endpoint of that row is behind.
func (s *Store) CatchingUp(row int64) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, behind := s.catchups[row]
	return behind
}

// CatchupStats counts the endpoints that are behind.
type CatchupStats struct {
	All    int
	Parked int // of All
	AtRisk int // of All
}

// CatchupStats reads them from memory.
func (s *Store) CatchupStats() CatchupStats {
	s.mu.RLock()
	defer s.mu.RUnlock()
	st := CatchupStats{All: len(s.catchups)}
	for _, c := range s.catchups {
		if c.reason == fanout.Parked {
			st.Parked++
		}
		if c.atRisk {
			st.AtRisk++
		}
	}
	return st
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
	near := n > 0 && far.Seq <= c.Seq+s.near()
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

// near is catchupNear, or less when that many rows would park the endpoint again.
func (s *Store) near() stream.Seq {
	if after := s.parkAfter.Load(); after > 0 {
		return stream.Seq(min(catchupNear, max(after/2, 1)))
	}
	return catchupNear
}

// lastSteps reads all that is left, and opens the subscription.
func (s *Store) lastSteps(ctx context.Context, o *orgState, got fanout.CaughtUp, read fanout.CatchupRead) (fanout.CaughtUp, error) {
	const most = 3 * time.Second // then the others have their turn
	for began := time.Now(); time.Since(began) < most; {
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
		var made fanout.CaughtUp
		err = s.w.submit(ctx, &op{plan: true, done: make(chan struct{}), caller: Caller{Actor: itself}, run: func(t *txn) (err error) {
			made, err = t.catchUp(o, &got.Catchup, st, p, known)
			return err
		}})
		switch {
		case errors.Is(err, errForgotten):
			continue
		case err != nil:
			return got, fmt.Errorf("catch up endpoint %s after %d: %w", got.ID, got.Seq, err)
		}
		got.Events, got.Written = append(got.Events, made.Events...), append(got.Written, made.Written...)
		if got.Done = made.Done; got.Done {
			got.Seq = max(got.Seq, st.Through)
		} else if is, ok := s.CatchupOf(got.Endpoint); ok {
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
func (t *txn) catchUp(o *orgState, c *fanout.Catchup, st fanout.Stretch, p fanout.Plan, known []earlier) (made fanout.CaughtUp, err error) {
	t.s.o.Failpoint("catchup.step")
	is, e, err := t.unmoved(o, c)
	if err != nil {
		return made, err
	}
	at, err := t.place(o)
	switch through := (place{is.incarnation, int64(st.Through)}); {
	case err != nil:
		return made, err
	case at.incarnation != is.incarnation || at.before(through) || through.before(is.place):
		return made, fmt.Errorf("%w: it was read up to %d.%d", fanout.ErrMoved, at.incarnation, at.seq)
	}
	if int64(st.Lost) > is.seq {
		if err := t.lose(o, &e, &is, place{is.incarnation, int64(st.Lost)}, int64(st.Lost)); err != nil {
			return made, fmt.Errorf("record what is lost: %w", err)
		}
	}
	if p, known, err = t.unexcepted(o, p, known); err != nil {
		return made, err
	}
	if len(p.Events) > 0 {
		made.Written, err = t.enter(o, p, known, nil, func(last, fresh, _ int64) error {
			_, err := t.c.exec("UPDATE cursors SET last_event=?, events=events+? WHERE org=?", last, fresh, o.row)
			return err
		})
		if err != nil {
			return made, err
		}
	}
	made.Events = p.Events
	is.seq = int64(st.Through)
	if is.place == at {
		made.Done = true
		return made, t.open(o, &is)
	}
	if _, err := t.c.exec("UPDATE subscriptions SET until_seq=? WHERE id=?", is.seq, is.span); err != nil {
		return made, err
	}
	return made, t.keepCatchup(&is)
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
// gated, rejected or skipped, and then all but the first of one ID. (Not the other
// way: an ID whose first message was skipped belongs to the second.) What retention may
// have removed of others is made all the same: this endpoint never had it.
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
	if err != nil {
		return p, known, err
	}
	events := make([]fanout.Planned, 0, len(p.Events))
	var left []earlier
	seen := make(map[stream.ID]bool, len(p.Events))
	for i, ev := range p.Events {
		if seq := int64(ev.Seq); within(skipped, seq) || within(gated, seq) || rejected[seq] || seen[ev.ID] {
			continue
		}
		seen[ev.ID] = true
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

// EndpointGaps lists what streams lost before it was read for the endpoint, the
// latest first, up to limit. It wraps [ErrNotFound].
func (s *Store) EndpointGaps(ctx context.Context, org, endpoint string, limit int) ([]Gap, error) {
	e, err := s.GetEndpoint(ctx, org, endpoint)
	if err != nil {
		return nil, err
	}
	var list []Gap
	err = s.read(func(scan func(...any) error) error {
		var g Gap
		var at int64
		err := scan(&g.Incarnation, &g.From, &g.To, &at)
		g.At = fromMillis(at)
		list = append(list, g)
		return err
	}, "SELECT incarnation, from_seq, to_seq, at FROM endpoint_gaps WHERE endpoint=? ORDER BY incarnation DESC, from_seq DESC LIMIT ?", e.Row, limit)
	if err != nil {
		return nil, fmt.Errorf("gaps of endpoint %s: %w", endpoint, err)
	}
	return list, nil
}

// behind says of the endpoints, which ascend, how far they are behind, and whether
// the stream lost what is asked about before it was read for them.
func (a *Audit) behind(q *fanout.Question, list []fanout.Receiver) error {
	find := func(row int64) *fanout.Receiver {
		i, ok := slices.BinarySearchFunc(list, row, func(r fanout.Receiver, row int64) int { return cmp.Compare(r.Row, row) })
		if !ok {
			return &fanout.Receiver{}
		}
		return &list[i]
	}
	err := each(a.c, func(scan func(...any) error) error {
		var row int64
		var at place
		err := scan(&row, &at.incarnation, &at.seq)
		r := find(row)
		r.Behind, r.Incarnation, r.Seq = true, int(at.incarnation), stream.Seq(at.seq)
		return err
	}, "SELECT endpoint, incarnation, seq FROM catchups WHERE org=?", a.o.row)
	if err != nil {
		return err
	}
	return each(a.c, func(scan func(...any) error) error {
		var row int64
		err := scan(&row)
		find(row).Lost = true
		return err
	}, `SELECT g.endpoint FROM endpoint_gaps g JOIN endpoints p ON p.id=g.endpoint
		WHERE p.org=? AND g.incarnation=? AND g.from_seq<=? AND g.to_seq>=?`, a.o.row, q.Incarnation, q.Seq, q.Seq)
}
