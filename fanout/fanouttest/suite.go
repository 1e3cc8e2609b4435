package fanouttest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/sign"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
	"github.com/grapnel-hooks/grapnel/stream/streamtest"
)

// Store is what the suite asks of books: what fan-out and lanes need, and the
// few changes by hand that meet with them.
type Store interface {
	fanout.CatchupBooks
	fanout.SourceBooks
	deliver.Books

	AddOrg(ctx context.Context, o fanout.Org) error
	// AddEndpoint adds an endpoint that gets events after the org's position,
	// and returns it with its Row and ID.
	AddEndpoint(ctx context.Context, ep deliver.Endpoint) (deliver.Endpoint, error)
	// AddEndpointFrom adds an endpoint that gets what comes after a sequence of the
	// present incarnation.
	AddEndpointFrom(ctx context.Context, ep deliver.Endpoint, after stream.Seq) (deliver.Endpoint, error)
	// SetParkAfter says how many deliveries of one endpoint may be pending before a
	// commit makes it catch up from there, in this life of the books; 0: any number.
	SetParkAfter(n int64)
	FindEndpointByRow(ctx context.Context, row int64) (deliver.Endpoint, error)
	// SetFilter changes the endpoint's content filter; "": none.
	SetFilter(ctx context.Context, org, id, filter string) (deliver.Endpoint, error)
	DisableEndpoint(ctx context.Context, org, id, reason string) (deliver.Endpoint, error)
	EnableEndpoint(ctx context.Context, org, id string) (deliver.Endpoint, error)
	// RemoveEndpoint returns once what was pending is cancelled.
	RemoveEndpoint(ctx context.Context, org, id string) error
	// PauseCursor stops the reading of the org's stream: plans made before are
	// stale, and Org says that it is paused. Repeating it changes nothing.
	PauseCursor(ctx context.Context, org string) error
	// MoveCursor moves the position by hand, in one durable transaction, and
	// makes plans of before stale. It fails as [fanout.Move.Check].
	MoveCursor(ctx context.Context, org string, m fanout.Move) error
	ResumeCursor(ctx context.Context, org string) error
	RetryDelivery(ctx context.Context, org string, k deliver.Key) (deliver.Ticket, error)
	CancelDelivery(ctx context.Context, org string, k deliver.Key) error
	// ReplayEvent retries all deliveries of the event, or with an endpoint (ep_…) that
	// one's, and returns them by endpoint.
	ReplayEvent(ctx context.Context, org string, id stream.ID, endpoint string) ([]deliver.Key, error)
	GetDelivery(ctx context.Context, org string, k deliver.Key) (deliver.Delivery, []deliver.Attempt, error)
	// Audit calls f with the org's books as they are at one moment.
	Audit(ctx context.Context, org string, f func(fanout.Audited) error) error
}

// Opener makes empty books for one test. reopen closes them, as a process does
// that ends, and opens what is durable.
type Opener func(t *testing.T) (s Store, reopen func() Store)

// TestBooks checks that a store keeps the promises of [fanout.Books],
// [fanout.SourceBooks], [deliver.Books] and [fanout.Audited]. After each test
// [fanout.Check] holds the books against the stream that they were made from.
func TestBooks(t *testing.T, open Opener) {
	for _, tests := range []map[string]func(*suite){commitTests, recordTests, adminTests, byHandTests, cursorTests, catchupTests, lineTests, filterTests, healthTests} {
		for name, test := range tests {
			t.Run(name, func(t *testing.T) {
				s := newSuite(t, open)
				test(s)
				s.check("acme")
			})
		}
	}
}

// suite is one test: books, the stream that they are made from, and what was
// reported as booked.
type suite struct {
	*testing.T
	Store
	ctx    context.Context
	reopen func() Store
	log    *streamtest.Log
	booked chan deliver.Record
}

// manyRecords is more than any one transaction of a store should hold.
const manyRecords = 3000

func newSuite(t *testing.T, open Opener) *suite {
	s := &suite{T: t, ctx: t.Context(), log: new(streamtest.Log), booked: make(chan deliver.Record, 2*manyRecords)}
	s.Store, s.reopen = open(t)
	s.listen()
	s.addOrg("acme")
	return s
}

func (s *suite) listen() {
	s.OnBooked(func(rs []deliver.Record) {
		for _, r := range rs {
			s.booked <- r
		}
	})
}

func (s *suite) restart() {
	s.Store = s.reopen()
	s.listen()
}

func (s *suite) addOrg(org string) {
	s.Helper()
	s.must(s.AddOrg(s.ctx, fanout.Org{ID: org, Payload: stream.PayloadData}))
	s.log.Create(stream.Names{}.Stream(org))
}

func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *suite) equal(what string, want, got any, opts ...cmp.Option) {
	s.Helper()
	if diff := cmp.Diff(want, got, append(opts, cmpopts.EquateEmpty())...); diff != "" {
		s.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// endpoint adds an endpoint of acme.
func (s *suite) endpoint(types ...string) deliver.Endpoint {
	s.Helper()
	return s.endpointOf("acme", types...)
}

func (s *suite) endpointOf(org string, types ...string) deliver.Endpoint {
	s.Helper()
	return s.endpointWith(deliver.Options{}, org, types...)
}

func (s *suite) endpointWith(o deliver.Options, org string, types ...string) deliver.Endpoint {
	s.Helper()
	ep, err := s.AddEndpoint(s.ctx, deliver.Endpoint{
		Org:         org,
		Options:     o,
		URL:         "https://example.com/hook",
		EventTypes:  types,
		Secrets:     []deliver.Secret{{Secret: sign.NewSecret()}},
		Timeout:     deliver.DefaultTimeout,
		Retry:       deliver.DefaultPolicy,
		Concurrency: deliver.DefaultConcurrency,
	})
	s.must(err)
	return ep
}

// append puts messages into acme's stream, written "type" or "type key"; "!" is
// no event.
func (s *suite) append(lines ...string) { s.appendTo("acme", lines...) }

func (s *suite) appendTo(org string, lines ...string) {
	for _, l := range lines {
		typ, key, _ := strings.Cut(l, " ")
		data, header := []byte(`{"n":1}`), stream.Header{}
		if typ == "!" {
			typ, data = "broken", []byte(`{`)
		}
		if key != "" {
			header["Nats-Msg-Id"] = []string{key}
		}
		s.log.Append(stream.Names{}.Subject(org, typ), header, data)
	}
}

// plan plans all that follows the org's position.
func (s *suite) plan(org string) fanout.Plan {
	s.Helper()
	o, err := s.Org(s.ctx, org)
	s.must(err)
	pos, err := s.Position(s.ctx, org)
	s.must(err)
	set, err := s.Subscriptions(s.ctx, org)
	s.must(err)
	far, err := s.Furthest(s.ctx, org)
	s.must(err)
	b, err := cursor.Next(s.ctx, s.log, pos, cursor.Options{Max: 10_000, Verify: true, Furthest: far})
	s.must(err)
	return fanout.Make(o, b, set, stream.Decoding{Org: org, Payload: o.Payload})
}

// walk commits all that follows acme's position.
func (s *suite) walk() []fanout.Written {
	s.Helper()
	return s.walkOf("acme")
}

func (s *suite) walkOf(org string) []fanout.Written {
	s.Helper()
	written, err := s.Commit(s.ctx, s.plan(org))
	s.must(err)
	return written
}

// again is a plan that reads acme's whole stream again and moves nothing.
func (s *suite) again() fanout.Plan {
	s.Helper()
	pos, err := s.Position(s.ctx, "acme")
	s.must(err)
	msgs, _, err := s.log.Read(s.ctx, pos.Stream, 1, 10_000)
	s.must(err)
	set, err := s.Subscriptions(s.ctx, "acme")
	s.must(err)
	b := cursor.Batch{From: pos, To: pos, Messages: msgs}
	return fanout.Make(fanout.Org{ID: "acme"}, b, set, stream.Decoding{Org: "acme"})
}

// fresh commits messages to which the endpoints are subscribed, and returns
// the tickets of one endpoint.
func (s *suite) fresh(ep deliver.Endpoint, lines ...string) []deliver.Ticket {
	s.Helper()
	s.append(lines...)
	s.walk()
	return s.pending(ep.Row)
}

// everything is all places.
var everything = [2]deliver.Place{{}, {Due: 1 << 60, Event: 1 << 60}}

// pending lists the pending deliveries of endpoints (none: of all).
func (s *suite) pending(rows ...int64) []deliver.Ticket {
	s.Helper()
	ts, err := s.Pending(s.ctx, everything[0], everything[1], rows, 10_000)
	s.must(err)
	return ts
}

// The outcomes that records are made from.
var (
	started = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

	success = deliver.Outcome{Class: deliver.OK, Status: 204, Duration: 20 * time.Millisecond}
	failure = deliver.Outcome{Class: deliver.HTTP5xx, Status: 503, Duration: 30 * time.Millisecond, RetryAfter: time.Minute,
		Header: map[string][]string{"Server": {"x"}}, Body: []byte("try later"), Truncated: true, Error: "503"}
	gone = deliver.Outcome{Class: deliver.HTTP4xx, Status: 410, Duration: time.Millisecond}
)

// attempted is the record of an attempt at t, due again after a delay if it
// failed.
func attempted(t deliver.Ticket, o deliver.Outcome, delay time.Duration) deliver.Record {
	r := deliver.Record{
		Key:     t.Key,
		Attempt: deliver.Attempt{Number: t.Attempts + 1, Trigger: t.Trigger, Started: started, Outcome: o},
		Next:    deliver.Transition{State: deliver.Delivered, Spent: t.Spent + 1},
	}
	switch {
	case o.Class == deliver.OK:
	case o.Status == 410:
		r.Next = deliver.Transition{State: deliver.Dead, Reason: deliver.Gone, Spent: t.Spent + 1, Disable: "gone"}
	default:
		r.Next = deliver.Transition{State: deliver.Pending, Due: started.Add(delay), Spent: t.Spent + 1}
	}
	if r.Next.State != deliver.Delivered {
		r.Payload = payload(t.Event)
	}
	return r
}

// died is the record of the last attempt.
func died(t deliver.Ticket) deliver.Record {
	r := attempted(t, failure, 0)
	r.Next = deliver.Transition{State: deliver.Dead, Reason: deliver.Exhausted, Spent: t.Spent + 1}
	return r
}

func payload(event int64) *deliver.Payload {
	return &deliver.Payload{
		Event:       event,
		ID:          stream.KeyID("acme", fmt.Sprint(event)),
		Org:         "acme",
		Type:        "invoice.paid",
		TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		Stored:      started.Add(123456789),
		Body:        fmt.Appendf(nil, `{"event":%d}`, event),
	}
}

// book records and waits until the books say that all of it is durable.
func (s *suite) book(rs ...deliver.Record) {
	s.Helper()
	for _, r := range rs {
		s.must(s.Record(s.ctx, r))
	}
	s.await(len(rs))
}

// await takes n records from what the books say is durable.
func (s *suite) await(n int) []deliver.Record {
	s.Helper()
	var rs []deliver.Record
	for range n {
		select {
		case r := <-s.booked:
			rs = append(rs, r)
		case <-s.ctx.Done():
			s.Fatalf("%d of %d records were not booked", n-len(rs), n)
		}
	}
	return rs
}

// delivery reads one of acme.
func (s *suite) delivery(k deliver.Key) (deliver.Delivery, []deliver.Attempt) {
	s.Helper()
	d, as, err := s.GetDelivery(s.ctx, "acme", k)
	s.must(err)
	return d, as
}

// state reads a delivery's state, reason and number of attempts.
func (s *suite) state(k deliver.Key) string {
	s.Helper()
	d, as := s.delivery(k)
	if d.Attempts != len(as) {
		s.Errorf("delivery %v counts %d attempts, and has %d", k, d.Attempts, len(as))
	}
	return strings.TrimSpace(fmt.Sprintf("%v %d %v", d.State, d.Attempts, d.Reason))
}

// exceptions lists the recorded reasons, one line for each sequence.
func (s *suite) exceptions(org string) []string {
	s.Helper()
	var lines []string
	s.must(s.Audit(s.ctx, org, func(a fanout.Audited) error {
		for x, err := range a.Exceptions(s.ctx) {
			if err != nil {
				return err
			}
			for seq := x.From; seq <= x.To; seq++ {
				lines = append(lines, fmt.Sprintf("%s %d.%d", x.Kind, x.Incarnation, seq))
			}
		}
		return nil
	}))
	slices.Sort(lines)
	return lines
}

// check holds the books against the stream.
func (s *suite) check(org string) fanout.Report {
	s.Helper()
	var r fanout.Report
	s.must(s.Audit(s.ctx, org, func(a fanout.Audited) (err error) {
		r, err = fanout.Check(s.ctx, s.log, stream.Decoding{Org: org}, a, nil)
		return err
	}))
	for _, p := range r.Problems {
		s.Errorf("check of %s: %v", org, p)
	}
	return r
}

// samePosition compares positions whatever their times' location.
var samePosition = cmp.Comparer(func(a, b cursor.Position) bool {
	return a.Org == b.Org && a.Stream == b.Stream && a.Incarnation == b.Incarnation && a.Seq == b.Seq &&
		a.Created.Equal(b.Created) && a.Anchor.Equal(b.Anchor) && a.Hash == b.Hash
})
