package deliver

import (
	"bytes"
	"errors"
	"net/http"
	"slices"
	"strconv"

	"github.com/grapnel-hooks/grapnel/stream"
)

var (
	contentTypeJSON  = []string{"application/json"}
	contentTypeEvent = []string{"application/cloudevents+json"}
)

// errBody: what the books have of an event is no body of the format standard. It
// is our own fault, and never sent in another form than the endpoint chose.
var errBody = errors.New("the event's body cannot be read")

// rendered is an event in an endpoint's format, beside its headers' common part.
type rendered struct {
	standardBody
	body []byte
	own  bool // the body is no part of the payload, which is shared
}

// render makes the body of a request. It is p's own unless format or redaction
// want another, which is appended to dst.
func (t *Target) render(dst []byte, p *Payload, delivery string) (r rendered, err error) {
	r.body = p.Body
	if t.plain {
		return r, nil
	}
	s, ok := parseStandard(p.Body)
	if !ok {
		return r, errBody
	}
	r.standardBody = s
	data := s.data
	redacted := ruleSet(0)
	if t.redact != nil && data != nil {
		redacted = t.redact.of(plain(s.typ))
	}
	switch {
	case t.format.standard && redacted == 0:
		return r, nil
	case t.format.standard:
		from := len(dst)
		dst = append(dst, p.Body[:s.dataAt]...)
		at := len(dst)
		if dst, err = t.redact.redact(dst, data, redacted); err == nil && s.keyTells(dst[at:]) {
			dst = slices.Delete(dst, from+s.dedupeAt, at-len(dataMember))
		}
		r.body, r.own = append(dst, '}'), true
		return r, err
	case redacted != 0:
		if r.data, err = t.redact.redact(nil, data, redacted); err != nil {
			return r, err
		}
		if s.keyTells(r.data) {
			r.dedupe = nil
		}
	}
	r.body, r.own = t.format.appendBody(dst, &r.standardBody, delivery), true
	return r, nil
}

// keyTells reports whether the dedupe key holds the id of the data, from which the
// stream made it, while redacted, the data as they are sent, do not.
func (s *standardBody) keyTells(redacted []byte) bool {
	if s.dedupe == nil || !bytes.HasPrefix(s.dedupe, s.typ) {
		return false
	}
	typ, key, at := plain(s.typ), plain(s.dedupe), s.when()
	return stream.EnvelopeKey(typ, s.data, at) == key && stream.EnvelopeKey(typ, redacted, at) != key
}

// appendBody appends the body in the format, made from the parts of the standard
// one.
func (l *layout) appendBody(dst []byte, s *standardBody, delivery string) []byte {
	switch {
	case l.Body == BodyMap:
		return l.appendMap(dst, s, delivery)
	case l.Body == BodyEvent:
		return appendCloudEvent(dst, s)
	case s.data == nil:
		return append(dst, "null"...)
	}
	return append(dst, s.data...) // alone
}

func (l *layout) appendMap(dst []byte, s *standardBody, delivery string) []byte {
	dst = append(dst, '{')
	first := true
	for i, field := range l.Fields {
		start := len(dst)
		if !first {
			dst = append(dst, ',')
		}
		dst = append(dst, l.members[i]...)
		value := len(dst)
		if dst = s.appendSource(dst, field.Source, delivery); len(dst) == value {
			dst = dst[:start] // it holds nothing
			continue
		}
		first = false
	}
	return append(dst, '}')
}

// appendSource appends what a field holds, as JSON, or nothing if there is none.
func (s *standardBody) appendSource(dst []byte, from BodySource, delivery string) []byte {
	text := func(b []byte) []byte {
		if len(b) == 0 {
			return dst
		}
		return append(append(append(dst, '"'), b...), '"')
	}
	switch from {
	case FromEventID:
		return text(s.id)
	case FromDeliveryID:
		return text([]byte(delivery))
	case FromType:
		return text(s.typ)
	case FromOrg:
		return text(s.org)
	case FromWorkspace:
		return text(s.workspace)
	case FromSource:
		return text(s.source)
	case FromSchemaVersion:
		return text(s.version)
	case FromDedupeKey:
		return text(s.dedupe)
	case FromTime:
		return text(s.time)
	case FromData:
		return append(dst, s.data...)
	}
	at := s.when()
	switch {
	case at.IsZero():
		return dst
	case from == FromTimeUnix:
		return strconv.AppendInt(dst, at.Unix(), 10)
	default: // FromTimeMillis
		return text(at.AppendFormat(nil, "2006-01-02T15:04:05.000Z07:00"))
	}
}

// Attributes of CloudEvents 1.0 beside specversion, by what they hold. Those
// without a name in the specification are extensions: lower-case letters and
// digits only (CloudEvents, section 3.1).
var eventAttributes = []struct {
	name string
	of   func(*standardBody) []byte
}{
	{"id", func(s *standardBody) []byte { return s.id }},
	{"source", func(s *standardBody) []byte { return []byte(s.uri()) }},
	{"type", func(s *standardBody) []byte { return s.typ }},
	{"time", func(s *standardBody) []byte { return s.time }},
	{"organizationid", func(s *standardBody) []byte { return s.org }},
	{"workspaceid", func(s *standardBody) []byte { return s.workspace }},
	{"schemaversion", func(s *standardBody) []byte { return s.version }},
	{"dedupekey", func(s *standardBody) []byte { return s.dedupe }},
}

// appendCloudEvent appends the event in the JSON format of CloudEvents 1.0
// (structured content mode).
func appendCloudEvent(dst []byte, s *standardBody) []byte {
	dst = append(dst, `{"specversion":"1.0"`...)
	for _, a := range eventAttributes {
		if text := a.of(s); len(text) > 0 {
			dst = append(append(append(dst, `,"`...), a.name...), `":"`...)
			dst = append(append(dst, text...), '"')
		}
	}
	dst = append(dst, `,"datacontenttype":"application/json"`...)
	if s.data != nil {
		dst = append(append(dst, `,"data":`...), s.data...)
	}
	return append(dst, '}')
}

// uri is the event's source as a URI reference, which CloudEvents wants: what
// cannot be in one is percent-encoded. An event without a source has that of its
// organization.
func (s *standardBody) uri() string {
	source := plain(s.source)
	if source == "" {
		return "/organizations/" + string(s.org)
	}
	return percent(source, func(c byte) bool {
		return c > ' ' && c <= '~' && c != '"' && c != '<' && c != '>' && c != '\\' && c != '^' && c != '`' && c != '{' && c != '|' && c != '}'
	})
}

// binaryHeaders are the attributes of CloudEvents in binary content mode
// (HTTP Protocol Binding, section 3.1.3).
var binaryHeaders = func() (list []struct {
	name string
	of   func(*standardBody) []byte
}) {
	for _, a := range eventAttributes {
		a.name = http.CanonicalHeaderKey("ce-" + a.name)
		list = append(list, a)
	}
	return append(list, struct {
		name string
		of   func(*standardBody) []byte
	}{"Ce-Specversion", func(*standardBody) []byte { return []byte("1.0") }})
}()

// setBinary sets the headers of binary content mode, and removes those of the
// last request that this one has not. Their values are percent-encoded as the
// binding says, section 3.1.3.2.
func setBinary(h http.Header, s *standardBody) {
	for _, a := range binaryHeaders {
		if text := plain(a.of(s)); text != "" {
			h[a.name] = []string{percent(text, func(c byte) bool { return c > ' ' && c <= '~' && c != '"' && c != '%' })}
		} else {
			delete(h, a.name)
		}
	}
}

// percent is text with the bytes that may not stay as %XX (RFC 3986, section 2.1).
func percent(text string, stays func(byte) bool) string {
	const digits = "0123456789ABCDEF"
	out := make([]byte, 0, len(text))
	for _, c := range []byte(text) {
		if stays(c) {
			out = append(out, c)
		} else {
			out = append(out, '%', digits[c>>4], digits[c&15])
		}
	}
	return string(out)
}
