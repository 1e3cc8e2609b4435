package deliver

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Bounds of an endpoint's own headers (SEC-22).
const (
	MaxHeaders     = 20
	MaxHeaderValue = 1 << 10 // bytes
	MaxHeaderBytes = 8 << 10 // of all names and values
)

// Header is a header that an endpoint's owner adds to each of its requests:
// often a password of the receiver's.
type Header struct {
	Name  string // as in http.CanonicalHeaderKey
	Value HeaderValue
}

// HeaderValue is the value of a [Header].
type HeaderValue = Hidden

// NewHeaderValue hides text.
func NewHeaderValue(text string) HeaderValue { return NewHidden(text) }

// HeaderError says which header cannot be used, and what would be right. It
// never holds a value; Name is empty if it could be one.
type HeaderError struct {
	Name   string
	Detail string
}

func (e *HeaderError) Error() string {
	if e.Name == "" {
		return "headers: " + e.Detail
	}
	return "header " + e.Name + ": " + e.Detail
}

// reserved are the names, in lower case, that are ours, or HTTP's own, or would
// change how the request is sent. net/http takes Host and Content-Length from
// elsewhere and would pass over these silently; an Idempotency-Key would let it
// send a request twice.
var reserved = map[string]string{
	"host":              "comes from the URL",
	"content-length":    "comes from the body",
	"content-type":      "says what the body is",
	"content-encoding":  "would not be true of the body",
	"transfer-encoding": "belongs to the connection",
	"connection":        "belongs to the connection",
	"upgrade":           "belongs to the connection",
	"te":                "belongs to the connection",
	"trailer":           "belongs to the connection",
	"expect":            "belongs to the connection",
	"keep-alive":        "belongs to the connection",
	"accept-encoding":   "is not sent: answers are not unpacked",
	"user-agent":        "names the sender",
	"traceparent":       "continues the event's trace",
	"tracestate":        "continues the event's trace",
	"baggage":           "continues the event's trace",
	"idempotency-key":   "is not sent: receivers know an event again by its id",
	"x-idempotency-key": "is not sent: receivers know an event again by its id",
}

var reservedPrefixes = []string{"webhook-", "grapnel-", "proxy-"}

// CheckHeaders checks the headers of an endpoint and returns them in their
// canonical form: names as http.CanonicalHeaderKey writes them, sorted, each
// once (SEC-22). A name is a token of RFC 9110, section 5.6.2, and none that the
// request has already; a value is visible ASCII with spaces and tabs inside.
// The error is always a [*HeaderError].
func CheckHeaders(headers []Header) ([]Header, error) {
	if len(headers) == 0 {
		return nil, nil
	}
	if len(headers) > MaxHeaders {
		return nil, &HeaderError{Detail: fmt.Sprintf("%d are given, at most %d may be", len(headers), MaxHeaders)}
	}
	total := 0
	canonical := slices.Clone(headers)
	for i := range canonical {
		h := &canonical[i]
		if err := checkHeaderName(h.Name); err != nil {
			return nil, err
		}
		h.Name = http.CanonicalHeaderKey(h.Name)
		if detail := checkHeaderValue(h.Value); detail != "" {
			return nil, &HeaderError{h.Name, detail}
		}
		total += len(h.Name) + len(h.Value.Reveal())
	}
	if total > MaxHeaderBytes {
		return nil, &HeaderError{Detail: fmt.Sprintf("names and values have %d bytes together, at most %d may be", total, MaxHeaderBytes)}
	}
	slices.SortFunc(canonical, func(a, b Header) int { return cmp.Compare(a.Name, b.Name) })
	for i := range canonical[1:] {
		if canonical[i].Name == canonical[i+1].Name {
			return nil, &HeaderError{canonical[i].Name, "is given twice; upper and lower case are the same"}
		}
	}
	return canonical, nil
}

func checkHeaderName(name string) *HeaderError {
	if name == "" {
		return &HeaderError{Detail: "a name is empty"}
	}
	for _, c := range []byte(name) {
		if !isTokenByte(c) {
			return &HeaderError{Detail: fmt.Sprintf("a name holds %q: want letters, digits and -", c)}
		}
	}
	if len(name) > MaxHeaderValue {
		return &HeaderError{Detail: fmt.Sprintf("a name has %d bytes, at most %d may be", len(name), MaxHeaderValue)}
	}
	lower := strings.ToLower(name)
	if why, ok := reserved[lower]; ok {
		return &HeaderError{name, "cannot be set: it " + why}
	}
	for _, p := range reservedPrefixes {
		if strings.HasPrefix(lower, p) {
			return &HeaderError{name, "cannot be set: names that begin with " + p + " are reserved"}
		}
	}
	return nil
}

// isTokenByte reports whether c is a tchar of RFC 9110, section 5.6.2.
func isTokenByte(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

func checkHeaderValue(v HeaderValue) (detail string) {
	text := v.Reveal()
	switch {
	case v.IsZero():
		return "has no value"
	case len(text) > MaxHeaderValue:
		return fmt.Sprintf("the value has %d bytes, at most %d may be", len(text), MaxHeaderValue)
	case strings.Trim(text, " \t") != text:
		return "the value begins or ends with a space or tab, which would be lost"
	}
	for _, c := range []byte(text) {
		if c != '\t' && (c < ' ' || c > '~') {
			return "the value holds a control character or one beyond ASCII"
		}
	}
	return ""
}

// ErrOrigin: an endpoint with headers of its own was to move to another origin
// and to keep their values, which that other one must not learn (SEC-21).
var ErrOrigin = errors.New("the URL moves to another origin, and its custom headers may be secret: " +
	"give them again with their values, or {} to drop them")

// ChangeHeaders is what an endpoint's headers become when it gets the given
// ones: nil keeps those it has, an empty list drops them, and a header without a
// value keeps the value it has. moved says that the endpoint moves to another
// origin at the same time, where nothing may be kept.
//
// The error is a [*HeaderError] or [ErrOrigin].
func ChangeHeaders(now []Header, given *[]Header, moved bool) ([]Header, error) {
	if given == nil {
		if moved && len(now) > 0 {
			return nil, ErrOrigin
		}
		return now, nil
	}
	next := slices.Clone(*given)
	for i := range next {
		h := &next[i]
		if !h.Value.IsZero() {
			continue
		}
		same := slices.IndexFunc(now, func(n Header) bool { return strings.EqualFold(n.Name, h.Name) })
		switch {
		case same < 0: // CheckHeaders says so
		case moved:
			return nil, ErrOrigin
		default:
			h.Value = now[same].Value
		}
	}
	return CheckHeaders(next)
}

// SameOrigin reports whether two URLs of endpoints have the same scheme, host
// and port (RFC 6454, section 5).
func SameOrigin(a, b string) bool {
	u, errA := parseURL(a, true)
	v, errB := parseURL(b, true)
	return errA == nil && errB == nil && origin(u) == origin(v)
}

func origin(u *url.URL) string { return u.Scheme + "://" + u.Host }
