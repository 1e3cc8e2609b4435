package deliver_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/delivertest"
	"github.com/grapnel-hooks/grapnel/deliver/sign"
)

// egress is a proxy at 10.0.0.1:3128 of a network in memory, whose names it
// resolves by itself.
type egress struct {
	n *delivertest.Network

	mu      sync.Mutex
	asked   []string                                      // method, target and user of each request
	connect func(c net.Conn, r *http.Request) (done bool) // answers instead of it
}

func newEgress(t *testing.T, config *tls.Config) *egress {
	e := &egress{n: delivertest.NewNetwork()}
	e.n.Buffer()
	ln := e.n.Listen("10.0.0.1:3128")
	if config != nil {
		ln = tls.NewListener(ln, config)
	}
	t.Cleanup(func() { ln.Close() })
	e.n.Name("proxy.internal", "10.0.0.1")
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go e.serve(c)
		}
	}()
	return e
}

func (e *egress) serve(c net.Conn) {
	defer c.Close()
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return
	}
	e.mu.Lock()
	e.asked = append(e.asked, strings.TrimSpace(r.Method+" "+r.RequestURI+" "+r.Header.Get("Proxy-Authorization")))
	e.mu.Unlock()
	if e.connect != nil && e.connect(c, r) {
		return
	}
	to, err := e.n.Dial(context.Background(), "tcp", map[string]string{
		"receiver.example:443": "93.184.215.14:443", "receiver.example:80": "93.184.215.14:80",
		"93.184.215.14:80": "93.184.215.14:80",
	}[r.RequestURI])
	if err != nil {
		io.WriteString(c, "HTTP/1.1 502 Bad Gateway\r\nProxy-Status: proxy; error=connection_refused\r\nContent-Length: 0\r\n\r\n")
		return
	}
	defer to.Close()
	io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n")
	go func() {
		io.Copy(to, c)
		to.Close()
	}()
	io.Copy(c, to)
}

func (e *egress) options(proxy string) deliver.SenderOptions {
	o := inMemory(e.n)
	u, err := deliver.CheckProxy(proxy)
	if err != nil {
		panic(err)
	}
	o.Proxy = u
	return o
}

func (e *egress) requests() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string{}, e.asked...)
}

func TestEgressProxy(t *testing.T) {
	for _, tc := range []struct {
		name, proxy, url string
		secure           bool // the proxy is
		asked            string
	}{
		{"http by http", "http://proxy.internal:3128", "http://receiver.example/", false, "CONNECT receiver.example:80"},
		{"https by http", "http://proxy.internal:3128", "https://receiver.example/", false, "CONNECT receiver.example:443"},
		{"https by https", "https://proxy.internal:3128", "https://receiver.example/", true, "CONNECT receiver.example:443"},
		{"with a password", "http://user:of%20the-proxy@10.0.0.1:3128", "http://93.184.215.14/", false, "CONNECT 93.184.215.14:80 Basic dXNlcjpvZiB0aGUtcHJveHk="},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ca := delivertest.NewAuthority(t)
				config := func(host string) *tls.Config {
					return &tls.Config{Certificates: []tls.Certificate{ca.Certificate(host, time.Now().Add(time.Hour))}, NextProtos: []string{"h2", "http/1.1"}}
				}
				var own *tls.Config
				if tc.secure {
					own = config("proxy.internal")
				}
				e := newEgress(t, own)
				r := delivertest.NewReceiver()
				delivertest.Serve(t, e.n.Listen("93.184.215.14:80"), r)
				delivertest.ServeTLS(t, e.n.Listen("93.184.215.14:443"), r, config("receiver.example"))
				options := e.options(tc.proxy)
				options.RootCAs = ca.Pool()
				s, to := newSender(t, options), target(t, tc.url)
				for i := range int64(3) {
					o := send(t, s, to, i)
					if o.Class != deliver.OK || o.Timings.Reused != (i > 0) || o.Address != "" {
						t.Errorf("%+v", o)
					}
				}
				if diff := cmp.Diff([]string{tc.asked}, e.requests()); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
				for _, req := range r.Requests() {
					if text := fmt.Sprint(req.Header); strings.Contains(text, "Proxy") || strings.Contains(text, "of the-proxy") {
						t.Errorf("the receiver got %s", text)
					}
				}
			})
		})
	}
}

// A tunnel that does not come about is our fault, unless the proxy says that it is
// the destination's.
func TestREL07_EgressProxyFails(t *testing.T) {
	says := func(answer string) func(net.Conn, *http.Request) bool {
		return func(c net.Conn, _ *http.Request) bool {
			io.WriteString(c, "HTTP/1.1 "+answer+"\r\nContent-Length: 0\r\n\r\n")
			return true
		}
	}
	for _, tc := range []struct {
		name    string
		connect func(net.Conn, *http.Request) bool
		proxy   string
		class   deliver.Class
		text    string
		took    time.Duration
	}{
		{"407", says("407 Proxy Authentication Required"), "", deliver.Ours, "the egress proxy answered 407", 0},
		{"502", says("502 Bad Gateway"), "", deliver.Ours, "the egress proxy answered 502", 0},
		{"503", says("503 Service Unavailable"), "", deliver.Ours, "the egress proxy answered 503", 0},
		{"504", says("504 Gateway Timeout"), "", deliver.Ours, "the egress proxy answered 504", 0},
		{"405", says("405 Method Not Allowed"), "", deliver.Ours, "the egress proxy answered 405", 0},
		{"302", says("302 Found\r\nLocation: http://93.184.215.14/"), "", deliver.Ours, "the egress proxy answered 302", 0},
		{"an error of its own", says("502 Bad Gateway\r\nProxy-Status: edge; error=proxy_internal_error"), "", deliver.Ours, "the egress proxy answered 502", 0},
		{"403", says("403 Forbidden"), "", deliver.BlockedAddress, "destination not allowed", 0},
		{"prohibited", says("502 Bad Gateway\r\nProxy-Status: edge; error=destination_ip_prohibited; details=\"10.0.0.7\""), "", deliver.BlockedAddress, "destination not allowed", 0},
		{"name unknown", says("502 Bad Gateway\r\nProxy-Status: edge; error=dns_error; rcode=NXDOMAIN"), "", deliver.DNS, "the egress proxy could not resolve the name", 0},
		{"receiver refuses", says("503 Service Unavailable\r\nProxy-Status: edge; error=connection_refused"), "", deliver.Connect, "the egress proxy could not connect", 0},
		{"receiver hangs", says("504 Gateway Timeout\r\nProxy-Status: edge;error=connection_timeout"), "", deliver.Timeout, "the egress proxy could not connect in time", 0},
		{"Squid, name unknown", says("503 Service Unavailable\r\nX-Squid-Error: ERR_DNS_FAIL 0"), "", deliver.DNS, "the egress proxy could not resolve the name", 0},
		{"Squid, receiver refuses", says("503 Service Unavailable\r\nX-Squid-Error: ERR_CONNECT_FAIL 111"), "", deliver.Connect, "the egress proxy could not connect", 0},
		{"closes", func(net.Conn, *http.Request) bool { return true }, "", deliver.Ours, "the egress proxy closed the connection, or did not speak HTTP", 0},
		{"speaks SSH", func(c net.Conn, _ *http.Request) bool { io.WriteString(c, "SSH-2.0-x\r\n"); return true }, "", deliver.Ours, "the egress proxy closed the connection, or did not speak HTTP", 0},
		{"headers without end", func(c net.Conn, _ *http.Request) bool {
			for range 1000 {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nX-Filler: "+strings.Repeat("x", 1000)+"\r\n")
			}
			return true
		}, "", deliver.Ours, "the egress proxy closed the connection, or did not speak HTTP", 0},
		{"says more than it should", says("200 OK\r\n\r\nHTTP/1.1 204 No Content"), "", deliver.Ours, "the egress proxy sent something before the receiver could", 0},
		{"does not answer", func(c net.Conn, _ *http.Request) bool { io.Copy(io.Discard, c); return true }, "", deliver.Timeout, "", 10 * time.Second},
		{"is not there", nil, "http://10.0.0.2:3128", deliver.Ours, "the egress proxy cannot be reached", 0},
		{"has no name", nil, "http://other.internal:3128", deliver.Ours, "the egress proxy's name did not resolve", 0},
		{"is a black hole", nil, "http://10.0.0.3:3128", deliver.Ours, "the egress proxy cannot be reached", 5 * time.Second},
		{"speaks no TLS", nil, "https://10.0.0.1:3128", deliver.Ours, "the egress proxy: what answered does not speak TLS", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEgress(t, nil)
				e.connect = tc.connect
				e.n.BlackHole("10.0.0.3:3128")
				proxy := "http://proxy.internal:3128"
				if tc.proxy != "" {
					proxy = tc.proxy
				}
				if tc.name == "speaks no TLS" {
					plain := e.n.Listen("10.0.0.1:3128")
					defer plain.Close()
					go func() {
						c, err := plain.Accept()
						if err == nil {
							io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
							c.Close()
						}
					}()
				}
				o := send(t, newSender(t, e.options(proxy)), target(t, "http://receiver.example/"), 1)
				if o.Class != tc.class || tc.text != "" && o.Error != tc.text || o.Duration != tc.took || o.Status != 0 {
					t.Errorf("%+v", o)
				}
			})
		})
	}
}

// A timeout that is shorter than ours for the proxy does not make it the
// receiver's fault.
func TestREL07_EgressProxyHangsLongerThanTheEndpointWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEgress(t, nil)
		e.n.BlackHole("10.0.0.3:3128")
		to, err := deliver.NewTarget(deliver.Endpoint{URL: "http://receiver.example/", Timeout: 2 * time.Second, Secrets: []deliver.Secret{{Secret: sign.NewSecret()}}})
		if err != nil {
			t.Fatal(err)
		}
		o := send(t, newSender(t, e.options("http://10.0.0.3:3128")), to, 1)
		if o.Class != deliver.Ours || o.Error != "the egress proxy was not reached within 2s" {
			t.Errorf("%+v", o)
		}
	})
}

// What can be seen here is not asked of the proxy.
func TestSEC06_GuardBeforeTheEgressProxy(t *testing.T) {
	for _, tc := range []struct {
		url   string
		class deliver.Class
	}{
		{"http://127.0.0.1/", deliver.BlockedAddress},
		{"http://localhost/", deliver.BlockedAddress},
		{"http://a.localhost/", deliver.BlockedAddress},
		{"http://169.254.169.254/", deliver.BlockedAddress},
		{"http://[::ffff:10.0.0.1]/", deliver.BlockedAddress},
		{"http://receiver.example:22/", deliver.BlockedAddress},
		{"http://receiver.example/", deliver.Connect}, // nobody listens behind the proxy
		{"http://93.184.215.14/", deliver.Connect},
	} {
		synctest.Test(t, func(t *testing.T) {
			e := newEgress(t, nil)
			o := send(t, newSender(t, e.options("http://proxy.internal:3128")), target(t, tc.url), 1)
			if o.Class != tc.class {
				t.Errorf("%s: %+v", tc.url, o)
			}
			if asked := len(e.requests()); (asked == 0) != (tc.class == deliver.BlockedAddress) {
				t.Errorf("%s: the proxy was asked %d times", tc.url, asked)
			}
		})
	}
}

func TestCheckProxy(t *testing.T) {
	for raw, want := range map[string]string{
		"http://Proxy.example:3128": "http://proxy.example:3128", "https://proxy.example:443/": "https://proxy.example",
		"http://[::1]:8080": "http://[::1]:8080", "http://u:p@10.0.0.1": "http://u:p@10.0.0.1",
		"socks5://proxy": "", "proxy:3128": "", "http://": "", "http://proxy/path": "", "http://proxy?x": "", "http://proxy:0": "", "http://2130706433": "", "http://u:hunter2@proxy:x": "",
	} {
		u, err := deliver.CheckProxy(raw)
		got := ""
		if err == nil {
			got = u.String()
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error holds the password: %v", err)
		}
		if got != want {
			t.Errorf("%s: %q, %v, want %q", raw, got, err, want)
		}
	}
}
