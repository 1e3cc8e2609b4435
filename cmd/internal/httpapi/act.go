package httpapi

import (
	"context"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/stream"
)

// Acts is the part of a Service that does by hand what otherwise happens by
// itself.
type Acts interface {
	// TestEndpoint sends the endpoint, disabled or not, one signed request now, of
	// the type webhook.test, and returns what came of it. It is no event of the
	// stream and no delivery of the books. It wraps ErrBusy while another test of
	// the endpoint is under way, or too many of others.
	TestEndpoint(ctx context.Context, org, id string) (Test, error)
	// CancelDelivery ends a pending delivery. A request that is under way goes on,
	// and is kept as an attempt of the cancelled delivery. It wraps ErrState
	// unless the delivery is pending.
	CancelDelivery(ctx context.Context, org string, key deliver.Key) (deliver.Delivery, error)
	// ReplayEvent does what RetryDelivery does to every delivery of the event, or
	// with an endpoint (ep_…) to that one's, and returns the first of them, by
	// endpoint. next is where Deliveries goes on, filtered by the event; zero when
	// there are no others. It wraps ErrState when no endpoint is left that had the
	// event, when the endpoint never had it, and when the payload is gone.
	ReplayEvent(ctx context.Context, org string, id stream.ID, endpoint string) (_ []deliver.Delivery, next deliver.Key, _ error)
}

// Test is a request that somebody asked for to try an endpoint.
type Test struct {
	Key deliver.Key // of no delivery in the books
	deliver.Attempt
	Request SentRequest
}

// EventReplay is the body of POST /orgs/{org}/events/{id}/replay.
type EventReplay struct {
	EndpointID string `json:"endpoint_id,omitempty" maxLength:"64" doc:"ep_…: only to this endpoint; without it to every one that had the event"`
}

type eventReplay struct {
	EventPath
	Write[EventReplay]
}

func (a *api) acts() {
	const org = base + "/orgs/{org}"
	manage := access{scope: WebhooksManage, gated: true}
	handle(a, route{id: "test-endpoint", method: http.MethodPost, path: org + "/endpoints/{id}/test", tag: "endpoints", access: manage,
		summary: "Send an endpoint one signed webhook.test request now; the answer is the attempt, whatever the receiver said"},
		func(ctx context.Context, in *EndpointPath) (*answer[AttemptBody], error) {
			t, err := a.svc.TestEndpoint(ctx, in.Org, in.ID)
			if err != nil {
				return nil, err
			}
			return &answer[AttemptBody]{shownAttempt(ctx, t.Key, t.Attempt, t.Request)}, nil
		})
	handle(a, route{id: "cancel-delivery", method: http.MethodPost, path: org + "/deliveries/{id}/cancel", tag: "deliveries", access: manage,
		summary: "End a pending delivery; a request that is under way goes on"},
		func(ctx context.Context, in *DeliveryPath) (*answer[DeliveryBody], error) {
			key, err := in.key()
			if err != nil {
				return nil, err
			}
			d, err := a.svc.CancelDelivery(ctx, in.Org, key)
			if err != nil {
				return nil, err
			}
			return &answer[DeliveryBody]{deliveryBody(d)}, nil
		})
	body := new(huma.RequestBody)
	handle(a, route{id: "replay-event", method: http.MethodPost, path: org + "/events/{id}/replay", status: http.StatusAccepted, tag: "events", access: manage, bodyless: true, flights: a.searches,
		summary:  "Send an event again, to every endpoint that had it or to one; next_cursor goes on in the list of deliveries with event_id",
		describe: func(op *huma.Operation) { op.RequestBody = body }},
		func(ctx context.Context, in *eventReplay) (*answer[List[DeliveryBody]], error) {
			return a.replayEvent(ctx, in.EventPath, in.Body.EndpointID)
		})
	body.Required = false // see rotate-endpoint-secret
}

// replayEvent sends an event again; endpoint "" is all that had it.
func (a *api) replayEvent(ctx context.Context, in EventPath, endpoint string) (*answer[List[DeliveryBody]], error) {
	id, err := a.eventID(ctx, in)
	if err != nil {
		return nil, err
	}
	replayed, next, err := a.svc.ReplayEvent(ctx, in.Org, id, endpoint)
	if err != nil {
		return nil, err
	}
	out := &answer[List[DeliveryBody]]{Body: List[DeliveryBody]{Data: shaped(replayed, deliveryBody)}}
	if next != (deliver.Key{}) {
		out.Body.NextCursor = cursorAt("delivery", "%d.%d", next.Event, next.Endpoint)
	}
	return out, nil
}

// eventID is the id of an event that may be named by its sequence. Only then the
// stream is read: the books may know an event that the stream has dropped.
func (a *api) eventID(ctx context.Context, in EventPath) (stream.ID, error) {
	if seq, err := strconv.ParseUint(in.ID, 10, 64); err == nil && seq > 0 {
		ev, err := a.svc.EventAt(ctx, in.Org, stream.Seq(seq))
		return ev.ID, err
	}
	id, err := stream.ParseID(in.ID)
	if err != nil {
		return id, ErrNotFound
	}
	return id, nil
}
