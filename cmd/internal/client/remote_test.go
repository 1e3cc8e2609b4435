package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi/httpapitest"
)

// token is a text that has the form of a token.
var token = "gk_" + strings.Repeat("A", 43)

// public serves the API of s over TCP, under a prefix.
func public(t *testing.T, s *httpapitest.Service, prefix string) *httptest.Server {
	t.Helper()
	h := httpapi.Public(httpapi.Options{Service: s, Log: slog.New(slog.DiscardHandler)})
	server := httptest.NewServer(http.StripPrefix(prefix, h))
	t.Cleanup(server.Close)
	return server
}

// remote is a client at that URL, with the text of a token.
func remote(t *testing.T, url, text string) *Client {
	t.Helper()
	c, err := Remote(url, text)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// answering is a client of a server that answers every request so.
func answering(t *testing.T, answer http.HandlerFunc) *Client {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	return remote(t, server.URL, token)
}

func TestRemote(t *testing.T) {
	ctx, s := t.Context(), httpapitest.New()
	for _, org := range []string{"acme", "clinic"} {
		if _, err := s.AddOrg(ctx, httpapi.Org{ID: org, Payload: "data"}); err != nil {
			t.Fatal(err)
		}
	}
	made, err := s.AddToken(ctx, httpapi.Token{Org: "acme", Scopes: []httpapi.Scope{httpapi.WebhooksManage}, ExpiresAt: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	for _, prefix := range []string{"", "/hooks"} {
		for _, end := range []string{"", "/", "/api/v1", "/api/v1/"} {
			c := remote(t, public(t, s, prefix).URL+prefix+end, made.Text)
			if _, err := c.Endpoints(ctx, "acme", Page{Limit: 1}); err != nil {
				t.Errorf("under %q: %v", prefix+end, err)
			}
		}
	}
	c := remote(t, public(t, s, "").URL, made.Text)
	for _, r := range []struct {
		name   string
		err    error
		status int
	}{
		{"another org", func() error { _, err := c.Endpoints(ctx, "clinic", Page{}); return err }(), http.StatusNotFound},
		{"a scope that it lacks", func() error { _, err := c.Tokens(ctx, "acme", Page{}); return err }(), http.StatusForbidden},
		{"the operator's", func() error { _, err := c.Tokens(ctx, "", Page{}); return err }(), http.StatusForbidden},
		{"an unknown token", func() error {
			_, err := remote(t, public(t, s, "").URL, token).Endpoints(ctx, "acme", Page{})
			return err
		}(), http.StatusUnauthorized},
	} {
		var p *httpapi.Problem
		if !errors.As(r.err, &p) || p.Status != r.status {
			t.Errorf("%s: got %v, want status %d", r.name, r.err, r.status)
		}
	}
}

func TestRemoteRefuses(t *testing.T) {
	for _, c := range []struct{ url, token, want string }{
		{"", token, "want a URL with https:// and a host, such as https://hooks.example.com"},
		{"hooks.example", token, "want a URL with https:// and a host, such as https://hooks.example.com"},
		{"ftp://hooks.example", token, "want a URL with https:// and a host, such as https://hooks.example.com"},
		{"https://", token, "want a URL with https:// and a host, such as https://hooks.example.com"},
		{"https://hooks.example:port", token, "not a URL: want one such as https://hooks.example.com"},
		{"https://me:secret@hooks.example", token, "no user and password in the URL: grapnel takes a token"},
		{"https://hooks.example/?token=secret", token, "only scheme, host, port and a prefix, without ? and #"},
		{"http://hooks.example:8480", token, "http:// would carry the token readable to hooks.example: use https://, or a tunnel to this machine " +
			"(ssh -L 8480:127.0.0.1:8480 hooks.example) and http://127.0.0.1:8480"},
		{"http://10.0.0.1", token, "http:// would carry the token readable to 10.0.0.1: use https://, or a tunnel to this machine " +
			"(ssh -L 8480:127.0.0.1:8480 10.0.0.1) and http://127.0.0.1:8480"},
		{"https://hooks.example", "", "the token is none: want gk_ and 43 letters, digits, - or _"},
		{"https://hooks.example", "secret", "the token is none: want gk_ and 43 letters, digits, - or _"},
	} {
		_, err := Remote(c.url, c.token)
		if err == nil || err.Error() != c.want {
			t.Errorf("%s: got %v\nwant %s", c.url, err, c.want)
		}
	}
	for _, url := range []string{"https://hooks.example", "https://10.0.0.1:8443/hooks", "http://localhost:8480", "http://127.0.0.7", "http://[::1]:8480"} {
		if _, err := Remote(url, token); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// A name that is written as this machine and leads elsewhere gets no token.
func TestLoopbackOnly(t *testing.T) {
	for address, refused := range map[string]bool{
		"127.0.0.1:80": false, "[::1]:80": false, "10.0.0.1:80": true, "[2001:db8::1]:80": true, "0.0.0.0:80": true, "": true,
	} {
		if err := loopbackOnly(t.Context(), "tcp", address, nil); (err != nil) != refused {
			t.Errorf("%s: %v", address, err)
		}
	}
	for url, guarded := range map[string]bool{"http://localhost": true, "https://localhost": false} {
		transport := remote(t, url, token).http.Transport.(*http.Transport)
		if proxied := transport.Proxy != nil; proxied == guarded {
			t.Errorf("%s: proxied %t", url, proxied)
		}
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	visited := false
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { visited = true }))
	t.Cleanup(elsewhere.Close)
	c := answering(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL+"/login?from=secret", http.StatusTemporaryRedirect)
	})
	_, err := c.Orgs(t.Context(), Page{})
	want := "GET /api/v1/orgs: the answer leads to " + elsewhere.URL + "/login, and redirects are not followed: give the daemon's own URL"
	if err == nil || err.Error() != want || visited {
		t.Errorf("visited %t, got %v\nwant %s", visited, err, want)
	}
}

func TestForeignAnswers(t *testing.T) {
	for _, a := range []struct {
		status     int
		body, want string
	}{
		{http.StatusBadGateway, "<h1>Bad gateway</h1>", "GET /api/v1/orgs: answer 502 Bad Gateway, and not one of grapnel's: is it the right address?"},
		{http.StatusNotFound, `{"error":"no"}`, "GET /api/v1/orgs: answer 404 Not Found, and not one of grapnel's: is it the right address?"},
		{http.StatusOK, "<h1>Welcome</h1>", "GET /api/v1/orgs: the answer is not one of grapnel's (invalid character '<' looking for beginning of value)"},
	} {
		c := answering(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(a.status)
			io.WriteString(w, a.body)
		})
		if _, err := c.Orgs(t.Context(), Page{}); err == nil || err.Error() != a.want {
			t.Errorf("%d: got %v\nwant %s", a.status, err, a.want)
		}
	}
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	l.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	for _, c := range []struct{ url, want string }{
		{"http://" + closed, "nobody listens at http://" + closed},
		{strings.Replace(plain.URL, "http:", "https:", 1), " speaks no TLS: is it the right port?"},
		{secure.URL, "(x509: certificate signed by unknown authority): SSL_CERT_FILE can name its authority"},
	} {
		_, err := remote(t, c.url, token).Orgs(t.Context(), Page{})
		if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v\nwant %s", c.url, err, c.want)
		}
	}
}

func TestHTTPS(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"data":[{"id":"`+r.URL.Path+`"}],"next_cursor":null}`)
	}))
	t.Cleanup(server.Close)
	c := remote(t, server.URL+"/hooks", token)
	c.http.Transport.(*http.Transport).TLSClientConfig = server.Client().Transport.(*http.Transport).TLSClientConfig
	orgs, err := c.Orgs(t.Context(), Page{})
	if err != nil || len(orgs.Data) != 1 || orgs.Data[0].ID != "/hooks/api/v1/orgs" {
		t.Errorf("got %+v, %v", orgs, err)
	}
}

// Nothing that a client says or prints holds the token.
func TestTokenIsNotShown(t *testing.T) {
	var heard []string
	c := answering(t, func(w http.ResponseWriter, r *http.Request) {
		heard = append(heard, r.Header.Get("Authorization"))
		w.WriteHeader(http.StatusTeapot)
	})
	_, err := c.Orgs(t.Context(), Page{})
	_, invalid := Remote("https://hooks.example", token+"\n")
	shown := fmt.Sprintf("%v %+v %#v %v %v", c, c, c, err, invalid)
	if strings.Contains(shown, token) {
		t.Errorf("the token is in: %s", shown)
	}
	if diff := cmp.Diff([]string{"Bearer " + token}, heard); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
}

// scripted answers requests one after the other, without a network, and all
// further ones as the last.
type scripted []func(*http.Request) (*http.Response, error)

func (s *scripted) RoundTrip(r *http.Request) (*http.Response, error) {
	next := (*s)[0]
	if len(*s) > 1 {
		*s = (*s)[1:]
	}
	return next(r)
}

func tooMuch(after string) func(*http.Request) (*http.Response, error) {
	return func(*http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode: http.StatusTooManyRequests, Status: "429 Too Many Requests",
			Header: http.Header{"Retry-After": {after}}, Body: io.NopCloser(strings.NewReader(`{"status":429,"detail":"too much"}`)),
		}, nil
	}
}

func accepted(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	return &http.Response{StatusCode: http.StatusCreated, Body: io.NopCloser(strings.NewReader(string(body)))}, err
}

func silent(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func TestWaitsAsTold(t *testing.T) {
	for _, c := range []struct {
		name   string
		script scripted
		took   time.Duration
		want   string // of the error
	}{
		{"twice too much", scripted{tooMuch("1"), tooMuch("3"), accepted}, 4 * time.Second, ""},
		{"for too long", scripted{tooMuch("60")}, 0, "too much"},
		{"without a time", scripted{tooMuch("")}, 0, "too much"},
		{"no answer", scripted{silent}, CallLimit, "POST /api/v1/orgs: no answer in 1m30s"},
		{"again and again", scripted{tooMuch("8")}, CallLimit, "too much"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				api := remote(t, "https://hooks.example", token)
				api.http.Transport = &c.script
				o, err := api.AddOrg(t.Context(), httpapi.OrgCreate{ID: "acme"})
				if took := time.Since(began); took != c.took {
					t.Errorf("took %s, want %s", took, c.took)
				}
				if c.want == "" && (err != nil || o.ID != "acme") || c.want != "" && (err == nil || err.Error() != c.want) {
					t.Errorf("got %+v, %v; want %q", o, err, c.want)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) { // what takes minutes is not given up
		api := remote(t, "https://hooks.example", token)
		api.http.Transport = &scripted{silent}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		began := time.Now()
		if _, err := api.Fsck(ctx, ""); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Hour {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
	})
}
