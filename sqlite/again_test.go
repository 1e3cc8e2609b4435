package sqlite

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// move moves the cursor, and goes on from there.
func (w *walker) move(to stream.Seq) {
	w.t.Helper()
	m := fanout.Move{From: w.pos, To: w.pos, Skip: true, Reason: "a test"}
	m.To.Seq, m.To.Anchor, m.To.Hash = to, time.Time{}, 0
	if err := w.s.MoveCursor(w.t.Context(), w.org, m); err != nil {
		w.t.Fatal(err)
	}
	w.refresh()
}

// reread plans the first n events of the walker again, from where the cursor is.
func (w *walker) reread(n int) fanout.Plan {
	p := fanout.Plan{Org: w.org, From: w.pos, To: w.pos, Version: w.version, Again: true}
	for p.To.Seq < stream.Seq(n) {
		p.To.Seq++
		ev := stream.Event{Org: w.org, Seq: p.To.Seq, Type: "invoice.paid", Stored: w.s.now().UTC(), ID: w.id(int64(p.To.Seq))}
		p.Events = append(p.Events, fanout.Planned{Event: ev, Endpoints: w.endpoints})
	}
	return p
}

// What retention removed is not made again, but for what is recorded as never
// made.
func TestReadAgainAfterRetention(t *testing.T) {
	c := newClock()
	s := open(t, Options{Dir: t.TempDir(), Clock: c.read, Synchronous: "NORMAL"})
	w := newWalker(t, s, "acme", 2)
	gated := w.next(2)
	gated.Gated, gated.Events = []stream.Seq{1, 2}, nil
	w.commit(gated)
	ev := w.commit(w.next(3)) // 3 to 5
	a, b := w.endpoints[0], w.endpoints[1]
	k := func(i int, endpoint int64) deliver.Key { return deliver.Key{Event: ev[i].Event, Endpoint: endpoint} }
	w.record(
		c.outcome(k(0, a), 1, deliver.Delivered), c.outcome(k(0, b), 1, deliver.Delivered), // goes
		c.outcome(k(1, a), 1, deliver.Delivered), c.outcome(k(1, b), 1, deliver.Pending), // a half goes
	)
	c.add(10 * day)
	if _, err := s.Retain(t.Context(), RetainOptions{FinishedBefore: c.read().Add(-7 * day)}); err != nil {
		t.Fatal(err)
	}
	w.move(0)
	again := w.commit(w.reread(5))
	var made [][]int64
	for _, written := range again {
		made = append(made, written.Endpoints)
	}
	if diff := cmp.Diff([][]int64{w.endpoints, w.endpoints, nil, nil, nil}, made); diff != "" {
		t.Errorf("made anew (-want +got):\n%s", diff)
	}
	got, err := s.Cursor(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	if got.Events != 5 || got.Gated != 0 || got.Seq != 5 || got.Pending != 7 {
		t.Errorf("counted %d events, %d gated, %d pending at %d; want 5, 0, 7 at 5", got.Events, got.Gated, got.Pending, got.Seq)
	}
}

// Rows that were lost are made again by reading the stream again.
func TestReadAgainMakesLostRows(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir(), runSize: 2, Synchronous: "NORMAL"})
	w := newWalker(t, s, "acme", 2)
	ev := w.commit(w.next(5))
	err := s.w.do(t.Context(), func(t *txn) error {
		_, err1 := t.c.exec("DELETE FROM deliveries WHERE event=?", ev[2].Event)
		_, err2 := t.c.exec("DELETE FROM events WHERE id=?", ev[2].Event)
		_, err3 := t.c.exec("DELETE FROM deliveries WHERE event=? AND endpoint=?", ev[3].Event, w.endpoints[1])
		return errors.Join(err1, err2, err3)
	})
	if err != nil {
		t.Fatal(err)
	}
	w.move(2)
	var made [][]int64
	p := w.reread(5)
	for _, written := range w.commit(p) {
		made = append(made, written.Endpoints)
	}
	if diff := cmp.Diff([][]int64{w.endpoints, w.endpoints[1:], nil}, made); diff != "" {
		t.Errorf("made anew (-want +got):\n%s", diff)
	}
}

// The counts of a cursor follow what is recorded, however a skipped range is
// cut.
func TestSkippedIsCounted(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir(), Synchronous: "NORMAL"})
	w := newWalker(t, s, "acme", 1)
	w.commit(w.next(1))
	type counts struct{ Gaps, Events uint64 }
	check := func(what string, want counts, spans ...[2]stream.Seq) {
		t.Helper()
		c, err := s.Cursor(t.Context(), "acme")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, counts{c.Gaps, c.GapEvents}); diff != "" {
			t.Errorf("%s: counted (-want +got):\n%s", what, diff)
		}
		gaps, err := s.ListGaps(t.Context(), "acme", Place{}, 10)
		if err != nil {
			t.Fatal(err)
		}
		var got [][2]stream.Seq
		for i := range gaps {
			g := gaps[len(gaps)-1-i]
			if !g.Skipped {
				t.Errorf("%s: %+v is not marked as skipped", what, g)
			}
			got = append(got, [2]stream.Seq{g.From, g.To})
		}
		if diff := cmp.Diff(spans, got); diff != "" {
			t.Errorf("%s: gaps (-want +got):\n%s", what, diff)
		}
	}
	w.move(11)
	check("skipped", counts{1, 10}, [2]stream.Seq{2, 11})
	w.move(4)
	w.commit(w.reread(6))
	check("the middle read", counts{2, 8}, [2]stream.Seq{2, 4}, [2]stream.Seq{7, 11})
	w.move(1)
	w.commit(w.reread(2))
	check("the beginning", counts{2, 7}, [2]stream.Seq{3, 4}, [2]stream.Seq{7, 11})
	p := w.reread(11)
	p.Gaps = []cursor.Gap{{Incarnation: 1, From: 3, To: 7}} // gone from the stream by now
	p.Events = p.Events[5:]
	w.commit(p)
	check("the rest", counts{2, 3}, [2]stream.Seq{3, 4}, [2]stream.Seq{7, 7})
}

// A crash during a move leaves the old position or the new one, with its record.
func TestCrashDuringMove(t *testing.T) {
	dir := t.TempDir()
	var mu sync.Mutex
	var copies []string
	s := open(t, Options{Dir: dir, Failpoint: func(name string) {
		if name == "cursor.move" || name == "cursor.moved" {
			mu.Lock()
			defer mu.Unlock()
			to := t.TempDir()
			copyStore(t, dir, to)
			copies = append(copies, to)
		}
	}})
	w := newWalker(t, s, "acme", 1)
	w.commit(w.next(4))
	for _, to := range []stream.Seq{2, 9, 0} {
		w.move(to)
	}
	final := t.TempDir()
	copyStore(t, dir, final)
	mu.Lock()
	defer mu.Unlock()
	var got [][3]uint64 // position, furthest, skipped
	for _, dir := range append(copies, final) {
		s := open(t, Options{Dir: dir})
		c, err := s.Cursor(t.Context(), "acme")
		if err != nil {
			t.Fatal(err)
		}
		far, err := s.Furthest(t.Context(), "acme")
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, [3]uint64{uint64(c.Seq), uint64(far.Seq), c.GapEvents})
	}
	want := [][3]uint64{{4, 4, 0}, {4, 4, 0}, {2, 4, 0}, {2, 4, 0}, {9, 9, 5}, {9, 9, 5}, {0, 9, 5}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("position, furthest place and sequences skipped (-want +got):\n%s", diff)
	}
}
