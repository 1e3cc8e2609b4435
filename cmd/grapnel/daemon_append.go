package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/sqlite"
	"github.com/grapnel-hooks/grapnel/stream"
)

const (
	// appendWithin bounds an append, its wait for others' batches included, so that
	// its caller hears of a slow broker while it still listens.
	appendWithin = 15 * time.Second
	// finishWithin bounds what is done for a caller that may have gone away.
	finishWithin = 5 * time.Second
)

// Append stores events in the stream. What an Idempotency-Key makes happen once
// is not in the books' own transaction but in the stream, so it takes three
// steps:
//
//	begin    the books note the request
//	append   events without a dedupe key get one that is made of the request
//	finish   the books keep the answer
//
// Crash, or no answer of the broker, after begin: the repeated request appends
// the same events by the same dedupe keys, and so is the first one's.
func (d *daemon) Append(ctx context.Context, org string, events []httpapi.NewEvent) ([]httpapi.Appended, error) {
	o, err := d.store.GetOrg(ctx, org)
	if err != nil {
		return nil, answered(err)
	}
	batch := make([]stream.Append, len(events))
	for i, e := range events {
		if stream.Operational(e.Type) {
			return nil, ownType(i, len(events))
		}
		batch[i] = stream.Append{
			Type: e.Type, Data: e.Data, Workspace: e.Workspace, DedupeKey: e.DedupeKey,
			SchemaVersion: e.SchemaVersion, Source: e.Source, Time: e.Time,
		}
		if o.Payload == stream.PayloadEnvelope {
			// What comes by the API is plain data, whatever the publishers send.
			batch[i].Payload = stream.PayloadData
		}
	}
	if err := d.checkStrict(ctx, batch); err != nil {
		return nil, err
	}
	once := httpapi.OnceOf(ctx)
	if once == nil {
		return d.append(ctx, org, batch)
	}
	for i := range batch {
		// A request that is refused has not begun: its key can be used again.
		if err := d.broker.Check(org, batch[i]); err != nil {
			return nil, refusedEvent(batch, i, err)
		}
	}
	noted := sqlite.Once{Org: once.Org, Key: once.Key, Request: once.Request}
	begun, err := d.store.Begin(ctx, noted)
	if err != nil {
		return nil, answered(err)
	}
	given := nameEvents(batch, org, once.Key, begun)
	done, err := d.append(ctx, org, batch)
	if err != nil {
		return nil, err
	}
	for _, i := range given {
		done[i].Duplicate = false // at the most one of the same request, that got no answer
	}
	d.failpoint("append.stored")
	// Crash here: the request was not answered. Repeated, it finds its own events.
	d.finish(ctx, once, noted, done)
	return done, nil
}

// ownType refuses an event that looks like one of ours.
func ownType(i, of int) error {
	field := "type"
	if of > 1 {
		field = fmt.Sprintf("events[%d].type", i)
	}
	return &httpapi.Invalid{Field: field, Detail: "types that begin with " + stream.OperationalPrefix + " are those of operational events, which only the daemon appends"}
}

// nameEvents gives the events that have no dedupe key one that no other request
// makes, and returns their indices. begun tells apart what was asked with the
// same key on different days.
func nameEvents(batch []stream.Append, org, key string, begun time.Time) (named []int) {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%d", org, key, begun.UnixMilli()))
	for i := range batch {
		if batch[i].DedupeKey == "" {
			batch[i].DedupeKey = fmt.Sprintf("idempotency:%x:%d", sum[:16], i)
			named = append(named, i)
		}
	}
	return named
}

// finish keeps the answer. Its failure is none of the caller's: the events are
// stored, and a repeated request is answered by appending them again.
func (d *daemon) finish(ctx context.Context, once *httpapi.Once, noted sqlite.Once, done []httpapi.Appended) {
	body, err := once.Answer(done)
	if err == nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishWithin)
		defer cancel()
		err = d.store.Finish(ctx, noted, body)
	}
	if err != nil {
		d.log.Warn("the answer to a request with an Idempotency-Key was not kept", "org", once.Org, "error", err)
	}
}

// append stores the events, all or none, in order.
func (d *daemon) append(ctx context.Context, org string, batch []stream.Append) ([]httpapi.Appended, error) {
	within, cancel := context.WithTimeout(ctx, appendWithin)
	defer cancel()
	acks, err := d.appendAll(within, org, batch)
	if err == nil {
		var done []httpapi.Appended
		if done, err = d.identified(within, org, batch, acks); err == nil {
			return done, nil
		}
	}
	var bad *stream.BatchError
	var refused *stream.Rejected
	switch {
	case errors.As(err, &bad):
		return nil, refusedEvent(batch, bad.Index, err)
	case errors.As(err, &refused):
		return nil, refusedEvent(batch, 0, err)
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		return nil, fmt.Errorf("%w: %w", stream.ErrUnavailable, err)
	}
	return nil, err
}

func (d *daemon) appendAll(ctx context.Context, org string, batch []stream.Append) ([]stream.Ack, error) {
	if len(batch) > 1 {
		return d.broker.AppendBatch(ctx, org, batch)
	}
	ack, err := d.broker.Append(ctx, org, batch[0])
	return []stream.Ack{ack}, err
}

// identified are the answers for what was stored. The id of an event without a
// dedupe key is made of the moment at which the stream stored it, which only
// the stream knows; all of them are read back at once.
func (d *daemon) identified(ctx context.Context, org string, batch []stream.Append, acks []stream.Ack) ([]httpapi.Appended, error) {
	done := make([]httpapi.Appended, len(acks))
	unnamed := map[stream.Seq]int{}
	first, last := stream.Seq(0), stream.Seq(0)
	for i, a := range acks {
		done[i] = httpapi.Appended{Seq: a.Seq, Duplicate: a.Duplicate}
		if key := batch[i].DedupeKey; key != "" {
			done[i].ID = stream.KeyID(org, key)
			continue
		}
		unnamed[a.Seq] = i
		if first == 0 || a.Seq < first {
			first = a.Seq
		}
		last = max(last, a.Seq)
	}
	for try := 0; len(unnamed) > 0; try++ {
		msgs, _, err := d.broker.Read(ctx, d.names.Stream(org), first, int(last-first)+1)
		if err != nil {
			return nil, fmt.Errorf("stored at %d to %d, but reading it back failed: %w", first, last, err)
		}
		for _, m := range msgs {
			if i, ok := unnamed[m.Seq]; ok {
				done[i].ID = stream.SeqID(org, m.Seq, m.Time)
				delete(unnamed, m.Seq)
			}
		}
		if len(unnamed) == 0 {
			break
		}
		if len(msgs) > 0 {
			first = msgs[len(msgs)-1].Seq + 1
			continue
		}
		// A replica may answer that has not got it yet.
		if try == eventsAttempt {
			return nil, fmt.Errorf("stored at %d to %d, but it cannot be read back: %w", first, last, stream.ErrUnavailable)
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return done, nil
}

// refusedEvent says which event of the batch cannot be one, and why.
func refusedEvent(batch []stream.Append, i int, err error) error {
	var why *stream.Rejected
	if !errors.As(err, &why) {
		return err
	}
	field := appendField(batch[i], why)
	if len(batch) > 1 {
		field = fmt.Sprintf("events[%d].%s", i, field)
	}
	return &httpapi.Invalid{Field: field, Detail: why.Error()}
}

func (d *daemon) failpoint(name string) {
	if d.cfg.Failpoint != nil {
		d.cfg.Failpoint(name)
	}
}

// appendField is the field of the API that an event was refused for.
func appendField(a stream.Append, why *stream.Rejected) string {
	switch {
	case why.Code == stream.CodeBadType, why.Code == stream.CodeBadSubject:
		return "type"
	case why.Code != stream.CodeBadHeader:
		return "data"
	case stream.CheckDedupeKey(a.DedupeKey) != nil && a.DedupeKey != "":
		return "dedupe_key"
	case a.Workspace != "" && stream.CheckWorkspace(a.Workspace) != nil:
		return "workspace_id"
	}
	return "schema_version"
}
