package main

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tunnels is an egress proxy on loopback.
type tunnels struct {
	mu     sync.Mutex
	asked  []string
	answer int // instead of a tunnel; 0: none
}

func (p *tunnels) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.asked = append(p.asked, r.Method+" "+r.Host)
	answer := p.answer
	p.mu.Unlock()
	if answer != 0 {
		w.WriteHeader(answer)
		return
	}
	to, err := net.Dial("tcp", r.Host) // a test's server, on loopback
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer to.Close()
	w.WriteHeader(http.StatusOK)
	c, rest, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	go func() {
		io.Copy(to, rest)
		to.Close()
	}()
	io.Copy(c, to)
}

// Endpoint and token server are reached by the proxy, and its failure is ours.
func TestEgressProxyOfTheDaemon(t *testing.T) {
	proxy := &tunnels{}
	proxyServer := httptest.NewServer(proxy)
	defer proxyServer.Close()
	login := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "grapnel" || password != "of-the-client" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, `{"access_token":"of-the-server","expires_in":60}`)
	}))
	defer login.Close()
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer of-the-server" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer receiver.Close()
	at, err := url.Parse(proxyServer.URL)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	l := live(t, shortDir(t), func(o *daemonOptions) { o.Proxy, o.Log = at, slog.New(slog.NewTextHandler(&log, nil)) })
	if !strings.Contains(log.String(), "must refuse private addresses") {
		t.Errorf("the start does not say that the proxy must filter:\n%s", log.String())
	}
	l.ask(t, "POST", "/api/v1/orgs", `{"id":"acme"}`, "", nil)
	endpoint := func(tokens string) string {
		return fmt.Sprintf(`{"url":%q,"auth":{"type":"oauth2","token_url":%q,"client_id":"grapnel","client_secret":"of-the-client"}}`, receiver.URL, tokens)
	}
	var made struct{ ID string }
	if status := l.ask(t, "POST", "/api/v1/orgs/acme/endpoints", endpoint(login.URL), "", &made); status != http.StatusCreated {
		t.Fatal(status)
	}
	test := func(wantStatus int, wantClass string) {
		t.Helper()
		var attempt struct {
			StatusCode int    `json:"status_code"`
			ErrorClass string `json:"error_class"`
		}
		l.ask(t, "POST", "/api/v1/orgs/acme/endpoints/"+made.ID+"/test", "", "", &attempt)
		if attempt.StatusCode != wantStatus || attempt.ErrorClass != wantClass {
			t.Errorf("attempt %+v, want %d %s", attempt, wantStatus, wantClass)
		}
	}
	test(http.StatusOK, "")
	want := []string{"CONNECT " + strings.TrimPrefix(login.URL, "http://"), "CONNECT " + strings.TrimPrefix(receiver.URL, "http://")}
	if diff := cmp.Diff(want, proxy.asked); diff != "" {
		t.Errorf("the proxy was asked (-want +got):\n%s", diff)
	}
	proxy.mu.Lock()
	proxy.answer = http.StatusBadGateway
	proxy.mu.Unlock()
	other := httptest.NewServer(nil) // to which no connection is kept
	defer other.Close()
	if status := l.ask(t, "POST", "/api/v1/orgs/acme/endpoints", fmt.Sprintf(`{"url":%q}`, other.URL), "", &made); status != http.StatusCreated {
		t.Fatal(status)
	}
	test(0, "ours")
	var refused struct {
		Errors []struct{ Location string }
	}
	if status := l.ask(t, "POST", "/api/v1/orgs/acme/endpoints", endpoint("http://10.0.0.1/token"), "", &refused); status != http.StatusUnprocessableEntity ||
		refused.Errors[0].Location != "body.auth.token_url" {
		t.Errorf("a private token server: %d, %+v", status, refused)
	}
}
