package deliver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Limits of one dial. They hold beside the deadline of the attempt, since a
// dial may outlive the attempt that asked for it.
const (
	resolveTimeout   = 5 * time.Second
	connectTimeout   = 10 * time.Second // over all addresses of a name
	handshakeTimeout = 5 * time.Second
	maxAddresses     = 8                      // of a name, that are dialed
	nextAddressAfter = 300 * time.Millisecond // RFC 8305 wants 100 ms to 2 s
	tlsSessions      = 1024                   // remembered for resumption
)

// Resolver looks up the addresses of a name. [net.Resolver] is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// dialer makes the connections of a Sender: resolve, ask the guard about each
// address, connect, and TLS where the URL says so.
type dialer struct {
	guard    *Guard
	resolver Resolver
	connect  func(ctx context.Context, network, address string) (net.Conn, error)
	proxy    *egressProxy // nil: none
	tls      *tls.Config
	stopped  context.Context // done when the Sender is closed
}

// guarded dials TCP and asks g once more, about the address that the socket is
// about to connect to: there is no way around it. Idle connections live for
// seconds, so TCP keep-alive has nothing to do.
func guarded(g *Guard) func(ctx context.Context, network, address string) (net.Conn, error) {
	return (&net.Dialer{ControlContext: g.Control, KeepAlive: -1}).DialContext
}

// dialError says at which stage a connection failed.
type dialError struct {
	class   Class
	text    string // for Outcome.Error: without addresses
	err     error  // what happened, for the class Ours; not shown
	address string // of the receiver that was tried first
	took    Timings
}

func (e *dialError) Error() string { return e.text }
func (e *dialError) Unwrap() error { return e.err }

// failed is a dialError.
func failed(class Class, text string, err error) error {
	return &dialError{class: class, text: text, err: err}
}

// dial connects to address, "host:port". ctx carries no deadline when it comes
// from the Transport.
func (d *dialer) dial(ctx context.Context, _, address string) (net.Conn, error) {
	ctx, cancel := d.bound(ctx)
	defer cancel()
	c := &conn{}
	if _, err := d.reach(ctx, c, address); err != nil {
		return nil, c.failed(err)
	}
	return c, nil
}

// dialTLS is dial and the handshake.
func (d *dialer) dialTLS(ctx context.Context, _, address string) (net.Conn, error) {
	ctx, cancel := d.bound(ctx)
	defer cancel()
	c := &conn{}
	host, err := d.reach(ctx, c, address)
	if err != nil {
		return nil, c.failed(err)
	}
	start := time.Now()
	secured, err := handshake(ctx, c, d.tls, host)
	c.took.TLS = time.Since(start)
	if err != nil {
		c.Close()
		return nil, c.failed(failed(TLS, handshakeText(err), err))
	}
	if secured.ConnectionState().NegotiatedProtocol == "h2" {
		c.limit()
	}
	return secured, nil
}

// handshake secures c, to which nothing else was written.
func handshake(ctx context.Context, c net.Conn, config *tls.Config, host string) (*tls.Conn, error) {
	config = config.Clone()
	config.ServerName = host
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	secured := tls.Client(c, config)
	return secured, secured.HandshakeContext(ctx)
}

// failed adds to the error what is known of the connection that did not come about.
func (c *conn) failed(err error) error {
	var d *dialError
	if errors.As(err, &d) {
		d.address, d.took = c.address, c.took
	}
	return err
}

// bound ends ctx when the Sender is closed.
func (d *dialer) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(d.stopped, cancel)
	return ctx, func() { stop(); cancel() }
}

// reach connects c to address, by the egress proxy if there is one, and returns
// the host.
func (d *dialer) reach(ctx context.Context, c *conn, address string) (host string, err error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", failed(Connect, "the address cannot be read", err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return "", failed(Connect, "the port cannot be read", err)
	}
	if d.proxy != nil {
		return host, d.reachProxied(ctx, c, host, uint16(n))
	}
	return host, d.reachHost(ctx, c, host, uint16(n))
}

func (d *dialer) reachHost(ctx context.Context, c *conn, host string, port uint16) error {
	start := time.Now()
	addrs, err := d.resolve(ctx, host)
	c.took.DNS = time.Since(start)
	if err != nil {
		return err
	}
	var allowed []netip.AddrPort
	for _, a := range interleave(addrs) {
		ap := netip.AddrPortFrom(a, port)
		if d.guard.Check(ap) == nil && len(allowed) < maxAddresses {
			allowed = append(allowed, ap)
		}
	}
	if len(allowed) == 0 {
		return failed(BlockedAddress, ErrBlocked.Error(), ErrBlocked)
	}
	c.address = allowed[0].String()
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	start = time.Now()
	raw, at, err := dialAny(ctx, d.connect, allowed)
	c.took.Connect = time.Since(start)
	if err != nil {
		return err
	}
	c.Conn, c.address = raw, at.String()
	return nil
}

func (d *dialer) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	addrs, err := d.resolver.LookupNetIP(ctx, "ip", host)
	if err == nil && len(addrs) > 0 {
		return addrs, nil
	}
	text := "the name did not resolve"
	var e *net.DNSError
	switch {
	case err == nil:
		text = "the name has no address"
	case ctx.Err() != nil:
		text = fmt.Sprintf("the name did not resolve within %v", resolveTimeout)
	case errors.As(err, &e) && e.IsNotFound:
		text = "the name does not exist"
	case errors.As(err, &e) && strings.Contains(e.Err, syscall.EMFILE.Error()):
		err = syscall.EMFILE // of which a DNSError keeps only the text
	}
	return nil, failed(DNS, text, err)
}

// interleave alternates between the families, beginning with that of the first
// address, so that a family that is broken here costs one wait, not one for
// each of its addresses.
func interleave(addrs []netip.Addr) []netip.Addr {
	var first, second []netip.Addr
	for _, a := range addrs {
		a = a.Unmap()
		if a.Is4() == addrs[0].Unmap().Is4() {
			first = append(first, a)
		} else {
			second = append(second, a)
		}
	}
	out := make([]netip.Addr, 0, len(addrs))
	for i := range max(len(first), len(second)) {
		if i < len(first) {
			out = append(out, first[i])
		}
		if i < len(second) {
			out = append(out, second[i])
		}
	}
	return out
}

// dialAny returns the first connection that comes about. It begins with the
// first address, and goes on to the next after 300 ms, or at once when one has
// failed ("happy eyeballs", RFC 8305). The error is that of the first address.
func dialAny(ctx context.Context, connect func(ctx context.Context, network, address string) (net.Conn, error), addrs []netip.AddrPort) (net.Conn, netip.AddrPort, error) {
	type result struct {
		i    int
		conn net.Conn
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan result, len(addrs))
	started, ended := 0, 0
	var firstErr error
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-next.C:
			if started == len(addrs) {
				continue
			}
			i := started
			started++
			go func() {
				c, err := connect(ctx, "tcp", addrs[i].String())
				results <- result{i, c, err}
			}()
			next.Reset(nextAddressAfter)
		case r := <-results:
			ended++
			if r.err == nil {
				if rest := started - ended; rest > 0 {
					go func() { // those that come too late; cancel hurries them
						for range rest {
							if r := <-results; r.err == nil {
								r.conn.Close()
							}
						}
					}()
				}
				return r.conn, addrs[r.i], nil
			}
			if firstErr == nil || r.i == 0 {
				firstErr = r.err
			}
			if ended == len(addrs) {
				return nil, netip.AddrPort{}, connectError(firstErr)
			}
			next.Reset(0)
		}
	}
}

func connectError(err error) error {
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, ErrBlocked):
		return failed(BlockedAddress, ErrBlocked.Error(), err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return failed(Connect, "connection refused", err)
	case errors.Is(err, syscall.ECONNRESET):
		return failed(Reset, "the connection was reset before an answer came", err)
	case errors.As(err, &timeout) && timeout.Timeout():
		return failed(Timeout, "no connection came about in time", err)
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return failed(Connect, "the address cannot be reached", err)
	}
	return failed(Connect, "no connection came about", err)
}

// handshakeText says what was wrong with the handshake, without quoting what
// the other side sent.
func handshakeText(err error) string {
	var (
		expired   x509.CertificateInvalidError
		host      x509.HostnameError
		authority x509.UnknownAuthorityError
		record    tls.RecordHeaderError
		alert     *net.OpError
	)
	switch {
	case errors.As(err, &expired) && expired.Reason == x509.Expired:
		return "the certificate has expired or is not yet valid"
	case errors.As(err, &host):
		return "the certificate is for another name"
	case errors.As(err, &authority):
		return "the certificate was signed by an unknown authority"
	case errors.As(err, &expired):
		return "the certificate is not valid"
	case errors.As(err, &record):
		return "what answered does not speak TLS"
	case refusedByAlert(err, &alert):
		return "the TLS handshake was refused: " + alert.Err.Error()
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("the TLS handshake did not end within %v", handshakeTimeout)
	}
	return "the TLS handshake failed"
}

// refusedByAlert reports whether the other side ended TLS with an alert, which
// crypto/tls names in words of its own.
func refusedByAlert(err error, alert **net.OpError) bool {
	return errors.As(err, alert) && (*alert).Op == "remote error"
}
