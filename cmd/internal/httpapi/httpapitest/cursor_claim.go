package httpapitest

import (
	"context"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
)

// ClaimCursor implements httpapi.CursorClaims: all streams are this service's.
func (s *Service) ClaimCursor(_ context.Context, org string, _ httpapi.CursorClaim) (httpapi.CursorClaimed, error) {
	leave, err := s.enter(org)
	defer leave()
	if err != nil {
		return httpapi.CursorClaimed{}, err
	}
	return httpapi.CursorClaimed{Org: org, Position: s.cursor(org).Seq}, nil
}
