package main

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver/sign"
)

// arrival is one request that the demonstration's receiver got.
type arrival struct {
	at       time.Time
	Endpoint string `json:"endpoint"` // the path it came to
	Event    string `json:"event"`    // webhook-id
	Type     string `json:"type"`
	Attempt  string `json:"attempt"`
	Status   int    `json:"status"` // what it was answered with
	Verified bool   `json:"verified"`
	Error    string `json:"error,omitempty"`

	header http.Header
	body   []byte
}

// demoReceiver verifies what it gets, and answers the first request of each
// path with 503.
type demoReceiver struct {
	address string
	arrived chan arrival
	server  *http.Server
	ended   chan error

	mu      sync.Mutex
	secrets map[string]sign.Secret // by path
	failed  map[string]bool
	seen    int
}

// startDemoReceiver listens on a free port of this machine.
func startDemoReceiver() (*demoReceiver, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &demoReceiver{
		address: l.Addr().String(), arrived: make(chan arrival, 256), ended: make(chan error, 1),
		secrets: map[string]sign.Secret{}, failed: map[string]bool{},
	}
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: 5 * time.Second}
	go func() { r.ended <- r.server.Serve(l) }()
	return r, nil
}

func (r *demoReceiver) close() error {
	r.server.Close()
	if err := <-r.ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// expect tells the secret of the endpoint at path.
func (r *demoReceiver) expect(path, secret string) error {
	s, err := sign.ParseSecret(secret)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.secrets[path] = s
	return nil
}

func (r *demoReceiver) requests() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen
}

// ServeHTTP implements http.Handler.
func (r *demoReceiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	got := arrival{
		at: time.Now(), Endpoint: strings.TrimPrefix(req.URL.Path, "/"),
		Event: req.Header.Get(sign.HeaderID), Attempt: req.Header.Get("Grapnel-Attempt"),
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, listenMaxBody))
	if err != nil {
		return // the sender went away
	}
	got.header, got.body = req.Header, body
	var event struct{ Type string }
	if json.Unmarshal(body, &event) == nil {
		got.Type = event.Type
	}
	r.mu.Lock()
	err = sign.Verify([]sign.Secret{r.secrets[got.Endpoint]}, req.Header, body, got.at, 0)
	switch {
	case err != nil:
		got.Status, got.Error = http.StatusUnauthorized, reason(err)
	case !r.failed[got.Endpoint]:
		got.Status, got.Verified, r.failed[got.Endpoint] = http.StatusServiceUnavailable, true, true
	default:
		got.Status, got.Verified = http.StatusOK, true
	}
	r.seen++
	r.mu.Unlock()
	select {
	case r.arrived <- got:
	case <-req.Context().Done():
	}
	w.WriteHeader(got.Status)
}
