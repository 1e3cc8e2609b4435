package sqlite

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
	"pgregory.net/rapid"
)

// awaitRuns waits until all full blocks of keys are sealed.
func awaitRuns(t testing.TB, s *Store, runs int) {
	t.Helper()
	for len(s.keys.sealedRuns()) < runs {
		if err := s.w.do(t.Context(), func(*txn) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
}

// twice plans the events of p again, at the places after those.
func (w *walker) twice(p fanout.Plan) fanout.Plan {
	again := p
	again.From, again.To, again.Version = w.pos, w.pos, w.version
	again.Events = nil
	for _, ev := range p.Events {
		again.To.Seq++
		ev.Seq, ev.Endpoints = again.To.Seq, w.endpoints
		again.Events = append(again.Events, ev)
	}
	return again
}

// The same ID is one event, however long ago it was: in memory, being sealed,
// in any run, before and after a restart.
func TestDedupeAcrossRuns(t *testing.T) {
	o := Options{Dir: t.TempDir(), runSize: 64}
	s := open(t, o)
	w := newWalker(t, s, "acme", 2)
	other := newWalker(t, s, "other", 1)
	var plans []fanout.Plan
	events := 0
	for _, n := range []int{1, 63, 64, 1, 200, 70, 5} {
		p := w.next(n)
		w.commit(p)
		plans = append(plans, p)
		other.commit(other.next(10))
		events += n
	}
	awaitRuns(t, s, (events+7*10)/64)

	check := func() {
		t.Helper()
		duplicates := 0
		for _, p := range plans {
			for i, got := range w.commit(w.twice(p)) {
				if got.Event != 0 || len(got.Endpoints) > 0 {
					t.Fatalf("event %v made %+v", p.Events[i].ID, got)
				}
				duplicates++
			}
			for _, ev := range p.Events {
				if _, err := s.GetEvent(t.Context(), "acme", ev.ID); err != nil {
					t.Fatal(err)
				}
				if _, err := s.GetEvent(t.Context(), "other", ev.ID); err == nil {
					t.Fatal("another org sees the event")
				}
			}
		}
		if duplicates != events {
			t.Errorf("%d duplicates of %d events", duplicates, events)
		}
	}
	check()
	shut(t, s)
	s = open(t, o)
	w.s = s
	w.refresh()
	check()
	c, err := s.Cursor(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	if c.Events != uint64(events) || c.Duplicates != uint64(2*events) {
		t.Errorf("%d events, %d duplicates", c.Events, c.Duplicates)
	}
}

// Reading the stream again makes the pairs that are missing, and only them,
// wherever the keys are.
func TestReadAgainAcrossRuns(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir(), runSize: 32})
	w := newWalker(t, s, "acme", 1)
	p := w.next(100)
	first := w.commit(p)
	awaitRuns(t, s, 3)
	late := addEndpoint(t, s, "acme").Row
	w.refresh()
	again := fanout.Plan{Org: "acme", From: w.pos, To: w.pos, Version: w.version, Events: p.Events}
	for i := range again.Events {
		if i%2 == 0 {
			again.Events[i].Endpoints = append([]int64{}, w.endpoints[0], late)
		}
	}
	for i, got := range w.commit(again) {
		want := fanout.Written{Event: first[i].Event}
		if i%2 == 0 {
			want.Endpoints = []int64{late}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("event %d (-want +got):\n%s", i, diff)
		}
	}
	if c, _ := s.CountStates(t.Context(), "acme"); c.Pending != 150 {
		t.Errorf("counts %+v", c)
	}
}

// What a crash leaves of an interrupted sealing is cleared away, and sealed
// again.
func TestSealingInterrupted(t *testing.T) {
	o := Options{Dir: t.TempDir(), runSize: 1000}
	s := open(t, o)
	w := newWalker(t, s, "acme", 1)
	p := w.next(200)
	w.commit(p)
	if err := s.w.do(t.Context(), func(x *txn) error {
		_, err := x.c.exec("INSERT INTO key_chunks(id, keys) VALUES(?, ?), (?, ?)", int64(chunksPerRun), []byte("half"), int64(chunksPerRun*7+3), []byte("a run"))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	shut(t, s)
	o.runSize = 64
	s = open(t, o)
	awaitRuns(t, s, 3)
	chunks, err := s.column("SELECT id / ? FROM key_chunks ORDER BY id", chunksPerRun)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int64{1, 2, 3}, chunks); diff != "" {
		t.Errorf("runs with chunks (-want +got):\n%s", diff)
	}
	w.s = s
	w.refresh()
	for _, got := range w.commit(w.twice(p)) {
		if got.Event != 0 {
			t.Fatalf("a duplicate made %+v", got)
		}
	}
}

// Filters never miss what was added, until it is dropped, and hold little else.
func TestFilters(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var fs filters
		added := map[int64][]stream.ID{}
		next := byte(0)
		id := func() (id stream.ID) {
			next++
			return stream.KeyID("acme", string(rune(next)))
		}
		for run := range int64(rapid.IntRange(1, 150).Draw(t, "runs")) {
			f := newFilter(4)
			for range 4 {
				added[run] = append(added[run], id())
				f.add(added[run][len(added[run])-1])
			}
			if err := fs.add(run, f.bytes()); err != nil {
				t.Fatal(err)
			}
		}
		for _, run := range rapid.SliceOf(rapid.Int64Range(0, int64(len(added)-1))).Draw(t, "dropped") {
			fs.drop(run)
			delete(added, run)
		}
		for run, ids := range added {
			for _, id := range ids {
				found := false
				for r := range fs.match(id) {
					found = found || r == run
					if added[r] == nil {
						t.Fatalf("run %d was dropped", r)
					}
				}
				if !found {
					t.Fatalf("run %d not found by %v", run, id)
				}
			}
		}
	})
}

func TestFilterIsRarelyWrong(t *testing.T) {
	f := newFilter(defaultRunSize)
	w := walker{org: "acme"}
	for i := range int64(defaultRunSize) {
		f.add(w.id(i))
	}
	var fs filters
	if err := fs.add(1, f.bytes()); err != nil {
		t.Fatal(err)
	}
	wrong := 0
	for i := range int64(100_000) {
		for range fs.match(w.id(1<<40 + i)) {
			wrong++
		}
	}
	if wrong > 120 { // about 57 are expected
		t.Errorf("%d of 100,000 unknown IDs look known", wrong)
	}
}

func TestUncovered(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var have []span
		covered := map[int64]bool{}
		for at := int64(1); at < 40; {
			at += rapid.Int64Range(0, 5).Draw(t, "hole")
			s := span{at, at + rapid.Int64Range(0, 5).Draw(t, "length")}
			have = append(have, s)
			for i := s.from; i <= s.to; i++ {
				covered[i] = true
			}
			at = s.to + 1
		}
		from := rapid.Int64Range(0, 45).Draw(t, "from")
		s := span{from, from + rapid.Int64Range(0, 45).Draw(t, "count")}
		for _, p := range uncovered(s, have) {
			for i := p.from; i <= p.to; i++ {
				if covered[i] || i < s.from || i > s.to {
					t.Fatalf("%d of %v is covered by %v, or twice", i, p, have)
				}
				covered[i] = true
			}
		}
		for i := s.from; i <= s.to; i++ {
			if !covered[i] {
				t.Fatalf("%d is left out", i)
			}
		}
	})
}
