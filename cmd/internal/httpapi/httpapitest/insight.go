package httpapitest

import (
	"context"
	"slices"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// EndpointStats implements httpapi.Insight, from all attempts that the test made.
func (s *Service) EndpointStats(_ context.Context, org, id string) (deliver.EndpointStats, error) {
	leave, err := s.enter(org)
	defer leave()
	e, ok := s.endpoints[id]
	if err == nil && (!ok || e.Org != org) {
		err = httpapi.ErrNotFound
	}
	if err != nil {
		return deliver.EndpointStats{}, err
	}
	st := deliver.EndpointStats{Condition: e.Condition(), FailingSince: e.FailingSince}
	for _, d := range s.deliveries {
		switch {
		case d.Endpoint != id:
			continue
		case d.State == deliver.Pending:
			st.Pending++
		case d.State == deliver.Dead:
			st.Dead++
		}
		for i := range d.attempts {
			st.Hour.Count(&d.attempts[i].Outcome)
		}
	}
	st.Day = st.Hour
	return st, nil
}

// Explain implements httpapi.Insight: of deliveries, of what Rejects and Missed
// hold, and of events that endpoints were made or disabled too late or too early for.
func (s *Service) Explain(_ context.Context, org string, id stream.ID, seq stream.Seq) (httpapi.Explanation, error) {
	leave, err := s.enter(org)
	defer leave()
	if err != nil {
		return httpapi.Explanation{}, err
	}
	q := fanout.Question{Incarnation: 1, Seq: seq, Position: cursor.Position{Incarnation: 1, Seq: stream.Seq(len(s.events[org]))}, Now: Epoch}
	for i, ev := range s.events[org] {
		if ev.ID == id || ev.Seq == seq {
			q.Event, q.Seq, q.Type, q.Stored = &s.events[org][i], ev.Seq, ev.Type, ev.Stored
		}
	}
	for _, r := range s.Rejects {
		if r.Seq == q.Seq {
			q.Exception, q.Code, q.Detail = &fanout.Exception{Kind: fanout.ExceptionRejected, Incarnation: 1, From: r.Seq, To: r.Seq}, r.Code, r.Detail
		}
	}
	for _, g := range s.Missed {
		if g.From <= q.Seq && q.Seq <= g.To {
			q.Exception = &fanout.Exception{Kind: fanout.ExceptionGap, Incarnation: 1, From: g.From, To: g.To}
		}
	}
	if q.Event == nil && q.Exception == nil {
		return httpapi.Explanation{}, httpapi.ErrNotFound
	}
	s.receivers(org, &q)
	x := httpapi.Explanation{Incarnation: 1, Seq: q.Seq, Type: q.Type, Stored: q.Stored, Answers: fanout.Explain(q)}
	if q.Event != nil {
		x.ID = q.Event.ID
	}
	return x, nil
}

// receivers adds the org's endpoints, their subscriptions and deliveries.
func (s *Service) receivers(org string, q *fanout.Question) {
	for _, e := range s.endpoints {
		if e.Org != org {
			continue
		}
		q.Receivers = append(q.Receivers, fanout.Receiver{Row: e.Row, ID: e.ID, CreatedAt: e.CreatedAt, DisabledReason: e.DisabledReason, DisabledAt: e.DisabledAt})
		i := slices.IndexFunc(s.deliveries, func(d booked) bool { return d.Endpoint == e.ID && d.Seq == q.Seq })
		if i >= 0 {
			q.Deliveries = append(q.Deliveries, s.deliveries[i].Delivery)
		}
		if e.Enabled() && (q.Stored.IsZero() || !e.CreatedAt.After(q.Stored)) {
			q.Spans = append(q.Spans, fanout.Span{Subscription: fanout.Subscription{Endpoint: e.Row, Types: e.EventTypes, Workspace: e.Workspace, Incarnation: 1}})
		}
	}
}
