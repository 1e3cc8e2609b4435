package httpapitest

import (
	"context"
	"slices"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/stream"
)

// ExpungeEvent implements httpapi.Expunges.
func (s *Service) ExpungeEvent(ctx context.Context, org string, id stream.ID, seq stream.Seq, r httpapi.Expunge) (httpapi.Expunged, error) {
	leave, err := s.enter(org)
	defer leave()
	if err != nil {
		return httpapi.Expunged{}, err
	}
	i := slices.IndexFunc(s.events[org], func(e stream.Event) bool { return e.ID == id || e.Seq == seq })
	if i < 0 {
		return httpapi.Expunged{}, httpapi.ErrNotFound
	}
	e := &s.events[org][i]
	out := httpapi.Expunged{
		ID: e.ID, Seq: e.Seq, Executed: r.Execute, Message: httpapi.MessageThere, Log: httpapi.LogNotTouched,
		Remains: []string{"receivers that got it"},
	}
	for j := range s.deliveries {
		d := &s.deliveries[j]
		if d.Org == org && d.EventID == e.ID && d.State == deliver.Pending {
			out.Cancelled++
			if r.Execute {
				d.State, d.Reason = deliver.Cancelled, deliver.ByHand
			}
		}
	}
	if r.Execute {
		e.Data = []byte("null")
		out.Message, out.Log = httpapi.MessageErased, httpapi.LogFolded
		s.note(ctx, org, "event.expunge", e.ID.String())
	}
	return out, nil
}
