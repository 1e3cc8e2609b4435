package deliver

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestRateLimit(t *testing.T) {
	for _, limit := range []float64{0.1, 1, 2.5, 20, 1000} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, 0)
			w := watch(r, func(_ context.Context, k Key, attempt int) Outcome {
				time.Sleep(30 * time.Millisecond)
				if k.Event%10 == 0 && attempt == 1 {
					return Outcome{Class: HTTP5xx, Status: 500}
				}
				return Outcome{Class: OK, Status: 200}
			})
			r.endpoint(1, func(e *Endpoint) { e.RateLimit, e.Concurrency, e.Retry.MaxInterval = limit, 256, 5*time.Second })
			r.run()
			synctest.Wait()
			count := int64(max(3*limit, 20))
			r.lanes.Offer(r.books.add(1, upTo(count)...))
			time.Sleep(time.Duration(float64(count)*1.2/limit*float64(time.Second)) + 10*time.Second)
			synctest.Wait()
			if n := mostInASecond(w.began[1]); n > int(limit+0.999) {
				t.Errorf("limit %v: %d requests began within a second", limit, n)
			}
			if left := len(r.books.pending()); left > 0 {
				t.Errorf("limit %v: %d pending", limit, left)
			}
			r.end()
		})
	}
}

func mostInASecond(began []time.Time) (most int) {
	first := 0
	for i, at := range began {
		for at.Sub(began[first]) >= time.Second {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// A thousand endpoints with backlogs come back together (REL-31).
func TestHerd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const backlog, limit = 100, 20
		endpoints := 1000
		if raceEnabled {
			endpoints = 100
		}
		r := newRig(t, 4000)
		r.books.of, r.books.tried = map[int64][]int64{}, map[Key]Ticket{}
		d := &down{is: true}
		w := watch(r, d.answer)
		event := int64(0)
		for row := int64(1); row <= int64(endpoints); row++ {
			r.endpoint(row, func(e *Endpoint) { e.Org, e.RateLimit = fmt.Sprintf("org%d", row%50), limit })
		}
		dice := uint64(1)
		var mu sync.Mutex
		r.lanes.o.Rand = func() float64 {
			mu.Lock()
			defer mu.Unlock()
			dice = dice*6364136223846793005 + 1442695040888963407
			return float64(dice>>11) / (1 << 53)
		}
		r.run()
		synctest.Wait()
		for row := int64(1); row <= int64(endpoints); row++ {
			es := make([]int64, backlog)
			for i := range es {
				event++
				es[i] = event
			}
			r.lanes.Offer(r.books.add(row, es...))
		}
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		if n := r.lanes.Stats().Are[Failing]; n != endpoints {
			t.Fatalf("%d endpoints are failing", n)
		}
		goroutines := runtime.NumGoroutine()
		if goroutines > 50 {
			t.Errorf("%d goroutines while all wait", goroutines)
		}
		d.set(false)
		w.reset()
		start := time.Now()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if left := len(r.books.pending()); left > 0 {
			t.Fatalf("%d pending after 10 minutes", left)
		}
		var firsts []time.Duration
		for row := int64(1); row <= int64(endpoints); row++ {
			if n := mostInASecond(w.began[row]); n > limit {
				t.Errorf("endpoint %d: %d requests within a second, its limit is %d", row, n, limit)
			}
			if w.most[row] > DefaultConcurrency {
				t.Errorf("endpoint %d: %d requests at once", row, w.most[row])
			}
			if began := w.began[row]; began[1].Sub(began[0]) < 100*time.Millisecond {
				t.Errorf("endpoint %d: the second request came %v after the probe", row, began[1].Sub(began[0]))
			}
			firsts = append(firsts, w.began[row][0].Sub(start))
		}
		slices.Sort(firsts)
		if spread := firsts[len(firsts)*9/10] - firsts[len(firsts)/10]; spread < time.Minute {
			t.Errorf("the probes of 8 in 10 endpoints came within %v: no jitter", spread)
		}
		r.end()
	})
}

// One organization gets no more than its share, and the others the rest.
func TestOneOrganizationCannotTakeAllSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 40)
		r.lanes.slots.most = 10
		w := watch(r, func(ctx context.Context, _ Key, _ int) Outcome {
			time.Sleep(time.Second)
			return Outcome{Class: OK, Status: 200}
		})
		for row := int64(1); row <= 30; row++ {
			r.endpoint(row, func(e *Endpoint) { e.Org = "many" })
		}
		r.endpoint(100, func(e *Endpoint) { e.Org = "one" })
		r.run()
		synctest.Wait()
		for row := int64(1); row <= 30; row++ {
			r.lanes.Offer(r.books.add(row, upTo(30)...))
		}
		r.lanes.Offer(r.books.add(100, upTo(100)...))
		for range 30 {
			time.Sleep(500 * time.Millisecond)
			synctest.Wait()
			if n := r.lanes.Stats().InFlight; n > 10+DefaultConcurrency {
				t.Fatalf("%d requests in flight, want at most 10 of one organization and %d of the other", n, DefaultConcurrency)
			}
		}
		if n := w.requests(100); n < 80 {
			t.Errorf("%d requests of the organization with one endpoint in 15 s", n)
		}
		// While windows open, turns differ a little; once they have, they don't.
		var before [31]int
		for _, want := range []struct{ least, most int }{{3, 8}, {4, 6}, {4, 6}} {
			least, most := 1000, 0
			for row := int64(1); row <= 30; row++ {
				n := w.requests(row)
				least, most = min(least, n-before[row]), max(most, n-before[row])
				before[row] = n
			}
			if least < want.least || most > want.most {
				t.Errorf("endpoints of the organization with many got %d to %d requests in 15 s, want %d to %d", least, most, want.least, want.most)
			}
			time.Sleep(15 * time.Second)
			synctest.Wait()
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if left := len(r.books.pending()); left > 0 {
			t.Errorf("%d pending", left)
		}
		r.end()
		if len(r.lanes.slots.shares["many"].other.lanes) > 0 {
			t.Error("lanes still wait")
		}
	})
}
