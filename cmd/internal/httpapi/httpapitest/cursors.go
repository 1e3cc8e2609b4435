package httpapitest

import (
	"context"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
)

// PauseCursor implements httpapi.CursorMoves.
func (s *Service) PauseCursor(ctx context.Context, org string) (httpapi.Cursor, error) {
	return s.pause(ctx, org, true, "cursor.pause")
}

// ResumeCursor implements httpapi.CursorMoves.
func (s *Service) ResumeCursor(ctx context.Context, org string) (httpapi.Cursor, error) {
	return s.pause(ctx, org, false, "cursor.resume")
}

func (s *Service) pause(ctx context.Context, org string, paused bool, action string) (httpapi.Cursor, error) {
	leave, err := s.enter(org)
	defer leave()
	if err != nil {
		return httpapi.Cursor{}, err
	}
	if s.paused[org] != paused {
		s.paused[org] = paused
		s.note(ctx, org, action, org)
	}
	return s.cursor(org), nil
}
