package sqlite

import (
	"math"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
)

// A steady pace is read as what it is once the window has passed a few times,
// and fades when nothing comes any more.
func TestRatesOfASteadyPace(t *testing.T) {
	var m meter
	now := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	for range 10 * 3600 * 10 { // ten hours of 20 a second
		now = now.Add(100 * time.Millisecond)
		m.count(now, 2)
	}
	near := func(got, want float64) bool { return math.Abs(got-want) <= want/100 }
	if r := m.read(now); !near(r.Minute, 20) || !near(r.FiveMinutes, 20) || !near(r.Hour, 20) {
		t.Errorf("at a steady 20 a second: %+v", r)
	}
	r := m.read(now.Add(time.Minute))
	if !near(r.Minute, 20/math.E) || r.FiveMinutes < 16 || r.Hour < 19 {
		t.Errorf("a minute later: %+v", r)
	}
	if again := m.read(now); again != r {
		t.Errorf("with the clock set back: %+v, want %+v", again, r)
	}
	if r := m.read(now.Add(48 * time.Hour)); r.Hour > 0.001 {
		t.Errorf("two days later: %+v", r)
	}
}

// The cursor knows its pace, and which endpoints have the most to do; those of
// others are not among them.
func TestCursorKnowsItsPaceAndItsBacklog(t *testing.T) {
	w := newReplayed(t, Options{Dir: t.TempDir()}, 20) // one event a minute
	cur, err := w.s.Cursor(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	if r := cur.Pace; r.Minute <= 0 || r.Minute > 1.0/60*1.6 || r.Hour < 20.0/3600*0.8 || r.Hour > 20.0/3600 {
		t.Errorf("20 events in 20 minutes: %+v", r)
	}
	for range 3 {
		w.commit(w.next(1)) // is pending for both
	}
	k := deliver.Key{Event: w.events[19], Endpoint: w.endpoints[1]} // was pending
	w.record(w.c.outcome(k, 1, deliver.Dead))
	all, err := w.s.Backlogged(t.Context(), "acme", 10)
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string][2]int64{}
	for _, e := range all {
		counts[e.Endpoint] = [2]int64{e.Pending, e.Dead}
	}
	if len(all) != 2 || counts[w.id] != [2]int64{8, 5} || all[0].Endpoint != w.id {
		t.Errorf("%+v; the endpoint %s has 8 pending and 5 dead", all, w.id)
	}
	if first, err := w.s.Backlogged(t.Context(), "acme", 1); err != nil || len(first) != 1 || first[0] != all[0] {
		t.Errorf("the first of %+v: %+v, %v", all, first, err)
	}
}
