package fanouttest

import (
	"slices"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
)

var adminTests = map[string]func(*suite){
	"Endpoint/gets events after it was added": func(s *suite) {
		early := s.endpoint("*")
		s.append("a")
		s.walk()
		late := s.endpoint("*")
		s.append("b")
		if w := s.walk(); !slices.Equal(w[0].Endpoints, []int64{early.Row, late.Row}) {
			s.Errorf("event after: %+v", w)
		}
		if n := len(s.pending(late.Row)); n != 1 {
			s.Errorf("%d deliveries for the later one, want 1", n)
		}
	},

	"Endpoint/disabled and enabled": func(s *suite) {
		ep := s.endpoint("*")
		s.append("a")
		s.walk()
		now, err := s.DisableEndpoint(s.ctx, "acme", ep.ID, "manual")
		s.must(err)
		if now.DisabledReason != "manual" || now.Enabled() {
			s.Errorf("disabled: %+v", now)
		}
		s.append("b")
		s.walk()
		if n := len(s.pending(ep.Row)); n != 1 {
			s.Errorf("%d deliveries while disabled, want the one from before", n)
		}
		now, err = s.EnableEndpoint(s.ctx, "acme", ep.ID)
		s.must(err)
		if !now.Enabled() {
			s.Errorf("enabled: %+v", now)
		}
		s.append("c")
		s.walk()
		if n := len(s.pending(ep.Row)); n != 2 {
			s.Errorf("%d deliveries, want those from before and after", n)
		}
		if r := s.check("acme"); r.Unmatched != 1 {
			s.Errorf("the check finds %d events that nobody was subscribed to, want 1", r.Unmatched)
		}
	},

	"Endpoint/disabled before the stream was ever read": func(s *suite) {
		ep, other := s.endpoint("*"), s.endpoint("*")
		_, err := s.DisableEndpoint(s.ctx, "acme", ep.ID, "manual")
		s.must(err)
		s.append("a")
		if w := s.walk(); !slices.Equal(w[0].Endpoints, []int64{other.Row}) {
			s.Errorf("written %+v", w)
		}
	},

	"Endpoint/disabled twice, enabled twice": func(s *suite) {
		ep := s.endpoint("*")
		for range 2 {
			_, err := s.DisableEndpoint(s.ctx, "acme", ep.ID, "manual")
			s.must(err)
		}
		for range 2 {
			_, err := s.EnableEndpoint(s.ctx, "acme", ep.ID)
			s.must(err)
		}
		s.append("a")
		if w := s.walk(); len(w) != 1 || !slices.Equal(w[0].Endpoints, []int64{ep.Row}) {
			s.Errorf("written %+v", w)
		}
	},

	"Endpoint/removed": func(s *suite) {
		ep, other := s.endpoint("*"), s.endpoint("*")
		ts := s.fresh(ep, "a", "b", "c", "d")
		s.book(attempted(ts[0], success, 0), attempted(ts[1], failure, time.Minute), died(ts[2]))
		s.must(s.RemoveEndpoint(s.ctx, "acme", ep.ID))
		for i, want := range []string{"delivered 1", "cancelled 1 endpoint_deleted", "dead 1 exhausted", "cancelled 0 endpoint_deleted"} {
			if got := s.state(ts[i].Key); got != want {
				s.Errorf("delivery %d is %s, want %s", i, got, want)
			}
		}
		if n := len(s.pending()); n != 4 {
			s.Errorf("%d pending, want the other endpoint's 4", n)
		}
		s.append("e")
		if w := s.walk(); !slices.Equal(w[0].Endpoints, []int64{other.Row}) {
			s.Errorf("written %+v", w)
		}
		for _, k := range []deliver.Key{ts[0].Key, ts[1].Key} {
			if _, err := s.RetryDelivery(s.ctx, "acme", k); err == nil {
				s.Errorf("a delivery of a removed endpoint was retried")
			}
		}
	},

	"Audit/everything that happened": func(s *suite) {
		a := s.endpoint("*")
		ts := s.fresh(a, "a", "b one", "!", "c", "b one", "d")
		b := s.endpoint("d")
		s.append("d", "e")
		s.walk()
		s.book(attempted(ts[0], success, 0), attempted(ts[1], failure, time.Minute), died(ts[2]))
		s.must(s.RemoveEndpoint(s.ctx, "acme", b.ID))
		r := s.check("acme")
		r.Position.Org = ""
		want := fanout.Report{
			Org: "acme", Position: r.Position, Compared: true,
			Messages: 8, Duplicates: 1,
			Events: 6, Rejected: 1, Delivered: 1, Pending: 4, Dead: 1, Cancelled: 1, Attempts: 3,
		}
		s.equal("report", want, r)
		s.restart()
		r = s.check("acme")
		r.Position.Org = ""
		s.equal("report, opened again", want, r, samePosition)
	},

	"Audit/attempts and payloads": func(s *suite) {
		ep := s.endpoint("*")
		t := s.fresh(ep, "a", "b")[0]
		s.book(attempted(t, failure, time.Minute))
		t.Attempts, t.Spent, t.Trigger = 1, 1, deliver.Retry
		s.book(attempted(t, deliver.Outcome{Class: deliver.Timeout, Error: "no answer within 10s"}, time.Hour))
		s.must(s.Audit(s.ctx, "acme", func(a fanout.Audited) error {
			var events []fanout.BookedEvent
			for p, err := range a.Pieces(s.ctx) {
				if err != nil {
					return err
				}
				for _, e := range p.Events {
					e.Deliveries = slices.Clone(e.Deliveries)
					for i := range e.Deliveries {
						e.Deliveries[i].Attempts = slices.Clone(e.Deliveries[i].Attempts)
					}
					events = append(events, e)
				}
			}
			if len(events) != 2 {
				s.Fatalf("%d events, want 2", len(events))
			}
			s.equal("event", fanout.BookedEvent{
				Event: t.Event, Org: "acme", ID: events[0].ID, Incarnation: 1, Seq: 1, Kept: true,
				Deliveries: []fanout.BookedDelivery{{
					Endpoint: ep.Row, Org: "acme", State: deliver.Pending, Due: ms(time.Hour), Trigger: deliver.Retry, Made: 2,
					Attempts: []fanout.BookedAttempt{{Number: 1, Class: deliver.HTTP5xx}, {Number: 2, Class: deliver.Timeout}},
				}},
			}, events[0])
			if events[1].Kept || len(events[1].Deliveries) != 1 {
				s.Errorf("an event without attempts: %+v", events[1])
			}
			return nil
		}))
	},
}
