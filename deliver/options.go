package deliver

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Bounds of Options.
const (
	MinRateLimit    = 0.01   // requests a second: one in 100 s
	MaxRateLimit    = 10_000 // requests a second
	MaxRedactions   = 50     // of an endpoint
	MaxRedactBytes  = 16384  // of their paths, types and replacements together
	MaxPointer      = 512    // bytes of a JSON Pointer
	MaxFilter       = 2048   // bytes of a content filter
	MinDisableAfter = time.Hour
	MaxDisableAfter = 30 * 24 * time.Hour
	// NeverDisable is the DisableAfter of an endpoint that is disabled by hand
	// and by 410 only.
	NeverDisable time.Duration = -1
)

// FormatStandard is the wire format of an endpoint that chose none.
const FormatStandard = "standard"

// TraceParentOff is the TraceParent of an endpoint whose requests carry no header
// traceparent, whatever the event came with.
const TraceParentOff = "off"

// Options are the settings of an endpoint that most leave as they are. The zero
// Options are the defaults. They are stored as JSON.
type Options struct {
	// Format names the wire format of its requests; "" means "standard".
	Format string `json:"format,omitempty"`
	// Redact is what is taken out of the data of its requests, before they are
	// signed.
	Redact []Redaction `json:"redact,omitempty"`
	// Filter is the condition that an event has to fulfil, beside its type and
	// workspace; "": none.
	Filter string `json:"filter,omitempty"`
	// RateLimit is how many requests may begin in a second; 0: any number.
	RateLimit float64 `json:"rate_limit,omitempty"`
	// Ordered makes deliveries go one at a time, in the order of their events: one
	// that fails holds back those behind it until it is delivered or dead.
	Ordered bool `json:"ordered,omitempty"`
	// OrderedBy, a JSON Pointer into the envelope (/data/customer_id), is Ordered
	// for each value that it finds, and nothing for the others.
	OrderedBy string `json:"ordered_by,omitempty"`
	// DisableAfter is how long it may fail without one success before it is
	// disabled; 0 means [DisableAfter], negative never.
	DisableAfter time.Duration `json:"disable_after,omitempty"`
	// Paused holds its deliveries back, and goes on making them.
	Paused bool `json:"paused,omitempty"`
	// TraceParent is TraceParentOff for an endpoint that is sent no trace context;
	// "" means that it is.
	TraceParent string `json:"traceparent,omitempty"`
}

// Redaction takes something out of an event's data, or replaces it.
type Redaction struct {
	// Types are those of the events that it is for, as in a subscription; none:
	// all.
	Types []string `json:"types,omitempty"`
	// Path is a JSON Pointer (RFC 6901) into the envelope that begins with /data; the token *
	// stands for every element of an array or member of an object.
	Path string `json:"path"`
	// Replace is the JSON that takes its place; nil removes it.
	Replace json.RawMessage `json:"replace,omitempty"`
}

// OptionError says which field of Options cannot be accepted, by its name in
// the API, and why.
type OptionError struct{ Field, Detail string }

func (e *OptionError) Error() string { return e.Field + ": " + e.Detail }

// Check reports the first field that cannot be accepted, as an [*OptionError].
// Whether there is such a format, and whether the filter can be compiled, is for
// others to say.
func (o *Options) Check() error {
	bad := func(field, format string, args ...any) error {
		return &OptionError{field, fmt.Sprintf(format, args...)}
	}
	switch {
	case o.RateLimit != 0 && !(o.RateLimit >= MinRateLimit && o.RateLimit <= MaxRateLimit):
		return bad("rate_limit", "is %v requests a second, want %v to %v, or 0 for no limit", o.RateLimit, MinRateLimit, MaxRateLimit)
	case len(o.Filter) > MaxFilter:
		return bad("filter", "has %d bytes, want at most %d", len(o.Filter), MaxFilter)
	case o.Ordered && o.OrderedBy != "":
		return bad("ordered_by", "cannot be combined with ordered: leave out one of them")
	case o.DisableAfter > 0 && (o.DisableAfter < MinDisableAfter || o.DisableAfter > MaxDisableAfter):
		return bad("disable_after", "is %v, want %v to %v, or off", o.DisableAfter, MinDisableAfter, MaxDisableAfter)
	case o.TraceParent != "" && o.TraceParent != TraceParentOff:
		return bad("traceparent", "is %.20q, want %s, or nothing", o.TraceParent, TraceParentOff)
	case len(o.Redact) > MaxRedactions:
		return bad("redact", "has %d entries, want at most %d", len(o.Redact), MaxRedactions)
	}
	if o.OrderedBy != "" {
		if err := checkPointer(o.OrderedBy); err != nil {
			return bad("ordered_by", "%v", err)
		}
	}
	size := 0
	for i, r := range o.Redact {
		if err := r.check(); err != nil {
			return bad(fmt.Sprintf("redact[%d]", i), "%v", err)
		}
		size += r.size()
	}
	if size > MaxRedactBytes { // of which the books keep up to a hundred, and the audit log two for each change
		return bad("redact", "has %d bytes of paths, types and replacements, want at most %d", size, MaxRedactBytes)
	}
	return nil
}

// Clone shares nothing with o.
func (o Options) Clone() Options {
	o.Redact = slices.Clone(o.Redact)
	for i, r := range o.Redact {
		o.Redact[i].Types, o.Redact[i].Replace = slices.Clone(r.Types), slices.Clone(r.Replace)
	}
	return o
}

func (r *Redaction) check() error {
	if err := checkPointer(r.Path); err != nil {
		return err
	}
	if r.Path != "/data" && !strings.HasPrefix(r.Path, "/data/") {
		return fmt.Errorf("path %.100q: want one that begins with /data", r.Path)
	}
	if len(r.Replace) > MaxReplace {
		return fmt.Errorf("path %.100q: replace has %d bytes, want at most %d", r.Path, len(r.Replace), MaxReplace)
	}
	if r.Replace != nil && !json.Valid(r.Replace) {
		return fmt.Errorf("path %.100q: replace is not JSON", r.Path)
	}
	return nil
}

func (r *Redaction) size() int {
	n := len(r.Path) + len(r.Replace)
	for _, t := range r.Types {
		n += len(t)
	}
	return n
}

// checkPointer says why p is no JSON Pointer, or nil.
func checkPointer(p string) error {
	switch {
	case len(p) > MaxPointer:
		return fmt.Errorf("path has %d bytes, want at most %d", len(p), MaxPointer)
	case !strings.HasPrefix(p, "/"):
		return fmt.Errorf("path %.100q: want a JSON Pointer, such as /data/customer_id", p)
	}
	for i := range len(p) {
		if p[i] == '~' && (i+1 == len(p) || p[i+1] != '0' && p[i+1] != '1') {
			return fmt.Errorf("path %.100q: ~ is written ~0, and / within a name ~1", p)
		}
	}
	return nil
}
