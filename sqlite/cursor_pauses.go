package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/grapnel-hooks/grapnel/fanout"
)

// Pause is why nothing of an org's stream is read.
type Pause struct {
	By     string    // tok_…, operator or grapnel; "": it is not known
	Reason string    // "": none was given
	At     time.Time // zero: it is not known
	Until  time.Time // when it ends by itself; zero: never
}

// PauseCursor stops the reading of the org's stream until [Store.ResumeCursor],
// or until p.Until ([Store.EndPauses]). When it returns, no plan that was made
// before can be committed any more. Deliveries that exist go on. Pausing a
// paused cursor gives it the end that is in p, and the reason unless that is empty, and
// changes nothing when there are neither. Who and when are taken from ctx and the clock.
func (s *Store) PauseCursor(ctx context.Context, org string, p Pause) error {
	o, err := s.find(org)
	if err != nil {
		return err
	}
	err = s.w.do(ctx, func(t *txn) error {
		r := make(row, 3)
		found, err := t.c.one(r, "SELECT c.paused, ifnull(p.until, 0), ifnull(p.reason, '') FROM cursors c LEFT JOIN pauses p ON p.org=c.org WHERE c.org=?", o.row)
		if err != nil {
			return err
		}
		if !found {
			return fanout.ErrNoOrg // removed a moment ago
		}
		was, until, reason := r.int(0) != 0, r.int(1), r.text(2)
		end := p.Until.Truncate(time.Millisecond)
		if was && p.Reason == "" && end.IsZero() || was && p.Reason == reason && toMillis(end) == until {
			return nil
		}
		if !was || p.Reason != "" {
			reason = p.Reason
		}
		if _, err := t.c.exec("UPDATE cursors SET paused=1 WHERE org=?", o.row); err != nil {
			return err
		}
		if _, err := t.c.exec("INSERT OR REPLACE INTO pauses(org, at, until, actor, reason) VALUES(?,?,?,?,?)",
			o.row, toMillis(t.now), toMillis(end), t.caller.Actor, reason); err != nil {
			return err
		}
		changes := Changes{}
		changed(changes, "paused", was, true)
		if p.Reason != "" {
			changes["reason"] = [2]any{nil, p.Reason}
		}
		if !end.IsZero() {
			changes["until"] = [2]any{nil, end.UTC()}
		}
		return t.setPaused(o, true, "cursor.pause", changes)
	})
	if err != nil {
		return fmt.Errorf("pause the cursor of %s: %w", org, err)
	}
	return nil
}

// ResumeCursor undoes [Store.PauseCursor].
func (s *Store) ResumeCursor(ctx context.Context, org string) error {
	o, err := s.find(org)
	if err != nil {
		return err
	}
	if err := s.w.do(ctx, func(t *txn) error { return t.resumeCursor(o, 0) }); err != nil {
		return fmt.Errorf("resume the cursor of %s: %w", org, err)
	}
	return nil
}

// resumeCursor ends the org's pause; with an end, only one that ends then or
// before (ms).
func (t *txn) resumeCursor(o *orgState, ended int64) error {
	r := make(row, 2)
	found, err := t.c.one(r, "SELECT c.paused, ifnull(p.until, 0) FROM cursors c LEFT JOIN pauses p ON p.org=c.org WHERE c.org=?", o.row)
	if err != nil {
		return err
	}
	if !found {
		return fanout.ErrNoOrg // removed a moment ago
	}
	if until := r.int(1); r.int(0) == 0 || ended > 0 && (until == 0 || until > ended) {
		return nil
	}
	if _, err := t.c.exec("UPDATE cursors SET paused=0 WHERE org=?", o.row); err != nil {
		return err
	}
	if _, err := t.c.exec("DELETE FROM pauses WHERE org=?", o.row); err != nil {
		return err
	}
	return t.setPaused(o, false, "cursor.resume", Changes{"paused": {true, false}})
}

// setPaused writes the entry, and makes memory and fan-out see it.
func (t *txn) setPaused(o *orgState, paused bool, action string, changes Changes) error {
	if err := t.audited(o, action, o.org.ID, changes); err != nil {
		return err
	}
	t.after = append(t.after, func() {
		t.s.mu.Lock()
		defer t.s.mu.Unlock()
		o.paused = paused
	})
	return t.bump(o) // last: whoever sees the new version sees the new state
}

// EndPauses resumes the cursors whose pause has an end that has come, and returns
// their orgs. The entry in the audit is in the daemon's own name.
func (s *Store) EndPauses(ctx context.Context) ([]string, error) {
	var due []string
	now := toMillis(s.now())
	err := s.read(func(scan func(...any) error) error {
		var org string
		err := scan(&org)
		due = append(due, org)
		return err
	}, "SELECT o.org FROM pauses p JOIN orgs o ON o.id=p.org WHERE p.until>0 AND p.until<=? AND o.removed_at IS NULL ORDER BY p.until LIMIT 1000", now)
	if err != nil {
		return nil, fmt.Errorf("pauses that end: %w", err)
	}
	var ended []string
	for _, org := range due {
		o, err := s.find(org)
		if err == nil {
			err = s.w.do(ctx, func(t *txn) error { return t.resumeCursor(o, now) })
		}
		if errors.Is(err, fanout.ErrNoOrg) {
			continue // removed meanwhile
		}
		if err != nil {
			return ended, fmt.Errorf("end the pause of %s: %w", org, err)
		}
		ended = append(ended, org)
	}
	return ended, nil
}
