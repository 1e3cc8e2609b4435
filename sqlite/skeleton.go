package sqlite

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/sign"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

type Options struct {
	Dir         string                 // the data directory; made with mode 0700
	Log         *slog.Logger           // required
	Clock       func() time.Time       // nil: time.Now
	Synchronous string                 // "FULL" (default), "NORMAL", "EXTRA"
	Gated       func(plan string) bool // whether a plan lacks outgoing webhooks; nil: none does
	Failpoint   func(name string)      // nil in production
}

type Store struct{}

func Open(ctx context.Context, o Options) (*Store, error) { return nil, errors.ErrUnsupported }
func (s *Store) Close() error                             { return nil }
func (s *Store) Full() bool                               { return false }
func (s *Store) Stats() Stats                             { return Stats{} }

// Stats is what the store says of itself, for metrics.
type Stats struct {
	Commits       int64         // transactions committed since the start
	CommitTime    time.Duration // spent in them, BEGIN to COMMIT
	LastCommit    time.Duration
	Rows          int64 // records and deliveries written by them
	Ops           int64
	Failures      int64 // transactions that failed
	Waiting       int   // records not yet durable
	DatabaseBytes int64
	WALBytes      int64
	Full          bool
}

// Org is an organization.
type Org struct {
	ID        string
	Name      string
	Plan      string // "": no plan
	Payload   stream.Payload
	Subjects  []string // extra subjects that its stream binds
	CreatedAt time.Time
}

func (s *Store) AddOrg(ctx context.Context, o Org) (Org, error) { return o, errors.ErrUnsupported }
func (s *Store) GetOrg(ctx context.Context, org string) (Org, error) {
	return Org{}, errors.ErrUnsupported
}
func (s *Store) ListOrgs(ctx context.Context) ([]Org, error)    { return nil, errors.ErrUnsupported }
func (s *Store) SetOrg(ctx context.Context, o Org) (Org, error) { return o, errors.ErrUnsupported }

// RemoveOrg refuses with ErrInUse while the org has endpoints.
func (s *Store) RemoveOrg(ctx context.Context, org string) error { return errors.ErrUnsupported }

// Start is from where in the org's stream a new endpoint gets events. The
// zero Start is the org's position at that moment.
type Start struct {
	After *stream.Seq // events after this sequence of the present incarnation
}

// EndpointChange is what a change of an endpoint sets; nil leaves it alone.
type EndpointChange struct {
	URL         *string
	Description *string
	EventTypes  []string
	Workspace   *string
	Timeout     *time.Duration
	Retry       *deliver.Policy
	Concurrency *int
	Secrets     []sign.Secret
}

func (s *Store) AddEndpoint(ctx context.Context, e deliver.Endpoint, start Start) (deliver.Endpoint, error) {
	return e, errors.ErrUnsupported
}
func (s *Store) GetEndpoint(ctx context.Context, org, id string) (deliver.Endpoint, error) {
	return deliver.Endpoint{}, errors.ErrUnsupported
}
func (s *Store) ListEndpoints(ctx context.Context, org string) ([]deliver.Endpoint, error) {
	return nil, errors.ErrUnsupported
}
func (s *Store) SetEndpoint(ctx context.Context, org, id string, c EndpointChange) (deliver.Endpoint, error) {
	return deliver.Endpoint{}, errors.ErrUnsupported
}
func (s *Store) DisableEndpoint(ctx context.Context, org, id, reason string) (deliver.Endpoint, error) {
	return deliver.Endpoint{}, errors.ErrUnsupported
}
func (s *Store) EnableEndpoint(ctx context.Context, org, id string) (deliver.Endpoint, error) {
	return deliver.Endpoint{}, errors.ErrUnsupported
}
func (s *Store) RemoveEndpoint(ctx context.Context, org, id string) error {
	return errors.ErrUnsupported
}
func (s *Store) FindEndpointByRow(ctx context.Context, row int64) (deliver.Endpoint, error) {
	return deliver.Endpoint{}, errors.ErrUnsupported
}
func (s *Store) AllEndpoints(ctx context.Context) ([]deliver.Endpoint, error) {
	return nil, errors.ErrUnsupported
}

// OnEndpointChanged sets the function told of each endpoint that was added,
// changed, disabled, enabled or began or ceased to fail, after that is durable.
// A removed endpoint comes with DisabledReason "removed".
func (s *Store) OnEndpointChanged(f func(deliver.Endpoint)) {}

func (s *Store) Record(ctx context.Context, r deliver.Record) error { return errors.ErrUnsupported }
func (s *Store) OnBooked(f func([]deliver.Record))                  {}
func (s *Store) Pending(ctx context.Context, from, to deliver.Place, endpoints []int64, limit int) ([]deliver.Ticket, error) {
	return nil, errors.ErrUnsupported
}
func (s *Store) Backlogs(ctx context.Context, endpoints []int64) ([]deliver.Backlog, error) {
	return nil, errors.ErrUnsupported
}
func (s *Store) NextDue(ctx context.Context, after int64) (int64, error) {
	return 0, errors.ErrUnsupported
}
func (s *Store) Payloads(ctx context.Context, events []int64) (map[int64]*deliver.Payload, error) {
	return nil, errors.ErrUnsupported
}

// EventPlace is where the stream holds an event.
type EventPlace struct {
	Event       int64
	Org         string
	Incarnation int
	Seq         stream.Seq
	ID          stream.ID
	Type        string
}

func (s *Store) EventPlaces(ctx context.Context, events []int64) ([]EventPlace, error) {
	return nil, errors.ErrUnsupported
}

func (s *Store) Orgs(ctx context.Context) ([]fanout.Org, error) { return nil, errors.ErrUnsupported }
func (s *Store) Org(ctx context.Context, org string) (fanout.Org, error) {
	return fanout.Org{}, errors.ErrUnsupported
}
func (s *Store) Position(ctx context.Context, org string) (cursor.Position, error) {
	return cursor.Position{}, errors.ErrUnsupported
}
func (s *Store) Subscriptions(ctx context.Context, org string) (*fanout.Set, error) {
	return nil, errors.ErrUnsupported
}
func (s *Store) Commit(ctx context.Context, p fanout.Plan) ([]fanout.Written, error) {
	return nil, errors.ErrUnsupported
}

// Filter says which deliveries a list holds; zero fields let all through.
type Filter struct {
	Endpoint     string // ep_…
	Event        stream.ID
	Type         string // exact
	State        *deliver.State
	Since, Until time.Time // of when the stream stored the event; Until exclusive
}

// DeliveryPage is one page of a list.
type DeliveryPage struct {
	Deliveries []deliver.Delivery
	Next       string // cursor of the next page; "" after the last. A page may be short or empty and still have a next
}

func (s *Store) ListDeliveries(ctx context.Context, org string, f Filter, limit int, cursor string) (DeliveryPage, error) {
	return DeliveryPage{}, errors.ErrUnsupported
}
func (s *Store) GetDelivery(ctx context.Context, org string, k deliver.Key) (deliver.Delivery, []deliver.Attempt, error) {
	return deliver.Delivery{}, nil, errors.ErrUnsupported
}

// RetryDelivery makes a delivery due now, with a fresh budget of attempts.
func (s *Store) RetryDelivery(ctx context.Context, org string, k deliver.Key) (deliver.Ticket, error) {
	return deliver.Ticket{}, errors.ErrUnsupported
}

// Counts is how many deliveries of an org stand where.
type Counts struct {
	Pending int64
	Due     int64 // of Pending: those whose time has come
	Dead    int64
}

func (s *Store) CountStates(ctx context.Context, org string) (Counts, error) {
	return Counts{}, errors.ErrUnsupported
}

// EventDetail is one event with its deliveries.
type EventDetail struct {
	EventPlace
	Stored     time.Time
	FannedOut  time.Time
	Deliveries []deliver.Delivery
}

func (s *Store) GetEvent(ctx context.Context, org string, id stream.ID) (EventDetail, error) {
	return EventDetail{}, errors.ErrUnsupported
}

// Rejected is one message that was no event.
type Rejected struct {
	fanout.Rejected
	Org         string
	Incarnation int
}

// RejectedPage is one page of a list.
type RejectedPage struct {
	Rejected []Rejected
	Next     string
}

func (s *Store) ListRejected(ctx context.Context, org string, limit int, cursor string) (RejectedPage, error) {
	return RejectedPage{}, errors.ErrUnsupported
}

// Gap is a recorded gap.
type Gap struct {
	cursor.Gap
	At time.Time // when it was found
}

func (s *Store) Gaps(ctx context.Context, org string) ([]Gap, error) {
	return nil, errors.ErrUnsupported
}

// Cursor is an org's position with its counts.
type Cursor struct {
	cursor.Position
	UpdatedAt  time.Time
	Events     uint64 // that got at least one delivery
	Unmatched  uint64
	Duplicates uint64
	Rejected   uint64
	Gated      uint64
	GapEvents  uint64 // sequences in gaps
	Counts
}

func (s *Store) Cursors(ctx context.Context) ([]Cursor, error) { return nil, errors.ErrUnsupported }
func (s *Store) Cursor(ctx context.Context, org string) (Cursor, error) {
	return Cursor{}, errors.ErrUnsupported
}

// RetainOptions says what may go.
type RetainOptions struct {
	FinishedBefore time.Time // delivered and cancelled deliveries that ended before
	DeadBefore     time.Time // dead ones that died before
	Step           int       // rows per transaction; 0: 1,000
}

// Removed counts what retention removed.
type Removed struct {
	Deliveries, Attempts, Payloads, Events, Keys, Rejected int64
}

func (s *Store) Retain(ctx context.Context, o RetainOptions) (Removed, error) {
	return Removed{}, errors.ErrUnsupported
}

var (
	_ fanout.Books  = (*Store)(nil)
	_ deliver.Books = (*Store)(nil)
)
