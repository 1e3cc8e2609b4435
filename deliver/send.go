package deliver

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Limits of what is read of a response.
const (
	KeptBody          = 4 << 10         // bytes of the body that are kept
	maxBody           = 16 << 10        // bytes of the body that are read, so that the connection can be used again
	maxResponseHeader = 64 << 10        // bytes; net/http's own default is 10 MiB
	bodyTimeout       = 2 * time.Second // after the headers
	keptHeaderValue   = 256             // bytes of the value of a kept header
)

// keptHeaders are the response headers that an Outcome keeps: those that tell
// its owner why a receiver refused, and which of its machines to ask.
var keptHeaders = [...]string{"Content-Type", "Location", "Retry-After", "Server", "X-Request-Id"}

const (
	defaultIdleConns = 4096
	idlePerHost      = MaxConcurrency
	// idleTimeout is shorter than the 5 s after which common servers close an
	// idle connection (Node.js, Apache), since a request that meets such a close on
	// its way is lost, and costs the receiver an attempt.
	idleTimeout = 4 * time.Second
	// idleExchanges bounds the exchanges kept for use again.
	idleExchanges = 1024
)

// SenderOptions are what a [Sender] is made from.
type SenderOptions struct {
	Guard     *Guard // nil: the public internet only
	AllowHTTP bool   // also send to http:// URLs
	UserAgent string // grapnel/<version>
	// MaxIdleConns is how many connections are kept open between requests, over
	// all endpoints; 0 means 4096. One costs two goroutines and about 12 KiB.
	MaxIdleConns int
	// RootCAs are the authorities that certificates are checked against; nil
	// means the machine's.
	RootCAs *x509.CertPool
	// Resolver looks up names; nil means the machine's resolver.
	Resolver Resolver
	// Proxy is the egress proxy by which every receiver is reached, http or https,
	// with user and password if it wants them; nil: none. See CheckProxy.
	Proxy *url.URL
	// Dial connects to an IP address and port; nil means TCP. It is for
	// networks in memory. The guard is asked before it.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Tracer makes a span of each attempt; nil: none. Without one receivers get the
	// trace context that the event came with.
	Tracer Tracer
}

// Sender makes attempts: one signed, guarded request each, by HTTP/2 where the
// receiver speaks it over TLS, else by HTTP/1.1. It is safe for concurrent use, and
// keeps connections to be used again.
//
// An attempt is at most one request on the wire: redirects are not followed
// and nothing is sent again by the transport, not even when a kept connection
// turns out to be dead, or when a receiver that closes one by HTTP/2 says that it
// has not looked at the request. That attempt ends as [Reset] and counts, since in
// general it cannot be told whether the receiver acted on the request; it is
// made rare by closing idle connections before the receiver does.
//
// Proxies in the environment are ignored, since the guard would see only the
// proxy's address. Compression is neither asked for nor undone.
type Sender struct {
	transports *transports
	tokens     *tokens
	userAgent  string
	allowHTTP  atomic.Bool
	tracer     Tracer // nil: none
	exchanges  chan *exchange
	stop       context.CancelFunc
}

// NewSender makes a Sender. Close it after its last Send has returned.
func NewSender(o SenderOptions) *Sender {
	stopped, stop := context.WithCancel(context.Background())
	d := dialer{
		guard:    o.Guard,
		resolver: o.Resolver,
		connect:  o.Dial,
		stopped:  stopped,
		tls:      clientTLS(o.RootCAs),
	}
	if d.resolver == nil {
		d.resolver = net.DefaultResolver
	}
	if d.connect == nil {
		d.connect = guarded(o.Guard)
	}
	if o.Proxy != nil {
		d.proxy = newEgressProxy(o)
	}
	if o.MaxIdleConns <= 0 {
		o.MaxIdleConns = defaultIdleConns
	}
	s := &Sender{
		transports: newTransports(d, o.MaxIdleConns),
		userAgent:  o.UserAgent,
		tracer:     o.Tracer,
		exchanges:  make(chan *exchange, idleExchanges),
		stop:       stop,
	}
	s.allowHTTP.Store(o.AllowHTTP)
	s.tokens = newTokens(stopped, &s.transports.open, o.UserAgent, &s.allowHTTP)
	return s
}

// Reach connects to "host:port" as an attempt would, by the proxy if there is one,
// asks the guard as always, makes TLS, and closes the connection again: no request is
// sent. The error is what an attempt would show.
func (s *Sender) Reach(ctx context.Context, address string) error {
	c, err := s.transports.dialer.dialTLS(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return c.Close()
}

// Renew is for when the guard goes by other rules ([Guard.Set]): it says whether
// requests go to http:// URLs from now on, and lets none use a connection that was
// made before, whose address the guard might refuse by now. Requests in flight end
// as they began.
func (s *Sender) Renew(allowHTTP bool) {
	s.allowHTTP.Store(allowHTTP)
	s.transports.renew()
}

// Close ends the dials that outlived their attempts, and closes idle
// connections.
func (s *Sender) Close() {
	s.stop()
	s.tokens.wait()
	s.transports.close()
	for {
		select {
		case e := <-s.exchanges:
			e.cancel(context.Canceled)
		default:
			return
		}
	}
}

// Send makes attempt number attempt (from 1) at delivery k: it posts p to t,
// signed as of now, and reports what came of it. One deadline, t's timeout,
// spans name resolution, connection, TLS, request and response; headers decide
// the class, so a body that is cut short, endless or late changes nothing but
// Truncated. When ctx ends before an answer came, the outcome is [Ours]: nobody
// can say whether the receiver got the request.
func (s *Sender) Send(ctx context.Context, t *Target, p *Payload, k Key, attempt int, now time.Time) Outcome {
	if t.url.Scheme != "https" && !s.allowHTTP.Load() {
		return Outcome{Class: BlockedAddress, Error: ErrBlocked.Error()}
	}
	start := time.Now()
	e := s.exchange(ctx)
	e.within(t.timeout)
	e.traceParent = p.TraceParent
	var span AttemptSpan
	if s.tracer != nil {
		span = s.beginSpan(t, p, k, attempt, now)
		e.traceParent = span.TraceParent()
	}
	var o Outcome
	res, t, err := s.roundTrip(e, t, p, k, attempt, now)
	e.trace.report(&o, err)
	if err != nil {
		o.Class, o.Error = failure(ctx, e, t, err)
	} else {
		o.Class = classOf(res.StatusCode)
		o.Status = res.StatusCode
		o.Header = keptHeader(res.Header, t)
		if o.Status == http.StatusTooManyRequests || o.Status == http.StatusServiceUnavailable {
			o.RetryAfter = retryAfter(res.Header.Get("Retry-After"), now)
		}
		if o.Status == http.StatusUnauthorized && t.token != "" {
			s.tokens.refused(t)
		}
		if res.Body != http.NoBody {
			if left := t.timeout - time.Since(start); left > bodyTimeout {
				e.sooner(bodyTimeout)
			}
			o.Body, o.Truncated = readBody(res, t)
		}
	}
	if e.finish() {
		select {
		case s.exchanges <- e:
		default:
			e.cancel(context.Canceled)
		}
	}
	o.Duration = time.Since(start)
	if span != nil {
		return endSpan(span, o)
	}
	return o
}

// roundTrip makes the request. It returns the target as it was used, with the
// token that was fetched for it, if it needs one.
func (s *Sender) roundTrip(e *exchange, t *Target, p *Payload, k Key, attempt int, now time.Time) (*http.Response, *Target, error) {
	e.trace.reset()
	transport := s.transports.open.Load()
	if t.credentials != nil {
		var err error
		if t.needsToken() {
			e.stage.Store(stageToken)
			bearer, err := s.tokens.with(e.ctx, t)
			if err != nil {
				return nil, t, err
			}
			t = bearer
		}
		if transport, err = s.transports.of(t); err != nil {
			return nil, t, failed(TLS, err.Error(), err)
		}
	}
	if err := e.prepare(t, p, k, attempt, now); err != nil {
		return nil, t, failed(Ours, panicked+": "+err.Error(), err)
	}
	res, err := transport.RoundTrip(e.req)
	return res, t, err
}

// exchange takes one that was used before under the same context, or makes one.
func (s *Sender) exchange(ctx context.Context) *exchange {
	select {
	case e := <-s.exchanges:
		if e.parent == ctx.Done() && ctx.Err() == nil {
			return e
		}
		e.cancel(context.Canceled)
	default:
	}
	return newExchange(ctx, s.userAgent)
}

// classOf sorts an answer by its status code.
func classOf(status int) Class {
	switch status / 100 {
	case 2:
		return OK
	case 3:
		return Redirect
	case 4:
		return HTTP4xx
	}
	return HTTP5xx
}

func keptHeader(h http.Header, t *Target) http.Header {
	var kept http.Header
	for _, name := range keptHeaders {
		if v := h[name]; len(v) > 0 && v[0] != "" {
			if kept == nil {
				kept = make(http.Header, len(keptHeaders))
			}
			value := v[0]
			if len(t.masked) > 0 || strings.Contains(value, secretPrefix) {
				value = string(t.mask([]byte(value)))
			}
			kept[name] = []string{value[:min(len(value), keptHeaderValue)]}
		}
	}
	return kept
}

var bodies = sync.Pool{New: func() any { return new([maxBody]byte) }}

// readBody reads the body up to its limit, so that the connection can be used
// again, and returns what is kept of it, and whether that is not all. Masked is
// what was read, not what is kept of it: the end of that may cut a value in two.
func readBody(res *http.Response, t *Target) (kept []byte, truncated bool) {
	defer res.Body.Close()
	if res.StatusCode == http.StatusSwitchingProtocols {
		return nil, true // what follows is no body, and never ends
	}
	buf := bodies.Get().(*[maxBody]byte)
	defer bodies.Put(buf)
	n, complete := 0, false
	for n < maxBody {
		m, err := res.Body.Read(buf[n:])
		n += m
		if err != nil {
			complete = err == io.EOF
			break
		}
	}
	if n > 0 {
		text := t.mask(buf[:n])
		if !complete {
			text = t.maskEnd(text)
		}
		kept = slices.Clone(text[:min(len(text), KeptBody)])
	}
	return kept, !complete || n > KeptBody
}

// failure sorts the error of a request that got no answer, and words it for
// people: without addresses, secrets, or what the other side sent.
func failure(ctx context.Context, e *exchange, t *Target, err error) (Class, string) {
	var (
		d     *dialError
		token *tokenError
		alert *net.OpError
	)
	switch {
	case context.Cause(e.ctx) == errDeadline:
		return late(e.stage.Load(), t.timeout)
	case ctx.Err() != nil:
		return Ours, "stopped before an answer came"
	case exhausted(err):
		return Ours, "this machine is out of sockets or memory"
	case errors.As(err, &token):
		return token.class, token.text
	case errors.As(err, &d):
		return d.class, d.text
	case refusedByAlert(err, &alert):
		return TLS, "the TLS connection was refused: " + alert.Err.Error()
	}
	return broken(err)
}

// late is the outcome of a deadline that passed at that stage.
func late(stage int32, timeout time.Duration) (Class, string) {
	switch stage {
	case stageProxy:
		return Ours, fmt.Sprintf("the egress proxy was not reached within %v", timeout)
	case stageToken:
		return Timeout, fmt.Sprintf("the token server did not answer within %v", timeout)
	case stageDial:
		return Timeout, fmt.Sprintf("no connection within %v", timeout)
	}
	return Timeout, fmt.Sprintf("no answer within %v", timeout)
}

// broken is the outcome of an error that came after the connection.
func broken(err error) (Class, string) {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return Reset, "the connection was closed before an answer came"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return Reset, "the connection was reset before an answer came"
	case errors.Is(err, errFlood):
		return Reset, "the receiver sends more than its answers"
	case strings.Contains(err.Error(), "http2: client connection lost"):
		return Reset, "the connection is dead: it answers no ping"
	case strings.HasPrefix(err.Error(), "http2: Transport: cannot retry"), strings.Contains(err.Error(), "cannot rewind body"):
		return Reset, "the receiver closed the connection, or refused the request, before it took it"
	}
	return Reset, "what came was not an HTTP response within its limits"
}

// exhausted reports whether the cause lies with this machine's limits alone. An
// address that cannot be assigned is not one: that is also how a machine
// without IPv6 answers for ever.
func exhausted(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) ||
		errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ENOMEM)
}
