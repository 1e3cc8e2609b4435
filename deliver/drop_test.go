package deliver

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// cancel takes a delivery out of the books, as somebody does by hand.
func (b *books) cancel(k Key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.rows, k)
}

// retry makes a cancelled delivery due now.
func (b *books) retry(k Key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rows[k] = Ticket{Key: k, Due: millis(time.Now()), Trigger: Manual}
}

// one makes an endpoint with one request at a time, each of a second.
func (r *rig) one() {
	r.endpoint(1, func(e *Endpoint) { e.Concurrency = 1 })
	r.answer = func(_ context.Context, k Key, attempt int) Outcome {
		time.Sleep(time.Second)
		if k.Event == 1 && attempt == 1 {
			return Outcome{Class: HTTP5xx, Status: 500}
		}
		return Outcome{Class: OK, Status: 200}
	}
}

func TestDrop(t *testing.T) {
	three := Key{Event: 3, Endpoint: 1}
	for _, c := range []struct {
		name   string
		events []int64
		act    func(r *rig)
		want   map[int64]int // event → requests
	}{
		{"what waits in memory", upTo(5), func(r *rig) {
			r.books.cancel(three)
			r.lanes.Drop(three)
		}, map[int64]int{1: 2, 2: 1, 4: 1, 5: 1}},

		{"what is under way is not sent again", upTo(2), func(r *rig) {
			r.books.cancel(Key{Event: 1, Endpoint: 1})
			r.lanes.Drop(Key{Event: 1, Endpoint: 1})
		}, map[int64]int{1: 1, 2: 1}},

		{"what is committed and not offered yet", upTo(2), func(r *rig) {
			ts := r.books.add(1, 3, 4)
			r.books.cancel(three)
			r.lanes.Drop(three)
			r.lanes.Offer(ts)
		}, map[int64]int{1: 2, 2: 1, 4: 1}},

		{"what was just read from the books", upTo(2), func(r *rig) {
			r.books.add(1, 3, 4) // nobody offers them
			r.books.snapshot = func() {
				r.books.cancel(three)
				r.lanes.Drop(three)
			}
			r.lanes.Recheck(1)
		}, map[int64]int{1: 2, 2: 1, 4: 1}},

		{"asked for again", upTo(5), func(r *rig) {
			r.books.cancel(three)
			r.lanes.Drop(three)
			r.books.retry(three)
			r.lanes.Recheck(1)
		}, map[int64]int{1: 2, 2: 1, 3: 1, 4: 1, 5: 1}},

		{"asked for again before the lane heard of the cancelling", upTo(5), func(r *rig) {
			r.books.cancel(three)
			r.books.retry(three)
			r.lanes.Recheck(1)
			r.lanes.Drop(three)
		}, map[int64]int{1: 2, 2: 1, 3: 1, 4: 1, 5: 1}},

		{"asked for again much later", upTo(2), func(r *rig) {
			r.books.add(1, 3)
			r.books.cancel(three)
			r.lanes.Drop(three)
			time.Sleep(time.Minute)
			r.books.retry(three)
			r.lanes.Recheck(1)
		}, map[int64]int{1: 2, 2: 1, 3: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, 0)
				r.one()
				r.run()
				synctest.Wait()
				r.lanes.Offer(r.books.add(1, c.events...))
				synctest.Wait() // event 1 is under way
				c.act(r)
				time.Sleep(10 * time.Minute)
				synctest.Wait()
				r.end()
				got := r.times(1)
				for event := int64(1); event <= 5; event++ {
					if got[event] != c.want[event] {
						t.Errorf("event %d was sent %d times, want %d", event, got[event], c.want[event])
					}
				}
				if left := r.books.pending(); len(left) > 0 {
					t.Errorf("left behind: %+v", left)
				}
			})
		})
	}
}

// What is asked for while the books are being read is found, though what was read
// is older.
func TestAskedForWhileTheBooksAreRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0)
		r.endpoint(1)
		r.run()
		synctest.Wait()
		var once sync.Once
		r.books.backlogs = func() {
			once.Do(func() {
				r.books.retry(Key{Event: 1, Endpoint: 1})
				r.lanes.Recheck(1)
			})
		}
		r.lanes.Recheck(1) // there is nothing
		time.Sleep(time.Second)
		synctest.Wait()
		r.end()
		r.wantOnce(1, 1, 1)
	})
}

// What was cancelled and never came is forgotten after a while.
func TestDroppedIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0)
		r.endpoint(1)
		for event := range int64(1000) {
			r.lanes.Drop(Key{Event: event + 1, Endpoint: 1})
		}
		time.Sleep(dropFor + time.Second)
		for event := range int64(24) { // up to a multiple of what is looked through
			r.lanes.Drop(Key{Event: event + 1001, Endpoint: 1})
		}
		if n := len(r.lanes.lane(1).dropped); n != 24 {
			t.Errorf("%d are remembered, want the last 24", n)
		}
	})
}
