package main

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi/httpapitest"
	"github.com/spf13/pflag"
)

// open serves the API of s over TCP, and returns its URL.
func open(t *testing.T, s *httpapitest.Service) string {
	t.Helper()
	server := httptest.NewServer(httpapi.Public(httpapi.Options{Service: s, Log: slog.New(slog.DiscardHandler)}))
	t.Cleanup(server.Close)
	return server.URL
}

// tokenOf makes a token; org "" is an operator's.
func tokenOf(t *testing.T, s *httpapitest.Service, org string, life time.Duration, scopes ...httpapi.Scope) string {
	t.Helper()
	made, err := s.AddToken(t.Context(), httpapi.Token{Org: org, Scopes: scopes, ExpiresAt: time.Now().Add(life)})
	if err != nil {
		t.Fatal(err)
	}
	return made.Text
}

// over is what a person sees who runs the lines over the network with a token.
func over(t *testing.T, url, token string, lines ...string) string {
	t.Helper()
	t.Setenv("GRAPNEL_URL", url)
	t.Setenv("GRAPNEL_TOKEN", token)
	return served.ReplaceAllString(transcript(t, "", lines...), "http://DAEMON")
}

// served is the URL of a test's server.
var served = regexp.MustCompile(`http://127\.0\.0\.1:[0-9]{5}`)

// Every command works over the network as over the socket, with what the token
// may do.
func TestRemoteCommands(t *testing.T) {
	s := httpapitest.New()
	withDeliveries(t, s)
	if _, err := s.AddOrg(t.Context(), httpapi.Org{ID: "clinic", Payload: "data"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.AddOrg(t.Context(), httpapi.Org{ID: "trial", Payload: "data"}); err != nil {
		t.Fatal(err)
	}
	s.NoPlan = map[string]bool{"trial": true}
	url := open(t, s)
	operator := tokenOf(t, s, "", time.Hour, httpapi.Admin)
	tenant := tokenOf(t, s, "acme", time.Hour, httpapi.WebhooksRead, httpapi.EventsWrite)
	all := over(t, url, operator,
		"org list", "org add vexyl", "endpoint list acme", "event list acme --limit 1", "delivery list acme --status dead", "cursor list",
		"token list acme --json --limit 1", "audit --limit 1 --json", "fsck") +
		over(t, url, tenant,
			"delivery list acme --status dead",
			"event append acme invoice.paid {}",
			"endpoint add acme https://hooks.example/in",
			"endpoint list clinic",
			"endpoint list nowhere",
			"cursor show acme",
			"token add acme --scope admin",
			"org list",
			"fsck") +
		over(t, url, tokenOf(t, s, "acme", -time.Hour, httpapi.Admin), "endpoint list acme") +
		over(t, url, tokenOf(t, s, "acme", time.Hour, httpapi.Admin), "org set acme --plan enterprise") +
		over(t, url, tokenOf(t, s, "trial", time.Hour, httpapi.Admin), "endpoint list trial", "endpoint list trial --json")
	golden(t, "commands/remote.txt", all)
	for _, secret := range []string{operator, tenant} {
		if strings.Contains(all, secret) {
			t.Errorf("a token is shown")
		}
	}
}

func TestRemoteRefusals(t *testing.T) {
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Error(w, "what?", http.StatusBadGateway) }))
	t.Cleanup(elsewhere.Close)
	token := httpapi.NewTokenText()
	all := over(t, closed.URL, token, "org list") +
		over(t, elsewhere.URL, token, "org list") +
		over(t, "http://hooks.example", token, "org list") +
		over(t, "hooks.example", token, "org list --json") +
		over(t, "https://127.0.0.1:1", "", "org list") +
		over(t, "https://127.0.0.1:1", "guess", "org list") +
		over(t, "", "", "org list --url ''", "org list --token x", "org list --url https://127.0.0.1:1 --data x",
			"org list --url https://127.0.0.1:1 --token-file nowhere", "serve --url https://127.0.0.1:1")
	golden(t, "commands/remote-refused.txt", all)
	if strings.Contains(all, token) {
		t.Error("the token is shown")
	}
}

// Flags win over the environment, and the socket needs no token.
func TestReach(t *testing.T) {
	s := httpapitest.New()
	url := open(t, s)
	good, bad := tokenOf(t, s, "", time.Hour, httpapi.Admin), httpapi.NewTokenText()
	if _, err := s.AddOrg(t.Context(), httpapi.Org{ID: "remote", Payload: "data"}); err != nil {
		t.Fatal(err)
	}
	local := httpapitest.New()
	if _, err := local.AddOrg(t.Context(), httpapi.Org{ID: "local", Payload: "data"}); err != nil {
		t.Fatal(err)
	}
	socket := pretend(t, local)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(good+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args []string
		env  map[string]string
		org  string // that the daemon has; "": the call is refused
	}{
		{"the socket", []string{"--data", socket}, nil, "local"},
		{"the environment's socket", nil, map[string]string{"GRAPNEL_DATA": socket}, "local"},
		{"a token without a URL", nil, map[string]string{"GRAPNEL_DATA": socket, "GRAPNEL_TOKEN": bad}, "local"},
		{"flags", []string{"--url", url, "--token", good}, nil, "remote"},
		{"a file", []string{"--url", url, "--token-file", file}, nil, "remote"},
		{"the environment", nil, map[string]string{"GRAPNEL_URL": url, "GRAPNEL_TOKEN": good}, "remote"},
		{"the environment's file", nil, map[string]string{"GRAPNEL_URL": url, "GRAPNEL_TOKEN_FILE": file}, "remote"},
		{"a flag over the environment's token", []string{"--token-file", file}, map[string]string{"GRAPNEL_URL": url, "GRAPNEL_TOKEN": bad}, "remote"},
		{"a URL's flag over the environment's", []string{"--url", url}, map[string]string{"GRAPNEL_URL": "https://127.0.0.1:1", "GRAPNEL_TOKEN": good}, "remote"},
		{"a data flag over the environment's URL", []string{"--data", socket}, map[string]string{"GRAPNEL_URL": url, "GRAPNEL_TOKEN": good}, "local"},
		{"a URL over the environment's data", []string{"--url", url}, map[string]string{"GRAPNEL_DATA": socket, "GRAPNEL_TOKEN": good}, "remote"},
		{"a wrong token", nil, map[string]string{"GRAPNEL_URL": url, "GRAPNEL_TOKEN": bad}, ""},
		{"two tokens", []string{"--token", good, "--token-file", file}, map[string]string{"GRAPNEL_URL": url}, ""},
		{"two tokens in the environment", nil, map[string]string{"GRAPNEL_URL": url, "GRAPNEL_TOKEN": good, "GRAPNEL_TOKEN_FILE": file}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, name := range []string{"GRAPNEL_DATA", "GRAPNEL_URL", "GRAPNEL_TOKEN", "GRAPNEL_TOKEN_FILE"} {
				t.Setenv(name, c.env[name])
			}
			var out, errs bytes.Buffer
			status := run(t.Context(), append([]string{"org", "list"}, c.args...), strings.NewReader(""), &out, &errs)
			if (status == 0) != (c.org != "") || !strings.Contains(out.String(), c.org) {
				t.Errorf("status %d, want the list with %q:\n%s%s", status, c.org, out.String(), errs.String())
			}
			if strings.Contains(errs.String(), good) || strings.Contains(errs.String(), bad) {
				t.Errorf("a token is shown: %s", errs.String())
			}
		})
	}
}

// A command takes the flags if and only if it talks to the daemon.
func TestWhoTalks(t *testing.T) {
	root := (&app{out: io.Discard, err: io.Discard}).command()
	for _, c := range root.Commands() {
		for _, name := range []string{"url", "token", "token-file"} {
			var found *pflag.Flag
			if found = c.PersistentFlags().Lookup(name); (found != nil) != (c.GroupID == "manage") {
				t.Errorf("%s: has --%s: %t", c.CommandPath(), name, found != nil)
			}
		}
	}
}

func TestReadToken(t *testing.T) {
	if _, err := readToken(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
