package fanouttest

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/sign"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// from adds an endpoint of acme that gets what comes after a sequence.
func (s *suite) from(after stream.Seq, types ...string) deliver.Endpoint {
	s.Helper()
	ep, err := s.AddEndpointFrom(s.ctx, deliver.Endpoint{
		Org: "acme", URL: "https://example.com/hook", EventTypes: types, Secrets: []deliver.Secret{{Secret: sign.NewSecret()}},
		Timeout: deliver.DefaultTimeout, Retry: deliver.DefaultPolicy, Concurrency: deliver.DefaultConcurrency,
	}, after)
	s.must(err)
	return ep
}

// behind is the catch-up of an endpoint.
func (s *suite) behind(ep deliver.Endpoint) (fanout.Catchup, bool) {
	s.Helper()
	all, err := s.Catchups(s.ctx)
	s.must(err)
	for _, c := range all {
		if c.Endpoint == ep.Row {
			return c, true
		}
	}
	return fanout.Catchup{}, false
}

func (s *suite) read() fanout.CatchupRead {
	return fanout.NewCatchupLoop(fanout.CatchupOptions{Books: s.Store, Log: s.log}).Read
}

// step takes one step of an endpoint that is behind.
func (s *suite) step(ep deliver.Endpoint, n int) fanout.CaughtUp {
	s.Helper()
	c, ok := s.behind(ep)
	if !ok {
		s.Fatalf("endpoint %d is not behind", ep.Row)
	}
	got, err := s.CatchUp(s.ctx, c, n, s.read())
	s.must(err)
	return got
}

// catchUp takes steps until the endpoint is not behind any more.
func (s *suite) catchUp(ep deliver.Endpoint) {
	s.Helper()
	for range 100 {
		if s.step(ep, math.MaxInt).Done {
			return
		}
	}
	s.Fatalf("endpoint %d is still behind", ep.Row)
}

// got lists the sequences of which an endpoint has a pending delivery, in the
// order in which they are sent.
func (s *suite) got(ep deliver.Endpoint) (seqs []stream.Seq) {
	s.Helper()
	for _, t := range s.pending(ep.Row) {
		d, _ := s.delivery(t.Key)
		seqs = append(seqs, d.Seq)
	}
	return seqs
}

func upTo(n stream.Seq) (seqs []stream.Seq) {
	for seq := stream.Seq(1); seq <= n; seq++ {
		seqs = append(seqs, seq)
	}
	return seqs
}

var catchupTests = map[string]func(*suite){
	"Catchup/from the beginning, and then as everybody": func(s *suite) {
		other := s.endpoint("b")
		s.append("a k1", "b", "!", "a k1", "b k2", "a")
		s.walk()
		ep := s.from(0, "*")
		if n := len(s.pending(ep.Row)); n != 0 {
			s.Errorf("%d deliveries before a step", n)
		}
		got := s.step(ep, math.MaxInt)
		if !got.Done || got.Made() != 4 {
			s.Errorf("the step made %d deliveries, done %v, want 4 and done", got.Made(), got.Done)
		}
		if _, ok := s.behind(ep); ok {
			s.Error("it is still behind")
		}
		s.append("a", "b k2")
		s.walk()
		seen := map[stream.Seq]int{}
		for _, seq := range s.got(ep) {
			seen[seq]++
		}
		s.equal("sequences", map[stream.Seq]int{1: 1, 2: 1, 5: 1, 6: 1, 7: 1}, seen)
		s.equal("sequences of the other", []stream.Seq{2, 5}, s.got(other))
	},

	// Nobody had the first message of that ID, so its event lies at the second.
	"Catchup/an event that is booked at a later message": func(s *suite) {
		s.append("a k1", "a k2")
		s.walk()
		other := s.endpoint("a")
		s.append("a k1")
		s.walk()
		ep := s.from(0, "*")
		s.catchUp(ep)
		seen := map[stream.Seq]int{}
		for _, seq := range s.got(ep) {
			seen[seq]++
		}
		s.equal("sequences", map[stream.Seq]int{2: 1, 3: 1}, seen)
		s.equal("sequences of the other", []stream.Seq{3}, s.got(other))
	},

	"Catchup/from the middle": func(s *suite) {
		s.append("a", "a", "a", "a")
		s.walk()
		ep := s.from(2, "*")
		s.catchUp(ep)
		s.equal("sequences", []stream.Seq{3, 4}, s.got(ep))
	},

	"Catchup/from where nobody was yet": func(s *suite) {
		s.append("a", "a")
		s.walk()
		s.append("a", "a")
		ep := s.from(3, "*")
		if _, ok := s.behind(ep); ok {
			s.Error("it is behind")
		}
		s.walk()
		s.equal("sequences", []stream.Seq{4}, s.got(ep))
	},

	// A plan that was made before the subscription opened does not know of it.
	"Catchup/plans of before it ended are stale": func(s *suite) {
		s.append("a", "a")
		s.walk()
		ep := s.from(0, "*")
		s.append("a")
		late := s.plan("acme")
		s.catchUp(ep)
		if _, err := s.Commit(s.ctx, late); !errors.Is(err, fanout.ErrStale) {
			s.Errorf("commit of a plan of before: %v, want ErrStale", err)
		}
		s.walk()
		s.equal("sequences", upTo(3), s.got(ep))
	},

	"Catchup/a step that was taken already": func(s *suite) {
		s.append("a", "a")
		s.walk()
		ep := s.from(0, "*")
		c, _ := s.behind(ep)
		s.catchUp(ep)
		if _, err := s.CatchUp(s.ctx, c, 10, s.read()); !errors.Is(err, fanout.ErrMoved) {
			s.Errorf("the same step again: %v, want ErrMoved", err)
		}
		s.equal("sequences", upTo(2), s.got(ep))
	},

	"Catchup/parked by the commit that goes over the limit": func(s *suite) {
		s.SetParkAfter(3)
		ep, quiet := s.endpoint("*"), s.endpoint("b")
		s.append("a", "b", "a")
		s.walk()
		if _, ok := s.behind(ep); ok {
			s.Error("parked at the limit")
		}
		s.append("a", "a")
		s.walk()
		c, ok := s.behind(ep)
		if !ok || c.Reason != fanout.Parked || c.Seq != 5 || c.Incarnation != 1 {
			s.Fatalf("after the limit it is behind: %v, %+v", ok, c)
		}
		s.append("a", "b", "a")
		s.walk()
		s.equal("sequences while it is parked", upTo(5), s.got(ep))
		s.equal("sequences of the other", []stream.Seq{2, 7}, s.got(quiet))
		for _, t := range s.pending(ep.Row) {
			s.book(attempted(t, success, 0))
		}
		s.catchUp(ep)
		s.append("a")
		s.walk()
		seen := map[stream.Seq]int{}
		for _, seq := range s.got(ep) {
			seen[seq]++
		}
		s.equal("sequences after it", map[stream.Seq]int{6: 1, 7: 1, 8: 1, 9: 1}, seen)
	},

	"Catchup/an ordered endpoint is parked later": func(s *suite) {
		s.SetParkAfter(1)
		by := func(o deliver.Options) deliver.Endpoint { return s.endpointWith(o, "acme", "*") }
		plain, ordered, keyed := by(deliver.Options{}), by(deliver.Options{Ordered: true}), by(deliver.Options{OrderedBy: "/data/n"})
		for range 10 {
			s.append("a")
		}
		s.walk()
		for ep, want := range map[*deliver.Endpoint]bool{&plain: true, &ordered: false, &keyed: false} {
			if _, ok := s.behind(*ep); ok != want {
				s.Errorf("with ten pending, %+v is parked: %v", ep.Options, ok)
			}
		}
		s.append("a")
		s.walk()
		for _, ep := range []deliver.Endpoint{ordered, keyed} {
			if _, ok := s.behind(ep); !ok {
				s.Errorf("with eleven pending, %+v is not parked", ep.Options)
			}
		}
	},

	"Catchup/a restart": func(s *suite) {
		s.append("a", "a", "a")
		s.walk()
		ep := s.from(0, "*")
		before, _ := s.behind(ep)
		s.restart()
		after, ok := s.behind(ep)
		if !ok {
			s.Fatal("it is forgotten")
		}
		if !after.Began.Equal(before.Began) || after.Seq != before.Seq || after.Reason != fanout.Backfill || after.Revision != before.Revision {
			s.Errorf("before %+v, after %+v", before, after)
		}
		s.catchUp(ep)
		s.equal("sequences", upTo(3), s.got(ep))
	},

	"Catchup/disabled meanwhile": func(s *suite) {
		s.append("a", "a", "a")
		s.walk()
		ep := s.from(1, "*")
		_, err := s.DisableEndpoint(s.ctx, "acme", ep.ID, "manual")
		s.must(err)
		s.append("a")
		s.walk()
		if c, ok := s.behind(ep); !ok || c.Enabled || c.Seq != 1 {
			s.Errorf("disabled: behind %v, %+v", ok, c)
		}
		_, err = s.EnableEndpoint(s.ctx, "acme", ep.ID)
		s.must(err)
		s.catchUp(ep)
		s.equal("sequences", []stream.Seq{2, 3, 4}, s.got(ep))
	},

	"Catchup/a step for an endpoint that was changed meanwhile": func(s *suite) {
		s.append("a", "a", "a")
		s.walk()
		ep := s.from(0, "*")
		c, _ := s.behind(ep)
		_, err := s.DisableEndpoint(s.ctx, "acme", ep.ID, "manual")
		s.must(err)
		if _, err := s.CatchUp(s.ctx, c, 10, s.read()); !errors.Is(err, fanout.ErrStale) {
			s.Errorf("a step that was meant for it as it was: %v, want ErrStale", err)
		}
		s.equal("sequences", []stream.Seq(nil), s.got(ep))
	},

	"Catchup/removed meanwhile": func(s *suite) {
		s.append("a", "a")
		s.walk()
		ep := s.from(0, "*")
		c, _ := s.behind(ep)
		s.must(s.RemoveEndpoint(s.ctx, "acme", ep.ID))
		if _, ok := s.behind(ep); ok {
			s.Error("it is still behind")
		}
		if _, err := s.CatchUp(s.ctx, c, 10, s.read()); !errors.Is(err, fanout.ErrMoved) {
			s.Errorf("a step for it: %v, want ErrMoved", err)
		}
	},

	"Catchup/what the stream has lost": func(s *suite) {
		s.append("a", "a", "a", "a", "a")
		s.walk()
		ep := s.from(1, "*")
		s.log.PurgeTo(acmeStream, 4)
		got := s.step(ep, math.MaxInt)
		if !got.Done || got.Made() != 2 {
			s.Errorf("the step made %d, done %v", got.Made(), got.Done)
		}
		s.equal("sequences", []stream.Seq{4, 5}, s.got(ep))
	},

	"Catchup/all is lost": func(s *suite) {
		s.append("a", "a", "a")
		s.walk()
		ep := s.from(0, "*")
		s.log.PurgeTo(acmeStream, 4)
		s.catchUp(ep)
		s.append("a")
		s.walk()
		s.equal("sequences", []stream.Seq{4}, s.got(ep))
	},

	"Catchup/messages that were deleted by themselves are not lost": func(s *suite) {
		s.append("a", "a", "a", "a")
		s.walk()
		ep := s.from(0, "*")
		s.log.DeleteMessage(acmeStream, 2)
		s.log.DeleteMessage(acmeStream, 4)
		s.catchUp(ep)
		s.equal("sequences", []stream.Seq{1, 3}, s.got(ep))
	},

	"Catchup/the stream is made anew": func(s *suite) {
		s.append("a", "a", "a")
		s.walk()
		ep := s.from(1, "*")
		s.log.Delete(acmeStream)
		s.log.Create(acmeStream)
		s.append("a", "a")
		if _, err := s.CatchUp(s.ctx, s.mustBehind(ep), 10, s.read()); err == nil {
			s.Error("a step along a stream that nobody has noticed")
		}
		s.walk()
		c := s.mustBehind(ep)
		if c.Incarnation != 2 || c.Seq != 0 || c.Lost != 2 {
			s.Errorf("it is at %d.%d, and %d are lost; want 2.0 and 2", c.Incarnation, c.Seq, c.Lost)
		}
		s.catchUp(ep)
		s.append("a")
		s.walk()
		s.equal("sequences", upTo(3), s.got(ep))
	},

	"Catchup/the cursor is read again meanwhile": func(s *suite) {
		other := s.endpoint("*")
		s.append("a", "a", "a", "a")
		s.walk()
		ep := s.from(1, "*")
		pos, err := s.Position(s.ctx, "acme")
		s.must(err)
		back := pos
		back.Seq = 0
		s.must(s.MoveCursor(s.ctx, "acme", fanout.Move{From: pos, To: back, Reason: "a test"}))
		s.catchUp(ep)
		s.walk()
		s.append("a")
		s.walk()
		s.equal("sequences", []stream.Seq{2, 3, 4, 5}, s.got(ep))
		s.equal("sequences of the other", upTo(5), s.got(other))
	},

	"Catchup/what was skipped, and then was not": func(s *suite) {
		s.append("a", "a")
		s.walk()
		ep := s.from(0, "*")
		s.append("a", "a")
		pos, err := s.Position(s.ctx, "acme")
		s.must(err)
		to := pos
		to.Seq, to.Anchor, to.Hash = 4, time.Time{}, 0
		s.must(s.MoveCursor(s.ctx, "acme", fanout.Move{From: pos, To: to, Skip: true, Reason: "a test"}))
		s.catchUp(ep)
		s.equal("sequences", upTo(2), s.got(ep))
		s.must(s.MoveCursor(s.ctx, "acme", fanout.Move{From: to, To: pos, Reason: "a test"}))
		s.walk()
		s.equal("sequences after it was read", upTo(4), s.got(ep))
	},

	"Catchup/in small steps": func(s *suite) {
		var lines []string
		for i := range 3000 {
			lines = append(lines, fmt.Sprint("a k", i))
		}
		s.append(lines...)
		s.walk()
		ep := s.from(0, "*")
		if got := s.step(ep, 7); got.Done || got.Made() != 7 || got.Seq != 7 {
			s.Errorf("a step of 7 made %d, up to %d, done %v", got.Made(), got.Seq, got.Done)
		}
		for {
			if got := s.step(ep, 1000); got.Done {
				break
			}
		}
		s.equal("sequences", upTo(3000), s.got(ep))
	},

	"Catchup/what somebody has seen of its stream": func(s *suite) {
		s.append("a", "a")
		s.walk()
		ep := s.from(0, "*")
		c := s.mustBehind(ep)
		c.First, c.AtRisk = 1, true
		s.must(s.WatchCatchup(s.ctx, c))
		if is := s.mustBehind(ep); is.First != 1 || !is.AtRisk {
			s.Errorf("%+v", is)
		}
		s.catchUp(ep)
		if err := s.WatchCatchup(s.ctx, c); !errors.Is(err, fanout.ErrMoved) {
			s.Errorf("after its end: %v, want ErrMoved", err)
		}
	},
}

func (s *suite) mustBehind(ep deliver.Endpoint) fanout.Catchup {
	s.Helper()
	c, ok := s.behind(ep)
	if !ok {
		s.Fatalf("endpoint %d is not behind", ep.Row)
	}
	return c
}
