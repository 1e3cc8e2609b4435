package fanout

import (
	"context"
	"errors"
	"time"

	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/fanout/catalogue"
	"github.com/grapnel-hooks/grapnel/stream"
)

var (
	// ErrMoved: the position is no longer the one that the plan was made from.
	ErrMoved = errors.New("the cursor has moved")
	// ErrStale: the subscriptions have changed since the plan was made.
	ErrStale = errors.New("the subscriptions have changed")
	// ErrFull: the disk is full or cannot be written; nothing was committed.
	ErrFull = errors.New("store is full")
	// ErrNoOrg: there is no such organization.
	ErrNoOrg = errors.New("no such organization")
)

// Org is an organization, as far as fan-out needs it.
type Org struct {
	ID       string
	Payload  stream.Payload // what its publishers send
	Subjects []string       // extra subjects that its stream binds
	Gated    bool           // its plan lacks outgoing webhooks: events are counted, not delivered
	Paused   bool           // nothing of its stream is read until somebody resumes it
	// Types, if set, is what events must keep to; those that do not are
	// rejected. It is the installation's, and not in the books of an organization:
	// [Loop] fills it in.
	Types *catalogue.Catalogue
}

// Planned is one event and the endpoints that get it.
type Planned struct {
	stream.Event
	Endpoints []int64 // rows, ascending, no duplicates, at least one
}

// Rejected is a message that is no event.
type Rejected struct {
	Seq     stream.Seq
	Stored  time.Time
	Subject string
	Code    string // see stream.Rejected
	Detail  string
	Data    []byte // its first 64 KiB
}

// Plan is what a batch causes: everything that one transaction commits.
type Plan struct {
	Org      string
	From, To cursor.Position
	Change   cursor.Change
	// Began, with a Change, is the sequence after which the reading of the new
	// incarnation begins: what the stream holds up to there was read in an
	// earlier one. The books keep the last one for [Audited.Position].
	Began    stream.Seq
	Gaps     []cursor.Gap
	Events   []Planned // that somebody gets, in the order of the stream; never two with one ID
	Rejected []Rejected
	Gated    []stream.Seq // events that the org's plan keeps from being delivered
	// Again: all of it was read before, and the position was moved back since.
	// The books make what is missing, and leave alone what they have (see
	// Books.Commit). Gaps are then what is gone by now.
	Again bool
	// Unmatched counts the events that nobody is subscribed to, and Duplicates
	// those that somebody is, but whose ID an earlier one in Events has: for
	// the books' totals, there are no rows for them.
	Unmatched  int
	Duplicates int
	Version    int64 // of the subscriptions the plan was made from
}

// Written is one event of a committed plan.
type Written struct {
	Event     int64   // its number in the books; 0 when it was a duplicate of an event at another sequence
	Endpoints []int64 // those that got a new delivery
}

// Books is the store, as far as fan-out needs it.
//
// Implementations are safe for concurrent use.
type Books interface {
	// Orgs lists all organizations.
	Orgs(ctx context.Context) ([]Org, error)
	// Org reads one; it wraps ErrNoOrg.
	Org(ctx context.Context, org string) (Org, error)
	// Position is the org's place; the zero Position with its Org and Stream
	// set when it was never read.
	Position(ctx context.Context, org string) (cursor.Position, error)
	// Furthest is how far the org was ever read in its present incarnation: its
	// Position, unless that was moved back. Up to there each sequence is
	// accounted for, and the subscriptions are history: whoever subscribes or
	// leaves does so there.
	Furthest(ctx context.Context, org string) (cursor.Position, error)
	// Subscriptions are those that concern what comes after the org's position,
	// compiled, and their version, which rises with each change of them and with
	// each Move. Beside those of enabled endpoints these are, after a move back,
	// the ones that ended since, also of endpoints that were removed.
	Subscriptions(ctx context.Context, org string) (*Set, error)
	// Commit writes the plan in one durable transaction: events, deliveries
	// (unique by event and endpoint), rejections, gaps, and the position, by
	// compare-and-swap from p.From. An event whose ID the books know already
	// at another sequence is a duplicate and makes nothing; at the same
	// sequence (the stream is read again), only the pairs that are missing are made. The answer has
	// one Written for each of p.Events, in order; numbers of new events
	// ascend.
	//
	// A plan that is read Again is committed only from a position behind the
	// furthest one, and up to that at the most; another one only from the
	// furthest (else ErrMoved). It makes what is missing: an event in place of
	// its record as gated or rejected, and whatever takes the place of a record as
	// skipped. Where retention may have removed rows, nothing is made that is not
	// so recorded: it would be sent twice. Deliveries to endpoints that
	// were removed are made as cancelled, and are not in the answer. Unmatched
	// and Duplicates are not counted again.
	//
	// Errors wrap ErrMoved, ErrStale, ErrFull; nothing is written then.
	Commit(ctx context.Context, p Plan) ([]Written, error)
}
