package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/sqlite"
	"github.com/grapnel-hooks/grapnel/stream"
)

func (d *daemon) EndpointStats(ctx context.Context, org, id string) (deliver.EndpointStats, error) {
	st, err := d.store.EndpointStats(ctx, org, id)
	return st, answered(err)
}

// Explain puts together what the books and the stream know.
func (d *daemon) Explain(ctx context.Context, org string, id stream.ID, seq stream.Seq) (httpapi.Explanation, error) {
	sub := sqlite.Subject{ID: id, Seq: seq}
	ev, err := d.subject(ctx, org, id, seq)
	switch {
	case err == nil:
		sub.Event, sub.Seq = &ev, ev.Seq
	case errors.Is(err, httpapi.ErrNotFound), errors.Is(err, stream.ErrNoStream):
		// The books may know it still.
	default:
		return httpapi.Explanation{}, err
	}
	if sub.Event == nil && seq != 0 {
		if st, err := d.broker.State(ctx, d.names.Stream(org)); err == nil && seq > st.Last {
			return httpapi.Explanation{}, fmt.Errorf("nothing at %d: %w", seq, httpapi.ErrNotFound)
		}
	}
	x, err := d.store.Explain(ctx, org, sub)
	if err != nil {
		return httpapi.Explanation{}, answered(err)
	}
	return httpapi.Explanation{ID: x.ID, Incarnation: x.Incarnation, Seq: x.Seq, Type: x.Type, Stored: x.Stored, Answers: x.Answers}, nil
}

// subject reads what the stream has.
func (d *daemon) subject(ctx context.Context, org string, id stream.ID, seq stream.Seq) (stream.Event, error) {
	if id == (stream.ID{}) {
		return d.EventAt(ctx, org, seq)
	}
	return d.Event(ctx, org, id)
}
