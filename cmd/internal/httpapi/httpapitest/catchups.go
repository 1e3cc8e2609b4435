package httpapitest

import (
	"context"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/stream"
)

// CatchingUp implements httpapi.Catchups: of the endpoints that were made with a
// start, until they are changed.
func (s *Service) CatchingUp(_ context.Context, org string, endpoints []deliver.Endpoint) (map[int64]httpapi.CatchingUp, error) {
	leave, err := s.enter(org)
	defer leave()
	if err != nil {
		return nil, err
	}
	of := map[int64]httpapi.CatchingUp{}
	for _, e := range endpoints {
		if c, ok := s.behind[e.ID]; ok && e.Org == org {
			of[e.Row] = c
		}
	}
	return of, nil
}

// EndpointGaps implements httpapi.Catchups: one for each endpoint that is behind.
func (s *Service) EndpointGaps(_ context.Context, org, endpoint string, _ int) ([]httpapi.Gap, error) {
	leave, err := s.enter(org)
	defer leave()
	if err != nil {
		return nil, err
	}
	if _, err := s.endpoint(org, endpoint); err != nil {
		return nil, err
	}
	c, ok := s.behind[endpoint]
	if !ok || c.Lost == 0 {
		return nil, nil
	}
	return []httpapi.Gap{{Gap: cursor.Gap{Incarnation: 1, From: c.From + 1, To: c.From + stream.Seq(c.Lost)}, At: c.Since}}, nil
}

// fallBehind notes from where a new endpoint gets events, and returns its first
// sequence. The stream of an org has 40 sequences, and begins with the eleventh.
func (s *Service) fallBehind(e deliver.Endpoint, start httpapi.Start) (stream.Seq, error) {
	const first, last = 11, 40
	at := stream.Seq(first)
	switch {
	case start.Seq > last:
		return 0, &httpapi.Invalid{Field: "start", Detail: "the stream ends with sequence 40"}
	case start.Time.After(e.CreatedAt):
		return 0, &httpapi.Invalid{Field: "start", Detail: "the time lies in the future"}
	case start == httpapi.Start{}:
		return 0, nil
	case start.Seq != 0:
		at = max(at, start.Seq)
	}
	if s.behind == nil {
		s.behind = map[string]httpapi.CatchingUp{}
	}
	s.behind[e.ID] = httpapi.CatchingUp{
		Reason: "backfill", Since: e.CreatedAt, From: at - 1, Place: at + 1, Behind: last - uint64(at) - 1, Lost: 2,
	}
	return at, nil
}

// Held implements httpapi.Catchups: nothing needs mending.
func (s *Service) Held(deliver.Endpoint) string { return "" }
