package deliver

import (
	"net/netip"
	"testing"
)

// The examples of RFC 6052, section 2.4: 192.0.2.33 by each length of prefix; here
// with a public address.
func TestSEC04_NAT64(t *testing.T) {
	for _, tc := range []struct {
		prefix, public, private, metadata string
	}{
		{"2600:db8::/32", "2600:db8:5db8:d70e::", "2600:db8:0a00:1::", "2600:db8:a9fe:a9fe::"},
		{"2600:db8:100::/40", "2600:db8:15d:b8d7:e::", "2600:db8:10a::1:0:0", "2600:db8:1a9:fea9:fe::"},
		{"2600:db8:122::/48", "2600:db8:122:5db8:d7:e00::", "2600:db8:122:a00:0:100::", "2600:db8:122:a9fe:a9:fe00::"},
		{"2600:db8:122:300::/56", "2600:db8:122:35d:b8:d70e::", "2600:db8:122:30a:0:1::", "2600:db8:122:3a9:fe:a9fe::"},
		{"2600:db8:122:344::/64", "2600:db8:122:344:5d:b8d7:e00:0", "2600:db8:122:344:a:0:100:0", "2600:db8:122:344:a9:fea9:fe00:0"},
		{"64:ff9b::/96", "64:ff9b::93.184.215.14", "64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254"},
	} {
		p := netip.MustParsePrefix(tc.prefix)
		check := func(o GuardOptions, address string) bool {
			o.NAT64 = []netip.Prefix{p}
			return NewGuard(o).Check(netip.AddrPortFrom(netip.MustParseAddr(address), 443)) == nil
		}
		allowed := GuardOptions{Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"), p}}
		switch {
		case !check(GuardOptions{}, tc.public):
			t.Errorf("%s: the public %s is refused", tc.prefix, tc.public)
		case check(GuardOptions{}, tc.private):
			t.Errorf("%s: the private %s is allowed", tc.prefix, tc.private)
		case !check(allowed, tc.private):
			t.Errorf("%s: %s is refused, though its network is allowed", tc.prefix, tc.private)
		case check(allowed, tc.metadata):
			t.Errorf("%s: the metadata service at %s is allowed", tc.prefix, tc.metadata)
		}
	}
	g := NewGuard(GuardOptions{NAT64: []netip.Prefix{netip.MustParsePrefix("64:ff9b::/95"), netip.MustParsePrefix("10.0.0.0/32"), {}}})
	if len(g.rules().nat64) != 0 {
		t.Errorf("what is no prefix of NAT64 is used: %v", g.rules().nat64)
	}
	own := NewGuard(GuardOptions{NAT64: []netip.Prefix{netip.MustParsePrefix("64:ff9b::/96")}, Listening: []netip.AddrPort{netip.MustParseAddrPort("93.184.215.14:443")}})
	if own.Check(netip.MustParseAddrPort("[64:ff9b::93.184.215.14]:443")) == nil {
		t.Error("SEC-05: the way back to ourselves by NAT64 is allowed")
	}
}
