package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/grapnel-hooks/grapnel/stream"
)

// The outbox holds operational events from the transaction of what they tell of
// until the stream of their organization has them. A relay appends them in their
// order, by a dedupe key, and removes them after the acknowledgement:
//
//	change + row ──commit──▶ outbox ──append──▶ stream ──ack──▶ row removed
//
// Crash before the commit: neither the change nor its event happened. Crash
// between append and removal: the relay appends it again by the same dedupe key,
// which is the same event to whoever reads the stream.

// MaxOutbox is how many events may wait for one organization's stream. Beyond
// it, the oldest [stream.DeliveryDead] gives way and is counted in the one after
// it; when there is none of that type, the new event is dropped.
const MaxOutbox = 10_000

// outbox is what memory knows of the table.
type outbox struct {
	mu      sync.Mutex
	waiting map[int64]int64 // rows, by org
	dropped int64           // since the start: given way without being counted in another, or never written
	merged  int64           // since the start: counted in another
	wake    chan struct{}   // holds one: there is something to relay
}

func (b *outbox) add(org, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting[org] += n; b.waiting[org] <= 0 {
		delete(b.waiting, org)
	}
	if n > 0 {
		select {
		case b.wake <- struct{}{}:
		default:
		}
	}
}

func (b *outbox) of(org int64) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiting[org]
}

func (b *outbox) lost(dropped, merged int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dropped += dropped
	b.merged += merged
}

func (s *Store) loadOutbox() error {
	s.outbox.waiting, s.outbox.wake = map[int64]int64{}, make(chan struct{}, 1)
	return s.w.c.query(func(r row) error {
		s.outbox.add(r.int(0), r.int(1))
		return nil
	}, "SELECT org, count(*) FROM outbox GROUP BY org")
}

// announcement is an operational event in the making.
type announcement struct {
	typ       string
	dedupe    string // what tells this event from all others of the org, for ever
	workspace string // "": it concerns the whole organization
	data      any    // a struct with at least one field that is never left out
}

// announce writes an operational event, which happens if and only if the
// transaction does.
func (t *txn) announce(o *orgState, a announcement) error {
	data, err := json.Marshal(a.data)
	if err != nil {
		return fmt.Errorf("announce %s: %w", a.typ, err)
	}
	omitted := int64(0)
	if t.s.outbox.of(o.row)+t.announced[o.row] >= t.s.o.outbox {
		fits := false
		if omitted, fits, err = t.giveWay(o, a.typ); err != nil {
			return fmt.Errorf("announce %s: %w", a.typ, err)
		}
		if !fits {
			t.after = append(t.after, func() {
				t.s.outbox.lost(1, 0)
				t.s.log.Warn("an operational event is dropped: too many wait for the organization's stream", "org", o.org.ID, "type", a.typ)
			})
			return nil
		}
	}
	if _, err := t.c.exec(`INSERT INTO outbox(org, id, type, dedupe, workspace, at, omitted, data)
		SELECT ?1, ifnull(max(id), 0)+1, ?2, ?3, ?4, ?5, ?6, ?7 FROM outbox WHERE org=?1`,
		o.row, a.typ, a.dedupe, a.workspace, toMillis(t.now), omitted, string(data)); err != nil {
		return fmt.Errorf("announce %s: %w", a.typ, err)
	}
	t.announced[o.row]++
	t.after = append(t.after, func() { t.s.outbox.add(o.row, 1) })
	return nil
}

// giveWay makes room for an event of that type in a full outbox. omitted is how
// many that one has to account for.
func (t *txn) giveWay(o *orgState, typ string) (omitted int64, ok bool, err error) {
	r := make(row, 2)
	ok, err = t.c.one(r, "SELECT id, omitted FROM outbox WHERE org=? AND type=? ORDER BY id LIMIT 1", o.row, stream.DeliveryDead)
	if err != nil || !ok {
		return 0, false, err
	}
	gone := r.int(1) + 1
	if _, err := t.c.exec("DELETE FROM outbox WHERE org=? AND id=?", o.row, r.int(0)); err != nil {
		return 0, false, err
	}
	next, err := t.c.exec("UPDATE outbox SET omitted=omitted+?1 WHERE org=?2 AND id=(SELECT min(id) FROM outbox WHERE org=?2 AND type=?3)",
		gone, o.row, stream.DeliveryDead)
	if err != nil {
		return 0, false, err
	}
	t.announced[o.row]--
	t.after = append(t.after, func() { t.s.outbox.add(o.row, -1) })
	switch {
	case next > 0:
		t.after = append(t.after, func() { t.s.outbox.lost(0, 1) })
	case typ == stream.DeliveryDead:
		omitted = gone
		t.after = append(t.after, func() { t.s.outbox.lost(0, 1) })
	default:
		t.after = append(t.after, func() { t.s.outbox.lost(gone, 0) })
	}
	return omitted, true, nil
}

// Announcement is an operational event that waits for its stream.
type Announcement struct {
	ID        int64 // ascends within its organization
	Type      string
	DedupeKey string
	Workspace string
	At        time.Time // when it happened, to the millisecond
	Data      json.RawMessage
}

// Announced is signalled when operational events may wait; it holds one signal,
// also after a start.
func (s *Store) Announced() <-chan struct{} { return s.outbox.wake }

// AnnouncingOrgs lists the organizations for whose streams operational events
// wait, by id.
func (s *Store) AnnouncingOrgs() []string {
	s.outbox.mu.Lock()
	var rows []int64
	for row := range s.outbox.waiting {
		rows = append(rows, row)
	}
	s.outbox.mu.Unlock()
	s.mu.RLock()
	defer s.mu.RUnlock()
	var orgs []string
	for _, row := range rows {
		if o := s.orgRows[row]; o != nil { // else it is removed, and its rows soon are
			orgs = append(orgs, o.org.ID)
		}
	}
	slices.Sort(orgs)
	return orgs
}

// Announcements reads the oldest operational events that wait for the org's
// stream, up to limit.
func (s *Store) Announcements(_ context.Context, org string, limit int) ([]Announcement, error) {
	o, err := s.find(org)
	if err != nil {
		return nil, err
	}
	var list []Announcement
	err = s.read(func(scan func(...any) error) error {
		var a Announcement
		var at, omitted int64
		if err := scan(&a.ID, &a.Type, &a.DedupeKey, &a.Workspace, &at, &omitted, (*[]byte)(&a.Data)); err != nil {
			return err
		}
		a.At = fromMillis(at)
		if omitted > 0 { // data are an object with members
			a.Data = fmt.Appendf(a.Data[:len(a.Data)-1], `,"omitted":%d}`, omitted)
		}
		list = append(list, a)
		return nil
	}, "SELECT id, type, dedupe, workspace, at, omitted, data FROM outbox WHERE org=? ORDER BY id LIMIT ?", o.row, limit)
	if err != nil {
		return nil, fmt.Errorf("operational events of %s: %w", org, err)
	}
	return list, nil
}

// RemoveAnnouncements removes the org's operational events up to that ID: the
// stream has them.
func (s *Store) RemoveAnnouncements(ctx context.Context, org string, upTo int64) error {
	o, err := s.find(org)
	if err != nil {
		return err
	}
	err = s.w.do(ctx, func(t *txn) error {
		n, err := t.c.exec("DELETE FROM outbox WHERE org=? AND id<=?", o.row, upTo)
		t.after = append(t.after, func() { s.outbox.add(o.row, -n) })
		return err
	})
	if err != nil {
		return fmt.Errorf("remove operational events of %s: %w", org, err)
	}
	return nil
}

// OutboxStats says how the outbox fares.
type OutboxStats struct {
	Waiting int64 // events, of all organizations
	Dropped int64 // events that no stream will have, since the start
	Merged  int64 // events that are only counted in another one, since the start
}

// OutboxStats reads them from memory.
func (s *Store) OutboxStats() OutboxStats {
	s.outbox.mu.Lock()
	defer s.outbox.mu.Unlock()
	stats := OutboxStats{Dropped: s.outbox.dropped, Merged: s.outbox.merged}
	for _, n := range s.outbox.waiting {
		stats.Waiting += n
	}
	return stats
}
