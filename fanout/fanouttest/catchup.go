package fanouttest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/fanout/filter"
	"github.com/grapnel-hooks/grapnel/stream"
)

// catchup is an endpoint that is behind. Its place is the end of its span.
type catchup struct {
	fanout.Catchup
	span int // in org.spans
}

// SetParkAfter sets ParkAfter.
func (b *Books) SetParkAfter(n int64) {
	b.disk.mu.Lock()
	defer b.disk.mu.Unlock()
	b.ParkAfter = n
}

// Catchups implements [fanout.CatchupBooks].
func (b *Books) Catchups(context.Context) ([]fanout.Catchup, error) {
	if err := b.begin(CallRead, "endpoints that are behind"); err != nil {
		return nil, err
	}
	defer b.end()
	var all []fanout.Catchup
	for _, name := range slices.Sorted(maps.Keys(b.disk.orgs)) {
		o := b.disk.orgs[name]
		for _, row := range slices.Sorted(maps.Keys(o.behind)) {
			all = append(all, b.shown(o.behind[row]))
		}
	}
	return all, nil
}

func (b *Books) shown(c *catchup) fanout.Catchup {
	e := b.disk.endpoint(c.Endpoint)
	is := c.Catchup
	is.Wants = fanout.Subscription{
		Endpoint: e.Row, Types: e.EventTypes, Workspace: e.Workspace, Filter: filter.Hold(e.Filter), Incarnation: c.Incarnation, From: c.Seq,
	}
	is.Enabled, is.Revision = e.Enabled(), e.Revision
	return is
}

// PendingOf implements [fanout.CatchupBooks].
func (b *Books) PendingOf(row int64) int64 {
	b.disk.mu.Lock()
	defer b.disk.mu.Unlock()
	return b.pendingOf(row)
}

func (b *Books) pendingOf(row int64) (n int64) {
	for _, e := range b.disk.events {
		if d := e.find(row); d != nil && d.state == deliver.Pending {
			n++
		}
	}
	return n
}

// CatchUp implements [fanout.CatchupBooks]. What is read is read without a lock;
// when the cursor has moved meanwhile, it is read again: nobody is starved in
// virtual time.
func (b *Books) CatchUp(ctx context.Context, c fanout.Catchup, n int, read fanout.CatchupRead) (fanout.CaughtUp, error) {
	got := fanout.CaughtUp{Catchup: c}
	far, err := b.Furthest(ctx, c.Org)
	if err != nil {
		return got, err
	}
	st, err := read(ctx, c, far)
	if err != nil {
		return got, err
	}
	o, err := b.org(CallCommit, c.Org)
	if err != nil {
		return got, err
	}
	defer b.end()
	is := o.behind[c.Endpoint]
	if is == nil || is.Incarnation != c.Incarnation || is.Seq != c.Seq || o.far.Incarnation != c.Incarnation || st.Through > o.far.Seq {
		return got, fmt.Errorf("catch up %s: %w", c.ID, fanout.ErrMoved)
	}
	e := b.disk.endpoint(c.Endpoint)
	if e.Revision != c.Revision || e.Enabled() != c.Enabled {
		return got, fmt.Errorf("catch up %s: %w", c.ID, fanout.ErrStale)
	}
	if len(st.Events) > n {
		st.Through, st.Events = st.Events[n].Seq-1, st.Events[:n]
	}
	fault := b.fault(CallCommit)
	if fault == NotApplied && b.Broken.PlaceFirst {
		o.reached(is, st.Through)
	}
	if fault == NotApplied {
		return got, fmt.Errorf("catch up %s: %w", c.ID, ErrInjected)
	}
	got.Events, got.Written = b.catchUp(o, is, e, st)
	switch {
	case b.Broken.OpenEarly && st.Through+1 == o.far.Seq, st.Through == o.far.Seq:
		o.openAgain(is)
		if b.Broken.OpenLate {
			o.end(is.Endpoint)
			o.open(e)
			o.spans[len(o.spans)-1].From++
		}
		got.Done = true
	default:
		got.Catchup = b.shown(is)
	}
	got.Seq = st.Through
	if fault == Unreported {
		return got, fmt.Errorf("catch up %s: %w", c.ID, ErrInjected)
	}
	return got, nil
}

func (b *Books) catchUp(o *org, c *catchup, e *endpoint, st fanout.Stretch) (events []fanout.Planned, written []fanout.Written) {
	if st.Lost > c.Seq {
		o.lose(c, st.Lost)
		c.Seq = st.Lost
		o.grow(c, e)
	}
	for i := range st.Events {
		ev := &st.Events[i]
		if o.recorded(c.Incarnation, ev.Seq) != "" {
			continue
		}
		p := fanout.Planned{Event: *ev, Endpoints: []int64{c.Endpoint}}
		events, written = append(events, p), append(written, b.write(o, c.Incarnation, &p))
	}
	o.reached(c, st.Through)
	return events, written
}

// WatchCatchup implements [fanout.CatchupBooks].
func (b *Books) WatchCatchup(ctx context.Context, c fanout.Catchup) error {
	o, err := b.org(callAdmin, c.Org)
	if err != nil {
		return err
	}
	defer b.end()
	is := o.behind[c.Endpoint]
	if is == nil || is.Seq != c.Seq || is.Incarnation != c.Incarnation {
		return fmt.Errorf("watch %s: %w", c.ID, fanout.ErrMoved)
	}
	is.First, is.AtRisk = c.First, c.AtRisk
	return nil
}

// fallBehind makes an endpoint without an open span catch up from a place.
func (o *org) fallBehind(e *endpoint, after stream.Seq, why fanout.CatchupReason, now time.Time) {
	c := &catchup{Catchup: fanout.Catchup{
		Org: o.ID, Endpoint: e.Row, ID: e.ID, Reason: why, Began: now, Incarnation: o.far.Incarnation, From: after, Seq: after,
	}}
	o.behind[e.Row] = c
	o.grow(c, e)
}

// grow makes another span grow from the place on.
func (o *org) grow(c *catchup, e *endpoint) {
	o.open(e)
	c.span = len(o.spans) - 1
	s := &o.spans[c.span]
	s.Incarnation, s.From = c.Incarnation, c.Seq
	s.Ended, s.UntilIncarnation, s.Until = true, c.Incarnation, c.Seq
}

func (o *org) reached(c *catchup, seq stream.Seq) {
	c.Seq, o.spans[c.span].Until = seq, seq
}

func (o *org) openAgain(c *catchup) {
	s := &o.spans[c.span]
	s.Ended, s.UntilIncarnation, s.Until = false, 0, 0
	delete(o.behind, c.Endpoint)
	o.version++
}

// lose records that the stream has nothing any more from the place up to a sequence.
func (o *org) lose(c *catchup, upTo stream.Seq) {
	for seq := c.Seq + 1; seq <= upTo; seq++ {
		o.lost = append(o.lost, lost{c.Endpoint, place{c.Incarnation, seq}})
		c.Lost++
	}
}

// lost is a sequence that was gone before it was read for an endpoint.
type lost struct {
	endpoint int64
	at       place
}

// anew moves those that are behind into the incarnation that the plan begins.
func (o *org) anew(b *Books, p fanout.Plan) {
	for _, row := range slices.Sorted(maps.Keys(o.behind)) {
		c := o.behind[row]
		o.lose(c, o.far.Seq)
		c.Incarnation, c.Seq, c.From, c.First, c.AtRisk = p.To.Incarnation, p.Began, p.Began, 0, false
		o.grow(c, b.disk.endpoint(row))
	}
}

// park makes endpoints catch up for which too much is pending.
func (b *Books) park(o *org) {
	if b.ParkAfter <= 0 {
		return
	}
	for i := range o.spans {
		s := &o.spans[i]
		if s.Ended || o.far.Incarnation < s.Incarnation || b.pendingOf(s.Endpoint) <= b.ParkAfter {
			continue
		}
		e := b.disk.endpoint(s.Endpoint)
		if b.pendingOf(s.Endpoint) <= fanout.ParksAbove(b.ParkAfter, &e.Options) {
			continue
		}
		s.Ended, s.UntilIncarnation, s.Until = true, o.far.Incarnation, o.far.Seq
		o.behind[e.Row] = &catchup{span: i, Catchup: fanout.Catchup{
			Org: o.ID, Endpoint: e.Row, ID: e.ID, Reason: fanout.Parked, Began: b.now(),
			Incarnation: o.far.Incarnation, From: o.far.Seq, Seq: o.far.Seq,
		}}
		o.version++
	}
}

// away is a time in which an endpoint was disabled.
type away struct {
	endpoint int64
	from, to place
}

// comeBack opens a span for an endpoint that was disabled.
func (o *org) comeBack(e *endpoint) {
	was := away{endpoint: e.Row}
	for _, s := range o.spans {
		if s.Endpoint == e.Row {
			was.from = place{s.UntilIncarnation, s.Until}
		}
	}
	o.open(e)
	was.to = place{o.far.Incarnation, o.far.Seq}
	o.away = append(o.away, was)
}
