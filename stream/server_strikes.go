package stream

import (
	"maps"
	"net/netip"
	"sync"
	"time"
)

// Limits of refused sign-ins (SEC-29).
const (
	maxStrikes   = 20 // of one address, in strikeWindow; then it is refused without a look
	strikeWindow = time.Minute
	maxStrikers  = 4096 // addresses that are remembered
)

// strikes counts what each address has done wrong within a minute. What it has
// no room for is not limited, and not logged either.
type strikes struct {
	mu    sync.Mutex
	of    map[string]*striker
	swept time.Time // when room was last made
}

type striker struct {
	since time.Time
	n     int
}

func newStrikes() *strikes { return &strikes{of: make(map[string]*striker)} }

// out reports whether the address has had its strikes.
func (s *strikes) out(address string) bool {
	address = network(address)
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.of[address]
	return k != nil && k.n >= maxStrikes && time.Since(k.since) < strikeWindow
}

// strike counts one. It reports whether it is the address's first in this
// minute, which is to be logged.
func (s *strikes) strike(address string) (first bool) {
	address = network(address)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if k := s.of[address]; k != nil && now.Sub(k.since) < strikeWindow {
		k.n++
		return false
	}
	if len(s.of) >= maxStrikers && now.Sub(s.swept) >= time.Second {
		s.swept = now
		maps.DeleteFunc(s.of, func(_ string, k *striker) bool { return now.Sub(k.since) >= strikeWindow })
	}
	if len(s.of) >= maxStrikers {
		return false
	}
	s.of[address] = &striker{since: now, n: 1}
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
