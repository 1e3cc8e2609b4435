package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/delivertest"
	"github.com/grapnel-hooks/grapnel/deliver/sign"
	"github.com/grapnel-hooks/grapnel/sqlite"
)

// secretDaemon walks, and delivers to this machine.
func secretDaemon(t *testing.T) *daemon {
	t.Helper()
	d, err := openDaemon(t.Context(), daemonOptions{
		Data: shortDir(t), Version: "test", NATSListen: "127.0.0.1:0", NATSSync: time.Minute, AllowHTTP: true,
		Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Listening: []string{"127.0.0.1:8480"}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	if _, err := d.AddOrg(t.Context(), httpapi.Org{ID: "acme", Payload: "data"}); err != nil {
		t.Fatal(err)
	}
	return d
}

func newEndpoint(url string, headers ...deliver.Header) httpapi.NewEndpoint {
	return httpapi.NewEndpoint{
		Org: "acme", URL: url, EventTypes: []string{"*"}, Headers: headers,
		Timeout: deliver.DefaultTimeout, Retry: deliver.DefaultPolicy, Concurrency: 1,
	}
}

// From the rotation on both secrets sign; after a leak the new one alone does.
// The endpoint's own headers come with each request, before and after the key
// of the secrets is replaced.
func TestRotationReachesTheReceiver(t *testing.T) {
	d := secretDaemon(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	receiver := delivertest.NewReceiver()
	made, err := d.AddEndpoint(ctx, newEndpoint(receiver.Start(t), deliver.Header{Name: "authorization", Value: deliver.NewHeaderValue("Bearer x")}))
	if err != nil {
		t.Fatal(err)
	}
	rotate := func(overlap time.Duration) sign.Secret {
		t.Helper()
		e, err := d.RotateSecret(ctx, "acme", made.ID, httpapi.Rotation{Overlap: overlap})
		if err != nil {
			t.Fatal(err)
		}
		return e.Secrets[0].Secret
	}
	n := 0
	deliveredBy := func(what string, secrets ...sign.Secret) {
		t.Helper()
		if _, err := d.Append(ctx, "acme", []httpapi.NewEvent{{Type: "a", Data: []byte("1")}}); err != nil {
			t.Fatal(err)
		}
		n++
		requests, err := receiver.Wait(ctx, n)
		if err != nil {
			t.Fatal(err)
		}
		last := requests[n-1]
		signatures := strings.Fields(last.Header.Get(sign.HeaderSignature))
		if len(signatures) != len(secrets) || last.Header.Get("Authorization") != "Bearer x" {
			t.Errorf("%s: %d signatures, want %d; headers %v", what, len(signatures), len(secrets), last.Header)
		}
		for i, s := range secrets {
			if err := sign.Verify([]sign.Secret{s}, last.Header, last.Body, time.Now(), 0); err != nil {
				t.Errorf("%s: secret %d: %v", what, i, err)
			}
		}
	}
	first := made.Secrets[0].Secret
	deliveredBy("at first", first)
	second := rotate(time.Hour)
	deliveredBy("in the overlap", second, first)
	if _, err := d.RotateKey(ctx); err != nil {
		t.Fatal(err)
	}
	deliveredBy("with a new key", second, first)
	deliveredBy("after a leak", rotate(0))
}

// An endpoint never leads to the daemon itself, even where its network is allowed.
func TestSEC05_NoEndpointLeadsHere(t *testing.T) {
	d := secretDaemon(t)
	for url, ok := range map[string]bool{
		"http://127.0.0.1:8480/api/v1/orgs/acme/events": false,
		"http://localhost:8480/":                        false,
		"http://0.0.0.0:8480/":                          false,
		"http://" + d.server.Addr() + "/":               false,
		"http://127.0.0.1:8481/":                        true,
	} {
		_, err := d.AddEndpoint(t.Context(), newEndpoint(url))
		var invalid *httpapi.Invalid
		if ok && err != nil || !ok && (!errors.As(err, &invalid) || invalid.Field != "url") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// Without the key of its secrets the daemon ends at once, says what it wants, and
// whoever watches it knows that starting it again does not help.
func TestServeWantsItsKey(t *testing.T) {
	dir := shortDir(t)
	s, err := sqlite.Open(t.Context(), sqlite.Options{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, sqlite.KeyFileName)); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	status := run(t.Context(), []string{"serve", "--data", dir, "--listen", "off", "--nats-listen", "off", "--log-level", "error"}, nil, &out, &errs)
	if status != exitConfig || !strings.Contains(errs.String(), "secrets.key is not there: put the key file of this database back") {
		t.Errorf("status %d: %s", status, errs.String())
	}
}
