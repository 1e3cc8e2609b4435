package fanouttest

import (
	"errors"

	"github.com/grapnel-hooks/grapnel/fanout"
)

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
}
