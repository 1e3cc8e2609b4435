package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
)

// ErrUnreachable: nothing that was sent can have arrived.
var ErrUnreachable = errors.New("cannot reach the daemon")

// Remote is a client of the daemon at that URL, with an API token. It does not
// connect yet.
//
// The URL is what comes before /api/v1: scheme, host, port, and the prefix under
// which a reverse proxy has the daemon, if there is one. It is https, or http to
// this machine's loopback address: the token would be readable on the way
// elsewhere. Certificates are checked against the system's authorities (or those
// of SSL_CERT_FILE). For https the environment's proxy applies (HTTPS_PROXY,
// NO_PROXY), which sees neither token nor body; for http none does.
// Redirects are not followed.
func Remote(rawURL, token string) (*Client, error) {
	u, err := parseURL(rawURL)
	if err != nil {
		return nil, err
	}
	if _, ok := httpapi.TokenHash(token); !ok {
		return nil, errors.New("the token is none: want gk_ and 43 letters, digits, - or _")
	}
	dialer := &net.Dialer{Timeout: dialLimit}
	transport := &http.Transport{
		TLSHandshakeTimeout: dialLimit,
		MaxIdleConnsPerHost: 4,
		IdleConnTimeout:     30 * time.Second,
	}
	if u.Scheme == "https" {
		transport.Proxy = http.ProxyFromEnvironment
	} else {
		dialer.ControlContext = loopbackOnly // whatever the name resolves to
	}
	transport.DialContext = dialer.DialContext
	return &Client{
		base:      strings.TrimSuffix(strings.TrimSuffix(u.String(), "/"), base),
		authorize: func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) },
		explain:   func(err error) error { return noServer(u, err) },
		http:      straight(transport),
	}, nil
}

// parseURL checks the URL of a daemon. Its errors repeat only what cannot be a
// password.
func parseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, errors.New("not a URL: want one such as https://hooks.example.com")
	case u.Scheme != "https" && u.Scheme != "http", u.Hostname() == "":
		return nil, errors.New("want a URL with https:// and a host, such as https://hooks.example.com")
	case u.User != nil:
		return nil, errors.New("no user and password in the URL: grapnel takes a token")
	case u.RawQuery != "", u.Fragment != "":
		return nil, errors.New("only scheme, host, port and a prefix, without ? and #")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return nil, fmt.Errorf("http:// would carry the token readable to %s: use https://, or a tunnel to this machine "+
			"(ssh -L 8480:127.0.0.1:8480 %[1]s) and http://127.0.0.1:8480", u.Hostname())
	}
	return u, nil
}

// isLoopback reports whether the host is written as this machine.
func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && ip.IsLoopback()
}

// loopbackOnly is a net.Dialer's ControlContext that refuses other addresses
// than loopback.
func loopbackOnly(_ context.Context, _, address string, _ syscall.RawConn) error {
	if to, err := netip.ParseAddrPort(address); err != nil || !to.Addr().IsLoopback() {
		return fmt.Errorf("%w: http:// is only for this machine, and the name leads to %s", ErrUnreachable, address)
	}
	return nil
}

// noServer says why no answer came from u, nil when it knows nothing better than
// err.
func noServer(u *url.URL, err error) error {
	var (
		name *net.DNSError
		cert *tls.CertificateVerificationError
		host x509.HostnameError
		dial *net.OpError
	)
	switch at := u.Scheme + "://" + u.Host; {
	case errors.Is(err, ErrUnreachable):
		return err
	case errors.As(err, &name):
		return fmt.Errorf("%w: no address for the host %s", ErrUnreachable, name.Name)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: nobody listens at %s", ErrUnreachable, at)
	case errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Errorf("%w: %s speaks no TLS: is it the right port?", ErrUnreachable, at)
	case errors.As(err, &host):
		return fmt.Errorf("%w: the certificate of %s is not for that name", ErrUnreachable, at)
	case errors.As(err, &cert):
		return fmt.Errorf("%w: the certificate of %s is not trusted (%w): SSL_CERT_FILE can name its authority", ErrUnreachable, at, cert.Err)
	case errors.As(err, &dial) && dial.Op == "dial":
		return fmt.Errorf("%w: %s: %w", ErrUnreachable, at, dial.Err)
	}
	return nil
}
