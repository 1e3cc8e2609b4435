package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/fanout"
)

// Counts is how many deliveries of an org stand where.
type Counts struct {
	Pending int64
	Due     int64 // of Pending: those whose time has come, held ones included
	Dead    int64
}

// Cursor is an org's position and what came of what was read so far.
type Cursor struct {
	cursor.Position
	UpdatedAt  time.Time // of the position; zero when it was never read
	Pause      *Pause    // nil: it is read
	Events     uint64    // that got deliveries
	Unmatched  uint64    // that nobody was subscribed to
	Duplicates uint64
	Rejected   uint64
	Gated      uint64
	Gaps       uint64    // ranges of sequences that were gone
	GapEvents  uint64    // sequences in them
	GapAt      time.Time // when the latest was found; zero: none was
	// Change is how the present incarnation began, and ChangedAt when that was
	// noticed; Same and zero for the first.
	Change    cursor.Change
	ChangedAt time.Time
	Pace      Pace
	OldestDue time.Time // since when the pending delivery is due that is due longest; zero: none is
	Counts
}

const cursorColumns = `o.org, c.stream, c.created, c.incarnation, c.position, c.anchor, c.hash,
	c.updated_at, c.paused, c.events, c.unmatched, c.duplicates, c.rejected, c.gated, c.gaps, c.gap_events, c.gap_at,
	ifnull(i.at, 0), ifnull(i.regressed, 0), ifnull(p.at, 0), ifnull(p.until, 0), ifnull(p.actor, ''), ifnull(p.reason, '')`

const cursorTables = `orgs o JOIN cursors c ON c.org = o.id LEFT JOIN incarnations i ON i.org = c.org AND i.incarnation = c.incarnation
	LEFT JOIN pauses p ON p.org = c.org`

func scanCursor(scan func(...any) error) (Cursor, error) {
	var c Cursor
	var created, anchor, hash, updated, gap, changed, at, until int64
	var regressed, paused bool
	var p Pause
	err := scan(&c.Org, &c.Stream, &created, &c.Incarnation, &c.Seq, &anchor, &hash,
		&updated, &paused, &c.Events, &c.Unmatched, &c.Duplicates, &c.Rejected, &c.Gated, &c.Gaps, &c.GapEvents, &gap, &changed, &regressed,
		&at, &until, &p.By, &p.Reason)
	c.Hash = uint64(hash)
	c.Created, c.Anchor, c.UpdatedAt, c.GapAt = fromNanos(created), fromNanos(anchor), fromMillis(updated), fromMillis(gap)
	if changed != 0 {
		c.ChangedAt, c.Change = fromMillis(changed), changeOf(regressed)
	}
	if paused {
		p.At, p.Until = fromMillis(at), fromMillis(until)
		c.Pause = &p
	}
	return c, err
}

// Furthest implements [fanout.Books].
func (s *Store) Furthest(_ context.Context, org string) (cursor.Position, error) {
	o, err := s.find(org)
	if err != nil {
		return cursor.Position{}, err
	}
	p, err := furthest(s.readDB.QueryRowContext(background, "SELECT "+furthestColumns+" FROM cursors c WHERE c.org=?", o.row).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		err = fanout.ErrNoOrg
	}
	if err != nil {
		return p, fmt.Errorf("furthest place of %s: %w", org, err)
	}
	p.Org = org
	return p, nil
}

const furthestColumns = "c.stream, c.created, c.incarnation, c.furthest, c.furthest_anchor, c.furthest_hash"

// furthest scans the columns, and those after them into more.
func furthest(scan func(...any) error, more ...any) (cursor.Position, error) {
	var p cursor.Position
	var created, anchor, hash int64
	err := scan(append([]any{&p.Stream, &created, &p.Incarnation, &p.Seq, &anchor, &hash}, more...)...)
	p.Created, p.Anchor, p.Hash = fromNanos(created), fromNanos(anchor), uint64(hash)
	return p, err
}

// Position implements [fanout.Books].
func (s *Store) Position(ctx context.Context, org string) (cursor.Position, error) {
	c, err := s.cursor(org)
	return c.Position, err
}

// Cursor is the org's position with its counts.
func (s *Store) Cursor(ctx context.Context, org string) (Cursor, error) {
	c, err := s.cursor(org)
	if err != nil {
		return Cursor{}, err
	}
	o, err := s.find(org)
	if err != nil {
		return Cursor{}, err
	}
	var b backlog
	if o.pending.Load() > 0 {
		all, err := s.backlogs()
		if err != nil {
			return Cursor{}, fmt.Errorf("count deliveries of %s: %w", org, err)
		}
		b = all[o.row]
	}
	c.Counts, c.OldestDue = o.counts(b.waiting), b.oldestDue
	return c, nil
}

func (s *Store) cursor(org string) (Cursor, error) {
	o, err := s.find(org)
	if err != nil {
		return Cursor{}, err
	}
	c, err := scanCursor(s.readDB.QueryRowContext(background,
		"SELECT "+cursorColumns+" FROM "+cursorTables+" WHERE c.org = ?", o.row).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		err = fanout.ErrNoOrg
	}
	if err != nil {
		return Cursor{}, fmt.Errorf("position of %s: %w", org, err)
	}
	c.Pace = o.pace.read(s.now())
	return c, nil
}

// Cursors are those of all orgs, by org.
func (s *Store) Cursors(ctx context.Context) ([]Cursor, error) {
	return s.CursorsAfter(ctx, "", -1)
}

// CursorsAfter are those of up to limit orgs whose id comes after the given one,
// ascending; with a negative limit of all of them.
func (s *Store) CursorsAfter(_ context.Context, after string, limit int) ([]Cursor, error) {
	backlogs, err := s.backlogs()
	if err != nil {
		return nil, fmt.Errorf("cursors: count deliveries: %w", err)
	}
	now := s.now()
	var list []Cursor
	err = s.read(func(scan func(...any) error) error {
		c, err := scanCursor(scan)
		if err != nil {
			return err
		}
		if o, err := s.find(c.Org); err == nil {
			b := backlogs[o.row]
			c.Counts, c.Pace, c.OldestDue = o.counts(b.waiting), o.pace.read(now), b.oldestDue
		}
		list = append(list, c)
		return nil
	}, "SELECT "+cursorColumns+" FROM "+cursorTables+" WHERE o.removed_at IS NULL AND o.org > ? ORDER BY o.org LIMIT ?", after, limit)
	if err != nil {
		return nil, fmt.Errorf("cursors: %w", err)
	}
	return list, nil
}

// CountStates counts the org's deliveries. Pending and dead are counted as they
// change, so this costs nothing for an org without pending ones.
func (s *Store) CountStates(_ context.Context, org string) (Counts, error) {
	o, err := s.find(org)
	if err != nil {
		return Counts{}, err
	}
	waiting := int64(0)
	if o.pending.Load() > 0 {
		err := s.readDB.QueryRowContext(background,
			"SELECT count(*) FROM deliveries INDEXED BY deliveries_pending WHERE state=0 AND due>? AND org=?", toMillis(s.now()), o.row).Scan(&waiting)
		if err != nil {
			return Counts{}, fmt.Errorf("count deliveries of %s: %w", org, err)
		}
	}
	return o.counts(waiting), nil
}

func (o *orgState) counts(waiting int64) Counts {
	pending := o.pending.Load()
	return Counts{Pending: pending, Due: max(pending-waiting, 0), Dead: o.dead.Load()}
}

// stateCounts count what is pending and dead, by endpoint.
var stateCounts = [...]struct {
	query string
	of    func(n int64) change
}{
	{"SELECT endpoint, count(*) FROM deliveries INDEXED BY deliveries_pending WHERE state=0 GROUP BY endpoint",
		func(n int64) change { return change{pending: n} }},
	{"SELECT endpoint, count(*) FROM deliveries INDEXED BY deliveries_failed WHERE state>=2 AND state=2 GROUP BY endpoint",
		func(n int64) change { return change{dead: n} }},
}

// loadCounts counts what is pending and dead by the two partial indexes.
func (s *Store) loadCounts() error {
	s.standing.of = make(map[int64]change)
	for _, count := range stateCounts {
		counts := make(map[int64]change)
		err := s.w.c.query(func(r row) error {
			counts[r.int(0)] = count.of(r.int(1))
			return nil
		}, count.query)
		if err != nil {
			return err
		}
		s.addCounts(counts)
	}
	return nil
}

// addCounts brings the counts of endpoints and their orgs up to date after a
// commit.
func (s *Store) addCounts(counts map[int64]change) {
	if len(counts) == 0 {
		return
	}
	s.standing.add(counts)
	s.mu.RLock()
	defer s.mu.RUnlock()
	for endpoint, c := range counts {
		if o := s.orgRows[s.orgOf(endpoint)]; o != nil {
			o.pending.Add(c.pending)
			o.dead.Add(c.dead)
		}
	}
}
