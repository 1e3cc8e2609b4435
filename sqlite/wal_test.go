package sqlite

import (
	"testing"
	"time"
)

func TestLogWatch(t *testing.T) {
	const page = 4096
	start := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	type look struct {
		after         time.Duration // since the start
		pages, folded int64
		due           bool
	}
	for name, looks := range map[string][]look{
		"nothing to do": {{0, 0, 0, false}, {time.Hour, 0, 0, false}, {2 * time.Hour, 500, 500, false}},
		"somebody folds": {
			{0, 100, 0, false}, {9 * time.Minute, 900, 0, false}, {10*time.Minute - 1, 900, 800, false}, {19 * time.Minute, 2000, 800, false},
		},
		"nobody folds": {{0, 100, 0, false}, {10*time.Minute - 1, 200, 0, false}, {10 * time.Minute, 300, 0, true}},
		"it stops to":  {{0, 100, 50, false}, {time.Minute, 200, 150, false}, {11*time.Minute - 1, 300, 150, false}, {11 * time.Minute, 300, 150, true}},
		"it began anew": {
			{0, 900, 0, false}, {9 * time.Minute, 100, 0, false}, {18 * time.Minute, 200, 0, false}, {19 * time.Minute, 200, 0, true},
		},
		"quiet, then busy": {{0, 0, 0, false}, {time.Hour, 0, 0, false}, {time.Hour + time.Minute, 10, 0, false}, {70 * time.Minute, 20, 0, true}},
		"too long":         {{0, 1 << 30 / page, 0, true}, {time.Second, 1 << 30 / page, 1 << 30 / page, false}},
		"just not too long": {
			{0, 1 << 30 / (page + logFrame), 0, false},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var w logWatch
			for i, l := range looks {
				why := w.due(start.Add(l.after), logState{pages: l.pages, folded: l.folded, pageSize: page})
				if (why != "") != l.due {
					t.Errorf("look %d: %q, want due %v", i, why, l.due)
				}
			}
		})
	}
}

// A store that is replicated folds nothing by itself until it has to, and then
// everything.
func TestReplicatedLog(t *testing.T) {
	c := newClock()
	s := open(t, Options{Dir: t.TempDir(), Replicated: true, Clock: c.read})
	w := newWalker(t, s, "acme", 20)
	w.refresh()
	for range 40 {
		w.commit(w.next(50))
	}
	var watch logWatch
	look := func() logState {
		t.Helper()
		l, _, err := s.lookAtLog(t.Context(), &watch)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	before := look()
	if before.pages <= 1000 || before.folded != 0 {
		t.Fatalf("%+v: want more than a usual log, and nothing folded", before)
	}
	c.add(logTooOld)
	if _, why, err := s.lookAtLog(t.Context(), &watch); why == "" || err != nil {
		t.Fatalf("after 10 minutes: %q, %v", why, err)
	}
	if after := look(); after.pages != after.folded {
		t.Errorf("%+v: want all of it folded", after)
	}
}
