package sqlite

import (
	"fmt"
	"math"
	"slices"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// leftAlone stands for the number of an event that a plan has read again and of
// which nothing is made.
const leftAlone = -1

// readAgain decides what is still to be made of a plan that was read again: see
// [fanout.Books]. It takes records out of the books that the plan replaces, and
// returns the plan without what is in the books already.
func (t *txn) readAgain(o *orgState, p fanout.Plan, known []earlier) (fanout.Plan, []earlier, error) {
	incarnation, all := int64(p.To.Incarnation), span{int64(p.From.Seq) + 1, int64(p.To.Seq)}
	complete, err := t.completeIn(o, incarnation)
	if err != nil {
		return p, nil, err
	}
	skipped, err := t.skipped(o, incarnation, all)
	if err != nil {
		return p, nil, err
	}
	gated, err := t.spans("gated", o, incarnation, all)
	if err != nil {
		return p, nil, err
	}
	rejected, err := t.rejectedIn(o, incarnation, all)
	if err != nil {
		return p, nil, err
	}
	known = append(make([]earlier, 0, len(p.Events)), known...)[:len(p.Events)]
	for i := range p.Events {
		seq, k := int64(p.Events[i].Seq), &known[i]
		wasGated, wasRejected := within(gated, seq), rejected[seq]
		switch {
		case k.event != 0 && !k.same:
			continue // a duplicate: its record stays
		case seq <= complete && !wasGated && !wasRejected && !within(skipped, seq):
			k.event, k.same = leftAlone, false
			continue
		}
		if wasGated {
			if err := t.cutSpan("gated", o, incarnation, span{seq, seq}); err != nil {
				return p, nil, err
			}
		}
		if wasRejected {
			if _, err := t.c.exec("DELETE FROM rejected WHERE org=? AND incarnation=? AND seq=?", o.row, incarnation, seq); err != nil {
				return p, nil, err
			}
		}
		if wasGated || wasRejected {
			if _, err := t.c.exec("UPDATE cursors SET gated=gated-?, rejected=rejected-? WHERE org=?", wasGated, wasRejected && !wasGated, o.row); err != nil {
				return p, nil, err
			}
		}
	}
	var newlyRejected []fanout.Rejected
	for _, r := range p.Rejected {
		if within(skipped, int64(r.Seq)) {
			newlyRejected = append(newlyRejected, r)
		}
	}
	var newlyGated []stream.Seq
	for _, seq := range p.Gated {
		if within(skipped, int64(seq)) {
			newlyGated = append(newlyGated, seq)
		}
	}
	for _, g := range p.Gaps {
		all.from = max(all.from, int64(g.To)+1) // what is gone by now stays skipped
	}
	if err := t.unskip(o, incarnation, all, skipped); err != nil {
		return p, nil, err
	}
	p.Rejected, p.Gated, p.Gaps, p.Unmatched, p.Duplicates = newlyRejected, newlyGated, nil, 0, 0
	return p, known, nil
}

// completeIn is the sequence of the incarnation up to which rows may be gone by
// right.
func (t *txn) completeIn(o *orgState, incarnation int64) (int64, error) {
	r := make(row, 1)
	_, err := t.c.one(r, "SELECT iif(complete_incarnation=?, complete, 0) FROM cursors WHERE org=?", incarnation, o.row)
	if err != nil {
		return 0, err
	}
	return r.int(0), nil
}

// within reports whether one of the spans, which ascend, has the sequence.
func within(spans []span, seq int64) bool {
	_, ok := slices.BinarySearchFunc(spans, seq, func(s span, seq int64) int {
		switch {
		case s.to < seq:
			return -1
		case s.from > seq:
			return 1
		}
		return 0
	})
	return ok
}

func (t *txn) rejectedIn(o *orgState, incarnation int64, in span) (map[int64]bool, error) {
	found := make(map[int64]bool)
	err := t.c.query(func(r row) error {
		found[r.int(0)] = true
		return nil
	}, "SELECT seq FROM rejected WHERE org=? AND incarnation=? AND seq BETWEEN ? AND ?", o.row, incarnation, in.from, in.to)
	return found, err
}

// skipped reads the ranges that the cursor was moved over and that overlap with
// the span, ascending.
func (t *txn) skipped(o *orgState, incarnation int64, in span) (found []span, err error) {
	err = t.c.query(func(r row) error {
		found = append(found, span{r.int(0), r.int(1)})
		return nil
	}, "SELECT from_seq, to_seq FROM gaps WHERE org=? AND incarnation=? AND from_seq<=? AND to_seq>=? AND skipped ORDER BY from_seq",
		o.row, incarnation, in.to, in.from)
	return found, err
}

// skip records that the cursor was moved over a range that was never read.
func (t *txn) skip(o *orgState, x fanout.Exception) error {
	s := span{int64(x.From), int64(x.To)}
	_, err := t.c.exec("INSERT INTO gaps(org, incarnation, from_seq, to_seq, at, skipped) VALUES(?,?,?,?,?,1)",
		o.row, int64(x.Incarnation), s.from, s.to, toMillis(t.now))
	if err == nil {
		_, err = t.c.exec("UPDATE cursors SET gaps=gaps+1, gap_events=gap_events+? WHERE org=?", s.to-s.from+1, o.row)
	}
	if err == nil {
		err = t.announceGap(o, cursorGap{Incarnation: int64(x.Incarnation), From: s.from, To: s.to, Count: s.to - s.from + 1, Reason: gapSkipped})
	}
	if err != nil {
		return fmt.Errorf("record what is skipped: %w", err)
	}
	return nil
}

// unskip takes a range, now that it was read, out of what is recorded as skipped.
func (t *txn) unskip(o *orgState, incarnation int64, in span, skipped []span) error {
	var ranges, events int64
	for _, s := range skipped {
		cut := span{max(s.from, in.from), min(s.to, in.to)}
		if cut.from > cut.to {
			continue
		}
		events -= cut.to - cut.from + 1
		ranges--
		if s.from < cut.from {
			ranges++
		}
		if s.to > cut.to {
			ranges++
		}
		if err := t.cutSpan("gaps", o, incarnation, cut); err != nil {
			return err
		}
	}
	if ranges == 0 && events == 0 {
		return nil
	}
	_, err := t.c.exec("UPDATE cursors SET gaps=gaps+?, gap_events=gap_events+? WHERE org=?", ranges, events, o.row)
	return err
}

// cutSpan takes a range out of the one row of the table, gaps or gated, that has
// it.
func (t *txn) cutSpan(table string, o *orgState, incarnation int64, cut span) error {
	columns := "org, incarnation, from_seq, to_seq"
	others := ""
	if table == "gaps" {
		others = ", at, skipped"
	}
	const here = " WHERE org=? AND incarnation=? AND from_seq<=? AND to_seq>=?"
	// What is left behind the range, then what is left before it.
	_, err := t.c.exec("INSERT INTO "+table+"("+columns+others+") SELECT org, incarnation, ?, to_seq"+others+" FROM "+table+here+" AND to_seq>?",
		cut.to+1, o.row, incarnation, cut.from, cut.to, cut.to)
	if err == nil {
		_, err = t.c.exec("UPDATE "+table+" SET to_seq=?"+here+" AND from_seq<?", cut.from-1, o.row, incarnation, cut.from, cut.to, cut.from)
	}
	if err == nil {
		_, err = t.c.exec("DELETE FROM "+table+" WHERE org=? AND incarnation=? AND from_seq=? AND to_seq BETWEEN ? AND ?",
			o.row, incarnation, cut.from, cut.to, int64(math.MaxInt64))
	}
	if err != nil {
		return fmt.Errorf("cut a range out of %s: %w", table, err)
	}
	return nil
}

// removedOf are the endpoints of the org that were removed, nil for a plan that
// cannot have any.
func (t *txn) removedOf(o *orgState, p fanout.Plan) (map[int64]bool, error) {
	if !p.Again {
		return nil, nil
	}
	gone := make(map[int64]bool)
	err := t.c.query(func(r row) error {
		gone[r.int(0)] = true
		return nil
	}, "SELECT id FROM endpoints WHERE org=? AND removed_at IS NOT NULL", o.row)
	return gone, err
}

// insertCancelled books deliveries that are cancelled at once, such as to endpoints
// that were removed meanwhile: they were subscribed, so there is a row, and nothing is
// sent. Pairs that exist stay.
func (t *txn) insertCancelled(o *orgState, event int64, why deliver.Reason, endpoints []int64) error {
	for _, endpoint := range endpoints {
		_, err := t.c.exec("INSERT OR IGNORE INTO deliveries(event, endpoint, org, state, reason, due, attempts, spent, trigger) VALUES(?,?,?,?,?,0,0,0,0)",
			event, endpoint, o.row, int64(deliver.Cancelled), int64(why))
		if err != nil {
			return err
		}
	}
	return nil
}

// parted splits the endpoints into those that are there and those that were removed.
func parted(endpoints []int64, removed map[int64]bool) (there, gone []int64) {
	if len(removed) == 0 || !slices.ContainsFunc(endpoints, func(row int64) bool { return removed[row] }) {
		return endpoints, nil
	}
	for _, row := range endpoints {
		if removed[row] {
			gone = append(gone, row)
		} else {
			there = append(there, row)
		}
	}
	return there, gone
}
