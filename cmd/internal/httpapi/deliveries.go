package httpapi

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/stream"
)

type DeliveryPath struct {
	OrgPath
	ID string `path:"id" maxLength:"64" doc:"dlv_…"`
}

func (p DeliveryPath) thing() string { return itemThing("delivery", p.ID, p.Org) }

// key is the delivery's key; an id of another form is nobody's.
func (p DeliveryPath) key() (deliver.Key, error) {
	k, err := deliver.ParseID(p.ID)
	if err != nil {
		return k, ErrNotFound
	}
	return k, nil
}

type deliveryQuery struct {
	OrgPath
	Page
	Endpoint string    `query:"endpoint_id" maxLength:"64" doc:"ep_…"`
	Event    string    `query:"event_id" maxLength:"64" doc:"evt_…"`
	Type     string    `query:"type" maxLength:"130" doc:"Exact, * or a prefix such as invoice.*"`
	Status   string    `query:"status" enum:"pending,delivered,dead,cancelled"`
	Since    time.Time `query:"since" doc:"Its event was stored at or after"`
	Until    time.Time `query:"until" doc:"Its event was stored before"`
}

func (a *api) deliveries() {
	const tag, all, one = "deliveries", base + "/orgs/{org}/deliveries", base + "/orgs/{org}/deliveries/{id}"
	handle(a, route{id: "list-deliveries", method: http.MethodGet, path: all, tag: tag, access: access{scope: WebhooksRead, gated: true},
		summary: "List deliveries, those of the newest events first"}, a.listDeliveries)
	handle(a, route{id: "get-delivery", method: http.MethodGet, path: one, tag: tag, access: access{scope: WebhooksRead, gated: true},
		flights: a.searches, summary: "Show a delivery and its attempts, with their requests as they were sent"},
		a.showDelivery)
	handle(a, route{id: "retry-delivery", method: http.MethodPost, path: one + "/retry", status: http.StatusAccepted, tag: tag, access: access{scope: WebhooksManage, gated: true},
		summary: "Send a delivery again, with a fresh budget of attempts"},
		func(ctx context.Context, in *DeliveryPath) (*answer[DeliveryBody], error) {
			key, err := in.key()
			if err != nil {
				return nil, err
			}
			d, err := a.svc.RetryDelivery(ctx, in.Org, key)
			if err != nil {
				return nil, err
			}
			return &answer[DeliveryBody]{deliveryBody(d)}, nil
		})
}

func (a *api) listDeliveries(ctx context.Context, in *deliveryQuery) (*answer[List[DeliveryBody]], error) {
	var after deliver.Key
	if err := in.after("delivery", "%d.%d", &after.Event, &after.Endpoint); err != nil {
		return nil, err
	}
	f := DeliveryFilter{Endpoint: in.Endpoint, Type: in.Type, Since: in.Since, Until: in.Until}
	if in.Event != "" {
		id, err := stream.ParseID(in.Event)
		if err != nil {
			return nil, &Invalid{Field: "event_id", Detail: "must be evt_ and 26 characters"}
		}
		f.Event = &id
	}
	if in.Status != "" {
		s, err := deliver.ParseState(in.Status)
		if err != nil {
			return nil, &Invalid{Field: "status", Detail: err.Error()}
		}
		f.State = &s
	}
	found, next, err := a.svc.Deliveries(ctx, in.Org, f, after, in.Limit)
	if err != nil {
		return nil, err
	}
	out := &answer[List[DeliveryBody]]{Body: List[DeliveryBody]{Data: shaped(found, deliveryBody)}}
	if next != (deliver.Key{}) {
		out.Body.NextCursor = cursorAt("delivery", "%d.%d", next.Event, next.Endpoint)
	}
	return out, nil
}

func deliveryBody(d deliver.Delivery) DeliveryBody {
	b := DeliveryBody{
		ID: d.ID(d.Stored), Org: d.Org, EndpointID: d.Endpoint, EventID: d.EventID.String(), Seq: uint64(d.Seq),
		Type: d.Type, Status: d.State.String(), Reason: d.Reason.String(), AttemptCount: d.Attempts,
		StoredAt: utc(d.Stored), CreatedAt: utc(d.FannedOut),
	}
	if d.State == deliver.Pending {
		b.NextAttemptAt = optional(d.Due)
	}
	return b
}

func attemptBody(k deliver.Key, t deliver.Attempt) AttemptBody {
	b := AttemptBody{
		ID: k.AttemptID(t.Started), Number: t.Number, Trigger: t.Trigger.String(), Time: utc(t.Started),
		StatusCode: t.Status, Error: t.Error, DurationMS: milliseconds(t.Duration),
		ResponseBody: strings.ToValidUTF8(string(t.Body), "�"), ResponseTruncated: t.Truncated,
	}
	if t.Class != deliver.OK {
		b.ErrorClass = t.Class.String()
	}
	if t.RetryAfter > 0 {
		after := Duration(t.RetryAfter)
		b.RetryAfter = &after
	}
	for _, name := range slices.Sorted(maps.Keys(t.Header)) {
		if b.ResponseHeaders == nil {
			b.ResponseHeaders = make(map[string]string, len(t.Header))
		}
		b.ResponseHeaders[strings.ToLower(name)] = strings.Join(t.Header[name], ", ")
	}
	return b
}
