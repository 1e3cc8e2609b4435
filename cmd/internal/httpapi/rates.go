package httpapi

import (
	"container/list"
	"math"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Rates bound how often somebody may ask (SEC-29). A rate of 0 bounds nothing.
type Rates struct {
	Token    float64 // requests a second with one token, twice that in a burst
	Appends  float64 // likewise of POST …/events, which are bounded by what is waiting
	Address  float64 // requests a second without a token from one address, twice that in a burst
	Failures int     // tokens that do not hold, from one address in a minute
}

// UsualRates are the rates of a daemon that says nothing else, for so many
// requests a second with one token; 0 is no bound for tokens.
func UsualRates(token int) Rates {
	return Rates{Token: float64(token), Appends: 20 * float64(token), Address: 10, Failures: 20}
}

// maxBuckets is how many tokens, and how many addresses, are kept in mind. Who
// was not seen for the longest time is forgotten first, and begins anew.
const maxBuckets = 100_000

// rates are the bounds in force of those who have no token, or none that holds; the
// others' can be changed, and are in [visitors].
type rates struct {
	addresses, refused *buckets[netip.Prefix]
	noted              *buckets[netip.Prefix] // entries of the audit about an address
	notes              *buckets[struct{}]     // and about all
}

func newRates(r Rates) rates {
	return rates{
		addresses: perSecond[netip.Prefix](r.Address),
		refused:   newBuckets[netip.Prefix](rate.Every(time.Minute/time.Duration(max(r.Failures, 1))), r.Failures),
		noted:     newBuckets[netip.Prefix](rate.Every(time.Minute), 1),
		notes:     newBuckets[struct{}](rate.Every(time.Minute/10), 10),
	}
}

// perSecond are buckets for n requests a second, and twice that in a burst.
func perSecond[K comparable](n float64) *buckets[K] {
	return newBuckets[K](rate.Limit(n), int(math.Ceil(2*n)))
}

// buckets are token buckets by key, at most maxBuckets of them. The nil value and
// those with a burst of 0 are never empty.
type buckets[K comparable] struct {
	limit rate.Limit
	burst int

	mu     sync.Mutex
	byKey  map[K]*list.Element
	recent list.List // of *bucket[K]; the one that was used last is in front
}

type bucket[K comparable] struct {
	key K
	rate.Limiter
}

func newBuckets[K comparable](limit rate.Limit, burst int) *buckets[K] {
	return &buckets[K]{limit: limit, burst: burst, byKey: map[K]*list.Element{}}
}

// take takes one from the bucket of the key, or says how long it is until there
// is one.
func (b *buckets[K]) take(key K, now time.Time) (wait time.Duration, ok bool) {
	if b == nil || b.burst == 0 {
		return 0, true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.of(key)
	if l.AllowN(now, 1) {
		return 0, true
	}
	return b.until(l, now), false
}

// empty says how long it is until there is one in the bucket of the key, and takes
// none.
func (b *buckets[K]) empty(key K, now time.Time) (wait time.Duration, empty bool) {
	if b == nil || b.burst == 0 {
		return 0, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	e, ok := b.byKey[key]
	if !ok {
		return 0, false
	}
	l := e.Value.(*bucket[K])
	if l.TokensAt(now) >= 1 {
		return 0, false
	}
	return b.until(l, now), true
}

func (b *buckets[K]) until(l *bucket[K], now time.Time) time.Duration {
	return time.Duration((1 - l.TokensAt(now)) / float64(b.limit) * float64(time.Second))
}

// of is the bucket of the key, full if there was none.
func (b *buckets[K]) of(key K) *bucket[K] {
	if e, ok := b.byKey[key]; ok {
		b.recent.MoveToFront(e)
		return e.Value.(*bucket[K])
	}
	if len(b.byKey) >= maxBuckets {
		oldest := b.recent.Back()
		delete(b.byKey, b.recent.Remove(oldest).(*bucket[K]).key)
	}
	l := &bucket[K]{key: key, Limiter: *rate.NewLimiter(b.limit, b.burst)}
	b.byKey[key] = b.recent.PushFront(l)
	return l
}

// seconds is a wait in whole seconds, at least one, as Retry-After has it.
func seconds(wait time.Duration) int {
	return max(int(math.Ceil(wait.Seconds())), 1)
}
