package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"math"
	"time"
)

// Rows hang on each other: attempts on deliveries, these on events and endpoints, events on
// their organization's cursor. What must hold between them at every commit are the claims.
// A backup is trusted only if all of them hold ([checkClaims]); fsck counts the rows for
// which one does not ([Store.Structure]), and takes out those that nothing leads to any
// more ([Store.Mend]). Whether the books agree with the streams is not asked here.
//
// How many deliveries of an endpoint are pending and dead is nowhere in the tables: that
// is counted at each start.

// claim is what holds after every commit.
type claim struct {
	breaks string // the opposite
	table  string // a row of which breaks it
	key    string // the number of its event, by which the table is ordered
	where  string // of a row r
	stray  bool   // such a row leads nowhere, and may go
}

// claims walk two trees side by side, in the order of their keys.
var claims = []claim{
	{breaks: "a delivery has no event", table: "deliveries", key: "event",
		where: "NOT EXISTS (SELECT 1 FROM events e WHERE e.id=r.event)"},
	{breaks: "a delivery is another organization's than its event", table: "deliveries", key: "event",
		where: "EXISTS (SELECT 1 FROM events e WHERE e.id=r.event AND e.org<>r.org)"},
	{breaks: "a delivery has no endpoint", table: "deliveries", key: "event",
		where: "NOT EXISTS (SELECT 1 FROM endpoints p WHERE p.id=r.endpoint AND p.org=r.org)"},
	{breaks: "an attempt has no delivery", table: "attempts", key: "event", stray: true,
		where: "NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.event=r.event AND d.endpoint=r.endpoint)"},
	{breaks: "a payload has no event", table: "payloads", key: "event", stray: true,
		where: "NOT EXISTS (SELECT 1 FROM events e WHERE e.id=r.event) AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.event=r.event)"},
	{breaks: "an event lies after its organization's cursor", table: "events", key: "id",
		where: "EXISTS (SELECT 1 FROM cursors c WHERE c.org=r.org AND c.incarnation=r.incarnation AND r.seq>max(c.position, c.furthest))"},
	{breaks: "an event's organization has no cursor", table: "events", key: "id",
		where: "NOT EXISTS (SELECT 1 FROM cursors c WHERE c.org=r.org)"},
}

// Broken says for how many rows a claim does not hold.
type Broken struct {
	Breaks string
	Rows   int64
	Event  int64 // the number of the first event concerned
	Stray  bool  // Mend takes them out
}

const (
	structureStep = 4096 // event numbers looked at together, at first
	mendStep      = 256  // events of which rows go in one transaction
)

// Structure looks whether the claims hold for all rows, piece by piece, each for as long as
// a moment of an audit at the most, so that neither the writer nor the log waits for it.
// What breaks is in the answer.
func (s *Store) Structure(ctx context.Context) ([]Broken, error) {
	var all []Broken
	for _, c := range claims {
		b := Broken{Breaks: c.breaks, Stray: c.stray}
		err := s.stretches(ctx, c, func(from, to int64) error {
			var rows, first int64
			err := s.readDB.QueryRowContext(background, "SELECT count(*), ifnull(min(r."+c.key+"), 0) FROM "+c.table+" r WHERE r."+c.key+" BETWEEN ? AND ? AND "+c.where, from, to).Scan(&rows, &first)
			if rows > 0 && b.Rows == 0 {
				b.Event = first
			}
			b.Rows += rows
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("look whether %s: %w", c.breaks, public(err))
		}
		if b.Rows > 0 {
			all = append(all, b)
		}
	}
	return all, nil
}

// stretches calls f with the claim's table, stretch by stretch: numbers of events from
// the first to the second, both included.
func (s *Store) stretches(ctx context.Context, c claim, f func(from, to int64) error) error {
	var from, last int64
	err := s.readDB.QueryRowContext(background, "SELECT ifnull((SELECT min("+c.key+") FROM "+c.table+"), 0), ifnull((SELECT max("+c.key+") FROM "+c.table+"), -1)").Scan(&from, &last)
	for step := int64(structureStep); err == nil && from <= last; {
		if err := ctx.Err(); err != nil {
			return err
		}
		to := min(last, from+step-1)
		began := time.Now()
		err = f(from, to)
		switch took := time.Since(began); {
		case took > s.o.moment/2:
			step = max(step/4, 1)
		case took < s.o.moment/16:
			step = min(2*step, math.MaxInt32)
		}
		from = to + 1
	}
	return err
}

// Mend takes out the rows that lead nowhere: attempts without a delivery, and payloads
// without an event. It is audited with the reason, and says how many rows it took out of
// each kind. Of whatever else is broken nothing is changed. Doing it again changes nothing.
func (s *Store) Mend(ctx context.Context, reason string) ([]Broken, error) {
	var all []Broken
	for _, c := range claims {
		if !c.stray {
			continue
		}
		b := Broken{Breaks: c.breaks, Stray: true}
		err := s.stretches(ctx, c, func(from, to int64) error { return s.mend(ctx, c, from, to, reason, &b) })
		if err != nil {
			return all, fmt.Errorf("take out what is left where %s: %w", c.breaks, err)
		}
		if b.Rows > 0 {
			all = append(all, b)
		}
	}
	return all, nil
}

// mend takes out the strays of a stretch, a bounded number in each transaction.
func (s *Store) mend(ctx context.Context, c claim, from, to int64, reason string, b *Broken) error {
	for {
		events, err := s.column("SELECT DISTINCT r."+c.key+" FROM "+c.table+" r WHERE r."+c.key+" BETWEEN ? AND ? AND "+c.where+" LIMIT ?", from, to, mendStep)
		if err != nil || len(events) == 0 {
			return err
		}
		var gone int64
		err = s.w.do(ctx, func(t *txn) error {
			gone = 0
			for _, event := range events {
				// It is asked again: by now something may lead there.
				n, err := t.c.exec("DELETE FROM "+c.table+" AS r WHERE r."+c.key+"=? AND "+c.where, driver.Value(event))
				if err != nil {
					return err
				}
				gone += n
			}
			if gone == 0 {
				return nil
			}
			t.after = append(t.after, func() { clear(t.w.kept) })
			return t.audited(nil, "books.mend", c.table, Changes{"reason": {nil, reason}, "rows": {gone, 0}})
		})
		if err != nil {
			return err
		}
		if gone == 0 {
			return errors.New("they change all the while: try again")
		}
		if b.Rows == 0 {
			b.Event = events[0]
		}
		b.Rows += gone
	}
}
