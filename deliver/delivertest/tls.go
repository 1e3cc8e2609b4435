package delivertest

import (
	"crypto/tls"
	"net"
	"net/http"
	"testing"
)

// ServeTLS serves h on ln over TLS until the test ends, by HTTP/2 if config offers
// it.
func ServeTLS(tb testing.TB, ln net.Listener, h http.Handler, config *tls.Config) {
	tb.Helper()
	Serve(tb, tls.NewListener(ln, config), h)
}
