package stream

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestStrikes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStrikes()
		for i := range 30 {
			if first := s.strike("192.0.2.1"); first != (i == 0) {
				t.Errorf("strike %d: first %v", i, first)
			}
		}
		if !s.strike("192.0.2.2") {
			t.Error("another address is not told of")
		}
		time.Sleep(strikeWindow - time.Nanosecond)
		if s.strike("192.0.2.1") {
			t.Error("told of twice in a minute")
		}
		time.Sleep(time.Nanosecond)
		if !s.strike("192.0.2.1") {
			t.Error("not told of in the next minute")
		}
	})
}

func TestStrikesByNetwork(t *testing.T) {
	cases := []struct {
		a, b string
		same bool
	}{
		{"192.0.2.1", "192.0.2.2", false},
		{"192.0.2.1", "::ffff:192.0.2.1", true},
		{"2001:db8::1", "2001:db8::ffff:1", true},
		{"2001:db8::1", "2001:db8:0:1::1", false},
		{"fe80::1%eth0", "fe80::2%eth1", true},
		{"odd", "odd", true},
	}
	for _, c := range cases {
		if same := network(c.a) == network(c.b); same != c.same {
			t.Errorf("%s and %s: one network %v", c.a, c.b, same)
		}
	}
}

// Memory has a limit, whoever tries.
func TestStrikesForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStrikes()
		for i := range 2 * maxStrikers {
			if first := s.strike(fmt.Sprintf("10.0.%d.%d", i>>8, i&255)); first != (i < maxStrikers) {
				t.Fatalf("address %d: first %v", i, first)
			}
		}
		if len(s.of) != maxStrikers {
			t.Errorf("%d addresses are remembered", len(s.of))
		}
		time.Sleep(strikeWindow)
		if !s.strike("192.0.2.1") || len(s.of) != 1 {
			t.Errorf("after a minute %d are remembered", len(s.of))
		}
	})
}

func TestListenAddress(t *testing.T) {
	cases := []struct {
		addr  string
		host  string
		port  int
		local bool
		ok    bool
	}{
		{"127.0.0.1:4222", "127.0.0.1", 4222, true, true},
		{"localhost:0", "127.0.0.1", 0, true, true},
		{"[::1]:4222", "::1", 4222, true, true},
		{"127.8.8.8:1", "127.8.8.8", 1, true, true},
		{"0.0.0.0:4222", "0.0.0.0", 4222, false, true},
		{":4222", "0.0.0.0", 4222, false, true},
		{"[::]:4222", "::", 4222, false, true},
		{"192.0.2.1:4222", "192.0.2.1", 4222, false, true},
		{"nats.internal:4222", "", 0, false, false},
		{"127.0.0.1", "", 0, false, false},
		{"127.0.0.1:-1", "", 0, false, false},
		{"127.0.0.1:nats", "", 0, false, false},
	}
	for _, c := range cases {
		host, port, local, err := listenAddress(c.addr)
		if host != c.host || port != c.port || local != c.local || (err == nil) != c.ok {
			t.Errorf("%s: %q %d local %v, %v", c.addr, host, port, local, err)
		}
	}
}
