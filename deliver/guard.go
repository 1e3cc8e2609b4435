package deliver

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
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
	allow     []netip.Prefix
	ports     []uint16
	listening []netip.AddrPort
	askLocal  func() []netip.Addr

	mu      sync.Mutex
	local   []netip.Addr
	localAt time.Time // when it was asked for
}

var usualPorts = []uint16{443, 8080, 8443}

// NewGuard makes a guard.
func NewGuard(o GuardOptions) *Guard {
	g := &Guard{allow: slices.Clone(o.Allow), ports: slices.Concat(usualPorts, o.Ports), listening: slices.Clone(o.Listening), askLocal: o.Local}
	if o.AllowHTTP {
		g.ports = append(g.ports, 80)
	}
	for i, p := range g.allow {
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		g.allow[i] = p.Masked()
	}
	return g
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
	a = a.Unmap()
	if slices.Contains(never[:], a) || g.isOwn(a, ap.Port()) {
		return ErrBlocked
	}
	if g != nil && within(g.allow, a) {
		return checkEmbedded(a)
	}
	if !public(a) || g.isLocal(a) || !g.allowsPort(ap.Port()) {
		return ErrBlocked
	}
	return nil
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

func (g *Guard) allowsPort(port uint16) bool {
	if g == nil {
		return slices.Contains(usualPorts, port)
	}
	return slices.Contains(g.ports, port)
}

// isOwn reports whether this process listens there. A connection to the
// unspecified address goes to this machine.
func (g *Guard) isOwn(a netip.Addr, port uint16) bool {
	if g == nil {
		return false
	}
	for _, l := range g.listening {
		if l.Port() != port {
			continue
		}
		own := l.Addr().Unmap()
		if own == a || a.IsUnspecified() || own.IsUnspecified() && (a.IsLoopback() || g.isLocal(a)) {
			return true
		}
	}
	return false
}

func (g *Guard) isLocal(a netip.Addr) bool {
	if g == nil || g.askLocal == nil {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.localAt.IsZero() || time.Since(g.localAt) >= localFor {
		g.local, g.localAt = g.askLocal(), time.Now()
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
