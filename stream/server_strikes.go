package stream

import (
	"maps"
	"net/netip"
	"sync"
	"time"
)

// Limits of what is logged of refused sign-ins.
const (
	strikeWindow = time.Minute
	maxStrikers  = 4096 // addresses that are remembered
)

// strikes knows which addresses have done something wrong within a minute. What
// it has no room for is not logged.
//
// Nobody is refused for it: a token is too long to be guessed, and others may come
// from the same address, which somebody with an old token must not lock out.
type strikes struct {
	mu    sync.Mutex
	of    map[string]time.Time // address → when that minute began
	swept time.Time            // when room was last made
}

func newStrikes() *strikes { return &strikes{of: make(map[string]time.Time)} }

// strike notes one. It reports whether it is the address's first in this
// minute, which is to be logged.
func (s *strikes) strike(address string) (first bool) {
	address = network(address)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if since, ok := s.of[address]; ok && now.Sub(since) < strikeWindow {
		return false
	}
	if len(s.of) >= maxStrikers && now.Sub(s.swept) >= time.Second {
		s.swept = now
		maps.DeleteFunc(s.of, func(_ string, since time.Time) bool { return now.Sub(since) >= strikeWindow })
	}
	if len(s.of) >= maxStrikers {
		return false
	}
	s.of[address] = now
	return true
}

// network is what one party can be expected to have of addresses: one of IPv4, a
// /64 of IPv6.
func network(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	if ip = ip.Unmap().WithZone(""); ip.Is4() {
		return ip.String()
	}
	p, err := ip.Prefix(64)
	if err != nil {
		return address
	}
	return p.String()
}
