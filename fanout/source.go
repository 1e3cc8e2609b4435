package fanout

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/stream"
)

// EventPlace says where in which stream an event of the books lies.
type EventPlace struct {
	Event       int64 // its number in the books
	Org         string
	Incarnation int
	Seq         stream.Seq
	ID          stream.ID
}

// SourceBooks is what a Source asks the store.
type SourceBooks interface {
	Org(ctx context.Context, org string) (Org, error)
	Position(ctx context.Context, org string) (cursor.Position, error)
	// Payloads reads those that are kept in the books, because a delivery of
	// the event has failed before.
	Payloads(ctx context.Context, events []int64) (map[int64]*deliver.Payload, error)
	// EventPlaces tells where the events lie; unknown numbers are left out.
	EventPlaces(ctx context.Context, events []int64) ([]EventPlace, error)
}

// Source fetches payloads of deliveries that were paged in: from the books if
// they failed before, else from the stream, in batches. It implements
// [deliver.Source].
type Source struct {
	Books   SourceBooks
	Log     cursor.Log
	Names   stream.Names
	MaxData func() int // as in Options
}

// sourceSpan is how many sequences one read spans at the most, so that a few
// events far apart do not cause the whole stream to be read.
const sourceSpan = 1024

// Payloads implements [deliver.Source]. An event that its stream no longer
// holds is in the answer as nil; one that cannot be read now is left out.
func (s *Source) Payloads(ctx context.Context, events []int64) (map[int64]*deliver.Payload, error) {
	found, err := s.Books.Payloads(ctx, events)
	if err != nil {
		return nil, fmt.Errorf("payloads: %w", err)
	}
	if found == nil {
		found = map[int64]*deliver.Payload{}
	}
	missing := slices.DeleteFunc(slices.Clone(events), func(e int64) bool { _, ok := found[e]; return ok })
	if len(missing) == 0 {
		return found, nil
	}
	places, err := s.Books.EventPlaces(ctx, missing)
	if err != nil {
		return found, fmt.Errorf("payloads: %w", err)
	}
	slices.SortFunc(places, func(a, b EventPlace) int {
		return cmp.Or(cmp.Compare(a.Org, b.Org), cmp.Compare(a.Seq, b.Seq))
	})
	for len(places) > 0 {
		n := 1
		for n < len(places) && places[n].Org == places[0].Org && places[n].Seq-places[0].Seq < sourceSpan {
			n++
		}
		if err := s.read(ctx, places[:n], found); err != nil {
			return found, err
		}
		places = places[n:]
	}
	return found, nil
}

// read fetches events of one organization that lie close together.
func (s *Source) read(ctx context.Context, places []EventPlace, found map[int64]*deliver.Payload) error {
	org := places[0].Org
	o, err := s.Books.Org(ctx, org)
	if err != nil {
		return fmt.Errorf("payloads of %s: %w", org, err)
	}
	pos, err := s.Books.Position(ctx, org)
	if err != nil {
		return fmt.Errorf("payloads of %s: %w", org, err)
	}
	dec := stream.Decoding{Org: org, Payload: o.Payload, Names: s.Names, Subjects: o.Subjects, MaxData: limit(s.MaxData)}
	want := make(map[stream.Seq]EventPlace, len(places))
	for _, p := range places {
		want[p.Seq] = p
	}
	from, to := places[0].Seq, places[len(places)-1].Seq
	for from <= to {
		msgs, _, err := s.Log.Read(ctx, pos.Stream, from, int(to-from)+1)
		if err != nil {
			return fmt.Errorf("read %s at %d: %w", pos.Stream, from, err)
		}
		for _, m := range msgs {
			p, ok := want[m.Seq]
			if !ok {
				continue
			}
			// The identity proves that it is the same event still: after a new
			// incarnation another message may lie at this sequence.
			if ev, err := dec.Decode(m); err == nil && ev.ID == p.ID {
				found[p.Event] = NewPayload(p.Event, &ev)
			}
		}
		if len(msgs) == 0 {
			break
		}
		from = msgs[len(msgs)-1].Seq + 1
	}
	missing := slices.DeleteFunc(places, func(p EventPlace) bool { _, ok := found[p.Event]; return ok })
	if len(missing) == 0 {
		return nil
	}
	st, err := s.Log.State(ctx, pos.Stream)
	if err != nil {
		return fmt.Errorf("payloads of %s: %w", org, err)
	}
	for _, p := range missing {
		// Read past, or out of the stream's bounds: gone for ever. Otherwise
		// the read fell short, and may succeed later.
		if p.Seq < from || p.Seq < st.First || p.Seq > st.Last {
			found[p.Event] = nil
		}
	}
	return nil
}
