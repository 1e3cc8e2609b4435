package sqlite

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/stream"
	"github.com/oklog/ulid/v2"
)

// A replay sends again what matches its filter, of one endpoint, the oldest
// event first. It is a row: what it does and how far it has come are committed
// together, so that a crash neither repeats nor leaves out a step of it.
//
//	look (reader)     the next matches after its place
//	step (writer)     those become pending + the place moves     one transaction
//
//	running ⇄ paused → cancelled
//	running → done, or cancelled when its endpoint is removed
//
// Who looks may see what has changed when the step is taken; the step looks
// at each delivery again.

// ReplayState is how a replay stands. The numbers are stored; those from
// [ReplayDone] on are final.
type ReplayState int

const (
	ReplayRunning   ReplayState = 0
	ReplayPaused    ReplayState = 1
	ReplayDone      ReplayState = 2
	ReplayCancelled ReplayState = 3
)

var replayStates = [...]string{"running", "paused", "done", "cancelled"}

func (r ReplayState) String() string {
	if r < 0 || int(r) >= len(replayStates) {
		return fmt.Sprintf("replay state(%d)", int(r))
	}
	return replayStates[r]
}

// Finished reports whether nothing more comes of the replay.
func (r ReplayState) Finished() bool { return r >= ReplayDone }

// ReplayFilter says what is sent again.
type ReplayFilter struct {
	State deliver.State // deliveries in this state ([deliver.Pending] are sent anyway), or [Missing]
	Types []string      // of the events, as in [Filter]; any of them, none: all
	Since time.Time     // when the stream stored the event: at this time or later
	Until time.Time     // before this time
}

// ReplayCounts is what has come of a replay.
type ReplayCounts struct {
	Matched  int64 // the sum of the others
	Replayed int64 // are pending again
	Skipped  int64 // had left the state that was asked for, when it was their turn
	Lost     int64 // cannot be sent again: neither the stream nor the books have their payload
}

// Replay is one replay.
type Replay struct {
	ID       string // rpl_…
	Org      string
	Endpoint string // ep_…
	Row      int64  // of the endpoint
	ReplayFilter
	ReplayCounts
	Rate       int // deliveries made pending in a second, at most
	State      ReplayState
	Why        string // it was cancelled by the daemon itself, ""
	Actor      string // who started it
	CreatedAt  time.Time
	UpdatedAt  time.Time // the last step, or the last change of State
	FinishedAt time.Time // zero: it is not

	place, last int64 // events looked at, and to be looked at; of what is Missing they are sequences
	incarnation int64 // of those; else 0
	span        int64 // the subscription that they make, 0: none yet
}

// MaxReplays is how many replays of an organization can be running or paused
// at once.
const MaxReplays = 10

// replaysFor is how long finished replays are kept.
const replaysFor = 30 * 24 * time.Hour

const replayColumns = `r.ulid, p.ulid, r.endpoint, r.state, r.status, r.types, r.since, r.until, r.rate, r.place, r.last, r.incarnation, r.span,
	r.matched, r.replayed, r.skipped, r.lost, r.why, r.actor, r.created_at, r.updated_at, r.finished_at`

// scanReplay reads replayColumns of r replays, p endpoints, and the org's id.
func scanReplay(scan func(...any) error, org string) (Replay, error) {
	r := Replay{Org: org}
	var types string
	var since, until, created, updated, finished int64
	err := scan(&r.ID, &r.Endpoint, &r.Row, &r.State, &r.ReplayFilter.State, &types, &since, &until, &r.Rate, &r.place, &r.last, &r.incarnation, &r.span,
		&r.Matched, &r.Replayed, &r.Skipped, &r.Lost, &r.Why, &r.Actor, &created, &updated, &finished)
	if err != nil {
		return r, err
	}
	r.Since, r.Until = fromMillis(since), fromMillis(until)
	r.CreatedAt, r.UpdatedAt, r.FinishedAt = fromMillis(created), fromMillis(updated), fromMillis(finished)
	if err := json.Unmarshal([]byte(types), &r.Types); err != nil {
		return r, fmt.Errorf("types of replay %s: %w", r.ID, err)
	}
	return r, nil
}

// StartReplay makes a replay of an endpoint of the org, with at most that many
// deliveries a second; [Store.StepReplay] carries it on. What is fanned out
// later is not part of it. It wraps [ErrNotFound], and [ErrState] when the
// endpoint has one that is not finished, or the org has [MaxReplays].
func (s *Store) StartReplay(ctx context.Context, org, endpoint string, f ReplayFilter, rate int) (Replay, error) {
	o, err := s.find(org)
	if err != nil {
		return Replay{}, err
	}
	from, err := s.fannedSince(f.Since)
	if err != nil {
		return Replay{}, fmt.Errorf("start replay of endpoint %s: %w", endpoint, err)
	}
	f.Since, f.Until, f.Types = fromMillis(toMillis(f.Since)), fromMillis(toMillis(f.Until)), slices.Clone(f.Types)
	var made Replay
	err = s.w.do(ctx, func(t *txn) error {
		e, err := t.endpoint(o, "p.ulid = ?", endpoint)
		if err != nil {
			return err
		}
		if err := t.roomForReplay(o, e.Row); err != nil {
			return err
		}
		now := t.now.Truncate(time.Millisecond).UTC()
		id, err := ulid.New(ulid.Timestamp(now), rand.Reader)
		if err != nil {
			return fmt.Errorf("make replay id: %w", err)
		}
		made = Replay{
			ID: "rpl_" + id.String(), Org: org, Endpoint: e.ID, Row: e.Row, ReplayFilter: f, Rate: rate, Actor: t.caller.Actor,
			CreatedAt: now, UpdatedAt: now, place: from - 1, last: t.chain(o),
		}
		if f.State == Missing {
			if made.incarnation, made.place, made.last, err = t.missing(o); err != nil {
				return err
			}
		}
		if _, err := t.c.exec(`INSERT INTO replays(ulid, org, endpoint, state, status, types, since, until, rate, place, last, incarnation, actor, created_at, updated_at)
			VALUES(?1,?2,?3,0,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?13)`, made.ID, o.row, e.Row, int64(f.State), jsonList(f.Types),
			toMillis(f.Since), toMillis(f.Until), int64(rate), made.place, made.last, made.incarnation, made.Actor, toMillis(now)); err != nil {
			return err
		}
		t.made = made
		changes := Changes{"endpoint_id": {nil, e.ID}, "status": {nil, f.Status()}, "rate": {nil, rate}}
		if len(f.Types) > 0 {
			changes["event_types"] = [2]any{nil, f.Types}
		}
		if !f.Since.IsZero() {
			changes["since"] = [2]any{nil, f.Since}
		}
		if !f.Until.IsZero() {
			changes["until"] = [2]any{nil, f.Until}
		}
		return t.audited(o, "replay.start", made.ID, changes)
	})
	if err != nil {
		return Replay{}, fmt.Errorf("start replay of endpoint %s: %w", endpoint, err)
	}
	return made, nil
}

// roomForReplay says why the endpoint cannot have a replay now.
func (t *txn) roomForReplay(o *orgState, endpoint int64) error {
	open, own := 0, false
	err := t.c.query(func(r row) error {
		open++
		own = own || r.int(0) == endpoint
		return nil
	}, "SELECT endpoint FROM replays INDEXED BY replays_open WHERE org=? AND state < 2 LIMIT ?", o.row, int64(MaxReplays))
	switch {
	case err != nil:
		return err
	case own:
		return fmt.Errorf("the endpoint has a replay that is not finished: %w", ErrState)
	case open >= MaxReplays:
		return fmt.Errorf("the organization has %d replays that are not finished: %w", open, ErrState)
	}
	return nil
}

// GetReplay reads one replay of the org. It wraps [ErrNotFound].
func (s *Store) GetReplay(_ context.Context, org, id string) (Replay, error) {
	o, err := s.find(org)
	if err != nil {
		return Replay{}, err
	}
	found, err := s.replays(org, "SELECT "+replayColumns+" FROM replays r JOIN endpoints p ON p.id=r.endpoint WHERE r.ulid=? AND r.org=?", id, o.row)
	if err == nil && len(found) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return Replay{}, fmt.Errorf("replay %s: %w", id, err)
	}
	return found[0], nil
}

// ListReplays lists up to limit replays of the org, the newest first, that
// were started before the given one ("": all).
func (s *Store) ListReplays(_ context.Context, org, before string, limit int) ([]Replay, error) {
	o, err := s.find(org)
	if err != nil {
		return nil, err
	}
	if before == "" {
		before = "~" // after every id
	}
	found, err := s.replays(org, "SELECT "+replayColumns+` FROM replays r JOIN endpoints p ON p.id=r.endpoint
		WHERE r.org=? AND r.ulid<? ORDER BY r.ulid DESC LIMIT ?`, o.row, before, min(max(limit, 1), MaxPage))
	if err != nil {
		return nil, fmt.Errorf("list replays of %s: %w", org, err)
	}
	return found, nil
}

func (s *Store) replays(org, query string, args ...any) ([]Replay, error) {
	var list []Replay
	err := s.read(func(scan func(...any) error) error {
		r, err := scanReplay(scan, org)
		list = append(list, r)
		return err
	}, query, args...)
	return list, err
}

// RunningReplays lists the replays of all organizations that run.
func (s *Store) RunningReplays(context.Context) ([]Replay, error) {
	var list []Replay
	err := s.read(func(scan func(...any) error) error {
		var org int64
		r, err := scanReplay(func(dst ...any) error { return scan(append(dst, &org)...) }, "")
		if err != nil {
			return err
		}
		s.mu.RLock()
		o := s.orgRows[org]
		s.mu.RUnlock()
		if o != nil { // else it was removed, and this goes with it
			r.Org = o.org.ID
			list = append(list, r)
		}
		return nil
	}, "SELECT "+replayColumns+`, r.org FROM replays r INDEXED BY replays_open JOIN endpoints p ON p.id=r.endpoint
		WHERE r.state=0 AND r.state < 2`)
	if err != nil {
		return nil, fmt.Errorf("running replays: %w", err)
	}
	return list, nil
}

// PauseReplay stops a running replay until [Store.ResumeReplay]; what it has
// made pending is sent. Pausing a paused one changes nothing. It wraps
// [ErrNotFound], and [ErrState] when the replay is finished.
func (s *Store) PauseReplay(ctx context.Context, org, id string) (Replay, error) {
	return s.setReplay(ctx, org, id, ReplayPaused, "replay.pause")
}

// ResumeReplay lets a paused replay go on; of a running one it changes nothing.
// It wraps the errors of [Store.PauseReplay].
func (s *Store) ResumeReplay(ctx context.Context, org, id string) (Replay, error) {
	return s.setReplay(ctx, org, id, ReplayRunning, "replay.resume")
}

// CancelReplay ends a replay before its end; what it has made pending is sent.
// It wraps the errors of [Store.PauseReplay].
func (s *Store) CancelReplay(ctx context.Context, org, id string) (Replay, error) {
	return s.setReplay(ctx, org, id, ReplayCancelled, "replay.cancel")
}

func (s *Store) setReplay(ctx context.Context, org, id string, to ReplayState, action string) (Replay, error) {
	o, err := s.find(org)
	if err != nil {
		return Replay{}, err
	}
	err = s.w.do(ctx, func(t *txn) error {
		r := make(row, 1)
		found, err := t.c.one(r, "SELECT state FROM replays WHERE ulid=? AND org=?", id, o.row)
		switch was := ReplayState(r.int(0)); {
		case err != nil:
			return err
		case !found:
			return ErrNotFound
		case was.Finished():
			return fmt.Errorf("it is %s: %w", was, ErrState)
		case was == to:
			return nil
		}
		finished := int64(0)
		if to.Finished() {
			finished = toMillis(t.now)
		}
		if _, err := t.c.exec("UPDATE replays SET state=?, updated_at=?, finished_at=? WHERE ulid=? AND org=?",
			int64(to), toMillis(t.now), finished, id, o.row); err != nil {
			return err
		}
		return t.audited(o, action, id, nil)
	})
	if err != nil {
		return Replay{}, fmt.Errorf("replay %s: %w", id, err)
	}
	return s.GetReplay(ctx, org, id)
}

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
	w := s.replayWalk(o, r.Row, r.ReplayFilter, readable, min(max(n, 1), MaxPage))
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
	n := ReplayCounts{Matched: int64(len(found))}
	for _, m := range found {
		d, err := t.delivery(o, deliver.Key{Event: m.event, Endpoint: r.Row})
		switch {
		case errors.Is(err, ErrNotFound): // gone with retention
			n.Skipped++
			continue
		case err != nil:
			return err
		case d.state != r.ReplayFilter.State:
			n.Skipped++
			continue
		case m.lost:
			n.Lost++
			continue
		}
		if _, err := t.again(d, deliver.Replay); err != nil {
			return err
		}
		n.Replayed++
	}
	t.rows += n.Replayed
	return t.moveReplay(o, r, upTo, false, n)
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
	_, err := t.c.exec("UPDATE replays SET state=?1, why=?2, updated_at=?3, finished_at=?3 WHERE ulid=?4 AND org=?5",
		int64(ReplayCancelled), why, toMillis(t.now), r.ID, o.row)
	return err
}

// moveReplay notes what a step has done and up to where it has looked.
func (t *txn) moveReplay(o *orgState, r Replay, upTo int64, done bool, n ReplayCounts) error {
	state, finished := ReplayRunning, int64(0)
	if done || upTo >= r.last {
		state, finished = ReplayDone, toMillis(t.now)
	}
	_, err := t.c.exec(`UPDATE replays SET place=?, state=?, finished_at=?, updated_at=?,
		matched=matched+?, replayed=replayed+?, skipped=skipped+?, lost=lost+? WHERE ulid=? AND org=?`,
		upTo, int64(state), finished, toMillis(t.now), n.Matched, n.Replayed, n.Skipped, n.Lost, r.ID, o.row)
	return err
}

// CountReplay counts what a replay of the endpoint would do now. It reads all
// that there is to look at, beside the traffic: with millions of events that can
// take some seconds. It wraps [ErrNotFound].
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
	after, err := s.fannedSince(f.Since)
	if err != nil {
		return n, fmt.Errorf("count replay of endpoint %s: %w", endpoint, err)
	}
	var last int64
	if err := s.readDB.QueryRowContext(background, "SELECT last_event FROM cursors WHERE org=?", o.row).Scan(&last); err != nil {
		return n, fmt.Errorf("count replay of endpoint %s: %w", endpoint, err)
	}
	w := s.replayWalk(o, e.Row, f, readable, indexStep)
	for at := after - 1; at < last; {
		found, upTo, err := w.look(ctx, at, last)
		if err != nil {
			return n, fmt.Errorf("count replay of endpoint %s: %w", endpoint, err)
		}
		n.Matched += int64(len(found))
		for _, m := range found {
			if m.lost {
				n.Lost++
			}
		}
		at = upTo
	}
	n.Replayed = n.Matched - n.Lost
	return n, nil
}

// PendingOf is how many deliveries of an endpoint are pending. It is quick and
// touches no disk.
func (s *Store) PendingOf(row int64) int64 {
	pending, _ := s.endpointCounts(row)
	return pending
}

// retainReplays removes up to n replays that were finished long ago.
func (t *txn) retainReplays(n int) (int64, error) {
	return t.c.exec("DELETE FROM replays WHERE id IN (SELECT id FROM replays INDEXED BY replays_finished WHERE state >= 2 AND finished_at < ? LIMIT ?)",
		toMillis(t.now.Add(-replaysFor)), int64(n))
}
