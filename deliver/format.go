package deliver

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/grapnel-hooks/grapnel/deliver/sign"
	"github.com/grapnel-hooks/grapnel/stream"
)

// Bounds of formats.
const (
	MaxFormats     = 100 // in a configuration
	MaxFormatName  = 64  // characters
	MaxFormatField = 64  // bytes of the name of a field of the body
)

// Format is what the requests to an endpoint look like: the names of its headers,
// how it is signed, and its body (contract, section 4). Every request is made
// from the body of the format standard, which is what the books keep.
type Format struct {
	Name    string
	Headers FormatHeaders
	Scheme  sign.Scheme
	Body    BodyKind
	Fields  []BodyField // of BodyMap, in their order
}

// FormatHeaders are the names of a format's headers, spelt as they are sent. One
// that is "" is not sent; Signature is needed, and so are EventID and Timestamp
// where the scheme signs them ([sign.Scheme.Names]).
type FormatHeaders struct {
	EventID, DeliveryID, Type, Timestamp, Signature, Attempt string
}

// BodyKind says what the body is.
type BodyKind string

// The kinds of bodies.
const (
	BodyStandard BodyKind = "standard"           // stream.AppendStandard
	BodyMap      BodyKind = "map"                // an object of Fields
	BodyData     BodyKind = "data"               // the event's data alone
	BodyEvent    BodyKind = "cloudevents"        // CloudEvents 1.0, structured content mode
	BodyBinary   BodyKind = "cloudevents-binary" // CloudEvents 1.0, binary content mode
)

// BodyField is a member of the body: its name, and what it holds. A member that
// would hold nothing is left out.
type BodyField struct {
	Name   string
	Source BodySource
}

// BodySource is what a field of the body can hold.
type BodySource string

// The sources of fields.
const (
	FromEventID       BodySource = "event_id"
	FromDeliveryID    BodySource = "delivery_id"
	FromType          BodySource = "type"
	FromOrg           BodySource = "organization_id"
	FromWorkspace     BodySource = "workspace_id"
	FromTime          BodySource = "time"        // RFC 3339, with fractions when it has any
	FromTimeMillis    BodySource = "time_millis" // RFC 3339 with milliseconds
	FromTimeUnix      BodySource = "time_unix"   // a number: seconds
	FromSource        BodySource = "source"
	FromSchemaVersion BodySource = "schema_version"
	FromDedupeKey     BodySource = "dedupe_key"
	FromData          BodySource = "data"
)

// BodySources are all of them.
var BodySources = []BodySource{
	FromEventID, FromDeliveryID, FromType, FromOrg, FromWorkspace, FromTime, FromTimeMillis, FromTimeUnix,
	FromSource, FromSchemaVersion, FromDedupeKey, FromData,
}

var standardHeaders = FormatHeaders{
	EventID: sign.HeaderID, DeliveryID: "Grapnel-Delivery", Timestamp: sign.HeaderTimestamp, Signature: sign.HeaderSignature, Attempt: "Grapnel-Attempt",
}

// builtIn are the formats that every installation has (contract, sections 4 and
// 9). Those of platforms carry the headers that their receivers know, and none of
// ours.
var builtIn = []Format{
	{Name: FormatStandard, Headers: standardHeaders, Scheme: sign.Standard, Body: BodyStandard},
	{Name: "cloudevents", Headers: standardHeaders, Scheme: sign.Standard, Body: BodyEvent},
	{Name: "cloudevents-binary", Headers: standardHeaders, Scheme: sign.Standard, Body: BodyBinary},
	{Name: "tenantx", Scheme: sign.SHA256Hex, Body: BodyMap,
		Headers: FormatHeaders{DeliveryID: "X-TenantX-Delivery", Type: "X-TenantX-Event", Signature: "X-TenantX-Signature"},
		Fields: []BodyField{{"id", FromDeliveryID}, {"event", FromType}, {"organization_id", FromOrg}, {"workspace_id", FromWorkspace},
			{"timestamp", FromTime}, {"data", FromData}}},
	{Name: "devsphere", Scheme: sign.SHA256Hex, Body: BodyMap,
		Headers: FormatHeaders{DeliveryID: "X-Delivery", Type: "X-Event", Signature: "X-Signature"},
		Fields:  []BodyField{{"id", FromEventID}, {"event", FromType}, {"timestamp", FromTime}, {"data", FromData}}},
	{Name: "vexyl", Scheme: sign.SHA256Hex, Body: BodyMap,
		Headers: FormatHeaders{Type: "X-Webhook-Event", Signature: "X-Webhook-Signature"},
		Fields:  []BodyField{{"event", FromType}, {"timestamp", FromTimeMillis}, {"data", FromData}}},
	{Name: "service", Scheme: sign.SHA256Hex, Body: BodyMap,
		Headers: FormatHeaders{Type: "X-Webhook-Event", Signature: "X-Webhook-Signature"},
		Fields:  []BodyField{{"event", FromType}, {"data", FromData}, {"timestamp", FromTimeUnix}, {"service", FromSource}}},
}

// BuiltInFormats are the formats that every installation has.
func BuiltInFormats() []Format {
	all := slices.Clone(builtIn)
	for i := range all {
		all[i].Fields = slices.Clone(all[i].Fields)
	}
	return all
}

// Headers that a format may name, by what they hold, as the configuration calls
// them.
var formatRoles = []struct {
	name  string
	field func(*FormatHeaders) *string
}{
	{"event_id", func(h *FormatHeaders) *string { return &h.EventID }},
	{"delivery_id", func(h *FormatHeaders) *string { return &h.DeliveryID }},
	{"type", func(h *FormatHeaders) *string { return &h.Type }},
	{"timestamp", func(h *FormatHeaders) *string { return &h.Timestamp }},
	{"signature", func(h *FormatHeaders) *string { return &h.Signature }},
	{"attempt", func(h *FormatHeaders) *string { return &h.Attempt }},
}

// Roles are what the headers of a format can hold.
func (FormatHeaders) Roles() (names []string) {
	for _, r := range formatRoles {
		names = append(names, r.name)
	}
	return names
}

// Of is the name of the header for one of [FormatHeaders.Roles]; nil for another
// role.
func (h *FormatHeaders) Of(role string) *string {
	for _, r := range formatRoles {
		if r.name == role {
			return r.field(h)
		}
	}
	return nil
}

// all are the names of the headers that the format's requests can have, beside
// those that every request has.
func (f *Format) all() (names []string) {
	for _, r := range formatRoles {
		if n := *r.field(&f.Headers); n != "" {
			names = append(names, n)
		}
	}
	if !f.Scheme.Several() {
		names = append(names, f.Headers.Signature+sign.Previous)
	}
	if f.Body == BodyBinary {
		for _, h := range binaryHeaders {
			names = append(names, h.name)
		}
	}
	return names
}

// FormatError says which part of a format cannot be used, and why. Part is as the
// configuration has it: "headers.signature", "scheme", "body.id", or "" for the
// whole.
type FormatError struct{ Part, Detail string }

func (e *FormatError) Error() string { return strings.TrimPrefix(e.Part+": "+e.Detail, ": ") }

// Check reports the first part that cannot be used, as a [*FormatError].
func (f *Format) Check() error {
	bad := func(part, format string, args ...any) error { return &FormatError{part, fmt.Sprintf(format, args...)} }
	switch {
	case !formatName(f.Name):
		return bad("", "want a name of at most %d letters, digits, - and _", MaxFormatName)
	case !f.Scheme.Known():
		return bad("scheme", "%.60q: want one of %s", string(f.Scheme), joined(sign.Schemes))
	}
	seen := map[string]string{}
	for _, r := range formatRoles {
		part, name := "headers."+r.name, *r.field(&f.Headers)
		needed := r.name == "signature" || f.Scheme.Names() && (r.name == "event_id" || r.name == "timestamp")
		switch {
		case name == "" && needed:
			return bad(part, "is missing: the scheme %s needs it", f.Scheme)
		case name == "":
			continue
		}
		if detail := checkFormatHeader(name); detail != "" {
			return bad(part, "%s", detail)
		}
		names := []string{name}
		if r.name == "signature" && !f.Scheme.Several() {
			names = append(names, name+sign.Previous)
		}
		for _, n := range names {
			if other, ok := seen[strings.ToLower(n)]; ok {
				return bad(part, "%s is the name of %s already", n, other)
			}
			seen[strings.ToLower(n)] = r.name
		}
		if f.Body == BodyBinary && strings.HasPrefix(strings.ToLower(name), "ce-") {
			return bad(part, "%s: names that begin with ce- belong to CloudEvents", name)
		}
	}
	return f.checkBody()
}

func (f *Format) checkBody() error {
	bad := func(part, format string, args ...any) error { return &FormatError{part, fmt.Sprintf(format, args...)} }
	switch f.Body {
	case BodyStandard, BodyData, BodyEvent, BodyBinary:
		if len(f.Fields) > 0 {
			return bad("body", "is either %s or a map of fields", f.Body)
		}
		return nil
	case BodyMap:
	default:
		return bad("body", "%.60q: want a map of fields, or one of %s", string(f.Body), joined([]BodyKind{BodyData, BodyStandard, BodyEvent, BodyBinary}))
	}
	if len(f.Fields) == 0 || len(f.Fields) > 2*len(BodySources) {
		return bad("body", "has %d fields, want 1 to %d", len(f.Fields), 2*len(BodySources))
	}
	seen := map[string]bool{}
	for _, field := range f.Fields {
		part := "body." + field.Name
		switch {
		case field.Name == "" || len(field.Name) > MaxFormatField || strings.ContainsFunc(field.Name, func(r rune) bool { return r < ' ' || r > '~' }):
			return bad("body", "the name of a field has 1 to %d printable ASCII characters", MaxFormatField)
		case seen[field.Name]:
			return bad(part, "is there twice")
		case !slices.Contains(BodySources, field.Source):
			return bad(part, "%.60q: want one of %s", string(field.Source), joined(BodySources))
		}
		seen[field.Name] = true
	}
	return nil
}

// checkFormatHeader says why a format cannot have a header of that name; "" if it
// can. Unlike an endpoint's own headers these may be webhook-… and grapnel-….
func checkFormatHeader(name string) string {
	for _, c := range []byte(name) {
		if !isTokenByte(c) {
			return fmt.Sprintf("a name holds %q: want letters, digits and -", c)
		}
	}
	lower := strings.ToLower(name)
	why, taken := reserved[lower]
	switch {
	case len(name) > MaxFormatName:
		return fmt.Sprintf("a name has %d bytes, want at most %d", len(name), MaxFormatName)
	case taken:
		return name + " cannot be set: it " + why
	case lower == "authorization" || lower == "cookie" || lower == "set-cookie" || strings.HasPrefix(lower, "proxy-"):
		return name + " cannot be set: it is HTTP's own"
	}
	return ""
}

func formatName(s string) bool {
	for _, c := range []byte(s) {
		if c != '-' && c != '_' && !('0' <= c && c <= '9') && !('a' <= c|0x20 && c|0x20 <= 'z') {
			return false
		}
	}
	return s != "" && len(s) <= MaxFormatName
}

func joined[T ~string](list []T) string {
	texts := make([]string, len(list))
	for i, t := range list {
		texts[i] = string(t)
	}
	return strings.Join(texts, ", ")
}

// Verifier checks requests in the format, as its receivers do. Secrets or keys are
// the caller's to add.
func (f *Format) Verifier() sign.Verifier {
	return sign.Verifier{Scheme: f.Scheme, Headers: sign.Headers{ID: f.Headers.EventID, Timestamp: f.Headers.Timestamp, Signature: f.Headers.Signature}}
}

// layout is a format, compiled.
type layout struct {
	Format
	contentType []string
	names       []layoutHeader // that every request has
	members     [][]byte       // `"name":` of Fields
	previous    string         // the header of the signature by the secret before; "": several are in one
	typed       bool           // a header has the event's type
	standard    bool           // the body is the standard one
}

type layoutHeader struct {
	name  string
	value int // an index of exchange.values
}

var roleValues = [...]int{valueID, valueDelivery, valueType, valueTimestamp, valueSignature, valueAttempt} // as formatRoles

func compile(f Format) *layout {
	l := &layout{Format: f, contentType: contentTypeJSON, typed: f.Headers.Type != "", standard: f.Body == BodyStandard}
	if f.Body == BodyEvent {
		l.contentType = contentTypeEvent
	}
	for i, r := range formatRoles {
		if n := *r.field(&f.Headers); n != "" {
			l.names = append(l.names, layoutHeader{n, roleValues[i]})
		}
	}
	if !f.Scheme.Several() {
		l.previous = f.Headers.Signature + sign.Previous
	}
	for _, field := range f.Fields {
		l.members = append(l.members, append(stream.AppendJSONString(nil, field.Name), ':'))
	}
	return l
}

// owns reports whether requests in the format have that header of themselves.
func (l *layout) owns(name string) bool {
	return slices.ContainsFunc(l.all(), func(n string) bool { return http.CanonicalHeaderKey(n) == http.CanonicalHeaderKey(name) })
}
