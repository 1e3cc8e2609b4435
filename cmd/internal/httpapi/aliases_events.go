package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
)

// IntegrationEvent is an event in the answer of GET /integrations/events.
type IntegrationEvent struct {
	EventID       string          `json:"event_id" example:"evt_4S7T0N3M8Q1V5X2Z6B9C0D4F7G"`
	EventType     string          `json:"event_type" example:"order.released"`
	Payload       json.RawMessage `json:"payload" example:"{\"order\":\"4711\"}" doc:"The event's data"`
	SchemaVersion string          `json:"schema_version" example:"1"`
	DedupeKey     string          `json:"dedupe_key,omitempty" example:"order-4711-released"`
	TenantID      string          `json:"tenant_id" example:"acme" doc:"The organization"`
	WorkspaceID   string          `json:"workspace_id,omitempty" example:"line-4"`
	OccurredAt    time.Time       `json:"occurred_at" doc:"When it happened, as the publisher says"`
	RecordedAt    time.Time       `json:"recorded_at" doc:"When the stream stored it"`
}

// WebhookLog is a delivery in the answer of GET /integrations/webhooks, with its
// attempts.
type WebhookLog struct {
	DeliveryID     string       `json:"delivery_id" example:"dlv_01KB2Q3X8V9W0Y1Z2A3B4C5D6E"`
	SubscriptionID string       `json:"subscription_id" example:"ep_01KB2Q3X8V9W0Y1Z2A3B4C5D6E"`
	EventID        string       `json:"event_id" example:"evt_4S7T0N3M8Q1V5X2Z6B9C0D4F7G"`
	EventType      string       `json:"event_type" example:"order.released"`
	Status         string       `json:"status" enum:"pending,delivered,dead,cancelled"`
	Attempts       []LogAttempt `json:"attempts" nullable:"false" doc:"Oldest first; a replay adds to them"`
	NextAttemptAt  *time.Time   `json:"next_attempt_at" doc:"When pending: not before this, null is at once; else null"`
	CreatedAt      time.Time    `json:"created_at"`
}

// LogAttempt is one request in a WebhookLog.
type LogAttempt struct {
	Number       int       `json:"number" example:"1"`
	Trigger      string    `json:"trigger" enum:"first,retry,manual,replay,test"`
	AttemptedAt  time.Time `json:"attempted_at"`
	ResponseCode *int      `json:"response_code" example:"503" doc:"null: no answer came"`
	Error        string    `json:"error,omitempty" example:"http_5xx"`
	DurationMS   float64   `json:"duration_ms" example:"12.5"`
}

// IntegrationQuery is the query of both lists.
type IntegrationQuery struct {
	Page
	EventType string    `query:"event_type" maxLength:"130" doc:"Exact, * or a prefix such as invoice.*"`
	Since     time.Time `query:"since" doc:"Stored at or after"`
	Until     time.Time `query:"until" doc:"Stored before"`
}

type logQuery struct {
	IntegrationQuery
	Subscription string `query:"subscription_id" maxLength:"64" doc:"ep_…"`
	Event        string `query:"event_id" maxLength:"64" doc:"evt_…"`
	Status       string `query:"status" enum:"pending,delivered,dead,cancelled"`
}

// IntegrationReplay is the body of POST /integrations/events/{id}/replay.
type IntegrationReplay struct {
	SubscriptionID string `json:"subscription_id,omitempty" maxLength:"64" doc:"ep_…: only to this endpoint; without it to every one that had the event"`
}

type integrationReplay struct {
	ID string `path:"id" maxLength:"64" doc:"evt_…"`
	Write[IntegrationReplay]
}

func (in *integrationReplay) thing() string { return "event " + in.ID }

func (a *api) integrations() {
	handle(a, route{id: "list-integration-events", method: http.MethodGet, path: base + "/integrations/events", tag: aliasTag,
		access: access{scope: WebhooksRead, gated: true, tenant: true}, flights: a.searches, summary: "List the stream's events, as list-events"},
		func(ctx context.Context, in *IntegrationQuery) (*answer[List[IntegrationEvent]], error) {
			found, err := a.listEvents(ctx, &eventQuery{
				OrgPath: tenant(ctx), Page: in.Page, Type: in.EventType, Since: in.Since, Until: in.Until,
			})
			if err != nil {
				return nil, err
			}
			return relisted(found, integrationEvent), nil
		})
	handle(a, route{id: "list-webhook-logs", method: http.MethodGet, path: base + "/integrations/webhooks", tag: aliasTag,
		access: access{scope: WebhooksRead, gated: true, tenant: true}, summary: "List deliveries with their attempts, as list-deliveries and get-delivery"},
		a.listLogs)
	handle(a, route{id: "replay-integration-event", method: http.MethodPost, path: base + "/integrations/events/{id}/replay", status: http.StatusAccepted, tag: aliasTag,
		access: access{scope: WebhooksManage, gated: true, tenant: true}, bodyless: true, flights: a.searches,
		summary: "Send an event again, as replay-event; the answer is the deliveries as list-webhook-logs has them"},
		func(ctx context.Context, in *integrationReplay) (*answer[List[WebhookLog]], error) {
			found, err := a.replayEvent(ctx, EventPath{OrgPath: tenant(ctx), ID: in.ID}, in.Body.SubscriptionID)
			if err != nil {
				return nil, renamed(err, "endpoint_id", "subscription_id")
			}
			return a.logs(ctx, found)
		})
}

// relisted is a page in the shape of an alias.
func relisted[A, B any](page *answer[List[A]], shape func(A) B) *answer[List[B]] {
	return &answer[List[B]]{List[B]{shaped(page.Body.Data, shape), page.Body.NextCursor}}
}

func integrationEvent(e EventBody) IntegrationEvent {
	return IntegrationEvent{
		EventID: e.ID, EventType: e.Type, Payload: e.Data, SchemaVersion: e.SchemaVersion, DedupeKey: e.DedupeKey,
		TenantID: e.Org, WorkspaceID: e.WorkspaceID, OccurredAt: e.Time, RecordedAt: e.StoredAt,
	}
}

func (a *api) listLogs(ctx context.Context, in *logQuery) (*answer[List[WebhookLog]], error) {
	found, err := a.listDeliveries(ctx, &deliveryQuery{
		OrgPath: tenant(ctx), Page: in.Page, Endpoint: in.Subscription, Event: in.Event, Type: in.EventType, Status: in.Status,
		Since: in.Since, Until: in.Until,
	})
	if err != nil {
		return nil, err
	}
	return a.logs(ctx, found)
}

// logs are deliveries with their attempts.
func (a *api) logs(ctx context.Context, found *answer[List[DeliveryBody]]) (*answer[List[WebhookLog]], error) {
	org := tenant(ctx)
	out := relisted(found, webhookLog)
	for i := range out.Body.Data {
		l := &out.Body.Data[i]
		key, err := DeliveryPath{OrgPath: org, ID: l.DeliveryID}.key()
		if err != nil {
			return nil, err
		}
		_, attempts, err := a.svc.Delivery(ctx, org.Org, key)
		if errors.Is(err, ErrNotFound) {
			continue // it ended its time in the books since it was listed
		}
		if err != nil {
			return nil, err
		}
		l.Attempts = shaped(attempts, func(t deliver.Attempt) LogAttempt { return logAttempt(attemptBody(key, t)) })
	}
	return out, nil
}

func webhookLog(d DeliveryBody) WebhookLog {
	return WebhookLog{
		DeliveryID: d.ID, SubscriptionID: d.EndpointID, EventID: d.EventID, EventType: d.Type, Status: d.Status,
		Attempts: []LogAttempt{}, NextAttemptAt: d.NextAttemptAt, CreatedAt: d.CreatedAt,
	}
}

func logAttempt(t AttemptBody) LogAttempt {
	l := LogAttempt{Number: t.Number, Trigger: t.Trigger, AttemptedAt: t.Time, Error: t.Error, DurationMS: t.DurationMS}
	if t.StatusCode != 0 {
		l.ResponseCode = &t.StatusCode
	}
	if l.Error == "" {
		l.Error = t.ErrorClass
	}
	return l
}
