package deliver_test

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/delivertest"
)

// slowly is the network n, on which each step takes its time.
func slowly(n *delivertest.Network, resolve, connect time.Duration) deliver.SenderOptions {
	o := inMemory(n)
	o.Resolver = resolverFunc(func(ctx context.Context) ([]netip.Addr, error) {
		time.Sleep(resolve)
		return n.LookupNetIP(ctx, "ip", "receiver.example")
	})
	o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		time.Sleep(connect)
		return n.Dial(ctx, network, address)
	}
	return o
}

func TestTimings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := delivertest.NewAuthority(t)
		n := delivertest.NewNetwork()
		n.Name("receiver.example", "93.184.215.14")
		r := delivertest.NewReceiver()
		r.Otherwise(delivertest.After(3*time.Second, delivertest.Status(204)))
		ln := &lateTLS{n.Listen("93.184.215.14:443"), time.Second}
		delivertest.Serve(t, tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{ca.Certificate("receiver.example", time.Now().Add(time.Hour))}}), r)
		options := slowly(n, 100*time.Millisecond, 20*time.Millisecond)
		options.RootCAs = ca.Pool()
		s, to := newSender(t, options), target(t, "https://receiver.example/")
		first := deliver.Timings{DNS: 100 * time.Millisecond, Connect: 20 * time.Millisecond, TLS: time.Second, FirstByte: 3 * time.Second}
		again := deliver.Timings{FirstByte: 3 * time.Second, Reused: true}
		for i, want := range []deliver.Timings{first, again} {
			o := send(t, s, to, int64(i))
			if diff := cmp.Diff(want, o.Timings); diff != "" || o.Class != deliver.OK {
				t.Errorf("request %d: %+v\n%s", i, o, diff)
			}
			if o.Address != "93.184.215.14:443" {
				t.Errorf("address %q", o.Address)
			}
			if sum := o.Timings.DNS + o.Timings.Connect + o.Timings.TLS + o.Timings.FirstByte; sum != o.Duration {
				t.Errorf("parts take %v of %v", sum, o.Duration)
			}
		}
	})
}

// lateTLS lets each handshake begin late.
type lateTLS struct {
	net.Listener
	by time.Duration
}

func (l *lateTLS) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &lateConn{Conn: c, by: l.by}, nil
}

type lateConn struct {
	net.Conn
	by   time.Duration
	read bool
}

func (c *lateConn) Read(p []byte) (int, error) {
	if !c.read {
		c.read = true
		time.Sleep(c.by)
	}
	return c.Conn.Read(p)
}

func TestTimingsOfWhatFailed(t *testing.T) {
	for _, tc := range []struct {
		name    string
		addrs   []string
		class   deliver.Class
		text    string
		want    deliver.Timings
		address string
	}{
		{"no address", nil, deliver.DNS, "the name has no address", deliver.Timings{DNS: 100 * time.Millisecond}, ""},
		{"refused", []string{"93.184.215.14"}, deliver.Connect, "connection refused",
			deliver.Timings{DNS: 100 * time.Millisecond, Connect: 20 * time.Millisecond}, "93.184.215.14:443"},
		{"not allowed", []string{"10.0.0.1"}, deliver.BlockedAddress, "destination not allowed",
			deliver.Timings{DNS: 100 * time.Millisecond}, ""},
		{"hangs", []string{"93.184.215.15"}, deliver.Timeout, "no connection within 10s", deliver.Timings{}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := delivertest.NewNetwork()
				n.Name("receiver.example", tc.addrs...)
				n.BlackHole("93.184.215.15:443")
				o := send(t, newSender(t, slowly(n, 100*time.Millisecond, 20*time.Millisecond)), target(t, "https://receiver.example/"), 1)
				if diff := cmp.Diff(tc.want, o.Timings); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
				if o.Class != tc.class || o.Error != tc.text || o.Address != tc.address {
					t.Errorf("outcome %+v", o)
				}
			})
		})
	}
}
