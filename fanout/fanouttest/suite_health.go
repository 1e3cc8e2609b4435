package fanouttest

import (
	"math"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
)

// unwell is a health of so many failures, the step-th.
func unwell(step int64, failures int) deliver.Health {
	h := deliver.Health{
		Step: step, Failures: failures, FailingSince: started.Add(time.Minute).UTC(), Class: deliver.Timeout,
		HeldUntil: started.Add(time.Hour).UTC(),
	}
	if failures >= deliver.FailuresToOpen {
		h.OpenedAt, h.ProbeAt, h.Probes = h.FailingSince, h.FailingSince.Add(time.Second), 3
	}
	return h
}

// health is that of the endpoint in the books.
func (s *suite) health(row int64) deliver.Health {
	s.Helper()
	ep, err := s.FindEndpointByRow(s.ctx, row)
	s.must(err)
	return ep.Health
}

var healthTests = map[string]func(*suite){
	"Health/comes with records, the newest stays": func(s *suite) {
		ep, other := s.endpoint("*"), s.endpoint("*")
		s.fresh(ep, "a", "b", "c", "d")
		ts := s.pending(ep.Row)
		with := func(t deliver.Ticket, h *deliver.Health) deliver.Record {
			r := attempted(t, failure, time.Minute)
			r.Health = h
			return r
		}
		first, fifth, third := unwell(1, 1), unwell(5, 5), unwell(3, 3)
		s.book(with(ts[0], &first))
		s.equal("the first", first, s.health(ep.Row))
		s.book(with(ts[1], &fifth), with(ts[2], &third), with(ts[3], nil))
		s.equal("the newest", fifth, s.health(ep.Row))
		s.equal("of another endpoint", deliver.Health{}, s.health(other.Row))
		s.restart()
		s.equal("opened again", fifth, s.health(ep.Row))
	},

	"Health/of a cancelled delivery counts": func(s *suite) {
		ep := s.endpoint("*")
		t := s.fresh(ep, "a")[0]
		s.must(s.CancelDelivery(s.ctx, "acme", t.Key))
		r := attempted(t, failure, time.Minute)
		h := unwell(1, 1)
		r.Health = &h
		s.book(r)
		s.equal("health", h, s.health(ep.Row))
	},

	"Health/enabling begins anew, and late outcomes change nothing": func(s *suite) {
		ep := s.endpoint("*")
		ts := s.fresh(ep, "a", "b")
		h, late := unwell(6, 6), unwell(7, 7)
		r := attempted(ts[0], gone, 0)
		r.Health = &h
		s.book(r)
		s.equal("disabled", h, s.health(ep.Row))
		_, err := s.EnableEndpoint(s.ctx, "acme", ep.ID)
		s.must(err)
		now := s.health(ep.Row)
		if now.Open() || now.Failures != 0 || !now.Releasing || now.Step <= late.Step {
			s.Errorf("health of an enabled endpoint: %+v", now)
		}
		r = attempted(ts[1], failure, time.Minute)
		r.Health = &late
		s.book(r)
		s.equal("after a late outcome", now, s.health(ep.Row))
		s.restart()
		s.equal("opened again", now, s.health(ep.Row))
	},

	"NoteHealth": func(s *suite) {
		ep, removed := s.endpoint("*"), s.endpoint("*")
		kept := s.fresh(ep, "a")
		s.must(s.RemoveEndpoint(s.ctx, "acme", removed.ID))
		before, err := s.Subscriptions(s.ctx, "acme")
		s.must(err)
		h, old := unwell(9, 9), unwell(8, 8)
		s.must(s.NoteHealth(s.ctx, []deliver.HealthNote{{Endpoint: ep.Row, Health: h}, {Endpoint: removed.Row, Health: h}, {Endpoint: 999_999, Health: h}}))
		s.must(s.NoteHealth(s.ctx, []deliver.HealthNote{{Endpoint: ep.Row, Health: old}}))
		s.equal("the newest", h, s.health(ep.Row))
		h.Warned, h.Step = true, 10
		s.must(s.NoteHealth(s.ctx, []deliver.HealthNote{{Endpoint: ep.Row, Health: h, Disable: deliver.DisabledFailing}}))
		for range 2 {
			now, err := s.FindEndpointByRow(s.ctx, ep.Row)
			s.must(err)
			s.equal("health", h, now.Health)
			if now.DisabledReason != deliver.DisabledFailing || now.DisabledAt.IsZero() {
				s.Errorf("disabled because of %q at %v", now.DisabledReason, now.DisabledAt)
			}
			s.restart()
		}
		after, err := s.Subscriptions(s.ctx, "acme")
		s.must(err)
		if after.Version() <= before.Version() {
			s.Errorf("subscriptions have version %d, before %d", after.Version(), before.Version())
		}
		s.equal("pending", tickets(kept), s.pending(ep.Row))
	},

	"Release": func(s *suite) {
		a, b, c := s.endpoint("*"), s.endpoint("*"), s.endpoint("*")
		s.fresh(a, "a", "b", "c", "d", "e")
		for _, row := range []int64{a.Row, b.Row, c.Row} {
			ts := s.pending(row)
			last := attempted(ts[4], failure, 0)
			last.Next.Due = time.UnixMilli(deliver.HeldBack)
			s.book(
				attempted(ts[0], failure, 8*time.Hour), attempted(ts[1], failure, -time.Hour),
				attempted(ts[2], success, 0), last, // ts[3] stays fresh
			)
		}
		s.must(s.Release(s.ctx, []int64{a.Row, b.Row}, ms(time.Second)))
		for range 2 {
			for _, tt := range []struct {
				row  int64
				want []int64
			}{
				{a.Row, []int64{0, ms(time.Second), ms(time.Second), deliver.HeldBack}},
				{b.Row, []int64{0, ms(time.Second), ms(time.Second), deliver.HeldBack}},
				{c.Row, []int64{0, ms(-time.Hour), ms(8 * time.Hour), deliver.HeldBack}},
			} {
				var dues []int64
				last := int64(math.MinInt64)
				for _, t := range s.pending(tt.row) {
					dues = append(dues, t.Due)
					if t.Due == ms(time.Second) {
						if t.Event < last {
							s.Errorf("event %d of endpoint %d comes after %d", t.Event, tt.row, last)
						}
						if last = t.Event; t.Attempts != 1 || t.Spent != 1 || t.Trigger != deliver.Retry {
							s.Errorf("released: %+v", t)
						}
					}
				}
				s.equal("dues", tt.want, dues)
			}
			s.restart()
		}
		s.must(s.Release(s.ctx, nil, ms(time.Second)))
	},
}

// tickets are ts as the books list them.
func tickets(ts []deliver.Ticket) []deliver.Ticket {
	list := make([]deliver.Ticket, len(ts))
	for i, t := range ts {
		t.Payload = nil
		list[i] = t
	}
	return list
}
