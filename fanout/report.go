package fanout

import (
	"fmt"

	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/stream"
)

// Ledger is what the receivers of one organization saw, for the tests that own
// both ends.
type Ledger struct {
	Seen    map[Receipt]Tally
	Crashes int // of the daemon; each may have repeated one request of any delivery
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
	// Interrupted is how many crashes came between one of the requests and the
	// booking of its outcome, where a test knows that.
	Interrupted int
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
	Skipped   uint64 // sequences that the cursor was moved over
	Delivered uint64
	Pending   uint64
	Dead      uint64
	Cancelled uint64
	Attempts  uint64

	// Missing counts the deliveries that are not there, and FirstMissing is where
	// in the present incarnation the first of them should be: reading the stream
	// again from there makes them.
	Missing      uint64
	FirstMissing stream.Seq

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
	ProblemReceipt      ProblemKind = "receipt"       // the receiver saw something else
)
