package sqlite

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
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
	States []deliver.State // deliveries in one of these ([deliver.Pending] are sent anyway), or [Missing] alone
	Types  []string        // of the events, as in [Filter]; any of them, none: all
	Since  time.Time       // when the stream stored the event: at this time or later
	Until  time.Time       // before this time
	From   stream.Seq      // of the events, in the stream's present incarnation: this one or a later one; 0: any
	To     stream.Seq      // this one or an earlier one; 0: any
}

// Replay is one replay.
type Replay struct {
	ID       string // rpl_…
	Org      string
	Endpoint string // ep_…
	Row      int64  // of the endpoint
	ReplayFilter
	ReplayReport
	Rate       int // deliveries made pending in a second, at most
	State      ReplayState
	Why        string // it was cancelled by the daemon itself, ""
	Actor      string // who started it
	CreatedAt  time.Time
	UpdatedAt  time.Time // the last step, or the last change of State
	FinishedAt time.Time // zero: it is not

	start, place, last int64 // where it began, looked at up to here, and to be looked at: events, or of what is Missing sequences
	incarnation        int64 // of From and To, and of what is Missing; else 0
	span               int64 // the subscription that those make, 0: none yet
}

// MaxReplays is how many replays of an organization can be running or paused
// at once.
const MaxReplays = 10

// replaysFor is how long finished replays are kept.
const replaysFor = 30 * 24 * time.Hour

const replayColumns = `r.ulid, p.ulid, r.endpoint, r.state, r.statuses, r.types, r.since, r.until, r.from_seq, r.to_seq,
	r.rate, r.start, r.place, r.last, r.incarnation, r.span,
	r.matched, r.replayed, r.changed, r.removed, r.withheld, r.lost, r.by_type, r.ran,
	ifnull(f.key, x''), ifnull(l.key, x''), r.why, r.actor, r.created_at, r.updated_at, r.finished_at`

// replayTables are those that replayColumns are of; the events may be gone.
const replayTables = ` replays r%s JOIN endpoints p ON p.id=r.endpoint LEFT JOIN events f ON f.id=r.first_event LEFT JOIN events l ON l.id=r.last_event `

// scanReplay reads replayColumns, and the org's id.
func scanReplay(scan func(...any) error, org string) (Replay, error) {
	r := Replay{Org: org}
	var statuses, types, byType string
	var since, until, ran, created, updated, finished int64
	var first, last []byte
	err := scan(&r.ID, &r.Endpoint, &r.Row, &r.State, &statuses, &types, &since, &until, &r.From, &r.To,
		&r.Rate, &r.start, &r.place, &r.last, &r.incarnation, &r.span,
		&r.Matched, &r.Replayed, &r.Changed, &r.Removed, &r.Withheld, &r.Lost, &byType, &ran,
		&first, &last, &r.Why, &r.Actor, &created, &updated, &finished)
	if err != nil {
		return r, err
	}
	r.Since, r.Until, r.Ran = fromMillis(since), fromMillis(until), time.Duration(ran)*time.Millisecond
	r.First, r.Last = toID(first), toID(last)
	r.CreatedAt, r.UpdatedAt, r.FinishedAt = fromMillis(created), fromMillis(updated), fromMillis(finished)
	var names []string
	err = errors.Join(json.Unmarshal([]byte(statuses), &names), json.Unmarshal([]byte(types), &r.Types), json.Unmarshal([]byte(byType), &r.ByType))
	if err == nil {
		r.States, err = ParseStatuses(names)
	}
	if err != nil {
		return r, fmt.Errorf("replay %s: %w", r.ID, err)
	}
	return r, nil
}

// StartReplay makes a replay of an endpoint of the org, with at most that many
// deliveries a second; [Store.StepReplay] carries it on. What is fanned out
// later is not part of it. For what is [Missing], older is a sequence up to which
// everything in the stream is older than f.Since, so that it need not be
// read; else it is not looked at.
//
// It wraps [ErrNotFound], and [ErrState] when the endpoint has a replay that is not
// finished, or the org has [MaxReplays].
func (s *Store) StartReplay(ctx context.Context, org, endpoint string, f ReplayFilter, older stream.Seq, rate int) (Replay, error) {
	o, err := s.find(org)
	if err != nil {
		return Replay{}, err
	}
	from, err := s.fannedSince(f.Since)
	if err != nil {
		return Replay{}, fmt.Errorf("start replay of endpoint %s: %w", endpoint, err)
	}
	f = f.stored()
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
			ReplayReport: ReplayReport{ByType: map[string]int64{}}, CreatedAt: now, UpdatedAt: now, place: from - 1, last: t.chain(o),
		}
		incarnation, first, last, err := t.missing(o)
		switch {
		case err != nil:
			return err
		case f.Missing():
			made.incarnation, made.place, made.last = incarnation, max(first, int64(older), int64(f.From)-1), last
			if f.To > 0 {
				made.last = min(last, int64(f.To))
			}
		case f.From > 0 || f.To > 0:
			made.incarnation = incarnation
		}
		made.start = made.place
		if _, err := t.c.exec(`INSERT INTO replays(ulid, org, endpoint, state, statuses, types, since, until, from_seq, to_seq,
				rate, start, place, last, incarnation, actor, created_at, updated_at)
			VALUES(?1,?2,?3,0,?4,?5,?6,?7,?8,?9,?10,?11,?11,?12,?13,?14,?15,?15)`, made.ID, o.row, e.Row, jsonList(f.Statuses()), jsonList(f.Types),
			toMillis(f.Since), toMillis(f.Until), int64(f.From), int64(f.To),
			int64(rate), made.place, made.last, made.incarnation, made.Actor, toMillis(now)); err != nil {
			return err
		}
		t.made = made
		changes := Changes{"endpoint_id": {nil, e.ID}, "status": {nil, strings.Join(f.Statuses(), ", ")}, "rate": {nil, rate}}
		if len(f.Types) > 0 {
			changes["event_types"] = [2]any{nil, f.Types}
		}
		if !f.Since.IsZero() {
			changes["since"] = [2]any{nil, f.Since}
		}
		if !f.Until.IsZero() {
			changes["until"] = [2]any{nil, f.Until}
		}
		if f.From > 0 {
			changes["from_seq"] = [2]any{nil, f.From}
		}
		if f.To > 0 {
			changes["to_seq"] = [2]any{nil, f.To}
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
	found, err := s.replays(org, "SELECT "+replayColumns+" FROM"+fmt.Sprintf(replayTables, "")+"WHERE r.ulid=? AND r.org=?", id, o.row)
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
	found, err := s.replays(org, "SELECT "+replayColumns+" FROM"+fmt.Sprintf(replayTables, "")+
		"WHERE r.org=? AND r.ulid<? ORDER BY r.ulid DESC LIMIT ?", o.row, before, min(max(limit, 1), MaxPage))
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
	}, "SELECT "+replayColumns+", r.org FROM"+fmt.Sprintf(replayTables, " INDEXED BY replays_open")+"WHERE r.state=0 AND r.state < 2")
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
		if _, err := t.c.exec("UPDATE replays SET state=?1, "+hasRun+", finished_at=?3 WHERE ulid=?4 AND org=?5",
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
