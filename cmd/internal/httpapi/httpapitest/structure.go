package httpapitest

import (
	"context"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
)

// Structure implements httpapi.Structures: it says what Torn says.
func (s *Service) Structure(context.Context) ([]httpapi.Broken, error) {
	leave, err := s.enter("")
	defer leave()
	return append([]httpapi.Broken(nil), s.Torn...), err
}

// MendStructure implements httpapi.Structures.
func (s *Service) MendStructure(ctx context.Context, reason string) (mended []httpapi.Broken, err error) {
	leave, err := s.enter("")
	defer leave()
	if err != nil {
		return nil, err
	}
	var left []httpapi.Broken
	for _, b := range s.Torn {
		if b.Stray {
			mended = append(mended, b)
			s.note(ctx, "", "books.mend", reason)
		} else {
			left = append(left, b)
		}
	}
	s.Torn = left
	return mended, nil
}
