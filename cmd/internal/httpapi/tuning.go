package httpapi

import (
	"net/netip"
	"sync"
)

// Tuning changes bounds of handlers that were made with it in their [Options],
// while they serve.
type Tuning struct {
	mu       sync.Mutex
	handlers []*api
}

// Set makes these the rates of tokens and the trusted proxies from now on. Who has
// used up a rate that changes begins anew; what is held against an address stays.
func (t *Tuning) Set(r Rates, proxies []netip.Prefix) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, a := range t.handlers {
		now := a.visitors.Load()
		next := &visitors{rates: r, proxies: proxies, tokens: now.tokens, appends: now.appends}
		if r.Token != now.rates.Token || r.Appends != now.rates.Appends {
			next = newVisitors(r, proxies)
		}
		a.visitors.Store(next)
	}
}

func (t *Tuning) add(a *api) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.handlers = append(t.handlers, a)
}

// visitors is what holds for those who come over the network, and can be changed.
// It does not change itself.
type visitors struct {
	rates           Rates
	tokens, appends *buckets[string] // by the token's id
	proxies         []netip.Prefix   // whose X-Forwarded-For is believed
}

func newVisitors(r Rates, proxies []netip.Prefix) *visitors {
	return &visitors{rates: r, tokens: perSecond[string](r.Token), appends: perSecond[string](r.Appends), proxies: proxies}
}
