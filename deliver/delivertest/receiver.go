package delivertest

import (
	"bytes"
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver/sign"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// maxRequest is the largest body that a Receiver takes in.
const maxRequest = 16 << 20

// Answer is what a receiver does with one request, whose body has been read
// already.
type Answer func(w http.ResponseWriter, r *http.Request)

// Request is one line of a Receiver's ledger.
type Request struct {
	Time   time.Time // when its body had been read
	Method string
	Path   string
	Header http.Header
	Body   []byte
	// Invalid is why the official Standard Webhooks library did not accept the
	// signature; nil when it did, or when the receiver has no secret.
	Invalid error
}

// ID is the event's id.
func (r Request) ID() string { return r.Header.Get(sign.HeaderID) }

// Delivery is the delivery's id.
func (r Request) Delivery() string { return r.Header.Get("Grapnel-Delivery") }

// Attempt is the attempt's number, or 0.
func (r Request) Attempt() int {
	n, _ := strconv.Atoi(r.Header.Get("Grapnel-Attempt"))
	return n
}

// Receiver is a webhook receiver. It answers 204 unless told otherwise, and
// keeps a ledger of everything that arrived, in order. It is an [http.Handler]
// and safe for concurrent use.
type Receiver struct {
	secret string

	mu        sync.Mutex
	script    []Answer
	otherwise Answer
	ledger    []Request
	came      chan struct{} // closed and replaced with each request
}

// NewReceiver makes a receiver. With a secret, each request is verified by the
// official library.
func NewReceiver(secret ...sign.Secret) *Receiver {
	r := &Receiver{otherwise: Status(http.StatusNoContent), came: make(chan struct{})}
	if len(secret) > 0 {
		r.secret = secret[0].Reveal()
	}
	return r
}

// Script says what is done with the next requests, in the order of their
// arrival.
func (r *Receiver) Script(answers ...Answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.script = append(r.script, answers...)
}

// Otherwise says what is done with requests that the script does not cover.
func (r *Receiver) Otherwise(a Answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.otherwise = a
}

// Requests is a copy of the ledger.
func (r *Receiver) Requests() []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.ledger)
}

// Wait returns the ledger once it has n lines, or fails with ctx's error.
func (r *Receiver) Wait(ctx context.Context, n int) ([]Request, error) {
	for {
		r.mu.Lock()
		ledger, came := slices.Clone(r.ledger), r.came
		r.mu.Unlock()
		if len(ledger) >= n {
			return ledger, nil
		}
		select {
		case <-came:
		case <-ctx.Done():
			return ledger, ctx.Err()
		}
	}
}

// ServeHTTP implements [http.Handler].
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(io.LimitReader(req.Body, maxRequest))
	if err != nil {
		return // the client is gone; it sent no whole request
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	r.note(req, body)(w, req)
}

func (r *Receiver) note(req *http.Request, body []byte) Answer {
	line := Request{
		Time:   time.Now(),
		Method: req.Method,
		Path:   req.URL.RequestURI(),
		Header: req.Header.Clone(),
		Body:   body,
	}
	if r.secret != "" {
		official, err := standardwebhooks.NewWebhook(r.secret)
		if err == nil {
			err = official.Verify(body, req.Header)
		}
		line.Invalid = err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ledger = append(r.ledger, line)
	close(r.came)
	r.came = make(chan struct{})
	answer := r.otherwise
	if len(r.script) > 0 {
		answer, r.script = r.script[0], r.script[1:]
	}
	return answer
}

// Start serves the receiver on a free port of 127.0.0.1 until the test ends,
// and returns its URL.
func (r *Receiver) Start(tb testing.TB) (url string) {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	Serve(tb, ln, r)
	return "http://" + ln.Addr().String() + "/hook"
}

// Serve serves h on ln until the test ends, when it closes all connections and
// waits for the handlers.
func Serve(tb testing.TB, ln net.Listener, h http.Handler) {
	var (
		mu       sync.Mutex
		ended    bool // no handler starts any more
		handlers sync.WaitGroup
	)
	start := func() bool {
		mu.Lock()
		defer mu.Unlock()
		if !ended {
			handlers.Add(1)
		}
		return !ended
	}
	// Clients that break off are no news.
	srv := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if start() {
			defer handlers.Done()
			h.ServeHTTP(w, req)
		}
	})}
	var serving sync.WaitGroup
	serving.Go(func() { srv.Serve(ln) })
	tb.Cleanup(func() {
		mu.Lock()
		ended = true
		mu.Unlock()
		srv.Close()
		serving.Wait()
		handlers.Wait()
	})
}

// Status answers with a status code and no body.
func Status(code int) Answer {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// Reply answers with a status code, a body and headers given as name, value,
// name, value.
func Reply(code int, body string, header ...string) Answer {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Add(header[i], header[i+1])
		}
		w.WriteHeader(code)
		io.WriteString(w, body)
	}
}

// Hang answers nothing until the client gives up: the receiver has the request,
// and the client cannot know it.
func Hang() Answer {
	return func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() }
}

// Hold answers as then does, but not before release is closed or the client has
// given up.
func Hold(release <-chan struct{}, then Answer) Answer {
	return func(w http.ResponseWriter, req *http.Request) {
		select {
		case <-release:
		case <-req.Context().Done():
		}
		then(w, req)
	}
}

// After answers as then does, d later or when the client has given up.
func After(d time.Duration, then Answer) Answer {
	return func(w http.ResponseWriter, req *http.Request) {
		select {
		case <-time.After(d):
		case <-req.Context().Done():
		}
		then(w, req)
	}
}

// Reset breaks the connection instead of answering, on TCP by a RST.
func Reset() Answer {
	return func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			reset(c)
		}
	}
}

// reset closes c so that, on TCP, the peer sees a RST.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	c.Close()
}
