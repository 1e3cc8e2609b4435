package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/stream"
)

// MaxPage is the most that one page of a list holds.
const MaxPage = 250

// Bounds of the work for one page. A page that hits one is short, perhaps
// empty, and has a cursor to go on from.
const (
	pageEvents = 20_000  // events looked at
	pageRows   = 200_000 // deliveries looked at
	firstStep  = 32      // events looked at by the first query
	lastStep   = 512     // and by one of many
)

// Filter says which deliveries a list holds. Zero fields let all through.
type Filter struct {
	Endpoint string    // ep_…
	Event    stream.ID // of one event
	Type     string    // of the event, exact
	State    *deliver.State
	Since    time.Time // when the stream stored the event: at this time or later
	Until    time.Time // before this time
}

// list is one request for a page, resolved.
type list struct {
	s        *Store
	o        *orgState
	f        Filter
	endpoint int64 // 0: any
	limit    int
	after    deliver.Key // what comes behind it: earlier events, or the same and a higher endpoint
	found    []deliver.Delivery
	next     deliver.Key // where the next page goes on; zero: nowhere
}

// ListDeliveries lists the org's deliveries, those of the newest events first,
// those of one event by endpoint. limit is 1 to [MaxPage].
//
// after is zero for the first page, and what the page before returned as next for
// the following ones; a zero next is the end. A page with a next can be short or
// empty: its search went as far as one page may.
//
// Pending and dead ones are found by their indexes. Others are found by walking
// back from event to event of the org, so what has nothing to do with the org costs nothing;
// a narrow filter on a long history takes several pages.
func (s *Store) ListDeliveries(ctx context.Context, org string, f Filter, limit int, after deliver.Key) (found []deliver.Delivery, next deliver.Key, err error) {
	o, err := s.find(org)
	if err != nil {
		return nil, deliver.Key{}, err
	}
	l := &list{s: s, o: o, f: f, limit: min(max(limit, 1), MaxPage), after: after}
	if after == (deliver.Key{}) {
		l.after = newest
	}
	if f.Endpoint != "" {
		if l.endpoint, err = s.endpointRow(o, f.Endpoint); err != nil {
			return nil, deliver.Key{}, err
		}
	}
	switch {
	case f.Event != stream.ID{}:
		err = l.byEvent()
	case f.State != nil && *f.State == deliver.Dead:
		err = l.byIndex("deliveries_dead", deliver.Dead)
	case f.State != nil && *f.State == deliver.Pending:
		if o.pending.Load() > 0 {
			err = l.byIndex("deliveries_pending", deliver.Pending)
		}
	default:
		err = l.walk(ctx)
	}
	if err != nil {
		return nil, deliver.Key{}, fmt.Errorf("list deliveries of %s: %w", org, err)
	}
	return l.found, l.next, nil
}

// newest is before the first delivery of a list.
var newest = deliver.Key{Event: math.MaxInt64, Endpoint: math.MaxInt64}

// endpointRow finds an endpoint of the org, also a removed one.
func (s *Store) endpointRow(o *orgState, id string) (int64, error) {
	var row int64
	err := s.readDB.QueryRowContext(background, "SELECT id FROM endpoints WHERE ulid=? AND org=?", id, o.row).Scan(&row)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("endpoint %s: %w", id, ErrNotFound)
	}
	return row, err
}

const deliveryColumns = `d.event, d.endpoint, d.state, d.reason, d.due, d.attempts, e.key, e.type, e.seq, e.stored, e.fanned, p.ulid`

// scanDelivery reads deliveryColumns of d deliveries, e events, p endpoints.
func scanDelivery(rows interface{ Scan(...any) error }, org string) (deliver.Delivery, error) {
	d := deliver.Delivery{Org: org}
	var key []byte
	var due, stored, fanned int64
	err := rows.Scan(&d.Key.Event, &d.Key.Endpoint, &d.State, &d.Reason, &due, &d.Attempts, &key, &d.Type, &d.Seq, &stored, &fanned, &d.Endpoint)
	d.EventID, d.Stored, d.FannedOut = toID(key), fromMillis(stored), fromMillis(stored+fanned)
	if d.State == deliver.Pending {
		d.Due = fromMillis(due)
	}
	return d, err
}

// add reads deliveries into the page until it is full, and says whether it is.
// When it is, there was one more.
func (l *list) add(query string, args ...any) (full bool, err error) {
	rows, err := l.s.readDB.QueryContext(background, query, args...)
	if err != nil {
		return false, err
	}
	defer rows.Close()
	for rows.Next() {
		if len(l.found) == l.limit {
			last := l.found[l.limit-1]
			l.next = last.Key
			return true, nil
		}
		d, err := scanDelivery(rows, l.o.org.ID)
		if err != nil {
			return false, err
		}
		l.found = append(l.found, d)
	}
	return false, rows.Err()
}

// where is the part of a query that the filter asks of events e and deliveries
// d, beside the state.
func (l *list) where() (string, []any) {
	clause, args := "", []any(nil)
	if l.endpoint != 0 {
		clause, args = clause+" AND d.endpoint=?", append(args, l.endpoint)
	}
	if l.f.Type != "" {
		clause, args = clause+" AND e.type=?", append(args, l.f.Type)
	}
	if !l.f.Since.IsZero() {
		clause, args = clause+" AND e.stored>=?", append(args, toMillis(l.f.Since))
	}
	if !l.f.Until.IsZero() {
		clause, args = clause+" AND e.stored<?", append(args, toMillis(l.f.Until))
	}
	return clause, args
}

// byEvent lists the deliveries of one event.
func (l *list) byEvent() error {
	place, err := l.s.findEvent(l.o, l.f.Event)
	if err != nil || place == nil || place.Event > l.after.Event {
		return err
	}
	clause, args := l.where()
	args = append([]any{place.Event, l.o.row}, args...)
	if l.f.State != nil {
		clause, args = clause+" AND d.state=?", append(args, int(*l.f.State))
	}
	if l.after.Event == place.Event {
		clause, args = clause+" AND d.endpoint>?", append(args, l.after.Endpoint)
	}
	_, err = l.add(`SELECT `+deliveryColumns+` FROM deliveries d JOIN events e ON e.id=d.event JOIN endpoints p ON p.id=d.endpoint
		WHERE d.event=? AND d.org=?`+clause+` ORDER BY d.endpoint LIMIT ?`, append(args, l.limit+1)...)
	return err
}

// byIndex lists pending or dead deliveries. The keys are sorted first, within
// the index; only as many rows as a page may look at are then filtered.
func (l *list) byIndex(index string, state deliver.State) error {
	clause, args := l.where()
	look := pageEvents
	if clause == "" {
		look = l.limit + 1
	}
	keys := `SELECT event, endpoint FROM deliveries INDEXED BY ` + index + fmt.Sprintf(` WHERE state=%d`, state) +
		` AND org=? AND event<=? AND NOT (event=? AND endpoint<=?) ORDER BY event DESC, endpoint LIMIT ?`
	first := []any{l.o.row, l.after.Event, l.after.Event, l.after.Endpoint, look}
	full, err := l.add(`SELECT `+deliveryColumns+` FROM (`+keys+`) k CROSS JOIN deliveries d ON d.event=k.event AND d.endpoint=k.endpoint
		JOIN events e ON e.id=d.event JOIN endpoints p ON p.id=d.endpoint WHERE true`+clause+` ORDER BY d.event DESC, d.endpoint LIMIT ?`,
		append(append(first, args...), l.limit+1)...)
	if err != nil || full {
		return err
	}
	var end deliver.Key // of what was looked at, when that was not all
	err = l.s.readDB.QueryRowContext(background, `SELECT event, endpoint FROM (`+keys+`) LIMIT 1 OFFSET ?`, append(first, look-1)...).Scan(&end.Event, &end.Endpoint)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return err
	}
	l.next = end
	return nil
}

// step is some events of the org, newest first.
type step struct {
	events []int64
	next   int64 // the event after them; 0: none
	seen   int   // events looked at
	older  bool  // all further ones are older than Since
}

// walk lists deliveries along the chain of the org's events.
func (l *list) walk(ctx context.Context) error {
	low, err := l.s.retained()
	if err != nil {
		return err
	}
	next := l.after.Event
	if l.after == newest {
		if err := l.s.readDB.QueryRowContext(background, "SELECT last_event FROM cursors WHERE org=?", l.o.row).Scan(&next); err != nil {
			return err
		}
	}
	for seen, rows, size := 0, 0, firstStep; next > 0; size = min(2*size, lastStep) {
		st, err := l.step(next, low, size)
		if err != nil {
			return err
		}
		if len(st.events) > 0 {
			n, full, err := l.deliveriesOf(st.events)
			if err != nil || full {
				return err
			}
			rows += n
		}
		if next = st.next; st.older {
			return nil
		}
		if seen += st.seen; next > 0 && (seen >= pageEvents || rows >= pageRows || ctx.Err() != nil) {
			l.next = deliver.Key{Event: next}
			return ctx.Err()
		}
	}
	return nil
}

// step reads up to size events from the one given on. Down to low, where
// retention has not been yet, each event says where the one before it is. Below,
// that one may be gone, and what is left is searched for the org's.
func (l *list) step(from, low int64, size int) (step, error) {
	query := `WITH RECURSIVE chain(id, prev, type, stored, fanned, n) AS (
			SELECT id, prev, type, stored, fanned, 1 FROM events WHERE id=?1 AND org=?2
			UNION ALL
			SELECT e.id, e.prev, e.type, e.stored, e.fanned, n+1 FROM chain c JOIN events e ON e.id = c.id - c.prev
				WHERE c.prev > 0 AND e.id >= ?3 AND n < ?4)
		SELECT id, prev, type, stored, fanned, 1 FROM chain`
	if from < low {
		query = `SELECT id, 0, type, stored, fanned, org=?2 FROM events WHERE id <= ?1 AND id < ?3 ORDER BY id DESC LIMIT ?4`
	}
	rows, err := l.s.readDB.QueryContext(background, query, from, l.o.row, low, size)
	if err != nil {
		return step{}, err
	}
	defer rows.Close()
	var st step
	st.next = min(from, low) - 1 // when the chain has no more
	for rows.Next() {
		var id, prev, stored, fanned int64
		var typ string
		var own bool
		if err := rows.Scan(&id, &prev, &typ, &stored, &fanned, &own); err != nil {
			return step{}, err
		}
		st.seen++
		switch {
		case from < low:
			st.next = id - 1
		case prev > 0:
			st.next = id - prev
		default:
			st.next = 0 // the org's first
		}
		if own && l.wants(typ, stored) {
			st.events = append(st.events, id)
		}
		if own && !l.f.Since.IsZero() && stored+fanned < toMillis(l.f.Since)-clockSkew {
			st.older = true
		}
	}
	if from < low && st.seen < size {
		st.next = 0
	}
	if from >= low && st.seen == 0 {
		st.next = low - 1 // the event is gone: so are all between
	}
	return st, rows.Err()
}

// clockSkew is how far, in ms, the clock of the stream may be ahead of ours
// before a list with Since can miss something.
const clockSkew = 60_000

func (l *list) wants(typ string, stored int64) bool {
	return (l.f.Type == "" || l.f.Type == typ) &&
		(l.f.Since.IsZero() || stored >= toMillis(l.f.Since)) &&
		(l.f.Until.IsZero() || stored < toMillis(l.f.Until))
}

// deliveriesOf adds those deliveries of events, in their order, that the filter lets
// through. The order is that of the join: CROSS keeps the events outside.
func (l *list) deliveriesOf(events []int64) (n int, full bool, err error) {
	clause, args := "", []any{numbers(events), l.o.row, l.after.Event, l.after.Endpoint}
	if l.endpoint != 0 {
		clause, args = clause+" AND d.endpoint=?", append(args, l.endpoint)
	}
	if l.f.State != nil {
		clause, args = clause+" AND d.state=?", append(args, int(*l.f.State))
		err := l.s.readDB.QueryRowContext(background, "SELECT count(*) FROM json_each(?) j CROSS JOIN deliveries d ON d.event=j.value", numbers(events)).Scan(&n)
		if err != nil {
			return 0, false, err
		}
	}
	full, err = l.add(`SELECT `+deliveryColumns+` FROM json_each(?) j CROSS JOIN deliveries d ON d.event=j.value
		CROSS JOIN events e ON e.id=d.event CROSS JOIN endpoints p ON p.id=d.endpoint
		WHERE d.org=? AND NOT (d.event=? AND d.endpoint<=?)`+clause+` LIMIT ?`, append(args, l.limit-len(l.found)+1)...)
	return n, full, err
}

// retained is the first event that retention has not looked at.
func (s *Store) retained() (int64, error) {
	var event int64
	err := s.readDB.QueryRowContext(background, "SELECT event+1 FROM retention WHERE id=1").Scan(&event)
	return event, err
}
