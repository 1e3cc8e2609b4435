package httpapitest

import (
	"context"
	"fmt"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/stream"
)

// PauseCursor implements httpapi.CursorMoves.
func (s *Service) PauseCursor(ctx context.Context, org string, p httpapi.Pausing) (httpapi.Cursor, error) {
	leave, err := s.enter(org)
	defer leave()
	if err != nil {
		return httpapi.Cursor{}, err
	}
	was := s.paused[org]
	if was == nil || p.Reason != "" && p.Reason != was.Reason || !p.Until.IsZero() && !p.Until.Equal(was.Until) {
		s.paused[org] = &httpapi.CursorPause{By: httpapi.CallerOf(ctx).Actor(), Reason: p.Reason, At: s.at(), Until: p.Until}
		s.note(ctx, org, "cursor.pause", org)
	}
	return s.cursor(org), nil
}

// ResumeCursor implements httpapi.CursorMoves.
func (s *Service) ResumeCursor(ctx context.Context, org string) (httpapi.Cursor, error) {
	leave, err := s.enter(org)
	defer leave()
	if err != nil {
		return httpapi.Cursor{}, err
	}
	if s.paused[org] != nil {
		delete(s.paused, org)
		s.note(ctx, org, "cursor.resume", org)
	}
	return s.cursor(org), nil
}

// ResetCursor implements httpapi.CursorMoves. A time is before the first event
// that was stored then or later, as in the stream; ages count from the last
// event. All that is read again exists already.
func (s *Service) ResetCursor(ctx context.Context, org string, r httpapi.CursorReset) (httpapi.CursorPlan, error) {
	leave, err := s.enter(org)
	defer leave()
	if err != nil {
		return httpapi.CursorPlan{}, err
	}
	now, events := s.cursor(org), s.events[org]
	if r.Ago != nil {
		r.Time = now.UpdatedAt.Add(-*r.Ago)
	}
	p := httpapi.CursorPlan{Org: org, From: now.Seq, Complete: true}
	switch {
	case r.Seq != nil:
		p.To = *r.Seq
	case r.Latest:
		p.To = now.Last
	case r.Shift != nil:
		p.To = stream.Seq(max(int64(now.Seq)+*r.Shift, 0))
	case r.Mark != nil:
		if !r.Mark.Created.Equal(now.Created) {
			return p, fmt.Errorf("%s is another stream: %w", now.Stream, httpapi.ErrState)
		}
		p.To = r.Mark.Seq
	case !r.Earliest:
		for p.To < now.Last && events[p.To].Stored.Before(r.Time) {
			p.To++
		}
	}
	if p.To > now.Last {
		return p, &httpapi.Invalid{Field: "to_seq", Detail: fmt.Sprintf("the stream ends with %d", now.Last)}
	}
	p.Through = max(p.From, p.To)
	if p.To == p.From {
		p.Already = true
		return p, nil
	}
	if p.To > p.From {
		p.Skipped = uint64(p.To - p.From)
	}
	for seq := p.To; seq < p.From; seq++ {
		p.Again++
		for _, d := range s.deliveries {
			if d.Org == org && d.EventID == events[seq].ID {
				p.Existing++
				if r.Rows {
					p.Rows = append(p.Rows, httpapi.CursorPlanRow{Seq: events[seq].Seq, Event: d.EventID, Type: d.Type, Endpoint: d.Endpoint, Fate: "exists"})
				}
			}
		}
	}
	if !r.Execute {
		return p, nil
	}
	if r.Expect != p.From {
		return p, fmt.Errorf("the cursor is at %d, not at %d: %w", p.From, r.Expect, httpapi.ErrState)
	}
	if p.Skipped > 0 && !r.AllowSkip {
		return p, &httpapi.Invalid{Field: "allow_skip", Detail: fmt.Sprintf("%d events were never read and would be skipped", p.Skipped)}
	}
	p.Executed = true
	s.moved[org] = &p.To
	m := httpapi.CursorMoved{At: s.at(), By: httpapi.CallerOf(ctx).Actor(), Action: "cursor.reset", From: p.From, To: p.To, Reason: r.Reason}
	if p.Skipped > 0 {
		m.Skipped = fmt.Sprintf("%d-%d", p.From+1, p.To)
	}
	s.movedBy[org] = append([]httpapi.CursorMoved{m}, s.movedBy[org]...)
	s.note(ctx, org, "cursor.reset", org)
	return p, nil
}

// position is where the cursor was moved to; it stays there, and there is none if
// it was not moved.
func (s *Service) position(org string, read stream.Seq) stream.Seq {
	if at := s.moved[org]; at != nil {
		return *at
	}
	return read
}
