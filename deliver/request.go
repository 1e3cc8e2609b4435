package deliver

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// Request is a request as it is sent, to be shown to people: in the endpoint's
// format, without what is redacted, and with [redacted] in place of signatures
// and of the values of the endpoint's own headers.
type Request struct {
	Method string
	URL    string
	Header http.Header // names are spelt as they are sent
	Body   []byte      // the caller's own
}

// Request is what Send sends, without sending it. It fails if the event cannot be
// had in the endpoint's format.
func (t *Target) Request(p *Payload, k Key, attempt int, now time.Time, userAgent string) (Request, error) {
	e := newExchange(context.Background(), userAgent)
	defer e.finish()
	e.traceParent = p.TraceParent
	if err := e.prepare(t, p, k, attempt, now); err != nil {
		return Request{}, fmt.Errorf("request of delivery %s: %w", k.ID(p.Stored), err)
	}
	r := Request{Method: e.req.Method, URL: t.url.String(), Header: e.req.Header.Clone(), Body: make([]byte, e.body.Len())}
	e.body.Read(r.Body) // all of it, from memory
	secret := []string{t.format.Headers.Signature, t.format.previous}
	for _, h := range t.headers {
		secret = append(secret, h.name)
	}
	if t.needsToken() {
		r.Header[headerAuthorization] = []string{redacted} // which is fetched when it is sent
	}
	for _, name := range secret {
		if r.Header[name] != nil {
			r.Header[name] = []string{redacted}
		}
	}
	return r, nil
}
