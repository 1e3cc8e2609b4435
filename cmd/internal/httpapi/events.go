package httpapi

import (
	"context"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/grapnel-hooks/grapnel/stream"
)

type EventPath struct {
	OrgPath
	ID string `path:"id" maxLength:"64" doc:"evt_…, or the event's sequence in the stream"`
}

func (p EventPath) thing() string { return itemThing("event", p.ID, p.Org) }

type eventQuery struct {
	OrgPath
	Page
	Type      string    `query:"type" maxLength:"130" doc:"Exact, * or a prefix such as invoice.*"`
	Workspace string    `query:"workspace_id" maxLength:"64"`
	Since     time.Time `query:"since" doc:"Stored at or after"`
	Until     time.Time `query:"until" doc:"Stored before"`
}

func (a *api) events() {
	const tag, all, one = "events", base + "/orgs/{org}/events", base + "/orgs/{org}/events/{id}"
	schemas := a.huma.OpenAPI().Components.Schemas
	single := schemas.Schema(typeOf[EventCreate](), true, "EventCreate")
	acked := schemas.Schema(typeOf[AppendedBody](), true, "AppendedBody")
	most := MaxAppend
	either := func(s *huma.Schema) *huma.Schema {
		return &huma.Schema{OneOf: []*huma.Schema{s, {Type: huma.TypeArray, Items: s, MaxItems: &most}}}
	}
	content := func(s *huma.Schema) map[string]*huma.MediaType {
		return map[string]*huma.MediaType{"application/json": {Schema: either(s)}}
	}
	handle(a, route{id: "append-events", method: http.MethodPost, path: all, status: http.StatusCreated, tag: tag, access: access{scope: EventsWrite},
		summary: "Append one event, or an array of up to 1,000", maxBody: maxEventsBody, creates: true, flights: newFlights(load{maxAppends, maxAppendBytes}, 2),
		describe: func(op *huma.Operation) {
			op.SkipValidateBody = true // newEvent says which of the events is bad
			op.RequestBody = &huma.RequestBody{Required: true, Content: content(single)}
			op.Responses = map[string]*huma.Response{"201": {Description: "Stored", Content: content(acked)}}
		}}, a.appendEvents)
	handle(a, route{id: "list-events", method: http.MethodGet, path: all, tag: tag, access: access{scope: WebhooksRead, gated: true}, flights: a.searches,
		summary: "List the stream's events, newest first"}, a.listEvents)
	handle(a, route{id: "get-event", method: http.MethodGet, path: one, tag: tag, access: access{scope: WebhooksRead, gated: true}, flights: a.searches, summary: "Show an event"},
		func(ctx context.Context, in *EventPath) (*answer[EventBody], error) {
			ev, err := a.event(ctx, in)
			if err != nil {
				return nil, err
			}
			return &answer[EventBody]{eventBody(ev)}, nil
		})
}

func (a *api) event(ctx context.Context, in *EventPath) (stream.Event, error) {
	if seq, err := strconv.ParseUint(in.ID, 10, 64); err == nil && seq > 0 {
		return a.svc.EventAt(ctx, in.Org, stream.Seq(seq))
	}
	id, err := stream.ParseID(in.ID)
	if err != nil {
		return stream.Event{}, ErrNotFound
	}
	return a.svc.Event(ctx, in.Org, id)
}

func (a *api) listEvents(ctx context.Context, in *eventQuery) (*answer[List[EventBody]], error) {
	var before uint64
	if err := in.after("event", "%d", &before); err != nil {
		return nil, err
	}
	f := EventFilter{Type: in.Type, Workspace: in.Workspace, Since: in.Since, Until: in.Until}
	events, next, err := a.svc.Events(ctx, in.Org, f, stream.Seq(before), in.Limit)
	if err != nil {
		return nil, err
	}
	out := &answer[List[EventBody]]{Body: List[EventBody]{Data: shaped(events, eventBody)}}
	if next != 0 {
		out.Body.NextCursor = cursorAt("event", "%d", uint64(next))
	}
	return out, nil
}

func eventBody(e stream.Event) EventBody {
	return EventBody{
		ID: e.ID.String(), Org: e.Org, Seq: uint64(e.Seq), Type: e.Type, Time: utc(e.Time), StoredAt: utc(e.Stored),
		WorkspaceID: e.Workspace, SchemaVersion: e.SchemaVersion, Source: e.Source, DedupeKey: e.DedupeKey,
		TraceParent: e.TraceParent, Data: e.Data,
	}
}

func typeOf[T any]() reflect.Type { return reflect.TypeFor[T]() }
