package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/sqlite"
	"github.com/grapnel-hooks/grapnel/stream"
)

// Bounds of going backwards in a stream for one request. Those of bytes are what
// keeps many requests for large events from filling the memory; a page that is
// shorter for it goes on with its cursor.
const (
	eventsFirst       = 16       // messages read at first
	eventsWindow      = 256      // and at once
	eventsWindowBytes = 2 << 20  // of data, and one event more
	eventsLookAt      = 20_000   // messages
	eventsLookBytes   = 32 << 20 // of data
	eventsPageBytes   = 4 << 20  // of data, and one event more
	eventsNewest      = 1000     // among which Event looks for what the books do not know
	eventsAttempt     = 10
)

func (d *daemon) decoding(ctx context.Context, org string) (stream.Decoding, error) {
	o, err := d.store.Org(ctx, org)
	if err != nil {
		return stream.Decoding{}, answered(err)
	}
	return stream.Decoding{Org: org, Payload: o.Payload, Names: d.names, Subjects: o.Subjects, MaxData: d.maxData()}, nil
}

// Events looks at the stream from its end.
func (d *daemon) Events(ctx context.Context, org string, f httpapi.EventFilter, before stream.Seq, limit int) ([]stream.Event, stream.Seq, error) {
	if f.Type != "" {
		if err := fanout.CheckPattern(f.Type); err != nil {
			return nil, 0, &httpapi.Invalid{Field: "type", Detail: err.Error()}
		}
	}
	var found []stream.Event
	size := 0
	next, err := d.shown(ctx, org, before, func(ev *stream.Event) bool {
		if eventMatches(f, ev) {
			found = append(found, *ev)
			size += len(ev.Data)
		}
		return len(found) < limit && size < eventsPageBytes
	})
	return found, next, err
}

// backwards calls f with the events before that place of the org's stream (0: its
// end), the newest first, until f reports false or the bounds of one request are
// reached. It returns before which place to go on, 0 at the stream's beginning.
func (d *daemon) backwards(ctx context.Context, org string, before stream.Seq, f func(*stream.Event) bool) (stream.Seq, error) {
	dec, err := d.decoding(ctx, org)
	if err != nil {
		return 0, err
	}
	st, err := d.broker.State(ctx, d.names.Stream(org))
	if err != nil {
		return 0, err
	}
	if before == 0 || before > st.Last+1 {
		before = st.Last + 1
	}
	more, messages, bytes, n := true, 0, 0, stream.Seq(eventsFirst)
	for more && before > st.First && messages < eventsLookAt && bytes < eventsLookBytes {
		evs, from, read, err := d.window(ctx, dec, max(st.First, before-min(before, n)), before)
		if err != nil {
			return 0, err
		}
		if n = min(2*n, eventsWindow); read > eventsWindowBytes {
			n = max(before-from, 1) // as many of such large ones as were kept
		}
		for _, ev := range slices.Backward(evs) {
			if more = f(&ev); !more {
				from = ev.Seq
				break
			}
		}
		messages += int(before - from)
		bytes += read
		before = from
	}
	if before <= st.First {
		before = 0
	}
	return before, nil
}

// shown is backwards without events whose content was expunged: a stream that does not
// allow it could not erase their messages.
func (d *daemon) shown(ctx context.Context, org string, before stream.Seq, f func(*stream.Event) bool) (stream.Seq, error) {
	hidden, err := d.store.ExpungedBetween(ctx, org, 1, math.MaxInt64)
	if err != nil {
		return 0, answered(err)
	}
	return d.backwards(ctx, org, before, func(ev *stream.Event) bool { return hidden[ev.Seq] || f(ev) })
}

// window reads the events from one place to before another. When they are too
// large to be kept at once it keeps the last ones, and returns from where on they
// are. read is how many bytes of data it has read.
func (d *daemon) window(ctx context.Context, dec stream.Decoding, from, before stream.Seq) (evs []stream.Event, _ stream.Seq, read int, _ error) {
	kept := 0
	for at := from; at < before; {
		msgs, _, err := d.broker.Read(ctx, d.names.Stream(dec.Org), at, int(before-at))
		if err != nil {
			return nil, 0, 0, err
		}
		if len(msgs) == 0 {
			break
		}
		for _, m := range msgs {
			if m.Seq >= before {
				break
			}
			read += len(m.Data)
			ev, err := dec.Decode(m)
			if err != nil {
				continue
			}
			evs = append(evs, ev)
			for kept += len(ev.Data); kept > eventsWindowBytes && len(evs) > 1; evs = evs[1:] {
				kept -= len(evs[0].Data)
				evs[0] = stream.Event{} // lets go of its data
				from = evs[1].Seq
			}
		}
		at = msgs[len(msgs)-1].Seq + 1
	}
	return evs, from, read, nil
}

func eventMatches(f httpapi.EventFilter, ev *stream.Event) bool {
	return fanout.Lists(f.Type, ev.Type) &&
		(f.Workspace == "" || f.Workspace == ev.Workspace) &&
		(f.Since.IsZero() || !ev.Stored.Before(f.Since)) &&
		(f.Until.IsZero() || ev.Stored.Before(f.Until))
}

func (d *daemon) EventAt(ctx context.Context, org string, seq stream.Seq) (stream.Event, error) {
	ev, err := d.eventAt(ctx, org, seq)
	if err != nil {
		return ev, err
	}
	return d.unlessExpunged(ctx, org, ev)
}

// unlessExpunged is the event, unless its content was expunged.
func (d *daemon) unlessExpunged(ctx context.Context, org string, ev stream.Event) (stream.Event, error) {
	hidden, err := d.store.ExpungedBetween(ctx, org, ev.Seq, ev.Seq)
	if err != nil {
		return stream.Event{}, answered(err)
	}
	if hidden[ev.Seq] {
		return stream.Event{}, fmt.Errorf("the content of the event at %d was expunged: %w", ev.Seq, httpapi.ErrNotFound)
	}
	return ev, nil
}

// eventAt is the event at a place of the stream, also when it was expunged.
func (d *daemon) eventAt(ctx context.Context, org string, seq stream.Seq) (stream.Event, error) {
	dec, err := d.decoding(ctx, org)
	if err != nil {
		return stream.Event{}, err
	}
	// A replica may answer that has not got it yet.
	for try := 0; ; try++ {
		msgs, _, err := d.broker.Read(ctx, d.names.Stream(org), seq, 1)
		if err != nil {
			return stream.Event{}, err
		}
		if len(msgs) > 0 && msgs[0].Seq == seq {
			ev, err := dec.Decode(msgs[0])
			if err != nil {
				return ev, fmt.Errorf("message %d is no event (%w): %w", seq, err, httpapi.ErrNotFound)
			}
			return ev, nil
		}
		if try == eventsAttempt || len(msgs) > 0 {
			return stream.Event{}, fmt.Errorf("event at %d: %w", seq, httpapi.ErrNotFound)
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return stream.Event{}, ctx.Err()
		}
	}
}

// Event finds an event by what the books know of it, and reads it from the
// stream.
func (d *daemon) Event(ctx context.Context, org string, id stream.ID) (stream.Event, error) {
	ev, err := d.event(ctx, org, id)
	if err != nil {
		return ev, err
	}
	return d.unlessExpunged(ctx, org, ev)
}

// event is Event, also when it was expunged.
func (d *daemon) event(ctx context.Context, org string, id stream.ID) (stream.Event, error) {
	place, err := d.store.GetEvent(ctx, org, id)
	if err == nil {
		ev, err := d.eventAt(ctx, org, place.Seq)
		if err == nil && ev.ID == id {
			return ev, nil
		}
	} else if !errors.Is(err, sqlite.ErrNotFound) {
		return stream.Event{}, answered(err)
	}
	// Nobody was subscribed to it, or it is not fanned out yet: look where the
	// newest ones are.
	var found *stream.Event
	looked := 0
	_, err = d.backwards(ctx, org, 0, func(ev *stream.Event) bool {
		if looked++; ev.ID == id {
			found = ev
		}
		return found == nil && looked < eventsNewest
	})
	switch {
	case err != nil:
		return stream.Event{}, err
	case found == nil:
		return stream.Event{}, fmt.Errorf("event %s: %w", id, httpapi.ErrNotFound)
	}
	return *found, nil
}
