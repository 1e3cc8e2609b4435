package fanout

import (
	"context"
	"iter"

	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/stream"
)

// Audited is one organization's books, as [Check] reads them. Position, History
// and Exceptions see the same moment, also while the books are being written;
// each Piece is of a moment of its own, so that nobody has to keep one for long.
type Audited interface {
	// Position is how far the org was ever read, as [Books.Furthest]: what a
	// position that was moved back has before it stays accounted for while it is
	// read again. And it is the sequence after which
	// the books are complete: what the stream's present incarnation holds up
	// to there was read in an earlier incarnation (see Plan.Began), or
	// retention may have removed its rows. 0 when neither happened.
	Position(ctx context.Context) (pos cursor.Position, complete stream.Seq, err error)
	// History lists who was subscribed when, in any order: each span of each
	// endpoint of the org, closed or open, of deleted endpoints too.
	History(ctx context.Context) ([]Span, error)
	// Exceptions are the recorded reasons why sequences have no deliveries,
	// ascending by incarnation and From.
	Exceptions(ctx context.Context) iter.Seq2[Exception, error]
	// Pieces are all of it, piece by piece in the order of the stream, from the
	// beginning; at least one. Events beyond the Position that are booked while
	// they are gone through may be left out. What is yielded is valid until the
	// next. An error wraps [stream.ErrUnavailable] when the org went on to another
	// incarnation meanwhile.
	Pieces(ctx context.Context) iter.Seq2[Piece, error]
	// Booked says how often each of the IDs is booked now, beside the number of the
	// latest event that has it.
	Booked(ctx context.Context, ids []stream.ID) ([]Booked, error)
}

// Piece is a stretch of an organization's books, all of it of one moment: what lies
// after the piece before, up to a place.
type Piece struct {
	Incarnation int
	Through     stream.Seq // its last sequence
	Last        bool       // nothing comes after it, and the two above mean nothing
	Complete    stream.Seq // as [Audited.Position] says it
	History     []Span     // as [Audited.History] says it; nil: as in the piece before
	Exceptions  []Exception
	Events      []BookedEvent // that have deliveries, ascending by incarnation and sequence
}

// Booked is what the books have of an ID.
type Booked struct {
	Times int
	Event int64 // 0: it is not booked
}

// Whole is the one piece of books that do not change.
func Whole(complete stream.Seq, history []Span, exceptions []Exception, events []BookedEvent) Piece {
	return Piece{Last: true, Complete: complete, History: append([]Span{}, history...), Exceptions: exceptions, Events: events}
}

// Span is a [Subscription] and where in the stream it ended: the org's position
// when it was changed, disabled or deleted.
type Span struct {
	Subscription
	Ended            bool       // else UntilIncarnation and Until mean nothing
	UntilIncarnation int        // 0: before the stream was ever read
	Until            stream.Seq // inclusive
}

// Covers reports whether the subscription held at that sequence.
func (s *Span) Covers(incarnation int, seq stream.Seq) bool {
	sp := span{after: place{s.Incarnation, s.From}, ended: s.Ended, until: place{s.UntilIncarnation, s.Until}}
	return sp.covers(place{incarnation, seq})
}

// Exception is a range of sequences that made no deliveries, and why.
type Exception struct {
	Kind        ExceptionKind
	Incarnation int
	From, To    stream.Seq // inclusive
}

// ExceptionKind is why there are no deliveries.
type ExceptionKind string

const (
	ExceptionRejected ExceptionKind = "rejected" // no event
	ExceptionGated    ExceptionKind = "gated"    // kept back by the org's plan
	ExceptionGap      ExceptionKind = "gap"      // the stream no longer had it when the cursor came
	ExceptionSkipped  ExceptionKind = "skipped"  // the cursor was moved over it by hand
)

// BookedEvent is an event as the books hold it.
type BookedEvent struct {
	Event       int64 // its number
	Org         string
	ID          stream.ID
	Incarnation int
	Seq         stream.Seq
	Kept        bool             // its payload is in the books
	Deliveries  []BookedDelivery // ascending by endpoint
}

// BookedDelivery is a delivery as the books hold it.
type BookedDelivery struct {
	Endpoint int64
	Org      string
	State    deliver.State
	Due      int64           // as in [deliver.Place]; 0 when it is not pending
	Trigger  deliver.Trigger // of the next attempt, when it is pending
	Made     int             // attempts, as the delivery's row counts them
	Attempts []BookedAttempt // ascending by number, as the attempts' rows say
}

// BookedAttempt is an attempt as the books hold it.
type BookedAttempt struct {
	Number int
	Class  deliver.Class
}
