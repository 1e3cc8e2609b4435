package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// Audit is one moment of one org's books, for [fanout.Check]. It implements
// [fanout.Audited]. While it is open, the write-ahead log cannot be folded into
// the database and grows with what is written: close it soon.
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

// located is an event and where it lies.
type located struct {
	event int64
	place
}

// auditStep is how many events are read together.
const auditStep = 256

// Events implements [fanout.Audited]. It holds 24 bytes for each event of the
// org, to bring them into order.
func (a *Audit) Events(ctx context.Context) iter.Seq2[fanout.BookedEvent, error] {
	return func(yield func(fanout.BookedEvent, error) bool) {
		all, err := a.locate()
		if err != nil {
			yield(fanout.BookedEvent{}, err)
			return
		}
		for some := range slices.Chunk(all, auditStep) {
			events, err := a.read(some)
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(fanout.BookedEvent{}, err)
				return
			}
			for _, e := range events {
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

// locate lists the org's events by place: back along the chain to where
// retention has been, and what that has left.
func (a *Audit) locate() ([]located, error) {
	var list []located
	err := each(a.c, func(scan func(...any) error) error {
		var l located
		err := scan(&l.event, &l.incarnation, &l.seq)
		list = append(list, l)
		return err
	}, `
		WITH RECURSIVE low(id) AS (SELECT event+1 FROM retention WHERE id=1),
		chain(id, prev, incarnation, seq) AS (
			SELECT e.id, prev, e.incarnation, seq FROM cursors c JOIN events e ON e.id=c.last_event WHERE c.org=?1 AND e.id >= (SELECT id FROM low)
			UNION ALL
			SELECT e.id, e.prev, e.incarnation, e.seq FROM chain c JOIN events e ON e.id = c.id - c.prev WHERE c.prev > 0 AND e.id >= (SELECT id FROM low))
		SELECT id, incarnation, seq FROM chain
		UNION ALL
		SELECT id, incarnation, seq FROM events WHERE id < (SELECT id FROM low) AND org=?1`, a.o.row)
	slices.SortFunc(list, func(a, b located) int {
		return cmp.Or(cmp.Compare(a.incarnation, b.incarnation), cmp.Compare(a.seq, b.seq), cmp.Compare(a.event, b.event))
	})
	return list, err
}

// read reads events with deliveries and attempts, in the order given.
func (a *Audit) read(some []located) ([]fanout.BookedEvent, error) {
	events := make([]fanout.BookedEvent, 0, len(some))
	ids := make([]int64, len(some))
	for i, l := range some {
		ids[i] = l.event
	}
	list, at := numbers(ids), make(map[int64]int, len(some))
	err := each(a.c, func(scan func(...any) error) error {
		var e fanout.BookedEvent
		var org int64
		var key []byte
		if err := scan(&e.Event, &org, &key, &e.Incarnation, &e.Seq, &e.Kept); err != nil {
			return err
		}
		e.Org, e.ID = a.s.orgName(org), toID(key)
		at[e.Event] = len(events)
		events = append(events, e)
		return nil
	}, `SELECT e.id, e.org, e.key, e.incarnation, e.seq, EXISTS(SELECT 1 FROM payloads p WHERE p.event=e.id)
		FROM json_each(?) j CROSS JOIN events e ON e.id=j.value`, list)
	if err != nil {
		return nil, err
	}
	err = each(a.c, func(scan func(...any) error) error {
		var event, org int64
		var d fanout.BookedDelivery
		if err := scan(&event, &d.Endpoint, &org, &d.State, &d.Due, &d.Trigger, &d.Made); err != nil {
			return err
		}
		d.Org = a.s.orgName(org)
		e := &events[at[event]]
		e.Deliveries = append(e.Deliveries, d)
		return nil
	}, `SELECT d.event, d.endpoint, d.org, d.state, d.due, d.trigger, d.attempts
		FROM json_each(?) j CROSS JOIN deliveries d ON d.event=j.value ORDER BY d.event, d.endpoint`, list)
	if err != nil {
		return nil, err
	}
	err = each(a.c, func(scan func(...any) error) error {
		var event, endpoint int64
		var b fanout.BookedAttempt
		if err := scan(&event, &endpoint, &b.Number, &b.Class); err != nil {
			return err
		}
		ds := events[at[event]].Deliveries
		i, ok := slices.BinarySearchFunc(ds, endpoint, func(d fanout.BookedDelivery, row int64) int { return cmp.Compare(d.Endpoint, row) })
		if !ok {
			return fmt.Errorf("attempt %d of event %d to endpoint %d has no delivery", b.Number, event, endpoint)
		}
		ds[i].Attempts = append(ds[i].Attempts, b)
		return nil
	}, `SELECT a.event, a.endpoint, a.number, a.class
		FROM json_each(?) j CROSS JOIN attempts a ON a.event=j.value ORDER BY a.event, a.endpoint, a.number`, list)
	return events, err
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
