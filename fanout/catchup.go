package fanout

import (
	"context"
	"time"

	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/stream"
)

// CatchupReason is why an endpoint is behind its organization's cursor.
type CatchupReason string

const (
	Backfill CatchupReason = "backfill" // it asked for what was there before it
	Parked   CatchupReason = "parked"   // too much was pending for it
)

// Catchup is an endpoint that is behind: instead of a subscription, and a row
// for each event that it is to get, it has a place in the stream.
//
//	1 ── From ─────────── Seq ──────────────────── furthest ──── end of the stream
//	     has its rows ──▶     to be read for it             to be fanned out
//
// While few of its deliveries are pending, the stream is read for it from there
// (see [CatchupBooks.CatchUp]), until its place is the furthest that the cursor
// ever was at. At that sequence its subscription opens, in the same transaction,
// so that there is neither a gap nor an overlap, however fast fan-out goes. What
// has been read for it is a span of its subscriptions that has ended; what was not
// read yet belongs to none.
type Catchup struct {
	Org         string
	Endpoint    int64  // row
	ID          string // ep_…
	Reason      CatchupReason
	Began       time.Time
	Incarnation int
	From        stream.Seq   // it began after this sequence
	Seq         stream.Seq   // the place: all up to here was read for it
	Wants       Subscription // after the place
	Enabled     bool         // a disabled endpoint keeps its place
	Revision    int64        // of the endpoint's settings
	// First is the first sequence of the stream when somebody looked the first time;
	// 0: nobody did.
	First  stream.Seq
	AtRisk bool   // the stream is about to lose what was not read for it
	Lost   uint64 // sequences that the stream lost before they were read for it, ever
}

// orderedLimit is how many times as many deliveries of an ordered endpoint may be
// pending: its order is that of its rows, and those that are made when it catches
// up come behind the rows of events that other endpoints had meanwhile.
const orderedLimit = 10

// ParksAbove is how many deliveries of an endpoint with those options may be
// pending before it is parked, where the limit of others is parkAfter.
func ParksAbove(parkAfter int64, o *deliver.Options) int64 {
	if o.Ordered || o.OrderedBy != "" {
		return parkAfter * orderedLimit
	}
	return parkAfter
}

// CaughtUp is what a step of a Catchup has done.
type CaughtUp struct {
	Catchup           // as it is now
	Done    bool      // its subscription is open; there is no Catchup any more
	Events  []Planned // that were booked
	Written []Written // one for each of Events
}

// Made is how many deliveries the step has made.
func (c *CaughtUp) Made() (n int) {
	for _, w := range c.Written {
		n += len(w.Endpoints)
	}
	return n
}

// Stretch is a piece of the stream after the place of a Catchup.
type Stretch struct {
	Lost    stream.Seq     // from the place up to here the stream has nothing any more; 0: nothing is lost
	Through stream.Seq     // looked at up to here
	Events  []stream.Event // that the endpoint wants
}

// CatchupRead reads a stretch after c's place, no further than far, the furthest
// place of the cursor. It fails while the stream is not the one of far.
type CatchupRead func(ctx context.Context, c Catchup, far cursor.Position) (Stretch, error)

// CatchupBooks is the store, as far as those that catch up need it.
type CatchupBooks interface {
	Books
	// Catchups lists the endpoints that are behind, of all organizations. It is
	// quick.
	Catchups(ctx context.Context) ([]Catchup, error)
	// PendingOf is how many deliveries of an endpoint are pending. It is quick.
	PendingOf(row int64) int64
	// CatchUp takes a step: it books what a stretch of the stream has for the
	// endpoint, at most n events, and moves its place, in one durable transaction. A
	// pair that exists is left alone, and so is an event that is a duplicate, or
	// recorded as gated, rejected or skipped. What is lost is recorded.
	//
	// When the rest is small, it is read and booked at once, whatever n, while the
	// cursor of the organization stands still, and the subscription opens.
	//
	// It wraps ErrMoved and ErrStale when c is not as it was; nothing is written then.
	CatchUp(ctx context.Context, c Catchup, n int, read CatchupRead) (CaughtUp, error)
	// WatchCatchup keeps c's First and AtRisk.
	WatchCatchup(ctx context.Context, c Catchup) error
}

// At is the place of the Catchup, in the stream that far is a position of.
func (c *Catchup) At(far cursor.Position) cursor.Position {
	far.Seq, far.Anchor, far.Hash = c.Seq, time.Time{}, 0
	return far
}

// Threatened reports whether the stream, which loses its oldest messages since
// the Catchup began, has lost all but a tenth of its length before the place. A
// stream that loses nothing threatens nobody.
func (c *Catchup) Threatened(s stream.State) bool {
	place := c.Seq + 1
	if c.First == 0 || s.First <= c.First || place > s.Last {
		return false
	}
	return place < s.First || uint64(place-s.First) < uint64(s.Last-s.First+1)/10
}
