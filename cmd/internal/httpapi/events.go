package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/grapnel-hooks/grapnel/stream"
)

// MaxAppend is how many events one request may append.
const MaxAppend = 1000

type EventPath struct {
	OrgPath
	ID string `path:"id" maxLength:"64" doc:"evt_…, or the event's sequence in the stream"`
}

func (p EventPath) thing() string { return itemThing("event", p.ID, p.Org) }

type appendInput struct {
	OrgPath
	RawBody []byte
}

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
		summary: "Append one event, or an array of up to 1,000", maxBody: maxEventsBody, creates: true,
		describe: func(op *huma.Operation) {
			op.SkipValidateBody = true // newEvent says which of the events is bad
			op.RequestBody = &huma.RequestBody{Required: true, Content: content(single)}
			op.Responses = map[string]*huma.Response{"201": {Description: "Stored", Content: content(acked)}}
		}}, a.appendEvents)
	handle(a, route{id: "list-events", method: http.MethodGet, path: all, tag: tag, access: access{scope: WebhooksRead, gated: true},
		summary: "List the stream's events, newest first"}, a.listEvents)
	handle(a, route{id: "get-event", method: http.MethodGet, path: one, tag: tag, access: access{scope: WebhooksRead, gated: true}, summary: "Show an event"},
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

// appendEvents answers with one object for one event, and an array for an
// array.
func (a *api) appendEvents(ctx context.Context, in *appendInput) (*created[json.RawMessage], error) {
	raws, many, err := splitEvents(in.RawBody)
	if err != nil {
		return nil, err
	}
	events := make([]NewEvent, len(raws))
	var errs []error
	for i, raw := range raws {
		at := "body"
		if many {
			at = fmt.Sprintf("body[%d]", i)
		}
		var bad []error
		events[i], bad = a.newEvent(raw, at)
		if errs = append(errs, bad...); len(errs) > 20 {
			break // enough to see what is wrong
		}
	}
	if len(errs) > 0 {
		return nil, huma.NewError(http.StatusUnprocessableEntity, "validation failed", errs...)
	}
	return makeOnce(ctx, a, func(ctx context.Context) ([]Appended, error) { return a.svc.Append(ctx, in.Org, events) },
		func(done []Appended) json.RawMessage {
			bodies := shaped(done, func(d Appended) AppendedBody {
				return AppendedBody{ID: d.ID.String(), Seq: uint64(d.Seq), Duplicate: d.Duplicate}
			})
			var text []byte
			if many {
				text, _ = json.Marshal(bodies) // numbers and texts can always be encoded
			} else {
				text, _ = json.Marshal(bodies[0])
			}
			return text
		})
}

// splitEvents tells an array of events from a single one.
func splitEvents(raw []byte) (events []json.RawMessage, many bool, err error) {
	var whole json.RawMessage
	if err := decodeJSON(raw, &whole); err != nil {
		p := newProblem(http.StatusBadRequest, "the body is not JSON")
		p.Errors = []FieldError{{Location: "body", Message: err.Error()}}
		return nil, false, p
	}
	if !bytes.HasPrefix(whole, []byte("[")) {
		return []json.RawMessage{whole}, false, nil
	}
	if err := json.Unmarshal(whole, &events); err != nil {
		return nil, true, err
	}
	if len(events) == 0 || len(events) > MaxAppend {
		p := newProblem(http.StatusUnprocessableEntity, "the request cannot be accepted")
		p.Errors = []FieldError{{Location: "body", Message: fmt.Sprintf("has %d events: send 1 to %d at once", len(events), MaxAppend)}}
		return nil, true, p
	}
	return events, true, nil
}

// newEvent checks one event of the body and reads it.
func (a *api) newEvent(raw json.RawMessage, at string) (NewEvent, []error) {
	var loose any
	if err := json.Unmarshal(raw, &loose); err != nil {
		return NewEvent{}, []error{&huma.ErrorDetail{Location: at, Message: err.Error()}}
	}
	schemas := a.huma.OpenAPI().Components.Schemas
	var res huma.ValidateResult
	huma.Validate(schemas, schemas.Schema(typeOf[EventCreate](), false, ""), huma.NewPathBuffer([]byte(at), len(at)),
		huma.ModeWriteToServer, loose, &res)
	if errs := append(res.Errors, strictly(typeOf[EventCreate](), raw, at)...); len(errs) > 0 {
		return NewEvent{}, errs
	}
	var e EventCreate
	if err := json.Unmarshal(raw, &e); err != nil {
		return NewEvent{}, []error{&huma.ErrorDetail{Location: at, Message: err.Error()}}
	}
	n := NewEvent{
		Type: e.Type, Data: e.Data, Workspace: e.WorkspaceID, DedupeKey: e.DedupeKey,
		SchemaVersion: e.SchemaVersion, Source: e.Source,
	}
	if e.Time != nil {
		n.Time = *e.Time
	}
	return n, nil
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
