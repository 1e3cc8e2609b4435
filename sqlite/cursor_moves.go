package sqlite

import (
	"context"
	"fmt"

	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// MoveCursor moves the org's position by hand. Plans made before are stale. It
// fails as [fanout.Move.Check], and changes nothing then.
func (s *Store) MoveCursor(ctx context.Context, org string, m fanout.Move) error {
	o, err := s.find(org)
	if err != nil {
		return err
	}
	err = s.w.do(ctx, func(t *txn) error {
		s.o.Failpoint("cursor.move")
		r := make(row, 3)
		found, err := t.c.one(r, "SELECT incarnation, position, furthest FROM cursors WHERE org=?", o.row)
		if err != nil {
			return err
		}
		if !found {
			return fanout.ErrNoOrg // removed a moment ago
		}
		at := cursor.Position{Incarnation: int(r.int(0)), Seq: stream.Seq(r.int(1))}
		far := cursor.Position{Incarnation: at.Incarnation, Seq: stream.Seq(r.int(2))}
		skipped, err := m.Check(at, far)
		if err != nil {
			return err
		}
		if skipped.From != 0 {
			if err := t.skip(o, skipped); err != nil {
				return err
			}
		}
		to := m.To
		if _, err := t.c.exec(`UPDATE cursors SET stream=?, created=?, incarnation=?, position=?4, anchor=?5, hash=?6, updated_at=?,
			furthest=max(furthest, ?4), furthest_anchor=iif(?4 > furthest, ?5, furthest_anchor), furthest_hash=iif(?4 > furthest, ?6, furthest_hash) WHERE org=?`,
			to.Stream, toNanos(to.Created), int64(to.Incarnation), int64(to.Seq), toNanos(to.Anchor), int64(to.Hash), toMillis(t.now), o.row); err != nil {
			return err
		}
		changes := Changes{"position": {at.Seq, to.Seq}, "reason": {nil, m.Reason}}
		if skipped.From != 0 {
			changes["skipped"] = [2]any{nil, fmt.Sprintf("%d-%d", skipped.From, skipped.To)}
		}
		if err := t.audited(o, "cursor.reset", org, changes); err != nil {
			return err
		}
		if err := t.bump(o); err != nil {
			return err
		}
		// Crash here or before: nothing happened. After the commit: all of it did.
		s.o.Failpoint("cursor.moved")
		return nil
	})
	if err != nil {
		return fmt.Errorf("move the cursor of %s: %w", org, err)
	}
	return nil
}

// Find implements [fanout.MoveBooks].
func (a *Audit) Find(ctx context.Context, ids []stream.ID) ([]fanout.Found, error) {
	found := make([]fanout.Found, len(ids))
	of := make(map[int64][]int)   // by event: for which of the ids; one can be there twice
	at := make([]int64, len(ids)) // the event of each
	var candidates []int64
	for i, id := range ids {
		events, err := a.s.keys.lookup(a.s.readDB, id, nil)
		if err != nil {
			return nil, fmt.Errorf("find events: %w", err)
		}
		for _, event := range events {
			if of[event] == nil {
				candidates = append(candidates, event)
			}
			of[event] = append(of[event], i)
		}
	}
	if len(candidates) == 0 {
		return found, ctx.Err()
	}
	err := each(a.c, func(scan func(...any) error) error {
		var event int64
		var key []byte
		var f fanout.Found
		if err := scan(&event, &key, &f.Incarnation, &f.Seq); err != nil {
			return err
		}
		for _, i := range of[event] {
			if toID(key) == ids[i] { // else another event with the same hash
				found[i], at[i] = f, event
			}
		}
		return nil
	}, "SELECT e.id, e.key, e.incarnation, e.seq FROM json_each(?) j CROSS JOIN events e ON e.id=j.value WHERE e.org=?", numbers(candidates), a.o.row)
	if err != nil {
		return nil, fmt.Errorf("find events: %w", err)
	}
	err = each(a.c, func(scan func(...any) error) error {
		var event, endpoint int64
		if err := scan(&event, &endpoint); err != nil {
			return err
		}
		for _, i := range of[event] {
			if at[i] == event {
				found[i].Endpoints = append(found[i].Endpoints, endpoint)
			}
		}
		return nil
	}, "SELECT d.event, d.endpoint FROM json_each(?) j CROSS JOIN deliveries d ON d.event=j.value ORDER BY d.event, d.endpoint", numbers(candidates))
	if err != nil {
		return nil, fmt.Errorf("find deliveries: %w", err)
	}
	return found, ctx.Err()
}
