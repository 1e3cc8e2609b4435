package main

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"testing"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi/doortest"
)

// wholeDaemon is the API of a daemon, over TCP, with a receiver that fails every
// request.
func wholeDaemon(t *testing.T) *doortest.API {
	t.Helper()
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(receiver.Close)
	log := slog.New(slog.DiscardHandler)
	d, err := openDaemon(t.Context(), daemonOptions{
		Data: shortDir(t), Version: "test", NATSListen: "off", NATSSync: 2e9, AllowHTTP: true,
		Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		Plans: map[string][]string{"trial": {}, "enterprise": {featureOutgoing}}, Log: log,
		Configured: configuredBy(t, "allow_http: true\nallow_network: [127.0.0.0/8]\nplans: {trial: [], enterprise: [outgoing_webhooks]}\n"),
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		d.close()
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 2)
	go func() { ended <- d.Run(ctx) }()
	go func() {
		ended <- httpapi.Serve(ctx, l, httpapi.Public(httpapi.Options{Service: d, Log: log, Version: "test"}), log)
	}()
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		stop()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
	return &doortest.API{
		Service: d, Receiver: receiver.URL,
		Do: func(r *http.Request) (*http.Response, error) {
			r.URL = &url.URL{Scheme: "http", Host: l.Addr().String(), Path: r.URL.Path, RawQuery: r.URL.RawQuery}
			return client.Do(r)
		},
	}
}

func TestMatrixOfTheDaemon(t *testing.T) { doortest.Matrix(t, wholeDaemon(t)) }

func TestContractOfTheDaemon(t *testing.T) { doortest.Contract(t, wholeDaemon(t)) }
