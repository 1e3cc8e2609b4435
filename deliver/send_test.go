package deliver_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/delivertest"
	"github.com/grapnel-hooks/grapnel/deliver/sign"
	"github.com/grapnel-hooks/grapnel/stream"
	"go.uber.org/goleak"
)

// loopback lets a Sender reach this machine, over http.
func loopback() deliver.SenderOptions {
	return deliver.SenderOptions{
		Guard:     deliver.NewGuard([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}),
		AllowHTTP: true,
		UserAgent: "grapnel/test",
	}
}

// inMemory lets a Sender reach the given network, over http and by default.
func inMemory(n *delivertest.Network) deliver.SenderOptions {
	return deliver.SenderOptions{AllowHTTP: true, UserAgent: "grapnel/test", Dial: n.Dial, Resolver: n}
}

func newSender(t testing.TB, o deliver.SenderOptions) *deliver.Sender {
	s := deliver.NewSender(o)
	t.Cleanup(s.Close)
	return s
}

func target(t testing.TB, url string, secrets ...sign.Secret) *deliver.Target {
	t.Helper()
	if len(secrets) == 0 {
		secrets = []sign.Secret{sign.NewSecret()}
	}
	to, err := deliver.NewTarget(deliver.Endpoint{ID: "ep_1", URL: url, Secrets: secrets})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

func payload(n int64, body string) *deliver.Payload {
	return &deliver.Payload{
		Event: n, ID: stream.KeyID("acme", fmt.Sprint(n)), Org: "acme", Type: "invoice.paid",
		Stored: time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC), Body: []byte(body),
	}
}

func send(t testing.TB, s *deliver.Sender, to *deliver.Target, n int64) deliver.Outcome {
	return s.Send(t.Context(), to, payload(n, `{"n":1}`), deliver.Key{Event: n, Endpoint: 7}, 1, time.Now())
}

// What goes over the wire is exactly the documented header set, byte for byte.
func TestSEC15_WholeRequest(t *testing.T) {
	parse := func(text string) sign.Secret {
		s, err := sign.ParseSecret(text)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	newest := parse("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	older := parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for _, tc := range []struct {
		file, url, trace string
		secrets          []sign.Secret
		attempt          int
	}{
		{"standard.http", "http://receiver.example/hooks/billing?tenant=1", "", []sign.Secret{newest}, 1},
		{"standard-rotated-traced.http", "http://receiver.example:8080", traceparent, []sign.Secret{newest, older}, 12},
		{"standard.http", "http://receiver.example/hooks/billing?tenant=1", traceparent + "\r\nX-Forged: 1", []sign.Secret{newest}, 1},
	} {
		t.Run(tc.file, func(t *testing.T) {
			n := delivertest.NewNetwork()
			n.Name("receiver.example", "93.184.215.14")
			got := make(chan []byte, 1)
			for _, port := range []string{"80", "8080"} {
				ln := n.Listen("93.184.215.14:" + port)
				defer ln.Close()
				go func() {
					c, err := ln.Accept()
					if err != nil {
						return
					}
					defer c.Close()
					b := make([]byte, 4096) // net.Pipe: a write is read whole, so this is all in one write
					k, _ := c.Read(b)
					got <- b[:k]
					io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
				}()
			}
			p := payload(42, `{"id":"evt_…","type":"invoice.paid","data":{"invoice":"in_1"}}`)
			p.TraceParent = tc.trace
			s := newSender(t, inMemory(n))
			at := time.Date(2026, 11, 21, 10, 0, 5, 999e6, time.UTC)
			o := s.Send(t.Context(), target(t, tc.url, tc.secrets...), p, deliver.Key{Event: 42, Endpoint: 7}, tc.attempt, at)
			if o.Class != deliver.OK {
				t.Fatalf("outcome %+v", o)
			}
			request := <-got
			golden(t, tc.file, request)
			for _, secret := range tc.secrets {
				if bytes.Contains(request, []byte(strings.TrimPrefix(secret.Reveal(), "whsec_"))) {
					t.Error("the request holds the secret")
				}
			}
		})
	}
}

// golden compares with a file of the repository's testdata/requests, and writes
// it when GRAPNEL_GOLDEN is set.
func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	path := filepath.Join("..", "testdata", "requests", file)
	if os.Getenv("GRAPNEL_GOLDEN") != "" {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestOfficialLibraryVerifiesWhatIsSent(t *testing.T) {
	secret, older := sign.NewSecret(), sign.NewSecret()
	for _, verifier := range []sign.Secret{secret, older} {
		r := delivertest.NewReceiver(verifier)
		s := newSender(t, loopback())
		to := target(t, r.Start(t), secret, older)
		for i, body := range []string{`{}`, `{"name":"東京"}`, strings.Repeat("x", 256<<10)} {
			o := s.Send(t.Context(), to, payload(int64(i), body), deliver.Key{Event: int64(i), Endpoint: 7}, i+1, time.Now())
			if o.Class != deliver.OK || o.Status != 204 || o.Error != "" || o.Duration <= 0 {
				t.Errorf("outcome %+v", o)
			}
		}
		for i, req := range r.Requests() {
			if req.Invalid != nil {
				t.Errorf("request %d: %v", i, req.Invalid)
			}
			if req.Attempt() != i+1 || req.ID() != payload(int64(i), "").ID.String() {
				t.Errorf("request %d has attempt %d and id %s", i, req.Attempt(), req.ID())
			}
		}
	}
}

func TestOutcomeOfAnAnswer(t *testing.T) {
	type outcome struct {
		Class      deliver.Class
		Status     int
		RetryAfter time.Duration
		Header     http.Header
		Body       string
		Truncated  bool
	}
	for _, tc := range []struct {
		name   string
		answer delivertest.Answer
		want   outcome
	}{
		{"204", delivertest.Status(204), outcome{Status: 204}},
		{"body", delivertest.Reply(200, "ok\n", "Content-Type", "text/plain", "X-Request-Id", "r1", "X-Other", "x"),
			outcome{Status: 200, Body: "ok\n", Header: http.Header{"Content-Type": {"text/plain"}, "X-Request-Id": {"r1"}}}},
		{"body of 4 KiB", delivertest.Reply(400, strings.Repeat("x", 4096), "Content-Type", ""),
			outcome{Class: deliver.HTTP4xx, Status: 400, Body: strings.Repeat("x", 4096)}},
		{"body of 4 KiB and a byte", delivertest.Reply(500, strings.Repeat("x", 4097), "Content-Type", ""),
			outcome{Class: deliver.HTTP5xx, Status: 500, Body: strings.Repeat("x", 4096), Truncated: true}},
		{"long header", delivertest.Reply(200, "", "Server", strings.Repeat("s", 300)),
			outcome{Status: 200, Header: http.Header{"Server": {strings.Repeat("s", 256)}}}},
		{"429 with Retry-After", delivertest.Reply(429, "", "Retry-After", "120"),
			outcome{Class: deliver.HTTP4xx, Status: 429, RetryAfter: 2 * time.Minute, Header: http.Header{"Retry-After": {"120"}}}},
		{"503 with Retry-After", delivertest.Reply(503, "", "Retry-After", "9999999"),
			outcome{Class: deliver.HTTP5xx, Status: 503, RetryAfter: 24 * time.Hour, Header: http.Header{"Retry-After": {"9999999"}}}},
		{"500 with Retry-After", delivertest.Reply(500, "", "Retry-After", "120"),
			outcome{Class: deliver.HTTP5xx, Status: 500, Header: http.Header{"Retry-After": {"120"}}}},
		{"410", delivertest.Status(410), outcome{Class: deliver.HTTP4xx, Status: 410}},
		{"redirect", delivertest.Reply(302, "", "Location", "/x"),
			outcome{Class: deliver.Redirect, Status: 302, Header: http.Header{"Location": {"/x"}}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := delivertest.NewReceiver()
			r.Script(tc.answer)
			o := send(t, newSender(t, loopback()), target(t, r.Start(t)), 1)
			got := outcome{o.Class, o.Status, o.RetryAfter, o.Header, string(o.Body), o.Truncated}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if n := len(r.Requests()); n != 1 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	for _, tc := range []struct {
		name   string
		answer delivertest.Answer
		dials  int
	}{
		{"no body", delivertest.Status(204), 1},
		{"small body", delivertest.Reply(200, "ok"), 1},
		{"body of 15 KiB", delivertest.Reply(500, strings.Repeat("x", 15<<10)), 1},
		{"body of 64 KiB", delivertest.Reply(200, strings.Repeat("x", 64<<10)), 10},
		{"connection: close", delivertest.Reply(200, "ok", "Connection", "close"), 10},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := delivertest.NewNetwork()
				r := delivertest.NewReceiver()
				r.Otherwise(tc.answer)
				delivertest.Serve(t, n.Listen("93.184.215.14:80"), r)
				s, to := newSender(t, inMemory(n)), target(t, "http://93.184.215.14/")
				for i := range 10 {
					if o := send(t, s, to, int64(i)); o.Status == 0 {
						t.Fatalf("outcome %+v", o)
					}
				}
				if got := len(n.Dialed()); got != tc.dials {
					t.Errorf("%d connections, want %d", got, tc.dials)
				}
				if got := len(r.Requests()); got != 10 {
					t.Errorf("%d requests", got)
				}
			})
		})
	}
}

func TestIdleConnectionsAreClosedSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := delivertest.NewNetwork()
		r := delivertest.NewReceiver()
		delivertest.Serve(t, n.Listen("93.184.215.14:80"), r)
		s, to := newSender(t, inMemory(n)), target(t, "http://93.184.215.14/")
		for i, pause := range []time.Duration{3 * time.Second, 5 * time.Second, 0} {
			send(t, s, to, int64(i))
			time.Sleep(pause)
		}
		if got := len(n.Dialed()); got != 2 {
			t.Errorf("%d connections, want 2", got)
		}
	})
}

// A receiver that breaks a kept connection on its second request sees that
// request once: the transport must not send it again.
func TestREL27_NothingIsSentAgain(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var onWire atomic.Int64
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				for i := range 2 {
					b := make([]byte, 8192)
					if k, _ := c.Read(b); k == 0 {
						return
					}
					onWire.Add(1)
					if i == 0 {
						io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
					}
				}
			})
		}
	})
	s, to := newSender(t, loopback()), target(t, "http://"+ln.Addr().String()+"/")
	const attempts = 100
	classes := map[deliver.Class]int{}
	for i := range int64(attempts) {
		classes[send(t, s, to, i).Class]++
	}
	want := map[deliver.Class]int{deliver.OK: attempts / 2, deliver.Reset: attempts / 2}
	if diff := cmp.Diff(want, classes); diff != "" {
		t.Errorf("classes: -want +got:\n%s", diff)
	}
	s.Close()
	ln.Close()
	conns.Wait()
	if n := onWire.Load(); n != attempts {
		t.Errorf("%d requests on the wire for %d attempts", n, attempts)
	}
}

// Connections that the receiver closes while they are idle cost at most the
// attempt that meets the close, and never a second request.
func TestREL27_DeadIdleConnections(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var onWire atomic.Int64
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				b := make([]byte, 8192)
				if k, _ := c.Read(b); k > 0 {
					onWire.Add(1)
					io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
				}
				c.(*net.TCPConn).SetLinger(0)
				c.Close() // a RST on what the client takes for an idle connection
			})
		}
	})
	s, to := newSender(t, loopback()), target(t, "http://"+ln.Addr().String()+"/")
	const attempts = 200
	answered := 0
	for i := range int64(attempts) {
		switch o := send(t, s, to, i); o.Class {
		case deliver.OK:
			answered++
		case deliver.Reset:
		default:
			t.Errorf("outcome %+v", o)
		}
	}
	s.Close()
	ln.Close()
	conns.Wait()
	if n := onWire.Load(); n > attempts || n < int64(answered) {
		t.Errorf("%d requests on the wire, %d answered, of %d", n, answered, attempts)
	}
}

func TestDeadlineAndShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := delivertest.NewNetwork()
		r := delivertest.NewReceiver()
		r.Otherwise(delivertest.Hang())
		delivertest.Serve(t, n.Listen("93.184.215.14:80"), r)
		s, to := newSender(t, inMemory(n)), target(t, "http://93.184.215.14/")

		start := time.Now()
		o := send(t, s, to, 1)
		if o.Class != deliver.Timeout || o.Duration != 10*time.Second || time.Since(start) != 10*time.Second {
			t.Errorf("deadline: %+v", o)
		}
		if o.Error != "no answer within 10s" {
			t.Errorf("text %q", o.Error)
		}

		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(3*time.Second, cancel)
		o = s.Send(ctx, to, payload(2, "{}"), deliver.Key{Event: 2}, 1, time.Now())
		if o.Class != deliver.Ours || o.Duration != 3*time.Second {
			t.Errorf("shutdown: %+v", o)
		}
		o = s.Send(ctx, to, payload(3, "{}"), deliver.Key{Event: 3}, 1, time.Now())
		if o.Class != deliver.Ours || o.Duration != 0 {
			t.Errorf("after shutdown: %+v", o)
		}
		if got := len(r.Requests()); got != 2 {
			t.Errorf("%d requests, want 2", got)
		}

		// A context that goes on is not touched by what became of another.
		r.Otherwise(delivertest.Status(204))
		if o := send(t, s, to, 4); o.Class != deliver.OK {
			t.Errorf("afterwards: %+v", o)
		}
	})
}

func TestTheAnswerJustBeforeTheDeadlineCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := delivertest.NewNetwork()
		r := delivertest.NewReceiver()
		delivertest.Serve(t, n.Listen("93.184.215.14:80"), r)
		s, to := newSender(t, inMemory(n)), target(t, "http://93.184.215.14/")
		for i := range int64(20) { // the same exchange, its deadline moved each time
			r.Script(delivertest.After(10*time.Second-1, delivertest.Reply(200, "late")))
			if o := send(t, s, to, i); o.Class != deliver.OK || string(o.Body) != "late" || o.Truncated {
				t.Fatalf("attempt %d: %+v", i, o)
			}
		}
	})
}

// Attempts in flight at the same time do not mix their headers, bodies or
// deadlines, also when receivers answer before they have read the request.
func TestAttemptsDoNotMix(t *testing.T) {
	early, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := early.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				for b := bufio.NewReader(c); ; {
					req, err := http.ReadRequest(b)
					if err != nil {
						return
					}
					io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
					io.Copy(io.Discard, req.Body)
				}
			})
		}
	})
	secret := sign.NewSecret()
	r := delivertest.NewReceiver(secret)
	s := newSender(t, loopback())
	good, bad := target(t, r.Start(t), secret), target(t, "http://"+early.Addr().String()+"/", secret)
	const workers, each = 8, 50
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				n := int64(w*each + i)
				body := fmt.Sprintf(`{"n":%d,"pad":"%s"}`, n, strings.Repeat(fmt.Sprint(w), 1000*(i%3*i)))
				p := payload(n, body)
				k := deliver.Key{Event: n, Endpoint: int64(w)}
				if i%2 == 0 {
					s.Send(t.Context(), bad, p, k, i, time.Now())
				}
				if o := s.Send(t.Context(), good, p, k, i, time.Now()); o.Class != deliver.OK {
					t.Errorf("outcome %+v", o)
				}
			}
		})
	}
	wg.Wait()
	s.Close()
	early.Close()
	conns.Wait()
	ledger := r.Requests()
	if len(ledger) != workers*each {
		t.Errorf("%d requests, want %d", len(ledger), workers*each)
	}
	for _, req := range ledger {
		var n int64
		fmt.Sscanf(string(req.Body), `{"n":%d`, &n)
		k := deliver.Key{Event: n, Endpoint: n / each}
		p := payload(n, "")
		if req.Invalid != nil || req.ID() != p.ID.String() || req.Delivery() != k.ID(p.Stored) || req.Attempt() != int(n%each) {
			t.Errorf("event %d: %v, headers %v", n, req.Invalid, req.Header)
		}
	}
}

func TestBlockedDestinationsAreNeverDialed(t *testing.T) {
	for _, tc := range []struct {
		name, url string
		addrs     []string
		allowHTTP bool
		dialed    []string
		class     deliver.Class
	}{
		{"literal loopback", "http://127.0.0.1/", nil, true, nil, deliver.BlockedAddress},
		{"literal IPv6 loopback", "http://[::1]/", nil, true, nil, deliver.BlockedAddress},
		{"mapped", "http://[::ffff:10.0.0.1]/", nil, true, nil, deliver.BlockedAddress},
		{"name that resolves to private addresses", "https://rebind.example/", []string{"10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"}, false, nil, deliver.BlockedAddress},
		{"name that resolves to metadata", "https://rebind.example/", []string{"169.254.169.254"}, false, nil, deliver.BlockedAddress},
		{"zone", "https://rebind.example/", []string{"fe80::1%eth0"}, false, nil, deliver.BlockedAddress},
		{"http, not allowed", "http://rebind.example/", []string{"93.184.215.14"}, false, nil, deliver.BlockedAddress},
		{"one public among private", "https://rebind.example/", []string{"10.0.0.1", "93.184.215.14", "127.0.0.1"}, false, []string{"93.184.215.14:443"}, deliver.Connect},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := delivertest.NewNetwork()
			n.Name("rebind.example", tc.addrs...)
			options := inMemory(n)
			options.AllowHTTP = tc.allowHTTP
			o := send(t, newSender(t, options), target(t, tc.url), 1)
			if o.Class != tc.class {
				t.Errorf("outcome %+v", o)
			}
			if o.Class == deliver.BlockedAddress && o.Error != "destination not allowed" {
				t.Errorf("text %q", o.Error)
			}
			var dialed []string
			for _, a := range n.Dialed() {
				dialed = append(dialed, a.String())
			}
			if diff := cmp.Diff(tc.dialed, dialed); diff != "" {
				t.Errorf("dialed: -want +got:\n%s", diff)
			}
		})
	}
}

// The guard also sits where the socket is made: without Dial there is no way
// around it. (Nothing listens on these ports, and nothing is reached.)
func TestSEC01_TheRealDialerIsGuarded(t *testing.T) {
	s := newSender(t, deliver.SenderOptions{AllowHTTP: true})
	if o := send(t, s, target(t, "http://127.0.0.1:1/"), 1); o.Class != deliver.BlockedAddress {
		t.Errorf("outcome %+v", o)
	}
	s = newSender(t, loopback())
	if o := send(t, s, target(t, "http://127.0.0.1:1/"), 1); o.Class != deliver.Connect || o.Error != "connection refused" {
		t.Errorf("outcome %+v", o)
	}
}

// A name that is public when it is checked and private when it is dialed.
func TestSEC10_Rebind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := delivertest.NewNetwork()
		asked := 0
		n.NameFunc("rebind.example", func() []netip.Addr {
			if asked++; asked == 1 {
				return []netip.Addr{netip.MustParseAddr("93.184.215.14")}
			}
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}
		})
		public, private := delivertest.NewReceiver(), delivertest.NewReceiver()
		delivertest.Serve(t, n.Listen("93.184.215.14:80"), public)
		delivertest.Serve(t, n.Listen("127.0.0.1:80"), private)
		s, to := newSender(t, inMemory(n)), target(t, "http://rebind.example/")
		var classes []deliver.Class
		for i := range int64(3) {
			classes = append(classes, send(t, s, to, i).Class)
			if i == 1 { // the kept connection still leads to the public address
				time.Sleep(time.Minute)
			}
		}
		if diff := cmp.Diff([]deliver.Class{deliver.OK, deliver.OK, deliver.BlockedAddress}, classes); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if len(public.Requests()) != 2 || len(private.Requests()) != 0 || len(n.Dialed()) != 1 {
			t.Errorf("%d and %d requests, dialed %v", len(public.Requests()), len(private.Requests()), n.Dialed())
		}
	})
}

type resolverFunc func(ctx context.Context) ([]netip.Addr, error)

func (f resolverFunc) LookupNetIP(ctx context.Context, _, _ string) ([]netip.Addr, error) {
	return f(ctx)
}

func TestREL23_Resolution(t *testing.T) {
	many := make([]netip.Addr, 1000)
	for i := range many {
		many[i] = netip.AddrFrom4([4]byte{93, 184, byte(i / 256), byte(i)})
	}
	for _, tc := range []struct {
		name    string
		resolve resolverFunc
		class   deliver.Class
		text    string
		took    time.Duration
		dialed  int
	}{
		{"no such name", func(context.Context) ([]netip.Addr, error) {
			return nil, &net.DNSError{Err: "no such host", Name: "receiver.example", IsNotFound: true}
		}, deliver.DNS, "the name does not exist", 0, 0},
		{"server failure", func(context.Context) ([]netip.Addr, error) {
			return nil, &net.DNSError{Err: "server misbehaving", Name: "receiver.example", Server: "10.0.0.53:53", IsTemporary: true}
		}, deliver.DNS, "the name did not resolve", 0, 0},
		{"no address", func(context.Context) ([]netip.Addr, error) { return nil, nil },
			deliver.DNS, "the name has no address", 0, 0},
		{"hangs", func(ctx context.Context) ([]netip.Addr, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, deliver.DNS, "the name did not resolve within 5s", 5 * time.Second, 0},
		{"no descriptors left", func(context.Context) ([]netip.Addr, error) {
			return nil, &net.DNSError{Err: "dial udp 10.0.0.53:53: socket: too many open files"}
		}, deliver.Ours, "this machine is out of sockets or memory", 0, 0},
		{"1000 addresses", func(context.Context) ([]netip.Addr, error) { return many, nil },
			deliver.Connect, "connection refused", 0, 8},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := delivertest.NewNetwork()
				options := inMemory(n)
				options.Resolver = tc.resolve
				o := send(t, newSender(t, options), target(t, "https://receiver.example/"), 1)
				if o.Class != tc.class || o.Error != tc.text || o.Duration != tc.took {
					t.Errorf("outcome %+v", o)
				}
				if got := len(n.Dialed()); got != tc.dialed {
					t.Errorf("dialed %d addresses, want %d", got, tc.dialed)
				}
			})
		})
	}
}

func TestAddressesAreTriedInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := delivertest.NewNetwork()
		n.Name("receiver.example", "2606:4700::1", "2606:4700::2", "93.184.215.14", "93.184.215.15")
		n.BlackHole("[2606:4700::1]:80")
		r := delivertest.NewReceiver()
		delivertest.Serve(t, n.Listen("93.184.215.15:80"), r)
		o := send(t, newSender(t, inMemory(n)), target(t, "http://receiver.example/"), 1)
		// The black hole costs one wait; what refuses costs none.
		if o.Class != deliver.OK || o.Duration != 300*time.Millisecond {
			t.Errorf("outcome %+v", o)
		}
		want := []string{"[2606:4700::1]:80", "93.184.215.14:80", "[2606:4700::2]:80", "93.184.215.15:80"}
		var got []string
		for _, a := range n.Dialed() {
			got = append(got, a.String())
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}

func TestBlackHoleEndsAtTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := delivertest.NewNetwork()
		n.BlackHole("93.184.215.14:443")
		to, err := deliver.NewTarget(deliver.Endpoint{URL: "https://93.184.215.14/", Timeout: 3 * time.Second, Secrets: []sign.Secret{sign.NewSecret()}})
		if err != nil {
			t.Fatal(err)
		}
		if o := send(t, newSender(t, inMemory(n)), to, 1); o.Class != deliver.Timeout || o.Duration != 3*time.Second {
			t.Errorf("outcome %+v", o)
		}
		// The dial itself may go on, but not for long, and not beyond Close.
	})
}

func TestREL07_OurOwnFaults(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		options := loopback()
		options.Dial = func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("socket", errno)}
		}
		if o := send(t, newSender(t, options), target(t, "http://127.0.0.1:1/"), 1); o.Class != deliver.Ours {
			t.Errorf("%v: %+v", errno, o)
		}
	}
}

func TestProxiesInTheEnvironmentAreIgnored(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("http_proxy", "http://127.0.0.1:1")
	n := delivertest.NewNetwork()
	n.Name("receiver.example", "93.184.215.14")
	r := delivertest.NewReceiver()
	delivertest.Serve(t, n.Listen("93.184.215.14:80"), r)
	if o := send(t, newSender(t, inMemory(n)), target(t, "http://receiver.example/"), 1); o.Class != deliver.OK {
		t.Errorf("outcome %+v", o)
	}
}

func TestNewTarget(t *testing.T) {
	secret := []sign.Secret{sign.NewSecret()}
	for _, tc := range []struct {
		name string
		e    deliver.Endpoint
		err  string
	}{
		{"good", deliver.Endpoint{URL: "https://example.com/", Secrets: secret}, ""},
		{"http is the sender's to refuse", deliver.Endpoint{URL: "http://example.com/", Secrets: secret}, ""},
		{"bad URL", deliver.Endpoint{URL: "https://", Secrets: secret}, "endpoint ep_1: url: has no host"},
		{"no secret", deliver.Endpoint{URL: "https://example.com/"}, "endpoint ep_1: has no signing secret"},
		{"zero secret", deliver.Endpoint{URL: "https://example.com/", Secrets: []sign.Secret{{}}}, "endpoint ep_1: has no signing secret"},
		{"negative timeout", deliver.Endpoint{URL: "https://example.com/", Secrets: secret, Timeout: -1}, "endpoint ep_1: timeout is -1ns"},
	} {
		tc.e.ID = "ep_1"
		_, err := deliver.NewTarget(tc.e)
		if got := fmt.Sprint(err); tc.err == "" && err != nil || tc.err != "" && got != tc.err {
			t.Errorf("%s: got %v, want %q", tc.name, err, tc.err)
		}
	}
}

func TestCloseLeavesNothingRunning(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: delivertest.NewReceiver()}
	var serving sync.WaitGroup
	serving.Go(func() { srv.Serve(ln) })
	s := deliver.NewSender(loopback())
	to := target(t, "http://"+ln.Addr().String()+"/")
	for i := range int64(10) {
		if o := send(t, s, to, i); o.Class != deliver.OK {
			t.Errorf("outcome %+v", o)
		}
	}
	s.Close()
	if err := srv.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	serving.Wait()
}
