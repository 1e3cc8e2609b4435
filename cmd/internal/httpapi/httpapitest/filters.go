package httpapitest

import (
	"context"
	"slices"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/fanout/filter"
)

// TryFilter implements httpapi.Filters.
func (s *Service) TryFilter(_ context.Context, org string, t httpapi.FilterTrial) (httpapi.FilterTried, error) {
	leave, err := s.enter(org)
	defer leave()
	if err != nil {
		return httpapi.FilterTried{}, err
	}
	f, err := filter.Compile(t.Filter)
	if err != nil {
		return httpapi.FilterTried{}, &httpapi.Invalid{Field: "filter", Detail: err.Error()}
	}
	trial := fanout.NewTrial(fanout.Subscription{Types: t.EventTypes, Workspace: t.Workspace, Filter: f})
	for _, ev := range slices.Backward(s.events[org]) {
		if trial.Events == t.Last {
			break
		}
		trial.Ask(&ev)
	}
	return httpapi.FilterTried{Trial: trial, All: true}, nil
}
