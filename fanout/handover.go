package fanout

import (
	"slices"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/stream"
)

// handOver makes each event's payload, once, and gives the lanes a ticket for
// each delivery, endpoint by endpoint. at is when they were fanned out, zero for
// events that others got long ago.
func handOver(lanes Lanes, events []Planned, written []Written, at time.Time) {
	byEndpoint := map[int64][]deliver.Ticket{}
	var rows []int64
	for i, w := range written {
		if len(w.Endpoints) == 0 {
			continue
		}
		payload := NewPayload(w.Event, &events[i].Event)
		payload.FannedOut = at
		for _, row := range w.Endpoints {
			ts, ok := byEndpoint[row]
			if !ok {
				rows = append(rows, row)
			}
			byEndpoint[row] = append(ts, deliver.Ticket{
				Key:     deliver.Key{Event: w.Event, Endpoint: row},
				Trigger: deliver.First,
				Payload: payload,
			})
		}
	}
	for _, row := range rows {
		lanes.Offer(byEndpoint[row])
	}
}

// NewPayload makes what is sent of an event that has that number in the books.
func NewPayload(number int64, ev *stream.Event) *deliver.Payload {
	return &deliver.Payload{
		Event:       number,
		ID:          ev.ID,
		Org:         ev.Org,
		Type:        ev.Type,
		TraceParent: ev.TraceParent,
		Stored:      ev.Stored,
		Body:        stream.AppendStandard(make([]byte, 0, len(ev.Data)+512), ev),
	}
}

// receivers lists the endpoints that the events go to.
func receivers(events []Planned) []int64 {
	if len(events) == 0 {
		return nil
	}
	rows, last := events[0].Endpoints, events[0].Endpoints
	var seen map[int64]bool
	for _, e := range events[1:] {
		if len(e.Endpoints) == len(last) && &e.Endpoints[0] == &last[0] {
			continue // as for the event before: the plan shares the list
		}
		last = e.Endpoints
		if seen == nil {
			seen = map[int64]bool{}
			rows = slices.Clone(rows)
			for _, r := range rows {
				seen[r] = true
			}
		}
		for _, r := range e.Endpoints {
			if !seen[r] {
				seen[r] = true
				rows = append(rows, r)
			}
		}
	}
	return rows
}
