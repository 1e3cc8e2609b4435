package main

import (
	"context"
	"fmt"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/sqlite"
	"github.com/grapnel-hooks/grapnel/stream"
)

// StartReplay makes a replay, which the replayer carries on.
func (d *daemon) StartReplay(ctx context.Context, org, endpoint string, n httpapi.NewReplay) (httpapi.Replay, error) {
	f, err := replayFilter(n.ReplayFilter)
	if err != nil {
		return httpapi.Replay{}, err
	}
	var older stream.Seq
	if f.Missing() {
		if _, err := d.store.GetEndpoint(ctx, org, endpoint); err != nil {
			return httpapi.Replay{}, answered(err)
		}
		if older, err = d.olderThan(ctx, org, f.Since); err != nil {
			return httpapi.Replay{}, answered(err)
		}
	}
	shape := func(made any) any { return d.replayAnswer(ctx, made.(sqlite.Replay)) }
	made, err := d.store.StartReplay(d.asked(ctx, shape), org, endpoint, f, older, n.Rate)
	if err != nil {
		return httpapi.Replay{}, inState(err)
	}
	d.replayer.again()
	return d.replayAnswer(ctx, made), nil
}

func (d *daemon) CountReplay(ctx context.Context, org, endpoint string, filter httpapi.ReplayFilter) (httpapi.ReplayCounts, error) {
	f, err := replayFilter(filter)
	if err != nil {
		return httpapi.ReplayCounts{}, err
	}
	if _, err := d.store.GetEndpoint(ctx, org, endpoint); err != nil {
		return httpapi.ReplayCounts{}, answered(err)
	}
	if f.Missing() {
		return d.countMissing(ctx, org, endpoint, f)
	}
	readable, err := d.readable(ctx, org)
	if err != nil {
		return httpapi.ReplayCounts{}, answered(err)
	}
	n, err := d.store.CountReplay(ctx, org, endpoint, f, readable)
	return httpapi.ReplayCounts(n), answered(err)
}

func (d *daemon) Replays(ctx context.Context, org, before string, limit int) ([]httpapi.Replay, error) {
	found, err := d.store.ListReplays(ctx, org, before, limit)
	if err != nil {
		return nil, answered(err)
	}
	list := make([]httpapi.Replay, len(found))
	for i, r := range found {
		list[i] = d.replayAnswer(ctx, r)
	}
	return list, nil
}

func (d *daemon) Replay(ctx context.Context, org, id string) (httpapi.Replay, error) {
	r, err := d.store.GetReplay(ctx, org, id)
	return d.replayAnswer(ctx, r), answered(err)
}

func (d *daemon) PauseReplay(ctx context.Context, org, id string) (httpapi.Replay, error) {
	r, err := d.store.PauseReplay(d.asked(ctx, nil), org, id)
	return d.replayAnswer(ctx, r), inState(err)
}

func (d *daemon) ResumeReplay(ctx context.Context, org, id string) (httpapi.Replay, error) {
	r, err := d.store.ResumeReplay(d.asked(ctx, nil), org, id)
	d.replayer.again()
	return d.replayAnswer(ctx, r), inState(err)
}

func (d *daemon) CancelReplay(ctx context.Context, org, id string) (httpapi.Replay, error) {
	r, err := d.store.CancelReplay(d.asked(ctx, nil), org, id)
	return d.replayAnswer(ctx, r), inState(err)
}

func replayFilter(f httpapi.ReplayFilter) (sqlite.ReplayFilter, error) {
	states, err := sqlite.ParseStatuses(f.Status)
	if err != nil {
		return sqlite.ReplayFilter{}, &httpapi.Invalid{Field: "status", Detail: err.Error()}
	}
	return sqlite.ReplayFilter{States: states, Types: f.EventTypes, Since: f.Since, Until: f.Until, From: f.FromSeq, To: f.ToSeq}, nil
}

func (d *daemon) replayAnswer(ctx context.Context, r sqlite.Replay) httpapi.Replay {
	ahead := d.replayer.ahead(r.ID)
	if r.State == sqlite.ReplayDone {
		ahead.Known, ahead.Matched = true, r.Matched
	}
	out := httpapi.Replay{
		ID: r.ID, Org: r.Org, Endpoint: r.Endpoint,
		NewReplay: httpapi.NewReplay{
			ReplayFilter: httpapi.ReplayFilter{
				Status: r.Statuses(), EventTypes: r.Types, Since: r.Since, Until: r.Until, FromSeq: r.From, ToSeq: r.To,
			},
			Rate: r.Rate,
		},
		ReplayCounts:   httpapi.ReplayCounts(r.ReplayCounts),
		ReplayReport:   httpapi.ReplayReport{ByType: r.ByType, First: r.First, Last: r.Last, Ran: r.Ran, PerSecond: r.PerSecond()},
		ReplayProgress: httpapi.ReplayProgress{Expected: -1},
		State:          r.State.String(), Why: r.Why, StartedBy: r.Actor,
		CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt, FinishedAt: r.FinishedAt,
	}
	out.Share, out.Left = r.Progress(ahead)
	if ahead.Known {
		out.Expected = ahead.Matched
	}
	if r.ID != "" && r.State == sqlite.ReplayRunning {
		_, out.Waiting = d.replayRoom(ctx, r)
	}
	return out
}

// olderThan is the sequence up to which everything in the org's stream is older
// than the time, 0 for the zero time, so that a replay of what is missing need not
// read it.
func (d *daemon) olderThan(ctx context.Context, org string, since time.Time) (stream.Seq, error) {
	if since.IsZero() {
		return 0, nil
	}
	name := d.names.Stream(org)
	st, err := d.broker.State(ctx, name)
	if err != nil {
		return 0, err
	}
	return cursor.Before(ctx, d.broker, name, st, since.Truncate(time.Millisecond))
}

// readable is what can be read of an org's stream now.
func (d *daemon) readable(ctx context.Context, org string) (sqlite.Readable, error) {
	pos, err := d.store.Position(ctx, org)
	if err != nil {
		return sqlite.Readable{}, err
	}
	st, err := d.broker.State(ctx, d.names.Stream(org))
	if err != nil {
		return sqlite.Readable{}, err
	}
	return sqlite.Readable{Incarnation: pos.Incarnation, First: st.First}, nil
}

// fillBatch is how many messages of a stream are looked at for what an endpoint
// never had, at once.
const fillBatch = 256

// stepReplay carries a replay on, in the books or along the stream.
func (d *daemon) stepReplay(ctx context.Context, r sqlite.Replay, n int) (sqlite.Replay, error) {
	if !r.Missing() {
		readable, err := d.readable(ctx, r.Org)
		if err != nil {
			return r, err
		}
		return d.store.StepReplay(ctx, r, readable, n)
	}
	next, last := r.Next()
	events, upTo, err := d.stretch(ctx, r.Org, next, last)
	if err != nil {
		return r, err
	}
	return d.store.FillReplay(ctx, r, events, upTo, n)
}

// stretch reads some events of an org from a sequence on, and says up to which one
// it has: last, when there are no more before it.
func (d *daemon) stretch(ctx context.Context, org string, from, last stream.Seq) (events []stream.Event, upTo stream.Seq, err error) {
	if from > last {
		return nil, last, nil
	}
	dec, err := d.decoding(ctx, org)
	if err != nil {
		return nil, 0, err
	}
	msgs, _, err := d.broker.Read(ctx, d.names.Stream(org), from, fillBatch)
	if err != nil {
		return nil, 0, err
	}
	upTo = last
	for _, m := range msgs {
		if m.Seq > last {
			return events, last, nil
		}
		upTo = m.Seq
		if ev, err := dec.Decode(m); err == nil {
			events = append(events, ev)
		}
	}
	return events, upTo, nil
}

// countMissing counts what an endpoint never had.
func (d *daemon) countMissing(ctx context.Context, org, endpoint string, f sqlite.ReplayFilter) (httpapi.ReplayCounts, error) {
	var n sqlite.MissingCount
	after, last, err := d.store.MissingFrom(ctx, org)
	if err == nil {
		var older stream.Seq
		older, err = d.olderThan(ctx, org, f.Since)
		after = max(after, older, max(f.From, 1)-1)
	}
	if f.To > 0 {
		last = min(last, f.To)
	}
	for err == nil && !n.Over && after < last {
		var events []stream.Event
		if events, after, err = d.stretch(ctx, org, after+1, last); err != nil {
			break
		}
		if err = d.store.CountMissing(ctx, org, endpoint, f, events, &n); err == nil {
			err = ctx.Err()
		}
	}
	return httpapi.ReplayCounts(n.ReplayCounts), answered(err)
}

// replayRoom is how many deliveries a replay may make pending now; when there
// is none, it says why.
func (d *daemon) replayRoom(ctx context.Context, r sqlite.Replay) (room int, why string) {
	ep, err := d.store.GetEndpoint(ctx, r.Org, r.Endpoint)
	if o, err := d.store.Org(ctx, r.Org); err == nil && o.Gated {
		return 0, "the organization's plan has no outgoing webhooks"
	}
	switch pending := d.store.PendingOf(r.Row); {
	case err != nil:
		return 1, "" // the next step ends it
	case !ep.Enabled():
		return 0, "the endpoint is disabled"
	case pending >= replayPending:
		return 0, fmt.Sprintf("%d deliveries of the endpoint are pending, and more are made only below %d", pending, replayPending)
	default:
		return int(replayPending - pending), ""
	}
}
