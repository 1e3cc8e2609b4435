//go:build unix

package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// hook is one endpoint as its receiver knows it.
type hook struct {
	name      string // its path
	org       string
	types     []string
	workspace string
	attempts  int
	timeout   time.Duration // 0: a second
	start     string        // in the stream; "": now
	// moods draws how a request is answered while there are faults; nil: well.
	moods func(*rand.Rand) answer
	// always is how every request is answered, faults or not; nil: see moods.
	always *answer

	id       string // ep_…
	secret   string
	verifier *webhooks.Webhook
}

// answer is what the receiver does with a request.
type answer struct {
	status int
	after  time.Duration
	hold   chan struct{} // answer when it is closed
	drop   bool          // close the connection without an answer
}

// call is one request that reached the receiver, an entry of its ledger.
type call struct {
	hook     *hook
	life     int // of the daemon that made it
	id       string
	delivery string
	attempt  int
	arrived  time.Time
	body     string
	wrong    string    // what is wrong with it, "" if nothing
	status   int       // answered with; 0: not, or not yet
	done     time.Time // answered, or found the connection gone; zero: not yet
}

// receiver is all endpoints of a scenario, with the ledger of what they saw.
type receiver struct {
	url  string
	seed uint64
	base context.Context
	v    *victim

	mu     sync.Mutex
	hooks  map[string]*hook
	ledger []*call
	nth    map[string]int // requests so far, by hook and webhook-id
	conns  int
	calm   bool // no more faults
}

func newReceiver(t *testing.T, v *victim, seed uint64) *receiver {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{
		url: "http://" + ln.Addr().String() + "/", seed: seed, base: t.Context(), v: v,
		hooks: map[string]*hook{}, nth: map[string]int{},
	}
	srv := &http.Server{Handler: r, ConnState: r.connState}
	served := make(chan struct{})
	go func() {
		defer close(served)
		srv.Serve(ln)
	}()
	t.Cleanup(func() {
		srv.Close()
		<-served
	})
	return r
}

func (r *receiver) connState(_ net.Conn, s http.ConnState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch s {
	case http.StateNew:
		r.conns++
	case http.StateClosed, http.StateHijacked:
		r.conns--
	}
}

// ServeHTTP enters the request into the ledger, then does as the script says.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	c := &call{
		arrived: time.Now(), id: req.Header.Get("webhook-id"), delivery: req.Header.Get("grapnel-delivery"),
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // cut off: the daemon died while it wrote, so nothing was asked of us
	}
	c.body = string(body)
	r.mu.Lock()
	c.hook = r.hooks[strings.TrimPrefix(req.URL.Path, "/")]
	r.mu.Unlock()
	if c.hook == nil {
		http.NotFound(w, req)
		return
	}
	if err := c.hook.verifier.Verify(body, req.Header); err != nil {
		c.wrong = fmt.Sprintf("signature: %v", err)
	}
	if c.attempt, err = strconv.Atoi(req.Header.Get("grapnel-attempt")); err != nil {
		c.wrong = fmt.Sprintf("grapnel-attempt: %v", err)
	}
	a := r.enter(c)
	defer r.mark(c, 0)
	r.obey(w, req, c, a)
}

// enter puts the call into the ledger and draws the answer.
func (r *receiver) enter(c *call) answer {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.life = int(r.v.present.Load())
	r.ledger = append(r.ledger, c)
	key := c.hook.name + " " + c.id
	nth := r.nth[key]
	r.nth[key]++
	switch {
	case c.hook.always != nil:
		return *c.hook.always
	case r.calm || c.hook.moods == nil:
		return answer{status: http.StatusOK}
	}
	h := fnv.New64a()
	binary.Write(h, binary.LittleEndian, r.seed)
	fmt.Fprintf(h, "%s %d", key, nth)
	return c.hook.moods(rand.New(rand.NewPCG(h.Sum64(), r.seed)))
}

func (r *receiver) obey(w http.ResponseWriter, req *http.Request, c *call, a answer) {
	gone := req.Context().Done() // the daemon gave up, or died
	if a.hold != nil {
		select {
		case <-a.hold:
		case <-gone:
			return
		case <-r.base.Done():
			return
		}
	}
	if a.after > 0 {
		late := time.NewTimer(a.after)
		defer late.Stop()
		select {
		case <-late.C:
		case <-gone:
			return
		case <-r.base.Done():
			return
		}
	}
	if a.drop {
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			conn.Close()
		}
		return
	}
	// Before it is written: whoever reads the answer must find it in the ledger.
	r.mark(c, a.status)
	w.Header().Set("X-Request-Id", c.delivery)
	w.WriteHeader(a.status)
	fmt.Fprintf(w, `{"answered":%d}`, a.status)
}

func (r *receiver) mark(c *call, status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.done = time.Now()
	if status != 0 {
		c.status = status
	}
}

// inFlight counts the requests that wait for an answer.
func (r *receiver) inFlight() (n int) {
	for _, c := range r.calls() {
		if c.done.IsZero() {
			n++
		}
	}
	return n
}

// cutOff counts the requests of a life whose answer it did not live to see.
func (r *receiver) cutOff(l *life) (n int) {
	const slack = 20 * time.Millisecond // between the death and the news of it
	for _, c := range r.calls() {
		if c.life == l.number && c.status == 0 && l.died.Sub(c.done) < slack {
			n++
		}
	}
	return n
}

// seen counts the requests so far.
func (r *receiver) seen() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.ledger)
}

// settle waits until every connection of a dead daemon has ended, so that no
// request of it can be taken for one of the next.
func (r *receiver) settle(ctx context.Context, t *testing.T) {
	t.Helper()
	eventually(ctx, t, "the dead daemon's connections to end", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.conns == 0
	})
}

// relent ends the faults.
func (r *receiver) relent() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calm = true
}

// calls is the ledger so far.
func (r *receiver) calls() []call {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]call, len(r.ledger))
	for i, c := range r.ledger {
		all[i] = *c
	}
	return all
}

// mixed draws 2xx, late 2xx, 500s, answers that never come (the endpoints' timeout is
// a second) and cut connections, each so many times in a thousand.
func mixed(late, fail, hang, drop int) func(*rand.Rand) answer {
	return func(rnd *rand.Rand) answer {
		n := rnd.IntN(1000)
		for _, m := range []struct {
			share int
			a     answer
		}{
			{late, answer{status: 202, after: time.Duration(50+rnd.IntN(600)) * time.Millisecond}},
			{fail, answer{status: 500 + rnd.IntN(4)}},
			{hang, answer{status: 200, after: 1500 * time.Millisecond}},
			{drop, answer{drop: true}},
		} {
			if n -= m.share; n < 0 {
				return m.a
			}
		}
		return answer{status: 200}
	}
}
