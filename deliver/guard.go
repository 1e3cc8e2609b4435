package deliver

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"syscall"
)

// ErrBlocked: the address is not one that deliveries may go to. Its text is
// the same for every address and range, so that an endpoint cannot be used to
// find out what lies behind us (SEC-09).
var ErrBlocked = errors.New("destination not allowed")

// Guard decides which addresses deliveries may go to: the public internet, and
// what the operator allows. It is asked after the name was resolved, for each
// address before it is dialed, so a name that changes its mind between the check
// and the dial gains nothing. A nil Guard allows the public internet. Guards do
// not change and are safe for concurrent use.
type Guard struct {
	allow []netip.Prefix
}

// NewGuard makes a guard that allows the given prefixes beside the public
// internet. An IPv4-mapped prefix means its IPv4 one; an invalid prefix
// allows nothing.
func NewGuard(allow []netip.Prefix) *Guard {
	g := &Guard{allow: slices.Clone(allow)}
	for i, p := range g.allow {
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		g.allow[i] = p.Masked()
	}
	return g
}

// Check returns nil if deliveries may go to a, else [ErrBlocked]. Addresses
// with a zone are refused, and so is port 0; any other port is as good as its
// address. The metadata services of clouds are refused even when they lie in
// an allowed prefix.
func (g *Guard) Check(ap netip.AddrPort) error {
	a := ap.Addr()
	if !a.IsValid() || a.Zone() != "" || ap.Port() == 0 { // Unmap would drop the zone
		return ErrBlocked
	}
	a = a.Unmap()
	if slices.Contains(never[:], a) {
		return ErrBlocked
	}
	if public(a) {
		return nil
	}
	if g == nil || !within(g.allow, a) {
		return ErrBlocked
	}
	if a.Is6() {
		for _, v4 := range embedded(a) {
			if slices.Contains(never[:], v4) {
				return ErrBlocked
			}
		}
	}
	return nil
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
