package deliver

import (
	"bytes"
	"strings"
	"time"

	"github.com/grapnel-hooks/grapnel/stream"
)

// MaxShownBody is how many bytes of a request's body are shown to people.
const MaxShownBody = 64 << 10

// RequestSettings are those settings of an endpoint that decide what its requests
// look like, without anything that is secret. The books keep them for each
// revision of an endpoint in which they changed, as JSON, so that the log of an old attempt
// shows what was sent then, and nothing is stored with each attempt.
type RequestSettings struct {
	URL     string      `json:"url"` // with [redacted] for the values of its query
	Headers []string    `json:"headers,omitempty"`
	Format  string      `json:"format,omitempty"`
	Redact  []Redaction `json:"redact,omitempty"`
	Auth    string      `json:"auth,omitempty"` // the type of the endpoint's [Auth]
	// TraceParent is the option of that name.
	TraceParent string `json:"traceparent,omitempty"`
}

// RequestSettings are e's.
func (e Endpoint) RequestSettings() RequestSettings {
	s := RequestSettings{URL: maskQuery(e.URL), Format: e.Format, Redact: e.Options.Clone().Redact, TraceParent: e.TraceParent}
	for _, h := range e.Headers {
		s.Headers = append(s.Headers, h.Name)
	}
	if e.Credentials != nil {
		s.Auth = e.Credentials.Auth.Type
	}
	return s
}

// maskQuery is the URL without the values of its query, which are often
// passwords. What is no pair of a name and a value is masked as a whole.
func maskQuery(url string) string {
	base, query, found := strings.Cut(url, "?")
	if !found || query == "" {
		return url
	}
	pairs := strings.Split(query, "&")
	for i, p := range pairs {
		name, _, named := strings.Cut(p, "=")
		if !named {
			name = ""
		}
		if pairs[i] = redacted; name != "" {
			pairs[i] = name + "=" + redacted
		}
	}
	return base + "?" + strings.Join(pairs, "&")
}

// ShownRequest is a [Request] as the log of attempts shows it.
type ShownRequest struct {
	Request        // its body has at most MaxShownBody bytes
	Truncated bool // there was more body
}

// Shown is the attempt that started then as an endpoint of those settings makes
// it: [Target.Request]. Of a payload without a body the request has none, either;
// then only the headers are true. It fails with [ErrFormat] when there is no such
// format any more.
func (fs *Formats) Shown(s RequestSettings, p *Payload, k Key, attempt int, started time.Time, userAgent string) (ShownRequest, error) {
	base, _, _ := strings.Cut(s.URL, "?")
	e := Endpoint{URL: base, Secrets: []Secret{{Secret: fs.Scheme(s.Format).NewSecret()}}, Options: Options{Format: s.Format, Redact: s.Redact, TraceParent: s.TraceParent}}
	for _, name := range s.Headers {
		e.Headers = append(e.Headers, Header{Name: name, Value: NewHeaderValue(redacted)})
	}
	t, err := fs.Target(e)
	if err != nil {
		return ShownRequest{}, err
	}
	known := p.Body != nil
	if !known {
		p = &Payload{Event: p.Event, ID: p.ID, Org: p.Org, Type: p.Type, TraceParent: p.TraceParent, Stored: p.Stored}
		p.Body = stream.AppendStandard(nil, &stream.Event{ID: p.ID, Org: p.Org, Type: p.Type, Time: p.Stored, Data: []byte("null")})
	}
	r, err := t.Request(p, k, attempt, started, userAgent)
	if err != nil {
		return ShownRequest{}, err
	}
	r.URL = s.URL
	if !known {
		r.Body = nil
	}
	if scheme := authScheme(s.Auth); scheme != "" {
		r.Header["Authorization"] = []string{scheme + " " + redacted}
	}
	shown := ShownRequest{Request: r, Truncated: len(r.Body) > MaxShownBody}
	shown.Body = bytes.Clone(r.Body[:min(len(r.Body), MaxShownBody)])
	return shown, nil
}

// authScheme is the word before the credentials in the header Authorization (RFC
// 9110, section 11.4).
func authScheme(auth string) string {
	switch auth {
	case "":
		return ""
	case AuthBasic:
		return "Basic"
	}
	return "Bearer"
}
