package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// MaxPage is the most that one page of a list holds.
const MaxPage = 250

// Bounds of the work for one page. A page that hits one is short, perhaps
// empty, and has a cursor to go on from. No single statement is long: it would
// keep the write-ahead log from being folded in.
const (
	defaultLook = 20 * time.Millisecond // of looking for what belongs on the page
	firstStep   = 32                    // events looked at by the first query
	lastStep    = 512                   // and by one of many
	rowsStep    = 4096                  // deliveries looked at by one query
	indexStep   = 10_000                // entries of an index passed over by one query
	pendingScan = 150_000               // so many pending ones are looked through for each page
)

// Filter says which deliveries a list holds. Zero fields let all through.
type Filter struct {
	Endpoint string    // ep_…
	Event    stream.ID // of one event
	Type     string    // of the event: exact, "*" or "invoice.*", see [fanout.CheckPattern]
	State    *deliver.State
	Since    time.Time // when the stream stored the event: at this time or later
	Until    time.Time // before this time
}

// list is one request for a page, resolved.
type list struct {
	s            *Store
	o            *orgState
	f            Filter
	endpoint     int64 // 0: any
	typeHash     uint64
	endpointHash uint64
	limit        int
	low          int64       // the first event that retention has not looked at
	oldest       int64       // events before this one were fanned out too early for Since
	after        deliver.Key // what comes behind it: earlier events, or the same and a higher endpoint
	deadline     time.Time
	looked       bool // at something: then the page may end at its deadline

	found []deliver.Key
	next  deliver.Key // where the next page goes on; zero: nowhere
}

// ListDeliveries lists the org's deliveries, those of the newest events first,
// those of one event by endpoint. limit is 1 to [MaxPage].
//
// after is zero for the first page, and what the page before returned as next for
// the following ones; a zero next is the end. A page with a next can be short or
// empty: it is looked for during some 20 ms and no longer.
//
// Pending, dead and cancelled ones are found by their indexes; pending ones
// only while there are fewer than 150,000 of all orgs. Others are
// found by walking back from event to event of the org, passing over whole segments that
// cannot hold what is looked for: what has nothing to do with the org or the
// filter costs next to nothing.
func (s *Store) ListDeliveries(ctx context.Context, org string, f Filter, limit int, after deliver.Key) (found []deliver.Delivery, next deliver.Key, err error) {
	o, err := s.find(org)
	if err != nil {
		return nil, deliver.Key{}, err
	}
	l := &list{s: s, o: o, f: f, limit: min(max(limit, 1), MaxPage), after: after, deadline: time.Now().Add(s.o.look)}
	if after == (deliver.Key{}) {
		l.after = newest
	}
	if f.Endpoint != "" {
		if l.endpoint, err = s.endpointRow(o, f.Endpoint); err != nil {
			return nil, deliver.Key{}, err
		}
	}
	if err = l.run(ctx); err == nil {
		found, err = l.read()
	}
	if err != nil {
		return nil, deliver.Key{}, fmt.Errorf("list deliveries of %s: %w", org, err)
	}
	return found, l.next, nil
}

// run finds the keys of the page.
func (l *list) run(ctx context.Context) error {
	if l.f.Event != (stream.ID{}) {
		return l.byEvent()
	}
	l.typeHash, l.endpointHash = hashPattern(l.f.Type), spread(uint64(l.endpoint))
	var err error
	if l.low, err = l.s.retained(); err != nil {
		return err
	}
	if l.oldest, err = l.s.fannedSince(l.f.Since); err != nil {
		return err
	}
	state := l.f.State
	switch {
	case state == nil:
		return l.walk(ctx)
	case *state == deliver.Dead || *state == deliver.Cancelled:
		return l.byIndex(ctx)
	case *state != deliver.Pending:
		return l.walk(ctx)
	case l.nonePending():
		return nil
	case l.s.pending() > l.s.o.pendingScan,
		l.filtered() && l.o.pending.Load() > rowsStep: // of which most may not be wanted, with a reading of the index for each step
		return l.walk(ctx)
	default:
		return l.byPending(ctx)
	}
}

// nonePending reports that nothing of the org, or of the endpoint asked for, is
// pending.
func (l *list) nonePending() bool {
	if l.endpoint == 0 {
		return l.o.pending.Load() == 0
	}
	pending, _ := l.s.endpointCounts(l.endpoint)
	return pending == 0
}

// filtered reports whether the event decides what is on the list.
func (l *list) filtered() bool {
	return l.f.Type != "" || !l.f.Since.IsZero() || !l.f.Until.IsZero()
}

// pending is how many deliveries of all orgs are pending.
func (s *Store) pending() (n int64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, o := range s.orgs {
		n += o.pending.Load()
	}
	return n
}

// over reports whether the page ends here: it is full, it was looked for long
// enough, or nobody waits for it any more. Each page looks at something.
func (l *list) over(ctx context.Context) bool {
	return ctx.Err() != nil || l.looked && (len(l.found) == l.limit || !time.Now().Before(l.deadline))
}

// take puts a delivery on the page. It returns false when the page is full
// already; then there is more.
func (l *list) take(k deliver.Key) bool {
	if len(l.found) == l.limit {
		l.next = l.found[l.limit-1]
		return false
	}
	l.found = append(l.found, k)
	return true
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
		if d.Held = due == deliver.HeldBack; !d.Held {
			d.Due = fromMillis(due)
		}
	}
	return d, err
}

// read reads what was found, in its order. What has left its state meanwhile is
// left out. CROSS keeps the keys outside.
func (l *list) read() ([]deliver.Delivery, error) {
	if len(l.found) == 0 {
		return nil, nil
	}
	pairs := make([][2]int64, len(l.found))
	for i, k := range l.found {
		pairs[i] = [2]int64{k.Event, k.Endpoint}
	}
	keys, err := json.Marshal(pairs)
	if err != nil {
		return nil, err
	}
	found := make([]deliver.Delivery, 0, len(l.found))
	err = l.s.read(func(scan func(...any) error) error {
		d, err := scanDelivery(scanner(scan), l.o.org.ID)
		if err == nil && (l.f.State == nil || d.State == *l.f.State) {
			found = append(found, d)
		}
		return err
	}, `SELECT `+deliveryColumns+` FROM json_each(?) j
		CROSS JOIN deliveries d ON d.event=j.value->>0 AND d.endpoint=j.value->>1
		CROSS JOIN events e ON e.id=d.event CROSS JOIN endpoints p ON p.id=d.endpoint WHERE d.org=?`, string(keys), l.o.row)
	return found, err
}

type scanner func(...any) error

func (s scanner) Scan(dst ...any) error { return s(dst...) }

// wants reports whether the filter lets an event through.
func (l *list) wants(typ string, stored int64) bool {
	return fanout.Lists(l.f.Type, typ) &&
		(l.f.Since.IsZero() || stored >= toMillis(l.f.Since)) &&
		(l.f.Until.IsZero() || stored < toMillis(l.f.Until))
}

// byEvent lists the deliveries of one event.
func (l *list) byEvent() error {
	place, err := l.s.findEvent(l.o, l.f.Event)
	if err != nil || place == nil || place.Event > l.after.Event {
		return err
	}
	var typ string
	var stored int64
	err = l.s.readDB.QueryRowContext(background, "SELECT type, stored FROM events WHERE id=? AND org=?", place.Event, l.o.row).Scan(&typ, &stored)
	if errors.Is(err, sql.ErrNoRows) || err == nil && !l.wants(typ, stored) {
		return nil // gone this moment, or not asked for
	}
	if err != nil {
		return err
	}
	after := int64(0)
	if l.after.Event == place.Event {
		after = l.after.Endpoint
	}
	clause, args := "", []any{place.Event, l.o.row, after}
	if l.endpoint != 0 {
		clause, args = clause+" AND endpoint=?", append(args, l.endpoint)
	}
	if l.f.State != nil {
		clause, args = clause+" AND state=?", append(args, int(*l.f.State))
	}
	_, err = l.keys(`SELECT event, endpoint FROM deliveries WHERE event=? AND org=? AND endpoint>?`+clause+` ORDER BY endpoint LIMIT ?`,
		append(args, l.limit+1)...)
	return err
}

// keys takes the keys that a query finds, and says whether the page is full.
func (l *list) keys(query string, args ...any) (full bool, err error) {
	err = l.s.read(func(scan func(...any) error) error {
		var k deliver.Key
		err := scan(&k.Event, &k.Endpoint)
		full = full || !l.take(k)
		return err
	}, query, args...)
	return full, err
}

// retained is the first event that retention has not looked at.
func (s *Store) retained() (int64, error) {
	var event int64
	err := s.readDB.QueryRowContext(background, "SELECT event+1 FROM retention WHERE id=1").Scan(&event)
	return event, err
}

// clockSkew is how far, in ms, clocks may go back, and that of the stream be
// ahead of ours, before a list with Since can miss something.
const clockSkew = 60_000

// fannedSince is the first event that was fanned out at that time or later, or
// one a little before it; 1 for the zero time. Numbers ascend in the order of
// time, so it is searched for by halves.
func (s *Store) fannedSince(since time.Time) (int64, error) {
	if since.IsZero() {
		return 1, nil
	}
	var low, high int64
	err := s.readDB.QueryRowContext(background, "SELECT ifnull((SELECT min(id) FROM events), 1), ifnull((SELECT max(id) FROM events), 0)+1").Scan(&low, &high)
	if err != nil {
		return 0, err
	}
	for low < high {
		middle := low + (high-low)/2
		var id, fanned int64 // of the first event from there on
		err := s.readDB.QueryRowContext(background, "SELECT id, stored+fanned FROM events WHERE id>=? ORDER BY id LIMIT 1", middle).Scan(&id, &fanned)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			high = middle // those are gone, or were never there
		case err != nil:
			return 0, err
		case fanned < toMillis(since)-clockSkew:
			low = id + 1
		default:
			high = middle
		}
	}
	return low, nil
}
