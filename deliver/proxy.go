package deliver

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Limits of the egress proxy.
const (
	proxyTimeout   = 5 * time.Second // to reach it, everything included
	maxProxyAnswer = 16 << 10        // bytes of the headers of its answer
)

// CheckProxy reads the URL of an egress proxy: http or https, a host, and perhaps
// a port, user and password. Errors do not repeat it.
func CheckProxy(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil || len(raw) > MaxURL:
		return nil, errors.New("is no URL, want http://host:port")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("want http://… or https://…")
	case u.Opaque != "" || u.Hostname() == "":
		return nil, errors.New("has no host")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("has more than a host and a port")
	}
	host, err := canonicalHost(u.Hostname(), strings.HasPrefix(u.Host, "["))
	if err != nil {
		return nil, err
	}
	port, err := canonicalPort(u.Port(), u.Scheme)
	if err != nil {
		return nil, err
	}
	return &url.URL{Scheme: u.Scheme, User: u.User, Host: host + port}, nil
}

// egressProxy opens tunnels to receivers, by CONNECT (RFC 9110, section 9.3.6),
// for http as for https: so what it says itself is never taken for the receiver's
// answer. It resolves their names and has to filter where they lead; the guard sees
// only hosts that are addresses, and ports.
//
// Whatever goes wrong before it has taken the CONNECT is our own fault, not the
// receiver's (REL-07). What it answers then is sorted by [refusedTunnel].
type egressProxy struct {
	host    string
	port    uint16
	tls     *tls.Config // nil: http
	header  string      // of the CONNECT, complete
	connect func(ctx context.Context, network, address string) (net.Conn, error)
}

func newEgressProxy(o SenderOptions) *egressProxy {
	p := &egressProxy{host: o.Proxy.Hostname(), port: portOf(o.Proxy), connect: o.Dial}
	if p.connect == nil {
		p.connect = (&net.Dialer{KeepAlive: -1}).DialContext
	}
	if o.Proxy.Scheme == "https" {
		p.tls = clientTLS(o.RootCAs)
		p.tls.NextProtos = []string{"http/1.1"}
	}
	if o.UserAgent != "" {
		p.header += "User-Agent: " + o.UserAgent + "\r\n"
	}
	if u := o.Proxy.User; u != nil {
		password, _ := u.Password()
		p.header += "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)) + "\r\n"
	}
	return p
}

// reachProxied is reachHost by the egress proxy.
func (d *dialer) reachProxied(ctx context.Context, c *conn, host string, port uint16) error {
	if err := d.guard.checkUnresolved(host, port); err != nil {
		return failed(BlockedAddress, ErrBlocked.Error(), err)
	}
	start := time.Now()
	defer func() { c.took.Connect = time.Since(start) }()
	enter(ctx, stageProxy)
	raw, err := d.reachProxy(ctx)
	if err != nil {
		return err
	}
	enter(ctx, stageDial)
	if err := d.proxy.tunnel(ctx, raw, net.JoinHostPort(host, strconv.Itoa(int(port)))); err != nil {
		raw.Close()
		return err
	}
	c.Conn = raw
	return nil
}

// reachProxy connects to the proxy itself.
func (d *dialer) reachProxy(ctx context.Context) (net.Conn, error) {
	p := d.proxy
	ctx, cancel := context.WithTimeout(ctx, proxyTimeout)
	defer cancel()
	addrs, err := d.resolve(ctx, p.host)
	if err != nil {
		return nil, failed(Ours, "the egress proxy's name did not resolve", err)
	}
	var at []netip.AddrPort
	for _, a := range interleave(addrs) {
		if len(at) < maxAddresses {
			at = append(at, netip.AddrPortFrom(a, p.port))
		}
	}
	raw, _, err := dialAny(ctx, p.connect, at)
	if err != nil {
		return nil, failed(Ours, "the egress proxy cannot be reached", err)
	}
	if p.tls == nil {
		return raw, nil
	}
	secured, err := handshake(ctx, raw, p.tls, p.host)
	if err != nil {
		raw.Close()
		return nil, failed(Ours, "the egress proxy: "+handshakeText(err), err)
	}
	return secured, nil
}

// tunnel asks the proxy, at the other end of raw, to connect to address.
func (p *egressProxy) tunnel(ctx context.Context, raw net.Conn, address string) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { raw.SetDeadline(time.Unix(1, 0)) })
	res, extra, err := p.ask(raw, address)
	switch {
	case !stop():
		// It has taken the CONNECT and tries; a receiver that is not there looks so.
		return failed(Timeout, fmt.Sprintf("the egress proxy opened no tunnel within %v", connectTimeout), ctx.Err())
	case err != nil:
		return failed(Ours, "the egress proxy closed the connection, or did not speak HTTP", err)
	case res.StatusCode/100 != 2:
		return refusedTunnel(res.StatusCode, res.Header)
	case extra:
		return failed(Ours, "the egress proxy sent something before the receiver could", nil)
	}
	return nil
}

// ask sends the CONNECT and reads the answer; extra says that more came after it.
func (p *egressProxy) ask(raw net.Conn, address string) (res *http.Response, extra bool, err error) {
	if _, err := io.WriteString(raw, "CONNECT "+address+" HTTP/1.1\r\nHost: "+address+"\r\n"+p.header+"\r\n"); err != nil {
		return nil, false, err
	}
	r := bufio.NewReader(io.LimitReader(raw, maxProxyAnswer))
	if res, err = http.ReadResponse(r, &http.Request{Method: http.MethodConnect}); err != nil {
		return nil, false, err
	}
	return res, r.Buffered() > 0, nil
}

// Why a proxy opened no tunnel, in its own words: the error types of Proxy-Status
// (RFC 9209, section 2.3) and those of Squid's X-Squid-Error.
var proxyReasons = map[string]Class{
	"dns_timeout": DNS, "dns_error": DNS, "ERR_DNS_FAIL": DNS,
	"destination_not_found": Connect, "destination_unavailable": Connect, "destination_ip_unroutable": Connect,
	"connection_refused": Connect, "ERR_CONNECT_FAIL": Connect,
	"connection_terminated": Reset, "connection_timeout": Timeout,
	"destination_ip_prohibited": BlockedAddress, "http_request_denied": BlockedAddress, "ERR_ACCESS_DENIED": BlockedAddress,
}

var proxyTexts = map[Class]string{
	DNS:            "the egress proxy could not resolve the name",
	Connect:        "the egress proxy could not connect",
	Reset:          "the egress proxy's connection was closed",
	Timeout:        "the egress proxy could not connect in time",
	BlockedAddress: ErrBlocked.Error(),
}

// refusedTunnel sorts the answer of a proxy that opened no tunnel. It is a fault of
// ours (407, 502, 503, 504 and others), unless the proxy says that the destination
// is at fault, or that it must not go there (403).
func refusedTunnel(status int, h http.Header) error {
	if class, ok := proxyReason(h); ok {
		return failed(class, proxyTexts[class], nil)
	}
	if status == http.StatusForbidden {
		return failed(BlockedAddress, ErrBlocked.Error(), ErrBlocked)
	}
	return failed(Ours, fmt.Sprintf("the egress proxy answered %d", status), nil)
}

func proxyReason(h http.Header) (Class, bool) {
	squid, _, _ := strings.Cut(h.Get("X-Squid-Error"), " ")
	if class, ok := proxyReasons[squid]; ok {
		return class, true
	}
	// The last entry is of the proxy that is nearest to us.
	for entry := range strings.SplitSeq(h.Get("Proxy-Status"), ",") {
		for parameter := range strings.SplitSeq(entry, ";") {
			if name, ok := strings.CutPrefix(strings.TrimSpace(parameter), "error="); ok {
				class, known := proxyReasons[name]
				return class, known
			}
		}
	}
	return 0, false
}
