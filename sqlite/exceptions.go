package sqlite

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// span is a range of sequences, both inclusive.
type span struct{ from, to int64 }

// uncovered is what of s lies in none of have, which ascend and do not overlap.
func uncovered(s span, have []span) []span {
	var pieces []span
	for _, h := range have {
		if h.to < s.from || h.from > s.to {
			continue
		}
		if h.from > s.from {
			pieces = append(pieces, span{s.from, h.from - 1})
		}
		if s.from = h.to + 1; s.from > s.to {
			return pieces
		}
	}
	return append(pieces, s)
}

// exceptions books why sequences make no deliveries. Booking the same again,
// as when the stream is read again, changes and counts nothing.
func (t *txn) exceptions(o *orgState, p fanout.Plan) error {
	if len(p.Rejected)+len(p.Gaps)+len(p.Gated) == 0 {
		return nil
	}
	rejected, err := t.reject(o, p)
	if err != nil {
		return fmt.Errorf("book rejected: %w", err)
	}
	gapped, ranges, err := t.gaps(o, p)
	if err != nil {
		return fmt.Errorf("book gaps: %w", err)
	}
	gated, err := t.gate(o, p)
	if err != nil {
		return fmt.Errorf("book gated: %w", err)
	}
	t.after = append(t.after, func() {
		c := &t.w.stats
		c.rejected.Add(rejected)
		c.gated.Add(gated)
		c.gapped.Add(gapped)
		if gapped > 0 {
			c.gapAt.Store(toMillis(t.now))
		}
	})
	_, err = t.c.exec(`UPDATE cursors SET rejected=rejected+?, gated=gated+?, gap_events=gap_events+?, gaps=gaps+?4,
		gap_at=CASE WHEN ?4>0 THEN ?5 ELSE gap_at END WHERE org=?6`, rejected, gated, gapped, ranges, toMillis(t.now), o.row)
	return err
}

func (t *txn) reject(o *orgState, p fanout.Plan) (count int64, err error) {
	for _, r := range p.Rejected {
		data := r.Data[:min(len(r.Data), fanout.MaxRejectedData)]
		if data == nil {
			data = []byte{}
		}
		n, err := t.c.exec("INSERT OR IGNORE INTO rejected(org, incarnation, seq, stored, at, subject, code, detail, data) VALUES(?,?,?,?,?,?,?,?,?)",
			o.row, int64(p.To.Incarnation), int64(r.Seq), toNanos(r.Stored), toMillis(t.now), r.Subject, r.Code, r.Detail, data)
		if err != nil {
			return 0, err
		}
		count += n
	}
	return count, nil
}

func (t *txn) gaps(o *orgState, p fanout.Plan) (count, ranges int64, err error) {
	var lost cursorGap // of one incarnation, from the first piece to the last
	for _, g := range p.Gaps {
		s := span{int64(g.From), int64(g.To)}
		have, err := t.spans("gaps", o, int64(g.Incarnation), s)
		if err != nil {
			return 0, 0, err
		}
		for _, piece := range uncovered(s, have) {
			_, err := t.c.exec("INSERT INTO gaps(org, incarnation, from_seq, to_seq, at, skipped) VALUES(?,?,?,?,?,0)",
				o.row, int64(g.Incarnation), piece.from, piece.to, toMillis(t.now))
			if err != nil {
				return 0, 0, err
			}
			n := piece.to - piece.from + 1
			count += n
			ranges++
			if lost.Incarnation != int64(g.Incarnation) {
				if err := t.announceLost(o, lost); err != nil {
					return 0, 0, err
				}
				lost = cursorGap{Incarnation: int64(g.Incarnation), From: piece.from, Reason: gapLost}
			}
			lost.To = piece.to
			lost.Count += n
		}
	}
	return count, ranges, t.announceLost(o, lost)
}

// announceLost tells of the gap, if there is one.
func (t *txn) announceLost(o *orgState, g cursorGap) error {
	if g.Count == 0 {
		return nil
	}
	return t.announceGap(o, g)
}

// gate books gated sequences as spans; one that follows a span extends it.
func (t *txn) gate(o *orgState, p fanout.Plan) (count int64, err error) {
	incarnation := int64(p.To.Incarnation)
	for i := 0; i < len(p.Gated); {
		s := span{int64(p.Gated[i]), int64(p.Gated[i])}
		for i++; i < len(p.Gated) && int64(p.Gated[i]) == s.to+1; i++ {
			s.to++
		}
		have, err := t.spans("gated", o, incarnation, s)
		if err != nil {
			return 0, err
		}
		for _, piece := range uncovered(s, have) {
			n, err := t.c.exec("UPDATE gated SET to_seq=? WHERE org=? AND incarnation=? AND from_seq=(SELECT max(from_seq) FROM gated WHERE org=?2 AND incarnation=?3 AND from_seq<?1) AND to_seq=?4",
				piece.to, o.row, incarnation, piece.from-1)
			if err == nil && n == 0 {
				_, err = t.c.exec("INSERT INTO gated(org, incarnation, from_seq, to_seq) VALUES(?,?,?,?)", o.row, incarnation, piece.from, piece.to)
			}
			if err != nil {
				return 0, err
			}
			count += piece.to - piece.from + 1
		}
	}
	return count, nil
}

// spans reads what the table, gaps or gated, has that may overlap s, ascending.
func (t *txn) spans(table string, o *orgState, incarnation int64, s span) (have []span, err error) {
	err = t.c.query(func(r row) error {
		have = append(have, span{r.int(0), r.int(1)})
		return nil
	}, `SELECT from_seq, to_seq FROM `+table+` WHERE org=?1 AND incarnation=?2
		AND from_seq >= ifnull((SELECT max(from_seq) FROM `+table+` WHERE org=?1 AND incarnation=?2 AND from_seq<=?3), ?3)
		AND from_seq <= ?4 ORDER BY from_seq`, o.row, incarnation, s.from, s.to)
	return have, err
}

// Place is where in an org's stream something is that made no deliveries.
type Place struct {
	Incarnation int
	Seq         stream.Seq
}

// bounds are the arguments of a list that goes on before p, newest first; the
// zero Place begins with the newest.
func (p Place) bounds() (incarnation, seq int64) {
	if p == (Place{}) {
		return math.MaxInt64, math.MaxInt64
	}
	return int64(p.Incarnation), int64(p.Seq)
}

// Rejected is one message that was no event.
type Rejected struct {
	fanout.Rejected
	Incarnation int
}

// ListRejected lists up to limit (1 to [MaxPage]) of the org's rejected messages
// before the given place, newest first.
func (s *Store) ListRejected(_ context.Context, org string, before Place, limit int) ([]Rejected, error) {
	o, err := s.find(org)
	if err != nil {
		return nil, err
	}
	incarnation, seq := before.bounds()
	var list []Rejected
	err = s.read(func(scan func(...any) error) error {
		var r Rejected
		var stored int64
		if err := scan(&r.Incarnation, &r.Seq, &stored, &r.Subject, &r.Code, &r.Detail, &r.Data); err != nil {
			return err
		}
		r.Stored = fromNanos(stored)
		list = append(list, r)
		return nil
	}, `SELECT incarnation, seq, stored, subject, code, detail, data FROM rejected
		WHERE org=? AND (incarnation, seq) < (?, ?) ORDER BY incarnation DESC, seq DESC LIMIT ?`,
		o.row, incarnation, seq, min(max(limit, 1), MaxPage))
	if err != nil {
		return nil, fmt.Errorf("list rejected of %s: %w", org, err)
	}
	return list, nil
}

// Gap is a range of sequences that the stream no longer had when the cursor came,
// or that people moved the cursor over.
type Gap struct {
	cursor.Gap
	At      time.Time // when it was found or skipped, to the millisecond
	Skipped bool
}

// ListGaps lists up to limit (1 to [MaxPage]) of the org's gaps that begin before
// the given place, newest first.
func (s *Store) ListGaps(_ context.Context, org string, before Place, limit int) ([]Gap, error) {
	o, err := s.find(org)
	if err != nil {
		return nil, err
	}
	incarnation, seq := before.bounds()
	var list []Gap
	err = s.read(func(scan func(...any) error) error {
		var g Gap
		var at int64
		if err := scan(&g.Incarnation, &g.From, &g.To, &at, &g.Skipped); err != nil {
			return err
		}
		g.At = fromMillis(at)
		list = append(list, g)
		return nil
	}, `SELECT incarnation, from_seq, to_seq, at, skipped FROM gaps
		WHERE org=? AND (incarnation, from_seq) < (?, ?) ORDER BY incarnation DESC, from_seq DESC LIMIT ?`,
		o.row, incarnation, seq, min(max(limit, 1), MaxPage))
	if err != nil {
		return nil, fmt.Errorf("list gaps of %s: %w", org, err)
	}
	return list, nil
}
