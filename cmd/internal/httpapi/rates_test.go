package httpapi_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi/httpapitest"
)

// visitor asks again and again from one address.
type visitor struct {
	h       http.Handler
	remote  string
	forward string
	token   string
}

func (v visitor) ask(method, path, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.RemoteAddr = v.remote
	if v.forward != "" {
		r.Header.Set("X-Forwarded-For", v.forward)
	}
	if v.token != "" {
		r.Header.Set("Authorization", "Bearer "+v.token)
	}
	w := httptest.NewRecorder()
	v.h.ServeHTTP(w, r)
	return w
}

// passed counts how many of n requests are let in, and what the first of the
// others is told of when to come back.
func (v visitor) passed(n int, method, path, body string) (passed int, retryAfter string) {
	for range n {
		w := v.ask(method, path, body)
		if w.Code != http.StatusTooManyRequests {
			passed++
		} else if retryAfter == "" {
			retryAfter = w.Header().Get("Retry-After")
		}
	}
	return passed, retryAfter
}

func bounded(s httpapi.Service, log *slog.Logger) http.Handler {
	return httpapi.Public(httpapi.Options{
		Service: s, Log: log, Version: "test", Metrics: http.NotFoundHandler(), Rates: httpapi.UsualRates(50),
		Proxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
	})
}

// Each token has its own rate, appending has more, and who has no token has
// less. (SEC-29)
func TestRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := world(t)
		h := bounded(s, slog.New(slog.DiscardHandler))
		holder := token(t, s, "acme", httpapi.Admin).Text
		another := token(t, s, "acme", httpapi.Admin).Text
		const orgs, events, event = "/api/v1/orgs/acme", "/api/v1/orgs/acme/events", `{"type":"a","data":1,"dedupe_key":"k"}`
		for _, c := range []struct {
			name         string
			v            visitor
			n            int
			method, path string
			body         string
			want         int
			retry        string
		}{
			{"a token's burst", visitor{remote: "203.0.113.1:1", token: holder}, 150, "GET", orgs, "", 100, "1"},
			{"counts from all addresses", visitor{remote: "203.0.113.2:1", token: holder}, 5, "GET", orgs, "", 0, "1"},
			{"another token is not held back", visitor{remote: "203.0.113.1:1", token: another}, 50, "GET", orgs, "", 50, ""},
			{"nor is appending", visitor{remote: "203.0.113.1:1", token: holder}, 2010, "POST", events, event, 2000, "1"},
			{"without a token", visitor{remote: "203.0.113.1:1"}, 30, "GET", orgs, "", 20, "1"},
			{"the document counts", visitor{remote: "203.0.113.1:2"}, 3, "GET", "/openapi.json", "", 0, "1"},
			{"and what is not there", visitor{remote: "203.0.113.1:2"}, 3, "GET", "/wp-admin", "", 0, "1"},
			{"probes do not", visitor{remote: "203.0.113.1:2"}, 100, "GET", "/healthz", "", 100, ""},
			{"another address", visitor{remote: "203.0.113.9:2"}, 30, "GET", orgs, "", 20, "1"},
			{"IPv6", visitor{remote: "[2001:db8:1:2::1]:2"}, 30, "GET", orgs, "", 20, "1"},
			{"its neighbour", visitor{remote: "[2001:db8:1:2:ffff::9]:2"}, 3, "GET", orgs, "", 0, "1"},
			{"the next network", visitor{remote: "[2001:db8:1:3::1]:2"}, 3, "GET", orgs, "", 3, ""},
			{"a header of somebody who is no proxy", visitor{remote: "203.0.113.9:2", forward: "203.0.113.77"}, 3, "GET", orgs, "", 0, "1"},
			{"behind the proxy", visitor{remote: "192.0.2.1:2", forward: "203.0.113.50"}, 30, "GET", orgs, "", 20, "1"},
			{"its other clients", visitor{remote: "192.0.2.1:2", forward: "203.0.113.50, 203.0.113.51"}, 3, "GET", orgs, "", 3, ""},
		} {
			c.v.h = h
			if got, retry := c.v.passed(c.n, c.method, c.path, c.body); got != c.want || retry != c.retry {
				t.Errorf("%s: %d of %d passed, want %d; Retry-After %q, want %q", c.name, got, c.n, c.want, retry, c.retry)
			}
		}
		time.Sleep(time.Second)
		for _, c := range []struct {
			v    visitor
			want int
		}{{visitor{h, "203.0.113.1:1", "", holder}, 50}, {visitor{h, "203.0.113.1:1", "", ""}, 10}} {
			if got, _ := c.v.passed(70, "GET", orgs, ""); got != c.want {
				t.Errorf("after a second %d passed, want %d", got, c.want)
			}
		}
	})
}

// Tokens cannot be guessed fast, nor the audit be filled by trying. (SEC-20, SEC-29)
func TestRefusedTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := world(t)
		var text bytes.Buffer
		h := bounded(s, slog.New(slog.NewTextHandler(&text, nil)))
		good := token(t, s, "acme", httpapi.Admin).Text
		guess := visitor{h: h, remote: "203.0.113.1:1", token: httpapi.NewTokenText()}
		refusals := func() (n int) {
			entries, err := s.Audit(t.Context(), "", 0, 250)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				if e.Action == "auth.refused" {
					n++
				}
			}
			return n
		}
		if got, retry := guess.passed(25, "GET", "/api/v1/orgs", ""); got != 20 || retry != "3" {
			t.Errorf("%d tokens were answered with 401, want 20; Retry-After %q, want 3", got, retry)
		}
		if got := (visitor{h: h, remote: "203.0.113.1:1", token: good}).ask("GET", "/api/v1/orgs/acme", ""); got.Code != http.StatusOK {
			t.Errorf("a good token from there: %d: whoever has an old one locks out all who share the address", got.Code)
		}
		if got := (visitor{h: h, remote: "203.0.113.2:1", token: good}).ask("GET", "/api/v1/orgs/acme", ""); got.Code != http.StatusOK {
			t.Errorf("a good token from elsewhere: %d", got.Code)
		}
		time.Sleep(4 * time.Second)
		if got, _ := guess.passed(25, "GET", "/api/v1/orgs", ""); got != 1 {
			t.Errorf("after 4 s %d tokens were answered with 401, want 1", got)
		}
		if n := refusals(); n != 1 {
			t.Errorf("%d entries in the audit within a minute, want 1", n)
		}
		time.Sleep(2 * time.Minute)
		for i := range 50 {
			visitor{h: h, remote: fmt.Sprintf("198.51.100.%d:1", i), token: guess.token}.passed(20, "GET", "/api/v1/orgs", "")
		}
		if n := refusals(); n != 11 {
			t.Errorf("%d entries after 50 addresses at once, want 10 more", n)
		}
		if strings.Contains(text.String(), "gk_") {
			t.Errorf("the log has a token:\n%s", text.String())
		}
	})
}

// The log has a line for each change, with who and where from, and nothing of
// what was sent.
func TestAccessLog(t *testing.T) {
	s := world(t)
	var text bytes.Buffer
	strip := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == "duration" || a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	log := slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: strip}))
	h := httpapi.Public(httpapi.Options{Service: s, Log: log, Version: "test"})
	admin := token(t, s, "acme", httpapi.Admin)
	for _, c := range []struct {
		name, token, method, path, body string
		want                            string
	}{
		{"a change", admin.Text, "POST", "/api/v1/orgs/acme/tokens", `{"scopes":["admin"]}`,
			`level=INFO msg=request method=POST route="POST /api/v1/orgs/{org}/tokens" status=201 request=r token=` + admin.ID + ` org=acme address=203.0.113.1`},
		{"a read", admin.Text, "GET", "/api/v1/orgs/acme/events?type=hunter2", "",
			`level=DEBUG msg=request method=GET route="GET /api/v1/orgs/{org}/events" status=200 request=r token=` + admin.ID + ` org=acme address=203.0.113.1`},
		{"a wrong path", "", "GET", "/hunter2", "", `level=DEBUG msg=request method=GET route=none status=404 request=r address=203.0.113.1`},
		{"a bad token", "hunter2", "DELETE", "/api/v1/orgs/hunter2", "",
			`level=INFO msg=request method=DELETE route="DELETE /api/v1/orgs/{org}" status=401 request=r address=203.0.113.1`},
		{"another organization", admin.Text, "DELETE", "/api/v1/orgs/hunter2", "",
			`level=INFO msg=request method=DELETE route="DELETE /api/v1/orgs/{org}" status=404 request=r token=` + admin.ID + ` org=acme address=203.0.113.1`},
	} {
		text.Reset()
		r := httptest.NewRequest(c.method, c.path, strings.NewReader(c.body))
		r.RemoteAddr = "203.0.113.1:9"
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("X-Request-Id", "r")
		r.Header.Set("Cookie", "hunter2")
		if c.token != "" {
			r.Header.Set("Authorization", "Bearer "+c.token)
		}
		h.ServeHTTP(httptest.NewRecorder(), r)
		if got := strings.TrimSpace(text.String()); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
	text.Reset()
	httpapi.Operator(httpapi.Options{Service: (*httpapitest.Service)(nil), Log: log}).
		ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/api/v1/orgs", nil))
	if got := text.String(); !strings.Contains(got, "level=INFO msg=request method=GET") || !strings.Contains(got, "status=500") {
		t.Errorf("a panic: %s", got)
	}
}

// SEC-29: only what looks at a token may let a request with one pass unmetered.
func TestTextInPlaceOfATokenLiftsNoBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := bounded(httpapitest.New(), slog.New(slog.DiscardHandler))
		for i, path := range []string{"/openapi.json", "/docs", "/metrics", "/nothing", "/api/v1/nothing"} {
			v := visitor{h: h, remote: fmt.Sprintf("198.51.100.%d:1", i+1), token: "none"}
			if passed, _ := v.passed(60, "GET", path, ""); passed != 20 {
				t.Errorf("%s: %d of 60 requests passed, want 20", path, passed)
			}
		}
	})
}
