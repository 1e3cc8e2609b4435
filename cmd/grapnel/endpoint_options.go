package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/spf13/pflag"
)

// optionFlags are the settings of an endpoint that most leave as they are.
type optionFlags struct {
	format, filter, orderedBy, disableAfter string
	redact                                  []string
	rate                                    float64
	ordered                                 bool
	traceParent                             string
}

func (o *optionFlags) define(f *pflag.FlagSet, fresh bool) {
	inPlace := ""
	if !fresh {
		inPlace = "; takes the place of all there are, '' drops them"
	}
	f.StringVar(&o.format, "format", "standard", "wire format `name` of its requests")
	f.StringArrayVar(&o.redact, "redact", nil, "`[TYPE:]POINTER[=JSON]` that is taken out of the data, or replaced by JSON: '/data/customer/email', 'patient.*:/data/name=\"-\"' (repeatable"+inPlace+")")
	f.StringVar(&o.filter, "filter", "", "`condition` that events have to fulfil, or @file; '' for none")
	f.Float64Var(&o.rate, "rate-limit", 0, "requests that may begin in a second; 0 for any number")
	f.BoolVar(&o.ordered, "ordered", false, "one at a time, in the order of the stream: one that fails holds back those behind it")
	f.StringVar(&o.orderedBy, "ordered-by", "", "JSON `pointer`, such as /data/customer_id: the order holds for each of its values; '' for none")
	f.StringVar(&o.traceParent, "traceparent", "on", "off leaves the header traceparent out of its requests")
	f.StringVar(&o.disableAfter, "disable-after", "120h", "how long it may fail without one success before it is disabled, or off")
}

// change is what was said of them.
func (o *optionFlags) change(said func(flag string) bool, value func(string) (string, error)) (httpapi.OptionsChange, error) {
	var c httpapi.OptionsChange
	if said("format") {
		c.Format = &o.format
	}
	if said("redact") {
		list := []httpapi.RedactionBody{}
		for _, text := range o.redact {
			if text == "" {
				continue
			}
			r, err := redaction(text)
			if err != nil {
				return c, &usageError{err}
			}
			list = append(list, r)
		}
		c.Redact = &list
	}
	if said("filter") {
		text, err := value(o.filter)
		if err != nil {
			return c, fmt.Errorf("--filter: %w", err)
		}
		c.Filter = httpapi.Text(strings.TrimSpace(text))
	}
	if said("rate-limit") {
		c.RateLimit = &o.rate
	}
	if said("ordered") {
		c.Ordered = &o.ordered
	}
	if said("ordered-by") {
		c.OrderedBy = httpapi.Text(o.orderedBy)
	}
	if said("disable-after") {
		c.DisableAfter = &o.disableAfter
	}
	if said("traceparent") {
		if o.traceParent != "on" && o.traceParent != "off" {
			return c, &usageError{fmt.Errorf("--traceparent %s: want on or off", o.traceParent)}
		}
		c.TraceParent = &o.traceParent
	}
	return c, nil
}

// redaction reads [TYPE:]POINTER[=JSON].
func redaction(text string) (httpapi.RedactionBody, error) {
	var r httpapi.RedactionBody
	types, path, ok := strings.Cut(text, "/")
	if types = strings.TrimSuffix(types, ":"); !ok {
		return r, fmt.Errorf("--redact %s: want a JSON Pointer that begins with /data", text)
	}
	if types != "" {
		r.Types = []string{types}
	}
	path, with, replaced := strings.Cut("/"+path, "=")
	if r.Path = path; replaced {
		if !json.Valid([]byte(with)) {
			return r, fmt.Errorf("--redact %s: after = comes JSON, such as \"-\" or null", text)
		}
		r.Replace = json.RawMessage(with)
	}
	return r, nil
}

// optionFacts adds what differs from the defaults.
func optionFacts(f *facts, o httpapi.OptionsBody) {
	if o.Format != "standard" {
		f.add("format", o.Format)
	}
	for _, r := range o.Redact {
		text := r.Path
		if len(r.Types) > 0 {
			text += " of " + strings.Join(r.Types, ", ")
		}
		if r.Replace != nil {
			text += " replaced by " + string(r.Replace)
		}
		f.add("redacts", text)
	}
	f.add("filter", o.Filter)
	f.add("traceparent", o.TraceParent)
	if o.RateLimit > 0 {
		f.add("rate limit", fmt.Sprintf("%g/s", o.RateLimit))
	}
	if o.Ordered {
		f.add("order", "one at a time, as in the stream")
	}
	if o.OrderedBy != "" {
		f.add("order", "as in the stream for each "+o.OrderedBy)
	}
	switch o.DisableAfter {
	case httpapi.Duration(deliver.DisableAfter).String():
	case "off":
		f.add("gives up", "never")
	default:
		f.add("gives up", "after "+o.DisableAfter+" without a success")
	}
}
