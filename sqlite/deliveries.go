package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// GetDelivery reads one delivery of the org and its attempts, the first one first. It
// wraps [ErrNotFound].
func (s *Store) GetDelivery(ctx context.Context, org string, k deliver.Key) (deliver.Delivery, []deliver.Attempt, error) {
	o, err := s.find(org)
	if err != nil {
		return deliver.Delivery{}, nil, err
	}
	d, err := scanDelivery(s.readDB.QueryRowContext(background, `SELECT `+deliveryColumns+`
		FROM deliveries d JOIN events e ON e.id=d.event JOIN endpoints p ON p.id=d.endpoint
		WHERE d.event=? AND d.endpoint=? AND d.org=?`, k.Event, k.Endpoint, o.row), org)
	if errors.Is(err, sql.ErrNoRows) {
		return deliver.Delivery{}, nil, fmt.Errorf("delivery of event %d to endpoint %d: %w", k.Event, k.Endpoint, ErrNotFound)
	}
	if err != nil {
		return deliver.Delivery{}, nil, fmt.Errorf("delivery of event %d to endpoint %d: %w", k.Event, k.Endpoint, err)
	}
	attempts, err := s.attempts(k)
	if err != nil {
		return deliver.Delivery{}, nil, fmt.Errorf("attempts of event %d to endpoint %d: %w", k.Event, k.Endpoint, err)
	}
	return d, attempts, nil
}

// EventDetail is one event with its deliveries.
type EventDetail struct {
	fanout.EventPlace
	Type       string
	Stored     time.Time
	FannedOut  time.Time
	Deliveries []deliver.Delivery // by endpoint; the first MaxPage of them
}

// GetEvent finds an event of the org by its ID. It wraps [ErrNotFound], also
// for events that nobody was subscribed to: the books have no row for them.
func (s *Store) GetEvent(ctx context.Context, org string, id stream.ID) (EventDetail, error) {
	o, err := s.find(org)
	if err != nil {
		return EventDetail{}, err
	}
	place, err := s.findEvent(o, id)
	if err == nil && place == nil {
		err = ErrNotFound
	}
	if err != nil {
		return EventDetail{}, fmt.Errorf("event %s: %w", id, err)
	}
	d := EventDetail{EventPlace: *place}
	var stored, fanned int64
	err = s.readDB.QueryRowContext(background, "SELECT type, stored, fanned FROM events WHERE id=? AND org=?", place.Event, o.row).Scan(&d.Type, &stored, &fanned)
	if err != nil {
		return EventDetail{}, fmt.Errorf("event %s: %w", id, err)
	}
	d.Stored, d.FannedOut = fromMillis(stored), fromMillis(stored+fanned)
	d.Deliveries, _, err = s.ListDeliveries(ctx, org, Filter{Event: id}, MaxPage, deliver.Key{})
	return d, err
}

// findEvent finds the newest event of the org with that ID, nil if the books
// have none.
func (s *Store) findEvent(o *orgState, id stream.ID) (*fanout.EventPlace, error) {
	candidates, err := s.keys.lookup(s.readDB, id, nil)
	if err != nil {
		return nil, err
	}
	for _, event := range candidates {
		place, err := s.event(o, event)
		if err != nil {
			return nil, err
		}
		if place != nil && place.ID == id {
			return place, nil
		}
	}
	return nil, nil
}

// event reads where an event of the org lies, nil if the books have none of that number.
func (s *Store) event(o *orgState, event int64) (*fanout.EventPlace, error) {
	p := fanout.EventPlace{Event: event, Org: o.org.ID}
	var key []byte
	err := s.readDB.QueryRowContext(background, "SELECT incarnation, seq, key FROM events WHERE id=? AND org=?", event, o.row).Scan(&p.Incarnation, &p.Seq, &key)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, err
	}
	p.ID = toID(key)
	return &p, nil
}
