package httpapi

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/grapnel-hooks/grapnel/fanout/catalogue"
)

// EventType is one version of an event type of the catalogue.
type EventType struct {
	catalogue.Type
	Versions             []string // all that the type has, the oldest first
	CreatedAt, UpdatedAt time.Time
}

// EventTypeFilter narrows a list of event types.
type EventTypeFilter struct {
	Group      string
	Deprecated *bool // nil: either
}

// Catalogue is the part of a Service that knows the installation's event types.
// What is wrong with a type is a [*catalogue.Error].
type Catalogue interface {
	// AddEventType makes a version of a type. It wraps ErrExists.
	AddEventType(ctx context.Context, t catalogue.Type) (EventType, error)
	// PutEventType makes a version of a type, or takes the place of the one
	// that is there.
	PutEventType(ctx context.Context, t catalogue.Type) (EventType, error)
	// ImportEventTypes puts all or none. It returns how many were new or
	// differed from what was there.
	ImportEventTypes(ctx context.Context, types []catalogue.Type) (changed int, err error)
	// RemoveEventType removes one version, or with "" all of them.
	RemoveEventType(ctx context.Context, name, version string) error
	// EventType reads one version, or with "" the newest.
	EventType(ctx context.Context, name, version string) (EventType, error)
	// EventTypes lists up to limit types whose name comes after the given one,
	// ascending: of each the newest version.
	EventTypes(ctx context.Context, f EventTypeFilter, after string, limit int) ([]EventType, error)
	// ExportEventTypes reads all versions of all types, by name and version.
	ExportEventTypes(ctx context.Context) ([]catalogue.Type, error)
}

// EventTypePut is the body of PUT /event-types/{type}.
type EventTypePut struct {
	SchemaVersion string          `json:"schema_version,omitempty" maxLength:"64" default:"1" example:"1" doc:"Which version of the type this is"`
	Group         string          `json:"group,omitempty" maxLength:"64" example:"billing" doc:"For people"`
	Description   string          `json:"description,omitempty" maxLength:"2000" example:"An invoice was paid in full." doc:"For people"`
	Deprecated    bool            `json:"deprecated,omitempty" doc:"For people: nobody should begin to use it"`
	Schema        json.RawMessage `json:"schema,omitempty" example:"{\"type\":\"object\",\"required\":[\"invoice\"]}" doc:"JSON Schema (2020-12) of the data, at most 64 KiB; without it any data"`
	Example       json.RawMessage `json:"example,omitempty" example:"{\"invoice\":\"in_1\"}" doc:"Data that keep to the schema, at most 64 KiB"`
}

// EventTypeCreate is the body of POST /event-types, and an entry of an import.
type EventTypeCreate struct {
	Name string `json:"name" minLength:"1" maxLength:"128" pattern:"^[A-Za-z0-9_-]+(\\.[A-Za-z0-9_-]+)*$" patternDescription:"tokens of letters, digits, _ and -, joined by dots" example:"invoice.paid"`
	EventTypePut
}

// EventTypeBody is one version of an event type in an answer.
type EventTypeBody struct {
	Name          string          `json:"name" example:"invoice.paid"`
	SchemaVersion string          `json:"schema_version" example:"1"`
	Versions      []string        `json:"versions" nullable:"false" example:"[\"1\"]" doc:"All schema versions that the type has, the oldest first"`
	Group         string          `json:"group,omitempty" example:"billing"`
	Description   string          `json:"description,omitempty" example:"An invoice was paid in full."`
	Deprecated    bool            `json:"deprecated"`
	Schema        json.RawMessage `json:"schema,omitempty" example:"{\"type\":\"object\",\"required\":[\"invoice\"]}"`
	Example       json.RawMessage `json:"example,omitempty" example:"{\"invoice\":\"in_1\"}"`
	CreatedAt     time.Time       `json:"created_at"`
	UpdatedAt     time.Time       `json:"updated_at"`
}

// EventTypeList is the body of POST /event-types/import and of the answer of GET
// /event-types/export, and what a file of event types holds.
type EventTypeList struct {
	EventTypes []EventTypeCreate `json:"event_types" nullable:"false" maxItems:"10000" example:"[{\"name\":\"invoice.voided\",\"schema_version\":\"1\",\"group\":\"billing\",\"schema\":{\"type\":\"object\"},\"example\":{\"invoice\":\"in_1\"}}]"`
}

// EventTypesImported is the answer to POST /event-types/import.
type EventTypesImported struct {
	Total   int `json:"total" example:"12" doc:"In the request"`
	Changed int `json:"changed" example:"2" doc:"Of them, new or different from what was there"`
}

// maxImport is the largest body of an import: a whole catalogue, and its names.
const maxImport = 2 * catalogue.MaxTotal

// EventTypePath is the path of one event type.
type EventTypePath struct {
	Type string `path:"type" minLength:"1" maxLength:"128" pattern:"^[A-Za-z0-9_-]+(\\.[A-Za-z0-9_-]+)*$" patternDescription:"tokens of letters, digits, _ and -, joined by dots"`
}

type eventTypeCreate struct{ Write[EventTypeCreate] }

func (p *eventTypeCreate) thing() string {
	return "event type " + p.Body.Name + " version " + cmp.Or(p.Body.SchemaVersion, catalogue.DefaultVersion)
}

type eventTypePut struct {
	EventTypePath
	Write[EventTypePut]
}

type eventTypeVersion struct {
	EventTypePath
	Version string `query:"version" maxLength:"64" doc:"A schema version of the type"`
}

func (p *eventTypeVersion) thing() string {
	if p.Version != "" {
		return "event type " + p.Type + " version " + p.Version
	}
	return "event type " + p.Type
}

type eventTypeQuery struct {
	Page
	Group      string `query:"group" maxLength:"64"`
	Deprecated string `query:"deprecated" enum:"true,false"`
}

func (a *api) catalogue() {
	const tag, all = "event types", base + "/event-types"
	const one = all + "/{type}"
	read, write := access{scope: WebhooksRead}, access{scope: Admin, operator: true}
	handleNew(a, route{id: "add-event-type", method: http.MethodPost, path: all, status: http.StatusCreated, tag: tag, access: write,
		summary: "Add a version of an event type to the catalogue"},
		func(ctx context.Context, in *eventTypeCreate) (EventType, error) {
			made, err := a.svc.AddEventType(ctx, in.Body.typed())
			return made, badType(err)
		}, eventTypeBody)
	handle(a, route{id: "list-event-types", method: http.MethodGet, path: all, tag: tag, access: read,
		summary: "List the catalogue's event types by name, each with its newest schema version"}, a.listEventTypes)
	handle(a, route{id: "import-event-types", method: http.MethodPost, path: all + "/import", tag: tag, access: write, maxBody: maxImport,
		summary: "Put all event types of a list, or none; those that it does not name stay"}, a.importEventTypes)
	handle(a, route{id: "export-event-types", method: http.MethodGet, path: all + "/export", tag: tag, access: read,
		summary: "The whole catalogue, as it can be imported"},
		func(ctx context.Context, _ *struct{}) (*answer[EventTypeList], error) {
			types, err := a.svc.ExportEventTypes(ctx)
			if err != nil {
				return nil, err
			}
			return &answer[EventTypeList]{EventTypeList{shaped(types, EventTypeEntry)}}, nil
		})
	handle(a, route{id: "get-event-type", method: http.MethodGet, path: one, tag: tag, access: read,
		summary: "Show an event type, in its newest schema version or in another"},
		func(ctx context.Context, in *eventTypeVersion) (*answer[EventTypeBody], error) {
			return shapedType(a.svc.EventType(ctx, in.Type, in.Version))
		})
	handle(a, route{id: "put-event-type", method: http.MethodPut, path: one, tag: tag, access: write,
		summary: "Make a version of an event type, or replace it as a whole"},
		func(ctx context.Context, in *eventTypePut) (*answer[EventTypeBody], error) {
			return shapedType(a.svc.PutEventType(ctx, EventTypeCreate{in.Type, in.Body}.typed()))
		})
	handle(a, route{id: "remove-event-type", method: http.MethodDelete, path: one, status: http.StatusNoContent, tag: tag, access: write,
		summary: "Remove an event type, or one schema version of it"},
		func(ctx context.Context, in *eventTypeVersion) (*struct{}, error) {
			return &struct{}{}, a.svc.RemoveEventType(ctx, in.Type, in.Version)
		})
}

func (a *api) listEventTypes(ctx context.Context, in *eventTypeQuery) (*answer[List[EventTypeBody]], error) {
	var after string
	if err := in.after("event_type", "%s", &after); err != nil {
		return nil, err
	}
	f := EventTypeFilter{Group: in.Group}
	if in.Deprecated != "" {
		only := in.Deprecated == "true"
		f.Deprecated = &only
	}
	found, err := a.svc.EventTypes(ctx, f, after, in.more())
	if err != nil {
		return nil, err
	}
	return listed(found, in.Limit, eventTypeBody, func(t EventType) *string { return cursorAt("event_type", "%s", t.Name) }), nil
}

// importEventTypes checks each type by itself, so that the answer names all that
// are wrong.
func (a *api) importEventTypes(ctx context.Context, in *struct{ Write[EventTypeList] }) (*answer[EventTypesImported], error) {
	p := newProblem(http.StatusUnprocessableEntity, "the request cannot be accepted")
	types := make([]catalogue.Type, len(in.Body.EventTypes))
	seen := map[[2]string]bool{}
	for i, b := range in.Body.EventTypes {
		types[i] = b.typed()
		_, err := catalogue.Compile(types[i : i+1])
		if key := [2]string{types[i].Name, types[i].Version}; seen[key] {
			err = &catalogue.Error{Field: "name", Detail: "is there twice with the same schema_version"}
		} else {
			seen[key] = true
		}
		var wrong *catalogue.Error
		if errors.As(err, &wrong) {
			p.Errors = append(p.Errors, FieldError{Location: fmt.Sprintf("body.event_types[%d].%s", i, cmp.Or(wrong.Field, "name")), Message: wrong.Detail})
		}
		if len(p.Errors) == maxFieldErrors {
			break
		}
	}
	if len(p.Errors) > 0 {
		return nil, p
	}
	changed, err := a.svc.ImportEventTypes(ctx, types)
	var wrong *catalogue.Error
	if errors.As(err, &wrong) { // with what is there already
		return nil, &Invalid{Field: "event_types", Detail: wrong.Error()}
	}
	if err != nil {
		return nil, err
	}
	return &answer[EventTypesImported]{EventTypesImported{Total: len(types), Changed: changed}}, nil
}

// badType turns what is wrong with a type into an answer about its field.
func badType(err error) error {
	var wrong *catalogue.Error
	if errors.As(err, &wrong) {
		return &Invalid{Field: cmp.Or(wrong.Field, "name"), Detail: wrong.Detail}
	}
	return err
}

func shapedType(t EventType, err error) (*answer[EventTypeBody], error) {
	if err != nil {
		return nil, badType(err)
	}
	return &answer[EventTypeBody]{eventTypeBody(t)}, nil
}

// typed is the type that a request is about.
func (b EventTypeCreate) typed() catalogue.Type {
	return catalogue.Type{
		Name: b.Name, Version: b.SchemaVersion, Group: b.Group, Description: b.Description, Deprecated: b.Deprecated,
		Schema: compacted(b.Schema), Example: compacted(b.Example),
	}.Normal()
}

// compacted is JSON without space, so that the same type in another layout is no
// change.
func compacted(raw json.RawMessage) json.RawMessage {
	var b bytes.Buffer
	if len(raw) == 0 || json.Compact(&b, raw) != nil {
		return nil
	}
	return b.Bytes()
}

// EventTypeEntry is a type as it is imported and exported.
func EventTypeEntry(t catalogue.Type) EventTypeCreate {
	return EventTypeCreate{t.Name, EventTypePut{
		SchemaVersion: t.Version, Group: t.Group, Description: t.Description, Deprecated: t.Deprecated, Schema: t.Schema, Example: t.Example,
	}}
}

func eventTypeBody(t EventType) EventTypeBody {
	return EventTypeBody{
		Name: t.Name, SchemaVersion: t.Version, Versions: append([]string{}, t.Versions...), Group: t.Group, Description: t.Description,
		Deprecated: t.Deprecated, Schema: t.Schema, Example: t.Example, CreatedAt: utc(t.CreatedAt), UpdatedAt: utc(t.UpdatedAt),
	}
}
