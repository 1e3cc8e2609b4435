package sqlite

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// Missing, as the state of a [ReplayFilter], stands for the events that the
// endpoint never had, although it would get them if they came now. Such a replay
// walks the stream, from the first sequence of which nothing was removed by
// retention up to the position at its start.
//
// What it fills in becomes part of the endpoint's subscriptions: a closed span that
// ends where the replay has come to, so that whoever proves the books
// knows why the deliveries are there, and misses those that are not.
const Missing deliver.State = -1

// Next is the sequence that [Store.FillReplay] wants next, and the last one.
func (r *Replay) Next() (next, last stream.Seq) { return stream.Seq(r.place) + 1, stream.Seq(r.last) }

// fill is what a stretch of the stream has for a replay.
type fill struct {
	plan  fanout.Plan
	known []earlier
	types []string // that were looked for
	from  int64    // the sequence after which the filter's time begins; -1: not yet
	upTo  int64    // looked at up to here
	done  bool     // the filter's time is over
}

// FillReplay carries a replay of what is [Missing] on: events are those from
// [Replay.Next] up to a sequence, as the stream holds them. It makes at most n
// deliveries, and looks at no more events than that takes.
func (s *Store) FillReplay(ctx context.Context, r Replay, events []stream.Event, upTo stream.Seq, n int) (Replay, error) {
	o, err := s.find(r.Org)
	if err != nil {
		return r, err
	}
	o.commit.Lock()
	defer o.commit.Unlock()
	for {
		err := s.fill(ctx, o, r, events, upTo, n)
		switch {
		case errors.Is(err, errForgotten):
			continue
		case err != nil:
			return r, fmt.Errorf("fill of replay %s: %w", r.ID, err)
		}
		return s.GetReplay(ctx, r.Org, r.ID)
	}
}

func (s *Store) fill(ctx context.Context, o *orgState, r Replay, events []stream.Event, upTo stream.Seq, n int) error {
	e, err := s.GetEndpoint(ctx, r.Org, r.Endpoint)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	filter := r.ReplayFilter
	if r.span != 0 {
		filter.Since = time.Time{} // has passed, whatever clocks say
	}
	f, err := s.lacking(ctx, o, e, filter, events, int64(upTo), n, map[stream.ID]bool{})
	if err != nil {
		return err
	}
	return s.w.do(ctx, func(t *txn) error { return t.fill(o, r, e, f) })
}

// lacking finds the first n of the events that the endpoint would get and never
// had. seen are those that were looked at before.
func (s *Store) lacking(ctx context.Context, o *orgState, e deliver.Endpoint, filter ReplayFilter, events []stream.Event, upTo int64, n int, seen map[stream.ID]bool) (fill, error) {
	f := fill{types: narrowed(e.EventTypes, filter.Types), from: -1, upTo: upTo}
	pos, err := s.Position(ctx, o.org.ID)
	if err != nil {
		return f, err
	}
	set, err := s.Subscriptions(ctx, o.org.ID)
	if err != nil {
		return f, err
	}
	f.plan = fanout.Plan{Org: o.org.ID, From: pos, To: pos, Version: set.Version()}
	to := []int64{e.Row}
	condition := s.filters.Get(e.Filter)
	for _, ev := range events {
		stored := toMillis(ev.Stored) // as precise as the books are about events
		if f.from < 0 && stored < toMillis(filter.Since) {
			continue
		}
		if !filter.Until.IsZero() && stored >= toMillis(filter.Until) {
			f.upTo, f.done = int64(ev.Seq)-1, true
			break
		}
		if f.from < 0 {
			f.from = int64(ev.Seq) - 1
		}
		matches := func(p string) bool { return fanout.MatchType(p, ev.Type) }
		if !slices.ContainsFunc(f.types, matches) || e.Workspace != "" && e.Workspace != ev.Workspace {
			continue
		}
		if ok, _ := condition.Match(&ev); !ok {
			continue
		}
		f.plan.Events = append(f.plan.Events, fanout.Planned{Event: ev, Endpoints: to})
	}
	known, err := s.known(o, f.plan)
	if err != nil {
		return f, err
	}
	all := f.plan.Events
	f.plan.Events = nil
	for i, ev := range all {
		var k earlier
		if known != nil {
			k = known[i]
		}
		if k.event != 0 {
			had, err := s.column("SELECT 1 FROM deliveries WHERE event=? AND endpoint=? AND org=?", k.event, e.Row, o.row)
			if err != nil {
				return f, err
			}
			if !k.same || len(had) > 0 {
				continue // a duplicate, or it had it
			}
		} else if seen[ev.ID] {
			continue // a duplicate of one that is made
		}
		if len(f.plan.Events) == n {
			f.upTo, f.done = int64(ev.Seq)-1, false
			break
		}
		seen[ev.ID] = true
		f.plan.Events, f.known = append(f.plan.Events, ev), append(f.known, k)
	}
	return f, nil
}

// narrowed are the patterns that match what both lists match; of an empty second
// list everything.
func narrowed(a, b []string) []string {
	if len(b) == 0 {
		return slices.Clone(a)
	}
	covers := func(p, q string) bool {
		stem, wild := strings.CutSuffix(p, "*")
		narrow := strings.TrimSuffix(q, "*")
		return p == q || wild && strings.HasPrefix(narrow, stem) && (stem != "" || !stream.Operational(narrow))
	}
	var both []string
	for _, p := range a {
		for _, q := range b {
			switch {
			case covers(p, q):
				both = append(both, q)
			case covers(q, p):
				both = append(both, p)
			}
		}
	}
	slices.Sort(both)
	return slices.Compact(both)
}

// allowed takes out of the fill what has a reason not to be made: a record as
// gated, rejected or skipped, or that retention may have removed it.
func (t *txn) allowed(o *orgState, f fill) (_ fill, skipped int64, err error) {
	if len(f.plan.Events) == 0 {
		return f, 0, nil
	}
	incarnation := int64(f.plan.To.Incarnation)
	in := span{int64(f.plan.Events[0].Seq), int64(f.plan.Events[len(f.plan.Events)-1].Seq)}
	complete, err := t.completeIn(o, incarnation)
	if err != nil {
		return f, 0, err
	}
	over, err := t.skipped(o, incarnation, in)
	if err != nil {
		return f, 0, err
	}
	gated, err := t.spans("gated", o, incarnation, in)
	if err != nil {
		return f, 0, err
	}
	rejected, err := t.rejectedIn(o, incarnation, in)
	if err != nil {
		return f, 0, err
	}
	all, known := f.plan.Events, f.known
	f.plan.Events, f.known = nil, nil
	for i, ev := range all {
		seq := int64(ev.Seq)
		if seq <= complete || within(over, seq) || within(gated, seq) || rejected[seq] {
			skipped++
			continue
		}
		f.plan.Events, f.known = append(f.plan.Events, ev), append(f.known, known[i])
	}
	return f, skipped, nil
}

// fill makes the deliveries, and moves the place of the replay and the end of its
// span.
func (t *txn) fill(o *orgState, r Replay, e deliver.Endpoint, f fill) error {
	t.s.o.Failpoint("replay.step")
	if on, err := t.goesOn(o, r); err != nil || !on {
		return err
	}
	if int64(f.plan.To.Incarnation) != r.incarnation {
		return t.endReplay(o, r, "the stream was made anew, or rolled back")
	}
	f, skipped, err := t.allowed(o, f)
	if err != nil {
		return err
	}
	n := progress{ReplayCounts: ReplayCounts{Withheld: skipped}}
	if len(f.plan.Events) > 0 {
		written, err := t.commit(o, f.plan, f.known)
		if err != nil {
			return err
		}
		for i, w := range written {
			for _, endpoint := range w.Endpoints {
				// Behind what is live, as everything that is sent again.
				if _, err := t.c.exec("UPDATE deliveries SET due=?, trigger=? WHERE event=? AND endpoint=?",
					toMillis(t.now), int64(deliver.Replay), w.Event, endpoint); err != nil {
					return err
				}
				n.replayed(w.Event, f.plan.Events[i].Type)
			}
		}
	}
	n.Matched = n.Replayed + n.Withheld
	if err := t.extend(o, r, e, f); err != nil {
		return fmt.Errorf("span: %w", err)
	}
	return t.moveReplay(o, r, f.upTo, f.done, n)
}

// extend makes the span of what was filled in end at f.upTo. It is another one
// when the endpoint wants something else by now.
func (t *txn) extend(o *orgState, r Replay, e deliver.Endpoint, f fill) error {
	if f.from < 0 || f.upTo <= f.from || len(f.types) == 0 {
		return nil
	}
	n, err := t.c.exec(`UPDATE subscriptions SET until_seq=? WHERE id=(SELECT span FROM replays WHERE ulid=? AND org=?) AND types=? AND workspace=? AND filter=?`,
		f.upTo, r.ID, o.row, jsonList(f.types), e.Workspace, e.Filter)
	if err != nil || n > 0 {
		return err
	}
	if _, err := t.c.exec("INSERT INTO subscriptions(org, endpoint, types, workspace, filter, incarnation, from_seq, until_incarnation, until_seq) VALUES(?1,?2,?3,?4,?8,?5,?6,?5,?7)",
		o.row, e.Row, jsonList(f.types), e.Workspace, r.incarnation, f.from, f.upTo, e.Filter); err != nil {
		return err
	}
	_, err = t.c.exec("UPDATE replays SET span=last_insert_rowid() WHERE ulid=? AND org=?", r.ID, o.row)
	return err
}

// MissingCount counts what a replay of what is [Missing] would do, batch by batch.
// Its zero value has counted nothing.
type MissingCount struct {
	ReplayCounts
	Over bool // the filter's time is

	seen map[stream.ID]bool
}

// maxSeen is how many events with a dedupe key a count remembers, to count one that
// comes again once; it forgets all when there are more.
const maxSeen = 1_000_000

// CountMissing counts on among the next events, as the stream holds them.
func (s *Store) CountMissing(ctx context.Context, org, endpoint string, filter ReplayFilter, events []stream.Event, n *MissingCount) error {
	o, err := s.find(org)
	if err != nil {
		return err
	}
	e, err := s.GetEndpoint(ctx, org, endpoint)
	if err != nil {
		return err
	}
	if n.seen == nil {
		n.seen = make(map[stream.ID]bool)
	}
	f, err := s.lacking(ctx, o, e, filter.stored(), events, 0, len(events)+1, n.seen)
	var made, withheld int64
	if err == nil {
		err = s.w.do(ctx, func(t *txn) error {
			left, skipped, err := t.allowed(o, f)
			made, withheld = int64(len(left.plan.Events)), skipped
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("count what endpoint %s lacks: %w", endpoint, err)
	}
	n.Matched, n.Replayed, n.Withheld, n.Over = n.Matched+made+withheld, n.Replayed+made, n.Withheld+withheld, f.done
	if len(n.seen) > maxSeen {
		clear(n.seen)
	}
	for _, ev := range events {
		if ev.DedupeKey == "" {
			delete(n.seen, ev.ID) // it can never come again
		}
	}
	return nil
}

// MissingFrom is the sequence after which a replay of what is [Missing] begins, and
// the one at which it ends.
func (s *Store) MissingFrom(ctx context.Context, org string) (after, last stream.Seq, err error) {
	o, err := s.find(org)
	if err != nil {
		return 0, 0, err
	}
	err = s.w.do(ctx, func(t *txn) error {
		_, from, to, err := t.missing(o)
		after, last = stream.Seq(from), stream.Seq(to)
		return err
	})
	return after, last, err
}

func (t *txn) missing(o *orgState) (incarnation, after, last int64, err error) {
	r := make(row, 3)
	found, err := t.c.one(r, "SELECT incarnation, iif(complete_incarnation=incarnation, complete, 0), position FROM cursors WHERE org=?", o.row)
	if err == nil && !found {
		err = fanout.ErrNoOrg // removed a moment ago
	}
	return r.int(0), r.int(1), r.int(2), err
}
