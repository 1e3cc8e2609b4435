package deliver

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"sync/atomic"
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
	idle   atomic.Bool     // the connection was put back

	req    *http.Request
	body   bytes.Reader
	values [7][1]string            // of the headers that differ; req.Header points here
	custom []targetHeader          // of the last endpoint, in req.Header
	text   []byte                  // scratch
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
)

const headerTraceParent = "Traceparent"

var contentType = []string{"application/json"}

func newExchange(ctx context.Context, userAgent string) *exchange {
	e := &exchange{parent: ctx.Done()}
	e.ctx, e.cancel = context.WithCancelCause(ctx)
	e.timer = time.AfterFunc(time.Hour, func() { e.cancel(errDeadline) })
	e.timer.Stop()
	trace := &httptrace.ClientTrace{PutIdleConn: func(err error) {
		if err == nil {
			e.idle.Store(true)
		}
	}}
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
	}).WithContext(httptrace.WithClientTrace(e.ctx, trace))
	e.own()
	return e
}

// own sets the headers that every request has.
func (e *exchange) own() {
	h := e.req.Header
	h["Content-Type"] = contentType
	h["User-Agent"] = e.values[valueUserAgent][:]
	h[sign.HeaderID] = e.values[valueID][:]
	h[sign.HeaderTimestamp] = e.values[valueTimestamp][:]
	h[sign.HeaderSignature] = e.values[valueSignature][:]
	h["Grapnel-Delivery"] = e.values[valueDelivery][:]
	h["Grapnel-Attempt"] = e.values[valueAttempt][:]
}

// dress replaces the last endpoint's own headers by this one's. Ours come last:
// nothing overrides them, whatever the check of names may have let through.
func (e *exchange) dress(headers []targetHeader) {
	for _, h := range e.custom {
		delete(e.req.Header, h.name)
	}
	for _, h := range headers {
		e.req.Header[h.name] = h.value
	}
	e.custom = headers
	e.own()
}

// prepare sets everything that differs from one request to the next.
func (e *exchange) prepare(t *Target, p *Payload, k Key, attempt int, now time.Time) {
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
	text = sign.AppendSignature(text[:0], t.live(e.live[:0], now), all[:id], now, p.Body)
	e.values[valueSignature][0] = string(text)
	e.text = text
	if len(t.headers) > 0 || len(e.custom) > 0 {
		e.dress(t.headers)
	}
	if validTraceParent(p.TraceParent) {
		e.values[valueTraceParent][0] = p.TraceParent
		e.req.Header[headerTraceParent] = e.values[valueTraceParent][:]
	} else {
		delete(e.req.Header, headerTraceParent)
	}
	e.req.URL = t.url
	e.req.ContentLength = int64(len(p.Body))
	e.body.Reset(p.Body)
	e.idle.Store(false)
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
