package httpapitest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
)

// StartReplay implements httpapi.Replays. What matches is pending at once, and
// the replay done; that of a disabled endpoint waits for ever.
func (s *Service) StartReplay(ctx context.Context, org, endpoint string, n httpapi.NewReplay) (httpapi.Replay, error) {
	leave, err := s.enter(org)
	defer leave()
	if err != nil {
		return httpapi.Replay{}, err
	}
	e, err := s.endpoint(org, endpoint)
	if err != nil {
		return httpapi.Replay{}, err
	}
	for _, r := range s.replays {
		if r.Endpoint == endpoint && r.FinishedAt.IsZero() {
			return httpapi.Replay{}, fmt.Errorf("the endpoint has a replay that is not finished: %w", httpapi.ErrState)
		}
	}
	at := s.tick()
	r := httpapi.Replay{
		ID: "rpl_" + numbered(at, int64(len(s.replays)+1)), Org: org, Endpoint: endpoint, NewReplay: n, State: "running",
		ReplayProgress: httpapi.ReplayProgress{Expected: -1, Share: -1, Left: -1},
		StartedBy:      httpapi.CallerOf(ctx).Actor(), CreatedAt: at, UpdatedAt: at,
	}
	if e.Enabled() {
		for _, d := range s.matching(org, endpoint, n.ReplayFilter) {
			d.State, d.Reason, d.Due = deliver.Pending, deliver.NoReason, time.Time{}
			r.Matched++
			r.Replayed++
			if r.ByType == nil {
				r.ByType, r.First = map[string]int64{}, d.EventID
			}
			r.ByType[d.Type]++
			r.ReplayReport.Last = d.EventID
		}
		r.ReplayProgress = httpapi.ReplayProgress{Expected: r.Matched, Share: 1}
		r.State, r.FinishedAt = "done", at
	} else {
		r.Waiting = "the endpoint is disabled"
	}
	s.replays[r.ID] = r
	s.note(ctx, org, "replay.start", r.ID)
	return r, s.remember(ctx, r)
}

// matching are the deliveries that a replay sends again. The lock is held.
func (s *Service) matching(org, endpoint string, f httpapi.ReplayFilter) []*booked {
	var found []*booked
	for i := range s.deliveries {
		d := &s.deliveries[i]
		typed := len(f.EventTypes) == 0 || slices.ContainsFunc(f.EventTypes, func(p string) bool { return fanout.Lists(p, d.Type) })
		if d.Org == org && d.Endpoint == endpoint && slices.Contains(f.Status, d.State.String()) && typed &&
			!d.Stored.Before(f.Since) && (f.Until.IsZero() || d.Stored.Before(f.Until)) &&
			d.Seq >= f.FromSeq && (f.ToSeq == 0 || d.Seq <= f.ToSeq) {
			found = append(found, d)
		}
	}
	return found
}

// CountReplay implements httpapi.Replays.
func (s *Service) CountReplay(_ context.Context, org, endpoint string, f httpapi.ReplayFilter) (httpapi.ReplayCounts, error) {
	leave, err := s.enter(org)
	defer leave()
	if err != nil {
		return httpapi.ReplayCounts{}, err
	}
	if _, err := s.endpoint(org, endpoint); err != nil {
		return httpapi.ReplayCounts{}, err
	}
	n := int64(len(s.matching(org, endpoint, f)))
	return httpapi.ReplayCounts{Matched: n, Replayed: n}, nil
}

// Replays implements httpapi.Replays.
func (s *Service) Replays(_ context.Context, org, before string, limit int) ([]httpapi.Replay, error) {
	leave, err := s.enter(org)
	defer leave()
	if err != nil {
		return nil, err
	}
	var found []httpapi.Replay
	for _, r := range slices.Backward(paged(s.replays, "", len(s.replays))) {
		if r.Org == org && (before == "" || r.ID < before) && len(found) < limit {
			found = append(found, r)
		}
	}
	return found, nil
}

// Replay implements httpapi.Replays.
func (s *Service) Replay(_ context.Context, org, id string) (httpapi.Replay, error) {
	leave, err := s.enter(org)
	defer leave()
	if err != nil {
		return httpapi.Replay{}, err
	}
	return s.replay(org, id)
}

func (s *Service) replay(org, id string) (httpapi.Replay, error) {
	r, ok := s.replays[id]
	if !ok || r.Org != org {
		return httpapi.Replay{}, httpapi.ErrNotFound
	}
	return r, nil
}

// PauseReplay implements httpapi.Replays.
func (s *Service) PauseReplay(ctx context.Context, org, id string) (httpapi.Replay, error) {
	return s.setReplay(ctx, org, id, "paused", "replay.pause")
}

// ResumeReplay implements httpapi.Replays.
func (s *Service) ResumeReplay(ctx context.Context, org, id string) (httpapi.Replay, error) {
	return s.setReplay(ctx, org, id, "running", "replay.resume")
}

// CancelReplay implements httpapi.Replays.
func (s *Service) CancelReplay(ctx context.Context, org, id string) (httpapi.Replay, error) {
	return s.setReplay(ctx, org, id, "cancelled", "replay.cancel")
}

func (s *Service) setReplay(ctx context.Context, org, id, state, action string) (httpapi.Replay, error) {
	leave, err := s.enter(org)
	defer leave()
	if err != nil {
		return httpapi.Replay{}, err
	}
	r, err := s.replay(org, id)
	if err != nil || r.State == state && r.FinishedAt.IsZero() {
		return r, err
	}
	if !r.FinishedAt.IsZero() {
		return r, fmt.Errorf("it is %s: %w", r.State, httpapi.ErrState)
	}
	r.State, r.UpdatedAt, r.Waiting = state, s.tick(), ""
	switch state {
	case "cancelled":
		r.FinishedAt = r.UpdatedAt
	case "running":
		r.Waiting = "the endpoint is disabled"
	}
	s.replays[id] = r
	s.note(ctx, org, action, id)
	return r, nil
}
