package sqlite

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// stretchOf reads from events what lies after the place of a catch-up.
func stretchOf(events []stream.Event) fanout.CatchupRead {
	return func(_ context.Context, c fanout.Catchup, far cursor.Position) (fanout.Stretch, error) {
		st := fanout.Stretch{Through: far.Seq}
		wants := fanout.Compile(0, []fanout.Subscription{c.Wants})
		for _, ev := range events {
			if ev.Seq > c.Seq && ev.Seq <= far.Seq && len(wants.Match(&ev, c.Incarnation, nil)) > 0 {
				st.Events = append(st.Events, ev)
			}
		}
		return st, nil
	}
}

func (w *walker) catchUp(row int64, n int, read fanout.CatchupRead) fanout.CaughtUp {
	w.t.Helper()
	c, ok := w.s.CatchupOf(row)
	if !ok {
		w.t.Fatalf("endpoint %d is not behind", row)
	}
	got, err := w.s.CatchUp(w.t.Context(), c, n, read)
	if err != nil {
		w.t.Fatal(err)
	}
	return got
}

// had lists the sequences of which an endpoint has deliveries.
func had(t *testing.T, s *Store, row int64) (seqs []int64) {
	t.Helper()
	seqs, err := s.column("SELECT e.seq FROM deliveries d JOIN events e ON e.id=d.event WHERE d.endpoint=? ORDER BY e.seq", row)
	if err != nil {
		t.Fatal(err)
	}
	return seqs
}

// A crash in any step leaves an endpoint at a place whose rows it has, and from
// there it ends with the same rows; parked by the same commit that made too many.
func TestCatchupSurvivesCrashes(t *testing.T) {
	const after, near = 20, 10 // of ParkAfter
	dir, crash := t.TempDir(), false
	var copies []string
	s := open(t, Options{Dir: dir, segment: 7, ParkAfter: after, Synchronous: "NORMAL", Failpoint: func(name string) {
		if crash && (strings.HasPrefix(name, "catchup.") || strings.HasPrefix(name, "commit.")) {
			to := t.TempDir()
			copyStore(t, dir, to)
			copies = append(copies, to)
		}
	}})
	w := newWalker(t, s, "acme", 1)
	row := w.endpoints[0]
	var events []stream.Event
	crash = true
	for range 3 {
		p := w.next(after)
		for _, ev := range p.Events {
			events = append(events, ev.Event)
		}
		if _, ok := s.CatchupOf(row); ok {
			p.Events = nil // nobody else wants them
		}
		w.commit(p)
		w.refresh()
	}
	c, ok := s.CatchupOf(row)
	if !ok || c.Reason != fanout.Parked || c.Seq != 2*after {
		t.Fatalf("after %d pending ones it is behind: %v, %+v", s.PendingOf(row), ok, c)
	}
	finish := func(s *Store) {
		t.Helper()
		for range 100 {
			c, ok := s.CatchupOf(row)
			if !ok {
				return
			}
			if _, err := s.CatchUp(t.Context(), c, 3, stretchOf(events)); err != nil {
				t.Fatal(err)
			}
		}
		t.Fatal("it is behind for ever")
	}
	finish(s)
	crash = false
	want := had(t, s, row)
	if len(want) != 3*after {
		t.Fatalf("it has %d rows, want %d", len(want), 3*after)
	}
	shut(t, s)
	if len(copies) < 2*(after-near)/3 {
		t.Fatalf("%d copies", len(copies))
	}
	for i, dir := range copies {
		s := open(t, Options{Dir: dir, segment: 7, ParkAfter: after, Synchronous: "NORMAL"})
		pos, err := s.Position(t.Context(), "acme")
		if err != nil {
			t.Fatal(err)
		}
		c, behind := s.CatchupOf(row)
		upTo := int64(pos.Seq)
		if behind {
			upTo = int64(c.Seq)
		}
		if diff := cmp.Diff(append([]int64(nil), want[:upTo]...), had(t, s, row)); diff != "" {
			t.Errorf("copy %d, behind %v at %d (-want +got):\n%s", i, behind, upTo, diff)
		}
		if pos.Seq == 3*after {
			finish(s)
			if diff := cmp.Diff(want, had(t, s, row)); diff != "" {
				t.Errorf("copy %d, carried on (-want +got):\n%s", i, diff)
			}
		}
		shut(t, s)
	}
}

// What is wanted can change: the new holds from the place on. What the stream
// lost is kept with the endpoint, one range for what lies together, and told.
func TestCatchupChangesAndLosses(t *testing.T) {
	ctx := t.Context()
	s := open(t, Options{Dir: t.TempDir(), Synchronous: "NORMAL"})
	w := newWalker(t, s, "acme", 0)
	p := w.next(12)
	var events []stream.Event
	for i, ev := range p.Events {
		ev.Type = []string{"a", "b"}[i%2]
		events = append(events, ev.Event)
	}
	p.Events = nil
	w.commit(p)
	start := stream.Seq(0)
	e, err := s.AddEndpoint(ctx, deliver.Endpoint{Org: "acme", URL: "https://example.com", EventTypes: []string{"a"}, Retry: deliver.DefaultPolicy}, Start{After: &start})
	if err != nil {
		t.Fatal(err)
	}
	piece := func(through, lost stream.Seq) fanout.CatchupRead {
		return func(ctx context.Context, c fanout.Catchup, far cursor.Position) (fanout.Stretch, error) {
			far.Seq = through
			c.Seq = max(c.Seq, lost)
			st, err := stretchOf(events)(ctx, c, far)
			st.Lost = lost
			return st, err
		}
	}
	// Without near, a step goes no further than it is told.
	take := func(through, lost stream.Seq) {
		t.Helper()
		if got := w.catchUp(e.Row, 0, piece(through, lost)); got.Seq != through {
			t.Fatalf("it is at %d, want %d", got.Seq, through)
		}
	}
	take(1, 1) // lost
	take(2, 2)
	if _, err := s.SetEndpoint(ctx, "acme", e.ID, EndpointChange{EventTypes: []string{"b"}}); err != nil {
		t.Fatal(err)
	}
	take(5, 5)
	c, _ := s.CatchupOf(e.Row)
	if c.Lost != 5 || c.From != 0 {
		t.Errorf("%d are lost since %d, want 5 since 0", c.Lost, c.From)
	}
	w.catchUp(e.Row, math.MaxInt, stretchOf(events))
	if diff := cmp.Diff([]int64{6, 8, 10, 12}, had(t, s, e.Row)); diff != "" {
		t.Errorf("sequences (-want +got):\n%s", diff)
	}
	gaps, err := s.EndpointGaps(ctx, "acme", e.ID, 10)
	if err != nil {
		t.Fatal(err)
	}
	var got []cursor.Gap
	for _, g := range gaps {
		got = append(got, g.Gap)
	}
	if diff := cmp.Diff([]cursor.Gap{{Incarnation: 1, From: 1, To: 5}}, got); diff != "" {
		t.Errorf("gaps (-want +got):\n%s", diff)
	}
	told, err := s.Announcements(ctx, "acme", 10)
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, a := range told {
		if a.Type == stream.CursorGap && strings.Contains(string(a.Data), e.ID) && strings.Contains(string(a.Data), `"parked"`) {
			count++
		}
	}
	if count != 3 {
		t.Errorf("%d gaps of it are told, want 3: %v", count, told)
	}
	if _, err := s.EndpointGaps(ctx, "nobody", e.ID, 10); err == nil {
		t.Error("another organization sees its gaps")
	}
	if err := s.RemoveEndpoint(ctx, "acme", e.ID); err != nil {
		t.Fatal(err)
	}
	if left, err := s.column("SELECT 1 FROM endpoint_gaps"); err != nil || len(left) > 0 {
		t.Errorf("of an endpoint that was removed %d gaps are left, %v", len(left), err)
	}
}

// A row of another operation of the same transaction counts; so does what was
// pending before.
func TestParkingCountsEverything(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir(), ParkAfter: 4, Synchronous: "NORMAL"})
	w := newWalker(t, s, "acme", 2)
	for i, want := range []bool{false, false, true} {
		p := w.next(2)
		for i := range p.Events {
			p.Events[i].Endpoints = w.endpoints[:1]
		}
		w.commit(p)
		w.refresh()
		if _, parked := s.CatchupOf(w.endpoints[0]); parked != want {
			t.Errorf("with %d pending it is parked: %v", 2*(i+1), parked)
		}
		if _, parked := s.CatchupOf(w.endpoints[1]); parked {
			t.Error("one that gets nothing is parked")
		}
	}
	if st := s.CatchupStats(); st != (CatchupStats{All: 1, Parked: 1}) {
		t.Errorf("stats %+v", st)
	}
	c, _ := s.CatchupOf(w.endpoints[0])
	c.Revision++
	if _, err := s.CatchUp(t.Context(), c, 1, stretchOf(nil)); !errors.Is(err, fanout.ErrStale) {
		t.Errorf("a step for another revision: %v, want ErrStale", err)
	}
}

// A step that ends one sequence before the cursor does not open the subscription.
func TestCatchupEndsAtTheCursor(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir(), ParkAfter: 4, Synchronous: "NORMAL"})
	w := newWalker(t, s, "acme", 0)
	p := w.next(10)
	var events []stream.Event
	for _, ev := range p.Events {
		events = append(events, ev.Event)
	}
	p.Events = nil
	w.commit(p)
	start := stream.Seq(0)
	e, err := s.AddEndpoint(t.Context(), deliver.Endpoint{Org: "acme", URL: "https://example.com", EventTypes: []string{"*"}, Retry: deliver.DefaultPolicy}, Start{After: &start})
	if err != nil {
		t.Fatal(err)
	}
	if got := w.catchUp(e.Row, 9, stretchOf(events)); got.Done || got.Seq != 9 {
		t.Errorf("after 9 of 10 it is at %d, done %v", got.Seq, got.Done)
	}
	if got := w.catchUp(e.Row, 9, stretchOf(events)); !got.Done || got.Seq != 10 {
		t.Errorf("after all it is at %d, done %v", got.Seq, got.Done)
	}
	if n := len(had(t, s, e.Row)); n != 10 {
		t.Errorf("it has %d rows, want 10", n)
	}
}
