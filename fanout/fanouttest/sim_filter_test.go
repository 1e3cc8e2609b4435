package fanouttest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/grapnel-hooks/grapnel/fanout"
)

// simFilters are the filters of the simulation, each with a twin in Go; n is -1 when
// the data have none.
var simFilters = map[string]func(typ string, n int) bool{
	"":                                 func(string, int) bool { return true },
	`data.n > 1`:                       func(_ string, n int) bool { return n > 1 },
	`!(data.n in [0, 2])`:              func(_ string, n int) bool { return n != 0 && n != 2 },
	`type.startsWith("a.") || data.no`: func(typ string, _ int) bool { return typ == "a.x" || typ == "a.y" },
	`data.list.exists(i, i == 3)`:      func(_ string, n int) bool { return n == 3 },
}

// someFilter is none in half of the cases.
func (s *sim) someFilter() string {
	if s.dice.IntN(2) == 0 {
		return ""
	}
	texts := slices.Sorted(maps.Keys(simFilters))
	return texts[s.dice.IntN(len(texts))]
}

// someData are what filters look at.
func (s *sim) someData() string {
	n := s.dice.IntN(4)
	return fmt.Sprintf(`{"n":%d,"list":[%d]}`, n, n)
}

// refilter gives an endpoint another filter.
func (s *sim) refilter() {
	ep, ok := s.some(s.dice)
	if !ok {
		return
	}
	text := s.someFilter()
	s.tracef("endpoint %d is filtered by %q", ep.Row, text)
	_, err := s.life().books.SetFilter(s.ctx, ep.Org, ep.ID, text)
	s.refused(err)
}

// filtered checks by the twins that nobody got what its filter kept back at that place.
// Of what the stream has lost nobody knows.
func (s *sim) filtered(org string) {
	far, err := s.admin.Furthest(s.ctx, org)
	s.must(err)
	msgs, _, err := s.log.Read(s.ctx, streamOf(org), 1, 1<<20)
	s.must(err)
	data := map[place]int{}
	for _, m := range msgs {
		d := struct{ N int }{-1} // not there
		if json.Unmarshal(m.Data, &d) == nil {
			data[place{far.Incarnation, m.Seq}] = d.N
		}
	}
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	o := s.disk.orgs[org]
	for _, e := range s.disk.events {
		n, known := data[e.place]
		if e.org != o || !known {
			continue
		}
		for _, d := range e.deliveries {
			lets := func(sp fanout.Span) bool {
				return sp.Endpoint == d.Endpoint && sp.Covers(e.place.incarnation, e.place.seq) && simFilters[sp.Filter.String()](e.typ, n)
			}
			if !slices.ContainsFunc(o.spans, lets) {
				s.violated("delivery %v of %s with %d at %v: no filter lets it through", d.Key, e.typ, n, e.place)
			}
		}
	}
}
