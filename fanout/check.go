package fanout

import (
	"context"
	"fmt"
	"iter"

	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/stream"
)

// Audited is one organization's books, as [Check] reads them. All its methods
// see the same moment, also while the books are being written.
type Audited interface {
	// Position is the org's place, as in [Books], and the sequence after which
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
	// Events are the org's events that have deliveries, ascending by
	// incarnation and sequence. What is yielded is valid until the next. Check
	// may go through them several times.
	Events(ctx context.Context) iter.Seq2[BookedEvent, error]
}

// Span is a [Subscription] and where in the stream it ended: the org's position
// when it was changed, disabled or deleted.
type Span struct {
	Subscription
	UntilIncarnation int        // 0: still open
	Until            stream.Seq // inclusive
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
	Made     int             // attempts, as the delivery's row counts them
	Attempts []BookedAttempt // ascending by number, as the attempts' rows say
}

// BookedAttempt is an attempt as the books hold it.
type BookedAttempt struct {
	Number int
	Class  deliver.Class
}

// Ledger is what the receivers of one organization saw, for the tests that own
// both ends.
type Ledger struct {
	Seen    map[Receipt]Tally
	Crashes int // of the daemon; each may have repeated one request of each delivery
}

// Receipt names a delivery by what its receiver knows: where it came in, and its
// webhook-id.
type Receipt struct {
	Endpoint int64
	ID       stream.ID
}

// Tally counts the requests of one Receipt.
type Tally struct {
	Requests  int // that came in
	Succeeded int // of which were answered with a 2xx
}

// Report is what [Check] found. The books are proven when Compared is true and
// Found is 0.
type Report struct {
	Org      string
	Position cursor.Position
	// Compared is false when there is no stream, or it is not the one that the
	// position was taken from: the books were then checked by themselves only.
	Compared bool

	Messages   uint64 // read from the stream, up to the position
	Unmatched  uint64 // events among them to which nobody was subscribed
	Duplicates uint64 // events among them whose ID another message made known
	Unproven   uint64 // accounted for in the books, but the message is gone or reads differently now

	Events    uint64 // that have deliveries
	Rejected  uint64
	Gated     uint64
	Gap       uint64 // sequences in gaps
	Delivered uint64
	Pending   uint64
	Dead      uint64
	Cancelled uint64
	Attempts  uint64

	Found    uint64    // problems in all
	Problems []Problem // the first MaxProblems of them
}

// MaxProblems is how many problems a Report describes.
const MaxProblems = 100

// Problem is one way in which the books break their promise.
type Problem struct {
	Kind        ProblemKind
	Incarnation int
	Seq         stream.Seq // 0: not about one sequence
	Event       int64      // 0: not about one event of the books
	Endpoint    int64      // 0: not about one endpoint
	Detail      string
}

// String is the problem in one line.
func (p Problem) String() string {
	s := string(p.Kind)
	if p.Seq != 0 {
		s += fmt.Sprintf(" seq %d.%d", p.Incarnation, p.Seq)
	}
	if p.Event != 0 {
		s += fmt.Sprintf(" event %d", p.Event)
	}
	if p.Endpoint != 0 {
		s += fmt.Sprintf(" endpoint %d", p.Endpoint)
	}
	return s + ": " + p.Detail
}

// ProblemKind says which promise is broken.
type ProblemKind string

const (
	ProblemMissing      ProblemKind = "missing"       // somebody was subscribed, and there is no delivery and no reason
	ProblemUnsubscribed ProblemKind = "unsubscribed"  // a delivery for an endpoint that was not subscribed
	ProblemDoubled      ProblemKind = "doubled"       // two deliveries of one pair, two events of one ID or at one place
	ProblemContradicted ProblemKind = "contradiction" // two accounts of one sequence
	ProblemIdentity     ProblemKind = "identity"      // the stream has another event at this place
	ProblemAhead        ProblemKind = "ahead"         // booked after the position
	ProblemForeign      ProblemKind = "foreign"       // belongs to another organization
	ProblemAttempts     ProblemKind = "attempts"      // numbers, or the last one against the state
	ProblemDue          ProblemKind = "due"           // terminal and due, or waiting for ever
	ProblemPayload      ProblemKind = "payload"       // waits for a retry without its payload
	ProblemSpan         ProblemKind = "span"          // a subscription that ends before it starts
	ProblemReceipt      ProblemKind = "receipt"       // the receiver saw something else
)
