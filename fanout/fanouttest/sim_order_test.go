package fanouttest

import (
	"fmt"
	"math"

	"github.com/grapnel-hooks/grapnel/deliver"
)

// someOrder is how the endpoint of that row is ordered: not at all, one delivery
// at a time, or one at a time of each type of event.
func (s *sim) someOrder(row int64) deliver.Options {
	switch s.roll("order", row).IntN(4) {
	case 0:
		return deliver.Options{Ordered: true}
	case 1:
		return deliver.Options{OrderedBy: "/type"}
	}
	return deliver.Options{}
}

// reorder orders an endpoint by something else.
func (s *sim) reorder() {
	ep, ok := s.some(s.dice)
	if !ok {
		return
	}
	o := s.someOrder(s.dice.Int64N(100))
	s.tracef("endpoint %d is ordered: %v %q", ep.Row, o.Ordered, o.OrderedBy)
	s.refused(s.life().books.order(ep.Row, o))
}

// order changes by what an endpoint is ordered.
func (b *Books) order(row int64, o deliver.Options) error {
	if err := b.begin(callAdmin, "order endpoint %d", row); err != nil {
		return err
	}
	e := b.disk.endpoint(row)
	e.Ordered, e.OrderedBy = o.Ordered, o.OrderedBy
	e.Revision++
	for _, ev := range b.disk.events {
		if d := ev.find(row); d != nil {
			d.since = math.MaxInt64 - ev.number // what had failed before holds nobody back
		}
	}
	changed := e.Endpoint
	b.end()
	if !e.removed {
		b.tell(changed)
	}
	return nil
}

// set gives the lanes an endpoint.
func (d *daemon) set(ep deliver.Endpoint) {
	if d.s.mutant.unordered {
		ep.Ordered, ep.OrderedBy = false, ""
	}
	d.s.must(d.lanes.Set(ep))
}

// inOrder checks, when a delivery is about to be sent, that none of its line is
// pending which comes before it, and was there before it.
func (s *sim) inOrder(d *daemon, k deliver.Key) {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	ep := s.disk.endpoint(k.Endpoint)
	if d.dead.Load() || !ep.Ordered && ep.OrderedBy == "" {
		return
	}
	ev, mine := s.disk.delivery(k)
	if mine == nil {
		return
	}
	for _, before := range s.disk.events[:k.Event-1] {
		other := before.find(k.Endpoint)
		if other == nil || other.state != deliver.Pending || other.since > mine.since || !ep.Ordered && before.typ != ev.typ {
			continue
		}
		s.mu.Lock()
		s.passed[other.Key] = fmt.Sprintf("endpoint %d was sent event %d before %d, which was pending after %d attempts, due at %d",
			k.Endpoint, k.Event, other.Event, other.Attempts, other.Due)
		s.mu.Unlock()
	}
}

// judged hears what came of deliveries that others of their line were sent before.
// That is right only if their payloads were lost, so that they were never sent.
// s.mu is held.
func (s *sim) judged(rs []deliver.Record) {
	for _, r := range rs {
		why := s.passed[r.Key]
		if delete(s.passed, r.Key); why != "" && r.Next.Reason != deliver.PayloadLost {
			s.violatedLocked("%s", why)
		}
	}
}
