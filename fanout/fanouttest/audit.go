package fanouttest

import (
	"cmp"
	"context"
	"iter"
	"maps"
	"slices"

	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// Audit calls f with the books of one organization as they are now.
func (b *Books) Audit(ctx context.Context, name string, f func(fanout.Audited) error) error {
	o, err := b.org(CallRead, name)
	if err != nil {
		return err
	}
	a := audited{books: b, org: name, pos: o.far, complete: o.complete, history: slices.Clone(o.spans)}
	for _, at := range slices.SortedFunc(maps.Keys(o.exceptions), place.compare) {
		a.exceptions = append(a.exceptions, o.exceptions[at])
	}
	for _, e := range b.disk.events {
		if e.org == o {
			a.events = append(a.events, e.booked())
		}
	}
	b.end()
	slices.SortStableFunc(a.events, func(a, b fanout.BookedEvent) int {
		return cmp.Or(cmp.Compare(a.Incarnation, b.Incarnation), cmp.Compare(a.Seq, b.Seq))
	})
	return f(&a)
}

func (e *event) booked() fanout.BookedEvent {
	be := fanout.BookedEvent{
		Event:       e.number,
		Org:         e.org.ID,
		ID:          e.id,
		Incarnation: e.place.incarnation,
		Seq:         e.place.seq,
		Kept:        e.payload != nil,
	}
	for _, d := range e.deliveries {
		bd := fanout.BookedDelivery{
			Endpoint: d.Endpoint,
			Org:      e.org.ID,
			State:    d.state,
			Due:      d.Due,
			Trigger:  d.Trigger,
			Made:     d.Attempts,
		}
		for _, a := range d.attempts {
			bd.Attempts = append(bd.Attempts, fanout.BookedAttempt{Number: a.Number, Class: a.Class})
		}
		be.Deliveries = append(be.Deliveries, bd)
	}
	return be
}

// audited is a copy of one organization's books.
type audited struct {
	books      *Books
	org        string
	pos        cursor.Position
	complete   stream.Seq
	history    []fanout.Span
	exceptions []fanout.Exception
	events     []fanout.BookedEvent
}

func (a *audited) Position(context.Context) (cursor.Position, stream.Seq, error) {
	return a.pos, a.complete, nil
}

func (a *audited) History(context.Context) ([]fanout.Span, error) { return a.history, nil }

func (a *audited) Exceptions(context.Context) iter.Seq2[fanout.Exception, error] {
	return each(a.exceptions)
}

func (a *audited) Pieces(context.Context) iter.Seq2[fanout.Piece, error] {
	return each([]fanout.Piece{fanout.Whole(a.complete, a.history, a.exceptions, a.events)})
}

func (a *audited) Booked(_ context.Context, ids []stream.ID) ([]fanout.Booked, error) {
	found := make([]fanout.Booked, len(ids))
	at := make(map[stream.ID]int, len(ids))
	for i, id := range ids {
		at[id] = i
	}
	for _, e := range a.events {
		if i, ok := at[e.ID]; ok {
			found[i].Times++
			found[i].Event = e.Event
		}
	}
	return found, nil
}

func each[T any](list []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, v := range list {
			if !yield(v, nil) {
				return
			}
		}
	}
}
