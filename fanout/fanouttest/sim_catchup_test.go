package fanouttest

import (
	"fmt"

	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// simPark is how many deliveries of an endpoint may be pending in the runs in
// which endpoints are parked, and simBelow below how many rows are made for those.
const (
	simPark  = 12
	simBelow = 4
)

// catchups is the loop of a life that reads for endpoints that are behind.
func (s *sim) catchups(d *daemon) *fanout.CatchupLoop {
	if s.roll("park").IntN(2) == 0 {
		d.books.ParkAfter = simPark
	}
	return fanout.NewCatchupLoop(fanout.CatchupOptions{
		Books: d.books, Log: s.log, Lanes: d.lanes, Logger: s.logger,
		Below: func(int64) int64 { return simBelow },
	})
}

// backfill adds an endpoint that begins somewhere in what was read already.
func (s *sim) backfill() {
	org := s.org()
	far, err := s.admin.Furthest(s.ctx, org)
	s.must(err)
	if len(s.disk.endpoints) >= 8 || far.Seq == 0 {
		return
	}
	after := stream.Seq(s.dice.Uint64N(uint64(far.Seq) + 1))
	s.tracef("an endpoint of %s begins after %d", org, after)
	s.newEndpointFrom(s.life().books, org, &after)
}

// quiet makes a receiver fail for long while much comes in: it is parked, if that
// happens in this run.
func (s *sim) quiet() {
	s.mu.Lock()
	row := 1 + s.dice.Int64N(int64(len(s.receivers)))
	s.receivers[row].mood = hanging
	s.mu.Unlock()
	for range 3 {
		s.append()
	}
}

// spans checks that each endpoint was subscribed, or was behind, from its start
// on: between two of its spans there is nothing but what was lost, or a time in
// which it was disabled. The disk is locked.
func (s *sim) spans() {
	for name, o := range s.disk.orgs {
		last := map[int64]*fanout.Span{}
		for i := range o.spans {
			now := &o.spans[i]
			was := last[now.Endpoint]
			last[now.Endpoint] = now
			if was == nil || now.Incarnation != was.UntilIncarnation || now.From == was.Until {
				continue // of another incarnation: anew accounts for it
			}
			if now.From < was.Until || !o.isLost(now.Endpoint, was.UntilIncarnation, was.Until, now.From) && !o.wasAway(now.Endpoint, was, now) {
				s.violated("endpoint %d of %s was subscribed up to %d, and then from %d on, and nothing says why", now.Endpoint, name, was.Until, now.From)
			}
		}
		for row, span := range last {
			e, c := s.disk.endpoint(row), o.behind[row]
			switch {
			case c != nil && (!span.Ended || span.Until != c.Seq || span.UntilIncarnation != c.Incarnation):
				s.violated("endpoint %d of %s is behind at %d.%d, and its last span is %+v", row, name, c.Incarnation, c.Seq, *span)
			case c == nil && e.Enabled() && span.Ended:
				s.violated("endpoint %d of %s is enabled, and not subscribed", row, name)
			}
		}
	}
}

// isLost reports whether all between the two sequences is recorded as lost.
func (o *org) isLost(endpoint int64, incarnation int, after, upTo stream.Seq) bool {
	n := stream.Seq(0)
	for _, l := range o.lost {
		if l.endpoint == endpoint && l.at.incarnation == incarnation && l.at.seq > after && l.at.seq <= upTo {
			n++
		}
	}
	return n == upTo-after
}

// wasAway reports whether the endpoint was disabled between the two spans, and for
// just as long.
func (o *org) wasAway(endpoint int64, was, now *fanout.Span) bool {
	for _, a := range o.away {
		if a.endpoint == endpoint && a.from == (place{was.UntilIncarnation, was.Until}) && a.to == (place{now.Incarnation, now.From}) {
			return true
		}
	}
	return false
}

// behind says which enabled endpoint is still behind. The disk is locked.
func (s *sim) behind() string {
	for name, o := range s.disk.orgs {
		for row, c := range o.behind {
			if s.disk.endpoint(row).Enabled() && !o.Gated {
				return fmt.Sprintf("endpoint %d of %s is behind, at %d", row, name, c.Seq)
			}
		}
	}
	return ""
}
