package fanouttest

import (
	"errors"
	"slices"
	"time"

	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// moved moves acme's position to seq.
func (s *suite) moved(seq stream.Seq, skip bool) error {
	s.Helper()
	pos, err := s.Position(s.ctx, "acme")
	s.must(err)
	to := pos
	to.Seq, to.Anchor, to.Hash = seq, time.Time{}, 0
	return s.MoveCursor(s.ctx, "acme", fanout.Move{From: pos, To: to, Skip: skip, Reason: "a test"})
}

// walkGated commits what follows acme's position as if its plan lacked webhooks.
func (s *suite) walkGated() {
	s.Helper()
	p := s.plan("acme")
	for _, ev := range p.Events {
		p.Gated = append(p.Gated, ev.Seq)
	}
	p.Events, p.Unmatched, p.Duplicates = nil, 0, 0
	_, err := s.Commit(s.ctx, p)
	s.must(err)
}

// walkOn walks to the end of acme's stream, and returns the events that got new
// deliveries.
func (s *suite) walkOn() (fresh []fanout.Written) {
	s.Helper()
	for {
		p := s.plan("acme")
		if p.From == p.To {
			return fresh
		}
		written, err := s.Commit(s.ctx, p)
		s.must(err)
		for _, w := range written {
			if len(w.Endpoints) > 0 {
				fresh = append(fresh, w)
			}
		}
	}
}

// foresee is what a move to seq would cause.
func (s *suite) foresee(seq stream.Seq) (f fanout.Forecast) {
	s.Helper()
	pos, err := s.Position(s.ctx, "acme")
	s.must(err)
	o, err := s.Org(s.ctx, "acme")
	s.must(err)
	s.must(s.Audit(s.ctx, "acme", func(a fanout.Audited) (err error) {
		f, err = fanout.Foresee(s.ctx, s.log, stream.Decoding{Org: "acme"}, o, a.(fanout.MoveBooks), pos, seq)
		return err
	}))
	return f
}

func (s *suite) at(want stream.Seq) {
	s.Helper()
	pos, err := s.Position(s.ctx, "acme")
	s.must(err)
	if pos.Seq != want {
		s.Errorf("the position is %d, want %d", pos.Seq, want)
	}
}

var cursorTests = map[string]func(*suite){
	"Cursor/paused and resumed": func(s *suite) {
		s.endpoint("*")
		s.append("a")
		before := s.plan("acme")
		for range 2 {
			s.must(s.PauseCursor(s.ctx, "acme"))
		}
		if _, err := s.Commit(s.ctx, before); !errors.Is(err, fanout.ErrStale) {
			s.Errorf("a plan from before the pause: %v, want ErrStale", err)
		}
		s.restart()
		if o, err := s.Org(s.ctx, "acme"); err != nil || !o.Paused {
			s.Errorf("paused: %+v, %v", o, err)
		}
		for range 2 {
			s.must(s.ResumeCursor(s.ctx, "acme"))
		}
		if o, err := s.Org(s.ctx, "acme"); err != nil || o.Paused {
			s.Errorf("resumed: %+v, %v", o, err)
		}
		s.walk()
		if n := len(s.pending()); n != 1 {
			s.Errorf("%d deliveries after it was resumed, want 1", n)
		}
	},

	"Cursor/paused: what was fanned out goes on": func(s *suite) {
		t := s.fresh(s.endpoint("*"), "a")[0]
		s.must(s.PauseCursor(s.ctx, "acme"))
		s.book(attempted(t, success, 0))
		if got := s.state(t.Key); got != "delivered 1" {
			s.Errorf("a delivery of a paused organization is %s", got)
		}
	},

	"Cursor/paused: nobody": func(s *suite) {
		for _, err := range []error{s.PauseCursor(s.ctx, "nobody"), s.ResumeCursor(s.ctx, "nobody")} {
			if !errors.Is(err, fanout.ErrNoOrg) {
				s.Errorf("%v, want ErrNoOrg", err)
			}
		}
	},

	"Cursor/moved back: what exists is left alone": func(s *suite) {
		ep := s.endpoint("*")
		t := s.fresh(ep, "a", "b", "!", "c")[0]
		s.book(attempted(t, success, 0))
		s.equal("forecast", fanout.Forecast{Again: 3, Existing: 2, Through: 4, Complete: true}, s.foresee(1))
		far, err := s.Position(s.ctx, "acme")
		s.must(err)
		s.must(s.moved(1, false))
		s.restart()
		s.at(1)
		if got, err := s.Furthest(s.ctx, "acme"); err != nil || !samePlace(got, far) {
			s.Errorf("the furthest is %+v, %v; want %+v", got, err, far)
		}
		s.check("acme") // also while it is read again
		if fresh := s.walkOn(); len(fresh) != 0 {
			s.Errorf("made anew: %+v", fresh)
		}
		s.at(4)
		if got := s.state(t.Key); got != "delivered 1" {
			s.Errorf("what was delivered is %s", got)
		}
		s.append("d")
		if fresh := s.walkOn(); len(fresh) != 1 {
			s.Errorf("made of a new event: %+v", fresh)
		}
		if r := s.check("acme"); r.Rejected != 1 || r.Events != 4 {
			s.Errorf("%d rejected and %d events, want 1 and 4", r.Rejected, r.Events)
		}
	},

	"Cursor/moved back: what was gated is made": func(s *suite) {
		ep, other := s.endpoint("*"), s.endpoint("never")
		s.append("a")
		s.walk()
		s.append("b", "c key", "other", "!")
		s.walkGated()
		s.append("c key", "d")
		s.walk()
		late := s.endpoint("*")
		s.equal("forecast", fanout.Forecast{Again: 7, Existing: 3, New: 2, Through: 7, Complete: true}, s.foresee(0))
		s.must(s.moved(0, false))
		fresh := s.walkOn()
		if len(fresh) != 2 || !slices.Equal(fresh[0].Endpoints, []int64{ep.Row}) {
			s.Errorf("made anew: %+v, want b and other, for the endpoint that was there", fresh)
		}
		s.equal("exceptions", []string{"gated 1.3", "rejected 1.5"}, s.exceptions("acme"))
		if n := len(s.pending(late.Row, other.Row)); n != 0 {
			s.Errorf("%d deliveries to endpoints that were not subscribed", n)
		}
	},

	"Cursor/moved back: subscriptions are those of then": func(s *suite) {
		stays, changes, goes := s.endpoint("*"), s.endpoint("*"), s.endpoint("*")
		s.append("a", "b")
		s.walkGated()
		s.must(s.RemoveEndpoint(s.ctx, "acme", goes.ID))
		_, err := s.DisableEndpoint(s.ctx, "acme", changes.ID, "manual")
		s.must(err)
		s.must(s.moved(0, false))
		// Who leaves and comes now does so after all that was read.
		_, err = s.EnableEndpoint(s.ctx, "acme", changes.ID)
		s.must(err)
		_, err = s.DisableEndpoint(s.ctx, "acme", stays.ID, "manual")
		s.must(err)
		late := s.endpoint("*")
		fresh := s.walkOn()
		if len(fresh) != 2 || !slices.Equal(fresh[1].Endpoints, []int64{stays.Row, changes.Row}) {
			s.Errorf("made anew: %+v, want both events for those that are there still", fresh)
		}
		for _, w := range fresh {
			if got := s.state(deliver.Key{Event: w.Event, Endpoint: goes.Row}); got != "cancelled 0 endpoint_deleted" {
				s.Errorf("the delivery to a removed endpoint is %s", got)
			}
		}
		if n := len(s.pending(late.Row, goes.Row)); n != 0 {
			s.Errorf("%d deliveries for who came later or is gone", n)
		}
		s.append("c")
		if fresh := s.walkOn(); len(fresh) != 1 || !slices.Equal(fresh[0].Endpoints, []int64{changes.Row, late.Row}) {
			s.Errorf("made of a new event: %+v", fresh)
		}
	},

	"Cursor/moved on: what is skipped is recorded": func(s *suite) {
		s.endpoint("*")
		s.append("a")
		s.walk()
		s.append("b", "!", "c", "d", "e")
		s.equal("forecast", fanout.Forecast{Skipped: 3, Through: 5, Complete: true}, s.foresee(5))
		var skip *fanout.SkipError
		if err := s.moved(5, false); !errors.As(err, &skip) || skip.From != 2 || skip.To != 5 {
			s.Errorf("a move that would skip: %v", err)
		}
		s.at(1)
		s.must(s.moved(5, true))
		s.equal("exceptions", []string{"skipped 1.2", "skipped 1.3", "skipped 1.4", "skipped 1.5"}, s.exceptions("acme"))
		s.check("acme")
		if fresh := s.walkOn(); len(fresh) != 1 {
			s.Errorf("made after the skip: %+v, want e", fresh)
		}
		s.check("acme")
		// A part of it is made up for.
		s.equal("forecast", fanout.Forecast{Again: 4, Existing: 1, New: 2, Through: 6, Complete: true}, s.foresee(2))
		s.must(s.moved(2, false))
		s.must(s.moved(5, false)) // nothing that was never read
		s.must(s.moved(2, false))
		if fresh := s.walkOn(); len(fresh) != 2 {
			s.Errorf("made of what was skipped: %+v, want c and d", fresh)
		}
		s.equal("exceptions", []string{"rejected 1.3", "skipped 1.2"}, s.exceptions("acme"))
	},

	"Cursor/moved back: what the stream lost since": func(s *suite) {
		s.endpoint("*")
		s.append("a", "b", "c", "d")
		s.walk()
		s.append("e", "f", "g")
		s.must(s.moved(7, true))
		s.must(s.moved(1, false))
		s.log.PurgeTo(acmeStream, 7)
		if fresh := s.walkOn(); len(fresh) != 1 {
			s.Errorf("made anew: %+v, want g", fresh)
		}
		s.equal("exceptions", []string{"skipped 1.5", "skipped 1.6"}, s.exceptions("acme"))
	},

	"Cursor/moved from elsewhere": func(s *suite) {
		s.endpoint("*")
		s.append("a", "b")
		early := s.plan("acme")
		s.walk()
		pos, err := s.Position(s.ctx, "acme")
		s.must(err)
		to := pos
		to.Seq = 1
		from := pos
		from.Seq = 1
		if err := s.MoveCursor(s.ctx, "acme", fanout.Move{From: from, To: to}); !errors.Is(err, fanout.ErrMoved) {
			s.Errorf("a move from elsewhere: %v, want ErrMoved", err)
		}
		if err := s.MoveCursor(s.ctx, "nobody", fanout.Move{From: pos, To: to}); !errors.Is(err, fanout.ErrNoOrg) {
			s.Errorf("a move of nobody's cursor: %v, want ErrNoOrg", err)
		}
		s.must(s.moved(0, false))
		for what, p := range map[string]fanout.Plan{"before the move": early, "of new messages": {
			Org: "acme", From: cursor.Position{Org: "acme", Incarnation: 1, Created: pos.Created}, To: pos, Version: s.plan("acme").Version,
		}} {
			if _, err := s.Commit(s.ctx, p); !errors.Is(err, fanout.ErrMoved) && !errors.Is(err, fanout.ErrStale) {
				s.Errorf("a plan %s: %v, want ErrMoved or ErrStale", what, err)
			}
		}
		again := s.plan("acme")
		s.must(s.moved(1, false))
		s.must(s.moved(0, false))
		if _, err := s.Commit(s.ctx, again); !errors.Is(err, fanout.ErrStale) {
			s.Errorf("a plan from before a move there and back: %v, want ErrStale", err)
		}
		s.walkOn()
		s.at(2)
	},

	"Cursor/moved before it was ever read": func(s *suite) {
		s.endpoint("*")
		s.append("a", "b", "c")
		st, err := s.log.State(s.ctx, acmeStream)
		s.must(err)
		pos, err := s.Position(s.ctx, "acme")
		s.must(err)
		to := pos
		to.Created, to.Incarnation, to.Seq = st.Created, 1, 2
		s.must(s.MoveCursor(s.ctx, "acme", fanout.Move{From: pos, To: to, Skip: true}))
		if fresh := s.walkOn(); len(fresh) != 1 {
			s.Errorf("made: %+v, want c", fresh)
		}
	},
}

// samePlace compares positions but for the location of their times.
func samePlace(a, b cursor.Position) bool {
	return a.Incarnation == b.Incarnation && a.Seq == b.Seq && a.Created.Equal(b.Created) && a.Anchor.Equal(b.Anchor) && a.Hash == b.Hash
}
