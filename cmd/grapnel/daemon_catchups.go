package main

import (
	"context"
	"fmt"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/sqlite"
	"github.com/grapnel-hooks/grapnel/stream"
)

// An endpoint that is behind gets rows while it has fewer than this pending, and
// less than a quarter of what parks it: what is read for it must not park it
// again, and what is live goes first.
const maxCatchupPending = 10_000

func (d *daemon) catchupBelow() int64 {
	if d.space.lacks.Load() != nil {
		return 0 // their streams keep it
	}
	after := d.live.Load().ParkAfter
	if after == 0 {
		return maxCatchupPending
	}
	return min(max(after/4, 1), maxCatchupPending)
}

// catchUp reads the streams for endpoints that are behind, once fan-out may begin.
func (d *daemon) catchUp(ctx context.Context) error {
	select {
	case <-d.released:
	case <-ctx.Done():
		return nil
	}
	return d.catchups.Run(ctx)
}

// start finds the place in the stream from which a new endpoint gets events, and
// the first sequence that this is.
func (d *daemon) start(ctx context.Context, org string, s httpapi.Start) (sqlite.Start, stream.Seq, error) {
	if !s.Beginning && s.Seq == 0 && s.Time.IsZero() {
		return sqlite.Start{}, 0, nil
	}
	if s.Time.After(time.Now()) {
		return sqlite.Start{}, 0, &httpapi.Invalid{Field: "start", Detail: "the time lies in the future: leave start out for what comes from now on"}
	}
	far, err := d.store.Furthest(ctx, org)
	if err != nil {
		return sqlite.Start{}, 0, answered(err)
	}
	name := d.names.Stream(org)
	st, err := d.broker.State(ctx, name)
	if err != nil {
		return sqlite.Start{}, 0, err
	}
	if far.Incarnation != 0 && (!st.Created.Equal(far.Created) || st.Last < far.Seq) {
		return sqlite.Start{}, 0, fmt.Errorf("the stream is not the one that the cursor has read; once the cursor has noticed, try again: %w", httpapi.ErrState)
	}
	after := max(st.First, 1) - 1
	switch {
	case s.Seq > st.Last:
		return sqlite.Start{}, 0, &httpapi.Invalid{Field: "start", Detail: fmt.Sprintf("the stream ends with sequence %d: leave start out for what comes from now on", st.Last)}
	case s.Seq != 0:
		after = max(after, s.Seq-1)
	case !s.Time.IsZero():
		if after, err = cursor.Before(ctx, d.broker, name, st, s.Time); err != nil {
			return sqlite.Start{}, 0, err
		}
	}
	return sqlite.Start{After: &after}, after + 1, nil
}

// CatchingUp says how far endpoints are behind.
func (d *daemon) CatchingUp(ctx context.Context, org string, endpoints []deliver.Endpoint) (map[int64]httpapi.CatchingUp, error) {
	var of map[int64]httpapi.CatchingUp
	var far cursor.Position
	for _, e := range endpoints {
		c, ok := d.store.CatchupOf(e.Row)
		if !ok || c.Org != org {
			continue
		}
		if of == nil {
			of = map[int64]httpapi.CatchingUp{}
			var err error
			if far, err = d.store.Furthest(ctx, org); err != nil {
				return nil, answered(err)
			}
		}
		is := httpapi.CatchingUp{
			Reason: string(c.Reason), Since: c.Began, From: c.From, Place: c.Seq, AtRisk: c.AtRisk, Lost: c.Lost,
			Waiting: d.catchupWaits(ctx, c),
		}
		if far.Incarnation == c.Incarnation && far.Seq > c.Seq {
			is.Behind = uint64(far.Seq - c.Seq)
		}
		of[e.Row] = is
	}
	return of, nil
}

// catchupWaits says why nothing is read for the endpoint now, "" if it is.
func (d *daemon) catchupWaits(ctx context.Context, c fanout.Catchup) string {
	o, err := d.store.Org(ctx, c.Org)
	switch pending, below := d.store.PendingOf(c.Endpoint), d.catchupBelow(); {
	case !c.Enabled:
		return "the endpoint is disabled"
	case err == nil && o.Paused:
		return "the organization's cursor is paused"
	case err == nil && o.Gated:
		return "the organization's plan has no outgoing webhooks"
	case pending >= below:
		return fmt.Sprintf("%d deliveries of the endpoint are pending, and more are made only below %d", pending, below)
	}
	return ""
}

// EndpointGaps lists what the stream lost before it was read for the endpoint.
func (d *daemon) EndpointGaps(ctx context.Context, org, endpoint string, limit int) ([]httpapi.Gap, error) {
	found, err := d.store.EndpointGaps(ctx, org, endpoint, limit)
	if err != nil {
		return nil, answered(err)
	}
	gaps := make([]httpapi.Gap, len(found))
	for i, g := range found {
		gaps[i] = httpapi.Gap{Gap: g.Gap, At: g.At}
	}
	return gaps, nil
}
