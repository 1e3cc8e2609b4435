package sqlite

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/deliver"
)

// at is a health of so many failures, as the lanes give it with a record.
func at(c *clock, step int64, failures int) *deliver.Health {
	h := deliver.Health{Step: step, Failures: failures}
	if failures > 0 {
		h.FailingSince, h.Class, h.Status = c.read().Truncate(time.Millisecond).UTC(), deliver.HTTP5xx, 503
	}
	if failures >= deliver.FailuresToOpen {
		h.OpenedAt = h.FailingSince
		h.ProbeAt = h.OpenedAt.Add(time.Second)
	}
	return &h
}

// The newest health of an endpoint is kept, whatever the order of the records,
// and is there after a restart.
func TestHealthIsKept(t *testing.T) {
	c := newClock()
	o := Options{Dir: t.TempDir(), Clock: c.read}
	s := open(t, o)
	w := newWalker(t, s, "acme", 1)
	ev := w.commit(w.next(20))
	i := 0
	record := func(h *deliver.Health) {
		t.Helper()
		r := c.outcome(deliver.Key{Event: ev[i].Event, Endpoint: w.endpoints[0]}, 1, deliver.Pending)
		r.Health = h
		i++
		w.record(r)
	}
	want := func(when string, h deliver.Health) {
		t.Helper()
		e, err := s.FindEndpointByRow(t.Context(), w.endpoints[0])
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(h, e.Health); diff != "" {
			t.Errorf("%s: health (-want +got):\n%s", when, diff)
		}
	}
	third := at(c, 3, 3)
	record(at(c, 1, 1))
	record(third)
	record(at(c, 2, 2)) // of an attempt that ended before
	record(nil)
	want("out of order", *third)
	shut(t, s)
	s = open(t, o)
	w.s = s
	want("after a restart", *third)
	fifth := at(c, 5, 5)
	record(fifth)
	want("open", *fifth)
	e, err := s.FindEndpointByRow(t.Context(), w.endpoints[0])
	if err != nil || e.Condition() != deliver.Failing {
		t.Fatalf("condition %v, %v", e.Condition(), err)
	}

	// Disabled in the transaction of its last failure, and enabled by hand: what
	// was under way before does not count any more.
	r := c.outcome(deliver.Key{Event: ev[i].Event, Endpoint: w.endpoints[0]}, 1, deliver.Pending)
	i++
	r.Health, r.Next.Disable = at(c, 6, 6), deliver.DisabledFailing
	w.record(r)
	want("disabled", *r.Health)
	if e, err = s.EnableEndpoint(t.Context(), "acme", e.ID); err != nil {
		t.Fatal(err)
	}
	renewed := e.Health
	if !renewed.Releasing || renewed.Open() || renewed.Failures != 0 {
		t.Errorf("health of an enabled endpoint: %+v", renewed)
	}
	record(at(c, 7, 7))
	want("enabled", renewed)

	note := renewed
	note.Releasing, note.Step = false, note.Step+1
	if err := s.NoteHealth(t.Context(), []deliver.HealthNote{{Endpoint: e.Row, Health: note}, {Endpoint: 999, Health: note}}); err != nil {
		t.Fatal(err)
	}
	want("released", note)
	note.Warned, note.Step = true, note.Step+1
	if err := s.NoteHealth(t.Context(), []deliver.HealthNote{{Endpoint: e.Row, Health: note, Disable: deliver.DisabledFailing}}); err != nil {
		t.Fatal(err)
	}
	want("given up", note)
	if e, err = s.FindEndpointByRow(t.Context(), e.Row); err != nil || e.DisabledReason != deliver.DisabledFailing {
		t.Errorf("disabled because of %q, %v", e.DisabledReason, err)
	}
}

// A pause that ends lets an endpoint begin anew, as enabling does.
func TestHealthAfterAPause(t *testing.T) {
	c := newClock()
	s := open(t, Options{Dir: t.TempDir(), Clock: c.read})
	w := newWalker(t, s, "acme", 1)
	ev := w.commit(w.next(1))
	r := c.outcome(deliver.Key{Event: ev[0].Event, Endpoint: w.endpoints[0]}, 1, deliver.Pending)
	r.Health = at(c, 5, 5)
	w.record(r)
	e, err := s.FindEndpointByRow(t.Context(), w.endpoints[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, paused := range []bool{true, false} {
		change := EndpointChange{Options: func(o *deliver.Options) { o.Paused = paused }}
		if e, err = s.SetEndpoint(t.Context(), "acme", e.ID, change); err != nil {
			t.Fatal(err)
		}
		if failing := e.Failures > 0; failing != paused {
			t.Errorf("paused %v: health %+v", paused, e.Health)
		}
	}
}

// Release moves what waits for a backoff, of the endpoints asked for, and nothing
// else.
func TestRelease(t *testing.T) {
	c := newClock()
	s := open(t, Options{Dir: t.TempDir(), Clock: c.read})
	w := newWalker(t, s, "acme", 3)
	ev := w.commit(w.next(releasePage/2 + 100))
	now := c.read()
	var rs []deliver.Record
	for i := range ev {
		for j, row := range w.endpoints {
			if i == 0 && j == 0 {
				continue // fresh
			}
			r := c.outcome(deliver.Key{Event: ev[i].Event, Endpoint: row}, 1, deliver.Pending)
			r.Next.Due = now.Add(time.Duration(len(ev)-i) * time.Second)
			if i == 1 && j == 0 {
				r.Next.Due = time.UnixMilli(deliver.HeldBack)
			}
			if i == 2 {
				r = c.outcome(r.Key, 1, deliver.Delivered)
			}
			rs = append(rs, r)
		}
	}
	w.record(rs...)
	if err := s.Release(t.Context(), w.endpoints[:2], toMillis(now)); err != nil {
		t.Fatal(err)
	}
	everything := [2]deliver.Place{{}, {Due: 1 << 60}}
	for j, row := range w.endpoints {
		ts, err := s.Pending(t.Context(), everything[0], everything[1], []int64{row}, 10_000)
		if err != nil {
			t.Fatal(err)
		}
		if len(ts) != len(ev)-1 {
			t.Errorf("endpoint %d: %d pending, want %d", j, len(ts), len(ev)-1)
		}
		moved, last := 0, int64(0)
		for _, ticket := range ts {
			if ticket.Due == toMillis(now) {
				moved++
				if ticket.Event < last {
					t.Errorf("endpoint %d: event %d comes after %d", j, ticket.Event, last)
				}
				last = ticket.Event
			}
		}
		if want := []int{len(ev) - 3, len(ev) - 1, 0}[j]; moved != want {
			t.Errorf("endpoint %d: %d released, want %d", j, moved, want)
		}
	}
}
