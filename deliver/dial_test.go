package deliver_test

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/delivertest"
	"github.com/grapnel-hooks/grapnel/deliver/sign"
)

func TestBlockedDestinationsAreNeverDialed(t *testing.T) {
	for _, tc := range []struct {
		name, url string
		addrs     []string
		allowHTTP bool
		dialed    []string
		class     deliver.Class
	}{
		{"literal loopback", "http://127.0.0.1/", nil, true, nil, deliver.BlockedAddress},
		{"literal IPv6 loopback", "http://[::1]/", nil, true, nil, deliver.BlockedAddress},
		{"mapped", "http://[::ffff:10.0.0.1]/", nil, true, nil, deliver.BlockedAddress},
		{"name that resolves to private addresses", "https://rebind.example/", []string{"10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"}, false, nil, deliver.BlockedAddress},
		{"name that resolves to metadata", "https://rebind.example/", []string{"169.254.169.254"}, false, nil, deliver.BlockedAddress},
		{"zone", "https://rebind.example/", []string{"fe80::1%eth0"}, false, nil, deliver.BlockedAddress},
		{"http, not allowed", "http://rebind.example/", []string{"93.184.215.14"}, false, nil, deliver.BlockedAddress},
		{"one public among private", "https://rebind.example/", []string{"10.0.0.1", "93.184.215.14", "127.0.0.1"}, false, []string{"93.184.215.14:443"}, deliver.Connect},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := delivertest.NewNetwork()
			n.Name("rebind.example", tc.addrs...)
			options := inMemory(n)
			options.AllowHTTP = tc.allowHTTP
			o := send(t, newSender(t, options), target(t, tc.url), 1)
			if o.Class != tc.class {
				t.Errorf("outcome %+v", o)
			}
			if o.Class == deliver.BlockedAddress && o.Error != "destination not allowed" {
				t.Errorf("text %q", o.Error)
			}
			var dialed []string
			for _, a := range n.Dialed() {
				dialed = append(dialed, a.String())
			}
			if diff := cmp.Diff(tc.dialed, dialed); diff != "" {
				t.Errorf("dialed: -want +got:\n%s", diff)
			}
		})
	}
}

// The guard also sits where the socket is made: without Dial there is no way
// around it. (Nothing listens on these ports, and nothing is reached.)
func TestSEC01_TheRealDialerIsGuarded(t *testing.T) {
	s := newSender(t, deliver.SenderOptions{AllowHTTP: true})
	if o := send(t, s, target(t, "http://127.0.0.1:1/"), 1); o.Class != deliver.BlockedAddress {
		t.Errorf("outcome %+v", o)
	}
	s = newSender(t, loopback())
	if o := send(t, s, target(t, "http://127.0.0.1:1/"), 1); o.Class != deliver.Connect || o.Error != "connection refused" {
		t.Errorf("outcome %+v", o)
	}
}

// A name that is public when it is checked and private when it is dialed.
func TestSEC10_Rebind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := delivertest.NewNetwork()
		asked := 0
		n.NameFunc("rebind.example", func() []netip.Addr {
			if asked++; asked == 1 {
				return []netip.Addr{netip.MustParseAddr("93.184.215.14")}
			}
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}
		})
		public, private := delivertest.NewReceiver(), delivertest.NewReceiver()
		delivertest.Serve(t, n.Listen("93.184.215.14:80"), public)
		delivertest.Serve(t, n.Listen("127.0.0.1:80"), private)
		s, to := newSender(t, inMemory(n)), target(t, "http://rebind.example/")
		var classes []deliver.Class
		for i := range int64(3) {
			classes = append(classes, send(t, s, to, i).Class)
			if i == 1 { // the kept connection still leads to the public address
				time.Sleep(time.Minute)
			}
		}
		if diff := cmp.Diff([]deliver.Class{deliver.OK, deliver.OK, deliver.BlockedAddress}, classes); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if len(public.Requests()) != 2 || len(private.Requests()) != 0 || len(n.Dialed()) != 1 {
			t.Errorf("%d and %d requests, dialed %v", len(public.Requests()), len(private.Requests()), n.Dialed())
		}
	})
}

type resolverFunc func(ctx context.Context) ([]netip.Addr, error)

func (f resolverFunc) LookupNetIP(ctx context.Context, _, _ string) ([]netip.Addr, error) {
	return f(ctx)
}

func TestREL23_Resolution(t *testing.T) {
	many := make([]netip.Addr, 1000)
	for i := range many {
		many[i] = netip.AddrFrom4([4]byte{93, 184, byte(i / 256), byte(i)})
	}
	for _, tc := range []struct {
		name    string
		resolve resolverFunc
		class   deliver.Class
		text    string
		took    time.Duration
		dialed  int
	}{
		{"no such name", func(context.Context) ([]netip.Addr, error) {
			return nil, &net.DNSError{Err: "no such host", Name: "receiver.example", IsNotFound: true}
		}, deliver.DNS, "the name does not exist", 0, 0},
		{"server failure", func(context.Context) ([]netip.Addr, error) {
			return nil, &net.DNSError{Err: "server misbehaving", Name: "receiver.example", Server: "10.0.0.53:53", IsTemporary: true}
		}, deliver.DNS, "the name did not resolve", 0, 0},
		{"no address", func(context.Context) ([]netip.Addr, error) { return nil, nil },
			deliver.DNS, "the name has no address", 0, 0},
		{"hangs", func(ctx context.Context) ([]netip.Addr, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, deliver.DNS, "the name did not resolve within 5s", 5 * time.Second, 0},
		{"no descriptors left", func(context.Context) ([]netip.Addr, error) {
			return nil, &net.DNSError{Err: "dial udp 10.0.0.53:53: socket: too many open files"}
		}, deliver.Ours, "this machine is out of sockets or memory", 0, 0},
		{"1000 addresses", func(context.Context) ([]netip.Addr, error) { return many, nil },
			deliver.Connect, "connection refused", 0, 8},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := delivertest.NewNetwork()
				options := inMemory(n)
				options.Resolver = tc.resolve
				o := send(t, newSender(t, options), target(t, "https://receiver.example/"), 1)
				if o.Class != tc.class || o.Error != tc.text || o.Duration != tc.took {
					t.Errorf("outcome %+v", o)
				}
				if got := len(n.Dialed()); got != tc.dialed {
					t.Errorf("dialed %d addresses, want %d", got, tc.dialed)
				}
			})
		})
	}
}

func TestAddressesAreTriedInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := delivertest.NewNetwork()
		n.Name("receiver.example", "2606:4700::1", "2606:4700::2", "93.184.215.14", "93.184.215.15")
		n.BlackHole("[2606:4700::1]:80")
		r := delivertest.NewReceiver()
		delivertest.Serve(t, n.Listen("93.184.215.15:80"), r)
		o := send(t, newSender(t, inMemory(n)), target(t, "http://receiver.example/"), 1)
		// The black hole costs one wait; what refuses costs none.
		if o.Class != deliver.OK || o.Duration != 300*time.Millisecond {
			t.Errorf("outcome %+v", o)
		}
		want := []string{"[2606:4700::1]:80", "93.184.215.14:80", "[2606:4700::2]:80", "93.184.215.15:80"}
		var got []string
		for _, a := range n.Dialed() {
			got = append(got, a.String())
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}

func TestBlackHoleEndsAtTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := delivertest.NewNetwork()
		n.BlackHole("93.184.215.14:443")
		to, err := deliver.NewTarget(deliver.Endpoint{URL: "https://93.184.215.14/", Timeout: 3 * time.Second, Secrets: []deliver.Secret{{Secret: sign.NewSecret()}}})
		if err != nil {
			t.Fatal(err)
		}
		if o := send(t, newSender(t, inMemory(n)), to, 1); o.Class != deliver.Timeout || o.Duration != 3*time.Second {
			t.Errorf("outcome %+v", o)
		}
		// The dial itself may go on, but not for long, and not beyond Close.
	})
}
