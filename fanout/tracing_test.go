package fanout_test

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/stream"
)

// notebook is a Tracer that notes what it is told.
type notebook struct {
	mu    sync.Mutex
	notes []string
}

func (n *notebook) FannedOut(ev *stream.Event, deliveries int, began, committed time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.notes = append(n.notes, fmt.Sprint(ev.Org, ".", ev.Seq, " ", deliveries, " ", !committed.Before(began)))
}

// Each event is told of once, however many endpoints get it, and not again when it
// is read again (OPS-04).
func TestOPS04_EachEventIsTracedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &notebook{}
		w := beginTraced(t, n, true, "acme")
		defer w.stop()
		w.endpoint("acme")
		w.append("acme", 2)
		w.want("acme", 1, 2, 4)
		for _, o := range w.lanes.offered {
			if o.Payload.FannedOut.IsZero() {
				t.Error("the payload does not say when it was fanned out")
			}
		}

		w.endpoint("acme")
		w.move(0, false)
		synctest.Wait()
		w.append("acme", 1)
		synctest.Wait()
		want := []string{"acme.1 2 true", "acme.2 2 true", "acme.3 3 true"}
		if diff := cmp.Diff(want, n.notes); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}
