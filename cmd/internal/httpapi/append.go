package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// MaxAppend is how many events one request may append.
const MaxAppend = 1000

type appendInput struct {
	OrgPath
	RawBody []byte
}

// appendEvents answers with one object for one event, and an array for an
// array.
func (a *api) appendEvents(ctx context.Context, in *appendInput) (*created[json.RawMessage], error) {
	events, many, ok := quickEvents(in.RawBody)
	if !ok {
		var err error
		if events, many, err = a.carefulEvents(in.RawBody); err != nil {
			return nil, err
		}
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

// carefulEvents reads the body of an append and says what is wrong with it. Its
// errors are problems.
func (a *api) carefulEvents(body []byte) (events []NewEvent, many bool, err error) {
	raws, many, err := splitEvents(body)
	if err != nil {
		return nil, many, err
	}
	events = make([]NewEvent, len(raws))
	var errs []error
	for i, raw := range raws {
		at := "body"
		if many {
			at = fmt.Sprintf("body[%d]", i)
		}
		var bad []error
		events[i], bad = a.newEvent(raw, at)
		if errs = append(errs, bad...); len(errs) > maxFieldErrors {
			break
		}
	}
	if len(errs) > 0 {
		return nil, many, huma.NewError(http.StatusUnprocessableEntity, "validation failed", errs...)
	}
	return events, many, nil
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
