package sqlite

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/deliver"
)

// What was booked while the clock was ahead is due at a start within the longest
// wait that a rule gives; the rest stays as it is (REL-22).
func TestREL22_DueTimesOfAClockThatWasAhead(t *testing.T) {
	c := newClock()
	o := Options{Dir: t.TempDir(), Clock: c.read}
	s := open(t, o)
	w := newWalker(t, s, "acme", 1)
	now := c.read()
	due := []time.Duration{0, time.Minute, 24 * time.Hour, longestWait, longestWait + time.Millisecond, 365 * 24 * time.Hour}
	var want []int64
	for i, ev := range w.commit(w.next(len(due) + 1)) {
		r := c.outcome(deliver.Key{Event: ev.Event, Endpoint: w.endpoints[0]}, 1, deliver.Pending)
		if i == len(due) {
			r.Next.Due = time.UnixMilli(deliver.HeldBack)
		} else {
			r.Next.Due = now.Add(due[i])
			want = append(want, toMillis(now.Add(min(due[i], longestWait))))
		}
		w.record(r)
	}
	want = append(want, deliver.HeldBack)
	shut(t, s)
	s = open(t, o)
	ts, err := s.Pending(t.Context(), deliver.Place{}, deliver.Place{Due: 1 << 60}, nil, 100)
	if err != nil {
		t.Fatal(err)
	}
	var got []int64
	for _, ticket := range ts {
		got = append(got, ticket.Due)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("due (-want +got):\n%s", diff)
	}
}
