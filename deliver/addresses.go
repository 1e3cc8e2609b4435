package deliver

import "net/netip"

// denied4 is the IPv4 space that is not the public internet: the IANA
// special-purpose registry, multicast, the reserved rest, and one address of
// a cloud that lies in public space (SEC-02). What is not listed is public.
var denied4 = prefixes(
	"0.0.0.0/8",        // this network
	"10.0.0.0/8",       // private
	"100.64.0.0/10",    // shared, carrier-grade NAT
	"127.0.0.0/8",      // loopback
	"169.254.0.0/16",   // link-local, metadata services
	"172.16.0.0/12",    // private
	"192.0.0.0/24",     // IETF protocol assignments
	"192.0.2.0/24",     // documentation 1
	"192.31.196.0/24",  // AS112
	"192.52.193.0/24",  // AMT
	"192.88.99.0/24",   // 6to4 relays, deprecated
	"192.168.0.0/16",   // private
	"192.175.48.0/24",  // AS112, direct delegation
	"198.18.0.0/15",    // benchmarking
	"198.51.100.0/24",  // documentation 2
	"203.0.113.0/24",   // documentation 3
	"224.0.0.0/4",      // multicast
	"240.0.0.0/4",      // reserved, and broadcast
	"168.63.129.16/32", // Azure's platform address
)

// public6 is the IPv6 space that is routed at all; the rest (loopback, ::/8
// with IPv4-compatible and NAT64 addresses, 100::/64, 5f00::/16, fc00::/7,
// fe80::/10, fec0::/10, ff00::/8) is refused by not being in it (SEC-03).
var public6 = netip.MustParsePrefix("2000::/3")

// denied6 is what is not public within public6.
var denied6 = prefixes(
	"2001::/23",         // IETF protocol assignments, Teredo among them
	"2001:db8::/32",     // documentation
	"2002::/16",         // 6to4: an IPv4 address in disguise
	"2620:4f:8000::/48", // AS112, direct delegation
	"3fff::/20",         // documentation
)

// never is refused whatever the operator allows: the addresses at which clouds
// hand out credentials to whoever asks from the inside (SEC-04).
var never = [...]netip.Addr{
	netip.MustParseAddr("169.254.169.254"),
	netip.MustParseAddr("fd00:ec2::254"),
	netip.MustParseAddr("168.63.129.16"),
}

func prefixes(s ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(s))
	for i := range s {
		out[i] = netip.MustParsePrefix(s[i])
	}
	return out
}

func within(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// public reports whether a, unmapped and without a zone, is an address of the
// public internet.
func public(a netip.Addr) bool {
	if a.Is4() {
		return !within(denied4, a)
	}
	return public6.Contains(a) && !within(denied6, a) && !isatap(a)
}

// isatap reports whether the interface identifier of a is that of an ISATAP
// address (RFC 5214, section 6.1), which embeds an IPv4 address in any prefix.
func isatap(a netip.Addr) bool {
	b := a.As16()
	return (b[8] == 0 || b[8] == 2) && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe
}

// embedded lists the IPv4 addresses that a router or host may take the IPv6
// address a to mean: the last four bytes (mapped, compatible, NAT64 with a /96,
// ISATAP), those after the prefix of 6to4, and the client's of Teredo, which
// are inverted. For a prefix that an operator allowed, it says more than is
// meant; it serves only to recognize [never].
func embedded(a netip.Addr) [3]netip.Addr {
	b := a.As16()
	last := [4]byte(b[12:])
	return [3]netip.Addr{
		netip.AddrFrom4(last),
		netip.AddrFrom4([4]byte(b[2:6])),
		netip.AddrFrom4([4]byte{^last[0], ^last[1], ^last[2], ^last[3]}),
	}
}
