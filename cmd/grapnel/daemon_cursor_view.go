package main

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/sqlite"
	"github.com/grapnel-hooks/grapnel/stream"
)

const (
	// backloggedShown is how many endpoints are shown with a cursor, movesShown
	// how many moves.
	backloggedShown = 20
	movesShown      = 10
	// incarnationsShown is how many streams that were found in place of another.
	incarnationsShown = 10

	// A list takes what a stream said when fan-out last checked its identity,
	// which it does to each twice a minute; what is older is asked for again. Of
	// streams that fan-out does not read, the answer is kept for a moment only.
	stateKept     = 90 * time.Second
	idleStateKept = 2 * time.Second
	askedAtOnce   = 16 // streams
)

// Cursor shows one org's cursor beside what its stream says of itself now.
func (d *daemon) Cursor(ctx context.Context, org string) (httpapi.Cursor, error) {
	c, err := d.store.Cursor(ctx, org)
	if err != nil {
		return httpapi.Cursor{}, answered(err)
	}
	shown := d.viewCursor(ctx, c, 0)
	most, err := d.store.Backlogged(ctx, org, backloggedShown)
	if err != nil {
		return shown, answered(err)
	}
	for _, e := range most {
		shown.Endpoints = append(shown.Endpoints, httpapi.Backlogged(e))
	}
	moves, err := d.store.CursorMoves(ctx, org, movesShown)
	if err != nil {
		return shown, answered(err)
	}
	for _, m := range moves {
		shown.Moves = append(shown.Moves, httpapi.CursorMoved(m))
	}
	incarnations, err := d.store.Incarnations(ctx, org)
	for _, i := range incarnations[:min(len(incarnations), incarnationsShown)] {
		shown.Incarnations = append(shown.Incarnations, httpapi.Incarnation(i))
	}
	return shown, answered(err)
}

// Cursors shows those of up to limit orgs after the given one. It asks the
// broker only about streams of which little or old news is at hand.
func (d *daemon) Cursors(ctx context.Context, after string, limit int) ([]httpapi.Cursor, error) {
	all, err := d.store.CursorsAfter(ctx, after, limit)
	if err != nil {
		return nil, answered(err)
	}
	_, held := d.store.Held()
	page := make([]httpapi.Cursor, len(all))
	var wg sync.WaitGroup
	next := make(chan int, len(all))
	for i := range all {
		next <- i
	}
	close(next)
	for range min(askedAtOnce, len(all)) {
		wg.Go(func() {
			for i := range next {
				kept := stateKept
				if held || all[i].Pause != nil {
					kept = idleStateKept
				}
				page[i] = d.viewCursor(ctx, all[i], kept)
			}
		})
	}
	wg.Wait()
	return page, ctx.Err()
}

// viewCursor puts together what the books, fan-out and the broker know of a
// cursor. What the stream said may be as old as kept.
func (d *daemon) viewCursor(ctx context.Context, c sqlite.Cursor, kept time.Duration) httpapi.Cursor {
	shown := httpapi.Cursor{
		Position: c.Position, UpdatedAt: c.UpdatedAt,
		Pending: c.Pending, Due: c.Due, Dead: c.Dead, Rejected: int64(c.Rejected), Gaps: int64(c.Gaps),
		Pace: httpapi.Pace(c.Pace),
	}
	shown.Stream = cmp.Or(shown.Stream, d.names.Stream(c.Org))
	if !c.OldestDue.IsZero() {
		shown.OldestDue = max(time.Since(c.OldestDue), time.Millisecond)
	}
	if c.Pause != nil {
		shown.Pause = &httpapi.CursorPause{By: c.Pause.By, Reason: c.Pause.Reason, At: c.Pause.At, Until: c.Pause.Until}
	}
	status, _ := d.loop.Status(c.Org)
	shown.VerifiedAt, shown.LastError = status.CheckedAt, status.Err

	s := standing{
		now: time.Now(), org: c.Org, pause: shown.Pause, change: c.Change, changedAt: c.ChangedAt, gated: d.gated(c.Org), full: d.store.Full(),
		lastError: status.Err, rate: c.Pace.Minute, gapAt: c.GapAt, gapCount: c.GapEvents,
	}
	if at, held := d.store.Held(); held {
		s.held = at
	}
	if status.NoRoom {
		s.noRoom = strings.TrimSuffix(status.Err, ": "+fanout.ErrNoRoom.Error())
	}
	seen, err := d.streams.state(ctx, shown.Stream, kept)
	switch {
	case errors.Is(err, stream.ErrNoStream):
		s.missing = true
		if status.Missing {
			s.stoppedAt = status.StoppedAt
		}
	case err != nil:
		s.unreachable, s.stoppedAt = err.Error(), d.broker.AwaySince()
		shown.Last = max(status.Last, seen.Last, c.Seq) // as far as was heard
		shown.Lag = uint64(shown.Last - c.Seq)
	default:
		st := seen.upTo(status)
		shown.First, shown.Last, shown.StreamCheckedAt = st.First, st.Last, seen.at
		if foreign := new(stream.ForeignError); errors.As(st.Foreign(d.store.Installation()), &foreign) {
			s.unclaimed = foreign.Installation
			if status.Unclaimed != "" {
				s.stoppedAt = status.StoppedAt
			}
		}
		shown.Lag = cursor.Lag(c.Position, st)
	}
	if shown.Lag > 0 && err == nil {
		shown.Age = d.streams.age(ctx, c.Position, shown.Stream)
	}
	s.lag, s.age = shown.Lag, shown.Age
	v := s.judge()
	shown.State, shown.Why, shown.Since = v.state, v.why, v.since
	return shown
}

// gated reports whether the org's plan lacks outgoing webhooks.
func (d *daemon) gated(org string) bool {
	if d.live.Load().Plans == nil {
		return false
	}
	o, err := d.store.Org(context.Background(), org)
	return err == nil && o.Gated
}

// seenStreams remembers what streams said of themselves to whoever asked, so
// that a list of thousands of cursors need not ask again. It is the Log that
// fan-out reads by. Safe for concurrent use.
type seenStreams struct {
	cursor.Log
	connected func() error // why the broker cannot be asked, nil: it can

	mu sync.Mutex
	of map[string]seenStream // by the stream's name
}

// seenStream is the latest news of one stream.
type seenStream struct {
	stream.State
	at      time.Time // when it said so; zero: never
	missing bool

	unread   cursor.Position // the oldest unread event lies after this one,
	storedAt time.Time       // and was stored then; zero: not known
}

func newSeenStreams(broker *stream.Client) *seenStreams {
	return &seenStreams{Log: broker, of: make(map[string]seenStream), connected: func() error {
		if broker.Connected() {
			return nil
		}
		return cmp.Or(broker.Err(), stream.ErrUnavailable)
	}}
}

// State implements [cursor.Log].
func (s *seenStreams) State(ctx context.Context, name string) (stream.State, error) {
	st, err := s.Log.State(ctx, name)
	if missing := errors.Is(err, stream.ErrNoStream); err == nil || missing {
		s.mu.Lock()
		defer s.mu.Unlock()
		seen := s.of[name]
		seen.State, seen.at, seen.missing = st, time.Now(), missing
		s.of[name] = seen
	}
	return st, err
}

// state is what the stream says of itself, or has said not longer ago than kept.
// While the broker is away it is what was heard last, with an error.
func (s *seenStreams) state(ctx context.Context, name string, kept time.Duration) (seenStream, error) {
	seen := s.seen(name)
	if err := s.connected(); err != nil {
		return seen, err
	}
	if seen.at.IsZero() || time.Since(seen.at) >= kept {
		if _, err := s.State(ctx, name); err != nil {
			return seen, err
		}
		seen = s.seen(name)
	}
	if seen.missing {
		return seen, stream.ErrNoStream
	}
	return seen, nil
}

func (s *seenStreams) seen(name string) seenStream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.of[name]
}

// upTo is what the stream said, brought up to what fan-out has read since.
func (s seenStream) upTo(status fanout.Status) stream.State {
	st := s.State
	if status.Last > st.Last {
		st.Messages += uint64(status.Last - st.Last)
		st.Last = status.Last
	}
	return st
}

// age is how long ago the oldest event after the position was stored; 0 when that
// cannot be told. It is read once for each place that the cursor stands at.
func (s *seenStreams) age(ctx context.Context, pos cursor.Position, name string) time.Duration {
	seen := s.seen(name)
	if seen.storedAt.IsZero() || seen.unread != pos {
		msgs, _, err := s.Read(ctx, name, pos.Seq+1, 1)
		if err != nil || len(msgs) == 0 {
			return 0
		}
		s.mu.Lock()
		seen = s.of[name]
		seen.unread, seen.storedAt = pos, msgs[0].Time
		s.of[name] = seen
		s.mu.Unlock()
	}
	return max(time.Since(seen.storedAt), 0)
}

// forget drops what is known of a stream that is gone for good.
func (s *seenStreams) forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.of, name)
}
