package deliver

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestFreshDeliveriesAreSentOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0)
		r.endpoint(1)
		r.run()
		synctest.Wait()
		r.lanes.Offer(r.books.add(1, upTo(100)...))
		synctest.Wait()
		r.end()
		r.wantOnce(1, 1, 100)
		if n := len(r.books.rows); n != 0 {
			t.Errorf("%d deliveries still pending", n)
		}
	})
}

func TestBacklogIsPagedInAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0)
		const n = 3 * pageRows
		r.books.add(1, upTo(n)...)
		r.books.add(2, upTo(50)...)
		r.endpoint(1)
		r.endpoint(2)
		r.run()
		synctest.Wait()
		r.end()
		r.wantOnce(1, 1, n)
		r.wantOnce(2, 1, 50)
	})
}

// A delivery is in the books a moment before it is handed over. A lane that
// looks there in between has it already, perhaps sent and booked.
func TestHandedOverAfterItWasPagedIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0)
		late := r.books.add(1, 1, 2)
		r.endpoint(1)
		r.run()
		synctest.Wait()
		r.lanes.Offer(late)
		r.lanes.Offer(r.books.add(1, 3))
		synctest.Wait()
		r.wantOnce(1, 1, 3)
		r.end()
	})
}

func TestWhatDoesNotFitIsPagedIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0)
		release := make(chan struct{})
		r.answer = func(context.Context, Key, int) Outcome { <-release; return Outcome{Class: OK, Status: 200} }
		r.endpoint(1)
		r.run()
		synctest.Wait()
		const n = laneHard + 2000
		for _, e := range upTo(n) {
			r.lanes.Offer(r.books.add(1, e))
		}
		synctest.Wait()
		if s := r.lanes.Stats(); s.Queued > laneHard || s.Behind != 1 {
			t.Errorf("queued %d, behind %d: want at most %d and 1", s.Queued, s.Behind, laneHard)
		}
		close(release)
		synctest.Wait()
		r.end()
		r.wantOnce(1, 1, n)
	})
}

func TestPayloadMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0)
		r.lanes.o.MaxPayload = 100
		release := make(chan struct{})
		r.answer = func(context.Context, Key, int) Outcome { <-release; return Outcome{Class: OK, Status: 200} }
		r.endpoint(1)
		r.run()
		synctest.Wait()
		r.lanes.Offer(r.books.add(1, upTo(500)...))
		synctest.Wait()
		if p := r.lanes.Stats().Payload; p > 110 {
			t.Errorf("%d bytes of payloads in memory, want about 100", p)
		}
		close(release)
		synctest.Wait()
		r.end()
		r.wantOnce(1, 1, 500)
		if p := r.lanes.Stats().Payload; p != 0 {
			t.Errorf("%d bytes of payloads left", p)
		}
	})
}

func TestRetryIsSentWhenDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0)
		r.answer = func(_ context.Context, _ Key, attempt int) Outcome {
			if attempt < 3 {
				return Outcome{Class: HTTP5xx, Status: 500}
			}
			return Outcome{Class: OK, Status: 200}
		}
		r.endpoint(1)
		r.run()
		synctest.Wait()
		r.lanes.Offer(r.books.add(1, 7))
		for _, c := range []struct {
			after time.Duration
			sent  int
		}{{0, 1}, {4 * time.Second, 1}, {2 * time.Second, 2}, {15 * time.Second, 2}, {10 * time.Second, 3}, {time.Hour, 3}} {
			time.Sleep(c.after)
			synctest.Wait()
			if n := r.times(1)[7]; n != c.sent {
				t.Fatalf("%s later: sent %d times, want %d", c.after, n, c.sent)
			}
		}
		r.end()
	})
}

func TestRetriesOfThePastAndTheFutureSurviveRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0)
		now := time.Now()
		for e, due := range map[int64]time.Time{1: now.Add(-time.Hour), 2: now.Add(time.Second), 3: now.Add(time.Hour)} {
			r.books.add(1, e)
			k := Key{Event: e, Endpoint: 1}
			row := r.books.rows[k]
			row.Due, row.Attempts = due.UnixMilli(), 1
			r.books.rows[k] = row
		}
		r.endpoint(1)
		r.run()
		synctest.Wait()
		if n := r.times(1); n[1] != 1 || n[2] != 0 {
			t.Errorf("at once: sent %v, want event 1 only", n)
		}
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		if n := r.times(1); n[2] != 1 || n[3] != 0 {
			t.Errorf("a second later: sent %v, want events 1 and 2", n)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		r.end()
		r.wantOnce(1, 1, 3)
	})
}

func TestManyRetriesDueInOneMillisecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0)
		due := time.Now().Add(time.Second).UnixMilli()
		const n = 2*pageRows + 10
		r.books.add(1, upTo(n)...)
		r.books.add(2, n+1) // beyond what one read brings
		r.endpoint(2)
		for k, row := range r.books.rows {
			row.Due, row.Attempts = due, 1
			r.books.rows[k] = row
		}
		r.endpoint(1)
		r.run()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		r.end()
		r.wantOnce(1, 1, n)
		r.wantOnce(2, n+1, n+1)
	})
}

func TestBookedWhileTheBooksAreRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0)
		answered := make(chan struct{})
		r.answer = func(_ context.Context, k Key, _ int) Outcome {
			if k.Event == 1 {
				<-answered
			}
			return Outcome{Class: OK, Status: 200}
		}
		r.endpoint(1)
		r.run()
		synctest.Wait()
		r.lanes.Offer(r.books.add(1, 1))
		synctest.Wait()
		// Event 1 is in flight when the books are read, and booked before what
		// was read reaches the lane.
		var once sync.Once
		r.books.snapshot = func() {
			once.Do(func() {
				close(answered)
				for len(r.books.pending()) > 0 {
					time.Sleep(time.Millisecond)
				}
			})
		}
		r.lanes.Recheck(1)
		time.Sleep(time.Minute)
		synctest.Wait()
		r.end()
		r.wantOnce(1, 1, 1)
	})
}

func TestRetriesAndFreshTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0)
		r.answer = func(_ context.Context, k Key, attempt int) Outcome {
			time.Sleep(time.Second)
			if k.Event == 1 && attempt == 1 {
				return Outcome{Class: HTTP5xx, Status: 500}
			}
			return Outcome{Class: OK, Status: 200}
		}
		r.endpoint(1, func(e *Endpoint) { e.Concurrency = 1 })
		r.run()
		synctest.Wait()
		r.lanes.Offer(r.books.add(1, upTo(1000)...))
		time.Sleep(15 * time.Second) // the retry was due after 5
		synctest.Wait()
		if n := r.times(1)[1]; n != 2 {
			t.Errorf("event 1 sent %d times, want 2: its retry does not wait for all fresh ones", n)
		}
		r.lanes.Kill()
		r.end()
	})
}

func TestOutcomeBookedAfterItsRetryWasDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0)
		r.books.held = true // a disk that stalls
		r.answer = func(_ context.Context, _ Key, attempt int) Outcome {
			if attempt == 1 {
				return Outcome{Class: HTTP5xx, Status: 500}
			}
			return Outcome{Class: OK, Status: 200}
		}
		r.endpoint(1)
		r.run()
		synctest.Wait()
		r.lanes.Offer(r.books.add(1, 1))
		time.Sleep(2 * time.Minute) // long after the retry was due
		synctest.Wait()
		if n := r.times(1)[1]; n != 1 {
			t.Fatalf("sent %d times while its outcome was not booked, want 1", n)
		}
		r.books.mu.Lock()
		r.books.held = false
		r.books.mu.Unlock()
		r.books.flush()
		synctest.Wait()
		if n := r.times(1)[1]; n != 2 {
			t.Errorf("sent %d times, want 2", n)
		}
		r.end()
	})
}

func TestDisabledEndpointKeepsItsDeliveries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0)
		block := make(chan struct{})
		r.answer = func(context.Context, Key, int) Outcome { <-block; return Outcome{Class: OK, Status: 200} }
		r.endpoint(1, func(e *Endpoint) { e.Concurrency = 1 })
		r.run()
		synctest.Wait()
		r.lanes.Offer(r.books.add(1, upTo(20)...))
		synctest.Wait()
		r.endpoint(1, func(e *Endpoint) { e.DisabledReason = "manual" })
		close(block)
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(r.times(1)); n != 1 {
			t.Fatalf("%d events sent, want the one that was in flight", n)
		}
		r.endpoint(1)
		synctest.Wait()
		r.end()
		r.wantOnce(1, 1, 20)
	})
}

func TestGoneDisablesTheLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0)
		r.answer = func(context.Context, Key, int) Outcome { return Outcome{Class: HTTP4xx, Status: 410} }
		r.endpoint(1, func(e *Endpoint) { e.Concurrency = 1 })
		r.run()
		synctest.Wait()
		r.lanes.Offer(r.books.add(1, upTo(20)...))
		synctest.Wait()
		r.end()
		if n := len(r.times(1)); n != 1 {
			t.Errorf("%d events sent after a 410, want 1", n)
		}
		got := r.books.done[Key{Event: 1, Endpoint: 1}]
		if got.State != Dead || got.Reason != Gone || got.Disable != "gone" {
			t.Errorf("transition = %+v, want dead, gone", got)
		}
	})
}

func TestFiveDaysOfFailureDisable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0)
		r.answer = func(context.Context, Key, int) Outcome { return Outcome{Class: HTTP5xx, Status: 500} }
		r.endpoint(1, func(e *Endpoint) { e.Retry.Attempts = 100 })
		r.run()
		synctest.Wait()
		r.lanes.Offer(r.books.add(1, 1))
		time.Sleep(4 * 24 * time.Hour)
		before := r.times(1)[1]
		time.Sleep(30 * 24 * time.Hour)
		synctest.Wait()
		r.end()
		if after := r.times(1)[1]; before < 10 || after > before+6 {
			t.Errorf("sent %d times in 4 days, %d in 34: want it to end after 5 days", before, after)
		}
	})
}

func TestHangingLaneHoldsBackNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0)
		r.answer = func(ctx context.Context, k Key, n int) Outcome {
			if k.Endpoint == 1 {
				return hang(ctx, k, n)
			}
			return ok(ctx, k, n)
		}
		r.endpoint(1)
		r.endpoint(2)
		r.run()
		synctest.Wait()
		r.lanes.Offer(r.books.add(1, upTo(100)...))
		r.lanes.Offer(r.books.add(2, upTo(100)...))
		synctest.Wait()
		r.wantOnce(2, 1, 100)
		if n := len(r.times(1)); n != 1 {
			t.Errorf("%d requests hang at once, want 1: the window opens with success only", n)
		}
		r.lanes.Kill()
		r.end()
	})
}

func TestSlotsAreKeptForLanesThatSucceed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 8)
		r.answer = func(ctx context.Context, k Key, n int) Outcome {
			if k.Endpoint > 1 {
				return hang(ctx, k, n)
			}
			return ok(ctx, k, n)
		}
		for row := range int64(50) {
			r.endpoint(row + 1)
		}
		r.run()
		synctest.Wait()
		r.lanes.Offer(r.books.add(1, 1))
		synctest.Wait()
		for row := int64(2); row <= 50; row++ {
			r.lanes.Offer(r.books.add(row, upTo(10)...))
		}
		synctest.Wait()
		if n := r.lanes.Stats().InFlight; n != 6 {
			t.Errorf("%d requests in flight, want 6 of 8: a quarter is kept", n)
		}
		r.lanes.Offer(r.books.add(1, upTo(100)[1:]...))
		synctest.Wait()
		r.wantOnce(1, 1, 100)
		r.lanes.Kill()
		r.end()
	})
}

func TestOrganizationsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1)
		r.lanes.slots.reserve = 0
		r.answer = func(ctx context.Context, k Key, n int) Outcome {
			time.Sleep(time.Second)
			return Outcome{Class: HTTP5xx, Status: 500}
		}
		for row := int64(1); row <= 20; row++ {
			r.endpoint(row, func(e *Endpoint) { e.Org = "many" })
		}
		r.endpoint(100, func(e *Endpoint) { e.Org = "one" })
		r.run()
		synctest.Wait()
		for row := int64(1); row <= 20; row++ {
			r.lanes.Offer(r.books.add(row, upTo(5)...))
		}
		r.lanes.Offer(r.books.add(100, upTo(5)...))
		time.Sleep(10*time.Second + time.Millisecond)
		if n := len(r.times(100)); n < 4 {
			t.Errorf("the org with one endpoint got %d of 10 turns, want about half", n)
		}
		r.lanes.Kill()
		r.end()
	})
}

func TestDrainLetsRequestsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0)
		r.answer = func(context.Context, Key, int) Outcome {
			time.Sleep(3 * time.Second)
			return Outcome{Class: OK, Status: 200}
		}
		for row := int64(1); row <= 50; row++ {
			r.endpoint(row)
		}
		r.run()
		synctest.Wait()
		for row := int64(1); row <= 50; row++ {
			r.lanes.Offer(r.books.add(row, upTo(10)...))
		}
		time.Sleep(time.Second)
		start := time.Now()
		r.end()
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("drained in %s, want 2s: what was in flight, and nothing else", took)
		}
		if n := len(r.books.done); n != 50 {
			t.Errorf("%d outcomes booked, want 50", n)
		}
	})
}

func TestAbsentPayloadsPauseTheLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0)
		r.src.away = true
		r.books.add(1, upTo(10)...)
		r.endpoint(1)
		r.run()
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(r.times(1)); n != 0 {
			t.Fatalf("%d sent without a payload", n)
		}
		r.src.mu.Lock()
		r.src.away = false
		r.src.lost[4] = true
		r.src.mu.Unlock()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		r.end()
		r.wantOnce(1, 1, 3)
		r.wantOnce(1, 5, 10)
		if got := r.books.done[Key{Event: 4, Endpoint: 1}]; got.State != Dead || got.Reason != PayloadLost {
			t.Errorf("event 4: %+v, want dead, payload_lost", got)
		}
	})
}

func TestPanicIsOursAndThenPoison(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0)
		r.answer = func(_ context.Context, k Key, _ int) Outcome {
			if k.Event == 2 {
				panic("boom")
			}
			return Outcome{Class: OK, Status: 200}
		}
		r.endpoint(1)
		r.run()
		synctest.Wait()
		r.lanes.Offer(r.books.add(1, 1, 2, 3))
		time.Sleep(time.Minute)
		synctest.Wait()
		r.end()
		if n := r.times(1)[2]; n != poisonPanics {
			t.Errorf("tried %d times, want %d", n, poisonPanics)
		}
		if got := r.books.done[Key{Event: 2, Endpoint: 1}]; got.State != Dead || got.Reason != Poison {
			t.Errorf("transition = %+v, want dead, poison", got)
		}
	})
}

func TestWaitHoldsFanOutOnlyForLanesThatMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0)
		r.answer = func(ctx context.Context, k Key, n int) Outcome {
			if k.Endpoint == 2 {
				return hang(ctx, k, n)
			}
			time.Sleep(10 * time.Millisecond)
			return Outcome{Class: OK, Status: 200}
		}
		r.endpoint(1)
		r.endpoint(2)
		r.run()
		synctest.Wait()
		r.lanes.Offer(r.books.add(1, upTo(laneSoft+500)...))
		r.lanes.Offer(r.books.add(2, upTo(laneSoft+500)...))
		time.Sleep(20 * time.Millisecond)

		waited := func(rows ...int64) time.Duration {
			start := time.Now()
			r.lanes.Wait(t.Context(), rows, time.Minute)
			return time.Since(start)
		}
		if d := waited(2); d != 0 {
			t.Errorf("waited %s for a lane that hangs, want not at all", d)
		}
		if d := waited(1, 2); d < 100*time.Millisecond || d > 10*time.Second {
			t.Errorf("waited %s for a lane that moves, want until it is short again", d)
		}
		r.lanes.Kill()
		r.end()
	})
}
