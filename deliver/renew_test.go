package deliver_test

import (
	"net/netip"
	"testing"
	"testing/synctest"

	"github.com/grapnel-hooks/grapnel/deliver"
)

// SEC-10: no request uses a connection that was made under other rules, neither by
// HTTP/2 nor one that proves who sends; and what is allowed again is dialed anew.
func TestSEC10_RulesHoldForConnectionsThatExist(t *testing.T) {
	for _, name := range []string{"", "tenant"} {
		synctest.Test(t, func(t *testing.T) {
			r := secure(t, nil)
			o := r.options()
			o.Guard = deliver.NewGuard(deliver.GuardOptions{})
			s := newSender(t, o)
			to := target(t, "https://receiver.example/")
			if name != "" {
				to = targetOf(t, "https://receiver.example/", deliver.Credentials{TLS: r.client(name)})
			}
			if o := send(t, s, to, 1); o.Class != deliver.OK {
				t.Fatalf("at first: %+v", o)
			}
			if o := send(t, s, to, 2); !o.Timings.Reused {
				t.Fatalf("no connection is kept: %+v", o)
			}
			o.Guard.Set(deliver.GuardOptions{Listening: []netip.AddrPort{netip.MustParseAddrPort("93.184.215.14:443")}})
			s.Renew(false)
			if o := send(t, s, to, 3); o.Class != deliver.BlockedAddress {
				t.Errorf("on the connection that was there: %+v", o)
			}
			o.Guard.Set(deliver.GuardOptions{})
			s.Renew(false)
			if o := send(t, s, to, 4); o.Class != deliver.OK || o.Timings.Reused {
				t.Errorf("allowed again: %+v", o)
			}
		})
	}
}
