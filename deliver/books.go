package deliver

import (
	"context"
	"time"
)

// Place orders pending deliveries: by when they are due, then by event. A
// delivery that was never attempted has Due 0, so the fresh ones come first,
// in the order of their events.
type Place struct {
	Due   int64 // unix milliseconds; 0: never attempted, due at once
	Event int64
}

// Less reports whether p comes before q.
func (p Place) Less(q Place) bool {
	return p.Due < q.Due || p.Due == q.Due && p.Event < q.Event
}

// Ticket is one pending delivery, as a lane holds it.
type Ticket struct {
	Key
	Due      int64    // as in Place
	Attempts int      // made so far, over its whole life
	Spent    int      // how many of them count against the present budget
	Trigger  Trigger  // of the next attempt
	Payload  *Payload // nil: to be fetched from Source before sending
	Kept     int64    // ms; of one whose turn has come: its endpoint kept deliveries waiting until then, by itself; 0: it did not
}

// Place is where the ticket stands among the pending.
func (t Ticket) Place() Place { return Place{Due: t.Due, Event: t.Event} }

// Record is one attempt and what it does to its delivery, to be booked in one
// transaction.
type Record struct {
	Key
	Attempt Attempt
	Next    Transition
	// Held is set when no attempt was made: the delivery is held back, behind another
	// one of its line. The books change its Due (to [HeldBack]) and nothing else,
	// and leave it alone if it is not pending or had another attempt meanwhile.
	// Attempt then has the number of attempts made so far.
	Held bool
	// Line is where the delivery stands if it is pending after this. If it is not, it
	// stands in no line any more; then Line is zero if it never stood in one.
	Line Line
	// Payload is set with an outcome that leaves the delivery to be sent again (or
	// dead): the books keep it from then on, once per event, so that no retry
	// depends on the stream's retention.
	Payload *Payload
	// Health is the endpoint's from now on; nil: as it was. Records of one endpoint may
	// be booked in another order than their attempts ended, so one whose Step is
	// not above what the books have is old and changes nothing.
	Health *Health
}

// HealthNote is a change of an endpoint's health that came of no attempt.
type HealthNote struct {
	Endpoint int64
	Health   Health
	Disable  string // not "": disable the endpoint for this reason
}

// Backlog is what the books hold for one endpoint that no lane has.
type Backlog struct {
	Endpoint int64
	Fresh    int64 // the first never-attempted event; 0: none
	Due      Place // the first retry; zero: none
}

// Books is the store, as far as lanes need it.
//
// Implementations are safe for concurrent use.
type Books interface {
	LineBooks
	// Record takes the record for booking and returns before it is durable.
	// Records of one delivery are booked in the order they were given. It
	// blocks while the disk is full or too many records wait, so that nothing new
	// is sent meanwhile. It fails only with ctx's error; the record is then not
	// taken. After it is durable (and only then), the
	// books call the function given to OnBooked.
	Record(ctx context.Context, r Record) error
	// OnBooked sets the function that is told of each group of records once
	// it is durable. Called before the first Record; the function must be
	// quick and must not call the books.
	OnBooked(func([]Record))
	// Pending lists pending deliveries ascending by Place, from and to
	// inclusive, at most limit; of the endpoints given, or of all when nil.
	Pending(ctx context.Context, from, to Place, endpoints []int64, limit int) ([]Ticket, error)
	// Backlogs lists for each of the endpoints (nil: all) that have pending
	// deliveries the first fresh and the first retry, due or not.
	Backlogs(ctx context.Context, endpoints []int64) ([]Backlog, error)
	// Release makes all retries of the endpoints due at that time (unix
	// milliseconds), so that they are in the order of their events. It is done in
	// steps that hold up no other writing; when it fails, some may be done.
	Release(ctx context.Context, endpoints []int64, due int64) error
	// NoteHealth books changes of health. Those of endpoints that were removed, and
	// those that are older than what the books have, change nothing.
	NoteHealth(ctx context.Context, notes []HealthNote) error
	// NextDue is the earliest Due after the given one of any pending
	// delivery, 0 if there is none.
	NextDue(ctx context.Context, after int64) (int64, error)
}

// Source fetches the payloads of deliveries that were paged in.
//
// A payload that is gone for ever is present in the answer as nil; one that
// cannot be had right now (the broker is away) is absent or makes an error.
type Source interface {
	Payloads(ctx context.Context, events []int64) (map[int64]*Payload, error)
}

// Transition is what an outcome does to a delivery. See [Next].
type Transition struct {
	State   State
	Reason  Reason
	Due     time.Time // when State is Pending: not before this
	Spent   int       // attempts counted against the budget, this one included if it counts
	Disable string    // not "": disable the endpoint for this reason
}
