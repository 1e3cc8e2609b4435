package httpapitest

import (
	"context"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
)

// Hold implements httpapi.Holds: what was given to SetHold.
func (s *Service) Hold(context.Context) (httpapi.HoldStatus, error) {
	leave, err := s.enter("")
	defer leave()
	return s.hold, err
}

// Resume implements httpapi.Holds.
func (s *Service) Resume(ctx context.Context) error {
	leave, err := s.enter("")
	defer leave()
	if err != nil {
		return err
	}
	if s.hold.Held {
		s.hold = httpapi.HoldStatus{}
		s.note(ctx, "", "hold.resume", "")
	}
	return nil
}

// SetHold makes the service hold still, as after a restore.
func (s *Service) SetHold(h httpapi.HoldStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hold = h
}
