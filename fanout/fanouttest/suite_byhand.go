package fanouttest

import (
	"slices"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/stream"
)

var byHandTests = map[string]func(*suite){
	"ByHand/cancelled": func(s *suite) {
		ep, other := s.endpoint("*"), s.endpoint("*")
		ts := s.fresh(ep, "a", "b", "c")
		s.book(attempted(ts[1], failure, time.Minute))
		for _, t := range ts[:2] { // a fresh one, and one that waits for its second attempt
			s.must(s.CancelDelivery(s.ctx, "acme", t.Key))
		}
		for i, want := range []string{"cancelled 0 manual", "cancelled 1 manual", "pending 0"} {
			if got := s.state(ts[i].Key); got != want {
				s.Errorf("delivery %d is %s, want %s", i, got, want)
			}
		}
		if n, m := len(s.pending(ep.Row)), len(s.pending(other.Row)); n != 1 || m != 3 {
			s.Errorf("%d and %d are pending, want 1 and the other endpoint's 3", n, m)
		}
		s.restart()
		if n := len(s.pending(ep.Row)); n != 1 {
			s.Errorf("%d are pending after a restart, want 1", n)
		}
		if r := s.check("acme"); r.Cancelled != 2 || r.Pending != 4 {
			s.Errorf("the check finds %+v", r)
		}
	},

	"ByHand/only what is pending can be cancelled": func(s *suite) {
		s.addOrg("globex")
		ep := s.endpoint("*")
		ts := s.fresh(ep, "a", "b", "c", "d")
		s.book(attempted(ts[0], success, 0), died(ts[1]))
		s.must(s.CancelDelivery(s.ctx, "acme", ts[2].Key))
		for i, want := range []string{"delivered 1", "dead 1 exhausted", "cancelled 0 manual"} {
			if err := s.CancelDelivery(s.ctx, "acme", ts[i].Key); err == nil {
				s.Errorf("delivery %d was cancelled", i)
			}
			if got := s.state(ts[i].Key); got != want {
				s.Errorf("delivery %d is %s, want %s", i, got, want)
			}
		}
		if s.CancelDelivery(s.ctx, "acme", deliver.Key{Event: 999, Endpoint: ep.Row}) == nil {
			s.Error("a delivery that does not exist was cancelled")
		}
		if s.CancelDelivery(s.ctx, "globex", ts[3].Key) == nil {
			s.Error("another organization cancelled a delivery")
		}
	},

	// A request that was under way when its delivery was cancelled: the attempt is
	// kept, and the delivery stays cancelled, whatever came of it.
	"ByHand/an outcome after it was cancelled": func(s *suite) {
		ep := s.endpoint("*")
		ts := s.fresh(ep, "a", "b", "c")
		for _, t := range ts {
			s.must(s.CancelDelivery(s.ctx, "acme", t.Key))
		}
		s.book(attempted(ts[0], success, 0), attempted(ts[1], failure, time.Minute), died(ts[2]))
		for i, t := range ts {
			if got := s.state(t.Key); got != "cancelled 1 manual" {
				s.Errorf("delivery %d is %s", i, got)
			}
		}
		if ts := s.pending(); len(ts) != 0 {
			s.Errorf("pending: %+v", ts)
		}
	},

	"ByHand/cancelled, and retried": func(s *suite) {
		ep := s.endpoint("*")
		ts := s.fresh(ep, "a", "b")
		s.book(attempted(ts[0], failure, time.Minute))
		for i, t := range ts {
			s.must(s.CancelDelivery(s.ctx, "acme", t.Key))
			again, err := s.RetryDelivery(s.ctx, "acme", t.Key)
			s.must(err)
			want := deliver.Ticket{Key: t.Key, Due: again.Due, Attempts: 1 - i, Trigger: deliver.Manual}
			s.equal("ticket", want, again)
			s.book(attempted(again, success, 0))
		}
		for i, want := range []string{"delivered 2", "delivered 1"} {
			if got := s.state(ts[i].Key); got != want {
				s.Errorf("delivery %d is %s, want %s", i, got, want)
			}
		}
	},

	"ByHand/an event is replayed": func(s *suite) {
		a, b, c, gone := s.endpoint("*"), s.endpoint("*"), s.endpoint("*"), s.endpoint("*")
		t := s.fresh(a, "a one")[0]
		others := s.pending(b.Row, c.Row)
		s.book(attempted(t, success, 0), died(others[0]))
		s.must(s.RemoveEndpoint(s.ctx, "acme", gone.ID))
		id := stream.KeyID("acme", "one")
		keys, err := s.ReplayEvent(s.ctx, "acme", id, "")
		s.must(err)
		s.equal("replayed", []deliver.Key{t.Key, others[0].Key, others[1].Key}, keys)
		s.equal("fresh", others[1:], s.pending(c.Row)) // it is due anyway
		for i, want := range []deliver.Ticket{
			{Key: t.Key, Attempts: 1, Trigger: deliver.Replay},
			{Key: others[0].Key, Attempts: 1, Trigger: deliver.Replay},
		} {
			ts := s.pending(want.Endpoint)
			if len(ts) != 1 || ts[0].Due == 0 {
				s.Fatalf("pending: %+v", ts)
			}
			want.Due = ts[0].Due
			s.equal("ticket", want, ts[0])
			s.book(attempted(ts[0], success, 0))
			if got := s.state(want.Key); got != "delivered 2" {
				s.Errorf("delivery %d is %s", i, got)
			}
		}
	},

	"ByHand/an event is replayed to one endpoint": func(s *suite) {
		s.addOrg("globex")
		a, b := s.endpoint("a"), s.endpoint("*")
		never := s.endpoint("other")
		ts := s.fresh(a, "a one")
		s.book(attempted(ts[0], success, 0), attempted(s.pending(b.Row)[0], success, 0))
		id := stream.KeyID("acme", "one")
		keys, err := s.ReplayEvent(s.ctx, "acme", id, b.ID)
		s.must(err)
		if len(keys) != 1 || keys[0].Endpoint != b.Row || len(s.pending()) != 1 {
			s.Errorf("replayed %v, pending %+v", keys, s.pending())
		}
		s.must(s.RemoveEndpoint(s.ctx, "acme", a.ID))
		for name, why := range map[string]error{
			"an endpoint that never had it": second(s.ReplayEvent(s.ctx, "acme", id, never.ID)),
			"one that was removed":          second(s.ReplayEvent(s.ctx, "acme", id, a.ID)),
			"an event that is not there":    second(s.ReplayEvent(s.ctx, "acme", stream.KeyID("acme", "two"), "")),
			"another organization's":        second(s.ReplayEvent(s.ctx, "globex", id, "")),
		} {
			if why == nil {
				s.Errorf("%s: it was replayed", name)
			}
		}
		if ts := s.pending(); len(ts) != 1 || !slices.Contains(keys, ts[0].Key) {
			s.Errorf("pending: %+v", ts)
		}
	},
}

func second[T any](_ T, err error) error { return err }
