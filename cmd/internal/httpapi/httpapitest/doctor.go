package httpapitest

import (
	"context"

	"github.com/grapnel-hooks/grapnel/cmd/internal/doctor"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
)

// Examine implements httpapi.Doctors: one check is well, one is not.
func (s *Service) Examine(context.Context, httpapi.Examination) ([]doctor.Finding, error) {
	leave, err := s.enter("")
	defer leave()
	if err != nil {
		return nil, err
	}
	return []doctor.Finding{
		{Check: "clock", Status: doctor.OK, What: "kept right, to 3ms"},
		{Check: "disk", Status: doctor.Warn, What: "1.2 GiB of 40.0 GiB are free (3 %)", Do: "make room, or shorten the retention"},
	}, nil
}
