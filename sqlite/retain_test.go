package sqlite

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/stream"
)

// clock is a time that a test moves, while tasks of the store read it.
type clock struct{ ms atomic.Int64 }

func newClock() *clock {
	c := new(clock)
	c.ms.Store(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC).UnixMilli())
	return c
}

func (c *clock) read() time.Time { return fromMillis(c.ms.Load()) }

func (c *clock) add(d time.Duration) { c.ms.Add(d.Milliseconds()) }

const day = 24 * time.Hour

// outcome is a record at the clock's time.
func (c *clock) outcome(k deliver.Key, number int, next deliver.State) deliver.Record {
	r := delivered(k)
	r.Attempt.Number, r.Attempt.Started = number, c.read()
	r.Next.State, r.Next.Spent = next, number
	if next != deliver.Delivered {
		r.Attempt.Class, r.Attempt.Status = deliver.HTTP5xx, 500
		r.Next.Due = c.read().Add(time.Hour)
		r.Payload = &deliver.Payload{Event: k.Event, Org: "acme", Type: "invoice.paid", Stored: c.read(), Body: []byte("{}")}
	}
	if next == deliver.Dead {
		r.Next.Reason = deliver.Exhausted
	}
	return r
}

func (w *walker) record(rs ...deliver.Record) {
	w.t.Helper()
	for _, r := range rs {
		if err := w.s.Record(w.t.Context(), r); err != nil {
			w.t.Fatal(err)
		}
	}
	w.flush()
}

func TestRetain(t *testing.T) {
	for _, step := range []int{1, 2, 3, 1000} {
		c := newClock()
		s := open(t, Options{Dir: t.TempDir(), Clock: c.read, runSize: 4, Synchronous: "NORMAL"})
		w := newWalker(t, s, "acme", 2)
		a, b := w.endpoints[0], w.endpoints[1]
		retain := func(want Removed) {
			t.Helper()
			got, err := s.Retain(t.Context(), RetainOptions{FinishedBefore: c.read().Add(-7 * day), DeadBefore: c.read().Add(-30 * day), Step: step})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("step %d, %s: removed (-want +got):\n%s", step, c.read().Format(time.DateOnly), diff)
			}
		}
		list := func() (states []string) {
			t.Helper()
			ds, next, err := s.ListDeliveries(t.Context(), "acme", Filter{}, 100, deliver.Key{})
			if err != nil || next != (deliver.Key{}) {
				t.Fatal(next, err)
			}
			for _, d := range ds {
				states = append(states, d.State.String())
			}
			return states
		}

		ev := w.commit(w.next(6)) // 1 Nov.
		k := func(i int, endpoint int64) deliver.Key { return deliver.Key{Event: ev[i].Event, Endpoint: endpoint} }
		w.record(
			c.outcome(k(0, a), 1, deliver.Delivered), c.outcome(k(0, b), 1, deliver.Delivered),
			c.outcome(k(1, a), 1, deliver.Delivered), c.outcome(k(1, b), 1, deliver.Dead),
			c.outcome(k(2, a), 1, deliver.Delivered), c.outcome(k(2, b), 1, deliver.Pending),
			c.outcome(k(3, a), 1, deliver.Pending), c.outcome(k(3, b), 1, deliver.Delivered),
			c.outcome(k(4, a), 1, deliver.Delivered), c.outcome(k(4, b), 1, deliver.Delivered),
			c.outcome(k(5, a), 1, deliver.Pending), c.outcome(k(5, b), 1, deliver.Pending),
		)
		awaitRuns(t, s, 1)
		c.add(3 * day)
		w.record(c.outcome(k(3, a), 2, deliver.Delivered)) // finished later than its event was fanned out
		young := w.commit(w.next(1))
		retain(Removed{})

		c.add(5 * day) // 9 Nov.
		retain(Removed{Deliveries: 7, Attempts: 7, Payloads: 1, Events: 2})
		retain(Removed{})
		want := []string{"pending", "pending", "pending", "pending", "delivered", "pending", "dead"}
		if diff := cmp.Diff(want, list()); diff != "" {
			t.Errorf("left (-want +got):\n%s", diff)
		}

		c.add(3 * day) // 12 Nov.: the retried one's turn, by looking again
		retain(Removed{Deliveries: 1, Attempts: 2, Events: 1})
		w.record(c.outcome(k(2, b), 2, deliver.Delivered), c.outcome(k(5, a), 2, deliver.Delivered), c.outcome(k(5, b), 2, deliver.Dead))

		c.add(8 * day) // 20 Nov.
		retain(Removed{Deliveries: 2, Attempts: 4, Payloads: 1, Events: 1})

		c.add(15 * day) // 5 Dec.: the first dead one, and with it all of the first run
		retain(Removed{Deliveries: 1, Attempts: 1, Payloads: 1, Events: 1, KeyRuns: 1})
		if c, _ := s.CountStates(t.Context(), "acme"); c.Dead != 1 || c.Pending != 2 {
			t.Errorf("counts %+v", c)
		}
		if diff := cmp.Diff([]string{"pending", "pending", "dead"}, list()); diff != "" {
			t.Errorf("left (-want +got):\n%s", diff)
		}
		if _, err := s.GetEvent(t.Context(), "acme", w.id(1)); !errors.Is(err, ErrNotFound) {
			t.Errorf("event 1: %v", err)
		}
		if e, err := s.GetEvent(t.Context(), "acme", w.id(6)); err != nil || len(e.Deliveries) != 1 {
			t.Errorf("event 6: %+v, %v", e, err)
		}
		// The ID of an event that is gone is new again.
		p := w.next(1)
		p.Events[0].ID = w.id(1)
		if again := w.commit(p); again[0].Event <= young[0].Event {
			t.Errorf("event %d after %d", again[0].Event, young[0].Event)
		}
		a1, err := s.Audit(t.Context(), "acme")
		if err != nil {
			t.Fatal(err)
		}
		if _, complete, err := a1.Position(t.Context()); err != nil || complete != stream.Seq(5) && complete != 6 {
			t.Errorf("complete after %d, %v", complete, err)
		}
		if err := a1.Close(); err != nil {
			t.Error(err)
		}
		shut(t, s)
	}
}

// A number is never given twice, also when the newest event is gone and the
// store was opened anew: ids of deliveries are made of it.
func TestRetainNeverFreesNumbers(t *testing.T) {
	c := newClock()
	o := Options{Dir: t.TempDir(), Clock: c.read, runSize: 4}
	s := open(t, o)
	w := newWalker(t, s, "acme", 1)
	w.deliverAll(w.commit(w.next(10)))
	w.flush()
	c.add(100 * day)
	if n, err := s.Retain(t.Context(), RetainOptions{FinishedBefore: c.read()}); err != nil || n.Events != 10 {
		t.Fatalf("%+v, %v", n, err)
	}
	if _, err := s.RetryDelivery(t.Context(), "acme", deliver.Key{Event: 3, Endpoint: 1}); !errors.Is(err, ErrNotFound) {
		t.Errorf("retry: %v", err)
	}
	shut(t, s)
	s = open(t, o)
	w.s = s
	w.refresh()
	if ev := w.commit(w.next(1)); ev[0].Event != 11 {
		t.Errorf("event %d", ev[0].Event)
	}
}

// What had to stay costs later walks nothing: the second one looks at what is
// new, and at a bounded part of the rest.
func TestRetainGoesOnWhereItStopped(t *testing.T) {
	c := newClock()
	s := open(t, Options{Dir: t.TempDir(), Clock: c.read, Synchronous: "NORMAL"})
	w := newWalker(t, s, "acme", 1)
	w.commit(w.next(500)) // pending for ever
	c.add(30 * day)
	steps := 0
	s.o.Failpoint = func(name string) {
		if name == "retention.step" {
			steps++
		}
	}
	o := RetainOptions{FinishedBefore: c.read().Add(-day), Step: 10}
	if _, err := s.Retain(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	first := steps
	if _, err := s.Retain(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if second := steps - first; first < 50 || second > revisitSteps+5 {
		t.Errorf("%d steps, then %d", first, second)
	}
}

func TestRetainRejected(t *testing.T) {
	c := newClock()
	s := open(t, Options{Dir: t.TempDir(), Clock: c.read})
	w := newWalker(t, s, "acme", 1)
	for range 3 {
		p := w.next(0)
		p.To.Seq++
		p.Rejected = append(p.Rejected, rejectedAt(p.To.Seq))
		w.commit(p)
		c.add(10 * day)
	}
	n, err := s.Retain(t.Context(), RetainOptions{DeadBefore: c.read().Add(-15 * day), Step: 1})
	if err != nil || n != (Removed{Rejected: 2}) {
		t.Errorf("%+v, %v", n, err)
	}
	left, err := s.ListRejected(t.Context(), "acme", Place{}, 10)
	if err != nil || len(left) != 1 || left[0].Seq != 3 {
		t.Errorf("%+v, %v", left, err)
	}
}
