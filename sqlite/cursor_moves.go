package sqlite

import (
	"context"
	"fmt"

	"github.com/grapnel-hooks/grapnel/fanout"
)

// PauseCursor stops the reading of the org's stream until [Store.ResumeCursor].
// When it returns, no plan that was made before can be committed any more.
// Deliveries that exist go on. Pausing a paused cursor changes nothing.
func (s *Store) PauseCursor(ctx context.Context, org string) error {
	return s.setPaused(ctx, org, true, "cursor.pause")
}

// ResumeCursor undoes [Store.PauseCursor].
func (s *Store) ResumeCursor(ctx context.Context, org string) error {
	return s.setPaused(ctx, org, false, "cursor.resume")
}

func (s *Store) setPaused(ctx context.Context, org string, paused bool, action string) error {
	o, err := s.find(org)
	if err != nil {
		return err
	}
	err = s.w.do(ctx, func(t *txn) error {
		r := make(row, 1)
		found, err := t.c.one(r, "SELECT paused FROM cursors WHERE org=?", o.row)
		if err != nil {
			return err
		}
		if !found {
			return fanout.ErrNoOrg // removed a moment ago
		}
		if (r.int(0) != 0) == paused {
			return nil
		}
		if _, err := t.c.exec("UPDATE cursors SET paused = NOT paused WHERE org=?", o.row); err != nil {
			return err
		}
		if err := t.audited(o, action, org, Changes{"paused": {!paused, paused}}); err != nil {
			return err
		}
		t.after = append(t.after, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			o.paused = paused
		})
		return t.bump(o) // last: whoever sees the new version sees the new state
	})
	if err != nil {
		return fmt.Errorf("%s of %s: %w", action, org, err)
	}
	return nil
}
