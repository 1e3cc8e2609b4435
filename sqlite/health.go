package sqlite

import (
	"context"
	"fmt"
	"math"

	"github.com/grapnel-hooks/grapnel/deliver"
)

// healthStep is how many endpoints change their health in one transaction. When
// thousands do at once, the outcomes of others must not wait for that: the rest
// follows with the next transactions.
const healthStep = 64

// unwell is a health that is still to be written.
type unwell struct {
	deliver.Health
	silent bool // it came of an operational event: nobody is told
}

// health keeps the health of endpoints. What is not written yet is in w.health;
// of several changes only the last is written. A crash forgets what was not
// written, and the next outcome tells it again.
func (t *txn) health(records []deliver.Record) error {
	for i := range records {
		r := &records[i]
		if r.Health == nil {
			continue
		}
		have, ok := t.healthOf(r.Endpoint)
		if !ok || r.Health.Step <= have.Step {
			continue
		}
		u := unwell{Health: *r.Health, silent: have.silent}
		if deliver.Turned(have.Health, u.Health) != deliver.NoTurn {
			var err error
			if u.silent, err = t.operational(r); err != nil {
				return err
			}
		}
		t.w.health[r.Endpoint] = u
	}
	left := healthStep
	for row, u := range t.w.health {
		if left--; left < 0 {
			break
		}
		if err := t.writeHealth(row, u); err != nil {
			return err
		}
		t.after = append(t.after, func() { delete(t.w.health, row) })
	}
	return nil
}

// healthOf is what the store knows of an endpoint's health, written or not;
// false if the endpoint was removed.
func (t *txn) healthOf(row int64) (unwell, bool) {
	t.s.mu.RLock()
	e := t.s.endpoints[row]
	t.s.mu.RUnlock()
	if e == nil {
		return unwell{}, false
	}
	if u, waits := t.w.health[row]; waits && u.Step > e.Step {
		return u, true
	}
	return unwell{Health: e.Health}, true
}

// writeHealth stores the health of an endpoint, unless that is older than what
// is there, and announces its turn.
func (t *txn) writeHealth(row int64, u unwell) error {
	t.s.mu.RLock()
	e := t.s.endpoints[row]
	if e == nil || u.Step <= e.Step {
		t.s.mu.RUnlock()
		return nil // removed, or enabled anew meanwhile
	}
	o, now := t.s.orgs[e.Org], *e
	t.s.mu.RUnlock()
	// This transaction may have enabled it anew.
	n, err := t.c.exec("UPDATE endpoints SET health=? WHERE id=? AND ifnull(health->>'step', 0)<?", jsonText(u.Health), row, u.Step)
	if err != nil || n == 0 {
		return err
	}
	before := now.Health
	now.Health = u.Health
	t.after = append(t.after, func() {
		t.s.mu.Lock()
		defer t.s.mu.Unlock()
		// As it is then: this transaction may have disabled it, too.
		if e := t.s.endpoints[row]; e != nil && e.Step < u.Step {
			changed := *e
			changed.Health = u.Health
			t.s.endpoints[row] = &changed
		}
	})
	if u.silent || o == nil {
		return nil
	}
	return t.turned(o, &now, before)
}

// turned announces what became of the health of e.
func (t *txn) turned(o *orgState, e *deliver.Endpoint, before deliver.Health) error {
	switch turn := deliver.Turned(before, e.Health); turn {
	case deliver.Opened, deliver.Warned:
		return t.announceFailing(o, e, endpointFailure{
			Since: e.FailingSince, Failures: e.Failures, Class: e.Class, Status: e.Status,
			DisablesAt: e.DisablesAt(e.DisableAfter), Warning: turn == deliver.Warned,
		})
	case deliver.Recovered:
		return t.announceRecovered(o, e, before.FailingSince)
	}
	return nil
}

// NoteHealth implements [deliver.Books].
func (s *Store) NoteHealth(ctx context.Context, notes []deliver.HealthNote) error {
	for len(notes) > 0 {
		some := notes[:min(len(notes), healthStep)]
		err := s.w.do(ctx, func(t *txn) error {
			for i := range some {
				n := &some[i]
				if err := t.writeHealth(n.Endpoint, unwell{Health: n.Health}); err != nil {
					return err
				}
				if n.Disable == "" {
					continue
				}
				if err := t.disableRow(n.Endpoint, n.Disable, false); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("note the health of %d endpoints: %w", len(notes), err)
		}
		notes = notes[len(some):]
	}
	return nil
}

// disableRow disables an endpoint because of what came of attempts.
func (t *txn) disableRow(row int64, reason string, silent bool) error {
	t.s.mu.RLock()
	e := t.s.endpoints[row]
	var o *orgState
	if e != nil {
		o = t.s.orgs[e.Org]
	}
	t.s.mu.RUnlock()
	if o == nil {
		return nil // removed meanwhile
	}
	now, err := t.endpoint(o, "p.id = ?", row)
	if err != nil {
		return err
	}
	if !now.Enabled() {
		return nil
	}
	if err := t.disable(o, &now, reason); err != nil {
		return err
	}
	if !silent {
		if err := t.announceDisabled(o, &now); err != nil {
			return err
		}
	}
	return t.write(o, &now)
}

const (
	releaseRows = 512 // of one transaction: some milliseconds
	releasePage = 4096
)

// Release implements [deliver.Books]. One reading of the pending retries finds
// what all the endpoints hold. What waits in a line behind others
// ([deliver.HeldBack]) stays there.
func (s *Store) Release(ctx context.Context, endpoints []int64, due int64) error {
	from, to := deliver.Place{Due: 1}, deliver.Place{Due: deliver.HeldBack - 1, Event: math.MaxInt64}
	for {
		page, err := s.Pending(ctx, from, to, endpoints, releasePage)
		if err != nil {
			return fmt.Errorf("release: %w", err)
		}
		for rows := page; len(rows) > 0; rows = rows[min(len(rows), releaseRows):] {
			if err := s.releaseRows(ctx, rows[:min(len(rows), releaseRows)], due); err != nil {
				return fmt.Errorf("release: %w", err)
			}
		}
		if len(page) < releasePage {
			return nil
		}
		from = page[releasePage-1].Place() // read again: it may go on there
	}
}

func (s *Store) releaseRows(ctx context.Context, rows []deliver.Ticket, due int64) error {
	return s.w.do(ctx, func(t *txn) error {
		for i := range rows {
			r := &rows[i]
			if r.Due == due {
				continue
			}
			// Unless its state or time has changed since it was read.
			if _, err := t.c.exec("UPDATE deliveries SET due=? WHERE event=? AND endpoint=? AND state=0 AND due=?",
				due, r.Event, r.Endpoint, r.Due); err != nil {
				return err
			}
		}
		return nil
	})
}
