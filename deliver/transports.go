package deliver

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of connections by HTTP/2. A stream is a request and its answer.
const (
	streamWindow    = 64 << 10  // bytes of a body that a receiver may send before they are read
	connWindow      = 256 << 10 // the same over all streams
	maxFrame        = 16 << 10
	pingAfter       = 5 * time.Second // of silence, while requests wait
	pingTimeout     = 10 * time.Second
	writeTimeout    = 10 * time.Second // of a receiver that does not read
	identities      = 256              // with connections of their own
	identityIdle    = time.Minute      // after which one is forgotten
	sessionsOfOne   = 8                // TLS sessions remembered for an identity
	shareOfIdentity = 4                // a fourth of the idle connections is theirs
)

// transports are the connections of a Sender. Those that are made with a TLS
// identity of an endpoint's own are kept apart from all others, and from those of
// every other identity, with the sessions that TLS resumes: a connection proves to
// the receiver who sends, and to us who receives. Endpoints that have the same
// identity share.
type transports struct {
	dialer   dialer
	open     atomic.Pointer[http.Transport] // of all without an identity
	openIdle int                            // connections of it
	idle     int                            // connections of one identity

	mu    sync.Mutex
	known map[[sha256.Size]byte]*identified // by Identity.fingerprint
}

type identified struct {
	transport *http.Transport
	used      time.Time
}

// newTransports makes them, for at most idle idle connections in all.
func newTransports(d dialer, idle int) *transports {
	ofIdentities := idle / shareOfIdentity
	ts := &transports{
		dialer:   d,
		openIdle: idle - ofIdentities,
		idle:     max(ofIdentities/identities, 1),
		known:    map[[sha256.Size]byte]*identified{},
	}
	ts.open.Store(newTransport(&d, ts.openIdle))
	return ts
}

// renew makes every request from now on begin with a new connection, or with one
// that was made after this. Those in flight end on theirs, which are closed after
// them: a transport that nobody uses keeps none.
func (ts *transports) renew() {
	ts.open.Swap(newTransport(&ts.dialer, ts.openIdle)).CloseIdleConnections()
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for key := range ts.known {
		ts.drop(key)
	}
}

func newTransport(d *dialer, idle int) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	return &http.Transport{
		DialContext:    d.dial,
		DialTLSContext: d.dialTLS,
		Protocols:      protocols,
		HTTP2: &http.HTTP2Config{
			MaxReadFrameSize:              maxFrame,
			MaxReceiveBufferPerStream:     streamWindow,
			MaxReceiveBufferPerConnection: connWindow,
			SendPingTimeout:               pingAfter,
			PingTimeout:                   pingTimeout,
			WriteByteTimeout:              writeTimeout,
		},
		DisableCompression:     true,
		MaxIdleConns:           idle,
		MaxIdleConnsPerHost:    idlePerHost,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxResponseHeader,
		// A usual request leaves in one write, a usual answer comes in one
		// read; what is larger takes a few. Thousands of endpoints that hang
		// hold a pair of these each.
		WriteBufferSize: 2 << 10,
		ReadBufferSize:  1 << 10,
	}
}

func clientTLS(roots *x509.CertPool) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		RootCAs:            roots,
		NextProtos:         []string{"h2", "http/1.1"},
		ClientSessionCache: tls.NewLRUClientSessionCache(tlsSessions),
	}
}

// of is the transport for t. It fails when the identity of t cannot be used.
func (ts *transports) of(t *Target) (*http.Transport, error) {
	if t.credentials == nil || t.credentials.TLS.IsZero() {
		return ts.open.Load(), nil
	}
	now := time.Now()
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if k := ts.known[t.identity]; k != nil {
		k.used = now
		return k.transport, nil
	}
	config, err := t.credentials.TLS.config(ts.dialer.tls.RootCAs)
	if err != nil {
		return nil, err
	}
	ts.forget(now)
	d := ts.dialer
	d.tls = config
	k := &identified{newTransport(&d, ts.idle), now}
	ts.known[t.identity] = k
	return k.transport, nil
}

// forget makes room for one more identity, and drops those that nobody uses.
// Requests in flight go on, and their connections are closed after them.
func (ts *transports) forget(now time.Time) {
	var oldest *[sha256.Size]byte
	for key, k := range ts.known {
		switch {
		case now.Sub(k.used) > identityIdle:
			ts.drop(key)
		case oldest == nil || k.used.Before(ts.known[*oldest].used):
			oldest = &key
		}
	}
	if len(ts.known) >= identities {
		ts.drop(*oldest)
	}
}

func (ts *transports) drop(key [sha256.Size]byte) {
	ts.known[key].transport.CloseIdleConnections()
	delete(ts.known, key)
}

// close closes the idle connections.
func (ts *transports) close() {
	ts.open.Load().CloseIdleConnections()
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for key := range ts.known {
		ts.drop(key)
	}
}

// config is what connections with the identity are made with; roots are the
// authorities unless it names its own.
func (i Identity) config(roots *x509.CertPool) (*tls.Config, error) {
	config := clientTLS(roots)
	config.ClientSessionCache = tls.NewLRUClientSessionCache(sessionsOfOne)
	if i.CA != "" {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM([]byte(i.CA)) {
			return nil, errors.New("the endpoint's authorities cannot be read")
		}
	}
	if i.Certificate != "" {
		pair, err := i.pair()
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}
