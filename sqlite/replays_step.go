package sqlite

import (
	"context"
	"errors"
	"fmt"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/stream"
)

// Readable is what can be read of an org's stream now: from First on, in that
// incarnation.
type Readable struct {
	Incarnation int
	First       stream.Seq
}

// StepReplay carries a running replay on: it looks for what matches during
// some 20 ms and makes at most n deliveries due now, with a fresh budget of
// attempts. n is 1 to 250, so that the writer is not kept for long. It returns
// the replay as it is then; one that does not run stays as it is.
func (s *Store) StepReplay(ctx context.Context, r Replay, readable Readable, n int) (Replay, error) {
	o, err := s.find(r.Org)
	if err != nil {
		return r, err
	}
	w := s.replayWalk(o, r.Row, r.ReplayFilter, r.incarnation, readable, min(max(n, 1), MaxPage))
	found, upTo, err := w.look(ctx, r.place, r.last)
	if err == nil {
		err = s.w.do(ctx, func(t *txn) error { return t.stepReplay(o, r, found, upTo) })
	}
	if err != nil {
		return r, fmt.Errorf("step of replay %s: %w", r.ID, err)
	}
	return s.GetReplay(ctx, r.Org, r.ID)
}

// stepReplay makes what was found pending and moves the place of the replay,
// unless somebody has moved or stopped it meanwhile.
func (t *txn) stepReplay(o *orgState, r Replay, found []match, upTo int64) error {
	t.s.o.Failpoint("replay.step")
	if on, err := t.goesOn(o, r); err != nil || !on {
		return err
	}
	p := progress{ReplayCounts: ReplayCounts{Matched: int64(len(found))}}
	for _, m := range found {
		d, err := t.delivery(o, deliver.Key{Event: m.event, Endpoint: r.Row})
		switch {
		case errors.Is(err, ErrNotFound):
			p.Removed++
			continue
		case err != nil:
			return err
		case !r.wantsState(d.state):
			p.Changed++
			continue
		case m.lost:
			p.Lost++
			continue
		}
		switch _, err := t.again(d, deliver.Replay); {
		case errors.Is(err, errExpunged):
			p.Lost++
			continue
		case err != nil:
			return err
		}
		p.replayed(m.event, m.typ)
	}
	t.rows += p.Replayed
	return t.moveReplay(o, r, upTo, false, p)
}

// goesOn reports whether the replay still runs and nobody has moved its place.
// That of an endpoint that was removed ends here.
func (t *txn) goesOn(o *orgState, r Replay) (bool, error) {
	now := make(row, 3)
	ok, err := t.c.one(now, `SELECT r.state, r.place, p.removed_at IS NOT NULL FROM replays r JOIN endpoints p ON p.id=r.endpoint
		WHERE r.ulid=? AND r.org=?`, r.ID, o.row)
	if err != nil || !ok || ReplayState(now.int(0)) != ReplayRunning || now.int(1) != r.place {
		return false, err
	}
	if removed := now.int(2) == 1; removed {
		return false, t.endReplay(o, r, "its endpoint was removed")
	}
	return true, nil
}

// endReplay cancels a replay that cannot go on.
func (t *txn) endReplay(o *orgState, r Replay, why string) error {
	_, err := t.c.exec("UPDATE replays SET state=?1, "+hasRun+", finished_at=?2, why=?3 WHERE ulid=?4 AND org=?5",
		int64(ReplayCancelled), toMillis(t.now), why, r.ID, o.row)
	return err
}

// moveReplay notes what a step has done and up to where it has looked. As nobody
// has moved its place, r knows what was done before.
func (t *txn) moveReplay(o *orgState, r Replay, upTo int64, done bool, p progress) error {
	state, finished := ReplayRunning, int64(0)
	if done || upTo >= r.last {
		state, finished = ReplayDone, toMillis(t.now)
	}
	byType, err := p.added(r.ByType)
	if err != nil {
		return err
	}
	_, err = t.c.exec(`UPDATE replays SET state=?1, `+hasRun+`, finished_at=?3, place=?4,
		matched=matched+?5, replayed=replayed+?6, changed=changed+?7, removed=removed+?8, withheld=withheld+?9, lost=lost+?10,
		by_type=?11, first_event=iif(first_event=0, ?12, first_event), last_event=iif(?13=0, last_event, ?13) WHERE ulid=?14 AND org=?15`,
		int64(state), toMillis(t.now), finished, upTo, p.Matched, p.Replayed, p.Changed, p.Removed, p.Withheld, p.Lost,
		byType, p.first, p.last, r.ID, o.row)
	return err
}

// CountReplay counts what a replay of the endpoint would do now; while nothing
// else happens it is exactly that. It reads all that there is to look at, beside the traffic: with
// millions of events that can take some seconds. It wraps [ErrNotFound].
func (s *Store) CountReplay(ctx context.Context, org, endpoint string, f ReplayFilter, readable Readable) (ReplayCounts, error) {
	var n ReplayCounts
	o, err := s.find(org)
	if err != nil {
		return n, err
	}
	e, err := s.GetEndpoint(ctx, org, endpoint)
	if err != nil {
		return n, err
	}
	f = f.stored()
	after, err := s.fannedSince(f.Since)
	if err != nil {
		return n, fmt.Errorf("count replay of endpoint %s: %w", endpoint, err)
	}
	var last, incarnation int64
	if err := s.readDB.QueryRowContext(background, "SELECT last_event, incarnation FROM cursors WHERE org=?", o.row).Scan(&last, &incarnation); err != nil {
		return n, fmt.Errorf("count replay of endpoint %s: %w", endpoint, err)
	}
	w := s.replayWalk(o, e.Row, f, incarnation, readable, indexStep)
	for at := after - 1; at < last; {
		found, upTo, err := w.look(ctx, at, last)
		if err != nil {
			return n, fmt.Errorf("count replay of endpoint %s: %w", endpoint, err)
		}
		n.add(found)
		at = upTo
	}
	return n, nil
}

// add counts what was found as if it were sent again.
func (n *ReplayCounts) add(found []match) {
	n.Matched += int64(len(found))
	n.Replayed += int64(len(found))
	for _, m := range found {
		if m.lost {
			n.Lost++
			n.Replayed--
		}
	}
}

// Ahead is how many deliveries a replay will have matched when it is done, found by
// counting ahead of its place. It begins as its zero value, also after a restart.
type Ahead struct {
	Matched int64
	Known   bool // all was looked at

	began bool
	upTo  int64
}

// CountAhead counts on during some 20 ms.
func (s *Store) CountAhead(ctx context.Context, r Replay, a Ahead) (Ahead, error) {
	if r.Missing() || a.Known {
		return a, nil
	}
	if !a.began || a.upTo < r.place {
		a = Ahead{Matched: r.Matched, began: true, upTo: r.place}
	}
	o, err := s.find(r.Org)
	if err != nil {
		return a, err
	}
	found, upTo, err := s.replayWalk(o, r.Row, r.ReplayFilter, r.incarnation, Readable{}, indexStep).look(ctx, a.upTo, r.last)
	if err != nil {
		return a, fmt.Errorf("count ahead of replay %s: %w", r.ID, err)
	}
	a.Matched += int64(len(found))
	a.upTo, a.Known = upTo, upTo >= r.last
	return a, nil
}
