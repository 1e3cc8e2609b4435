package deliver

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// ordered is a world with one ordered endpoint, which is told step by step what
// happens, and which checks each request that is made.
type ordered struct {
	*rig
	options Options
	keys    []int    // of the events, from 1; 0: none
	fate    [][]bool // of the events' attempts: whether they succeed; beyond: they do
	dead    *atomic.Bool

	mu      sync.Mutex
	since   map[int64]time.Time // pending
	flying  map[int]int64       // key → event
	sends   map[int64]int
	turned  time.Time           // when the endpoint was last ordered by something else
	dropped map[int64]time.Time // cancelled
	asked   map[int64]bool      // for, by hand
	bounds  orderBounds
	broken  string
}

// life are the books of one process: after its crash it changes nothing.
type life struct {
	*books
	dead atomic.Bool
}

func (b *life) Record(ctx context.Context, r Record) error {
	if b.dead.Load() {
		return context.Canceled
	}
	return b.books.Record(ctx, r)
}

func (b *life) LeaveLines(ctx context.Context, endpoint, keep, due int64, limit int) (bool, error) {
	if b.dead.Load() {
		return false, context.Canceled
	}
	return b.books.LeaveLines(ctx, endpoint, keep, due, limit)
}

// orderedPolicy gives up after 4 attempts, some 7 s.
var orderedPolicy = Policy{Initial: time.Second, Multiplier: 2, MaxInterval: time.Minute, Attempts: 4}

func newOrdered(t *testing.T, o Options) *ordered {
	w := &ordered{
		rig: &rig{t: t, books: newBooks(), src: &source{lost: map[int64]bool{}}}, options: o,
		since: map[int64]time.Time{}, dropped: map[int64]time.Time{}, asked: map[int64]bool{}, sends: map[int64]int{},
	}
	w.src.body = w.body
	return w
}

func (w *ordered) body(event int64) []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	if k := w.keys[event-1]; k != 0 {
		return fmt.Appendf(nil, `{"data":{"k":%d,"z":%d}}`, k, k)
	}
	return []byte(`{"data":{}}`)
}

// key is 0 for an event that stands in no line.
func (w *ordered) key(event int64) int {
	switch {
	case w.options.Ordered:
		return 1
	case w.options.OrderedBy == "":
		return 0
	}
	return w.keys[event-1]
}

// start begins a process.
func (w *ordered) start() {
	b := &life{books: w.books}
	w.dead, w.ended = &b.dead, make(chan error, 1)
	w.flying = map[int]int64{}
	w.lanes = NewLanes(LanesOptions{
		Books: b, Source: w.src, order: w.bounds, Rand: func() float64 { return 0.5 },
		Send: func(ctx context.Context, _ *Target, p *Payload, k Key, _ int, _ time.Time) Outcome {
			if b.dead.Load() {
				return Outcome{Class: Ours}
			}
			w.request(k)
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
			if b.dead.Load() {
				return Outcome{Class: Ours}
			}
			return w.answered(k)
		},
	})
	w.set()
	w.run()
}

func (w *ordered) set(change ...func(*Endpoint)) {
	usual := func(e *Endpoint) { e.Options, e.Retry, e.Concurrency = w.options, orderedPolicy, 3 }
	w.endpoint(1, append([]func(*Endpoint){usual}, change...)...)
}

// crash ends the process; what was not booked is lost.
func (w *ordered) crash() {
	w.dead.Store(true)
	w.books.mu.Lock()
	w.books.waiting = nil
	w.books.mu.Unlock()
	w.lanes.Kill()
	w.stop()
	<-w.ended
}

// request is where the promise is checked.
func (w *ordered) request(k Key) {
	w.books.mu.Lock()
	defer w.books.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sends[k.Event]++
	if _, pending := w.books.rows[k]; !pending && w.dropped[k.Event] != time.Now() {
		w.violated("event %d is sent, and is not pending", k.Event)
	}
	mine := w.key(k.Event)
	if mine == 0 || w.turned.Equal(time.Now()) {
		return
	}
	if other, ok := w.flying[mine]; ok {
		w.violated("event %d is sent while %d of the same key is on its way", k.Event, other)
	}
	w.flying[mine] = k.Event
	for event := int64(1); event < k.Event; event++ {
		_, pending := w.books.rows[Key{Event: event, Endpoint: 1}]
		if w.bounds != usualBounds && w.asked[event] {
			continue // memory may have no room for it yet
		}
		if pending && w.key(event) == mine && w.since[event].Before(time.Now()) && w.turned.Before(w.since[event]) {
			w.violated("event %d is sent while %d of the same key is pending since %v", k.Event, event, time.Since(w.since[event]))
		}
	}
}

func (w *ordered) answered(k Key) Outcome {
	w.mu.Lock()
	defer w.mu.Unlock()
	if mine := w.key(k.Event); w.flying[mine] == k.Event { // not of before a turn
		delete(w.flying, mine)
	}
	n := w.sends[k.Event]
	if fate := w.fate[k.Event-1]; n <= len(fate) && !fate[n-1] {
		return Outcome{Class: HTTP5xx, Status: 500}
	}
	return Outcome{Class: OK, Status: 204}
}

func (w *ordered) violated(format string, args ...any) {
	if w.broken == "" {
		w.broken = fmt.Sprintf(format, args...)
	}
}

// commit makes events with these keys, and offers their deliveries.
func (w *ordered) commit(keys []int, fate [][]bool, offer bool) {
	w.mu.Lock()
	var events []int64
	for i, k := range keys {
		w.keys, w.fate = append(w.keys, k), append(w.fate, fate[i])
		event := int64(len(w.keys))
		events = append(events, event)
		w.since[event] = time.Now()
	}
	w.mu.Unlock()
	ts := w.books.add(1, events...)
	for i := range ts {
		ts[i].Payload = w.src.payload(ts[i].Event)
	}
	if offer {
		w.lanes.Offer(ts)
	} else {
		w.lanes.Recheck(1)
	}
}

// byHand cancels a pending delivery, or retries any.
func (w *ordered) byHand(event int64) {
	k := Key{Event: event, Endpoint: 1}
	w.books.mu.Lock()
	t, pending := w.books.rows[k]
	if pending && event%2 == 0 {
		delete(w.books.rows, k)
		delete(w.books.lines, k)
		w.mu.Lock()
		w.dropped[event] = time.Now()
		w.mu.Unlock()
		w.books.mu.Unlock()
		w.lanes.Drop(k)
		return
	}
	w.mu.Lock()
	w.asked[event] = true
	if !pending {
		w.since[event] = time.Now()
	}
	if sent := w.sends[event]; pending && t.Due == 0 {
		w.mu.Unlock()
		w.books.mu.Unlock()
		return
	} else if !pending {
		t = Ticket{Key: k, Attempts: sent}
	}
	w.mu.Unlock()
	t.Due, t.Spent, t.Trigger = millis(time.Now()), 0, Manual
	w.books.rows[k] = t
	w.books.mu.Unlock()
	w.lanes.Recheck(1)
}

// orderStep is one thing that happens.
type orderStep struct {
	Do     string
	Keys   []int
	Fates  [][]bool
	Event  float64 // which of all, from 0 up to 1
	Settle bool
	Ms     int
}

var orderSteps = rapid.Custom(func(t *rapid.T) orderStep {
	s := orderStep{
		Do: rapid.SampledFrom([]string{
			"offer", "offer", "offer", "offer", "commit", "by hand", "by hand", "by hand",
			"crash", "books", "source", "disable", "turn",
		}).Draw(t, "do"),
		Event:  float64(rapid.IntRange(0, 99).Draw(t, "event")) / 100,
		Settle: rapid.Bool().Draw(t, "settle"),
		Ms:     rapid.SampledFrom([]int{0, 1, 70, 100, 250, 1500}).Draw(t, "ms"),
	}
	if s.Do == "offer" || s.Do == "commit" {
		n := rapid.SampledFrom([]int{1, 2, 5, 30}).Draw(t, "n")
		s.Keys = rapid.SliceOfN(rapid.IntRange(0, 3), n, n).Draw(t, "keys")
		s.Fates = rapid.SliceOfN(rapid.SliceOfN(rapid.SampledFrom([]bool{true, true, false}), 0, 5), n, n).Draw(t, "fates")
	}
	return s
})

// TestOrderModel has all that can happen happen to an ordered endpoint, at random.
// No event may be sent while an earlier one of its key is pending in the books,
// none while another of its key is on its way, and in the end all are sent.
func TestOrderModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		options := rapid.SampledFrom([]Options{{OrderedBy: "/data/k"}, {OrderedBy: "/data/k"}, {Ordered: true}}).Draw(rt, "options")
		bounds := rapid.SampledFrom([]orderBounds{usualBounds, usualBounds, {waiting: 2, each: 1, lines: 1, rows: 2}, {waiting: 5, each: 2, lines: 2, rows: 1}}).Draw(rt, "bounds")
		steps := rapid.SliceOfN(orderSteps, 1, 40).Draw(rt, "steps")
		var broken string
		synctest.Test(t, func(t *testing.T) {
			w := newOrdered(t, options)
			w.bounds = bounds
			w.start()
			for _, s := range steps {
				w.step(s)
			}
			w.calm()
			w.finish()
			w.end()
			broken = w.broken
		})
		if broken != "" {
			rt.Fatal(broken)
		}
	})
}

func (w *ordered) step(s orderStep) {
	switch s.Do {
	case "offer", "commit":
		w.commit(s.Keys, s.Fates, s.Do == "offer")
	case "by hand":
		if n := len(w.keys); n > 0 {
			w.byHand(1 + int64(s.Event*float64(n)))
		}
	case "crash":
		w.crash()
		w.start()
	case "books": // get slow, or quick again
		w.books.mu.Lock()
		w.books.held = !w.books.held
		w.books.mu.Unlock()
		w.books.flush()
	case "source": // goes away, or comes back
		w.src.mu.Lock()
		w.src.away = !w.src.away
		w.src.mu.Unlock()
	case "turn": // to another order, or none
		w.mu.Lock()
		w.options = []Options{{OrderedBy: "/data/k"}, {OrderedBy: "/data/z"}, {Ordered: true}, {}}[int(s.Event*4)]
		w.turned, w.flying = time.Now(), map[int]int64{}
		w.mu.Unlock()
		w.set()
	case "disable": // and enable
		w.set(func(e *Endpoint) { e.DisabledReason = DisabledManual })
		w.set()
	}
	if s.Settle {
		synctest.Wait()
	}
	time.Sleep(time.Duration(s.Ms) * time.Millisecond)
}

// calm ends all troubles, and waits.
func (w *ordered) calm() {
	w.src.mu.Lock()
	w.src.away = false
	w.src.mu.Unlock()
	w.books.mu.Lock()
	w.books.held = false
	w.books.mu.Unlock()
	w.books.flush()
	time.Sleep(30 * time.Minute)
	synctest.Wait()
}

// finish checks what is left when nothing moves any more.
func (w *ordered) finish() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.books.pending() {
		w.violated("event %d is still pending, due at %d", t.Event, t.Due)
	}
	if s := w.lanes.Stats(); s.Queued != 0 || s.Payload != 0 {
		w.violated("%d deliveries and %d bytes are left in memory", s.Queued, s.Payload)
	}
	n := w.lanes.lane(1)
	n.mu.Lock()
	defer n.mu.Unlock()
	o := n.order
	if o == nil {
		return
	}
	if len(o.lines)+len(o.active)+len(o.out)+len(o.flights)+len(o.leaves)+len(o.blockers)+o.waiting != 0 {
		w.violated("the order remembers %d lines, %d active, %d out, %d flights, %d leaves, %d blockers",
			len(o.lines), len(o.active), len(o.out), len(o.flights), len(o.leaves), len(o.blockers))
	}
}
