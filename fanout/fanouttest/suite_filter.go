package fanouttest

import (
	"errors"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/sign"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// filtered adds an endpoint of acme that wants every type, and a filter.
func (s *suite) filtered(filter string) deliver.Endpoint {
	s.Helper()
	ep, err := s.AddEndpoint(s.ctx, deliver.Endpoint{
		Org: "acme", URL: "https://example.com/hook", EventTypes: []string{"*"}, Secrets: []deliver.Secret{{Secret: sign.NewSecret()}},
		Timeout: deliver.DefaultTimeout, Retry: deliver.DefaultPolicy, Concurrency: deliver.DefaultConcurrency,
		Options: deliver.Options{Filter: filter},
	})
	s.must(err)
	return ep
}

// whats are the endpoints' events, as sequences.
func (s *suite) whats() map[int64][]stream.Seq {
	s.Helper()
	got := map[int64][]stream.Seq{}
	s.must(s.Audit(s.ctx, "acme", func(a fanout.Audited) error {
		for p, err := range a.Pieces(s.ctx) {
			if err != nil {
				return err
			}
			for _, e := range p.Events {
				for _, d := range e.Deliveries {
					got[d.Endpoint] = append(got[d.Endpoint], e.Seq)
				}
			}
		}
		return nil
	}))
	return got
}

var filterTests = map[string]func(*suite){
	"Filter/is that of the moment": func(s *suite) {
		one, all := s.filtered(`type == "a"`), s.endpoint("*")
		s.append("a", "b")
		s.walk()
		_, err := s.SetFilter(s.ctx, "acme", one.ID, `type == "b"`)
		s.must(err)
		s.restart()
		s.append("a", "b")
		s.walk()
		_, err = s.SetFilter(s.ctx, "acme", one.ID, "")
		s.must(err)
		s.append("a", "b")
		s.walk()
		s.equal("deliveries", map[int64][]stream.Seq{one.Row: {1, 4, 5, 6}, all.Row: {1, 2, 3, 4, 5, 6}}, s.whats())

		var texts []string
		s.must(s.Audit(s.ctx, "acme", func(a fanout.Audited) error {
			spans, err := a.History(s.ctx)
			for _, sp := range spans {
				if sp.Endpoint == one.Row {
					texts = append(texts, sp.Filter.String())
				}
			}
			return err
		}))
		s.equal("filters of the spans", []string{`type == "a"`, `type == "b"`, ""}, texts)
	},

	"Filter/of data": func(s *suite) {
		some, none := s.filtered(`data.n == 1`), s.filtered(`data.n == 2`)
		s.append("a", "b")
		s.walk()
		s.equal("deliveries", map[int64][]stream.Seq{some.Row: {1, 2}}, s.whats())
		s.must(s.RemoveEndpoint(s.ctx, "acme", some.ID))
		s.append("a")
		if p := s.plan("acme"); len(p.Events) != 0 || p.Unmatched != 1 {
			s.Errorf("%d events, %d unmatched, want what is filtered out to be unmatched", len(p.Events), p.Unmatched)
		}
		s.walk()
		if n := len(s.whats()[none.Row]); n != 0 {
			s.Errorf("%d deliveries of what the filter does not let through", n)
		}
	},

	"Filter/a change makes plans stale": func(s *suite) {
		ep := s.filtered(`type == "a"`)
		s.append("a")
		plan := s.plan("acme")
		_, err := s.SetFilter(s.ctx, "acme", ep.ID, `type == "b"`)
		s.must(err)
		if _, err := s.Commit(s.ctx, plan); !errors.Is(err, fanout.ErrStale) {
			s.Errorf("%v, want ErrStale", err)
		}
		s.walk()
		if got := s.whats(); len(got) != 0 {
			s.Errorf("deliveries by the old filter: %v", got)
		}
	},

	"Filter/of one that is read again is that of then": func(s *suite) {
		ep := s.filtered(`type == "a"`)
		s.append("a", "b", "a", "b")
		s.walk()
		_, err := s.SetFilter(s.ctx, "acme", ep.ID, "")
		s.must(err)
		s.must(s.moved(0, false))
		s.append("b")
		s.walkOn()
		s.equal("deliveries", map[int64][]stream.Seq{ep.Row: {1, 3, 5}}, s.whats())
	},

	"Filter/of one that is behind": func(s *suite) {
		s.endpoint("*")
		const n = 1100 // more than a store reads at once to catch up
		for range n / 2 {
			s.append("a", "b")
		}
		s.walkOn()
		ep := s.from(0, "*")
		_, err := s.SetFilter(s.ctx, "acme", ep.ID, `type == "a"`)
		s.must(err)
		s.step(ep, 2) // two deliveries, up to 4
		_, err = s.SetFilter(s.ctx, "acme", ep.ID, `type == "b"`)
		s.must(err)
		s.restart()
		s.catchUp(ep)
		s.append("a", "b")
		s.walkOn()
		want := []stream.Seq{1, 3}
		for seq := stream.Seq(6); seq <= n+2; seq += 2 {
			want = append(want, seq)
		}
		s.equal("deliveries", want, s.whats()[ep.Row])
	},

	"Filter/that cannot be read lets everything through": func(s *suite) {
		ep := s.filtered(`data.n ==`)
		s.append("a", "b")
		s.walk()
		s.equal("deliveries", map[int64][]stream.Seq{ep.Row: {1, 2}}, s.whats())
	},
}
