package deliver

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ErrBlocked: the address is not one that deliveries may go to. Its text is
// the same for every address and range, so that an endpoint cannot be used to
// find out what lies behind us (SEC-09).
var ErrBlocked = errors.New("destination not allowed")

// ErrPort: the port of a URL is not one that deliveries may go to.
var ErrPort = errors.New("port not allowed")

// GuardOptions are what a [Guard] is made from. The zero value allows the
// usual ports of https on the public internet.
type GuardOptions struct {
	// Allow are networks beside the public internet, at any port: whoever names
	// one knows what is in it. An IPv4-mapped prefix means its IPv4 one; an
	// invalid prefix allows nothing.
	Allow     []netip.Prefix
	AllowHTTP bool     // also port 80
	Ports     []uint16 // beside 443, 8080 and 8443
	// NAT64 are the prefixes by which this network reaches IPv4 addresses from IPv6
	// ones (RFC 6052): of /32, /40, /48, /56, /64 or /96. An address in one of them is
	// as good as the IPv4 address in it. Others are ignored.
	NAT64 []netip.Prefix
	// Listening is where this process itself listens. It never calls itself, not
	// even in a network that is allowed. An unspecified address means all of this machine.
	Listening []netip.AddrPort
	// Local tells the addresses of this machine. They are refused unless they lie
	// in Allow, since what listens there often trusts whoever comes from the
	// same machine. It is asked once a minute at most; nil: none are known.
	Local func() []netip.Addr
}

// localFor is how long the answer of GuardOptions.Local holds.
const localFor = time.Minute

// Guard decides which addresses deliveries may go to: the public internet, and
// what the operator allows. It is asked after the name was resolved, for each
// address before it is dialed, so a name that changes its mind between the check
// and the dial gains nothing. A nil Guard is that of the zero GuardOptions.
// Guards are safe for concurrent use.
type Guard struct {
	now atomic.Pointer[rules]

	mu      sync.Mutex
	local   []netip.Addr
	localAt time.Time // when it was asked for
}

var usualPorts = []uint16{443, 8080, 8443}

// rules are what a guard goes by. They do not change; another set takes their
// place.
type rules struct {
	allow     []netip.Prefix
	ports     []uint16
	nat64     []netip.Prefix
	listening []netip.AddrPort
	askLocal  func() []netip.Addr
}

var usualRules = newRules(GuardOptions{})

// rules are those that hold now.
func (g *Guard) rules() *rules {
	if g == nil {
		return usualRules
	}
	return g.now.Load()
}

// NewGuard makes a guard.
func NewGuard(o GuardOptions) *Guard {
	g := new(Guard)
	g.Set(o)
	return g
}

// Set makes the guard go by other rules from now on. Connections that exist it cannot
// see: see [Sender.Renew].
func (g *Guard) Set(o GuardOptions) {
	g.now.Store(newRules(o))
	g.mu.Lock()
	defer g.mu.Unlock()
	g.localAt = time.Time{} // somebody else may know them
}

func newRules(o GuardOptions) *rules {
	r := &rules{allow: slices.Clone(o.Allow), ports: slices.Concat(usualPorts, o.Ports), listening: slices.Clone(o.Listening), askLocal: o.Local}
	if o.AllowHTTP {
		r.ports = append(r.ports, 80)
	}
	for _, p := range o.NAT64 {
		if CheckNAT64(p) == nil {
			r.nat64 = append(r.nat64, p.Masked())
		}
	}
	for i, p := range r.allow {
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		r.allow[i] = p.Masked()
	}
	return r
}

// LocalAddrs are the addresses of this machine's interfaces, for
// [GuardOptions]. When they cannot be told there are none.
func LocalAddrs() []netip.Addr {
	found, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var addrs []netip.Addr
	for _, f := range found {
		if p, err := netip.ParsePrefix(f.String()); err == nil {
			addrs = append(addrs, p.Addr().Unmap().WithZone(""))
		}
	}
	return addrs
}

// Check returns nil if deliveries may go to a, else [ErrBlocked]. Addresses
// with a zone are refused, and so are this process's own, those of this machine
// that are not in an allowed network, and ports that are not allowed. The
// metadata services of clouds are refused even when they lie in an allowed
// network.
func (g *Guard) Check(ap netip.AddrPort) error {
	a := ap.Addr()
	if !a.IsValid() || a.Zone() != "" || ap.Port() == 0 { // Unmap would drop the zone
		return ErrBlocked
	}
	r := g.rules()
	a = r.behind(a.Unmap())
	if slices.Contains(never[:], a) || g.isOwn(r, a, ap.Port()) {
		return ErrBlocked
	}
	if within(r.allow, a) {
		return checkEmbedded(a)
	}
	if !public(a) || g.isLocal(r, a) || !r.allowsPort(ap.Port()) {
		return ErrBlocked
	}
	return nil
}

// checkUnresolved is [Guard.Check] for a host that somebody else resolves: of a name
// it knows the port only, which may be any if there are allowed networks.
func (g *Guard) checkUnresolved(host string, port uint16) error {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		host = "127.0.0.1"
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return g.Check(netip.AddrPortFrom(a, port))
	}
	if r := g.rules(); r.allowsPort(port) || len(r.allow) > 0 {
		return nil
	}
	return ErrBlocked
}

// CheckNAT64 reports why p is no prefix of NAT64, or nil (RFC 6052, section 2.2).
func CheckNAT64(p netip.Prefix) error {
	switch {
	case !p.IsValid() || !p.Addr().Is6() || p.Addr().Is4In6():
	case p.Bits() == 32, p.Bits() == 40, p.Bits() == 48, p.Bits() == 56, p.Bits() == 64, p.Bits() == 96:
		return nil
	}
	return errors.New("want an IPv6 prefix of 32, 40, 48, 56, 64 or 96 bits, such as 64:ff9b::/96")
}

// behind is the IPv4 address that NAT64 makes of a, or a itself.
func (r *rules) behind(a netip.Addr) netip.Addr {
	for _, p := range r.nat64 {
		if !p.Contains(a) {
			continue
		}
		b, v4 := a.As16(), [4]byte{}
		for i := range v4 {
			at := p.Bits()/8 + i
			if p.Bits() < 96 && at >= 8 {
				at++ // the bits 64 to 71 are left out
			}
			v4[i] = b[at]
		}
		return netip.AddrFrom4(v4)
	}
	return a
}

// checkEmbedded refuses an address, in an allowed network, behind which there
// may be one of those that never are.
func checkEmbedded(a netip.Addr) error {
	if public(a) || !a.Is6() {
		return nil
	}
	for _, v4 := range embedded(a) {
		if slices.Contains(never[:], v4) {
			return ErrBlocked
		}
	}
	return nil
}

func (r *rules) allowsPort(port uint16) bool { return slices.Contains(r.ports, port) }

// isOwn reports whether this process listens there. A connection to the
// unspecified address goes to this machine.
func (g *Guard) isOwn(r *rules, a netip.Addr, port uint16) bool {
	for _, l := range r.listening {
		if l.Port() != port {
			continue
		}
		own := l.Addr().Unmap()
		if own == a || a.IsUnspecified() || own.IsUnspecified() && (a.IsLoopback() || g.isLocal(r, a)) {
			return true
		}
	}
	return false
}

func (g *Guard) isLocal(r *rules, a netip.Addr) bool {
	if g == nil || r.askLocal == nil {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.localAt.IsZero() || time.Since(g.localAt) >= localFor {
		g.local, g.localAt = r.askLocal(), time.Now()
	}
	return slices.Contains(g.local, a)
}

// Control is the ControlContext of a [net.Dialer]: it refuses an address that
// [Guard.Check] refuses, or cannot read.
func (g *Guard) Control(_ context.Context, network, address string, _ syscall.RawConn) error {
	if network != "tcp4" && network != "tcp6" {
		return ErrBlocked
	}
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return ErrBlocked
	}
	return g.Check(ap)
}
