package deliver

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// traffic is what receivers see: when each request began, and how many of one
// endpoint ran at once.
type traffic struct {
	mu     sync.Mutex
	began  map[int64][]time.Time
	events map[int64][]int64 // in the order of the requests
	flying map[int64]int
	most   map[int64]int
}

// watch lets the rig's requests be seen; answer takes some time.
func watch(r *rig, answer func(ctx context.Context, k Key, attempt int) Outcome) *traffic {
	w := &traffic{began: map[int64][]time.Time{}, events: map[int64][]int64{}, flying: map[int64]int{}, most: map[int64]int{}}
	r.answer = func(ctx context.Context, k Key, attempt int) Outcome {
		w.mu.Lock()
		w.began[k.Endpoint] = append(w.began[k.Endpoint], time.Now())
		w.events[k.Endpoint] = append(w.events[k.Endpoint], k.Event)
		w.flying[k.Endpoint]++
		w.most[k.Endpoint] = max(w.most[k.Endpoint], w.flying[k.Endpoint])
		w.mu.Unlock()
		o := answer(ctx, k, attempt)
		w.mu.Lock()
		w.flying[k.Endpoint]--
		w.mu.Unlock()
		return o
	}
	return w
}

// reset forgets what was seen before.
func (w *traffic) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.began)
	clear(w.events)
	clear(w.most)
}

func (w *traffic) requests(endpoint int64) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.began[endpoint])
}

// down answers 500 until a test brings the receiver up.
type down struct {
	mu sync.Mutex
	is bool
}

func (d *down) set(is bool) {
	d.mu.Lock()
	d.is = is
	d.mu.Unlock()
}

func (d *down) answer(context.Context, Key, int) Outcome {
	time.Sleep(100 * time.Millisecond)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.is {
		return Outcome{Class: HTTP5xx, Status: 500}
	}
	return Outcome{Class: OK, Status: 200}
}

func TestCircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0)
		d := &down{is: true}
		w := watch(r, d.answer)
		r.endpoint(1)
		r.run()
		synctest.Wait()
		r.lanes.Offer(r.books.add(1, upTo(200)...))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n := w.requests(1); n != FailuresToOpen {
			t.Fatalf("%d requests in the first seconds, want %d", n, FailuresToOpen)
		}
		// Probes after 5 s, 20 s, 80 s, … an hour, and nothing else.
		w.reset()
		start := time.Now()
		time.Sleep(5*time.Hour + 30*time.Minute)
		synctest.Wait()
		if n := w.requests(1); n < 8 || n > 10 || w.most[1] != 1 {
			t.Errorf("%d probes in 5½ h, %d at once; want about 9, one at a time: %v", n, w.most[1], w.began[1])
		}
		if first := w.began[1][0].Sub(start); first < 2*time.Second || first > 4*time.Second {
			t.Errorf("the first probe came %v later, want 5 s after the circuit opened", first)
		}
		waiting := 0
		for _, ticket := range r.books.pending() {
			if ticket.Attempts == 0 {
				waiting++
			}
		}
		if want := 200 - FailuresToOpen - w.requests(1); waiting < want || waiting == 200 {
			t.Errorf("%d deliveries were never attempted, want at least %d", waiting, want)
		}
		if h := r.books.healthOf(1); !h.Open() || h.Failures != FailuresToOpen+w.requests(1) {
			t.Errorf("in the books: %+v", h)
		}

		// One success, and all that was held goes: oldest first, with a ramp.
		d.set(false)
		w.reset()
		for w.requests(1) == 0 {
			if time.Sleep(10 * time.Millisecond); time.Since(start) > 10*time.Hour {
				t.Fatal("no probe")
			}
		}
		synctest.Wait()
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		for i, most := range []int{2, 4, 8, 8} {
			w.mu.Lock()
			if w.most[1] > most {
				t.Errorf("round %d after the probe: %d requests at once, want at most %d", i, w.most[1], most)
			}
			w.mu.Unlock()
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if w.most[1] != DefaultConcurrency {
			t.Errorf("at most %d requests at once, want %d in the end", w.most[1], DefaultConcurrency)
		}
		if left := len(r.books.pending()); left > 0 {
			t.Errorf("%d pending 10 s after the recovery: they wait out their own backoff", left)
		}
		for i, event := range w.events[1][2:] {
			// Requests of the same moment come in any order.
			if w.events[1][1+i] > event+DefaultConcurrency {
				t.Errorf("not the oldest first: %v", w.events[1])
				break
			}
		}
		if h := r.books.healthOf(1); !h.Well() {
			t.Errorf("in the books: %+v, want well", h)
		}
		if want := []Turn{Opened, Recovered}; !slices.Equal(r.books.told(), want) {
			t.Errorf("turns %v, want %v", r.books.told(), want)
		}
		r.end()
	})
}

// What the books know is enough to go on after a crash: no flood, and the same
// schedule.
func TestCircuitAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBooks()
		d := &down{is: true}
		var last Health
		requests := 0
		b.add(1, upTo(100)...)
		for life := range 20 {
			r := newRigOn(t, b, 0)
			w := watch(r, d.answer)
			r.endpoint(1, func(e *Endpoint) { e.Health = b.healthOf(1) })
			r.run()
			time.Sleep(time.Minute)
			if life == 19 {
				d.set(false)
				time.Sleep(2 * time.Hour)
			}
			synctest.Wait()
			if life < 19 {
				requests += w.requests(1)
			}
			r.end()
			if h := b.healthOf(1); life < 19 && h.Probes < last.Probes {
				t.Errorf("life %d: %d probes, before %d", life, h.Probes, last.Probes)
			}
			last = b.healthOf(1)
		}
		if requests > FailuresToOpen+6 {
			t.Errorf("%d requests in 20 minutes with 20 restarts", requests)
		}
		if n := len(b.pending()); n > 0 {
			t.Errorf("%d pending in the end", n)
		}
	})
}

// A crash between the first success and the release of what is held repeats the
// release.
func TestReleaseAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0)
		far := time.Now().Add(7 * time.Hour).UnixMilli()
		r.books.add(1, upTo(50)...)
		for k, row := range r.books.rows {
			row.Due, row.Attempts, row.Spent = far-k.Event*1000, 3, 3
			r.books.rows[k] = row
		}
		r.books.health[1] = Health{Successes: 1, Released: true, Releasing: true, Step: 9}
		w := watch(r, ok)
		r.endpoint(1, func(e *Endpoint) { e.Health, e.Concurrency = r.books.healthOf(1), 1 })
		r.run()
		time.Sleep(time.Second)
		synctest.Wait()
		if n := w.requests(1); n != 50 || !slices.IsSorted(w.events[1]) {
			t.Errorf("%d sent within a second of the start, want 50, the oldest first: %v", n, w.events[1])
		}
		if h := r.books.healthOf(1); h.Releasing {
			t.Errorf("still releasing: %+v", h)
		}
		r.end()
	})
}

func TestFiveDaysOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0)
		d := &down{is: true}
		w := watch(r, d.answer)
		r.endpoint(1)
		r.run()
		synctest.Wait()
		start := time.Now()
		next := int64(1)
		for range 4*24 + 12 { // an event each hour
			r.lanes.Offer(r.books.add(1, next))
			next++
			time.Sleep(time.Hour)
		}
		synctest.Wait()
		if h := r.books.healthOf(1); !h.Warned || h.DisablesAt(0).Sub(start) > 6*24*time.Hour {
			t.Errorf("half a day before: %+v, want warned", h)
		}
		for r.books.disabledFor(1) == "" && time.Since(start) < 10*24*time.Hour {
			time.Sleep(time.Minute)
			synctest.Wait()
		}
		if since := time.Since(r.books.healthOf(1).FailingSince); since < 5*24*time.Hour || since > 5*24*time.Hour+2*time.Minute {
			t.Errorf("disabled after %v without a success, want 5 days", since)
		}
		if n := w.requests(1); n > 5*24+20 {
			t.Errorf("%d requests in 5 days, want about one an hour", n)
		}
		if want := []Turn{Opened, Warned}; !slices.Equal(r.books.told(), want) {
			t.Errorf("turns %v, want %v", r.books.told(), want)
		}
		requests, dead := w.requests(1), len(r.books.done)
		time.Sleep(30 * 24 * time.Hour)
		if n := w.requests(1); n != requests {
			t.Errorf("%d requests at a disabled endpoint", n-requests)
		}

		// Enabled: everything goes at once, oldest first.
		d.set(false)
		w.reset()
		r.endpoint(1, func(e *Endpoint) { e.DisabledReason, e.Health = DisabledFailing, r.books.healthOf(1) })
		r.endpoint(1, func(e *Endpoint) { e.Health, e.Concurrency = r.books.healthOf(1).Renewed(), 1 })
		time.Sleep(time.Minute)
		synctest.Wait()
		if left := len(r.books.pending()); left > 0 {
			t.Errorf("%d pending a minute after it was enabled", left)
		}
		if n := w.requests(1); n != int(next-1)-dead || !slices.IsSorted(w.events[1]) {
			t.Errorf("%d sent, want %d, the oldest first: %v", n, int(next-1)-dead, w.events[1])
		}
		r.end()
	})
}

// An endpoint that fails is disabled when its time has come, although there is
// nothing that could be sent.
func TestDisabledWithNothingToSend(t *testing.T) {
	for _, c := range []struct {
		after, want time.Duration
	}{{0, 5 * 24 * time.Hour}, {2 * time.Hour, 2 * time.Hour}, {NeverDisable, 0}} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, 0)
			r.answer = func(context.Context, Key, int) Outcome { return Outcome{Class: HTTP5xx, Status: 500} }
			r.endpoint(1, func(e *Endpoint) { e.Retry.Attempts, e.DisableAfter = 1, c.after })
			r.run()
			synctest.Wait()
			r.lanes.Offer(r.books.add(1, upTo(FailuresToOpen)...))
			start, at := time.Now(), time.Duration(0)
			for at == 0 && time.Since(start) < 20*24*time.Hour {
				time.Sleep(time.Minute)
				synctest.Wait()
				if r.books.disabledFor(1) != "" {
					at = time.Since(start)
				}
			}
			if at < c.want || at > c.want+2*time.Minute {
				t.Errorf("disabled after %v, want %v (0: never)", at, c.want)
			}
			r.end()
		})
	}
}

// Several requests are on their way when the first answer disables the endpoint.
// What comes of the others must not be told as the health of one that works.
func TestHealthOfTheDisabledIsNotTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0)
		d := &down{}
		watch(r, func(ctx context.Context, k Key, attempt int) Outcome {
			if o := d.answer(ctx, k, attempt); o.Class == OK {
				return o
			}
			return Outcome{Class: HTTP4xx, Status: 410}
		})
		r.endpoint(1)
		r.run()
		synctest.Wait()
		r.lanes.Offer(r.books.add(1, upTo(100)...))
		time.Sleep(time.Second) // 8 at once by now
		d.set(true)
		time.Sleep(time.Minute)
		synctest.Wait()
		r.end()
		gone := 0
		for _, next := range r.books.done {
			if next.Reason == Gone {
				gone++
			}
		}
		if gone < FailuresToOpen {
			t.Fatalf("%d requests were on their way, want %d at least", gone, FailuresToOpen)
		}
		if told := r.books.told(); len(told) > 0 {
			t.Errorf("told %v of an endpoint that is disabled", told)
		}
	})
}

// Five deliveries that always fail must not keep the circuit open for the
// others.
func TestDeliveriesThatFailOfTheirOwnAccord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0)
		w := watch(r, func(_ context.Context, k Key, _ int) Outcome {
			time.Sleep(time.Millisecond)
			if k.Event <= 6 {
				return Outcome{Class: HTTP4xx, Status: 422}
			}
			return Outcome{Class: OK, Status: 200}
		})
		r.endpoint(1)
		r.run()
		synctest.Wait()
		r.lanes.Offer(r.books.add(1, upTo(1000)...))
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		if left := len(r.books.pending()); left != 6 {
			t.Errorf("%d pending after 3 minutes, want the 6 that are refused; %d requests", left, w.requests(1))
		}
		r.end()
	})
}

func TestRetryAfterHoldsTheEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0)
		w := watch(r, func(_ context.Context, k Key, attempt int) Outcome {
			time.Sleep(10 * time.Millisecond)
			if k.Event == 20 && attempt == 1 {
				return Outcome{Class: HTTP4xx, Status: 429, RetryAfter: 10 * time.Minute}
			}
			return Outcome{Class: OK, Status: 200}
		})
		r.endpoint(1)
		r.endpoint(2)
		r.run()
		synctest.Wait()
		r.lanes.Offer(r.books.add(1, upTo(500)...))
		time.Sleep(time.Second)
		synctest.Wait()
		before := w.requests(1)
		if before > 20+2*DefaultConcurrency {
			t.Errorf("%d requests, and the 20th asked to be left alone", before)
		}
		r.lanes.Offer(r.books.add(2, 501))
		time.Sleep(9*time.Minute + 50*time.Second)
		synctest.Wait()
		if n := w.requests(1); n != before {
			t.Errorf("%d requests while it wants none", n-before)
		}
		if n := w.requests(2); n != 1 {
			t.Errorf("%d requests at another endpoint, want 1", n)
		}
		w.reset()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := w.requests(1); n < 100 {
			t.Errorf("%d requests after the hold", n)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		r.end()
		if left := len(r.books.pending()); left > 0 {
			t.Errorf("%d pending", left)
		}
	})
}

func TestPausedEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0)
		w := watch(r, ok)
		paused := func(is bool, h Health) func(*Endpoint) {
			return func(e *Endpoint) { e.Paused, e.Health = is, h }
		}
		r.endpoint(1, paused(true, Health{}))
		r.run()
		r.lanes.Offer(r.books.add(1, upTo(100)...))
		time.Sleep(20 * 24 * time.Hour)
		synctest.Wait()
		if n := w.requests(1); n > 0 || r.books.disabledFor(1) != "" {
			t.Errorf("%d requests; disabled: %q", n, r.books.disabledFor(1))
		}
		if s := r.lanes.Stats(); s.Are[Paused] != 1 {
			t.Errorf("endpoints: %v", s.Are)
		}
		r.endpoint(1, paused(false, Health{}.Renewed()))
		synctest.Wait()
		r.wantOnce(1, 1, 100)
		r.end()
	})
}

// An endpoint that is up for a request now and then is probed as one that is
// down, and still gets everything once it stays up.
func TestFlappingEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0)
		n := 0
		var mu sync.Mutex
		up := false
		w := watch(r, func(context.Context, Key, int) Outcome {
			mu.Lock()
			defer mu.Unlock()
			if n++; up || n%7 == 0 {
				return Outcome{Class: OK, Status: 200}
			}
			return Outcome{Class: HTTP5xx, Status: 503}
		})
		r.endpoint(1)
		r.run()
		synctest.Wait()
		r.lanes.Offer(r.books.add(1, upTo(300)...))
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if n := w.requests(1); n > 200 {
			t.Errorf("%d requests in a day", n)
		}
		mu.Lock()
		up = true
		mu.Unlock()
		time.Sleep(10 * time.Hour)
		synctest.Wait()
		if left := len(r.books.pending()); left > 0 {
			t.Errorf("%d pending", left)
		}
		r.end()
	})
}

// Changing an endpoint, or asking for one of its deliveries by hand, does not
// wait for the next probe's time.
func TestProbeNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0)
		d := &down{is: true}
		w := watch(r, d.answer)
		revision := int64(1)
		set := func() { r.endpoint(1, func(e *Endpoint) { e.Revision = revision }) }
		set()
		r.run()
		synctest.Wait()
		r.lanes.Offer(r.books.add(1, upTo(100)...))
		time.Sleep(3 * time.Hour)
		for name, ask := range map[string]func(){
			"changed": func() { revision++; set() },
			"by hand": func() { r.lanes.ProbeNow(1) },
		} {
			before := w.requests(1)
			ask()
			time.Sleep(time.Second)
			synctest.Wait()
			if n := w.requests(1) - before; n != 1 {
				t.Errorf("%s: %d requests, want one probe", name, n)
			}
		}
		before := w.requests(1)
		set() // nothing new
		time.Sleep(time.Second)
		synctest.Wait()
		if n := w.requests(1) - before; n != 0 {
			t.Errorf("told the same again: %d requests", n)
		}
		r.lanes.Kill()
		r.end()
	})
}
