package httpapi

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/time/rate"
)

func TestClientAddress(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, c := range []struct {
		name, peer string
		forwarded  []string
		want       string
	}{
		{"no proxy", "203.0.113.1:80", nil, "203.0.113.1"},
		{"somebody's own header", "203.0.113.1:80", []string{"198.51.100.1"}, "203.0.113.1"},
		{"a proxy without the header", "10.0.0.1:80", nil, "10.0.0.1"},
		{"a proxy", "10.0.0.1:80", []string{"198.51.100.1"}, "198.51.100.1"},
		{"a client's lie in front", "10.0.0.1:80", []string{"1.1.1.1, 198.51.100.1"}, "198.51.100.1"},
		{"two proxies", "10.0.0.1:80", []string{"1.1.1.1, 198.51.100.1, 10.0.0.2"}, "198.51.100.1"},
		{"in two lines", "10.0.0.1:80", []string{"198.51.100.1", "10.0.0.2"}, "198.51.100.1"},
		{"with ports", "[fd00::1]:80", []string{"198.51.100.1:4711"}, "198.51.100.1"},
		{"IPv6 with a port", "10.0.0.1:80", []string{"[2001:db8::1]:4711"}, "2001:db8::1"},
		{"IPv6 in brackets", "10.0.0.1:80", []string{"[2001:db8::1]"}, "2001:db8::1"},
		{"mapped", "[::ffff:10.0.0.1]:80", []string{"::ffff:198.51.100.1"}, "198.51.100.1"},
		{"with a zone", "[fe80::1%eth0]:80", nil, "fe80::1"},
		{"nonsense right of an address", "10.0.0.1:80", []string{"198.51.100.1, unknown"}, "10.0.0.1"},
		{"only proxies", "10.0.0.1:80", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"a long list", "10.0.0.1:80", []string{strings.Repeat("10.0.0.9,", 5000) + "10.0.0.2"}, "10.0.0.9"},
	} {
		if got := clientAddress(c.peer, c.forwarded, trusted); got != netip.MustParseAddr(c.want) {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// Whatever is in the header, the address is the peer's or one of the header's,
// and the peer's when that is no proxy.
func FuzzClientAddress(f *testing.F) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	f.Add("198.51.100.1, 10.0.0.2", "10.1.1.1:80")
	f.Add("[::1]:80,,%,", "[::ffff:10.0.0.1]:1")
	f.Fuzz(func(t *testing.T, header, peer string) {
		got, from := clientAddress(peer, []string{header}, trusted), parseAddress(peer)
		if !within(from, trusted) && got != from {
			t.Errorf("%s asked, and it is said to be %s", from, got)
		}
		if got != from {
			named := false
			for hop := range strings.SplitSeq(header, ",") {
				named = named || parseAddress(strings.TrimSpace(hop)) == got
			}
			if !named {
				t.Errorf("%s is neither the peer nor named", got)
			}
		}
		if n := neighbourhood(got); got.IsValid() && !n.Contains(got) {
			t.Errorf("%s is not in %s", got, n)
		}
	})
}

// The number of buckets has a bound; who was not seen for the longest time is forgotten.
func TestBucketsAreBounded(t *testing.T) {
	b := newBuckets[int](rate.Every(time.Hour), 1)
	now := time.Now()
	for i := range maxBuckets {
		b.take(i, now)
	}
	b.take(0, now) // refused, and seen again
	b.take(-1, now)
	if len(b.byKey) != maxBuckets || b.recent.Len() != maxBuckets {
		t.Errorf("%d and %d buckets, want %d", len(b.byKey), b.recent.Len(), maxBuckets)
	}
	if _, ok := b.take(0, now); ok {
		t.Error("somebody who was just seen is forgotten")
	}
	if _, ok := b.take(1, now); !ok {
		t.Error("the one who was not seen for the longest time is remembered")
	}
}
