package deliver

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// again puts deliveries into the books that are due again: the next attempt of
// each has that trigger, and so many were made since it was asked for.
func (b *books) again(endpoint int64, trigger Trigger, spent int, due int64, events ...int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range events {
		k := Key{Event: e, Endpoint: endpoint}
		b.rows[k] = Ticket{Key: k, Due: due, Attempts: 1 + spent, Spent: spent, Trigger: trigger}
	}
}

func from(first, n int64) (list []int64) {
	for e := range n {
		list = append(list, first+e)
	}
	return list
}

// What a replay asked for goes behind fresh deliveries and due retries of the
// same endpoint, but for one turn in eight, in the order of its events; nothing is left
// out. A second attempt at it is a retry like any other.
func TestReplaysGoBehindLiveTraffic(t *testing.T) {
	const fresh, retries, replays, again = 1, 1001, 2001, 3001
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0)
		r.endpoint(1, func(ep *Endpoint) { ep.Concurrency = 1 })
		gate := make(chan struct{})
		r.answer = func(context.Context, Key, int) Outcome { <-gate; return Outcome{Class: OK, Status: 204} }
		r.run()
		synctest.Wait()
		r.lanes.Offer(r.books.add(1, 9001)) // keeps the lane busy
		synctest.Wait()
		now := millis(r.lanes.now())
		r.books.again(1, Replay, 0, now, from(replays, 400)...)
		r.books.again(1, Retry, 1, now, from(retries, 60)...)
		r.books.again(1, Replay, 1, now, from(again, 60)...)
		r.lanes.Recheck(1)
		r.lanes.Offer(r.books.add(1, from(fresh, 200)...))
		synctest.Wait()
		close(gate)
		synctest.Wait()
		r.end()
		var list []int64
		for _, k := range r.sent[1:] {
			list = append(list, k.Event)
		}
		live, early := 0, 0
		for _, e := range list {
			switch {
			case e < replays || e >= again:
				live++
			case live < 320:
				early++
			}
		}
		if live != 320 || len(list) != 720 {
			t.Fatalf("%d sent, %d of them live", len(list), live)
		}
		if want := live / 7; early < want-1 || early > want+1 {
			t.Errorf("%d replays came before the last of 320 others, want %d", early, want)
		}
		sent := slices.DeleteFunc(slices.Clone(list), func(e int64) bool { return e < replays || e >= again })
		if !slices.Equal(sent, from(replays, 400)) {
			t.Errorf("replays in the order %v", sent)
		}
	})
}

// A lane that was failing sends what was held by the age of events; what a replay
// asked for comes after it, and nothing is left behind.
func TestReplaysAfterAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0)
		down := true
		r.answer = func(context.Context, Key, int) Outcome {
			r.mu.Lock()
			defer r.mu.Unlock()
			if down {
				return Outcome{Class: HTTP5xx, Status: 503}
			}
			return Outcome{Class: OK, Status: 204}
		}
		r.endpoint(1)
		r.run()
		synctest.Wait()
		r.lanes.Offer(r.books.add(1, from(1, 50)...))
		synctest.Wait()
		r.books.again(1, Replay, 0, millis(r.lanes.now()), from(1001, 50)...)
		r.lanes.Recheck(1)
		synctest.Wait()
		r.mu.Lock()
		down = false
		r.mu.Unlock()
		time.Sleep(3 * DefaultPolicy.MaxInterval)
		r.end()
		if left := r.books.pending(); len(left) > 0 {
			t.Errorf("%d are left, the first %+v", len(left), left[0])
		}
	})
}
