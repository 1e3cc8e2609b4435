package sqlite

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/stream"
)

// RetryDelivery makes a delivery due now, with a fresh budget of attempts and its
// history kept, whatever its state is: one that waits does not wait any
// longer. Fresh ones, which are due anyway, stay as they are. It wraps
// [ErrNotFound], and [ErrState] when the endpoint was removed.
func (s *Store) RetryDelivery(ctx context.Context, org string, k deliver.Key) (deliver.Ticket, error) {
	o, err := s.find(org)
	if err != nil {
		return deliver.Ticket{}, err
	}
	var ticket deliver.Ticket
	err = s.w.do(ctx, func(t *txn) error {
		d, err := t.delivery(o, k)
		if err != nil {
			return err
		}
		if d.removed {
			return fmt.Errorf("its endpoint is removed: %w", ErrState)
		}
		if ticket, err = t.again(d, deliver.Manual); err != nil {
			return err
		}
		return t.audited(o, "delivery.retry", d.id(), nil)
	})
	if err != nil {
		return deliver.Ticket{}, fmt.Errorf("retry delivery of event %d to endpoint %d: %w", k.Event, k.Endpoint, err)
	}
	return ticket, nil
}

// CancelDelivery ends a pending delivery: no further attempt is made. One that is
// under way goes on, and is kept as an attempt of the cancelled delivery,
// whatever comes of it. It wraps [ErrNotFound], and [ErrState] unless the delivery
// is pending.
func (s *Store) CancelDelivery(ctx context.Context, org string, k deliver.Key) error {
	o, err := s.find(org)
	if err != nil {
		return err
	}
	err = s.w.do(ctx, func(t *txn) error {
		d, err := t.delivery(o, k)
		if err != nil {
			return err
		}
		if d.state != deliver.Pending {
			return fmt.Errorf("it is %s: %w", d.state, ErrState)
		}
		t.tally(k.Endpoint, -1, 0)
		if _, err := t.c.exec("UPDATE deliveries SET state=?, reason=?, due=0 WHERE event=? AND endpoint=?",
			int64(deliver.Cancelled), int64(deliver.ByHand), k.Event, k.Endpoint); err != nil {
			return err
		}
		if err := t.leave(k); err != nil {
			return err
		}
		return t.audited(o, "delivery.cancel", d.id(), nil)
	})
	if err != nil {
		return fmt.Errorf("cancel delivery of event %d to endpoint %d: %w", k.Event, k.Endpoint, err)
	}
	return nil
}

// MaxReplay is how many deliveries one replay of an event makes due.
const MaxReplay = 10_000

// ReplayEvent does to each delivery of the event what [Store.RetryDelivery] does to
// one, in one transaction; those of removed endpoints are left out. With an endpoint
// (ep_…) it does so for that one only. It returns the deliveries, by endpoint.
//
// It wraps [ErrNotFound] when the books do not know the event, and [ErrState]
// when there is no delivery of it that could be sent, or more than [MaxReplay].
func (s *Store) ReplayEvent(ctx context.Context, org string, id stream.ID, endpoint string) ([]deliver.Key, error) {
	o, err := s.find(org)
	if err != nil {
		return nil, err
	}
	place, err := s.findEvent(o, id)
	if err == nil && place == nil {
		err = ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("replay event %s: %w", id, err)
	}
	var keys []deliver.Key
	err = s.w.do(ctx, func(t *txn) error {
		keys = nil
		all, err := t.deliveries(o, place.Event, endpoint, MaxReplay+1)
		switch {
		case err != nil:
			return err
		case len(all) > MaxReplay:
			return fmt.Errorf("it has more than %d deliveries, replay it for each endpoint: %w", MaxReplay, ErrState)
		case len(all) == 0 && endpoint != "":
			return fmt.Errorf("endpoint %s never had it: %w", endpoint, ErrState)
		}
		for _, d := range all {
			if d.removed {
				continue
			}
			if _, err := t.again(d, deliver.Replay); err != nil {
				return err
			}
			keys = append(keys, d.key)
		}
		if len(keys) == 0 {
			return fmt.Errorf("the endpoints that had it are removed: %w", ErrState)
		}
		changes := Changes{}
		changed(changes, "endpoint_id", "", endpoint)
		return t.audited(o, "event.replay", id.String(), changes)
	})
	if err != nil {
		return nil, fmt.Errorf("replay event %s: %w", id, err)
	}
	return keys, nil
}

// bookedDelivery is a delivery as the present transaction sees it.
type bookedDelivery struct {
	key      deliver.Key
	state    deliver.State
	due      int64
	attempts int
	spent    int
	trigger  deliver.Trigger
	removed  bool // its endpoint is
	stored   time.Time
}

func (d *bookedDelivery) id() string { return d.key.ID(d.stored) }

const bookedColumns = `SELECT d.endpoint, d.state, d.due, d.attempts, d.spent, d.trigger, p.removed_at IS NOT NULL, e.stored
	FROM deliveries d JOIN events e ON e.id=d.event JOIN endpoints p ON p.id=d.endpoint`

func (t *txn) delivery(o *orgState, k deliver.Key) (*bookedDelivery, error) {
	r := make(row, 8)
	found, err := t.c.one(r, bookedColumns+" WHERE d.event=? AND d.endpoint=? AND d.org=?", k.Event, k.Endpoint, o.row)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, ErrNotFound
	}
	return bookedOf(k.Event, r), nil
}

// deliveries are those of an event, by endpoint, or the one of an endpoint
// that is not "".
func (t *txn) deliveries(o *orgState, event int64, endpoint string, limit int64) ([]*bookedDelivery, error) {
	var all []*bookedDelivery
	err := t.c.query(func(r row) error {
		all = append(all, bookedOf(event, r))
		return nil
	}, bookedColumns+" WHERE d.event=?1 AND d.org=?2 AND (?3='' OR p.ulid=?3) ORDER BY d.endpoint LIMIT ?4", event, o.row, endpoint, limit)
	return all, err
}

func bookedOf(event int64, r row) *bookedDelivery {
	return &bookedDelivery{
		key: deliver.Key{Event: event, Endpoint: r.int(0)}, state: deliver.State(r.int(1)), due: r.int(2),
		attempts: int(r.int(3)), spent: int(r.int(4)), trigger: deliver.Trigger(r.int(5)), removed: r.int(6) == 1,
		stored: fromMillis(r.int(7)),
	}
}

// again makes a delivery due now, unless it is fresh.
func (t *txn) again(d *bookedDelivery, trigger deliver.Trigger) (deliver.Ticket, error) {
	ticket := deliver.Ticket{Key: d.key, Due: d.due, Attempts: d.attempts, Spent: d.spent, Trigger: d.trigger}
	if d.state == deliver.Pending && d.due == 0 {
		return ticket, nil
	}
	if gone, err := t.isExpunged(d.key.Event); err != nil || gone {
		return ticket, cmp.Or(err, errExpunged)
	}
	ticket.Due, ticket.Spent, ticket.Trigger = max(toMillis(t.now), 1), 0, trigger
	switch d.state {
	case deliver.Dead:
		t.tally(d.key.Endpoint, 1, -1)
	case deliver.Delivered, deliver.Cancelled:
		t.tally(d.key.Endpoint, 1, 0)
	}
	_, err := t.c.exec("UPDATE deliveries SET state=0, reason=0, due=?, spent=0, trigger=? WHERE event=? AND endpoint=?",
		ticket.Due, int64(trigger), d.key.Event, d.key.Endpoint)
	return ticket, err
}
