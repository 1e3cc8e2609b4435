package httpapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/validation"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// Problem is every error of the API: a problem document (RFC 9457).
type Problem struct {
	Type       string       `json:"type" doc:"Names the kind of problem; stable"`
	Title      string       `json:"title"`
	Status     int          `json:"status"`
	Detail     string       `json:"detail,omitempty" doc:"What went wrong this time, for people"`
	Errors     []FieldError `json:"errors,omitempty" nullable:"false" doc:"Each bad field"`
	FeatureKey string       `json:"feature_key,omitempty" doc:"The feature that the organization's plan lacks"`
}

// FieldError names one bad field of a request. It never holds the value, which
// may be a secret.
type FieldError struct {
	Location string `json:"location" doc:"body.url, body[3].type, query.limit, path.org"`
	Message  string `json:"message"`
}

// Error is the detail and all bad fields, in one line.
func (p *Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.Detail)
	for i, e := range p.Errors {
		b.WriteString([]string{": ", "; "}[min(i, 1)])
		b.WriteString(strings.TrimPrefix(strings.TrimPrefix(e.Location, "body."), "query."))
		b.WriteString(": ")
		b.WriteString(e.Message)
	}
	return b.String()
}

// GetStatus implements huma.StatusError.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType implements huma.ContentTypeFilter.
func (p *Problem) ContentType(string) string { return problemType }

const problemType = "application/problem+json"

// kinds are the last parts of Problem.Type.
var kinds = map[int]string{
	http.StatusBadRequest:            "bad-request",
	http.StatusUnauthorized:          "unauthorized",
	http.StatusForbidden:             "forbidden",
	http.StatusPaymentRequired:       "plan-lacks-feature",
	http.StatusNotFound:              "not-found",
	http.StatusMethodNotAllowed:      "method-not-allowed",
	http.StatusRequestTimeout:        "timeout",
	http.StatusConflict:              "conflict",
	http.StatusPreconditionFailed:    "precondition-failed",
	http.StatusRequestEntityTooLarge: "too-large",
	http.StatusUnsupportedMediaType:  "media-type",
	http.StatusUnprocessableEntity:   "invalid",
	http.StatusTooManyRequests:       "too-many-requests",
	http.StatusServiceUnavailable:    "unavailable",
	http.StatusInsufficientStorage:   "full",
}

func newProblem(status int, detail string) *Problem {
	kind, ok := kinds[status]
	if !ok {
		kind = "internal"
	}
	return &Problem{Type: "urn:grapnel:" + kind, Title: http.StatusText(status), Status: status, Detail: detail}
}

// withHeader is a problem that comes with a header.
type withHeader struct {
	*Problem
	name, value string
}

// GetHeaders implements huma.HeadersError.
func (w *withHeader) GetHeaders() http.Header { return http.Header{w.name: {w.value}} }

func (w *withHeader) Unwrap() error { return w.Problem }

// later is a problem that has a moment after which trying again makes sense.
func later(p *Problem, seconds int) *withHeader {
	return &withHeader{p, "Retry-After", strconv.Itoa(seconds)}
}

// problemOf is what the caller is told of an error of the Service. thing is
// what the request was about; place is where its fields are, body or query.
func problemOf(ctx context.Context, log *slog.Logger, operation, thing, place string, err error) error {
	var (
		p       *Problem
		shaped  huma.StatusError
		invalid *Invalid
	)
	switch {
	case errors.As(err, &shaped):
		return err
	case errors.As(err, &invalid):
		p = newProblem(http.StatusUnprocessableEntity, "the request cannot be accepted")
		p.Errors = []FieldError{{Location: locate(place, invalid.Field), Message: invalid.Detail}}
		return p
	case errors.Is(err, fanout.ErrNoOrg):
		org, _ := ctx.Value(orgKey{}).(string)
		return noOrg(org)
	case errors.Is(err, ErrNotFound):
		return newProblem(http.StatusNotFound, "there is no "+thing)
	case errors.Is(err, ErrExists):
		return newProblem(http.StatusConflict, thing+" exists already")
	case errors.Is(err, ErrRevision):
		return newProblem(http.StatusPreconditionFailed, thing+" was changed since it was read; read it again")
	case errors.Is(err, ErrState):
		return newProblem(http.StatusConflict, strings.TrimSuffix(err.Error(), ": "+ErrState.Error()))
	case errors.Is(err, stream.ErrNoStream):
		return newProblem(http.StatusConflict, "the organization's stream does not exist on the broker")
	case errors.Is(err, ErrGated):
		p = newProblem(http.StatusPaymentRequired, "the organization's plan has no outgoing webhooks")
		p.FeatureKey = "outgoing_webhooks"
		return p
	case errors.Is(err, ErrBusy):
		return later(newProblem(http.StatusTooManyRequests, "too much is waiting; try again in a moment"), 1)
	case errors.Is(err, stream.ErrFull):
		return later(newProblem(http.StatusInsufficientStorage, "the broker has no room left: an event needs it in its stream, and a new stream reserves all that it may grow to; nothing was stored"), 30)
	case errors.Is(err, fanout.ErrFull):
		return later(newProblem(http.StatusInsufficientStorage, "there is no room left; nothing was stored"), 30)
	case errors.Is(err, stream.ErrUnavailable):
		return later(newProblem(http.StatusServiceUnavailable, "the broker does not answer; try again in a moment"), 1)
	case ctx.Err() != nil:
		return newProblem(http.StatusServiceUnavailable, "the request was given up")
	}
	log.Error("request failed", "operation", operation, "request", requestOf(ctx), "error", err)
	return newProblem(http.StatusInternalServerError, "an error of grapnel's own; its log says which")
}

// locate turns the field of an Invalid into a location.
func locate(place, field string) string {
	if rest, ok := strings.CutPrefix(field, "events["); ok {
		return place + "[" + rest
	}
	return place + "." + field
}

// orgKey is the context's key for the org of the request.
type orgKey struct{}

// shapeProblem is a huma.Transformer: it turns huma's own errors, about the form of
// a request, into Problems without the values at fault. A request that has
// fields or parameters we do not know is a 400, as is one that is not JSON; one
// whose values are out of bounds is a 422.
func shapeProblem(ctx huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	p := newProblem(m.Status, m.Detail)
	unknown := false
	for _, e := range m.Errors {
		if e == nil || e.Message == validation.MsgUnexpectedProperty { // strictly says it better
			continue
		}
		unknown = unknown || strings.HasPrefix(e.Message, unknownField) || e.Message == unknownParameter
		p.Errors = append(p.Errors, plain(e))
	}
	slices.SortStableFunc(p.Errors, func(a, b FieldError) int { return strings.Compare(a.Location, b.Location) })
	p.Errors = slices.Compact(p.Errors)
	p.Errors = p.Errors[:min(len(p.Errors), maxFieldErrors)]
	switch {
	case unknown:
		p.Status, p.Detail = http.StatusBadRequest, "the request has fields that are not known"
	case m.Status == http.StatusUnsupportedMediaType:
		p.Detail, p.Errors = "the body must be application/json", nil
	case m.Status == http.StatusRequestEntityTooLarge:
		p.Detail = "the body is too large"
	case m.Status == http.StatusBadRequest && len(p.Errors) > 0:
		p.Detail = "the body is not JSON that can be taken"
	case len(p.Errors) > 0:
		p.Detail = "the request cannot be accepted"
	}
	if o, ok := ctx.(*statusOverride); ok {
		o.status = p.Status
	}
	q := newProblem(p.Status, p.Detail)
	q.Errors = p.Errors
	return q, nil
}

// plain puts huma's words in ours, and a missing field in the place where it
// should be.
func plain(e *huma.ErrorDetail) FieldError {
	if name, ok := strings.CutPrefix(e.Message, "expected required property "); ok {
		return FieldError{Location: e.Location + "." + strings.TrimSuffix(name, " to be present"), Message: "is required"}
	}
	message := e.Message
	for _, w := range words {
		if rest, ok := strings.CutPrefix(message, w.huma); ok {
			message = w.ours
			if strings.HasSuffix(w.ours, " ") {
				message += strings.ReplaceAll(rest, `"`, "")
			}
			break
		}
	}
	return FieldError{Location: e.Location, Message: message}
}

// words are the beginnings of huma's messages. The rest follows where ours ends
// with a space; elsewhere it would repeat the value.
var words = []struct{ huma, ours string }{
	{"expected duration", "must be a duration, such as 30s or 8h"},
	{"invalid date/time", "must be an RFC 3339 time, such as 2026-11-21T10:00:00Z"},
	{"expected string to be RFC 3339 date-time", "must be an RFC 3339 time, such as 2026-11-21T10:00:00Z"},
	{"expected string to be ", "must be "},
	{"expected value to be one of ", "must be one of "},
	{"expected number >= ", "must be at least "},
	{"expected number <= ", "must be at most "},
	{"expected length >= 1", "must not be empty"},
	{"expected length <= ", "must not be longer than "},
	{"expected array length >= 1", "must not be empty"},
	{"expected array length <= ", "must not have more entries than "},
	{"expected integer", "must be an integer"},
	{"invalid integer", "must be an integer"},
	{"expected string", "must be a string"},
	{"expected boolean", "must be true or false"},
	{"expected number", "must be a number"},
	{"expected array", "must be an array"},
	{"expected object", "must be an object"},
}

// statusOverride lets shapeProblem choose the status after huma chose one.
type statusOverride struct {
	humaContext
	status int
}

// humaContext is embedded under a name that is not that of its method Context.
type humaContext = huma.Context

func (o *statusOverride) SetStatus(status int) {
	if o.status != 0 {
		status = o.status
	}
	o.humaContext.SetStatus(status)
}

// Unwrap lets the adapter find its own context.
func (o *statusOverride) Unwrap() huma.Context { return o.humaContext }
