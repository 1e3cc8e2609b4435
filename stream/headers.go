package stream

import (
	"strings"
	"time"
)

// headerID is a header that decoding knows.
type headerID int

const (
	hMsgID headerID = iota
	hWorkspace
	hSchemaVersion
	hSource
	hTime
	hPayload
	hContentType
	hTraceParent
	hTraceState
	hCESpecVersion
	hCEID
	hCESource
	hCEType
	hCETime
	headerCount
)

// Names of the headers that publishers may set (contract, section 2). The
// CloudEvents attributes ce-* come on top.
const (
	HeaderMsgID         = "Nats-Msg-Id"
	HeaderWorkspace     = "Grapnel-Workspace"
	HeaderSchemaVersion = "Grapnel-Schema-Version"
	HeaderSource        = "Grapnel-Source"
	HeaderTime          = "Grapnel-Time"
	HeaderPayload       = "Grapnel-Payload"
	HeaderContentType   = "Content-Type"
	HeaderTraceParent   = "traceparent"
	HeaderTraceState    = "tracestate"
)

var headerNames = [headerCount]string{
	HeaderMsgID, HeaderWorkspace, HeaderSchemaVersion, HeaderSource, HeaderTime, HeaderPayload,
	HeaderContentType, HeaderTraceParent, HeaderTraceState,
	"ce-specversion", "ce-id", "ce-source", "ce-type", "ce-time",
}

// Limits of header values, in bytes.
const (
	maxSchemaVersion = 64
	maxSource        = 256
	maxTraceState    = 512 // what a tracer must at least pass on (W3C Trace Context, section 3.3.1.5)
)

// known is the values of the headers that decoding knows, without space around
// them; "" for those that are not there.
type known [headerCount]string

// knownHeaders takes the first value of each known header. Where one header
// comes in several spellings the usual one counts, then the first in the order
// of bytes, so that the same message always gives the same event.
func knownHeaders(h Header) (k known) {
	var spelled [headerCount]string
	for name, values := range h {
		id, ok := headerByName(name)
		if !ok || len(values) == 0 {
			continue
		}
		if have := spelled[id]; have != "" && (have == headerNames[id] || name != headerNames[id] && have < name) {
			continue
		}
		spelled[id], k[id] = name, strings.Trim(values[0], " \t")
	}
	return k
}

func headerByName(name string) (headerID, bool) {
	for id, n := range headerNames {
		if len(n) == len(name) && strings.EqualFold(n, name) {
			return headerID(id), true
		}
	}
	return 0, false
}

// apply puts what the NATS and Grapnel headers say into ev. They win over what
// a CloudEvent or an envelope says: Nats-Msg-Id is what the broker's own
// duplicate window goes by, so the same key decides inside that window and
// after it.
func (k *known) apply(ev *Event) *Rejected {
	if s := k[hMsgID]; s != "" {
		if err := CheckDedupeKey(s); err != nil {
			return reject(CodeBadHeader, "%s: %v", HeaderMsgID, err)
		}
		ev.DedupeKey = s
	}
	if s := k[hWorkspace]; s != "" {
		if err := CheckWorkspace(s); err != nil {
			return reject(CodeBadHeader, "%s: %v", HeaderWorkspace, err)
		}
		ev.Workspace = s
	}
	if s := k[hSchemaVersion]; s != "" {
		if len(s) > maxSchemaVersion || !printable(s) {
			return reject(CodeBadHeader, "%s %s: use at most %d printable bytes", HeaderSchemaVersion, clip(s), maxSchemaVersion)
		}
		ev.SchemaVersion = s
	}
	if s := k[hSource]; s != "" {
		if len(s) > maxSource || !printable(s) {
			return reject(CodeBadHeader, "%s %s: use at most %d printable bytes", HeaderSource, clip(s), maxSource)
		}
		ev.Source = s
	}
	if s := k[hTime]; s != "" {
		t, ok := parseTime(s)
		if !ok {
			return reject(CodeBadHeader, "%s %s: use RFC 3339, such as 2026-11-21T10:00:00Z", HeaderTime, clip(s))
		}
		ev.Time = t
	}
	if s := k[hTraceParent]; validTraceParent(s) {
		ev.TraceParent = s
		if s := k[hTraceState]; len(s) <= maxTraceState && printableASCII(s) {
			ev.TraceState = s
		}
	}
	return nil
}

// parseTime reads RFC 3339 and makes it UTC, if it has a year of four digits
// there too.
func parseTime(s string) (time.Time, bool) {
	t, err := time.Parse(time.RFC3339Nano, s)
	t = t.UTC()
	return t, err == nil && validYear(t)
}

func validYear(t time.Time) bool { return t.Year() >= 1 && t.Year() <= 9999 }

// validTraceParent checks the form of W3C Trace Context, section 3.2. What has
// another form is left out, as if the trace began here: a broken trace is no
// reason to lose an event.
func validTraceParent(s string) bool {
	const length = 55 // 00-<32 hex>-<16 hex>-<2 hex>
	if len(s) < length || len(s) > 2*length || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return false
	}
	for _, part := range []string{s[:2], s[3:35], s[36:52], s[53:55]} {
		for i := range len(part) {
			if c := part[i]; !('0' <= c && c <= '9' || 'a' <= c && c <= 'f') {
				return false
			}
		}
	}
	switch {
	case s[:2] == "ff", strings.Trim(s[3:35], "0") == "", strings.Trim(s[36:52], "0") == "":
		return false
	case len(s) > length: // a later version may carry more, after a dash
		return s[:2] != "00" && s[length] == '-' && printableASCII(s)
	}
	return true
}

func printableASCII(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
