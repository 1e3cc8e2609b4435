package sqlite

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/deliver"
)

// What is due is due since it was fanned out, or since its retry's time came; what
// is to be tried later, or is over, is not.
func TestDueDeliveries(t *testing.T) {
	c := newClock()
	s := open(t, Options{Dir: t.TempDir(), Clock: c.read})
	w := newWalker(t, s, "acme", 2)
	one, two := w.endpoints[0], w.endpoints[1]
	fanned := c.read()
	written := w.commit(w.next(2))
	retry := func(event, endpoint int64, attempt int, due time.Time) {
		w.record(deliver.Record{
			Key: deliver.Key{Event: event, Endpoint: endpoint}, Attempt: deliver.Attempt{Number: attempt, Outcome: deliver.Outcome{Class: deliver.HTTP5xx, Status: 500}},
			Next: deliver.Transition{State: deliver.Pending, Due: due, Spent: attempt},
		})
	}
	soon, later := fanned.Add(time.Minute), fanned.Add(time.Hour)
	retry(written[0].Event, one, 1, soon)
	retry(written[1].Event, one, 1, later)
	due := func(at time.Time) (list []Due) {
		list, err := s.DueDeliveries(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	ms := func(at time.Time) time.Time { return at.Truncate(time.Millisecond).UTC() }
	for _, q := range []struct {
		name string
		at   time.Time
		want []Due
	}{
		{"fresh ones only", fanned.Add(time.Second), []Due{{two, 2, ms(fanned)}}},
		{"a retry is due", soon, []Due{{one, 1, ms(soon)}, {two, 2, ms(fanned)}}},
		{"both are", later, []Due{{one, 2, ms(soon)}, {two, 2, ms(fanned)}}},
	} {
		if diff := cmp.Diff(q.want, due(q.at)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", q.name, diff)
		}
	}
}

// The census counts each delivery once, however small its parts are.
func TestCensus(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir(), Clock: newClock().read})
	w := newWalker(t, s, "acme", 3)
	written := w.commit(w.next(7))
	w.deliverAll(written[:4])
	w.flush()
	var want [deliver.Cancelled + 1]int64
	want[deliver.Pending], want[deliver.Delivered] = 9, 12
	for _, part := range []int{1, 2, 5, 21, 22, 1000} {
		var c Census
		parts := 0
		for ; !c.Done; parts++ {
			var err error
			if c, err = s.Count(t.Context(), c, part); err != nil {
				t.Fatal(err)
			}
		}
		if c.States != want || parts != 21/part+1 {
			t.Errorf("in parts of %d: %v in %d parts, want %v", part, c.States, parts, want)
		}
	}
	if pending, dead := s.Standing(); pending != 9 || dead != 0 {
		t.Errorf("%d pending, %d dead", pending, dead)
	}
	if got := s.Fanned(); got != (Fanned{Matched: 7}) {
		t.Errorf("%+v", got)
	}
}

func TestHistogram(t *testing.T) {
	h := newHistogram(1, 10)
	for _, v := range []float64{0, 0.5, 1, 1.5, 10, 11} {
		h.add(v)
	}
	want := Histogram{Bounds: []float64{1, 10}, Counts: []uint64{3, 5}, Count: 6, Sum: 24}
	if diff := cmp.Diff(want, h.read()); diff != "" {
		t.Error(diff)
	}
}
