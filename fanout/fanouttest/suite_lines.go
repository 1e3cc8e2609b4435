package fanouttest

import (
	"fmt"
	"slices"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
)

// heldBack is the record of a delivery that waits in its line.
func heldBack(t deliver.Ticket, l deliver.Line) deliver.Record {
	return deliver.Record{
		Key: t.Key, Held: true, Line: l,
		Attempt: deliver.Attempt{Number: t.Attempts, Trigger: t.Trigger, Outcome: deliver.Outcome{Class: deliver.Ours}},
		Next:    deliver.Transition{State: deliver.Pending, Due: time.UnixMilli(deliver.HeldBack), Spent: t.Spent},
	}
}

// standing is the record, of a delivery that stands in the line.
func standing(r deliver.Record, l deliver.Line) deliver.Record {
	r.Line = l
	return r
}

// line lists the events that stand in a line of the endpoint, from one on.
func (s *suite) line(row int64, l deliver.Line, from int64, limit int) []int64 {
	s.Helper()
	ts, err := s.Line(s.ctx, row, l, from, limit)
	s.must(err)
	var events []int64
	for _, t := range ts {
		events = append(events, t.Event)
	}
	return events
}

func (s *suite) heads(row int64, limit int) []deliver.LineHead {
	s.Helper()
	heads, err := s.Lines(s.ctx, row, limit)
	s.must(err)
	return heads
}

var lineTests = map[string]func(*suite){
	"Lines/held back, and sent": func(s *suite) {
		ep, other := s.endpoint("*"), s.endpoint("*")
		ts := s.fresh(ep, "a", "b", "c", "d")
		red := deliver.Line{Rule: 1, Key: -7}
		s.book(standing(attempted(ts[0], failure, time.Minute), red), heldBack(ts[1], red), heldBack(ts[2], red))
		for _, when := range []string{"booked", "opened again"} {
			s.equal(when+": the line", []int64{ts[0].Event, ts[1].Event, ts[2].Event}, s.line(ep.Row, red, 0, 10))
			s.equal(when+": from the second on", []int64{ts[1].Event, ts[2].Event}, s.line(ep.Row, red, ts[1].Event, 10))
			s.equal(when+": one", []int64{ts[0].Event}, s.line(ep.Row, red, 0, 1))
			s.equal(when+": of another endpoint", []int64(nil), s.line(other.Row, red, 0, 10))
			s.equal(when+": another line", []int64(nil), s.line(ep.Row, deliver.Line{Rule: 1, Key: 7}, 0, 10))
			s.equal(when+": of another rule", []int64(nil), s.line(ep.Row, deliver.Line{Rule: 2, Key: -7}, 0, 10))
			s.equal(when+": heads", []deliver.LineHead{{Place: deliver.Place{Due: ms(time.Minute), Event: ts[0].Event}, Line: red}}, s.heads(ep.Row, 10))
			s.restart()
		}
		// They keep what they were, and are due at no time.
		held, err := s.Line(s.ctx, ep.Row, red, ts[1].Event, 1)
		s.must(err)
		want := ts[1]
		want.Due = deliver.HeldBack
		s.equal("ticket", []deliver.Ticket{want}, held)
		if got := s.state(ts[1].Key); got != "pending 0" {
			s.Errorf("one that is held back is %s", got)
		}
		if d, _ := s.delivery(ts[1].Key); !d.Due.IsZero() {
			s.Errorf("one that is held back is shown as due at %v", d.Due)
		}
		s.equal("fresh", ts[3:], s.pendingUpTo(ep.Row, 0))

		retried, err := s.Line(s.ctx, ep.Row, red, 0, 1)
		s.must(err)
		s.book(standing(attempted(retried[0], success, 0), red), standing(attempted(held[0], success, 0), red))
		s.equal("the rest", []int64{ts[2].Event}, s.line(ep.Row, red, 0, 10))
		for i, want := range []string{"delivered 2", "delivered 1", "pending 0", "pending 0"} {
			if got := s.state(ts[i].Key); got != want {
				s.Errorf("delivery %d is %s, want %s", i, got, want)
			}
		}
	},

	"Lines/several, those whose first is held back first": func(s *suite) {
		ep := s.endpoint("*")
		ts := s.fresh(ep, "a", "b", "c", "d", "e")
		line := func(key int64) deliver.Line { return deliver.Line{Rule: 9, Key: key} }
		s.book(
			standing(attempted(ts[0], failure, time.Minute), line(1)), heldBack(ts[1], line(1)),
			heldBack(ts[2], line(3)), heldBack(ts[4], line(3)),
			standing(attempted(ts[3], failure, time.Second), line(2)),
		)
		want := []deliver.LineHead{
			{Place: deliver.Place{Due: deliver.HeldBack, Event: ts[2].Event}, Line: line(3)},
			{Place: deliver.Place{Due: ms(time.Minute), Event: ts[0].Event}, Line: line(1)},
			{Place: deliver.Place{Due: ms(time.Second), Event: ts[3].Event}, Line: line(2)},
		}
		s.equal("heads", want, s.heads(ep.Row, 10))
		s.equal("at most two", want[:2], s.heads(ep.Row, 2))
		lined, err := s.Lined(s.ctx)
		s.must(err)
		s.equal("rules", map[int64][]int64{ep.Row: {9}}, lined)
	},

	"Lines/what is not pending stands in none": func(s *suite) {
		ep := s.endpoint("*")
		ts := s.fresh(ep, "a", "b", "c", "d")
		red := deliver.Line{Rule: 1, Key: 1}
		for _, t := range ts {
			s.book(heldBack(t, red))
		}
		s.must(s.CancelDelivery(s.ctx, "acme", ts[0].Key))
		s.book(heldBack(ts[0], red)) // taken before it was cancelled
		if got := s.state(ts[0].Key); got != "cancelled 0 manual" {
			s.Errorf("the cancelled one is %s", got)
		}
		s.equal("one was cancelled", []int64{ts[1].Event, ts[2].Event, ts[3].Event}, s.line(ep.Row, red, 0, 10))
		s.book(standing(died(ts[1]), red))
		s.equal("one died", []int64{ts[2].Event, ts[3].Event}, s.line(ep.Row, red, 0, 10))
		again, err := s.RetryDelivery(s.ctx, "acme", ts[3].Key)
		s.must(err)
		if again.Due == deliver.HeldBack {
			s.Error("one that was retried by hand is not due")
		}
		s.equal("it keeps its place", []int64{ts[2].Event, ts[3].Event}, s.line(ep.Row, red, 0, 10))
		s.must(s.RemoveEndpoint(s.ctx, "acme", ep.ID))
		s.equal("the endpoint was removed", []int64(nil), s.line(ep.Row, red, 0, 10))
		s.equal("heads", []deliver.LineHead(nil), s.heads(ep.Row, 10))
	},

	// An attempt that began before the delivery was held back by a later process.
	"Lines/what had another attempt meanwhile is not held back": func(s *suite) {
		ep := s.endpoint("*")
		t := s.fresh(ep, "a")[0]
		s.book(attempted(t, failure, time.Minute), heldBack(t, deliver.Line{Rule: 1}))
		if due := s.pending(ep.Row)[0].Due; due != ms(time.Minute) {
			s.Errorf("due at %d", due)
		}
	},

	"Lines/left": func(s *suite) {
		ep, other := s.endpoint("*"), s.endpoint("*")
		ts := s.fresh(ep, "a", "b", "c", "d", "e")
		theirs := s.pending(other.Row)
		old, kept := deliver.Line{Rule: 5, Key: 1}, deliver.Line{Rule: 6, Key: 1}
		s.book(standing(attempted(ts[0], failure, time.Minute), old), heldBack(ts[1], old), heldBack(ts[2], old),
			heldBack(ts[3], kept), heldBack(theirs[0], old))
		left := 0
		for more := true; more; left++ {
			var err error
			more, err = s.LeaveLines(s.ctx, ep.Row, kept.Rule, ms(time.Second), 2)
			s.must(err)
		}
		if left != 2 {
			s.Errorf("three left in %d steps of two, want 2", left)
		}
		s.equal("old line", []int64(nil), s.line(ep.Row, old, 0, 10))
		s.equal("kept line", []int64{ts[3].Event}, s.line(ep.Row, kept, 0, 10))
		s.equal("the other endpoint's", []int64{theirs[0].Event}, s.line(other.Row, old, 0, 10))
		var dues []int64
		for _, t := range s.pending(ep.Row) {
			dues = append(dues, t.Due)
		}
		slices.Sort(dues)
		s.equal("dues", []int64{0, ms(time.Second), ms(time.Second), ms(time.Minute), deliver.HeldBack}, dues)
	},

	// Those that were held back have had no attempt: the first one delivers them.
	"Lines/what left is delivered, and due no more": func(s *suite) {
		ep := s.endpoint("*")
		lines := make([]string, 100) // more than a store may write at once
		for i := range lines {
			lines[i] = fmt.Sprint("e", i)
		}
		var rs []deliver.Record
		for _, t := range s.fresh(ep, lines...) {
			rs = append(rs, heldBack(t, deliver.Line{Rule: 5}))
		}
		s.book(rs...)
		_, err := s.LeaveLines(s.ctx, ep.Row, 0, ms(time.Second), 1000)
		s.must(err)
		rs = nil
		for _, t := range s.pending(ep.Row) {
			rs = append(rs, attempted(t, success, 0))
		}
		s.book(rs...)
		s.check("acme")
		for _, r := range rs {
			if d, _ := s.delivery(r.Key); d.State != deliver.Delivered || !d.Due.IsZero() {
				s.Fatalf("event %d is %s, due at %v", r.Event, d.State, d.Due)
			}
		}
	},
}

// pendingUpTo lists the endpoint's pending deliveries that are due at that time.
func (s *suite) pendingUpTo(row, due int64) []deliver.Ticket {
	s.Helper()
	ts, err := s.Pending(s.ctx, deliver.Place{}, deliver.Place{Due: due, Event: 1 << 60}, []int64{row}, 10_000)
	s.must(err)
	return ts
}
