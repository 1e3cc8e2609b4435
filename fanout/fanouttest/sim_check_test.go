package fanouttest

import (
	"errors"
	"fmt"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// inspect checks, in the middle of things, what must hold at every moment.
func (s *sim) inspect() {
	for _, org := range s.orgs {
		pos, err := s.admin.Position(s.ctx, org)
		s.must(err)
		if old := s.positions[org]; pos.Incarnation < old.Incarnation || pos.Incarnation == old.Incarnation && pos.Seq < old.Seq {
			s.violated("the position of %s moved back from %d.%d to %d.%d", org, old.Incarnation, old.Seq, pos.Incarnation, pos.Seq)
		}
		if old := s.positions[org]; s.held[org] && (pos.Incarnation != old.Incarnation || pos.Seq != old.Seq) {
			s.violated("the position of %s moved from %d to %d, and its cursor is paused", org, old.Seq, pos.Seq)
		}
		s.positions[org] = pos
		if !s.down {
			s.check(org, nil)
		}
	}
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	s.spans()
	for _, e := range s.disk.events {
		for _, d := range e.deliveries {
			if was, ok := s.ended[d.Key]; ok && was != d.state {
				s.violated("delivery %v was %v and is %v, although nobody asked for it", d.Key, was, d.state)
			}
			if d.state != deliver.Pending {
				s.ended[d.Key] = d.state
			}
		}
	}
}

func (s *sim) check(org string, ledger *fanout.Ledger) {
	err := s.admin.Audit(s.ctx, org, func(a fanout.Audited) error {
		r, err := fanout.Check(s.ctx, s.log, stream.Decoding{Org: org}, a, ledger)
		if err == nil && r.Found > 0 {
			s.violated("%d problems in the books of %s, the first: %v", r.Found, org, r.Problems[0])
		}
		return err
	})
	if !errors.Is(err, stream.ErrUnavailable) { // rolled back a moment ago
		s.must(err)
	}
}

// drained waits until everything that is due has been delivered.
func (s *sim) drained() {
	var rest string
	for range int(simDrain / simStep) {
		pass(simStep)
		s.resumeReplays()
		s.carryReplays()
		s.inspect()
		if rest = s.rest(); rest == "" || !s.ok() {
			return
		}
	}
	s.violated("%v after the last fault %s", simDrain, rest)
}

// rest says what is still to be done.
func (s *sim) rest() string {
	if s.replaysGoOn() {
		return "a replay is not done"
	}
	for _, org := range s.orgs {
		pos, err := s.admin.Position(s.ctx, org)
		s.must(err)
		st, err := s.log.State(s.ctx, streamOf(org))
		s.must(err)
		if pos.Seq != st.Last || !pos.Created.Equal(st.Created) {
			return fmt.Sprintf("%s was read up to %d, its stream ends with %d", org, pos.Seq, st.Last)
		}
	}
	if rest := s.untold(); rest != "" {
		return rest
	}
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	if rest := s.behind(); rest != "" {
		return rest
	}
	for _, e := range s.disk.events {
		for _, d := range e.deliveries {
			if ep := s.disk.endpoint(d.Endpoint); d.state == deliver.Pending && ep.Enabled() {
				return fmt.Sprintf("delivery %v is pending, due at %d, after %d attempts", d.Key, d.Due, d.Attempts)
			}
		}
	}
	return ""
}

// audit compares stream, books and receivers, when nothing moves any more.
func (s *sim) audit() {
	s.checkTold()
	for _, org := range s.orgs {
		ledger := &fanout.Ledger{Seen: map[fanout.Receipt]fanout.Tally{}}
		for receipt, t := range s.ledger {
			if s.receivers[receipt.Endpoint].org == org {
				ledger.Seen[receipt] = t
			}
		}
		s.check(org, ledger)
		s.filtered(org)
	}
	for _, e := range s.disk.events {
		for _, d := range e.deliveries {
			s.budget(d)
		}
	}
}

// budget checks that a delivery was neither given up early nor cancelled
// without a reason.
func (s *sim) budget(d *delivery) {
	counted := 0
	for _, a := range d.attempts {
		if a.Trigger == deliver.Manual || a.Trigger == deliver.Replay {
			return
		}
		if a.Class != deliver.Ours {
			counted++
		}
	}
	if d.state == deliver.Dead && d.reason == deliver.Exhausted && counted != simPolicy.Attempts {
		s.violated("delivery %v was given up after %d attempts that count, want %d", d.Key, counted, simPolicy.Attempts)
	}
	if d.state == deliver.Cancelled && d.reason != deliver.ByHand && !s.disk.endpoint(d.Endpoint).removed {
		s.violated("delivery %v was cancelled, and its endpoint is there", d.Key)
	}
}
