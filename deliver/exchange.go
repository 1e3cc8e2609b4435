package deliver

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver/sign"
	"github.com/oklog/ulid/v2"
)

// errDeadline is the cause of an exchange's context when its time is up.
var errDeadline = errors.New("deadline of the attempt")

// exchange is what one request needs beside its connection: a context with the
// deadline, the request, its headers and its body reader. Making these costs a
// tenth of a request, so an exchange is used again, but only when that is
// certain to be safe. The Transport may go on writing a request after its
// response has come or RoundTrip has failed; it has finished with it for good
// when it puts the connection back among the idle ones, which it reports
// through the trace. An exchange that did not end so, or whose context was or is
// about to be cancelled, is left to the garbage collector.
type exchange struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	parent <-chan struct{} // Done of the context that ctx derives from
	timer  *time.Timer     // cancels ctx with errDeadline
	fired  bool            // the timer has run, or is about to
	trace                  // of the connection

	traceParent string // of the request; sent if the endpoint wants it

	req    *http.Request
	body   bytes.Reader
	values [valueCount][1]string   // of the headers that differ; req.Header points here
	format *layout                 // of the last endpoint, whose headers are in req.Header
	custom []targetHeader          // of the last endpoint, in req.Header
	text   []byte                  // scratch
	form   []byte                  // the last body, where it is not the event's own; used again
	live   [MaxSecrets]sign.Secret // scratch
}

// Indices of exchange.values.
const (
	valueID = iota
	valueTimestamp
	valueSignature
	valueDelivery
	valueAttempt
	valueTraceParent
	valueUserAgent
	valueType
	valuePrevious
	valueCount
)

// keptForm is how much room for a body an idle exchange keeps.
const keptForm = 16 << 10

const headerTraceParent = "Traceparent"

func newExchange(ctx context.Context, userAgent string) *exchange {
	e := &exchange{parent: ctx.Done()}
	e.ctx, e.cancel = context.WithCancelCause(ctx)
	e.timer = time.AfterFunc(time.Hour, func() { e.cancel(errDeadline) })
	e.timer.Stop()
	e.values[valueUserAgent][0] = userAgent
	e.req = (&http.Request{
		Method: http.MethodPost,
		// Without GetBody, and without an Idempotency-Key among the headers, the
		// Transport never sends a request a second time (REL-27).
		GetBody: nil,
		// A reader that net/http knows to be in memory, so that headers and body
		// leave in one write.
		Body:   io.NopCloser(&e.body),
		Header: make(http.Header, 8),
	}).WithContext(e.trace.context(e.ctx))
	return e
}

// dress replaces the last endpoint's headers by this one's: its own, and those of
// its format. Ours come last: nothing overrides them, whatever the check of names
// may have let through.
func (e *exchange) dress(t *Target) {
	h := e.req.Header
	if e.format != t.format {
		clear(h)
	}
	for _, c := range e.custom {
		delete(h, c.name)
	}
	for _, c := range t.headers {
		h[c.name] = c.value
	}
	e.format, e.custom = t.format, t.headers
	h["Content-Type"] = t.format.contentType
	h["User-Agent"] = e.values[valueUserAgent][:]
	for _, n := range t.format.names {
		h[n.name] = e.values[n.value][:]
	}
}

// prepare sets everything that differs from one request to the next. It fails if
// the event cannot be had in the endpoint's format.
func (e *exchange) prepare(t *Target, p *Payload, k Key, attempt int, now time.Time) error {
	text := append(e.text[:0], "evt_"...)
	text = appendULID(text, ulid.ULID(p.ID))
	id := len(text)
	text = k.AppendID(text, p.Stored)
	delivery := len(text)
	text = strconv.AppendInt(text, now.Unix(), 10)
	timestamp := len(text)
	text = strconv.AppendInt(text, int64(attempt), 10)
	all := string(text)
	e.values[valueID][0] = all[:id]
	e.values[valueDelivery][0] = all[id:delivery]
	e.values[valueTimestamp][0] = all[delivery:timestamp]
	e.values[valueAttempt][0] = all[timestamp:]
	if t.format != e.format || len(t.headers) > 0 || len(e.custom) > 0 {
		e.dress(t)
	}
	body := p.Body
	if !t.plain {
		r, err := t.render(e.form[:0], p, all[id:delivery])
		if err != nil {
			return err
		}
		if body = r.body; t.format.typed {
			e.values[valueType][0] = plain(r.typ)
		}
		if t.format.Body == BodyBinary {
			setBinary(e.req.Header, &r.standardBody)
		}
		if r.own {
			e.form = body
		}
	}
	secrets := t.live(e.live[:0], now)
	if t.format.Scheme == sign.Standard {
		text = sign.AppendSignature(text[:0], secrets, all[:id], now, body)
	} else {
		text = t.format.Scheme.Append(text[:0], secrets, all[:id], now, body)
	}
	e.values[valueSignature][0] = string(text)
	e.text = text
	if name := t.format.previous; name != "" && len(secrets) > 1 {
		e.values[valuePrevious][0] = string(t.format.Scheme.Append(nil, secrets[1:2], all[:id], now, body))
		e.req.Header[name] = e.values[valuePrevious][:]
	} else if name != "" {
		delete(e.req.Header, name)
	}
	if !t.untraced && validTraceParent(e.traceParent) {
		e.values[valueTraceParent][0] = e.traceParent
		e.req.Header[headerTraceParent] = e.values[valueTraceParent][:]
	} else {
		delete(e.req.Header, headerTraceParent)
	}
	e.req.URL = t.url
	e.req.ContentLength = int64(len(body))
	e.body.Reset(body)
	return nil
}

// within starts the deadline, or moves it.
func (e *exchange) within(d time.Duration) { e.timer.Reset(d) }

// sooner moves a running deadline.
func (e *exchange) sooner(d time.Duration) {
	if !e.timer.Reset(d) {
		e.fired = true
	}
}

// finish ends the deadline and reports whether e may be used again.
func (e *exchange) finish() bool {
	if e.timer.Stop() && !e.fired && e.idle.Load() && e.ctx.Err() == nil {
		e.body.Reset(nil)
		if cap(e.form) > keptForm {
			e.form = nil
		}
		return true
	}
	e.cancel(context.Canceled) // so that the parent forgets it
	return false
}

// validTraceParent reports whether s is a traceparent of version 00 (W3C Trace
// Context, section 3.2). Anything else from a publisher is not passed on.
func validTraceParent(s string) bool {
	if len(s) != 55 || s[:3] != "00-" || s[35] != '-' || s[52] != '-' {
		return false
	}
	return lowerHex(s[3:35], true) && lowerHex(s[36:52], true) && lowerHex(s[53:], false)
}

// lowerHex reports whether s is lower-case hex, and not all zeros if nonzero.
func lowerHex(s string, nonzero bool) bool {
	zero := true
	for _, c := range []byte(s) {
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f') {
			return false
		}
		zero = zero && c == '0'
	}
	return !(zero && nonzero)
}
