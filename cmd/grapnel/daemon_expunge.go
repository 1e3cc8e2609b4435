package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/sqlite"
	"github.com/grapnel-hooks/grapnel/stream"
)

// expungeRemains is what no daemon can reach.
var expungeRemains = []string{
	"the receivers that got it, and the service that published it",
	"backups, replicas of the log and snapshots of the disk that were made before: they keep it until they are removed",
	"other messages that carry the same content, such as one that the publisher stored twice",
}

// ExpungeEvent takes the content out of the books, which also keeps it from being sent
// again, then out of the lanes, the stream, and at last the books' log.
//
// Crash in between: what is out is out, and doing it again does the rest.
func (d *daemon) ExpungeEvent(ctx context.Context, org string, id stream.ID, seq stream.Seq, r httpapi.Expunge) (httpapi.Expunged, error) {
	e, id, err := d.toExpunge(ctx, org, id, seq)
	if err != nil {
		return httpapi.Expunged{}, err
	}
	e.Execute, e.Reason = r.Execute, r.Reason
	target := fmt.Sprintf("%d", e.Place.Seq)
	if id != (stream.ID{}) {
		target = id.String()
	}
	done, err := d.store.Expunge(d.asked(ctx, nil), org, target, e)
	if err != nil {
		return httpapi.Expunged{}, answered(err)
	}
	out := httpapi.Expunged{
		ID: id, Seq: e.Place.Seq, Executed: r.Execute, Before: done.Before, Payloads: done.Payloads, Answers: done.Answers, Rejected: done.Rejected,
		Cancelled: int64(len(done.Cancelled)), Log: httpapi.LogNotTouched, Remains: expungeRemains,
	}
	if r.Execute {
		for _, k := range done.Cancelled {
			d.lanes.Drop(k)
		}
	}
	d.expungeMessage(ctx, org, e, &out)
	if !r.Execute {
		return out, nil
	}
	folded, err := d.store.FoldLog(ctx)
	if err != nil {
		return out, answered(err)
	}
	if out.Log = httpapi.LogKeeps; folded {
		out.Log = httpapi.LogFolded
	}
	d.log.Info("content of an event is expunged", "org", org, "event", target, "message", out.Message, "log", out.Log)
	return out, nil
}

// toExpunge finds where the event lies.
func (d *daemon) toExpunge(ctx context.Context, org string, id stream.ID, seq stream.Seq) (sqlite.Expunge, stream.ID, error) {
	pos, err := d.store.Furthest(ctx, org)
	if err != nil {
		return sqlite.Expunge{}, id, answered(err)
	}
	if id == (stream.ID{}) {
		switch ev, err := d.eventAt(ctx, org, seq); {
		case err == nil:
			id = ev.ID
		case !errors.Is(err, httpapi.ErrNotFound):
			return sqlite.Expunge{}, id, err
		}
	}
	at := sqlite.Expunge{Place: sqlite.Place{Incarnation: max(pos.Incarnation, 1), Seq: seq}}
	if id == (stream.ID{}) {
		event, was, err := d.store.ExpungedAt(ctx, org, at.Place)
		if at.Event = event; err != nil || was {
			return at, id, answered(err)
		}
		rejected, err := d.store.ListRejected(ctx, org, sqlite.Place{Incarnation: at.Place.Incarnation, Seq: seq + 1}, 1)
		if err != nil {
			return at, id, answered(err)
		}
		if len(rejected) == 0 || rejected[0].Seq != seq || rejected[0].Incarnation != at.Place.Incarnation {
			return at, id, fmt.Errorf("nothing at %d is known: name an event that the stream has dropped by its id: %w", seq, httpapi.ErrNotFound)
		}
		return at, id, nil
	}
	known, err := d.store.GetEvent(ctx, org, id)
	switch {
	case err == nil:
		return sqlite.Expunge{Event: known.Event, Place: sqlite.Place{Incarnation: known.Incarnation, Seq: known.Seq}}, id, nil
	case !errors.Is(err, sqlite.ErrNotFound):
		return at, id, answered(err)
	case seq == 0:
		ev, err := d.event(ctx, org, id)
		if err != nil {
			return at, id, err
		}
		at.Place.Seq = ev.Seq
	}
	return at, id, nil
}

// expungeMessage takes the message out of the stream, or says whether it is there.
func (d *daemon) expungeMessage(ctx context.Context, org string, e sqlite.Expunge, out *httpapi.Expunged) {
	pos, err := d.store.Furthest(ctx, org)
	if err == nil && e.Place.Incarnation != max(pos.Incarnation, 1) {
		out.Message = httpapi.MessageGone // with its stream
		return
	}
	msgs, _, err := d.broker.Read(ctx, d.names.Stream(org), e.Place.Seq, 1)
	switch {
	case errors.Is(err, stream.ErrNoStream), err == nil && (len(msgs) == 0 || msgs[0].Seq != e.Place.Seq):
		out.Message = httpapi.MessageGone
		return
	case err != nil:
		out.Message = httpapi.MessageUnknown
		return
	}
	if dec, err := d.decoding(ctx, org); err == nil && out.ID != (stream.ID{}) {
		if ev, err := dec.Decode(msgs[0]); err != nil || ev.ID != out.ID {
			out.Message = httpapi.MessageGone // another one lies there
			return
		}
	}
	if out.Message = httpapi.MessageThere; !out.Executed {
		return
	}
	switch err := d.broker.Erase(ctx, org, e.Place.Seq); {
	case err == nil:
		out.Message = httpapi.MessageErased
	case errors.Is(err, stream.ErrDenied):
		out.Message, out.Until = httpapi.MessageDenied, d.dropped(ctx, org, msgs[0].Time)
		d.log.Warn("a message cannot be erased: its stream denies that for ever; it goes with the stream's own limits", "org", org, "sequence", e.Place.Seq, "error", err)
	default:
		out.Message = httpapi.MessageUnknown
		d.log.Warn("a message could not be erased; expunge it again", "org", org, "sequence", e.Place.Seq, "error", err)
	}
}

// dropped is when the stream drops by itself what it stored then; zero when it never
// does by age, or does not say.
func (d *daemon) dropped(ctx context.Context, org string, stored time.Time) time.Time {
	age, err := d.broker.MaxAge(ctx, org)
	if err != nil || age == 0 {
		return time.Time{}
	}
	return stored.Add(age)
}
