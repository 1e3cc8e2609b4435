package deliver

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// guardTable has one line for each range of SEC-02 and SEC-03: what must be
// refused, after the bar what must be allowed. First and last address of each range, and
// their neighbours unless those lie in another range.
const guardTable = `
0.0.0.0 0.0.0.1 0.255.255.255 | 1.0.0.0
10.0.0.0 10.0.0.1 10.255.255.255 | 9.255.255.255 11.0.0.0
100.64.0.0 100.100.100.200 100.127.255.255 | 100.63.255.255 100.128.0.0
127.0.0.0 127.0.0.1 127.1.2.3 127.255.255.255 | 126.255.255.255 128.0.0.0
169.254.0.0 169.254.169.254 169.254.170.2 169.254.255.255 | 169.253.255.255 169.255.0.0
172.16.0.0 172.17.0.1 172.31.255.255 | 172.15.255.255 172.32.0.0
192.0.0.0 192.0.0.192 192.0.0.255 | 191.255.255.255 192.0.1.0
192.0.2.0 192.0.2.255 | 192.0.1.255 192.0.3.0
192.31.196.0 192.31.196.255 | 192.31.195.255 192.31.197.0
192.52.193.0 192.52.193.255 | 192.52.192.255 192.52.194.0
192.88.99.0 192.88.99.255 | 192.88.98.255 192.88.100.0
192.168.0.0 192.168.1.1 192.168.255.255 | 192.167.255.255 192.169.0.0
192.175.48.0 192.175.48.255 | 192.175.47.255 192.175.49.0
198.18.0.0 198.19.255.255 | 198.17.255.255 198.20.0.0
198.51.100.0 198.51.100.255 | 198.51.99.255 198.51.101.0
203.0.113.0 203.0.113.255 | 203.0.112.255 203.0.114.0
224.0.0.0 224.0.0.1 239.255.255.255 | 223.255.255.255
240.0.0.0 247.1.2.3 255.255.255.254 255.255.255.255 | 8.8.8.8
168.63.129.16 | 168.63.129.15 168.63.129.17
:: ::1 ::2 ::ffff | 2606:4700::1111
::127.0.0.1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:0:8.8.8.8 | ::ffff:8.8.8.8 ::ffff:93.184.215.14
64:ff9b:: 64:ff9b::8.8.8.8 64:ff9b::127.0.0.1 64:ff9b::ffff:ffff | 2a00:1450:4001::1
64:ff9b:1:: 64:ff9b:1::10.0.0.1 64:ff9b:1:ffff:ffff:ffff:ffff:ffff |
100:: 100::1 100:0:0:1::1 | 2400:cb00::1
1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 200:: 400:: 800:: 1000:: | 2000:: 2000::1
2001:: 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:0:ffff:ffff:ffff:ffff:ffff:ffff 2001:2:: 2001:10::1 2001:20:: 2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff | 2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff 2001:200:: 2001:4860:4860::8888
2001:db8:: 2001:db8::1 2001:db8:ffff:ffff:ffff:ffff:ffff:ffff | 2001:db7:ffff:ffff:ffff:ffff:ffff:ffff 2001:db9::
2002:: 2002:7f00:1:: 2002:a00:1::1 2002:a9fe:a9fe:: 2002:808:808::1 2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff | 2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff 2003::
2620:4f:8000:: 2620:4f:8000:ffff:ffff:ffff:ffff:ffff | 2620:4f:7fff:ffff:ffff:ffff:ffff:ffff 2620:4f:8001::
3fff:: 3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff | 3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff 3fff:1000:: 3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff
4000:: 5f00:: 5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff 8000::1 c000:: e000::1 f000::1 f800::1 fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff | 2607:f8b0::1
fc00:: fd00::1 fd00:ec2::254 fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff fe00::1 | 2a03:2880::1
fe80:: fe80::1 febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff | 2a02::1
fec0:: fec0::1 feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff | 2a01::1
ff00:: ff02::1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff | 2a04::1
2606:4700::5efe:10.0.0.1 2606:4700::200:5efe:8.8.8.8 2606:4700:1:2:0:5efe:a9fe:a9fe | 2606:4700::100:5efe:a00:1 2606:4700::5eff:a00:1
`

func TestSEC10_GuardTable(t *testing.T) {
	n := 0
	check := func(list string, want error) {
		for _, text := range strings.Fields(list) {
			a := netip.MustParseAddr(text)
			for _, g := range []*Guard{nil, NewGuard(GuardOptions{})} {
				if got := g.Check(netip.AddrPortFrom(a, 443)); got != want {
					t.Errorf("%s: got %v, want %v", text, got, want)
				}
			}
			// The same IPv4 address in its mapped form, whoever asks.
			if a.Is4() {
				n++
				mapped := netip.AddrFrom16(a.As16())
				if got := (*Guard)(nil).Check(netip.AddrPortFrom(mapped, 443)); got != want {
					t.Errorf("%s: got %v, want %v", mapped, got, want)
				}
			}
			n++
		}
	}
	for line := range strings.Lines(strings.TrimSpace(guardTable)) {
		refused, allowed, ok := strings.Cut(line, " |")
		if !ok {
			t.Fatalf("no bar in %q", line)
		}
		check(refused, ErrBlocked)
		check(allowed, nil)
	}
	if n < 120 {
		t.Errorf("only %d addresses", n)
	}
}

func TestGuardAllowList(t *testing.T) {
	prefix := netip.MustParsePrefix
	for _, tc := range []struct {
		name  string
		allow []netip.Prefix
		addr  string
		want  error
	}{
		{"loopback", []netip.Prefix{prefix("127.0.0.0/8")}, "127.0.0.1", nil},
		{"loopback, mapped address", []netip.Prefix{prefix("127.0.0.0/8")}, "::ffff:127.0.0.1", nil},
		{"loopback, mapped prefix", []netip.Prefix{prefix("::ffff:127.0.0.0/104")}, "127.0.0.1", nil},
		{"a prefix with bits beyond its length", []netip.Prefix{netip.PrefixFrom(netip.MustParseAddr("10.1.2.3"), 8)}, "10.9.9.9", nil},
		{"another prefix", []netip.Prefix{prefix("10.0.0.0/8")}, "192.168.0.1", ErrBlocked},
		{"public stays allowed", []netip.Prefix{prefix("10.0.0.0/8")}, "8.8.8.8", nil},
		{"an invalid prefix allows nothing", []netip.Prefix{{}}, "10.0.0.1", ErrBlocked},
		{"IPv6 loopback is not IPv4's", []netip.Prefix{prefix("127.0.0.0/8")}, "::1", ErrBlocked},
		{"unique local", []netip.Prefix{prefix("fd00::/8")}, "fd00::1", nil},
		{"SEC-04 AWS, in an allowed range", []netip.Prefix{prefix("169.254.0.0/16")}, "169.254.169.254", ErrBlocked},
		{"SEC-04 AWS, its neighbour", []netip.Prefix{prefix("169.254.0.0/16")}, "169.254.169.253", nil},
		{"SEC-04 AWS, by name", []netip.Prefix{prefix("169.254.169.254/32")}, "169.254.169.254", ErrBlocked},
		{"SEC-04 AWS, mapped", []netip.Prefix{prefix("::/0"), prefix("0.0.0.0/0")}, "::ffff:169.254.169.254", ErrBlocked},
		{"SEC-04 AWS over IPv6", []netip.Prefix{prefix("fd00::/8")}, "fd00:ec2::254", ErrBlocked},
		{"SEC-04 Azure", []netip.Prefix{prefix("168.63.129.0/24")}, "168.63.129.16", ErrBlocked},
		{"SEC-04 AWS behind NAT64", []netip.Prefix{prefix("64:ff9b::/96")}, "64:ff9b::169.254.169.254", ErrBlocked},
		{"another behind NAT64", []netip.Prefix{prefix("64:ff9b::/96")}, "64:ff9b::8.8.8.8", nil},
		{"SEC-04 AWS behind 6to4", []netip.Prefix{prefix("2002::/16")}, "2002:a9fe:a9fe::1", ErrBlocked},
		{"SEC-04 AWS behind Teredo", []netip.Prefix{prefix("2001::/32")}, "2001::5601:5601", ErrBlocked},
		{"SEC-04 Azure, IPv4-compatible", []netip.Prefix{prefix("::/0")}, "::168.63.129.16", ErrBlocked},
		{"SEC-04 AWS behind ISATAP", []netip.Prefix{prefix("fe80::/10")}, "fe80::5efe:169.254.169.254", ErrBlocked},
		{"SEC-03 zone, though allowed", []netip.Prefix{prefix("fe80::/10")}, "fe80::1%eth0", ErrBlocked},
		{"SEC-03 zone on a mapped address", nil, "::ffff:8.8.8.8%eth0", ErrBlocked},
		{"SEC-03 zone on a public address", nil, "2606:4700::1%1", ErrBlocked},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := NewGuard(GuardOptions{Allow: tc.allow}).Check(netip.AddrPortFrom(netip.MustParseAddr(tc.addr), 443)); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

func TestGuardKeepsItsOwnList(t *testing.T) {
	allow := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	g := NewGuard(GuardOptions{Allow: allow})
	allow[0] = netip.MustParsePrefix("192.168.0.0/16")
	if err := g.Check(netip.MustParseAddrPort("192.168.0.1:80")); err != ErrBlocked {
		t.Errorf("got %v", err)
	}
}

// The ports are those of https, and what the operator adds; in a network that
// is allowed every port is.
func TestSEC07_Ports(t *testing.T) {
	office := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("93.184.0.0/16")}
	for _, tc := range []struct {
		name string
		g    *Guard
		addr string
		want []uint16 // of those below
	}{
		{"none", nil, "8.8.8.8", []uint16{443, 8080, 8443}},
		{"https only", NewGuard(GuardOptions{}), "8.8.8.8", []uint16{443, 8080, 8443}},
		{"IPv6", NewGuard(GuardOptions{}), "2606:4700::1111", []uint16{443, 8080, 8443}},
		{"http", NewGuard(GuardOptions{AllowHTTP: true}), "8.8.8.8", []uint16{80, 443, 8080, 8443}},
		{"widened", NewGuard(GuardOptions{Ports: []uint16{9000}}), "8.8.8.8", []uint16{443, 8080, 8443, 9000}},
		{"not in an allowed network", NewGuard(GuardOptions{Allow: office}), "8.8.8.8", []uint16{443, 8080, 8443}},
		{"in an allowed network", NewGuard(GuardOptions{Allow: office}), "10.1.2.3", []uint16{22, 80, 443, 6379, 8080, 8443, 9000}},
		{"in an allowed public one", NewGuard(GuardOptions{Allow: office}), "93.184.215.14", []uint16{22, 80, 443, 6379, 8080, 8443, 9000}},
		{"private", NewGuard(GuardOptions{Ports: []uint16{9000}}), "10.1.2.3", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []uint16
			for _, port := range []uint16{0, 22, 80, 443, 6379, 8080, 8443, 9000} {
				if tc.g.Check(netip.AddrPortFrom(netip.MustParseAddr(tc.addr), port)) == nil {
					got = append(got, port)
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("ports (-want +got):\n%s", diff)
			}
		})
	}
}

// This process is never its own receiver, and this machine only where the
// operator allowed its network.
func TestSEC05_OwnAddresses(t *testing.T) {
	here := func() []netip.Addr {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("93.184.215.14"), netip.MustParseAddr("2606:4700::1")}
	}
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("::/127")}
	listening := func(s ...string) (list []netip.AddrPort) {
		for _, a := range s {
			list = append(list, netip.MustParseAddrPort(a))
		}
		return list
	}
	for _, tc := range []struct {
		name, to string
		o        GuardOptions
		want     error
	}{
		{"a public address of this machine", "93.184.215.14:443", GuardOptions{Local: here}, ErrBlocked},
		{"over IPv6", "[2606:4700::1]:443", GuardOptions{Local: here}, ErrBlocked},
		{"mapped", "[::ffff:93.184.215.14]:443", GuardOptions{Local: here}, ErrBlocked},
		{"its neighbour", "93.184.215.15:443", GuardOptions{Local: here}, nil},
		{"in an allowed network", "93.184.215.14:443", GuardOptions{Local: here, Allow: []netip.Prefix{netip.MustParsePrefix("93.184.215.14/32")}}, nil},
		{"nothing is known of this machine", "93.184.215.14:443", GuardOptions{}, nil},
		{"loopback, allowed", "127.0.0.1:9999", GuardOptions{Local: here, Allow: loopback}, nil},
		{"our own port on it", "127.0.0.1:8480", GuardOptions{Local: here, Allow: loopback, Listening: listening("127.0.0.1:8480")}, ErrBlocked},
		{"our own port on another address", "127.0.0.2:8480", GuardOptions{Local: here, Allow: loopback, Listening: listening("127.0.0.1:8480")}, nil},
		{"by the unspecified address", "0.0.0.0:8480", GuardOptions{Local: here, Allow: loopback, Listening: listening("127.0.0.1:8480")}, ErrBlocked},
		{"by the unspecified address of IPv6", "[::]:8480", GuardOptions{Local: here, Allow: loopback, Listening: listening("127.0.0.1:8480")}, ErrBlocked},
		{"mapped", "[::ffff:127.0.0.1]:8480", GuardOptions{Local: here, Allow: loopback, Listening: listening("127.0.0.1:8480")}, ErrBlocked},
		{"we listen everywhere", "127.0.0.2:8480", GuardOptions{Local: here, Allow: loopback, Listening: listening("[::]:8480")}, ErrBlocked},
		{"we listen everywhere, a public address", "93.184.215.14:8443", GuardOptions{Local: here, Allow: []netip.Prefix{netip.MustParsePrefix("93.0.0.0/8")}, Listening: listening("0.0.0.0:8443")}, ErrBlocked},
		{"we listen everywhere, another machine", "93.184.215.15:8443", GuardOptions{Local: here, Listening: listening("0.0.0.0:8443")}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := NewGuard(tc.o).Check(netip.MustParseAddrPort(tc.to)); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

// An address that the machine gets is known a minute later, and is not asked
// for at each dial.
func TestGuardAsksForLocalAddressesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, addrs := 0, []netip.Addr(nil)
		g := NewGuard(GuardOptions{Local: func() []netip.Addr { asked++; return addrs }})
		to := netip.MustParseAddrPort("93.184.215.14:443")
		check := func(want error, times int) {
			t.Helper()
			if got := g.Check(to); got != want || asked != times {
				t.Errorf("got %v after asking %d times, want %v and %d", got, asked, want, times)
			}
		}
		check(nil, 1)
		addrs = []netip.Addr{to.Addr()}
		check(nil, 1)
		time.Sleep(localFor - time.Nanosecond)
		check(nil, 1)
		time.Sleep(time.Nanosecond)
		check(ErrBlocked, 2)
	})
}

func TestLocalAddrs(t *testing.T) {
	if addrs := LocalAddrs(); !slices.Contains(addrs, netip.MustParseAddr("127.0.0.1")) {
		t.Errorf("the loopback address is not among %v", addrs)
	}
}

// A check that cannot be made is a refusal.
func TestSEC01_ControlFailsClosed(t *testing.T) {
	g := NewGuard(GuardOptions{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	for _, tc := range []struct {
		network, address string
		want             error
	}{
		{"tcp4", "127.0.0.1:80", nil},
		{"tcp4", "8.8.8.8:443", nil},
		{"tcp6", "[2606:4700::1111]:443", nil},
		{"tcp6", "[::1]:80", ErrBlocked},
		{"tcp4", "10.0.0.1:80", ErrBlocked},
		{"tcp4", "127.0.0.1:0", ErrBlocked},
		{"tcp4", "127.0.0.1", ErrBlocked},
		{"tcp4", "127.0.0.1:http", ErrBlocked},
		{"tcp4", "localhost:80", ErrBlocked},
		{"tcp6", "[fe80::1%lo]:80", ErrBlocked},
		{"tcp4", "", ErrBlocked},
		{"udp4", "127.0.0.1:80", ErrBlocked},
		{"unix", "/run/docker.sock", ErrBlocked},
		{"", "127.0.0.1:80", ErrBlocked},
	} {
		if got := g.Control(context.Background(), tc.network, tc.address, nil); got != tc.want {
			t.Errorf("%s %q: got %v, want %v", tc.network, tc.address, got, tc.want)
		}
	}
}

// The socket itself is guarded, whatever was asked before.
func TestSEC01_TheSocketIsGuarded(t *testing.T) {
	if c, err := guarded(nil)(t.Context(), "tcp", "127.0.0.1:1"); !errors.Is(err, ErrBlocked) {
		t.Errorf("got %v, %v", c, err)
	}
}

// naivelyAllowed is the guard once more, as arithmetic on the bits: slow,
// without netip's prefixes, and not by the same hand's tables.
func naivelyAllowed(b [16]byte) bool {
	v6 := func(i int) uint16 { return binary.BigEndian.Uint16(b[2*i:]) }
	mapped := true
	for i := range 5 {
		mapped = mapped && v6(i) == 0
	}
	if mapped && v6(5) == 0xffff {
		p, q, r, s := b[12], b[13], b[14], b[15]
		switch {
		case p == 0, p == 10, p == 127, p >= 224:
			return false
		case p == 100 && q >= 64 && q < 128, p == 169 && q == 254, p == 172 && q >= 16 && q < 32, p == 192 && q == 168:
			return false
		case p == 192 && q == 0 && (r == 0 || r == 2), p == 192 && q == 31 && r == 196, p == 192 && q == 52 && r == 193:
			return false
		case p == 192 && q == 88 && r == 99, p == 192 && q == 175 && r == 48:
			return false
		case p == 198 && (q == 18 || q == 19), p == 198 && q == 51 && r == 100, p == 203 && q == 0 && r == 113:
			return false
		case p == 168 && q == 63 && r == 129 && s == 16:
			return false
		}
		return true
	}
	switch {
	case v6(0) < 0x2000 || v6(0) > 0x3fff:
		return false
	case v6(0) == 0x2001 && v6(1) < 0x200, v6(0) == 0x2001 && v6(1) == 0xdb8, v6(0) == 0x2002:
		return false
	case v6(0) == 0x2620 && v6(1) == 0x4f && v6(2) == 0x8000, v6(0) == 0x3fff && v6(1) < 0x1000:
		return false
	case (v6(4) == 0 || v6(4) == 0x200) && v6(5) == 0x5efe:
		return false
	}
	return true
}

func FuzzGuard(f *testing.F) {
	for text := range strings.FieldsSeq(guardTable) {
		if a, err := netip.ParseAddr(text); err == nil {
			b := a.As16()
			f.Add(b[:], uint16(443), "")
		}
	}
	f.Add(make([]byte, 4), uint16(0), "eth0")
	f.Fuzz(func(t *testing.T, raw []byte, port uint16, zone string) {
		a, ok := netip.AddrFromSlice(raw)
		want := ok && (port == 443 || port == 8080 || port == 8443)
		if ok {
			if z := a.WithZone(zone); z.Zone() != "" {
				a, want = z, false
			}
			want = want && naivelyAllowed(a.As16())
		}
		if got := NewGuard(GuardOptions{}).Check(netip.AddrPortFrom(a, port)) == nil; got != want {
			t.Fatalf("%v port %d: allowed %v, want %v", a, port, got, want)
		}
		// An allow list adds nothing but what it names.
		allowed := NewGuard(GuardOptions{Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}).Check(netip.AddrPortFrom(a, port)) == nil
		if u := a.Unmap(); allowed != want && !(u.Is4() && u.As4()[0] == 10) {
			t.Fatalf("%v: allowed by a prefix that it is not in", a)
		}
	})
}
