package fanout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/stream"
)

// Those that catch up give way to live traffic: they get rows in small steps, and
// only while few of theirs are pending.
const (
	catchupTick    = 100 * time.Millisecond
	catchupTurn    = 100 * time.Millisecond // at each tick, for one organization
	catchupBatch   = 512                    // messages of one step
	catchupBackoff = 5 * time.Second        // after an error
	catchupWatch   = 30 * time.Second       // between two looks at the stream of one that waits
	catchupLost    = time.Hour              // between two records of what one that waits has lost
	catchupRead    = 3 * time.Second        // that a reading takes, at most: the cursor may stand still meanwhile
)

// errReplaced: the cursor has to notice first that its stream is another one.
var errReplaced = errors.New("the stream is not the one that the cursor has read")

// CatchupOptions is what a CatchupLoop needs. Books, Log, Lanes and Below are
// required.
type CatchupOptions struct {
	Books   CatchupBooks
	Log     cursor.Log
	Names   stream.Names
	MaxData func() int            // bytes of an event's data, as in Options
	Below   func(row int64) int64 // rows are made while fewer of the endpoint are pending
	Lanes   Lanes
	Logger  *slog.Logger
}

// CatchupLoop reads the streams for endpoints that are behind. All that it
// remembers can be had again from the books.
type CatchupLoop struct {
	o CatchupOptions

	// Owned by Run.
	known   map[int64]*follower
	failing bool             // the last round did, and that was told
	served  map[string]int64 // the endpoint of each organization that had the latest turn
}

// follower is what the loop remembers of one endpoint.
type follower struct {
	last    Catchup
	seen    bool      // in the present round
	after   time.Time // nothing is tried before: it failed
	watched time.Time // when its stream was looked at
	lost    time.Time // when it was recorded that the stream has lost something
	failed  string    // how, the last time
}

// NewCatchupLoop makes a CatchupLoop.
func NewCatchupLoop(o CatchupOptions) *CatchupLoop {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &CatchupLoop{o: o, known: map[int64]*follower{}, served: map[string]int64{}}
}

// Run carries the catch-ups on until ctx ends. A step that has begun is
// finished.
func (l *CatchupLoop) Run(ctx context.Context) error {
	tick := time.NewTicker(catchupTick)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		err := l.round(ctx)
		if err != nil && ctx.Err() == nil && !l.failing {
			l.o.Logger.Warn("endpoints that are behind cannot be looked for; it is tried again", "error", err)
		}
		l.failing = err != nil
	}
}

// round gives each organization its turn: however many of its endpoints are behind,
// the others wait no longer.
func (l *CatchupLoop) round(ctx context.Context) error {
	all, err := l.o.Books.Catchups(ctx)
	if err != nil {
		return err
	}
	for _, f := range l.known {
		f.seen = false
	}
	served := make(map[string]int64)
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b Catchup) int {
		return cmp.Or(strings.Compare(a.Org, b.Org), cmp.Compare(a.Endpoint, b.Endpoint))
	})
	for _, c := range all {
		f := l.known[c.Endpoint]
		if f == nil || !f.last.Began.Equal(c.Began) {
			f = &follower{}
			l.known[c.Endpoint] = f
			l.begins(ctx, c)
		}
		f.seen, f.last = true, c
		served[c.Org] = l.served[c.Org]
	}
	l.served = served
	for row, f := range l.known {
		if !f.seen { // disabled for good, removed, or ended by somebody else
			delete(l.known, row)
		}
	}
	for len(all) > 0 && ctx.Err() == nil {
		n := 1
		for n < len(all) && all[n].Org == all[0].Org {
			n++
		}
		l.serve(ctx, all[:n])
		all = all[n:]
	}
	return nil
}

// serve gives the endpoints of one organization, which ascend, their turns, from
// where the last round ended, until its time is up.
func (l *CatchupLoop) serve(ctx context.Context, of []Catchup) {
	org, began := of[0].Org, time.Now()
	first, _ := slices.BinarySearchFunc(of, l.served[org]+1, func(c Catchup, row int64) int { return cmp.Compare(c.Endpoint, row) })
	for i := range of {
		if ctx.Err() != nil || time.Since(began) >= catchupTurn {
			return
		}
		c := of[(first+i)%len(of)]
		l.turn(ctx, c, l.known[c.Endpoint])
		l.served[org] = c.Endpoint
	}
}

// begins tells of an endpoint that is behind, also once after each start.
func (l *CatchupLoop) begins(ctx context.Context, c Catchup) {
	log := l.o.Logger.With("org", c.Org, "endpoint", c.ID, "reason", c.Reason, "place", c.Seq)
	if c.Reason == Parked {
		log.WarnContext(ctx, "an endpoint is parked: too much was pending for it; it catches up from its place in the stream when that is sent")
		return
	}
	log.InfoContext(ctx, "an endpoint is behind and catches up")
}

// turn takes the steps that there is room for, and looks after the stream.
func (l *CatchupLoop) turn(ctx context.Context, c Catchup, f *follower) {
	now := time.Now()
	if now.Before(f.after) {
		return
	}
	err := l.watch(ctx, c, f)
	for err == nil && ctx.Err() == nil && time.Since(now) < catchupTurn {
		room := l.room(c)
		if room <= 0 {
			break
		}
		var got CaughtUp
		got, err = l.step(ctx, c, room, l.Read)
		if err != nil {
			break
		}
		if c = got.Catchup; got.Done {
			l.o.Logger.Info("an endpoint has caught up", "org", c.Org, "endpoint", c.ID, "reason", c.Reason,
				"took", now.Sub(c.Began).Round(time.Second), "sequence", c.Seq)
			delete(l.known, c.Endpoint)
			return
		}
	}
	l.note(ctx, c, f, err)
}

// room is how many rows the endpoint may get now.
func (l *CatchupLoop) room(c Catchup) int {
	if !c.Enabled {
		return 0
	}
	return int(l.o.Below(c.Endpoint) - l.o.Books.PendingOf(c.Endpoint))
}

// step takes one step, unless the organization stands still.
func (l *CatchupLoop) step(ctx context.Context, c Catchup, n int, read CatchupRead) (CaughtUp, error) {
	// As in fan-out, a step that has begun is not given up half-way. Crash before or
	// in it: nothing happened. After it: the deliveries are pending in the books.
	got, err := l.o.Books.CatchUp(context.WithoutCancel(ctx), c, min(n, catchupBatch), read)
	if err != nil {
		if !errors.Is(err, errStands) {
			l.o.Lanes.Recheck(c.Endpoint) // it may have happened all the same
		}
		return got, err
	}
	if lost := got.Lost - c.Lost; lost > 0 {
		l.o.Logger.Error("events were gone from the stream before they were read for an endpoint that is behind",
			"org", c.Org, "endpoint", c.ID, "reason", c.Reason, "place", c.Seq, "count", lost)
	}
	handOver(l.o.Lanes, got.Events, got.Written, time.Time{})
	return got, nil
}

// note decides when the endpoint has its next turn, and logs what is new.
func (l *CatchupLoop) note(ctx context.Context, c Catchup, f *follower, err error) {
	switch {
	case err == nil:
		f.failed = ""
	case ctx.Err() != nil:
	case errors.Is(err, ErrMoved), errors.Is(err, ErrStale), errors.Is(err, errStands):
		// Somebody changes cursor or endpoint: it is tried again with what they left.
	default:
		f.after = time.Now().Add(catchupBackoff)
		if f.failed != err.Error() {
			l.o.Logger.Warn("an endpoint that is behind cannot go on; it is tried again", "org", c.Org, "endpoint", c.ID, "error", err)
		}
		f.failed = err.Error()
	}
}

// watch looks, from time to time, how far the stream still reaches back: also
// for an endpoint that has no room for more.
func (l *CatchupLoop) watch(ctx context.Context, c Catchup, f *follower) error {
	if now := time.Now(); now.Sub(f.watched) < catchupWatch && !f.watched.IsZero() {
		return nil
	} else {
		f.watched = now
	}
	far, err := l.o.Books.Furthest(ctx, c.Org)
	if err != nil {
		return err
	}
	s, err := l.o.Log.State(ctx, far.Stream)
	if err != nil {
		return err
	}
	if !s.Created.Equal(far.Created) || s.Last < far.Seq || far.Incarnation != c.Incarnation {
		return nil // the cursor will notice
	}
	is := c
	if is.First == 0 {
		is.First = s.First
	}
	if is.AtRisk = is.Threatened(s); is.AtRisk && !c.AtRisk {
		l.o.Logger.Warn("the stream is about to lose what was not read yet for an endpoint that is behind",
			"org", c.Org, "endpoint", c.ID, "reason", c.Reason, "place", c.Seq, "first", s.First, "last", s.Last)
	}
	if is.First != c.First || is.AtRisk != c.AtRisk {
		if err := l.o.Books.WatchCatchup(ctx, is); err != nil {
			return err
		}
	}
	if gone := min(s.First-1, far.Seq); gone > c.Seq && f.watched.Sub(f.lost) > catchupLost {
		f.lost = f.watched
		_, err = l.step(ctx, c, 0, func(context.Context, Catchup, cursor.Position) (Stretch, error) {
			return Stretch{Lost: gone, Through: gone}, nil
		})
		if err == nil {
			err = ErrMoved // its place is another one now
		}
	}
	return err
}

// errStands: the organization's stream is not read for now, or for nobody.
var errStands = errors.New("the organization stands still")

// Read is a [CatchupRead] for the Books and the Log of the loop.
func (l *CatchupLoop) Read(ctx context.Context, c Catchup, far cursor.Position) (Stretch, error) {
	ctx, cancel := context.WithTimeout(ctx, catchupRead)
	defer cancel()
	o, err := l.o.Books.Org(ctx, c.Org)
	if err != nil {
		return Stretch{}, err
	}
	if o.Paused || o.Gated {
		return Stretch{}, errStands
	}
	st := Stretch{Through: c.Seq}
	if c.Seq >= far.Seq {
		return st, nil
	}
	b, err := l.next(ctx, c.At(far), far)
	if err != nil {
		return Stretch{}, fmt.Errorf("read %s after %d: %w", far.Stream, c.Seq, err)
	}
	for _, g := range b.Gaps {
		st.Lost = min(g.To, far.Seq)
	}
	st.Through = max(b.To.Seq, st.Lost)
	dec := decodeFunc(stream.Decoding{Org: c.Org, Payload: o.Payload, Names: l.o.Names, Subjects: o.Subjects, MaxData: limit(l.o.MaxData)}.Decode)
	wants := Compile(0, []Subscription{c.Wants})
	var rows []int64
	for _, m := range b.Messages {
		ev, rejected := dec.safely(m)
		if rejected != nil {
			continue
		}
		if rows = wants.Match(&ev, c.Incarnation, rows[:0]); len(rows) > 0 {
			st.Events = append(st.Events, ev)
		}
	}
	return st, nil
}

// next reads a batch at a place that the cursor has passed, up to far. It is as
// wary as the cursor: what is read counts only if far is still in the stream
// afterwards.
func (l *CatchupLoop) next(ctx context.Context, at, far cursor.Position) (cursor.Batch, error) {
	o := cursor.Options{Max: catchupBatch, Furthest: far}
	b, err := cursor.Next(ctx, l.o.Log, at, o)
	if err == nil && b.Empty() {
		o.Verify = true // only the stream's state can say why
		b, err = cursor.Next(ctx, l.o.Log, at, o)
	}
	if err != nil {
		return b, err
	}
	ahead, err := cursor.Next(ctx, l.o.Log, far, cursor.Options{Max: 1, Verify: true})
	switch {
	case err != nil:
		return b, err
	case b.Change != cursor.Same || ahead.Change != cursor.Same:
		return b, errReplaced
	case b.Empty():
		b.To = far // what lay in between was deleted message by message
	}
	return b, nil
}
