package fanouttest

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// acme is the name of the suite's stream.
var acmeStream = stream.Names{}.Stream("acme")

var commitTests = map[string]func(*suite){
	"Commit/an unknown organization": func(s *suite) {
		_, err1 := s.Org(s.ctx, "nobody")
		_, err2 := s.Position(s.ctx, "nobody")
		_, err3 := s.Subscriptions(s.ctx, "nobody")
		_, err4 := s.Commit(s.ctx, fanout.Plan{Org: "nobody", To: cursor.Position{Org: "nobody", Incarnation: 1, Seq: 1}})
		for i, err := range []error{err1, err2, err3, err4} {
			if !errors.Is(err, fanout.ErrNoOrg) {
				s.Errorf("%s: %v, want ErrNoOrg", [...]string{"Org", "Position", "Subscriptions", "Commit"}[i], err)
			}
		}
	},

	"Commit/an organization that was never read": func(s *suite) {
		pos, err := s.Position(s.ctx, "acme")
		s.must(err)
		s.equal("position", cursor.Position{Org: "acme", Stream: acmeStream}, pos, samePosition)
		orgs, err := s.Orgs(s.ctx)
		s.must(err)
		if len(orgs) != 1 || orgs[0].ID != "acme" {
			s.Errorf("organizations %+v, want acme", orgs)
		}
	},

	"Commit/deliveries and position together": func(s *suite) {
		a, b := s.endpoint("invoice.*"), s.endpoint("*")
		s.append("invoice.paid", "page.made", "invoice.void")
		plan := s.plan("acme")
		written, err := s.Commit(s.ctx, plan)
		s.must(err)
		var endpoints [][]int64
		for i, w := range written {
			if w.Event < 1 || i > 0 && w.Event <= written[i-1].Event {
				s.Errorf("event numbers do not ascend: %+v", written)
			}
			endpoints = append(endpoints, w.Endpoints)
		}
		s.equal("new deliveries", [][]int64{{a.Row, b.Row}, {b.Row}, {a.Row, b.Row}}, endpoints)
		pos, err := s.Position(s.ctx, "acme")
		s.must(err)
		s.equal("position", plan.To, pos, samePosition)
		s.equal("pending of the first endpoint", []deliver.Ticket{
			{Key: deliver.Key{Event: written[0].Event, Endpoint: a.Row}},
			{Key: deliver.Key{Event: written[2].Event, Endpoint: a.Row}},
		}, s.pending(a.Row))
		if n := len(s.pending()); n != 5 {
			s.Errorf("%d pending in all, want 5", n)
		}
		d, attempts := s.delivery(deliver.Key{Event: written[1].Event, Endpoint: b.Row})
		if d.Org != "acme" || d.Endpoint != b.ID || d.Type != "page.made" || d.Seq != 2 || d.State != deliver.Pending ||
			!d.Due.IsZero() || len(attempts) != 0 || d.EventID != plan.Events[1].ID ||
			!d.Stored.Equal(plan.Events[1].Stored.Truncate(1e6)) && !d.Stored.Equal(plan.Events[1].Stored) {
			s.Errorf("delivery %+v with attempts %+v", d, attempts)
		}
	},

	"Commit/from a position that has moved": func(s *suite) {
		s.endpoint("*")
		s.append("a", "b")
		late := s.plan("acme")
		s.walk()
		s.append("c")
		before := s.pending()
		if _, err := s.Commit(s.ctx, late); !errors.Is(err, fanout.ErrMoved) {
			s.Errorf("a plan from before: %v, want ErrMoved", err)
		}
		early := s.plan("acme")
		early.From.Seq++
		early.To.Seq++
		if _, err := s.Commit(s.ctx, early); !errors.Is(err, fanout.ErrMoved) {
			s.Errorf("a plan from ahead: %v, want ErrMoved", err)
		}
		other := s.plan("acme")
		other.From.Incarnation++
		other.To.Incarnation++
		if _, err := s.Commit(s.ctx, other); !errors.Is(err, fanout.ErrMoved) {
			s.Errorf("a plan from another incarnation: %v, want ErrMoved", err)
		}
		s.equal("pending", before, s.pending())
	},

	"Commit/many of one plan at once": func(s *suite) {
		s.endpoint("*")
		s.append("a", "b")
		plan := s.plan("acme")
		errs := make([]error, 8)
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() { _, errs[i] = s.Commit(s.ctx, plan) })
		}
		wg.Wait()
		done := 0
		for _, err := range errs {
			switch {
			case err == nil:
				done++
			case !errors.Is(err, fanout.ErrMoved):
				s.Errorf("%v, want ErrMoved", err)
			}
		}
		if done != 1 || len(s.pending()) != 2 {
			s.Errorf("%d commits succeeded, %d deliveries; want 1 and 2", done, len(s.pending()))
		}
	},

	"Commit/after the subscriptions changed": func(s *suite) {
		ep := s.endpoint("*")
		s.append("a")
		changes := []struct {
			name string
			make func() error
		}{
			{"an endpoint was added", func() error { s.endpoint("*"); return nil }},
			{"an endpoint was disabled", func() error { _, err := s.DisableEndpoint(s.ctx, "acme", ep.ID, "manual"); return err }},
			{"an endpoint was enabled", func() error { _, err := s.EnableEndpoint(s.ctx, "acme", ep.ID); return err }},
			{"an endpoint was removed", func() error { return s.RemoveEndpoint(s.ctx, "acme", ep.ID) }},
		}
		for _, c := range changes {
			plan := s.plan("acme")
			s.must(c.make())
			if _, err := s.Commit(s.ctx, plan); !errors.Is(err, fanout.ErrStale) {
				s.Errorf("%s: %v, want ErrStale", c.name, err)
			}
			set, err := s.Subscriptions(s.ctx, "acme")
			s.must(err)
			if set.Version() <= plan.Version {
				s.Errorf("%s: version %d after %d", c.name, set.Version(), plan.Version)
			}
		}
		if ts := s.pending(); len(ts) != 0 {
			s.Errorf("stale plans made deliveries: %+v", ts)
		}
		s.walk()
	},

	"Commit/one event at two sequences": func(s *suite) {
		ep := s.endpoint("*")
		s.append("a one", "a two", "a three")
		first := s.walk()
		s.append("a one", "a four", "a three")
		second := s.walk()
		s.restart()
		s.append("a two", "a four")
		third := s.walk()
		got := append(second, third...)
		for _, i := range []int{0, 2, 3, 4} {
			s.equal("a duplicate", fanout.Written{}, got[i])
		}
		if got[1].Event <= first[2].Event || len(got[1].Endpoints) != 1 {
			s.Errorf("a new one between duplicates: %+v after %+v", got[1], first)
		}
		if n := len(s.pending(ep.Row)); n != 4 {
			s.Errorf("%d deliveries, want 4", n)
		}
		if r := s.check("acme"); r.Duplicates != 4 {
			s.Errorf("the check finds %d duplicates, want 4", r.Duplicates)
		}
	},

	"Commit/a stream read again makes what is missing": func(s *suite) {
		a, b := s.endpoint("*"), s.endpoint("*")
		s.append("a", "b", "c")
		plan := s.plan("acme")
		plan.Events[0].Endpoints = []int64{b.Row} // as if it had been forgotten
		plan.Events[2].Endpoints = []int64{a.Row}
		plan.Events = slices.Delete(plan.Events, 1, 2)
		first, err := s.Commit(s.ctx, plan)
		s.must(err)
		s.book(attempted(s.pending(b.Row)[0], success, 0))
		done := deliver.Key{Event: first[0].Event, Endpoint: b.Row}

		second, err := s.Commit(s.ctx, s.again())
		s.must(err)
		s.equal("made the second time", []fanout.Written{
			{Event: first[0].Event, Endpoints: []int64{a.Row}},
			{Event: second[1].Event, Endpoints: []int64{a.Row, b.Row}},
			{Event: first[1].Event, Endpoints: []int64{b.Row}},
		}, second)
		if second[1].Event <= first[1].Event {
			s.Errorf("an event that is new has number %d, after %d", second[1].Event, first[1].Event)
		}
		third, err := s.Commit(s.ctx, s.again())
		s.must(err)
		for _, w := range third {
			if w.Event == 0 || len(w.Endpoints) != 0 {
				s.Errorf("made the third time: %+v", w)
			}
		}
		if got := s.state(done); got != "delivered 1" {
			s.Errorf("the delivery that was there is %s", got)
		}
	},

	"Commit/event numbers ascend over organizations and restarts": func(s *suite) {
		s.addOrg("globex")
		s.endpoint("*")
		s.endpointOf("globex", "*")
		var numbers []int64
		for i := range 6 {
			org := [...]string{"acme", "globex"}[i%2]
			s.appendTo(org, "a", "b one")
			for _, w := range s.walkOf(org) {
				if w.Event != 0 {
					numbers = append(numbers, w.Event)
				}
			}
			s.restart()
		}
		if len(numbers) != 8 || !slices.IsSorted(numbers) || len(slices.Compact(numbers)) != 8 {
			s.Errorf("numbers %v, want 8 that ascend", numbers)
		}
		s.check("globex")
	},

	"Commit/organizations are apart": func(s *suite) {
		s.addOrg("globex")
		a, g := s.endpoint("*"), s.endpointOf("globex", "*")
		s.append("a same", "!")
		s.appendTo("globex", "a same")
		s.walk()
		s.walkOf("globex")
		if len(s.pending(a.Row)) != 1 || len(s.pending(g.Row)) != 1 {
			s.Errorf("one key in two organizations: %+v", s.pending())
		}
		k := s.pending(g.Row)[0].Key
		if _, _, err := s.GetDelivery(s.ctx, "acme", k); err == nil {
			s.Errorf("acme reads a delivery of globex")
		}
		if _, err := s.RetryDelivery(s.ctx, "acme", k); err == nil {
			s.Errorf("acme retries a delivery of globex")
		}
		if err := s.RemoveEndpoint(s.ctx, "acme", g.ID); err == nil {
			s.Errorf("acme removes an endpoint of globex")
		}
		if x := s.exceptions("globex"); len(x) != 0 {
			s.Errorf("exceptions of globex: %v", x)
		}
		if r := s.check("globex"); r.Events != 1 || r.Pending != 1 {
			s.Errorf("the check of globex finds %+v", r)
		}
	},

	"Commit/nobody subscribed": func(s *suite) {
		s.endpoint("invoice.*")
		s.append("a", "b", "a")
		if w := s.walk(); len(w) != 0 {
			s.Errorf("written %+v", w)
		}
		if pos, _ := s.Position(s.ctx, "acme"); pos.Seq != 3 {
			s.Errorf("position %d, want 3", pos.Seq)
		}
		if r := s.check("acme"); r.Unmatched != 3 {
			s.Errorf("the check finds %d unmatched, want 3", r.Unmatched)
		}
	},

	"Commit/reasons are kept once": func(s *suite) {
		s.endpoint("*")
		s.append("a")
		s.walk()
		s.append("b", "c", "!", "d", "e", "!", "f")
		s.log.PurgeTo(acmeStream, 4)
		plan := s.plan("acme")
		plan.Events = plan.Events[:1] // the last two are gated
		plan.Gated = []stream.Seq{6, 8}
		_, err := s.Commit(s.ctx, plan)
		s.must(err)
		want := []string{"gap 1.2", "gap 1.3", "gated 1.6", "gated 1.8", "rejected 1.4", "rejected 1.7"}
		s.equal("exceptions", want, s.exceptions("acme"))

		plan.From = plan.To // once more
		_, err = s.Commit(s.ctx, plan)
		s.must(err)
		s.equal("exceptions, read twice", want, s.exceptions("acme"))
		s.restart()
		s.equal("exceptions, opened again", want, s.exceptions("acme"))
	},

	"Commit/gated ranges grow": func(s *suite) {
		s.endpoint("*")
		for range 3 {
			s.append("a", "b")
			plan := s.plan("acme")
			for _, e := range plan.Events {
				plan.Gated = append(plan.Gated, e.Seq)
			}
			plan.Events = nil
			_, err := s.Commit(s.ctx, plan)
			s.must(err)
		}
		s.equal("exceptions", []string{"gated 1.1", "gated 1.2", "gated 1.3", "gated 1.4", "gated 1.5", "gated 1.6"}, s.exceptions("acme"))
	},

	"Commit/a stream made anew": func(s *suite) {
		ep := s.endpoint("*")
		s.append("a one", "b two", "c")
		first := s.walk()
		s.log.Delete(acmeStream)
		s.log.Create(acmeStream)
		s.append("a one", "b", "c three", "d two")
		plan := s.plan("acme")
		if plan.Change != cursor.Recreated {
			s.Fatalf("change %v, want Recreated", plan.Change)
		}
		second, err := s.Commit(s.ctx, plan)
		s.must(err)
		s.equal("an event known from before, at the same number in another stream", fanout.Written{}, second[0])
		s.equal("an event known from before", fanout.Written{}, second[3])
		for _, w := range second[1:3] {
			if w.Event <= first[2].Event || len(w.Endpoints) != 1 {
				s.Errorf("a new event: %+v", w)
			}
		}
		pos, err := s.Position(s.ctx, "acme")
		s.must(err)
		s.equal("position", plan.To, pos, samePosition)
		if pos.Incarnation != 2 || len(s.pending(ep.Row)) != 5 {
			s.Errorf("incarnation %d, %d deliveries; want 2 and 5", pos.Incarnation, len(s.pending(ep.Row)))
		}
	},

	"Commit/a stream rolled back": func(s *suite) {
		ep := s.endpoint("*")
		s.append("a one", "b two", "c three")
		s.walk()
		s.log.Rollback(acmeStream, 1)
		s.append("d four", "e")
		plan := s.plan("acme")
		if plan.Change != cursor.Regressed {
			s.Fatalf("change %v, want Regressed", plan.Change)
		}
		_, err := s.Commit(s.ctx, plan)
		s.must(err)
		var complete stream.Seq
		s.must(s.Audit(s.ctx, "acme", func(a fanout.Audited) (err error) {
			_, complete, err = a.Position(s.ctx)
			return err
		}))
		if complete != plan.Began {
			s.Errorf("the account is complete after %d, want %d", complete, plan.Began)
		}
		if n := len(s.pending(ep.Row)); n != 5 {
			s.Errorf("%d deliveries, want 5", n)
		}
	},

	"Commit/more rows than one statement holds": func(s *suite) {
		var rows []int64
		for range 130 {
			rows = append(rows, s.endpoint("*").Row)
		}
		var lines []string
		for i := range 130 {
			lines = append(lines, fmt.Sprintf("a k%d", i))
		}
		s.append(lines...)
		written := s.walk()
		for _, w := range written {
			if !slices.Equal(w.Endpoints, rows) {
				s.Fatalf("event %d went to %d endpoints, want %d", w.Event, len(w.Endpoints), len(rows))
			}
		}
		ts, err := s.Pending(s.ctx, everything[0], everything[1], nil, 100_000)
		s.must(err)
		if len(ts) != 130*130 {
			s.Errorf("%d deliveries, want %d", len(ts), 130*130)
		}
	},

	"Commit/what was committed is there after a restart": func(s *suite) {
		ep := s.endpoint("*")
		s.append("a", "!", "b")
		s.walk()
		before, pos := s.pending(ep.Row), s.plan("acme").From
		s.restart()
		s.equal("pending", before, s.pending(ep.Row))
		after, err := s.Position(s.ctx, "acme")
		s.must(err)
		s.equal("position", pos, after, samePosition)
		s.append("c")
		s.walk()
		if n := len(s.pending(ep.Row)); n != 3 {
			s.Errorf("%d deliveries, want 3", n)
		}
	},

	"EventPlaces": func(s *suite) {
		s.endpoint("*")
		s.append("x", "a one", "b")
		plan := s.plan("acme")
		written, err := s.Commit(s.ctx, plan)
		s.must(err)
		places, err := s.EventPlaces(s.ctx, []int64{written[2].Event, 999_999, written[1].Event})
		s.must(err)
		slices.SortFunc(places, func(a, b fanout.EventPlace) int { return int(a.Event - b.Event) })
		s.equal("places", []fanout.EventPlace{
			{Event: written[1].Event, Org: "acme", Incarnation: 1, Seq: 2, ID: plan.Events[1].ID},
			{Event: written[2].Event, Org: "acme", Incarnation: 1, Seq: 3, ID: plan.Events[2].ID},
		}, places)
	},
}
