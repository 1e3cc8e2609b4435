package deliver

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// A first attempt that came late says whether its own endpoint kept it waiting: then
// its ticket has a time after which it could have been sent.
func TestKept(t *testing.T) {
	slow := func(context.Context, Key, int) Outcome {
		time.Sleep(3 * time.Second)
		return Outcome{Class: OK, Status: 204}
	}
	refused := func(context.Context, Key, int) Outcome { return Outcome{Class: HTTP5xx, Status: 500} }
	single := func(ep *Endpoint) { ep.Concurrency = 1 }
	for _, c := range []struct {
		name     string
		slots    int
		settings func(*Endpoint)
		answer   func(context.Context, Key, int) Outcome
		then     func(r *rig) // after the events were offered
		events   int64
		busy     bool // another endpoint has the only slot
		kept     bool // the last of them was kept waiting by its endpoint
	}{
		{name: "nobody waits", slots: 10, answer: ok, events: 1},
		{name: "one request at a time, and a slow receiver", slots: 10, settings: single, answer: slow, events: 3, kept: true},
		{name: "no slot is free", slots: 1, answer: slow, events: 1, busy: true},
		{name: "a rate limit", slots: 10, answer: ok, settings: func(ep *Endpoint) { ep.RateLimit = 0.5 }, events: 3, kept: true},
		{name: "a circuit that is open", slots: 10, settings: single, answer: refused, events: 6, kept: true, then: func(r *rig) {
			time.Sleep(time.Second)
			synctest.Wait()
			r.mu.Lock()
			r.answer = ok
			r.mu.Unlock()
		}},
		{name: "a pause", slots: 10, answer: ok, settings: func(ep *Endpoint) { ep.Paused = true }, events: 1, kept: true, then: func(r *rig) {
			time.Sleep(time.Minute)
			r.endpoint(1)
		}},
		{name: "one that waits in its line", slots: 10, settings: func(ep *Endpoint) { ep.Ordered = true }, answer: slow, events: 3, kept: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, c.slots)
				seen := map[int64]Ticket{}
				r.lanes.o.Observe = func(_ *Endpoint, t *Ticket, a *Attempt, _ *Transition) {
					r.mu.Lock()
					defer r.mu.Unlock()
					if _, known := seen[t.Event]; !known {
						seen[t.Event] = *t
					}
				}
				r.answer = c.answer
				r.endpoint(1, func(ep *Endpoint) {
					if c.settings != nil {
						c.settings(ep)
					}
				})
				if c.busy {
					r.endpoint(2)
				}
				r.run()
				time.Sleep(time.Second) // so that no time is zero
				synctest.Wait()
				if c.busy {
					r.lanes.Offer(r.books.add(2, 100))
					synctest.Wait()
				}
				stored := time.Now()
				r.lanes.Offer(r.books.add(1, upTo(c.events)...))
				synctest.Wait()
				if c.then != nil {
					c.then(r)
				}
				time.Sleep(10 * time.Minute)
				synctest.Wait()
				r.mu.Lock()
				last, ok := seen[c.events]
				r.mu.Unlock()
				if !ok {
					t.Fatalf("event %d was not sent", c.events)
				}
				if kept := last.Kept != 0 && !time.UnixMilli(last.Kept).Before(stored.Truncate(time.Millisecond)); kept != c.kept {
					t.Errorf("kept until %v, stored at %v", time.UnixMilli(last.Kept).UTC(), stored.UTC())
				}
				r.end()
			})
		})
	}
}

// The broker is away, so that a payload cannot be had: that is not the endpoint's.
func TestKeptWithoutPayload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 10)
		var kept int64 = -1
		r.lanes.o.Observe = func(_ *Endpoint, t *Ticket, _ *Attempt, _ *Transition) { kept = t.Kept }
		r.src.away = true
		r.books.add(1, 1)
		r.endpoint(1)
		r.run()
		time.Sleep(time.Minute)
		r.src.mu.Lock()
		r.src.away = false
		r.src.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		if kept != 0 {
			t.Errorf("kept until %d, want 0; -1: it was not sent", kept)
		}
		r.end()
	})
}

// An endpoint that keeps its deliveries says so as long as it does; one that has none
// of its own reasons never did; one without a lane keeps them.
func TestKeptNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 10)
		r.endpoint(1)
		r.endpoint(2, func(ep *Endpoint) { ep.Paused = true })
		r.run()
		r.lanes.Offer(r.books.add(1, 1))
		time.Sleep(time.Second)
		synctest.Wait()
		now := time.Now()
		got := r.lanes.Kept([]int64{1, 2, 3}, now)
		if !got[1].IsZero() || !got[2].Equal(now) || !got[3].Equal(now) {
			t.Errorf("at %v: %v", now, got)
		}
		r.end()
	})
}
