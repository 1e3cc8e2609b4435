package main

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/grapnel-hooks/grapnel/cmd/internal/client"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
)

// A tenant tries its endpoint, replaces its secret and sets a header, at a whole
// daemon: the receiver sees the header and both signatures; the command shows the
// secret alone, the answer, and by its status whether the endpoint took the request.
func TestEndpointByHand(t *testing.T) {
	answer := http.StatusServiceUnavailable
	var got []http.Header
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.Header)
		w.WriteHeader(answer)
		io.WriteString(w, "back at noon\x1b[2J")
	}))
	t.Cleanup(receiver.Close)
	dir := daemonAt(t)
	file := filepath.Join(t.TempDir(), "headers")
	if err := os.WriteFile(file, []byte("Authorization: Bearer of-the-receiver\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	added := transcript(t, dir, "org add acme", "endpoint add acme "+receiver.URL+" --header @"+file)
	endpoint := regexp.MustCompile(`ep_\w+`).FindString(added)
	tried := transcript(t, dir, "endpoint test acme "+endpoint)
	for _, part := range []string{"result  503 http_5xx", "The answer:", "back at noon�[2J", "exit status 1"} {
		if !strings.Contains(tried, part) {
			t.Errorf("%q is not in:\n%s", part, tried)
		}
	}
	answer = http.StatusNoContent
	rotated := transcript(t, dir, "endpoint rotate-secret acme "+endpoint+" --overlap 1h")
	if lines := strings.Split(rotated, "\n"); !strings.HasPrefix(lines[1], "whsec_") || !strings.Contains(rotated, "signs too until") {
		t.Errorf("rotated:\n%s", rotated)
	}
	if tried = transcript(t, dir, "endpoint test acme "+endpoint); !strings.Contains(tried, "result  204") || strings.Contains(tried, "exit status") {
		t.Errorf("tried again:\n%s", tried)
	}
	if len(got) != 2 {
		t.Fatalf("the receiver got %d requests", len(got))
	}
	for i, want := range []int{1, 2} {
		if n := len(strings.Fields(got[i].Get("Webhook-Signature"))); n != want || got[i].Get("Authorization") != "Bearer of-the-receiver" {
			t.Errorf("request %d: %d signatures, want %d: %v", i+1, n, want, got[i])
		}
	}
	if all := added + tried + transcript(t, dir, "endpoint show acme "+endpoint, "audit acme --json"); strings.Contains(all, "of-the-receiver") {
		t.Errorf("the header's value is shown:\n%s", all)
	}
}

// daemonAt runs a daemon without a port of its own, and returns the data directory
// of its socket.
func daemonAt(t *testing.T) (dir string) {
	t.Helper()
	dir = shortDir(t)
	log := slog.New(slog.DiscardHandler)
	d, err := openDaemon(t.Context(), daemonOptions{
		Data: dir, Version: "test", NATSListen: "off", NATSSync: 2e9, AllowHTTP: true,
		Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := httpapi.ListenSocket(filepath.Join(dir, client.SocketName))
	if err != nil {
		d.close()
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 2)
	go func() { ended <- d.Run(ctx) }()
	go func() {
		ended <- httpapi.Serve(ctx, l, httpapi.Operator(httpapi.Options{Service: d, Log: log}), log)
	}()
	t.Cleanup(func() {
		stop()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
	return dir
}
