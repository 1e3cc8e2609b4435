package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
)

// Due is what one endpoint has that is pending and whose time has come.
type Due struct {
	Endpoint int64 // its row
	Count    int64
	Since    time.Time // since when the oldest of them is due; of one that was never attempted, since it was fanned out
}

// DueDeliveries lists what is due at now, by endpoint. Deliveries that stand in a
// line behind another one are not due. It reads all of that part of the index of
// pending deliveries: not for the path of a request.
func (s *Store) DueDeliveries(ctx context.Context, now time.Time) ([]Due, error) {
	var list []Due
	err := s.read(func(scan func(...any) error) error {
		var d Due
		var retry, fresh int64
		if err := scan(&d.Endpoint, &d.Count, &retry, &fresh); err != nil {
			return err
		}
		d.Since = fromMillis(fresh)
		if fresh == 0 || retry != 0 && retry < fresh {
			d.Since = fromMillis(retry)
		}
		list = append(list, d)
		return ctx.Err()
	}, `SELECT endpoint, n, ifnull(retry, 0), ifnull((SELECT stored + fanned FROM events WHERE id = fresh), 0)
		FROM (SELECT endpoint, count(*) AS n, min(CASE WHEN due > 0 THEN due END) AS retry, min(CASE WHEN due = 0 THEN event END) AS fresh
			FROM deliveries INDEXED BY deliveries_pending WHERE state=0 AND due<=? GROUP BY endpoint)`, toMillis(now))
	if err != nil {
		return nil, fmt.Errorf("due deliveries: %w", err)
	}
	return list, nil
}

// Census counts deliveries by state, a part at a time: it goes through all of
// them, and reads no longer than a part takes.
type Census struct {
	States [deliver.Cancelled + 1]int64 // by deliver.State; of those before the place
	place  deliver.Key
	Done   bool
}

// Count counts up to n more deliveries.
func (s *Store) Count(ctx context.Context, c Census, n int) (Census, error) {
	read := 0
	err := s.read(func(scan func(...any) error) error {
		var state deliver.State
		if err := scan(&c.place.Event, &c.place.Endpoint, &state); err != nil {
			return err
		}
		read++
		if state >= 0 && int(state) < len(c.States) {
			c.States[state]++
		}
		return ctx.Err()
	}, "SELECT event, endpoint, state FROM deliveries WHERE (event, endpoint) > (?, ?) ORDER BY event, endpoint LIMIT ?",
		c.place.Event, c.place.Endpoint, n)
	if err != nil {
		return c, fmt.Errorf("count deliveries after %v: %w", c.place, err)
	}
	c.Done = read < n
	return c, nil
}
