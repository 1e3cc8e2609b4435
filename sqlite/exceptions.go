package sqlite

import (
	"context"
	"fmt"
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
	gapped, err := t.gaps(o, p)
	if err != nil {
		return fmt.Errorf("book gaps: %w", err)
	}
	gated, err := t.gate(o, p)
	if err != nil {
		return fmt.Errorf("book gated: %w", err)
	}
	_, err = t.c.exec("UPDATE cursors SET rejected=rejected+?, gap_events=gap_events+?, gated=gated+? WHERE org=?", rejected, gapped, gated, o.row)
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

func (t *txn) gaps(o *orgState, p fanout.Plan) (count int64, err error) {
	for _, g := range p.Gaps {
		s := span{int64(g.From), int64(g.To)}
		have, err := t.spans("gaps", o, int64(g.Incarnation), s)
		if err != nil {
			return 0, err
		}
		for _, piece := range uncovered(s, have) {
			_, err := t.c.exec("INSERT INTO gaps(org, incarnation, from_seq, to_seq, at) VALUES(?,?,?,?,?)",
				o.row, int64(g.Incarnation), piece.from, piece.to, toMillis(t.now))
			if err != nil {
				return 0, err
			}
			count += piece.to - piece.from + 1
		}
	}
	return count, nil
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

// Rejected is one message that was no event.
type Rejected struct {
	fanout.Rejected
	Org         string
	Incarnation int
}

// RejectedPage is one page of a list.
type RejectedPage struct {
	Rejected []Rejected
	Next     string // cursor of the next page; "": this was the last
}

// ListRejected lists the org's rejected messages, newest first, up to limit (1 to
// [MaxPage]).
func (s *Store) ListRejected(ctx context.Context, org string, limit int, cursor string) (RejectedPage, error) {
	o, err := s.find(org)
	if err != nil {
		return RejectedPage{}, err
	}
	limit = min(max(limit, 1), MaxPage)
	before, err := parseMark(cursor)
	if err != nil {
		return RejectedPage{}, err
	}
	rows, err := s.readDB.QueryContext(background, `SELECT incarnation, seq, stored, subject, code, detail, data FROM rejected
		WHERE org=? AND (incarnation, seq) < (?, ?) ORDER BY incarnation DESC, seq DESC LIMIT ?`, o.row, before.a, before.b, limit+1)
	if err != nil {
		return RejectedPage{}, fmt.Errorf("list rejected of %s: %w", org, err)
	}
	defer rows.Close()
	var page RejectedPage
	for rows.Next() {
		r := Rejected{Org: org}
		var seq, stored int64
		if err := rows.Scan(&r.Incarnation, &seq, &stored, &r.Subject, &r.Code, &r.Detail, &r.Data); err != nil {
			return RejectedPage{}, fmt.Errorf("list rejected of %s: %w", org, err)
		}
		r.Seq, r.Stored = stream.Seq(seq), fromNanos(stored)
		page.Rejected = append(page.Rejected, r)
	}
	if err := rows.Err(); err != nil {
		return RejectedPage{}, fmt.Errorf("list rejected of %s: %w", org, err)
	}
	if len(page.Rejected) > limit {
		page.Rejected = page.Rejected[:limit]
		last := page.Rejected[limit-1]
		page.Next = mark{int64(last.Incarnation), int64(last.Seq)}.String()
	}
	return page, nil
}

// Gap is a range of sequences that the stream no longer had when the cursor came.
type Gap struct {
	cursor.Gap
	At time.Time // when it was found, to the millisecond
}

// Gaps lists the org's gaps, oldest first.
func (s *Store) Gaps(ctx context.Context, org string) ([]Gap, error) {
	o, err := s.find(org)
	if err != nil {
		return nil, err
	}
	rows, err := s.readDB.QueryContext(background, "SELECT incarnation, from_seq, to_seq, at FROM gaps WHERE org=? ORDER BY incarnation, from_seq", o.row)
	if err != nil {
		return nil, fmt.Errorf("gaps of %s: %w", org, err)
	}
	defer rows.Close()
	var gaps []Gap
	for rows.Next() {
		var g Gap
		var at int64
		if err := rows.Scan(&g.Incarnation, &g.From, &g.To, &at); err != nil {
			return nil, fmt.Errorf("gaps of %s: %w", org, err)
		}
		g.At = fromMillis(at)
		gaps = append(gaps, g)
	}
	return gaps, rows.Err()
}
