package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/grapnel-hooks/grapnel/stream"
)

// backlog is what of an org's pending deliveries only the rows can tell.
type backlog struct {
	waiting   int64     // due later
	oldestDue time.Time // zero: none is due
}

// backlogs are the latest answers to [Store.backlogs].
type backlogs struct {
	mu    sync.Mutex // held while they are counted: one count serves all who wait for it
	until time.Time  // they are counted anew from then on
	of    map[int64]backlog
}

const (
	// Counting goes through all that is pending. If that takes longer than
	// backlogSlow, the answer serves for so many times as long, so that whoever looks
	// all the time costs a twentieth of the time at most.
	backlogSlow = 5 * time.Millisecond
	backlogRest = 20
)

// backlogs goes through the pending deliveries of all orgs, by row. The answer
// is not to be changed.
func (s *Store) backlogs() (map[int64]backlog, error) {
	b := &s.behind
	b.mu.Lock()
	defer b.mu.Unlock()
	if time.Now().Before(b.until) {
		return b.of, nil
	}
	began := time.Now()
	of, err := readBacklogs(s.readDB, s.now())
	if err != nil {
		return nil, err
	}
	if took := time.Since(began); took > backlogSlow {
		b.until = time.Now().Add(backlogRest * took)
	}
	b.of = of
	return of, nil
}

func readBacklogs(db querier, now time.Time) (map[int64]backlog, error) {
	of := make(map[int64]backlog)
	fresh := make(map[int64]int64) // org → its oldest event with a delivery that was never attempted
	err := each(db, func(scan func(...any) error) error {
		var org, oldest, event int64
		var b backlog
		if err := scan(&org, &b.waiting, &oldest, &event); err != nil {
			return err
		}
		b.oldestDue = fromMillis(oldest)
		of[org] = b
		if event > 0 {
			fresh[org] = event
		}
		return nil
	}, `SELECT org, sum(due > ?1), ifnull(min(iif(due BETWEEN 1 AND ?1, due, NULL)), 0), ifnull(min(iif(due = 0, event, NULL)), 0)
		FROM deliveries INDEXED BY deliveries_pending WHERE state=0 GROUP BY org`, toMillis(now))
	if err != nil {
		return nil, err
	}
	events := make([]int64, 0, len(fresh))
	for _, event := range fresh {
		events = append(events, event)
	}
	err = each(db, func(scan func(...any) error) error {
		var org, at int64
		if err := scan(&org, &at); err != nil {
			return err
		}
		b := of[org]
		if since := fromMillis(at); b.oldestDue.IsZero() || since.Before(b.oldestDue) {
			b.oldestDue = since
			of[org] = b
		}
		return nil
	}, "SELECT e.org, e.stored+e.fanned FROM json_each(?) j CROSS JOIN events e ON e.id=j.value", numbers(events))
	return of, err
}

// CursorMove is a change of a cursor's position by hand.
type CursorMove struct {
	At       time.Time
	By       string // tok_… or operator
	Action   string // cursor.reset, …
	From, To stream.Seq
	Reason   string
	Skipped  string // sequences that were never read, and then never are: "43-50"; "": none
}

// CursorMoves are the latest moves of the org's position by hand, newest first.
func (s *Store) CursorMoves(ctx context.Context, org string, limit int) ([]CursorMove, error) {
	o, err := s.find(org)
	if err != nil {
		return nil, err
	}
	return readMoves(ctx, s.readDB, o.row, limit)
}

func readMoves(_ context.Context, db querier, org int64, limit int) ([]CursorMove, error) {
	var list []CursorMove
	err := each(db, func(scan func(...any) error) error {
		var m CursorMove
		var at int64
		var text string
		if err := scan(&at, &m.By, &m.Action, &text); err != nil {
			return err
		}
		var c struct {
			Position [2]stream.Seq `json:"position"`
			Reason   [2]string     `json:"reason"`
			Skipped  [2]string     `json:"skipped"`
		}
		if err := json.Unmarshal([]byte(text), &c); err != nil {
			return err
		}
		m.At, m.From, m.To, m.Reason, m.Skipped = fromMillis(at), c.Position[0], c.Position[1], c.Reason[1], c.Skipped[1]
		list = append(list, m)
		return nil
	}, `SELECT at, actor, action, changes FROM audit
		WHERE org=? AND action LIKE 'cursor.%' AND json_type(changes, '$.position') IS NOT NULL ORDER BY id DESC LIMIT ?`, org, limit)
	if err != nil {
		return nil, fmt.Errorf("moves of a cursor: %w", err)
	}
	return list, nil
}
