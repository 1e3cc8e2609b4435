package httpapi

import (
	"context"
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
	ErrNotFound = errors.New("not found")                            // 404
	ErrExists   = errors.New("exists already")                       // 409
	ErrState    = errors.New("not possible in its present state")    // 409
	ErrGated    = errors.New("the plan lacks outgoing_webhooks")     // 402
	ErrRevision = errors.New("changed meanwhile")                    // 412
	ErrBusy     = errors.New("too much is waiting; try again later") // 429
)

// Invalid is an error of a Service about one field that has the right form but
// cannot be accepted: 422. Field is its JSON path ("url", "events[3].type");
// Detail says what would be right and repeats no secret.
type Invalid struct {
	Field  string
	Detail string
}

func (e *Invalid) Error() string { return e.Field + ": " + e.Detail }

// Service is what the API needs of the daemon.
//
// Implementations are safe for concurrent use. Every write is durable when it
// returns nil. Ids have been checked for their form; an org that does not
// exist is an error that wraps [fanout.ErrNoOrg], and another org's thing is
// ErrNotFound. Limits are from 1 to 250. The strings and times of arguments are
// zero when the caller left them out.
type Service interface {
	Insight
	Acts
	AttemptLog
	Replays
	Catchups
	Tokens
	AuditLog
	Memory
	Catalogue
	CursorMoves
	CursorClaims
	Secrets
	Filters
	Holds
	Expunges
	Structures
	Configurations
	Doctors
	LogLevels

	// Gated reports whether the org's plan lacks outgoing webhooks. It is quick
	// and touches neither disk nor network.
	Gated(ctx context.Context, org string) (bool, error)

	// AddOrg makes an organization and its stream. It wraps ErrExists.
	AddOrg(ctx context.Context, o Org) (Org, error)
	// Orgs lists up to limit organizations whose id comes after the given one,
	// ascending.
	Orgs(ctx context.Context, after string, limit int) ([]Org, error)
	Org(ctx context.Context, org string) (Org, error)
	ChangeOrg(ctx context.Context, org string, c OrgChange) (Org, error)
	// RemoveOrg removes an organization that has no endpoints left (else it
	// wraps ErrState), and its stream with every event in it.
	RemoveOrg(ctx context.Context, org string) error

	// AddEndpoint makes an endpoint that gets the events from e.Start on. An
	// *Invalid names "start" when that lies beyond the end of the stream.
	AddEndpoint(ctx context.Context, e NewEndpoint) (MadeEndpoint, error)
	// Endpoints lists up to limit endpoints of the org whose id comes after
	// the given one, ascending, which is the order in which they were made.
	Endpoints(ctx context.Context, org, after string, limit int) ([]deliver.Endpoint, error)
	Endpoint(ctx context.Context, org, id string) (deliver.Endpoint, error)
	ChangeEndpoint(ctx context.Context, org, id string, c EndpointChange) (deliver.Endpoint, error)
	// RemoveEndpoint also cancels the endpoint's pending deliveries.
	RemoveEndpoint(ctx context.Context, org, id string) error

	// Append stores the events in the org's stream, in order; the answer has
	// one Appended for each. All are checked before the first is stored
	// (*Invalid; Field is relative to the event: "type", and for event i of
	// several "events[i].type"), and all are stored or none. ErrUnavailable of the
	// stream leaves open which: the caller repeats the call, with the same dedupe keys
	// or the same Idempotency-Key.
	Append(ctx context.Context, org string, events []NewEvent) ([]Appended, error)
	// Events reads the org's stream backwards from before (0: from its end),
	// newest first. It may stop early, when it has looked at enough: next is
	// where to go on, 0 when there is nothing left.
	Events(ctx context.Context, org string, f EventFilter, before stream.Seq, limit int) (_ []stream.Event, next stream.Seq, _ error)
	// Event finds an event by its id, EventAt by its sequence.
	Event(ctx context.Context, org string, id stream.ID) (stream.Event, error)
	EventAt(ctx context.Context, org string, seq stream.Seq) (stream.Event, error)

	// Deliveries lists deliveries of the org, those of the newest events
	// first, after the given key in that order (zero: from the newest). It may
	// stop early, when it has looked at enough: next is where to go on, zero
	// when there is nothing left.
	Deliveries(ctx context.Context, org string, f DeliveryFilter, after deliver.Key, limit int) (_ []deliver.Delivery, next deliver.Key, _ error)
	// Delivery also returns all attempts, oldest first.
	Delivery(ctx context.Context, org string, key deliver.Key) (deliver.Delivery, []deliver.Attempt, error)
	// RetryDelivery makes the delivery pending, due now, with a fresh budget of
	// attempts; of one that is pending already it only moves the due time. It
	// wraps ErrState when the endpoint is gone, or the payload is.
	RetryDelivery(ctx context.Context, org string, key deliver.Key) (deliver.Delivery, error)

	// Cursor is the state of one org's cursor; Cursors lists them by org, as Orgs does.
	Cursor(ctx context.Context, org string) (Cursor, error)
	Cursors(ctx context.Context, after string, limit int) ([]Cursor, error)
	// Gaps and Rejected list up to limit entries of the org that come before
	// the given place (zero: from the newest), newest first.
	Gaps(ctx context.Context, org string, before Place, limit int) ([]Gap, error)
	Rejected(ctx context.Context, org string, before Place, limit int) ([]Rejected, error)
	// Fsck reads the stream of the org (all orgs when empty) again and proves
	// the books. It may take minutes. What it finds is in the answer; an error
	// means that it could not be checked.
	Fsck(ctx context.Context, org string) ([]Books, error)

	// Health is quick and does not touch disk or network.
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

// OrgChange says what to change of an org; nil leaves a field as it is.
type OrgChange struct {
	Name, Plan, Payload *string
	Subjects            *[]string
}

// NewEndpoint is an endpoint to be made, defaults filled in.
type NewEndpoint struct {
	Org         string
	URL         string
	Description string
	EventTypes  []string
	Workspace   string                    // "": org-wide
	Secret      string                    // as the format wants it; "": make one
	Headers     []deliver.Header          // in any order, not checked
	Credentials deliver.CredentialsChange // of none; not checked
	Timeout     time.Duration
	Retry       deliver.Policy
	Concurrency int
	Options     deliver.Options // not checked
	Disabled    bool
	Start       Start
}

// MadeEndpoint is an endpoint that was just made, with the text of its secret,
// the given one or a new one.
type MadeEndpoint struct {
	deliver.Endpoint
	Secret   string
	StartsAt stream.Seq // the first sequence that it gets; 0: it did not ask
}

// EndpointChange says what to change of an endpoint; nil leaves a field as it
// is. Disabled false enables it, whatever had disabled it.
type EndpointChange struct {
	URL, Description, Workspace *string
	EventTypes                  *[]string
	Timeout                     *time.Duration
	Retry                       *deliver.Policy
	Concurrency                 *int
	Options                     func(*deliver.Options) // makes the change; nil: there is none
	Secret                      string                 // takes the place of all that sign now; "new": make one; "": leave them
	Disabled                    *bool
	Headers                     *[]deliver.Header // one without a value keeps the value that it has
	Credentials                 deliver.CredentialsChange
	Revision                    int64 // that it is meant for; 0: any. Else it is ErrRevision
}

// NewEvent is an event to be appended.
type NewEvent struct {
	Type          string
	Data          []byte // valid JSON
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
	Event        *stream.ID
	Type         string // as in EventFilter
	State        *deliver.State
	Since, Until time.Time
}

// Pace is how many events a second are fanned out, over the last minute, five
// minutes and hour.
type Pace struct {
	Minute, FiveMinutes, Hour float64
}

// Backlogged is what one endpoint has to do, or cannot do any more.
type Backlogged struct {
	Endpoint      string // ep_…
	Pending, Dead int64  // deliveries
}

// Place is a sequence of one incarnation of an org's stream.
type Place struct {
	Incarnation int
	Seq         stream.Seq
}

// Gap is a recorded gap, or what the cursor was moved over, and when that was
// noticed or done. Its place in lists is From.
type Gap struct {
	cursor.Gap
	At      time.Time
	Skipped bool
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
	InGaps        int64      // sequences
	Missing       int64      // deliveries that are not there
	FirstMissing  stream.Seq // where the first of them should be
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
