package sqlite

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// Pieces of an org's books are read in the order of its stream, by a goroutine of
// their own and a little ahead of whoever checks them.
//
// Events are numbered in the order of commits, which is that of the stream but for
// what was read again. So they are located first (24 bytes each), brought into order,
// and then read in steps. After some time the transaction ends and another begins,
// so that the write-ahead log can be folded meanwhile: from then on the pieces are
// of that moment. What retention has removed since is simply not there any more;
// what was booked since at a place that is still to come is found by its number,
// which is higher than all that were located.

const (
	auditStep       = 1024            // events, and exceptions of a kind, that are read together
	auditMoment     = 2 * time.Second // how long one transaction lasts
	auditDense      = 8               // an org that has one of so many events is found by going through all
	piecesRead      = 2               // pieces that may wait for the check
	afterEverything = math.MaxInt64
)

// located is an event and where it lies.
type located struct {
	event int64
	place
}

func (l located) compare(m located) int {
	return cmp.Or(cmp.Compare(l.incarnation, m.incarnation), cmp.Compare(l.seq, m.seq), cmp.Compare(l.event, m.event))
}

// pieceRead is a piece, or why there is none.
type pieceRead struct {
	fanout.Piece
	err error
}

// Pieces implements [fanout.Audited].
func (a *Audit) Pieces(ctx context.Context) iter.Seq2[fanout.Piece, error] {
	return func(yield func(fanout.Piece, error) bool) {
		ctx, stop := context.WithCancel(ctx)
		pieces := make(chan pieceRead, piecesRead)
		go func() {
			defer close(pieces)
			w := &pieceWalk{Audit: a}
			for {
				p, err := w.next(ctx)
				select {
				case pieces <- pieceRead{p, err}:
				case <-ctx.Done():
					return
				}
				if err != nil || p.Last {
					return
				}
			}
		}()
		defer func() {
			stop()
			for range pieces { // until it has ended: it uses the connection
			}
		}()
		for p := range pieces {
			if !yield(p.Piece, p.err) || p.err != nil {
				return
			}
		}
	}
}

// pieceWalk is one reading of all pieces.
type pieceWalk struct {
	*Audit
	end      place     // the furthest place when it began
	rest     []located // that were not read yet
	head     int64     // the highest number that was located, or could have been
	after    place     // all up to here was read
	complete stream.Seq
	began    time.Time // the present moment
	later    bool      // it is not the first: what lies beyond end is none of our business
	history  []fanout.Span
}

// next reads the next piece.
func (w *pieceWalk) next(ctx context.Context) (fanout.Piece, error) {
	if err := ctx.Err(); err != nil {
		return fanout.Piece{}, err
	}
	if err := w.moment(ctx); err != nil {
		return fanout.Piece{}, err
	}
	n := min(w.s.o.piece, len(w.rest))
	for n > 0 && n < len(w.rest) && w.rest[n].place == w.rest[n-1].place {
		n++ // two at one place are a problem, and belong together
	}
	through := place{afterEverything, afterEverything}
	if n < len(w.rest) {
		through = w.rest[n-1].place
	}
	exceptions, through, err := w.exceptionsTo(through)
	if err != nil {
		return fanout.Piece{}, fmt.Errorf("exceptions after %d.%d: %w", w.after.incarnation, w.after.seq, err)
	}
	for n > 0 && through.before(w.rest[n-1].place) {
		n--
	}
	events, err := w.read(w.rest[:n])
	if err != nil {
		return fanout.Piece{}, fmt.Errorf("events after %d.%d: %w", w.after.incarnation, w.after.seq, err)
	}
	p := fanout.Piece{
		Incarnation: int(through.incarnation), Through: stream.Seq(through.seq), Last: through.incarnation == afterEverything,
		Complete: w.complete, History: w.history, Exceptions: exceptions, Events: events,
	}
	w.rest, w.after, w.history = w.rest[n:], through, nil
	return p, nil
}

// moment begins with the moment of the Audit, and takes another one when that has
// become old.
func (w *pieceWalk) moment(ctx context.Context) error {
	first := w.began.IsZero()
	if !first {
		if time.Since(w.began) < w.s.o.moment {
			return nil
		}
		w.later = true
		for _, q := range []string{"ROLLBACK", "BEGIN"} {
			if _, err := w.c.ExecContext(background, q); err != nil {
				return fmt.Errorf("take another moment: %w", err)
			}
		}
	}
	w.began = time.Now()
	pos, complete, err := w.Position(ctx)
	if err != nil {
		return err
	}
	if first {
		w.end = place{int64(pos.Incarnation), int64(pos.Seq)}
	} else if int64(pos.Incarnation) != w.end.incarnation {
		return fmt.Errorf("%s went on to incarnation %d meanwhile: %w", pos.Stream, pos.Incarnation, stream.ErrUnavailable)
	}
	w.complete = complete
	if w.history, err = w.History(ctx); err != nil {
		return err
	}
	if w.history == nil {
		w.history = []fanout.Span{}
	}
	if err := w.locate(first); err != nil {
		return fmt.Errorf("locate events: %w", err)
	}
	return nil
}

// locate finds the org's events: all of them at first, and then those that came since
// at places that are still to be read.
func (w *pieceWalk) locate(first bool) error {
	from := w.head + 1
	var low, last, count int64
	err := w.c.QueryRowContext(background, `SELECT (SELECT event+1 FROM retention WHERE id=1), c.last_event,
		(SELECT count(*) FROM segments WHERE org=?1) FROM cursors c WHERE c.org=?1`, w.o.row).Scan(&low, &last, &count)
	if err != nil {
		return err
	}
	query, args := `SELECT id, incarnation, seq FROM events WHERE id >= ?2 AND org=?1`, []any{w.o.row, from}
	if dense := (count+1)*w.s.o.segment*auditDense >= last-low; first && !dense {
		// Back along the chain to where retention has been, and what that has left.
		query, args = `
		WITH RECURSIVE chain(id, prev, incarnation, seq) AS (
			SELECT id, prev, incarnation, seq FROM events WHERE id=?2 AND id >= ?3
			UNION ALL
			SELECT e.id, e.prev, e.incarnation, e.seq FROM chain c JOIN events e ON e.id = c.id - c.prev WHERE c.prev > 0 AND e.id >= ?3)
		SELECT id, incarnation, seq FROM chain
		UNION ALL
		SELECT id, incarnation, seq FROM events WHERE id < ?3 AND org=?1`, []any{w.o.row, last, low}
	}
	found := w.rest
	err = eachRow(w.c, 3, func(r row) error {
		l := located{r.int(0), place{r.int(1), r.int(2)}}
		w.head = max(w.head, l.event)
		if first || w.after.before(l.place) && !w.end.before(l.place) {
			found = append(found, l)
		}
		return nil
	}, query, args...)
	w.head = max(w.head, last)
	if !slices.IsSortedFunc(found, located.compare) {
		slices.SortFunc(found, located.compare)
	}
	w.rest = found
	return err
}

// exceptionsTo reads the exceptions after the last piece up to a place, cut to
// what lies in between. When there are too many the place comes sooner.
func (w *pieceWalk) exceptionsTo(through place) ([]fanout.Exception, place, error) {
	var all []fanout.Exception
	for _, kind := range []struct{ table, columns, begins string }{
		{"rejected", "'rejected', incarnation, seq, seq", "seq"},
		{"gated", "'gated', incarnation, from_seq, to_seq", "from_seq"},
		{"gaps", "iif(skipped, 'skipped', 'gap'), incarnation, from_seq, to_seq", "from_seq"},
	} {
		n := 0
		var at place
		// Ranges may begin before: the last one that does.
		err := each(w.c, func(scan func(...any) error) error {
			var e fanout.Exception
			if err := scan(&e.Kind, &e.Incarnation, &e.From, &e.To); err != nil {
				return err
			}
			n, at = n+1, place{int64(e.Incarnation), int64(e.From)}
			all = append(all, e)
			return nil
		}, "SELECT "+kind.columns+" FROM "+kind.table+` WHERE org=?1
			AND (incarnation, `+kind.begins+`) >= (ifnull((SELECT max(incarnation) FROM `+kind.table+` WHERE org=?1 AND incarnation<=?2), 0),
				ifnull((SELECT max(`+kind.begins+`) FROM `+kind.table+` WHERE org=?1 AND incarnation=?2 AND `+kind.begins+`<=?3), 0))
			AND (incarnation, `+kind.begins+`) <= (?4, ?5) ORDER BY incarnation, `+kind.begins+` LIMIT ?6`,
			w.o.row, w.after.incarnation, w.after.seq, through.incarnation, through.seq, w.s.o.piece+1)
		if err != nil {
			return nil, through, err
		}
		if n > w.s.o.piece { // up to before the last one that was read
			through = place{at.incarnation, at.seq - 1}
		}
	}
	if limit := w.end; w.later && limit.before(through) {
		return cut(all, w.after, limit), through, nil
	}
	return cut(all, w.after, through), through, nil
}

// cut is what of the exceptions lies after one place and up to another, ascending.
func cut(all []fanout.Exception, after, through place) []fanout.Exception {
	kept := all[:0]
	for _, e := range all {
		if int64(e.Incarnation) == after.incarnation {
			e.From = max(e.From, stream.Seq(after.seq)+1)
		}
		if int64(e.Incarnation) == through.incarnation {
			e.To = min(e.To, stream.Seq(through.seq))
		}
		first := place{int64(e.Incarnation), int64(e.From)}
		if e.From <= e.To && after.before(first) && !through.before(first) {
			kept = append(kept, e)
		}
	}
	slices.SortStableFunc(kept, func(a, b fanout.Exception) int {
		return cmp.Or(cmp.Compare(a.Incarnation, b.Incarnation), cmp.Compare(a.From, b.From))
	})
	return kept
}

// pieceColumns has a row for each attempt, and one for a delivery or an event without
// any.
const pieceColumns = `SELECT e.id, e.org, e.key, e.incarnation, e.seq, EXISTS(SELECT 1 FROM payloads p WHERE p.event=e.id),
	d.endpoint, d.org, d.state, d.due, d.trigger, d.attempts, a.number, a.class FROM `

const pieceJoins = ` LEFT JOIN deliveries d ON d.event=e.id LEFT JOIN attempts a ON a.event=d.event AND a.endpoint=d.endpoint`

// read reads events with deliveries and attempts, in the order given. What is
// gone meanwhile is left out.
func (w *pieceWalk) read(some []located) ([]fanout.BookedEvent, error) {
	if len(some) == 0 {
		return nil, nil
	}
	first, last, ordered := some[0].event, some[0].event, true
	for i := range some {
		ordered = ordered && (i == 0 || some[i-1].event < some[i].event)
		first, last = min(first, some[i].event), max(last, some[i].event)
	}
	r := pieceRows{s: w.s, events: make([]fanout.BookedEvent, 0, len(some)), deliveries: make([]fanout.BookedDelivery, 0, 2*len(some))}
	query, args := pieceColumns+`json_each(?) j CROSS JOIN events e ON e.id=j.value`+pieceJoins+` ORDER BY j.key, d.endpoint, a.number`, []any(nil)
	if ordered && last-first < 2*int64(len(some)) {
		query = pieceColumns + `events e` + pieceJoins + ` WHERE e.id BETWEEN ? AND ? AND e.org=? ORDER BY e.id, d.endpoint, a.number`
		args = []any{first, last, w.o.row}
		for _, l := range some {
			r.wanted = append(r.wanted, l.event)
		}
	} else {
		ids := make([]int64, len(some))
		for i, l := range some {
			ids[i] = l.event
		}
		args = []any{numbers(ids)}
	}
	err := eachRow(w.c, len(pieceValues{}), r.add, query, args...)
	r.finish()
	return r.events, err
}

// pieceValues are the columns of a row of pieceColumns.
type pieceValues [14]any

// pieceRows puts rows together.
type pieceRows struct {
	s          *Store
	wanted     []int64 // events, ascending; nil: each is
	events     []fanout.BookedEvent
	deliveries []fanout.BookedDelivery
	attempts   []fanout.BookedAttempt
	starts     []int // of each event's deliveries
	tries      []int // of each delivery's attempts
	org        int64 // the name of which was asked for last
	orgName    string
}

// add takes one row.
func (r *pieceRows) add(v row) error {
	if n := len(r.events); n == 0 || r.events[n-1].Event != v.int(0) {
		for len(r.wanted) > 0 && r.wanted[0] < v.int(0) {
			r.wanted = r.wanted[1:]
		}
		if r.wanted != nil && (len(r.wanted) == 0 || r.wanted[0] != v.int(0)) {
			return nil // at a place of another piece
		}
		r.starts = append(r.starts, len(r.deliveries))
		r.events = append(r.events, fanout.BookedEvent{
			Event: v.int(0), Org: r.name(v.int(1)), ID: toID(v.blob(2)), Incarnation: int(v.int(3)), Seq: stream.Seq(v.int(4)), Kept: v.int(5) != 0,
		})
	}
	if v[6] == nil {
		return nil
	}
	if n := len(r.deliveries); n == r.starts[len(r.starts)-1] || r.deliveries[n-1].Endpoint != v.int(6) {
		r.tries = append(r.tries, len(r.attempts))
		r.deliveries = append(r.deliveries, fanout.BookedDelivery{
			Endpoint: v.int(6), Org: r.name(v.int(7)), State: deliver.State(v.int(8)), Due: v.int(9), Trigger: deliver.Trigger(v.int(10)), Made: int(v.int(11)),
		})
	}
	if v[12] != nil {
		r.attempts = append(r.attempts, fanout.BookedAttempt{Number: int(v.int(12)), Class: deliver.Class(v.int(13))})
	}
	return nil
}

func (r *pieceRows) name(org int64) string {
	if r.orgName == "" || r.org != org {
		r.org, r.orgName = org, r.s.orgName(org)
	}
	return r.orgName
}

// finish gives each event its deliveries and each delivery its attempts, now that the
// lists do not move any more.
func (r *pieceRows) finish() {
	end := len(r.attempts)
	for i := len(r.deliveries) - 1; i >= 0; i-- {
		if from := r.tries[i]; from < end {
			r.deliveries[i].Attempts = r.attempts[from:end:end]
			end = from
		}
	}
	end = len(r.deliveries)
	for i := len(r.events) - 1; i >= 0; i-- {
		if from := r.starts[i]; from < end {
			r.events[i].Deliveries = r.deliveries[from:end:end]
			end = from
		}
	}
}

// bookedStep is how many IDs are looked up together.
const bookedStep = 256

// Booked implements [fanout.Audited].
func (a *Audit) Booked(ctx context.Context, ids []stream.ID) ([]fanout.Booked, error) {
	booked := make([]fanout.Booked, 0, len(ids))
	for some := range slices.Chunk(ids, bookedStep) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		found := make([]fanout.Booked, len(some))
		of := make(map[int64][]int) // by event: for which of the IDs
		var candidates []int64
		for i, id := range some {
			events, err := a.s.keys.lookup(a.s.readDB, id, nil)
			if err != nil {
				return nil, fmt.Errorf("look up events: %w", err)
			}
			for _, event := range events {
				if of[event] == nil {
					candidates = append(candidates, event)
				}
				of[event] = append(of[event], i)
			}
		}
		if len(candidates) > 0 {
			err := a.s.read(func(scan func(...any) error) error {
				var event int64
				var key []byte
				if err := scan(&event, &key); err != nil {
					return err
				}
				for _, i := range of[event] {
					if toID(key) == some[i] { // else another event with the same hash
						found[i].Times++
						found[i].Event = max(found[i].Event, event)
					}
				}
				return nil
			}, "SELECT e.id, e.key FROM json_each(?) j CROSS JOIN events e ON e.id=j.value WHERE e.org=?", numbers(candidates), a.o.row)
			if err != nil {
				return nil, fmt.Errorf("look up events: %w", err)
			}
		}
		booked = append(booked, found...)
	}
	return booked, nil
}
