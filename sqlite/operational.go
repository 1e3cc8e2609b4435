package sqlite

import (
	"fmt"
	"slices"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// The data of operational events, one struct for each type. The names are part
// of the outside of the program: docs/operational-events.md shows them all.
// Attempts at operational events never cause others, or an endpoint that cannot
// be reached would be told of that for ever.

// endpointEvent is the data of all that happens to an endpoint; what does not
// belong to the type is left out.
type endpointEvent struct {
	EndpointID string `json:"endpoint_id"`
	URL        string `json:"url"` // without its query, which may hold a secret

	Since      *time.Time `json:"since,omitempty"`
	Failures   int        `json:"failures,omitempty"`
	LastClass  string     `json:"last_error_class,omitempty"`
	LastStatus int        `json:"last_status_code,omitempty"`
	DisablesAt *time.Time `json:"disables_at,omitempty"`
	Warning    bool       `json:"warning,omitempty"`

	Reason string `json:"reason,omitempty"`
	By     string `json:"by,omitempty"` // tok_…, operator, or grapnel

	Ending []endingSecret `json:"ending,omitempty"`
}

// endingSecret is a signing secret that signs beside the newest until its end.
type endingSecret struct {
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`
}

// deadDelivery is the data of [stream.DeliveryDead].
type deadDelivery struct {
	DeliveryID string `json:"delivery_id"`
	EndpointID string `json:"endpoint_id"`
	EventID    string `json:"event_id"`
	EventType  string `json:"event_type"`
	Reason     string `json:"reason"`
	Attempts   int    `json:"attempts"`
	LastClass  string `json:"last_error_class,omitempty"`
	LastStatus int    `json:"last_status_code,omitempty"`
}

// cursorGap is the data of [stream.CursorGap].
type cursorGap struct {
	Incarnation int64  `json:"incarnation"`
	From        int64  `json:"from"`
	To          int64  `json:"to"`
	Count       int64  `json:"count"`
	Reason      string `json:"reason"`
	EndpointID  string `json:"endpoint_id,omitempty"`
}

// Reasons of a cursorGap.
const (
	gapLost    = "lost"    // the stream no longer had the events when the cursor came
	gapSkipped = "skipped" // the cursor was moved over them by hand
	gapParked  = "parked"  // the stream no longer had them when a parked endpoint came
)

// endpointKey is the dedupe key of something that happens to an endpoint once at
// its revision.
func endpointKey(typ string, e *deliver.Endpoint, revision int64, at time.Time) string {
	return fmt.Sprintf("%s:%s:%d:%d", typ, e.ID, revision, toMillis(at))
}

func (t *txn) announceEndpoint(o *orgState, typ string, e *deliver.Endpoint, dedupe string, data endpointEvent) error {
	data.EndpointID, data.URL = e.ID, withoutQuery(e.URL)
	return t.announce(o, announcement{typ: typ, dedupe: dedupe, workspace: e.Workspace, data: data})
}

// announceDisabled tells that e was disabled just now, by the revision that is
// about to be written.
func (t *txn) announceDisabled(o *orgState, e *deliver.Endpoint) error {
	return t.announceEndpoint(o, stream.EndpointDisabled, e, endpointKey(stream.EndpointDisabled, e, e.Revision+1, e.DisabledAt),
		endpointEvent{Reason: e.DisabledReason, By: t.caller.Actor, Since: moment(e.FailingSince)})
}

// announceEnabled tells that e was enabled, by the revision that is about to be
// written. reason is why it had been disabled.
func (t *txn) announceEnabled(o *orgState, e *deliver.Endpoint, reason string) error {
	return t.announceEndpoint(o, stream.EndpointEnabled, e, endpointKey(stream.EndpointEnabled, e, e.Revision+1, t.now),
		endpointEvent{Reason: reason, By: t.caller.Actor})
}

// announceRotated tells that e has a new signing secret, by the revision that is
// about to be written.
func (t *txn) announceRotated(o *orgState, e *deliver.Endpoint) error {
	data := endpointEvent{By: t.caller.Actor}
	for _, k := range e.Secrets {
		if !k.ExpiresAt.IsZero() && k.Live(t.now) {
			data.Ending = append(data.Ending, endingSecret{k.CreatedAt, k.ExpiresAt})
		}
	}
	return t.announceEndpoint(o, stream.EndpointSecretRotated, e, endpointKey(stream.EndpointSecretRotated, e, e.Revision+1, t.now), data)
}

// endpointFailure is why an endpoint is failing.
type endpointFailure struct {
	Since      time.Time // when the run of failures began
	Failures   int       // one after the other
	Class      deliver.Class
	Status     int       // HTTP; 0: no answer
	DisablesAt time.Time // zero: never
	Warning    bool      // it has been failing for long, and is disabled in 24 h
}

// announceFailing tells that the circuit of e has opened, or with Warning that e
// is about to be disabled: once for each run of failures.
func (t *txn) announceFailing(o *orgState, e *deliver.Endpoint, f endpointFailure) error {
	step := int64(0)
	if f.Warning {
		step = 1
	}
	return t.announceEndpoint(o, stream.EndpointFailing, e, endpointKey(stream.EndpointFailing, e, step, f.Since), endpointEvent{
		Since: moment(f.Since), Failures: f.Failures, LastClass: f.Class.String(), LastStatus: f.Status,
		DisablesAt: moment(f.DisablesAt), Warning: f.Warning,
	})
}

// announceRecovered tells that e, which was failing since then, has answered.
func (t *txn) announceRecovered(o *orgState, e *deliver.Endpoint, since time.Time) error {
	return t.announceEndpoint(o, stream.EndpointRecovered, e, endpointKey(stream.EndpointRecovered, e, 0, since), endpointEvent{Since: moment(since)})
}

// announceGap tells of sequences that make no deliveries, or with an endpoint
// none to that one.
func (t *txn) announceGap(o *orgState, g cursorGap) error {
	return t.announce(o, announcement{
		typ:    stream.CursorGap,
		dedupe: fmt.Sprintf("%s:%s:%d:%d:%d", stream.CursorGap, g.EndpointID, g.Incarnation, g.From, toMillis(t.now)),
		data:   g,
	})
}

// announceDead tells of a delivery that r makes dead, if anybody listens.
func (t *txn) announceDead(r *deliver.Record) error {
	o, e, listens := t.s.listener(r.Endpoint)
	if !listens {
		return nil
	}
	ev, err := t.eventOf(r)
	if err != nil || ev.Type == "" || stream.Operational(ev.Type) {
		return err
	}
	dead := deadDelivery{
		DeliveryID: r.Key.ID(ev.Stored), EndpointID: e.ID, EventID: ev.ID.String(), EventType: ev.Type,
		Reason: r.Next.Reason.String(), Attempts: r.Attempt.Number, LastStatus: r.Attempt.Status,
	}
	if r.Attempt.Class != deliver.OK {
		dead.LastClass = r.Attempt.Class.String()
	}
	return t.announce(o, announcement{
		typ: stream.DeliveryDead,
		// With the time: a delivery may die again without another attempt, and nobody
		// who may publish is to take the key before.
		dedupe:    fmt.Sprintf("%s:%s:%d:%d", stream.DeliveryDead, dead.DeliveryID, dead.Attempts, toMillis(t.now)),
		workspace: e.Workspace,
		data:      dead,
	})
}

// operational reports whether the attempt was at an operational event: then
// nothing is announced that follows from it.
func (t *txn) operational(r *deliver.Record) (bool, error) {
	ev, err := t.eventOf(r)
	return stream.Operational(ev.Type), err
}

// eventOf is ID, type and time of a record's event: zero when it is gone with
// retention.
func (t *txn) eventOf(r *deliver.Record) (stream.Event, error) {
	if p := r.Payload; p != nil {
		return stream.Event{ID: p.ID, Type: p.Type, Stored: p.Stored}, nil
	}
	v := make(row, 3)
	found, err := t.c.one(v, "SELECT key, type, stored FROM events WHERE id=?", r.Event)
	if err != nil || !found {
		return stream.Event{}, err
	}
	return stream.Event{ID: toID(v.blob(0)), Type: v.text(1), Stored: fromMillis(v.int(2))}, nil
}

// listensForDead reports whether e is to be told of each delivery that is dead.
// There may be many: they are written only when somebody is.
func listensForDead(e *deliver.Endpoint) bool {
	return e.Enabled() && slices.ContainsFunc(e.EventTypes, func(p string) bool {
		return fanout.CheckPattern(p) == nil && fanout.MatchType(p, stream.DeliveryDead)
	})
}

// listener is an endpoint and its organization, and whether any endpoint there
// is told of dead deliveries.
func (s *Store) listener(endpoint int64) (*orgState, *deliver.Endpoint, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	e := s.endpoints[endpoint]
	if e == nil {
		return nil, nil, false
	}
	o := s.orgs[e.Org]
	return o, e, o != nil && len(o.listeners) > 0
}

// moment is a time as operational events show it; nil when it is zero.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.Truncate(time.Millisecond).UTC()
	return &t
}
