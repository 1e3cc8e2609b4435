package fanout

import (
	"time"

	"github.com/grapnel-hooks/grapnel/stream"
)

// Tracer makes a span of each event that is fanned out, one however many endpoints
// get it, for those who follow an event through several services. A crash
// between the commit and the span leaves the event without one. An event that is
// read again has another only if it got new deliveries; one that is read for an
// endpoint that is behind has none.
type Tracer interface {
	// FannedOut is told of an event after the commit of so many deliveries. It never
	// blocks, and keeps nothing of the event's data. began is when the planning of
	// its batch was, committed when that was durable.
	FannedOut(ev *stream.Event, deliveries int, began, committed time.Time)
}

// traceEvents tells of the events of a batch that got deliveries.
func traceEvents(t Tracer, events []Planned, written []Written, began, committed time.Time) {
	for i, w := range written {
		if len(w.Endpoints) > 0 {
			t.FannedOut(&events[i].Event, len(w.Endpoints), began, committed)
		}
	}
}
