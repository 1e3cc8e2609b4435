package httpapitest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/stream"
)

// TestEndpoint implements httpapi.Acts. Every receiver answers 204.
func (s *Service) TestEndpoint(ctx context.Context, org, id string) (httpapi.Test, error) {
	leave, err := s.enter(org)
	defer leave()
	if err != nil {
		return httpapi.Test{}, err
	}
	e, err := s.endpoint(org, id)
	if err != nil {
		return httpapi.Test{}, err
	}
	s.note(ctx, org, "endpoint.test", id)
	return httpapi.Test{
		Key: deliver.Key{Endpoint: e.Row},
		Attempt: deliver.Attempt{
			Number: 1, Trigger: deliver.Test, Started: s.tick(),
			Outcome: deliver.Outcome{Class: deliver.OK, Status: 204, Duration: 12 * time.Millisecond},
		},
	}, nil
}

// CancelDelivery implements httpapi.Acts.
func (s *Service) CancelDelivery(ctx context.Context, org string, key deliver.Key) (deliver.Delivery, error) {
	leave, err := s.enter(org)
	defer leave()
	if err != nil {
		return deliver.Delivery{}, err
	}
	d, err := s.delivery(org, key)
	if err != nil {
		return deliver.Delivery{}, err
	}
	if d.State != deliver.Pending {
		return deliver.Delivery{}, fmt.Errorf("the delivery is %s: %w", d.State, httpapi.ErrState)
	}
	d.State, d.Reason, d.Due = deliver.Cancelled, deliver.ByHand, time.Time{}
	s.note(ctx, org, "delivery.cancel", d.ID(d.Stored))
	return d.Delivery, nil
}

// ReplayEvent implements httpapi.Acts.
func (s *Service) ReplayEvent(ctx context.Context, org string, id stream.ID, endpoint string) ([]deliver.Delivery, deliver.Key, error) {
	leave, err := s.enter(org)
	defer leave()
	if err != nil {
		return nil, deliver.Key{}, err
	}
	if !slices.ContainsFunc(s.events[org], func(e stream.Event) bool { return e.ID == id }) {
		return nil, deliver.Key{}, httpapi.ErrNotFound
	}
	var replayed []deliver.Delivery
	for i := range s.deliveries {
		d := &s.deliveries[i]
		if d.Org != org || d.EventID != id || endpoint != "" && d.Endpoint != endpoint {
			continue
		}
		d.State, d.Reason, d.Due = deliver.Pending, deliver.NoReason, time.Time{}
		replayed = append(replayed, d.Delivery)
	}
	if len(replayed) == 0 {
		return nil, deliver.Key{}, fmt.Errorf("no endpoint had event %s: %w", id, httpapi.ErrState)
	}
	s.note(ctx, org, "event.replay", id.String())
	return replayed, deliver.Key{}, nil
}
