package httpapi

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// maxForwarded is how many entries of X-Forwarded-For are looked at.
const maxForwarded = 32

// clientAddress is who asks: the peer, or, when that is a trusted proxy, the
// right-most address of X-Forwarded-For that is none. Each proxy appends the
// address that it saw; what stands left of the first one that is not trusted is
// only what that one says.
func clientAddress(peer string, forwarded []string, trusted []netip.Prefix) netip.Addr {
	client := parseAddress(peer)
	hops := strings.Split(strings.Join(forwarded, ","), ",")
	for _, hop := range slices.Backward(hops[max(0, len(hops)-maxForwarded):]) {
		if !within(client, trusted) {
			return client
		}
		next := parseAddress(strings.TrimSpace(hop))
		if !next.IsValid() {
			return client
		}
		client = next
	}
	return client
}

// parseAddress reads an address, with or without a port; the zero Addr if it is none.
func parseAddress(s string) netip.Addr {
	a, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil {
		withPort, err := netip.ParseAddrPort(s)
		if err != nil {
			return netip.Addr{}
		}
		a = withPort.Addr()
	}
	return a.Unmap().WithZone("")
}

func within(a netip.Addr, networks []netip.Prefix) bool {
	return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(a) })
}

// neighbourhood is what is bounded in place of an address: of IPv6, where one
// host has a network of its own, its /64.
func neighbourhood(a netip.Addr) netip.Prefix {
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // the zero Prefix for the zero Addr
	return p
}

type addressKey struct{}

// withAddress is the request with its client's address in the context.
func (a *api) withAddress(r *http.Request) *http.Request {
	if a.socket {
		return r
	}
	client := clientAddress(r.RemoteAddr, r.Header.Values("X-Forwarded-For"), a.visitors.Load().proxies)
	return r.WithContext(context.WithValue(r.Context(), addressKey{}, client))
}

// addressOf is the client's address of the request of that context; the zero Addr
// at the socket.
func addressOf(ctx context.Context) netip.Addr {
	a, _ := ctx.Value(addressKey{}).(netip.Addr)
	return a
}

// textOf is the address as logs and the audit have it.
func textOf(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
