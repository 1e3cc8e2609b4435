package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// MaxIncarnations is how many [Store.Incarnations] lists.
const MaxIncarnations = 100

// Incarnation is a stream, or a rolled-back state of one, that was found in
// place of what the cursor had read.
type Incarnation struct {
	Number  int // from 2: the first is the stream that was there at the beginning
	At      time.Time
	Change  cursor.Change // Recreated or Regressed
	Created time.Time     // the stream's identity
	Left    stream.Seq    // how far the one before was read
	Began   stream.Seq    // the sequence after which this one is read
}

// incarnate books that the plan begins another incarnation.
func (t *txn) incarnate(o *orgState, p fanout.Plan, left int64) error {
	_, err := t.c.exec("INSERT INTO incarnations(org, incarnation, at, regressed, created, left_at, began) VALUES(?,?,?,?,?,?,?)",
		o.row, int64(p.To.Incarnation), toMillis(t.now), p.Change == cursor.Regressed, toNanos(p.To.Created), left, int64(p.Began))
	return err
}

// Incarnations lists those of the org's stream, newest first, at most
// MaxIncarnations.
func (s *Store) Incarnations(_ context.Context, org string) (list []Incarnation, err error) {
	o, err := s.find(org)
	if err != nil {
		return nil, err
	}
	err = each(s.readDB, func(scan func(...any) error) error {
		var i Incarnation
		var at, created int64
		var regressed bool
		if err := scan(&i.Number, &at, &regressed, &created, &i.Left, &i.Began); err != nil {
			return err
		}
		i.At, i.Created, i.Change = fromMillis(at), fromNanos(created), changeOf(regressed)
		list = append(list, i)
		return nil
	}, "SELECT incarnation, at, regressed, created, left_at, began FROM incarnations WHERE org=? ORDER BY incarnation DESC LIMIT ?", o.row, MaxIncarnations)
	if err != nil {
		return nil, fmt.Errorf("incarnations of %s: %w", org, err)
	}
	return list, nil
}

func changeOf(regressed bool) cursor.Change {
	if regressed {
		return cursor.Regressed
	}
	return cursor.Recreated
}

// StreamStats counts what streams have lost or had done to them, since ever, in
// organizations that are there.
type StreamStats struct {
	GapEvents uint64 // sequences that were gone, or were moved over
	Recreated int    // streams that were deleted and made anew
	Regressed int    // streams that were rolled back
}

// StreamStats reads one row of each organization.
func (s *Store) StreamStats() (st StreamStats, err error) {
	err = each(s.readDB, func(scan func(...any) error) error {
		return scan(&st.GapEvents, &st.Recreated, &st.Regressed)
	}, `SELECT ifnull(sum(gap_events), 0), (SELECT count(*) FROM incarnations WHERE NOT regressed), (SELECT count(*) FROM incarnations WHERE regressed) FROM cursors`)
	if err != nil {
		return st, fmt.Errorf("count gaps: %w", err)
	}
	return st, nil
}
