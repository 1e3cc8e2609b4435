package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"iter"

	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// Audit is one moment of one org's books. It implements [fanout.Audited], and
// its Pieces take newer moments from time to time, see audit_pieces.go. While it is
// open, the write-ahead log cannot be folded into the database beyond its moment
// and grows with what is written: close it soon.
type Audit struct {
	s *Store
	o *orgState
	c *sql.Conn
}

// Audit opens the org's books for reading at this moment.
func (s *Store) Audit(ctx context.Context, org string) (*Audit, error) {
	o, err := s.find(org)
	if err != nil {
		return nil, err
	}
	c, err := s.readDB.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("audit %s: %w", org, err)
	}
	a := &Audit{s: s, o: o, c: c}
	_, err = c.ExecContext(background, "BEGIN")
	if err == nil {
		_, _, err = a.Position(ctx) // the first reading fixes the moment
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("audit %s: %w", org, err), a.Close())
	}
	return a, nil
}

// Close lets go of the moment.
func (a *Audit) Close() error {
	_, err := a.c.ExecContext(background, "ROLLBACK")
	return errors.Join(err, a.c.Close())
}

// Position implements [fanout.Audited].
func (a *Audit) Position(context.Context) (cursor.Position, stream.Seq, error) {
	var complete stream.Seq
	p, err := furthest(a.c.QueryRowContext(background, `SELECT `+furthestColumns+`, CASE WHEN c.complete_incarnation=c.incarnation THEN c.complete ELSE 0 END
		FROM cursors c WHERE c.org=?`, a.o.row).Scan, &complete)
	if errors.Is(err, sql.ErrNoRows) {
		err = fanout.ErrNoOrg
	}
	p.Org = a.s.orgName(a.o.row)
	return p, complete, err
}

// History implements [fanout.Audited].
func (a *Audit) History(context.Context) ([]fanout.Span, error) {
	var list []fanout.Span
	err := each(a.c, func(scan func(...any) error) error {
		var sp fanout.Span
		var types, text string
		if err := scan(&sp.Endpoint, &types, &sp.Workspace, &text, &sp.Incarnation, &sp.From, &sp.Ended, &sp.UntilIncarnation, &sp.Until); err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(types), &sp.Types); err != nil {
			return fmt.Errorf("types of endpoint %d: %w", sp.Endpoint, err)
		}
		sp.Filter = a.s.filters.Get(text)
		list = append(list, sp)
		return nil
	}, `SELECT endpoint, types, workspace, filter, incarnation, from_seq, until_seq IS NOT NULL, ifnull(until_incarnation, 0), ifnull(until_seq, 0)
		FROM subscriptions WHERE org=? ORDER BY endpoint, id`, a.o.row)
	return list, err
}

// SubscriptionHistory lists who of the org was subscribed to what, and when.
func (s *Store) SubscriptionHistory(ctx context.Context, org string) ([]fanout.Span, error) {
	a, err := s.Audit(ctx, org)
	if err != nil {
		return nil, err
	}
	list, err := a.History(ctx)
	return list, errors.Join(err, a.Close())
}

// Exceptions implements [fanout.Audited].
func (a *Audit) Exceptions(context.Context) iter.Seq2[fanout.Exception, error] {
	return func(yield func(fanout.Exception, error) bool) {
		rows, err := a.c.QueryContext(background, `
			SELECT 'rejected', incarnation, seq AS from_seq, seq FROM rejected WHERE org=?1 UNION ALL
			SELECT 'gated', incarnation, from_seq, to_seq FROM gated WHERE org=?1 UNION ALL
			SELECT iif(skipped, 'skipped', 'gap'), incarnation, from_seq, to_seq FROM gaps WHERE org=?1
			ORDER BY incarnation, from_seq`, a.o.row)
		if err != nil {
			yield(fanout.Exception{}, err)
			return
		}
		defer rows.Close()
		for rows.Next() {
			var e fanout.Exception
			if err := rows.Scan(&e.Kind, &e.Incarnation, &e.From, &e.To); err != nil {
				yield(fanout.Exception{}, err)
				return
			}
			if !yield(e, nil) {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(fanout.Exception{}, err)
		}
	}
}

// orgName is the id of the org of that row, or its number when there is none.
func (s *Store) orgName(row int64) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if o := s.orgRows[row]; o != nil {
		return o.org.ID
	}
	return fmt.Sprintf("#%d", row)
}

var _ fanout.Audited = (*Audit)(nil)
