package httpapi

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
)

// OptionsBody is the part of an endpoint that most leave as it is.
type OptionsBody struct {
	Format       string          `json:"format" example:"standard" doc:"The wire format of its requests"`
	Redact       []RedactionBody `json:"redact,omitempty" doc:"What is taken out of the data before it is signed and sent"`
	Filter       string          `json:"filter,omitempty" example:"data.amount > 1000" doc:"What an event has to fulfil beside its type and workspace"`
	RateLimit    float64         `json:"rate_limit,omitempty" example:"50" doc:"Requests that may begin in a second; absent: any number"`
	Ordered      bool            `json:"ordered" example:"false" doc:"One at a time, in the order of the stream"`
	OrderedBy    string          `json:"ordered_by,omitempty" example:"/data/customer_id" doc:"In the order of the stream for each value of this JSON Pointer"`
	DisableAfter string          `json:"disable_after" example:"120h" doc:"How long it may fail without one success before it is disabled, or off"`
	Paused       bool            `json:"paused" example:"false" doc:"Its deliveries are made and held back"`
	TraceParent  string          `json:"traceparent,omitempty" enum:"off" example:"off" doc:"off: its requests carry no trace context; absent: they do"`
}

// RedactionBody is one thing that is taken out of an event's data.
type RedactionBody struct {
	Types   []string        `json:"types,omitempty" nullable:"false" maxItems:"100" example:"[\"patient.*\"]" doc:"Of these event types only; every one, when left out"`
	Path    string          `json:"path" minLength:"1" maxLength:"512" example:"/data/customer/email" doc:"A JSON Pointer that begins with /data; * stands for every element or member"`
	Replace json.RawMessage `json:"replace,omitempty" example:"\"[redacted]\"" doc:"JSON that takes its place; left out, it is removed"`
}

// OptionsChange is OptionsBody in a request: what is left out has its default
// (create) or stays (update).
type OptionsChange struct {
	Format       *string          `json:"format,omitempty" nullable:"false" maxLength:"64" example:"standard" doc:"The wire format of its requests: standard, another that is built in, or one of the configuration file"`
	Redact       *[]RedactionBody `json:"redact,omitempty" nullable:"false" maxItems:"50" doc:"Takes the place of all there are"`
	Filter       Clearable        `json:"filter,omitzero" example:"data.amount > 1000" doc:"What an event has to fulfil beside its type and workspace; null: nothing"`
	RateLimit    *float64         `json:"rate_limit,omitempty" minimum:"0" maximum:"10000" example:"50" doc:"Requests that may begin in a second; 0: any number"`
	Ordered      *bool            `json:"ordered,omitempty" nullable:"false" example:"false" doc:"One at a time, in the order of the stream: one that fails holds back those behind it"`
	OrderedBy    Clearable        `json:"ordered_by,omitzero" example:"/data/customer_id" doc:"A JSON Pointer: the order holds for each value of it, and one that fails holds back those of its value; null: nothing"`
	DisableAfter *string          `json:"disable_after,omitempty" nullable:"false" maxLength:"32" example:"120h" doc:"How long it may fail without one success before it is disabled: 1h to 720h, or off"`
	Paused       *bool            `json:"paused,omitempty" nullable:"false" example:"false" doc:"true holds its deliveries back and goes on making them"`
	TraceParent  *string          `json:"traceparent,omitempty" nullable:"false" enum:"on,off" example:"off" doc:"off leaves the header traceparent out of its requests; on sends it, when there is a trace to continue"`
}

// off is the disable_after of an endpoint that is never disabled for failing.
const off = "off"

// apply is what the request says, to be done to the options of an endpoint; nil
// when it says nothing of them.
func (c OptionsChange) apply() (func(*deliver.Options), error) {
	var after time.Duration
	if c.DisableAfter != nil {
		after = deliver.NeverDisable
		if text := *c.DisableAfter; text != off {
			var d Duration
			if err := d.UnmarshalText([]byte(text)); err != nil {
				return nil, &Invalid{Field: "disable_after", Detail: err.Error() + ", or off"}
			}
			if after = time.Duration(d); after <= 0 {
				return nil, &Invalid{Field: "disable_after", Detail: fmt.Sprintf("%q: want %v to %v, or off", text, Duration(deliver.MinDisableAfter), Duration(deliver.MaxDisableAfter))}
			}
		}
	}
	if c.Format == nil && c.Redact == nil && !c.Filter.Given && c.RateLimit == nil && c.Ordered == nil && !c.OrderedBy.Given && c.DisableAfter == nil && c.Paused == nil && c.TraceParent == nil {
		return nil, nil
	}
	return func(o *deliver.Options) {
		give(&o.Format, c.Format)
		if c.Redact != nil {
			o.Redact = redactions(*c.Redact)
		}
		give(&o.Filter, c.Filter.pointer())
		give(&o.RateLimit, c.RateLimit)
		give(&o.Ordered, c.Ordered)
		give(&o.OrderedBy, c.OrderedBy.pointer())
		if c.DisableAfter != nil {
			o.DisableAfter = after
		}
		give(&o.Paused, c.Paused)
		if c.TraceParent != nil {
			o.TraceParent = strings.TrimPrefix(*c.TraceParent, "on")
		}
	}, nil
}

func give[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

func redactions(bodies []RedactionBody) []deliver.Redaction {
	var all []deliver.Redaction
	for _, b := range bodies {
		all = append(all, deliver.Redaction{Types: b.Types, Path: b.Path, Replace: b.Replace})
	}
	return all
}

func optionsBody(o deliver.Options) OptionsBody {
	b := OptionsBody{
		Format: o.Format, Filter: o.Filter, RateLimit: o.RateLimit, Ordered: o.Ordered, OrderedBy: o.OrderedBy,
		DisableAfter: off, Paused: o.Paused, TraceParent: o.TraceParent,
	}
	if b.Format == "" {
		b.Format = deliver.FormatStandard
	}
	switch {
	case o.DisableAfter == 0:
		b.DisableAfter = Duration(deliver.DisableAfter).String()
	case o.DisableAfter > 0:
		b.DisableAfter = Duration(o.DisableAfter).String()
	}
	for _, r := range o.Redact {
		b.Redact = append(b.Redact, RedactionBody{Types: r.Types, Path: r.Path, Replace: r.Replace})
	}
	return b
}
