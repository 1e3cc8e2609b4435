package deliver

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// neverSent is the fate of a delivery whose attempts all fail.
var neverSent = slices.Repeat([]bool{false}, 100)

// offer commits events of one key, all with one fate.
func (w *ordered) offer(key, n int, fate []bool) {
	keys, fates := make([]int, n), make([][]bool, n)
	for i := range n {
		keys[i], fates[i] = key, fate
	}
	w.commit(keys, fates, true)
}

// sent counts the events of a key that were requested at least once.
func (w *ordered) sent(key int) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for event := range w.sends {
		if w.keys[event-1] == key {
			n++
		}
	}
	return n
}

func inOrder(t *testing.T, o Options, f func(w *ordered)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newOrdered(t, o)
		w.bounds = usualBounds
		w.start()
		synctest.Wait()
		f(w)
		w.end()
		if w.broken != "" {
			t.Error(w.broken)
		}
	})
}

// One key that fails and fails, with nothing else going on, must not stop the
// endpoint; five that fail do.
func TestOneKeyThatFailsLeavesTheCircuitClosed(t *testing.T) {
	inOrder(t, Options{OrderedBy: "/data/k"}, func(w *ordered) {
		open := func() bool {
			n := w.lanes.lane(1)
			n.mu.Lock()
			defer n.mu.Unlock()
			return n.health.Open()
		}
		for range 3 { // each gives up after 4 attempts
			w.offer(1, 1, neverSent)
			time.Sleep(10 * time.Second)
		}
		if open() {
			t.Error("the failures of one key opened the circuit")
		}
		w.offer(2, 1, nil)
		synctest.Wait()
		if w.sent(2) != 1 {
			t.Error("another key waits")
		}
		time.Sleep(time.Second)
		for key := 3; key < 3+FailuresToOpen; key++ {
			w.offer(key, 1, neverSent)
		}
		time.Sleep(500 * time.Millisecond)
		if !open() {
			t.Errorf("%d keys failed, and the circuit is closed", FailuresToOpen)
		}
	})
}

// A key that fails holds back only itself, however deep its line is: what stands
// in it is in the books, and memory stays small.
func TestADeepLineIsInTheBooks(t *testing.T) {
	inOrder(t, Options{OrderedBy: "/data/k"}, func(w *ordered) {
		const deep = 3000
		w.offer(1, 1, []bool{false, false, false})
		for range deep / 500 {
			w.offer(1, 500, nil)
			w.offer(2, 10, nil)
			synctest.Wait()
		}
		time.Sleep(2 * time.Second)
		if got, want := w.sent(2), deep/500*10; got < 15 {
			t.Errorf("%d of %d events of another key were sent", got, want)
		}
		if got := w.sent(1); got != 1 {
			t.Errorf("%d events of the key that fails were sent", got)
		}
		held := 0
		for _, row := range w.books.pending() {
			if row.Due == HeldBack {
				held++
			}
		}
		if s := w.lanes.Stats(); held < deep-100 || s.Queued > int64(usualBounds.waiting) {
			t.Errorf("%d are held back in the books, %d in memory", held, s.Queued)
		}
		time.Sleep(2 * deep * 100 * time.Millisecond)
		w.finish()
	})
}

// However many keys fail, memory knows so many and asks the books for the rest.
func TestManyKeysThatFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newOrdered(t, Options{OrderedBy: "/data/k"})
		w.bounds = orderBounds{waiting: 20, each: 5, lines: 10, rows: 8}
		w.start()
		const keys = 600
		for key := 1; key <= keys; key++ {
			w.offer(key, 2, []bool{false})
			w.offer(keys+1, 1, nil) // successes between, so that the circuit stays closed
		}
		most := 0
		for range 200 {
			time.Sleep(50 * time.Millisecond)
			synctest.Wait()
			n := w.lanes.lane(1)
			n.mu.Lock()
			most = max(most, len(n.order.lines))
			n.mu.Unlock()
		}
		if limit := w.bounds.lines + w.bounds.waiting + 3 + laneFailing; most > limit || most < w.bounds.lines {
			t.Errorf("%d lines in memory, want %d to %d", most, w.bounds.lines, limit)
		}
		time.Sleep(time.Hour)
		w.finish()
		w.end()
		if w.broken != "" {
			t.Error(w.broken)
		}
	})
}

func TestAnEndpointThatIsNotOrderedHasNoOrder(t *testing.T) {
	inOrder(t, Options{}, func(w *ordered) {
		w.offer(1, 100, nil)
		synctest.Wait()
		if w.lanes.lane(1).order != nil {
			t.Error("it has one")
		}
		time.Sleep(time.Minute)
		w.finish()
	})
}
