package sqlite

import (
	"context"
	"fmt"
	"math"

	"github.com/grapnel-hooks/grapnel/deliver"
)

// sweepStep is how many rows one transaction of a sweep changes.
const sweepStep = 1000

// sweepAfterStart finishes what a crash interrupted.
func (s *Store) sweepAfterStart(ctx context.Context) {
	if err := s.sweep(ctx); err != nil && ctx.Err() == nil {
		s.log.Error("cancelling the deliveries of removed endpoints failed; the next removal or start tries again", "error", err)
	}
}

// sweep does what follows from removals: it cancels the pending deliveries of
// removed endpoints, and deletes what only removed organizations had. Each step is
// a small transaction, so that traffic goes on in between.
func (s *Store) sweep(ctx context.Context) error {
	s.sweeping.Lock()
	defer s.sweeping.Unlock()
	endpoints, err := s.column("SELECT id FROM endpoints WHERE removed_at IS NOT NULL AND swept = 0")
	if err != nil {
		return err
	}
	for _, endpoint := range endpoints {
		if err := s.cancelPending(ctx, endpoint); err != nil {
			return fmt.Errorf("cancel deliveries to endpoint %d: %w", endpoint, err)
		}
	}
	orgs, err := s.column("SELECT id FROM orgs WHERE removed_at IS NOT NULL")
	if err != nil {
		return err
	}
	for _, org := range orgs {
		if err := s.deleteRest(ctx, org); err != nil {
			return fmt.Errorf("delete what is left of organization %d: %w", org, err)
		}
	}
	return nil
}

// cancelPending cancels the pending deliveries of a removed endpoint. Nothing
// makes new ones, but an attempt that ends meanwhile can move one to another
// place: only a reading from the start that finds none is the end.
func (s *Store) cancelPending(ctx context.Context, endpoint int64) error {
	for from := (deliver.Place{}); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		tickets, err := s.Pending(ctx, from, deliver.Place{Due: math.MaxInt64, Event: math.MaxInt64}, []int64{endpoint}, sweepStep)
		if err != nil {
			return err
		}
		last := len(tickets) == 0 && from == deliver.Place{}
		err = s.w.do(ctx, func(t *txn) error {
			s.o.Failpoint("sweep.step")
			for _, ticket := range tickets {
				n, err := t.c.exec("UPDATE deliveries SET state=3, reason=?, due=0, trigger=0 WHERE event=? AND endpoint=? AND state=0",
					int64(deliver.EndpointDeleted), ticket.Event, endpoint)
				if err != nil {
					return err
				}
				t.tally(endpoint, -n, 0)
				if ticket.Due != 0 {
					if err := t.leave(ticket.Key); err != nil {
						return err
					}
				}
			}
			if !last {
				return nil
			}
			_, err := t.c.exec("UPDATE endpoints SET swept=1 WHERE id=?", endpoint)
			return err
		})
		if err != nil || last {
			return err
		}
		if from = (deliver.Place{}); len(tickets) == sweepStep {
			from = tickets[sweepStep-1].Place()
		}
	}
}

// deleteRest deletes what has no use without its organization. Events and
// deliveries go with retention.
func (s *Store) deleteRest(ctx context.Context, org int64) error {
	for _, step := range []struct{ exists, remove string }{
		{"SELECT 1 FROM rejected WHERE org=? LIMIT 1", "DELETE FROM rejected WHERE id IN (SELECT id FROM rejected WHERE org=? LIMIT ?)"},
		{"SELECT 1 FROM subscriptions WHERE org=? LIMIT 1", "DELETE FROM subscriptions WHERE id IN (SELECT id FROM subscriptions WHERE org=? LIMIT ?)"},
		{"SELECT 1 FROM expunged WHERE org=? LIMIT 1", "DELETE FROM expunged WHERE org=?1 AND (incarnation, seq) IN (SELECT incarnation, seq FROM expunged WHERE org=?1 LIMIT ?2)"},
		{"SELECT 1 FROM outbox WHERE org=? LIMIT 1", "DELETE FROM outbox WHERE org=?1 AND id IN (SELECT id FROM outbox WHERE org=?1 LIMIT ?2)"},
		{"SELECT 1 FROM replays WHERE org=? LIMIT 1", "DELETE FROM replays WHERE id IN (SELECT id FROM replays WHERE org=? LIMIT ?)"},
		{"SELECT 1 FROM gaps WHERE org=? LIMIT 1", "DELETE FROM gaps WHERE org=?1 AND (incarnation, from_seq) IN (SELECT incarnation, from_seq FROM gaps WHERE org=?1 LIMIT ?2)"},
		{"SELECT 1 FROM incarnations WHERE org=? LIMIT 1", "DELETE FROM incarnations WHERE org=?1 AND incarnation IN (SELECT incarnation FROM incarnations WHERE org=?1 LIMIT ?2)"},
		{"SELECT 1 FROM gated WHERE org=? LIMIT 1", "DELETE FROM gated WHERE org=?1 AND (incarnation, from_seq) IN (SELECT incarnation, from_seq FROM gated WHERE org=?1 LIMIT ?2)"},
	} {
		for {
			left, err := s.column(step.exists, org)
			if err != nil {
				return err
			}
			if len(left) == 0 {
				break
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			err = s.w.do(ctx, func(t *txn) error {
				s.o.Failpoint("sweep.step")
				_, err := t.c.exec(step.remove, org, int64(sweepStep))
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}
