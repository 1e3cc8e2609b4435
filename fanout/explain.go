package fanout

import (
	"cmp"
	"slices"
	"time"

	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/stream"
)

// Why is what became of one sequence for one endpoint. It is what [Check]
// proves, for one pair.
type Why string

const (
	// There is a delivery, in that state.
	WhyDelivered Why = "delivered"
	WhyPending   Why = "pending"
	WhyDead      Why = "dead"
	WhyCancelled Why = "cancelled"

	// Nobody got it.
	WhyNotReached Why = "not_reached" // the cursor has not come there yet
	WhyRejected   Why = "rejected"    // it is no event
	WhyGated      Why = "gated"       // the org's plan lacked outgoing webhooks
	WhyGap        Why = "gap"         // the stream no longer had it when the cursor came
	WhySkipped    Why = "skipped"     // the cursor was moved over it by hand

	// The endpoint did not get it.
	WhyType         Why = "type_not_subscribed"
	WhyWorkspace    Why = "other_workspace"
	WhyFiltered     Why = "filtered"      // by its content filter
	WhyCreatedLater Why = "created_later" // or it starts later
	WhyDisabled     Why = "disabled"      // at that time
	WhyDuplicate    Why = "duplicate"     // an earlier event has the same dedupe key

	WhyCatchingUp Why = "catching_up" // it is behind, and was not read so far
	WhyLost       Why = "lost"        // it was behind, and the stream lost it meanwhile

	// It was subscribed, and there is no delivery.
	WhyExpired Why = "expired" // removed with retention, or read before the stream was made anew
	WhyUnknown Why = "unknown" // the stream no longer has it, so its type is not known
	WhyMissing Why = "missing" // what Check calls a problem
)

// Hold is why a pending delivery is not sent at this moment.
type Hold string

const (
	HoldDisabled Hold = "endpoint_disabled" // until it is enabled
	HoldPaused   Hold = "endpoint_paused"   // until it is resumed
	HoldFailing  Hold = "endpoint_failing"  // until a probe of it succeeds, or its receiver wants to be asked again
	HoldOrder    Hold = "order"             // until what comes before it is delivered or dead
	HoldBackoff  Hold = "backoff"           // until it is due again
	HoldFirst    Hold = "first_attempt"     // it waits for its turn, and was never sent
	HoldTurn     Hold = "turn"              // it is due, and waits for its turn
)

// Question is one sequence of an org's stream, and all that books and stream
// know of it.
type Question struct {
	Incarnation int
	Seq         stream.Seq
	Position    cursor.Position
	Complete    stream.Seq // see [Audited.Position]
	// Event is what the stream has there: nil when that is no event, or when the
	// stream no longer has it. Then Type and Stored are what the books know, if anything.
	Event      *stream.Event
	Type       string
	Stored     time.Time
	Exception  *Exception         // that covers the sequence
	Code       string             // of a rejection
	Detail     string             // of a rejection
	Deliveries []deliver.Delivery // of the event that is booked at this place
	Earlier    *EventPlace        // the event with the same ID that is booked elsewhere
	Receivers  []Receiver         // all endpoints of the org
	Spans      []Span             // of all of them, see [Audited.History]
	Now        time.Time
}

// Receiver is what is to be known of an endpoint.
type Receiver struct {
	Row            int64
	ID             string // ep_…
	CreatedAt      time.Time
	DisabledReason string // "": it is enabled
	DisabledAt     time.Time
	Paused         bool      // its deliveries are held back
	Wait           time.Time // nothing is sent to it before: see [deliver.Health.Wait]
	Removed        bool
	Behind         bool // see [Catchup]; of one that is, its place:
	Incarnation    int
	Seq            stream.Seq
	Lost           bool // the stream lost the sequence before it was read for the endpoint
}

// Answer is what became of the sequence for one endpoint. What does not belong to Why is
// zero.
type Answer struct {
	Receiver
	Why      Why
	Delivery *deliver.Delivery
	Hold     Hold        // of a pending one
	Types    []string    // what it was subscribed to at that place
	Scope    string      // the workspace that it was subscribed to at that place, "" for all
	Filter   string      // its content filter at that place
	Part     string      // filtered: the part of the filter that is false, in words, without anything of the event's data
	Earlier  *EventPlace // of a duplicate
	Span     *Exception  // of what nobody got
	Code     string      // of a rejection
	Detail   string      // of a rejection
	From     *stream.Seq // created or enabled later: it gets what comes after this sequence
	Since    time.Time   // disabled: since then, when that is known
}

// Explain says for each endpoint why it did or did not get what lies at a
// sequence: exactly one reason for each, ascending by row. Endpoints that were
// removed are left out, unless they were subscribed to it.
func Explain(q Question) []Answer {
	at := place{q.Incarnation, q.Seq}
	answers := make([]Answer, 0, len(q.Receivers))
	for _, r := range q.Receivers {
		a := Answer{Receiver: r}
		if a.explain(&q, at); r.Removed && !a.subscribed() {
			continue
		}
		answers = append(answers, a)
	}
	slices.SortFunc(answers, func(a, b Answer) int { return cmp.Compare(a.Row, b.Row) })
	return answers
}

// subscribed reports whether the endpoint wanted it, as far as anybody knows.
func (a *Answer) subscribed() bool {
	switch a.Why {
	case WhyDelivered, WhyPending, WhyDead, WhyCancelled, WhyDuplicate, WhyExpired, WhyMissing:
		return true
	}
	return false
}

func (a *Answer) explain(q *Question, at place) {
	if i := slices.IndexFunc(q.Deliveries, func(d deliver.Delivery) bool { return d.Key.Endpoint == a.Row }); i >= 0 {
		a.delivery(&q.Deliveries[i], q.Now)
		return
	}
	switch x := q.Exception; {
	case (place{q.Position.Incarnation, q.Position.Seq}).less(at):
		a.Why = WhyNotReached
	case x != nil:
		a.Why, a.Span = Why(x.Kind), x
		if x.Kind == ExceptionRejected {
			a.Code, a.Detail = q.Code, q.Detail
		}
	default:
		a.subscription(q, at)
	}
}

func (a *Answer) delivery(d *deliver.Delivery, now time.Time) {
	a.Delivery, a.Why = d, Why(d.State.String())
	if d.State != deliver.Pending {
		return
	}
	switch {
	case a.DisabledReason != "":
		a.Hold, a.Since = HoldDisabled, a.DisabledAt
	case a.Paused:
		a.Hold = HoldPaused
	case d.Held:
		a.Hold = HoldOrder
	case a.Wait.After(now):
		a.Hold = HoldFailing
	case d.Due.After(now):
		a.Hold = HoldBackoff
	case d.Attempts == 0:
		a.Hold = HoldFirst
	default:
		a.Hold = HoldTurn
	}
}

// subscription looks for the endpoint's subscription at that place.
func (a *Answer) subscription(q *Question, at place) {
	var first, covers *Span
	for i := range q.Spans {
		s := &q.Spans[i]
		if s.Endpoint != a.Row {
			continue
		}
		after := place{s.Incarnation, s.From}
		if first == nil || after.less(place{first.Incarnation, first.From}) {
			first = s
		}
		if s.Covers(at.incarnation, at.seq) && (covers == nil || q.refused(covers) != "") {
			covers = s
		}
	}
	if covers == nil {
		a.absent(q, at, first)
		return
	}
	a.Types, a.Scope, a.Filter = covers.Types, covers.Workspace, covers.Filter.String()
	a.Why = q.refused(covers)
	switch {
	case a.Why == WhyFiltered:
		_, a.Part = covers.Filter.Match(q.Event)
	case a.Why != "":
	case q.Earlier != nil:
		a.Why, a.Earlier = WhyDuplicate, q.Earlier
	case at.incarnation < q.Position.Incarnation || at.seq <= q.Complete:
		a.Why = WhyExpired
	default:
		a.Why = WhyMissing
	}
}

// refused says why the event is none of those that the subscription wants; "" when
// it is.
func (q *Question) refused(s *Span) Why {
	typ, stored := q.Type, q.Event == nil
	if !stored {
		typ = q.Event.Type
	}
	switch {
	case typ == "":
		return WhyUnknown
	case !slices.ContainsFunc(s.Types, func(p string) bool { return CheckPattern(p) == nil && MatchType(p, typ) }):
		return WhyType
	case s.Workspace != "" && (stored || q.Event.Workspace != s.Workspace):
		// The books do not know an event's workspace, but an endpoint of its workspace would have got it.
		return WhyWorkspace
	case s.Filter == nil:
		return ""
	case stored:
		return WhyUnknown // nor do they know its data
	}
	if ok, _ := s.Filter.Match(q.Event); !ok {
		return WhyFiltered
	}
	return ""
}

// absent says why there was no subscription at that place: none had begun, or
// it was interrupted.
func (a *Answer) absent(q *Question, at place, first *Span) {
	switch {
	case a.Lost:
		a.Why = WhyLost
		return
	case a.Behind && (place{a.Receiver.Incarnation, a.Receiver.Seq}).less(at):
		a.Why = WhyCatchingUp
		return
	}
	begun := first != nil && (place{first.Incarnation, first.From}).less(at)
	if first != nil && !begun {
		a.From = &first.From
	}
	// One that is older than the event and began later was enabled later.
	older := q.Stored.IsZero() && first == nil || !q.Stored.IsZero() && !a.CreatedAt.After(q.Stored)
	if !begun && !older {
		a.Why = WhyCreatedLater
		return
	}
	a.Why = WhyDisabled
	if a.DisabledReason != "" && (q.Stored.IsZero() || !a.DisabledAt.After(q.Stored)) {
		a.Since = a.DisabledAt
	}
}
