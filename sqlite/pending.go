package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"math"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// numbers is list as a JSON array, for json_each.
func numbers(list []int64) string {
	b, err := json.Marshal(list)
	if err != nil {
		panic(err) // numbers can always be encoded
	}
	return string(b)
}

// Pending implements [deliver.Books]. It reads the index of pending deliveries
// only; for some endpoints it passes over the rows of the others in
// between.
func (s *Store) Pending(ctx context.Context, from, to deliver.Place, endpoints []int64, limit int) ([]deliver.Ticket, error) {
	query := `SELECT event, endpoint, due, attempts, spent, trigger FROM deliveries INDEXED BY deliveries_pending
		WHERE state=0 AND (due, event) >= (?, ?) AND (due, event) <= (?, ?)`
	args := []any{from.Due, from.Event, to.Due, to.Event}
	if endpoints != nil {
		query += " AND endpoint IN (SELECT value FROM json_each(?))"
		args = append(args, numbers(endpoints))
	}
	var list []deliver.Ticket
	err := s.read(func(scan func(...any) error) error {
		var t deliver.Ticket
		err := scan(&t.Event, &t.Endpoint, &t.Due, &t.Attempts, &t.Spent, &t.Trigger)
		list = append(list, t)
		return err
	}, query+" ORDER BY due, event, endpoint LIMIT ?", append(args, limit)...)
	if err != nil {
		return nil, fmt.Errorf("pending deliveries: %w", err)
	}
	return list, ctx.Err()
}

// Backlogs implements [deliver.Books]. It reads the whole index of pending
// deliveries once, fresh ones and retries.
func (s *Store) Backlogs(ctx context.Context, endpoints []int64) ([]deliver.Backlog, error) {
	some := ""
	var args []any
	if endpoints != nil {
		some = " AND endpoint IN (SELECT value FROM json_each(?1))"
		args = []any{numbers(endpoints)}
	}
	at := make(map[int64]int)
	var list []deliver.Backlog
	err := s.read(func(scan func(...any) error) error {
		var b deliver.Backlog
		if err := scan(&b.Endpoint, &b.Fresh, &b.Due.Due, &b.Due.Event); err != nil {
			return err
		}
		if i, ok := at[b.Endpoint]; ok { // fresh ones come first
			list[i].Due = b.Due
			return nil
		}
		at[b.Endpoint] = len(list)
		list = append(list, b)
		return nil
	}, `
		SELECT endpoint, min(event), 0, 0 FROM deliveries INDEXED BY deliveries_pending
			WHERE state=0 AND due=0`+some+` GROUP BY endpoint
		UNION ALL
		SELECT endpoint, 0, first, (SELECT min(event) FROM deliveries d INDEXED BY deliveries_pending WHERE d.state=0 AND d.due=first AND d.endpoint=r.endpoint)
			FROM (SELECT endpoint, min(due) AS first FROM deliveries INDEXED BY deliveries_pending
				WHERE state=0 AND due>0`+some+` GROUP BY endpoint) r`, args...)
	if err != nil {
		return nil, fmt.Errorf("backlogs: %w", err)
	}
	return list, ctx.Err()
}

// NextDue implements [deliver.Books].
func (s *Store) NextDue(_ context.Context, after int64) (int64, error) {
	var due int64
	err := s.readDB.QueryRowContext(background,
		"SELECT ifnull(min(due), 0) FROM deliveries INDEXED BY deliveries_pending WHERE state=0 AND due>?", min(after, math.MaxInt64-1)).Scan(&due)
	if err != nil {
		return 0, fmt.Errorf("next due delivery: %w", err)
	}
	return due, nil
}

// Payloads implements [fanout.SourceBooks]: those that the books keep.
func (s *Store) Payloads(ctx context.Context, events []int64) (map[int64]*deliver.Payload, error) {
	found := make(map[int64]*deliver.Payload)
	err := s.read(func(scan func(...any) error) error {
		var p deliver.Payload
		var key []byte
		var stored int64
		if err := scan(&p.Event, &p.Org, &key, &p.Type, &p.TraceParent, &stored, &p.Body); err != nil {
			return err
		}
		p.ID, p.Stored = toID(key), fromNanos(stored)
		found[p.Event] = &p
		return nil
	}, `SELECT p.event, p.org, p.key, p.type, ifnull(p.traceparent, ''), p.stored, p.body
		FROM json_each(?) j JOIN payloads p ON p.event = j.value`, numbers(events))
	if err != nil {
		return nil, fmt.Errorf("read payloads: %w", err)
	}
	return found, ctx.Err()
}

// EventPlaces implements [fanout.SourceBooks]. Events of removed
// organizations are left out, as unknown ones are.
func (s *Store) EventPlaces(ctx context.Context, events []int64) ([]fanout.EventPlace, error) {
	var places []fanout.EventPlace
	err := s.read(func(scan func(...any) error) error {
		var p fanout.EventPlace
		var key []byte
		err := scan(&p.Event, &p.Org, &p.Incarnation, &p.Seq, &key)
		p.ID = toID(key)
		places = append(places, p)
		return err
	}, `SELECT e.id, o.org, e.incarnation, e.seq, e.key
		FROM json_each(?) j JOIN events e ON e.id = j.value JOIN orgs o ON o.id = e.org AND o.removed_at IS NULL`, numbers(events))
	if err != nil {
		return nil, fmt.Errorf("places of events: %w", err)
	}
	if err := s.withoutExpunged(places); err != nil {
		return nil, fmt.Errorf("places of events: %w", err)
	}
	return places, ctx.Err()
}

// toID is the ID that a key column holds; the zero ID if it does not.
func toID(key []byte) stream.ID {
	var id stream.ID
	copy(id[:], key)
	return id
}
