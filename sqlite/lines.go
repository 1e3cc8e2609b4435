package sqlite

import (
	"context"
	"fmt"

	"github.com/grapnel-hooks/grapnel/deliver"
)

// A row of lines says where a pending delivery stands. One whose delivery is not
// pending any more says nothing: each reading looks at both.

// stand puts the delivery into the line, or moves it there.
func (t *txn) stand(k deliver.Key, l deliver.Line) error {
	_, err := t.c.exec("INSERT INTO lines(endpoint, event, rule, key) VALUES(?1,?2,?3,?4) ON CONFLICT DO UPDATE SET rule=?3, key=?4 WHERE rule<>?3 OR key<>?4",
		k.Endpoint, k.Event, l.Rule, l.Key)
	return err
}

// leave takes the delivery out of the line in which it stands, if it does.
func (t *txn) leave(k deliver.Key) error {
	_, err := t.c.exec("DELETE FROM lines WHERE endpoint=? AND event=?", k.Endpoint, k.Event)
	return err
}

// hold books that a delivery is held back.
func (t *txn) hold(r *deliver.Record) error {
	held, err := t.c.exec("UPDATE deliveries SET due=? WHERE event=? AND endpoint=? AND state=0 AND attempts=?",
		deliver.HeldBack, r.Event, r.Endpoint, int64(r.Attempt.Number))
	if err != nil || held == 0 {
		return err
	}
	return t.stand(r.Key, r.Line)
}

// settle books where a delivery stands after an attempt.
func (t *txn) settle(r *deliver.Record) error {
	switch {
	case r.Line == deliver.Line{}:
		return nil
	case r.Next.State == deliver.Pending:
		return t.stand(r.Key, r.Line)
	}
	return t.leave(r.Key)
}

// Lined implements [deliver.LineBooks].
func (s *Store) Lined(ctx context.Context) (map[int64][]int64, error) {
	rules := make(map[int64][]int64)
	err := s.read(func(scan func(...any) error) error {
		var endpoint, rule int64
		err := scan(&endpoint, &rule)
		rules[endpoint] = append(rules[endpoint], rule)
		return err
	}, "SELECT DISTINCT endpoint, rule FROM lines INDEXED BY lines_order")
	if err != nil {
		return nil, fmt.Errorf("rules of lines: %w", err)
	}
	return rules, ctx.Err()
}

// Lines implements [deliver.LineBooks]. It reads all that stand in lines of the
// endpoint.
func (s *Store) Lines(ctx context.Context, endpoint int64, limit int) ([]deliver.LineHead, error) {
	var heads []deliver.LineHead
	err := s.read(func(scan func(...any) error) error {
		var h deliver.LineHead
		err := scan(&h.Line.Rule, &h.Line.Key, &h.Event, &h.Due)
		heads = append(heads, h)
		return err
	}, `SELECT l.rule, l.key, min(l.event) AS first, d.due
		FROM lines l INDEXED BY lines_order CROSS JOIN deliveries d ON d.event=l.event AND d.endpoint=l.endpoint AND +d.state=0
		WHERE l.endpoint=? GROUP BY l.rule, l.key ORDER BY d.due=? DESC, first LIMIT ?`, endpoint, deliver.HeldBack, limit)
	if err != nil {
		return nil, fmt.Errorf("lines of endpoint %d: %w", endpoint, err)
	}
	return heads, ctx.Err()
}

// Line implements [deliver.LineBooks].
func (s *Store) Line(ctx context.Context, endpoint int64, line deliver.Line, from int64, limit int) ([]deliver.Ticket, error) {
	var list []deliver.Ticket
	err := s.read(func(scan func(...any) error) error {
		var t deliver.Ticket
		err := scan(&t.Event, &t.Endpoint, &t.Due, &t.Attempts, &t.Spent, &t.Trigger)
		list = append(list, t)
		return err
	}, `SELECT d.event, d.endpoint, d.due, d.attempts, d.spent, d.trigger
		FROM lines l INDEXED BY lines_order CROSS JOIN deliveries d ON d.event=l.event AND d.endpoint=l.endpoint AND +d.state=0
		WHERE l.endpoint=? AND l.rule=? AND l.key=? AND l.event>=? ORDER BY l.event LIMIT ?`, endpoint, line.Rule, line.Key, from, limit)
	if err != nil {
		return nil, fmt.Errorf("line of endpoint %d: %w", endpoint, err)
	}
	return list, ctx.Err()
}

// LeaveLines implements [deliver.LineBooks].
func (s *Store) LeaveLines(ctx context.Context, endpoint, keep, due int64, limit int) (more bool, err error) {
	err = s.w.do(ctx, func(t *txn) error {
		var events []int64
		for _, others := range []string{"<", ">"} {
			err := t.c.query(func(r row) error {
				events = append(events, r.int(0))
				return nil
			}, "SELECT event FROM lines INDEXED BY lines_order WHERE endpoint=? AND rule"+others+"? LIMIT ?", endpoint, keep, int64(limit-len(events)))
			if err != nil {
				return err
			}
		}
		more = len(events) == limit
		for _, event := range events {
			if _, err := t.c.exec("UPDATE deliveries SET due=? WHERE event=? AND endpoint=? AND state=0 AND due=?",
				due, event, endpoint, deliver.HeldBack); err != nil {
				return err
			}
			if err := t.leave(deliver.Key{Event: event, Endpoint: endpoint}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("take deliveries of endpoint %d out of their lines: %w", endpoint, err)
	}
	return more, nil
}
