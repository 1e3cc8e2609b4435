package deliver_test

import (
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
	"syscall"
	"testing"
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
		Guard:     deliver.NewGuard(deliver.GuardOptions{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}),
		AllowHTTP: true,
		UserAgent: "grapnel/test",
	}
}

// inMemory lets a Sender reach the given network, over http and by default.
func inMemory(n *delivertest.Network) deliver.SenderOptions {
	g := deliver.NewGuard(deliver.GuardOptions{AllowHTTP: true})
	return deliver.SenderOptions{Guard: g, AllowHTTP: true, UserAgent: "grapnel/test", Dial: n.Dial, Resolver: n}
}

func newSender(t testing.TB, o deliver.SenderOptions) *deliver.Sender {
	s := deliver.NewSender(o)
	t.Cleanup(s.Close)
	return s
}

func target(t testing.TB, url string, secrets ...sign.Secret) *deliver.Target {
	t.Helper()
	return targetWith(t, url, nil, secrets...)
}

func targetWith(t testing.TB, url string, headers []deliver.Header, secrets ...sign.Secret) *deliver.Target {
	t.Helper()
	if len(secrets) == 0 {
		secrets = []sign.Secret{sign.NewSecret()}
	}
	ep := deliver.Endpoint{ID: "ep_1", URL: url, Headers: headers}
	for _, s := range secrets {
		ep.Secrets = append(ep.Secrets, deliver.Secret{Secret: s})
	}
	to, err := deliver.NewTarget(ep)
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
		headers          []deliver.Header
	}{
		{"standard.http", "http://receiver.example/hooks/billing?tenant=1", "", []sign.Secret{newest}, 1, nil},
		{"standard-rotated-traced.http", "http://receiver.example:8080", traceparent, []sign.Secret{newest, older}, 12, nil},
		{"standard.http", "http://receiver.example/hooks/billing?tenant=1", traceparent + "\r\nX-Forged: 1", []sign.Secret{newest}, 1, nil},
		{"standard-headers.http", "http://receiver.example/hooks", "", []sign.Secret{newest}, 1,
			headers("x-tenant", "seven", "Authorization", "Bearer of-the-receiver", "accept", "")},
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
			o := s.Send(t.Context(), targetWith(t, tc.url, tc.headers, tc.secrets...), p, deliver.Key{Event: 42, Endpoint: 7}, tc.attempt, at)
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
	secret := []deliver.Secret{{Secret: sign.NewSecret()}}
	for _, tc := range []struct {
		name string
		e    deliver.Endpoint
		err  string
	}{
		{"good", deliver.Endpoint{URL: "https://example.com/", Secrets: secret}, ""},
		{"http is the sender's to refuse", deliver.Endpoint{URL: "http://example.com/", Secrets: secret}, ""},
		{"bad URL", deliver.Endpoint{URL: "https://", Secrets: secret}, "endpoint ep_1: url: has no host"},
		{"no secret", deliver.Endpoint{URL: "https://example.com/"}, "endpoint ep_1: has no signing secret"},
		{"zero secret", deliver.Endpoint{URL: "https://example.com/", Secrets: []deliver.Secret{{}}}, "endpoint ep_1: has no signing secret"},
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
