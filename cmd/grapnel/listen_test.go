package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi/httpapitest"
	"github.com/grapnel-hooks/grapnel/deliver/sign"
)

// signedRequest is a request as the daemon sends it.
func signedRequest(t *testing.T, at time.Time, body string) *http.Request {
	t.Helper()
	secret, err := sign.ParseSecret(httpapitest.Secret)
	if err != nil {
		t.Fatal(err)
	}
	const id = "evt_0NKMVFQM7Z3XEJ2MXWP06B89Q0"
	r := httptest.NewRequest("POST", "/hooks", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set(sign.HeaderID, id)
	r.Header.Set(sign.HeaderTimestamp, fmt.Sprint(at.Unix()))
	r.Header.Set(sign.HeaderSignature, sign.Sign([]sign.Secret{secret}, id, at, []byte(body)))
	r.Header.Set("Grapnel-Attempt", "1")
	return r
}

// testListener is a listener at the epoch that prints to out.
func testListener(t *testing.T, out *bytes.Buffer, secret string) *listener {
	t.Helper()
	l := &listener{app: &app{out: out}, status: 204, now: func() time.Time { return httpapitest.Epoch }}
	if secret != "" {
		s, err := sign.ParseSecret(secret)
		if err != nil {
			t.Fatal(err)
		}
		l.secrets = []sign.Secret{s}
	}
	return l
}

func TestListenSaysWhichCheckFailed(t *testing.T) {
	const body = `{"type":"invoice.paid","data":{"n":1}}`
	now := httpapitest.Epoch
	var out bytes.Buffer
	for _, c := range []struct {
		name   string
		secret string
		r      *http.Request
		want   int
	}{
		{"right", httpapitest.Secret, signedRequest(t, now, body), 204},
		{"without a secret to check", "", signedRequest(t, now, body), 204},
		{"another secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=", signedRequest(t, now, body), 401},
		{"old", httpapitest.Secret, signedRequest(t, now.Add(-10*time.Minute), body), 401},
		{"body changed", httpapitest.Secret, func() *http.Request {
			r := signedRequest(t, now, body)
			r.Body = io.NopCloser(strings.NewReader(strings.Replace(body, "1", "2", 1)))
			return r
		}(), 401},
		{"no signature", httpapitest.Secret, func() *http.Request {
			r := signedRequest(t, now, body)
			r.Header.Del(sign.HeaderSignature)
			return r
		}(), 401},
		{"bad timestamp", httpapitest.Secret, func() *http.Request {
			r := signedRequest(t, now, body)
			r.Header.Set(sign.HeaderTimestamp, "yesterday")
			return r
		}(), 401},
		{"a body that takes over the terminal", httpapitest.Secret, signedRequest(t, now, "\x1b[2Jnot JSON"), 204},
	} {
		fmt.Fprintf(&out, "# %s\n", c.name)
		w := httptest.NewRecorder()
		testListener(t, &out, c.secret).ServeHTTP(w, c.r)
		if w.Code != c.want {
			t.Errorf("%s: status %d, want %d", c.name, w.Code, c.want)
		}
	}
	golden(t, "listen.txt", out.String())
}

// A request in each format is verified by its rule, and by no other's.
func TestListenFormats(t *testing.T) {
	file := filepath.Join(t.TempDir(), "grapnel.yaml")
	const acme = "formats:\n  acme:\n    scheme: timestamped\n    headers: {signature: Acme-Signature}\n    body: data\n" +
		"  keys:\n    scheme: ed25519\n    headers: {event_id: X-Id, timestamp: X-Time, signature: X-Signed}\n    body: data\n"
	if err := os.WriteFile(file, []byte(acme), 0o600); err != nil {
		t.Fatal(err)
	}
	now := httpapitest.Epoch
	for _, name := range []string{"standard", "cloudevents", "tenantx", "devsphere", "vexyl", "service", "acme", "keys"} {
		f, err := listenFormat(name, file)
		if err != nil {
			t.Fatal(err)
		}
		secret, other := f.Scheme.NewSecret(), f.Scheme.NewSecret()
		for _, tc := range []struct {
			name, body string
			trusted    []string
			want       int
		}{
			{"right", `{"n":1}`, []string{secret.Reveal()}, 204},
			{"its public half", `{"n":1}`, []string{cmp.Or(secret.Public().String(), secret.Reveal())}, 204},
			{"one of two", `{"n":1}`, []string{other.Reveal(), secret.Reveal()}, 204},
			{"another secret", `{"n":1}`, []string{other.Reveal()}, 401},
			{"another public key", `{"n":1}`, []string{cmp.Or(other.Public().String(), other.Reveal())}, 401},
			{"body changed", `{"n":2}`, []string{secret.Reveal()}, 401},
		} {
			var out bytes.Buffer
			l := testListener(t, &out, "")
			l.format = f
			for _, text := range tc.trusted {
				if err := l.trust(text); err != nil {
					t.Fatal(err)
				}
			}
			r := httptest.NewRequest("POST", "/hooks", strings.NewReader(tc.body))
			signature := string(f.Scheme.Append(nil, []sign.Secret{secret}, "evt_1", now, []byte(`{"n":1}`)))
			for name, value := range map[string]string{f.Headers.EventID: "evt_1", f.Headers.Timestamp: fmt.Sprint(now.Unix()), f.Headers.Signature: signature} {
				if name != "" {
					r.Header.Set(name, value)
				}
			}
			w := httptest.NewRecorder()
			l.ServeHTTP(w, r)
			if w.Code != tc.want {
				t.Errorf("%s, %s: status %d, want %d\n%s", name, tc.name, w.Code, tc.want, out.String())
			}
		}
	}
	if _, err := listenFormat("acme", ""); err == nil || !strings.Contains(err.Error(), "standard, cloudevents") {
		t.Errorf("a format that is not configured: %v", err)
	}
}

func TestListenFailsFirst(t *testing.T) {
	var out bytes.Buffer
	l := testListener(t, &out, httpapitest.Secret)
	l.fails, l.status = 2, 200
	var got []int
	for range 4 {
		w := httptest.NewRecorder()
		l.ServeHTTP(w, signedRequest(t, httpapitest.Epoch, `{}`))
		got = append(got, w.Code)
	}
	if fmt.Sprint(got) != "[503 503 200 200]" {
		t.Errorf("got %v", got)
	}
}

func TestListenForwards(t *testing.T) {
	var passed *http.Request
	var body string
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		passed, body = r, string(b)
		http.Error(w, "not today", http.StatusTeapot)
	}))
	defer app.Close()
	var out bytes.Buffer
	l := testListener(t, &out, httpapitest.Secret)
	u, err := url.Parse(app.URL + "/in")
	if err != nil {
		t.Fatal(err)
	}
	l.forward = u
	in := signedRequest(t, httpapitest.Epoch, `{"a": 1}`)
	w := httptest.NewRecorder()
	l.ServeHTTP(w, in)
	if w.Code != http.StatusTeapot || !strings.Contains(w.Body.String(), "not today") {
		t.Errorf("answer %d %q", w.Code, w.Body)
	}
	if body != `{"a": 1}` || passed.URL.Path != "/in" || sign.Verify(l.secrets, passed.Header, []byte(body), httpapitest.Epoch, 0) != nil {
		t.Errorf("passed on: %s %v %q", passed.URL, passed.Header, body)
	}

	app.Close()
	w = httptest.NewRecorder()
	l.ServeHTTP(w, signedRequest(t, httpapitest.Epoch, `{}`))
	if w.Code != http.StatusBadGateway {
		t.Errorf("with nobody there: %d", w.Code)
	}
}

func TestListenCommand(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	r, w := io.Pipe()
	ended := make(chan int, 1)
	var errs bytes.Buffer
	go func() {
		ended <- run(ctx, []string{"listen", "--addr", "127.0.0.1:0", "--secret", "-", "--json"},
			strings.NewReader(httpapitest.Secret+"\n"), w, &errs)
		w.Close()
	}()
	go func() { io.Copy(io.Discard, r) }()
	stop()
	if status := <-ended; status != 0 {
		t.Errorf("status %d: %s", status, errs.String())
	}
}

// The address is printed, requests are answered, and the end is orderly.
func TestListenOverTheNetwork(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	r, w := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"listen", "--addr", "127.0.0.1:0", "--status", "202"}, strings.NewReader(""), w, io.Discard)
		w.Close()
	}()
	lines := bufio.NewScanner(r)
	lines.Scan()
	address, ok := strings.CutPrefix(lines.Text(), "Listening on ")
	if !ok {
		t.Fatalf("first line: %q", lines.Text())
	}
	rest := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(r)
		rest <- string(b)
	}()
	transport := &http.Transport{}
	resp, err := (&http.Client{Transport: transport}).Post(address+"/x", "application/json", strings.NewReader(`{"a":1}`))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	transport.CloseIdleConnections()
	stop()
	if status := <-ended; status != 0 || resp.StatusCode != 202 {
		t.Errorf("exit status %d, answer %d", status, resp.StatusCode)
	}
	if got := <-rest; !strings.Contains(got, "POST /x") || !strings.Contains(got, "Requests: 1") {
		t.Errorf("printed:\n%s", got)
	}
}

func TestListenUsage(t *testing.T) {
	golden(t, "commands/listen-usage.txt", transcript(t, "unused",
		"listen --secret whsec_no", "listen --format tenantx --secret short", "listen --format xml", "listen --status 100", "listen --forward-to here", "listen --secret @nonexistent"))
}
