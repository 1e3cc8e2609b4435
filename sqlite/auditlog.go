package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// AuditEntry says who changed what.
type AuditEntry struct {
	ID      int64
	Org     string // "": the installation's
	At      time.Time
	Actor   string // tok_…, operator, or grapnel: the daemon itself
	Action  string // endpoint.add
	Target  string // ep_…
	Changes Changes
	Address string
	Request string
}

// Changes are the settings that changed, by name: before and after. Of a secret
// there is only the name, with nil for both.
type Changes map[string][2]any

// change adds a setting, if it changed.
func changed[T comparable](c Changes, name string, before, after T) {
	if before != after {
		c[name] = [2]any{before, after}
	}
}

// audited writes the entry of what the present operation does to target, which
// belongs to o, or to the installation when o is nil.
func (t *txn) audited(o *orgState, action, target string, changes Changes) error {
	var org any
	if o != nil {
		org = o.row
	}
	if changes == nil {
		changes = Changes{}
	}
	text, err := json.Marshal(changes)
	if err != nil {
		return fmt.Errorf("audit %s of %s: %w", action, target, err)
	}
	_, err = t.c.exec("INSERT INTO audit(org, at, actor, action, target, changes, address, request) VALUES(?,?,?,?,?,?,?,?)",
		org, toMillis(t.now), t.caller.Actor, action, target, string(text), t.caller.Address, t.caller.Request)
	return err
}

// Audited writes an entry about something that is not in the store: a secret
// that was shown, a test that was sent. With org "" it is the installation's.
func (s *Store) Audited(ctx context.Context, org, action, target string) error {
	var o *orgState
	if org != "" {
		var err error
		if o, err = s.find(org); err != nil {
			return err
		}
	}
	return s.w.do(ctx, func(t *txn) error { return t.audited(o, action, target, nil) })
}

// ListAudit lists up to limit entries of the organization, or with org "" of
// the installation and of all organizations, before the given id, newest first;
// 0 is the end. For a tenant org is never "".
func (s *Store) ListAudit(ctx context.Context, org string, before int64, limit int) ([]AuditEntry, error) {
	query := `SELECT a.id, ifnull(o.org, ''), a.at, a.actor, a.action, a.target, a.changes, a.address, a.request
		FROM audit a LEFT JOIN orgs o ON o.id = a.org WHERE (?1 = 0 OR a.id < ?1)`
	args := []any{before, min(max(limit, 1), MaxPage)}
	if org != "" {
		o, err := s.find(org)
		if err != nil {
			return nil, err
		}
		query += " AND a.org = ?3"
		args = append(args, o.row)
	}
	rows, err := s.readDB.QueryContext(ctx, query+" ORDER BY a.id DESC LIMIT ?2", args...)
	if err != nil {
		return nil, fmt.Errorf("list audit of %q: %w", org, err)
	}
	defer rows.Close()
	var list []AuditEntry
	for rows.Next() {
		var e AuditEntry
		var at int64
		var changes string
		if err := rows.Scan(&e.ID, &e.Org, &at, &e.Actor, &e.Action, &e.Target, &changes, &e.Address, &e.Request); err != nil {
			return nil, err
		}
		e.At = fromMillis(at)
		if err := json.Unmarshal([]byte(changes), &e.Changes); err != nil {
			return nil, fmt.Errorf("audit entry %d: %w", e.ID, err)
		}
		list = append(list, e)
	}
	return list, rows.Err()
}
