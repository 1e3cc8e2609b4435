package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"math"
	"slices"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
)

// replayWalk looks for what a replay sends again: the deliveries of one
// endpoint, those of the oldest event first. Like lists it reads dead and
// cancelled ones by their index, and others along the org's chain of events,
// segment by segment; each statement is bounded.
type replayWalk struct {
	l        *list // of the filter's times
	f        ReplayFilter
	of       int64 // the incarnation of the filter's sequences
	endpoint int64
	readable Readable
	limit    int // of matches that are looked for at once
}

// match is a delivery that the filter lets through.
type match struct {
	event int64
	typ   string // of the event
	lost  bool   // its payload is nowhere
}

func (s *Store) replayWalk(o *orgState, endpoint int64, f ReplayFilter, of int64, readable Readable, limit int) *replayWalk {
	l := &list{s: s, o: o, f: Filter{Since: f.Since, Until: f.Until}, endpoint: endpoint, endpointHash: spread(uint64(endpoint))}
	return &replayWalk{l: l, f: f, of: of, endpoint: endpoint, readable: readable, limit: limit}
}

// look finds matches after an event and up to last, during some 20 ms, and says up
// to which event it has looked.
func (w *replayWalk) look(ctx context.Context, after, last int64) (found []match, upTo int64, err error) {
	if w.l.low, err = w.l.s.retained(); err != nil {
		return nil, after, err
	}
	deadline := time.Now().Add(w.l.s.o.look)
	for upTo = after; upTo < last && len(found) < w.limit; {
		if err := ctx.Err(); err != nil {
			return nil, after, err
		}
		var more []match
		if w.f.failed() {
			more, upTo, err = w.byIndexes(upTo, last, w.limit-len(found))
		} else {
			more, upTo, err = w.byChain(upTo, last, w.limit-len(found))
		}
		if err != nil {
			return nil, after, err
		}
		found = append(found, more...)
		if !time.Now().Before(deadline) {
			break
		}
	}
	return found, upTo, nil
}

// byIndexes looks at some entries of the index for each of the states, and goes as
// far as it has looked for all of them.
func (w *replayWalk) byIndexes(after, last int64, limit int) (found []match, upTo int64, err error) {
	upTo = last
	for _, state := range w.f.States {
		more, to, err := w.byIndex(state, after, last, limit)
		if err != nil {
			return nil, after, err
		}
		found, upTo = append(found, more...), min(upTo, to)
	}
	if len(w.f.States) == 1 {
		return found, upTo, nil
	}
	slices.SortFunc(found, func(a, b match) int { return cmp.Compare(a.event, b.event) })
	if len(found) > limit {
		found, upTo = found[:limit], min(upTo, found[limit-1].event)
	}
	found = slices.DeleteFunc(found, func(m match) bool { return m.event > upTo })
	return found, upTo, nil
}

// byIndex looks at some entries of the index of what is dead or cancelled.
func (w *replayWalk) byIndex(state deliver.State, after, last int64, limit int) ([]match, int64, error) {
	// Those of others are passed over within the index, up to this event.
	edge := last
	found, err := w.l.s.column(`SELECT d.event`+failedIndex+` ORDER BY d.event LIMIT 1 OFFSET ?`,
		w.l.o.row, int(state), after, last, indexStep)
	if err != nil {
		return nil, after, err
	}
	if len(found) > 0 {
		edge = found[0]
	}
	return w.matches(edge, limit, rowsStep, `SELECT k.event, k.state, e.type, e.stored, e.incarnation, e.seq, `+isLost+`
		FROM (SELECT d.event, d.state`+failedIndex+` AND d.endpoint=? ORDER BY d.event LIMIT ?) k CROSS JOIN events e ON e.id=k.event`,
		w.readable.Incarnation, w.readable.First, w.l.o.row, int(state), after, edge, w.endpoint, rowsStep)
}

// isLost says of e events whether their payload is nowhere: they are not in the stream's
// present incarnation (?1), or before its first message (?2), and not kept.
const isLost = `(e.incarnation<>? OR e.seq<?) AND NOT EXISTS (SELECT 1 FROM payloads y WHERE y.event=e.id)`

// byChain looks at the next part of the org's chain that can have deliveries
// of the endpoint.
func (w *replayWalk) byChain(after, last int64, limit int) ([]match, int64, error) {
	part, err := w.next(after, last)
	if err != nil || part.high <= part.low {
		return nil, part.high, err
	}
	var events []int64 // newest first
	for at := part.high; at > part.low; {
		st, err := w.l.step(at, part.low, lastStep)
		if err != nil {
			return nil, after, err
		}
		events = append(events, st.events...)
		at = st.next
	}
	slices.Reverse(events)
	return w.matches(part.high, limit, math.MaxInt, `SELECT d.event, d.state, e.type, e.stored, e.incarnation, e.seq, `+isLost+`
		FROM json_each(?) j CROSS JOIN deliveries d ON d.event=j.value AND d.endpoint=? CROSS JOIN events e ON e.id=d.event WHERE d.org=?`,
		w.readable.Incarnation, w.readable.First, numbers(events), w.endpoint, w.l.o.row)
}

// next is the first part of the chain after an event that can have deliveries
// of the endpoint: a segment, the open one, or where retention has been some numbers.
// A part without events says that there is nothing up to its end.
func (w *replayWalk) next(after, last int64) (eventSpan, error) {
	if low := w.l.low - 1; after < low {
		// The chain has holes here.
		first, err := w.l.s.column("SELECT id FROM events WHERE id>? AND id<=? ORDER BY id LIMIT 1", after, min(low, last))
		if err != nil {
			return eventSpan{after, after}, err
		}
		if len(first) == 0 {
			return eventSpan{min(low, last), min(low, last)}, nil
		}
		return eventSpan{first[0] - 1, min(first[0]-1+rowsStep, low, last)}, nil
	}
	part, rows, end := eventSpan{-1, -1}, 0, after
	err := w.l.s.read(func(scan func(...any) error) error {
		var high, prev int64
		var types, endpoints []byte
		if err := scan(&high, &prev, &types, &endpoints); err != nil {
			return err
		}
		rows++
		if part.high >= 0 {
			return nil
		}
		end = high
		maybe, err := w.l.maybe(types, endpoints)
		if maybe {
			part = eventSpan{max(prev, after), high}
		}
		return err
	}, "SELECT event, prev, types, endpoints FROM segments WHERE org=? AND event>? ORDER BY event LIMIT ?", w.l.o.row, after, segmentsStep)
	switch {
	case err != nil:
		return eventSpan{after, after}, err
	case part.high >= 0:
	case rows == segmentsStep:
		return eventSpan{min(end, last), min(end, last)}, nil
	default:
		part = eventSpan{end, last} // the open segment
	}
	if part.high > last {
		part.high = last // an event of the org, in the midst of it
	}
	return part, nil
}

// matches reads deliveries in the order of their events: those that the filter lets
// through, up to a limit. The query looks at most at so many rows; when it has
// come to its end, all up to edge was looked at.
func (w *replayWalk) matches(edge int64, limit, rows int, query string, args ...any) (found []match, upTo int64, err error) {
	upTo = edge
	looked := int64(0)
	err = w.l.s.read(func(scan func(...any) error) error {
		var m match
		var state deliver.State
		var stored, incarnation, seq int64
		var lost sql.NullBool
		if err := scan(&m.event, &state, &m.typ, &stored, &incarnation, &seq, &lost); err != nil {
			return err
		}
		if rows--; rows == 0 {
			edge = m.event // there may be more behind it
			upTo = min(upTo, edge)
		}
		if len(found) == limit {
			upTo = min(upTo, looked)
			return nil
		}
		looked = m.event
		if w.f.wantsState(state) && w.l.wants(m.typ, stored) && w.wantsType(m.typ) && w.f.wantsSeq(incarnation, w.of, seq) {
			m.lost = lost.Bool
			found = append(found, m)
		}
		return nil
	}, query, args...)
	return found, upTo, err
}

func (w *replayWalk) wantsType(typ string) bool {
	return len(w.f.Types) == 0 || slices.ContainsFunc(w.f.Types, func(p string) bool { return fanout.Lists(p, typ) })
}
