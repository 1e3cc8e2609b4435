package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// What a Service answers with when it cannot do what was asked. Other errors
// are faults of ours: the caller gets a 500 without details, the log has them.
// Besides these, [fanout.ErrNoOrg] becomes 404, [fanout.ErrFull] 507,
// [stream.ErrNoStream] 409 and [stream.ErrUnavailable] 503.
var (
	ErrNotFound = errors.New("not found")                         // 404
	ErrExists   = errors.New("exists already")                    // 409
	ErrInUse    = errors.New("still in use")                      // 409: something belongs to it
	ErrState    = errors.New("not possible in its present state") // 409
	ErrCursor   = errors.New("not a cursor of this list")         // 422
	ErrBusy     = errors.New("busy")                              // 503, the same call may succeed later
)

// Invalid is an error of a Service about one field that has the right form but
// cannot be accepted: 422. Field is its JSON path ("url", "events[3].type");
// Detail says what would be right and repeats no secret.
type Invalid struct {
	Field  string
	Detail string
}

func (e *Invalid) Error() string { return e.Field + ": " + e.Detail }

// Service is what the API needs of the daemon: the store's administration, the
// stream behind it, and a word to the lanes.
//
// Implementations are safe for concurrent use. Every write is durable when it
// returns nil. Ids have been checked for their form; an org that does not
// exist is an error that wraps [fanout.ErrNoOrg], and another org's thing is
// ErrNotFound. Limits are from 1 to 250. Strings, times and ids of filters are
// zero when the caller left them out.
//
// A paged list takes the opaque cursor that the page before returned ("": the
// first page) and returns the next one, "" after the last. A page may be
// short, or empty, and still have a next. A cursor that it did not make is
// ErrCursor.
type Service interface {
	// AddOrg makes an organization and its stream. It wraps ErrExists.
	AddOrg(ctx context.Context, o Org) (Org, error)
	// Orgs lists all, ascending by id.
	Orgs(ctx context.Context) ([]Org, error)
	Org(ctx context.Context, org string) (Org, error)
	// SetOrg replaces everything but ID and CreatedAt.
	SetOrg(ctx context.Context, o Org) (Org, error)
	// RemoveOrg takes the organization out of the books; its stream stays on
	// the broker. It wraps ErrInUse while the org has endpoints.
	RemoveOrg(ctx context.Context, org string) error

	// AddEndpoint makes an endpoint that gets the events after the org's
	// present position. ID, row and times are for the Service to set;
	// everything else is set, Secrets too.
	AddEndpoint(ctx context.Context, e deliver.Endpoint) (deliver.Endpoint, error)
	// Endpoints lists all of the org, oldest first.
	Endpoints(ctx context.Context, org string) ([]deliver.Endpoint, error)
	Endpoint(ctx context.Context, org, id string) (deliver.Endpoint, error)
	SetEndpoint(ctx context.Context, org, id string, c EndpointChange) (deliver.Endpoint, error)
	// DisableEndpoint does nothing to one that is disabled, EnableEndpoint
	// nothing to one that is enabled; otherwise the latter resumes its pending
	// deliveries, whatever had disabled it.
	DisableEndpoint(ctx context.Context, org, id, reason string) (deliver.Endpoint, error)
	EnableEndpoint(ctx context.Context, org, id string) (deliver.Endpoint, error)
	// RemoveEndpoint also cancels the endpoint's pending deliveries.
	RemoveEndpoint(ctx context.Context, org, id string) error

	// Append stores the events in the org's stream, in order; the answer has
	// one Appended for each. Their form has been checked. After an error a part
	// may be stored; the caller repeats the call with the same dedupe keys.
	Append(ctx context.Context, org string, events []NewEvent) ([]Appended, error)
	// Events reads the org's stream backwards from before (0: from its end),
	// newest first. It may stop early, when it has looked at enough: next is
	// where to go on, 0 when there is nothing left.
	Events(ctx context.Context, org string, f EventFilter, before stream.Seq, limit int) (_ []stream.Event, next stream.Seq, _ error)
	// Event finds an event by its id, EventAt by its sequence.
	Event(ctx context.Context, org string, id stream.ID) (stream.Event, error)
	EventAt(ctx context.Context, org string, seq stream.Seq) (stream.Event, error)

	// Deliveries lists those of the newest events first.
	Deliveries(ctx context.Context, org string, f DeliveryFilter, limit int, cursor string) (_ []deliver.Delivery, next string, _ error)
	// Delivery also returns all attempts, oldest first.
	Delivery(ctx context.Context, org string, key deliver.Key) (deliver.Delivery, []deliver.Attempt, error)
	// RetryDelivery makes the delivery pending, due now, with a fresh budget of
	// attempts, whatever its state. It wraps ErrState when that cannot be: its
	// endpoint is removed, or its payload is gone.
	RetryDelivery(ctx context.Context, org string, key deliver.Key) error

	// Cursor is the state of one org's cursor; Cursors that of all, by org.
	Cursor(ctx context.Context, org string) (Cursor, error)
	Cursors(ctx context.Context) ([]Cursor, error)
	// Gaps lists all recorded gaps of the org, newest first.
	Gaps(ctx context.Context, org string) ([]Gap, error)
	// Rejected lists messages that were no events, newest first.
	Rejected(ctx context.Context, org string, limit int, cursor string) (_ []Rejected, next string, _ error)
	// Fsck reads the stream of the org (all orgs when empty) again and proves
	// the books. It may take minutes. What it finds is in the answer; an error
	// means that it could not be checked.
	Fsck(ctx context.Context, org string) ([]Books, error)

	// Health is quick and touches neither disk nor network.
	Health() Health
}

// Org is an organization.
type Org struct {
	ID        string
	Name      string   // for people, "" if none
	Plan      string   // a name from the configuration's plans, or ""
	Payload   string   // "data" or "envelope": what its publishers send
	Subjects  []string // extra subjects that its stream binds
	CreatedAt time.Time
}

// EndpointChange says what to change of an endpoint; nil leaves a field as it
// is.
type EndpointChange struct {
	URL         *string
	Description *string
	EventTypes  []string
	Workspace   *string // "": org-wide
	Timeout     *time.Duration
	Retry       *deliver.Policy
	Concurrency *int
}

// NewEvent is an event to be appended.
type NewEvent struct {
	Type          string
	Data          json.RawMessage // valid JSON
	Workspace     string
	DedupeKey     string
	SchemaVersion string
	Source        string
	Time          time.Time
}

// Appended is what the stream said of an event: where it is, or where the
// event of the same dedupe key is that it has already.
type Appended struct {
	ID        stream.ID
	Seq       stream.Seq
	Duplicate bool
}

// EventFilter narrows a list of events. Since is inclusive, Until exclusive;
// both look at when the stream stored the event.
type EventFilter struct {
	Type         string // as an endpoint's: exact, "*" or "invoice.*"; "": all
	Workspace    string
	Since, Until time.Time
}

// DeliveryFilter narrows a list of deliveries. Since is inclusive, Until
// exclusive; both look at when the stream stored the event.
type DeliveryFilter struct {
	Endpoint     string // ep_…
	Event        stream.ID
	Type         string // exact
	State        *deliver.State
	Since, Until time.Time
}

// Cursor is how far an org's stream has been fanned out, beside what the
// stream holds and what came of it (contract, section 7).
type Cursor struct {
	cursor.Position
	First, Last stream.Seq // of the stream; 0 when the broker does not tell
	UpdatedAt   time.Time
	Lag         uint64        // events behind
	Age         time.Duration // since the oldest of them was stored
	Pending     int64         // deliveries
	Due         int64         // of the pending ones
	Dead        int64
	Rejected    int64  // events
	Gaps        int64  // ranges
	State       string // live, behind, paused, gated, gap, regressed, stream-missing
}

// Gap is a recorded gap and when it was noticed.
type Gap struct {
	cursor.Gap
	At time.Time
}

// Rejected is a message that was no event.
type Rejected struct {
	Incarnation int
	fanout.Rejected
}

// Books is what came of proving one org's books: where each pair of a sequence
// up to Through and an endpoint is.
type Books struct {
	Org           string
	Through       stream.Seq // checked up to here
	Events        int64      // messages read
	Endpoints     int64
	Delivered     int64
	Pending       int64
	Dead          int64
	Cancelled     int64
	NotSubscribed int64
	Duplicates    int64 // messages that repeat an earlier event
	Rejected      int64
	Gated         int64
	InGaps        int64 // sequences
	// Problems says in words what is missing or double, at most 100 lines;
	// Wrong counts all of it. None: the books are proven.
	Problems []string
	Wrong    int64
}

// Health is how the daemon is. Each error and each line is for people.
type Health struct {
	Alive    error    // why the process should be restarted, nil if it should not
	Ready    error    // why it takes no work now (starting, draining, disk full), nil if it does
	Degraded []string // what does not work although it is ready: "the broker is away since 10:04"
	Version  string
	PID      int
	Started  time.Time
}
