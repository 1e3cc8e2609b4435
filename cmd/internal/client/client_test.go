package client

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi/httpapitest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// running is a client of a daemon in memory.
func running(t *testing.T) (*Client, *httpapitest.Service) {
	t.Helper()
	dir, err := os.MkdirTemp("", "grapnel")
	if err != nil {
		t.Fatal(err)
	}
	s := httpapitest.New()
	log := slog.New(slog.DiscardHandler)
	l, err := httpapi.ListenSocket(filepath.Join(dir, SocketName))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- httpapi.Serve(ctx, l, httpapi.Operator(httpapi.Options{Service: s, Log: log}), log) }()
	c := New(dir)
	t.Cleanup(func() {
		c.Close()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		os.RemoveAll(dir)
	})
	return c, s
}

func TestRoundTrip(t *testing.T) {
	c, _ := running(t)
	ctx := t.Context()
	if _, err := c.AddOrg(ctx, httpapi.OrgCreate{ID: "acme", Payload: "data"}); err != nil {
		t.Fatal(err)
	}
	attempts := 3
	made, err := c.AddEndpoint(ctx, "acme", httpapi.EndpointCreate{
		URL: "https://hooks.example/in", WorkspaceID: httpapi.Text("berlin"), Retry: &httpapi.Retry{Attempts: &attempts},
	})
	if err != nil {
		t.Fatal(err)
	}
	if made.Secret != httpapitest.Secret || *made.Retry.Attempts != 3 || *made.WorkspaceID != "berlin" {
		t.Errorf("made %+v", made)
	}
	off := true
	e, err := c.ChangeEndpoint(ctx, "acme", made.ID, httpapi.EndpointUpdate{Disabled: &off})
	if err != nil {
		t.Fatal(err)
	}
	// What an update leaves out stays, the workspace too.
	if !e.Disabled || e.WorkspaceID == nil || e.URL != "https://hooks.example/in" {
		t.Errorf("changed to %+v", e)
	}
	in := json.RawMessage(`{"n":1.50, "s":"ü"}`)
	if _, err := c.Append(ctx, "acme", httpapi.EventCreate{Type: "a.b", Data: in, DedupeKey: "k"}); err != nil {
		t.Fatal(err)
	}
	ev, err := c.Event(ctx, "acme", "1")
	if err != nil {
		t.Fatal(err)
	}
	if ev.DedupeKey != "k" || !strings.Contains(string(ev.Data), "1.50") {
		t.Errorf("event %+v", ev)
	}
}

func TestProblemsAreErrors(t *testing.T) {
	c, _ := running(t)
	for _, c := range []struct {
		name string
		err  error
		want string
	}{
		{"missing", c.RemoveOrg(t.Context(), "nobody"), "there is no organization nobody"},
		{"bad", func() error { _, err := c.AddOrg(t.Context(), httpapi.OrgCreate{ID: "a b"}); return err }(),
			"the request cannot be accepted: id: must be 1 to 64 letters, digits, _ or -"},
		{"a slash stays in its place", func() error { _, err := c.Org(t.Context(), "acme/cursor"); return err }(),
			"the request cannot be accepted: path.org: must be letters, digits, _ or -"},
	} {
		var p *httpapi.Problem
		if !errors.As(c.err, &p) {
			t.Errorf("%s: no problem: %v", c.name, c.err)
		} else if diff := cmp.Diff(c.want, p.Error()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestNotRunning(t *testing.T) {
	dir := t.TempDir()
	if _, err := New(dir).Health(t.Context()); !errors.Is(err, ErrNotRunning) || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v", err)
	}
	if _, err := New(filepath.Join(dir, strings.Repeat("x", 120))).Health(t.Context()); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("a path that is too long: %v", err)
	}
}
