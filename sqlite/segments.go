package sqlite

import (
	"encoding/binary"
	"fmt"
	"iter"
	"math"
	"strings"

	"github.com/grapnel-hooks/grapnel/fanout"
)

// A segment is segmentSize consecutive events of one org, of which one row says
// what lies in it: which types, deliveries to which endpoints, and since when. A
// list with a narrow filter reads the rows and passes over the segments that
// cannot have what it looks for.
//
//	events of the org   … ◀─ 812 ◀─ 815 ◀─ 901 ◀─ 977 ◀─ … ◀─ 1840     chain, by events.prev
//	segments            (prev 640, event 901]  (prev 901, event 1533]  the open one
//
// The row costs the way of success next to nothing: it is written once for all
// of its events, by the commit that fills the segment. The open segment is in
// memory only; nobody skips it. After a restart what it had is forgotten: its row
// then says that anything may lie in it.
//
// What a row says may be too much, never too little: types and endpoints are
// kept as hashes, see marks. A delivery that is made later for an old event has
// to be told to [txn.gained].

// segmentSize is how many events of an org make a segment.
const segmentSize = 512

// marks is a Bloom filter of 256 bits with 2 probes: with ten entries, one
// question in 180 that should be answered with no is answered with perhaps.
type marks [4]uint64

func (m *marks) add(h uint64) {
	m[h>>6&3] |= 1 << (h & 63)
	m[h>>14&3] |= 1 << (h >> 8 & 63)
}

func (m *marks) has(h uint64) bool {
	return m[h>>6&3]&(1<<(h&63)) != 0 && m[h>>14&3]&(1<<(h>>8&63)) != 0
}

var anything = marks{math.MaxUint64, math.MaxUint64, math.MaxUint64, math.MaxUint64}

func (m *marks) bytes() []byte {
	b := make([]byte, 0, 32)
	for _, w := range m {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return b
}

func parseMarks(b []byte) (m marks, err error) {
	if len(b) != 32 {
		return m, fmt.Errorf("marks of a segment have %d bytes", len(b))
	}
	for i := range m {
		m[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return m, nil
}

// spread makes all bits of the answer depend on all of h (the finalizer of
// splitmix64).
func spread(h uint64) uint64 {
	h += 0x9e3779b97f4a7c15
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// hashStems yields the hashes of what a pattern can ask of a type: the type
// itself, and its prefixes up to each dot. (FNV-1a.)
func hashStems(typ string) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		h := uint64(14695981039346656037)
		for i := range len(typ) {
			h = (h ^ uint64(typ[i])) * 1099511628211
			if typ[i] == '.' && i < len(typ)-1 && !yield(spread(h)) {
				return
			}
		}
		yield(spread(h))
	}
}

// hashPattern is the hash of the stem of a pattern as [fanout.CheckPattern] has
// it: of invoice.* that of "invoice.".
func hashPattern(p string) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range []byte(strings.TrimSuffix(p, "*")) {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return spread(h)
}

// segment is the open segment of an org.
type segment struct {
	prev      int64 // the last event of the segment before; 0: none
	oldest    int64 // when the stream stored the oldest of its events, ms
	types     marks
	endpoints marks

	// The latest event's, so that the next one of the same kind costs nothing.
	typ string
	to  []int64
}

func emptySegment(prev int64) segment { return segment{prev: prev, oldest: math.MaxInt64} }

// unknownSegment is the open segment after a restart.
func unknownSegment(prev int64) segment {
	return segment{prev: prev, oldest: math.MinInt64, types: anything, endpoints: anything}
}

// add notes an event.
func (g *segment) add(ev *fanout.Planned) {
	g.oldest = min(g.oldest, toMillis(ev.Stored))
	if ev.Type != g.typ {
		g.typ = ev.Type
		for h := range hashStems(ev.Type) {
			g.types.add(h)
		}
	}
	if len(ev.Endpoints) == 0 || len(g.to) == len(ev.Endpoints) && &g.to[0] == &ev.Endpoints[0] {
		return // neighbours mostly share the list
	}
	g.to = ev.Endpoints
	for _, e := range ev.Endpoints {
		g.endpoints.add(spread(uint64(e)))
	}
}

// cut stores the segment, of which event is the last, and opens the next.
func (t *txn) cut(o *orgState, g *segment, event int64) error {
	_, err := t.c.exec("INSERT INTO segments(org, event, prev, oldest, types, endpoints) VALUES(?,?,?,?,?,?)",
		o.row, event, g.prev, g.oldest, g.types.bytes(), g.endpoints.bytes())
	*g = emptySegment(event)
	return err
}

// gained notes that an event that was committed earlier has a delivery to an
// endpoint that it did not have before. Whoever makes one calls it.
func (t *txn) gained(o *orgState, event int64) error {
	n, err := t.c.exec("UPDATE segments SET endpoints=? WHERE org=? AND event=(SELECT min(event) FROM segments WHERE org=?2 AND event>=?3)",
		anything.bytes(), o.row, event)
	if err == nil && n == 0 {
		t.after = append(t.after, func() { o.segment.endpoints = anything })
	}
	return err
}

// eventSpan is a part of the org's chain: events after low, up to high.
type eventSpan struct{ low, high int64 }

// spans yields the parts of the org's chain, the newest first, that may hold what
// the list wants: start is where it begins. With narrow it passes over segments;
// then a part without events says how far the search has come. Where retention
// has been, all that is left is one part.
func (l *list) spans(start int64, narrow bool) iter.Seq2[eventSpan, error] {
	return func(yield func(eventSpan, error) bool) {
		floor := max(l.low, l.oldest) - 1
		switch {
		case start <= floor:
		case narrow:
			if !l.segments(start, floor, yield) {
				return
			}
		case !yield(eventSpan{floor, start}, nil):
			return
		}
		if rest := (eventSpan{l.oldest - 1, min(start, l.low-1)}); rest.high > rest.low {
			yield(rest, nil)
		}
	}
}

// segmentsStep is how many rows of segments are read together.
const segmentsStep = 512

// segments yields those of the parts from start down to floor that may hold
// what the list wants. It returns false when it was stopped.
func (l *list) segments(start, floor int64, yield func(eventSpan, error) bool) bool {
	var newest, at int64 // at is the end of the segment that start lies in, 0 if that is the open one
	err := l.s.readDB.QueryRowContext(background, `SELECT ifnull((SELECT max(event) FROM segments WHERE org=?1), 0),
		ifnull((SELECT min(event) FROM segments WHERE org=?1 AND event>=?2), 0)`, l.o.row, start).Scan(&newest, &at)
	if err != nil {
		yield(eventSpan{}, err)
		return false
	}
	if at == 0 {
		if open := (eventSpan{max(newest, floor), start}); open.high > open.low && !yield(open, nil) {
			return false
		}
		at = newest
	}
	for at > floor {
		rows := 0
		parts, end, err := l.candidates(at, floor, &rows)
		if err != nil {
			yield(eventSpan{}, err)
			return false
		}
		for _, part := range parts {
			if part.high = min(part.high, start); !yield(part, nil) {
				return false
			}
		}
		if rows < segmentsStep {
			return true
		}
		l.looked = true
		if at = end; !yield(eventSpan{at, at}, nil) { // so far
			return false
		}
	}
	return true
}

// candidates reads some segments from the one that ends at the event given on,
// and returns those that may hold what the list wants, neighbours as one, and
// where the last one read begins.
func (l *list) candidates(at, floor int64, rows *int) (parts []eventSpan, end int64, err error) {
	until := int64(math.MaxInt64)
	if !l.f.Until.IsZero() {
		until = toMillis(l.f.Until)
	}
	err = l.s.read(func(scan func(...any) error) error {
		var high, prev int64
		var types, endpoints []byte
		if err := scan(&high, &prev, &types, &endpoints); err != nil {
			return err
		}
		*rows++
		end = max(prev, floor)
		maybe, err := l.maybe(types, endpoints)
		switch n := len(parts); {
		case !maybe:
		case n > 0 && parts[n-1].low == high:
			parts[n-1].low = end
		default:
			parts = append(parts, eventSpan{end, high})
		}
		return err
	}, `SELECT event, prev, types, endpoints FROM segments WHERE org=? AND event<=? AND event>? AND oldest<? ORDER BY event DESC LIMIT ?`,
		l.o.row, at, floor, until, segmentsStep)
	return parts, end, err
}

// maybe reports whether a segment with these marks can hold what the list wants.
func (l *list) maybe(types, endpoints []byte) (bool, error) {
	if l.f.Type != "" && l.f.Type != "*" {
		m, err := parseMarks(types)
		if err != nil || !m.has(l.typeHash) {
			return false, err
		}
	}
	if l.endpoint != 0 {
		m, err := parseMarks(endpoints)
		if err != nil || !m.has(l.endpointHash) {
			return false, err
		}
	}
	return true, nil
}
