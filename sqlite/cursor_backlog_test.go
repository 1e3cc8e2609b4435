package sqlite

import (
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
)

// What is due is due since its time came, and what was never attempted since it
// was fanned out.
func TestOldestDue(t *testing.T) {
	c := newClock()
	s := open(t, Options{Dir: t.TempDir(), Clock: c.read})
	w := newWalker(t, s, "acme", 1)
	stands := func(pending, due int64, oldest time.Time) {
		t.Helper()
		got, err := s.Cursor(t.Context(), "acme")
		if err != nil {
			t.Fatal(err)
		}
		if got.Pending != pending || got.Due != due || !got.OldestDue.Equal(oldest) {
			t.Errorf("%d pending, %d due, the oldest since %v, want %d, %d, %v", got.Pending, got.Due, got.OldestDue, pending, due, oldest)
		}
	}
	stands(0, 0, time.Time{})
	fanned := c.read()
	ev := w.commit(w.next(3))
	stands(3, 3, fanned)
	c.add(time.Minute)
	key := func(i int) deliver.Key { return deliver.Key{Event: ev[i].Event, Endpoint: w.endpoints[0]} }
	r := c.outcome(key(0), 1, deliver.Pending)
	r.Next.Due = c.read().Add(time.Hour)
	w.record(r)
	stands(3, 2, fanned)
	w.record(c.outcome(key(1), 1, deliver.Delivered), c.outcome(key(2), 1, deliver.Delivered))
	stands(1, 0, time.Time{})
	c.add(time.Hour)
	stands(1, 1, r.Next.Due)
	late := c.read()
	w.commit(w.next(1))
	stands(2, 2, r.Next.Due)
	c.add(time.Minute)
	w.record(c.outcome(key(0), 2, deliver.Delivered))
	stands(1, 1, late)
}
