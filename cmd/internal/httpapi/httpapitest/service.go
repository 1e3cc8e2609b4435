// Package httpapitest has an httpapi.Service in memory, with ids and times that
// are the same in every run, for tests of handlers and commands.
package httpapitest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// Epoch is when the first thing happens; each later one is a second after it.
var Epoch = time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)

// Secret is the secret of an endpoint that was made without one.
const Secret = "whsec_Z3JhcG5lbC10ZXN0LXNlY3JldC0zMi1ieXRlcy4uLg=="

// Service is an organization's world in memory. Appended events get one
// delivery for each enabled endpoint, whatever its types, pending until the
// test calls Attempt.
type Service struct {
	mu         sync.Mutex
	ticks      int
	orgs       map[string]httpapi.Org
	endpoints  map[string]deliver.Endpoint
	events     map[string][]stream.Event // by org, ascending
	deliveries []booked
	tokens     map[string]held // by text
	keys       int             // rotations of the key of the secrets
	hold       httpapi.HoldStatus
	logLevel   httpapi.LogLevel
	answers    map[string]httpapi.Answered
	entries    []httpapi.AuditEntry // of the audit, oldest first
	types      eventTypes
	paused     map[string]*httpapi.CursorPause  // cursors, by org
	movedBy    map[string][]httpapi.CursorMoved // newest first
	replays    map[string]httpapi.Replay
	behind     map[string]httpapi.CatchingUp // by endpoint
	moved      map[string]*stream.Seq

	// Set by tests before use.
	Err      error           // not nil: every call fails with it
	NoPlan   map[string]bool // organizations whose plan lacks outgoing webhooks
	Rejects  []httpapi.Rejected
	Found    []string         // what fsck finds wrong with each org
	Lost     stream.Seq       // where fsck misses a delivery, until the cursor is moved
	Torn     []httpapi.Broken // what is wrong between the rows of the books
	Missed   []httpapi.Gap
	Now      httpapi.Health
	Shown    map[string]httpapi.Cursor // what their cursors are to look like, by org
	Inflight chan struct{}             // not nil: Fsck waits until it is closed
}

type booked struct {
	deliver.Delivery
	attempts []deliver.Attempt
}

var _ httpapi.Service = (*Service)(nil)

// New is a Service without organizations.
func New() *Service {
	return &Service{
		orgs: map[string]httpapi.Org{}, endpoints: map[string]deliver.Endpoint{}, events: map[string][]stream.Event{},
		tokens: map[string]held{}, answers: map[string]httpapi.Answered{}, paused: map[string]*httpapi.CursorPause{}, movedBy: map[string][]httpapi.CursorMoved{}, moved: map[string]*stream.Seq{}, replays: map[string]httpapi.Replay{},
		Now: httpapi.Health{Version: "test", PID: 4711, Started: Epoch},
	}
}

// enter locks the service and says whether the call fails.
func (s *Service) enter(org string) (leave func(), err error) {
	s.mu.Lock()
	if s.Err != nil {
		err = s.Err
	} else if _, ok := s.orgs[org]; org != "" && !ok {
		err = fmt.Errorf("organization %s: %w", org, fanout.ErrNoOrg)
	}
	return s.mu.Unlock, err
}

func (s *Service) tick() time.Time {
	s.ticks++
	return Epoch.Add(time.Duration(s.ticks) * time.Second)
}

func (s *Service) AddOrg(ctx context.Context, o httpapi.Org) (httpapi.Org, error) {
	leave, err := s.enter("")
	defer leave()
	if err != nil {
		return o, err
	}
	if _, ok := s.orgs[o.ID]; ok {
		return o, httpapi.ErrExists
	}
	o.CreatedAt = s.tick()
	s.orgs[o.ID] = o
	s.note(ctx, o.ID, "org.add", o.ID)
	return o, s.remember(ctx, o)
}

func (s *Service) Orgs(_ context.Context, after string, limit int) ([]httpapi.Org, error) {
	leave, err := s.enter("")
	defer leave()
	return paged(s.orgs, after, limit), err
}

// paged are up to limit values whose key comes after the given one.
func paged[T any](all map[string]T, after string, limit int) []T {
	var keys []string
	for k := range all {
		if k > after {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	var out []T
	for _, k := range keys[:min(len(keys), limit)] {
		out = append(out, all[k])
	}
	return out
}

func (s *Service) Org(_ context.Context, org string) (httpapi.Org, error) {
	leave, err := s.enter(org)
	defer leave()
	return s.orgs[org], err
}

func (s *Service) ChangeOrg(ctx context.Context, org string, c httpapi.OrgChange) (httpapi.Org, error) {
	leave, err := s.enter(org)
	defer leave()
	if err != nil {
		return httpapi.Org{}, err
	}
	o := s.orgs[org]
	o.Name = *cmp.Or(c.Name, &o.Name)
	o.Plan = *cmp.Or(c.Plan, &o.Plan)
	o.Payload = *cmp.Or(c.Payload, &o.Payload)
	o.Subjects = *cmp.Or(c.Subjects, &o.Subjects)
	s.orgs[org] = o
	s.note(ctx, org, "org.change", org)
	return o, nil
}

func (s *Service) RemoveOrg(ctx context.Context, org string) error {
	leave, err := s.enter(org)
	defer leave()
	if err != nil {
		return err
	}
	for _, e := range s.endpoints {
		if e.Org == org {
			return fmt.Errorf("organization %s has endpoints; remove them first: %w", org, httpapi.ErrState)
		}
	}
	delete(s.orgs, org)
	s.note(ctx, "", "org.remove", org)
	return nil
}

func (s *Service) Append(ctx context.Context, org string, events []httpapi.NewEvent) ([]httpapi.Appended, error) {
	leave, err := s.enter(org)
	defer leave()
	if err != nil {
		return nil, err
	}
	for i, e := range events {
		if strings.HasSuffix(e.DedupeKey, " ") {
			field := "dedupe_key"
			if len(events) > 1 {
				field = fmt.Sprintf("events[%d].%s", i, field)
			}
			return nil, &httpapi.Invalid{Field: field, Detail: "ends with a space"}
		}
	}
	var out []httpapi.Appended
	for _, e := range events {
		out = append(out, s.append(org, e))
	}
	return out, s.remember(ctx, out)
}

func (s *Service) append(org string, e httpapi.NewEvent) httpapi.Appended {
	at := s.tick()
	ev := stream.Event{
		Org: org, Seq: stream.Seq(len(s.events[org]) + 1), Stored: at, Type: e.Type, Time: e.Time, Workspace: e.Workspace,
		SchemaVersion: cmp.Or(e.SchemaVersion, "1"), Source: e.Source, DedupeKey: e.DedupeKey, Data: slices.Clone(e.Data),
	}
	if ev.Time.IsZero() {
		ev.Time = at
	}
	ev.ID = stream.SeqID(org, ev.Seq, at)
	if e.DedupeKey != "" {
		ev.ID = stream.KeyID(org, e.DedupeKey)
		for _, known := range s.events[org] {
			if known.ID == ev.ID {
				return httpapi.Appended{ID: ev.ID, Seq: known.Seq, Duplicate: true}
			}
		}
	}
	s.events[org] = append(s.events[org], ev)
	number := int64(len(s.deliveries) + 1)
	for _, ep := range paged(s.endpoints, "", len(s.endpoints)) {
		if ep.Org == org && ep.Enabled() {
			s.deliveries = append(s.deliveries, booked{Delivery: deliver.Delivery{
				Key: deliver.Key{Event: number, Endpoint: ep.Row}, Org: org, Endpoint: ep.ID, EventID: ev.ID, Type: ev.Type,
				Seq: ev.Seq, Stored: at, FannedOut: at.Add(3 * time.Millisecond),
			}})
		}
	}
	return httpapi.Appended{ID: ev.ID, Seq: ev.Seq}
}

// Attempt books an outcome for every pending delivery of the org, and the
// state it leaves them in.
func (s *Service) Attempt(org string, o deliver.Outcome, next deliver.State, why deliver.Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.deliveries {
		d := &s.deliveries[i]
		if d.Org != org || d.State != deliver.Pending {
			continue
		}
		trigger := deliver.Retry
		if d.Attempts == 0 {
			trigger = deliver.First
		}
		d.Attempts++
		started := d.FannedOut.Add(time.Duration(d.Attempts) * time.Minute)
		d.attempts = append(d.attempts, deliver.Attempt{Number: d.Attempts, Trigger: trigger, Started: started, Outcome: o})
		d.State, d.Reason, d.Due = next, why, started.Add(5*time.Second)
	}
}

func (s *Service) Events(_ context.Context, org string, f httpapi.EventFilter, before stream.Seq, limit int) ([]stream.Event, stream.Seq, error) {
	leave, err := s.enter(org)
	defer leave()
	if err != nil {
		return nil, 0, err
	}
	var out []stream.Event
	for _, ev := range slices.Backward(s.events[org]) {
		if before != 0 && ev.Seq >= before || f.Type != "" && f.Type != ev.Type || f.Workspace != "" && f.Workspace != ev.Workspace ||
			ev.Stored.Before(f.Since) || !f.Until.IsZero() && !ev.Stored.Before(f.Until) {
			continue
		}
		if len(out) == limit {
			return out, out[limit-1].Seq, nil
		}
		out = append(out, ev)
	}
	return out, 0, nil
}

func (s *Service) Event(_ context.Context, org string, id stream.ID) (stream.Event, error) {
	return s.find(org, func(e stream.Event) bool { return e.ID == id })
}

func (s *Service) EventAt(_ context.Context, org string, seq stream.Seq) (stream.Event, error) {
	return s.find(org, func(e stream.Event) bool { return e.Seq == seq })
}

func (s *Service) find(org string, is func(stream.Event) bool) (stream.Event, error) {
	leave, err := s.enter(org)
	defer leave()
	if err != nil {
		return stream.Event{}, err
	}
	if i := slices.IndexFunc(s.events[org], is); i >= 0 {
		return s.events[org][i], nil
	}
	return stream.Event{}, httpapi.ErrNotFound
}

func (s *Service) Deliveries(_ context.Context, org string, f httpapi.DeliveryFilter, after deliver.Key, limit int) ([]deliver.Delivery, deliver.Key, error) {
	leave, err := s.enter(org)
	defer leave()
	if err != nil {
		return nil, deliver.Key{}, err
	}
	var out []deliver.Delivery
	skipping := after != (deliver.Key{})
	for _, d := range slices.Backward(s.deliveries) {
		if skipping {
			skipping = d.Key != after
			continue
		}
		if d.Org != org || f.Endpoint != "" && f.Endpoint != d.Endpoint || f.Event != nil && *f.Event != d.EventID ||
			!fanout.Lists(f.Type, d.Type) || f.State != nil && *f.State != d.State ||
			d.Stored.Before(f.Since) || !f.Until.IsZero() && !d.Stored.Before(f.Until) {
			continue
		}
		if len(out) == limit {
			return out, out[limit-1].Key, nil
		}
		out = append(out, d.Delivery)
	}
	return out, deliver.Key{}, nil
}

func (s *Service) delivery(org string, key deliver.Key) (*booked, error) {
	for i := range s.deliveries {
		if d := &s.deliveries[i]; d.Key == key && d.Org == org {
			return d, nil
		}
	}
	return nil, httpapi.ErrNotFound
}

func (s *Service) Delivery(_ context.Context, org string, key deliver.Key) (deliver.Delivery, []deliver.Attempt, error) {
	leave, err := s.enter(org)
	defer leave()
	if err != nil {
		return deliver.Delivery{}, nil, err
	}
	d, err := s.delivery(org, key)
	if err != nil {
		return deliver.Delivery{}, nil, err
	}
	return d.Delivery, slices.Clone(d.attempts), nil
}

func (s *Service) RetryDelivery(ctx context.Context, org string, key deliver.Key) (deliver.Delivery, error) {
	leave, err := s.enter(org)
	defer leave()
	if err != nil {
		return deliver.Delivery{}, err
	}
	d, err := s.delivery(org, key)
	if err != nil {
		return deliver.Delivery{}, err
	}
	d.State, d.Reason, d.Due = deliver.Pending, deliver.NoReason, time.Time{}
	s.note(ctx, org, "delivery.retry", d.ID(d.Stored))
	return d.Delivery, nil
}

func (s *Service) cursor(org string) httpapi.Cursor {
	c := httpapi.Cursor{
		Position: cursor.Position{Org: org, Stream: "EVENTS_" + org, Created: s.orgs[org].CreatedAt, Incarnation: 1},
		State:    "live", Rejected: int64(len(s.Rejects)), Gaps: int64(len(s.Missed)),
	}
	if n := len(s.events[org]); n > 0 {
		last := s.events[org][n-1]
		c.First, c.Last, c.Seq, c.Anchor, c.UpdatedAt = 1, last.Seq, s.position(org, last.Seq), last.Stored, last.Stored
		c.Lag = uint64(c.Last - c.Seq)
	}
	if p := s.paused[org]; p != nil {
		c.State, c.Pause, c.Since, c.Why = "paused", p, p.At, "paused by "+p.By+": "+p.Reason
	}
	if shown, ok := s.Shown[org]; ok {
		return shown
	}
	for _, d := range s.deliveries {
		switch {
		case d.Org != org:
		case d.State == deliver.Pending:
			c.Pending++
			c.Due++
		case d.State == deliver.Dead:
			c.Dead++
		}
	}
	return c
}

func (s *Service) Cursor(_ context.Context, org string) (httpapi.Cursor, error) {
	leave, err := s.enter(org)
	defer leave()
	c := s.cursor(org)
	c.Endpoints, c.Moves = s.backlogged(org), s.movedBy[org]
	return c, err
}

// backlogged are the endpoints with pending or dead deliveries, by id.
func (s *Service) backlogged(org string) (list []httpapi.Backlogged) {
	of := map[string]*httpapi.Backlogged{}
	for _, d := range s.deliveries {
		if d.Org != org || d.State != deliver.Pending && d.State != deliver.Dead {
			continue
		}
		b := of[d.Endpoint]
		if b == nil {
			b = &httpapi.Backlogged{Endpoint: d.Endpoint}
			of[d.Endpoint] = b
		}
		if d.State == deliver.Pending {
			b.Pending++
		} else {
			b.Dead++
		}
	}
	for _, id := range slices.Sorted(maps.Keys(of)) {
		list = append(list, *of[id])
	}
	return list
}

func (s *Service) Cursors(_ context.Context, after string, limit int) ([]httpapi.Cursor, error) {
	leave, err := s.enter("")
	defer leave()
	var out []httpapi.Cursor
	for _, o := range paged(s.orgs, after, limit) {
		out = append(out, s.cursor(o.ID))
	}
	return out, err
}

func (s *Service) Gaps(_ context.Context, org string, before httpapi.Place, limit int) ([]httpapi.Gap, error) {
	leave, err := s.enter(org)
	defer leave()
	return earlier(s.Missed, before, limit, func(g httpapi.Gap) httpapi.Place {
		return httpapi.Place{Incarnation: g.Incarnation, Seq: g.From}
	}), err
}

func (s *Service) Rejected(_ context.Context, org string, before httpapi.Place, limit int) ([]httpapi.Rejected, error) {
	leave, err := s.enter(org)
	defer leave()
	return earlier(s.Rejects, before, limit, func(r httpapi.Rejected) httpapi.Place {
		return httpapi.Place{Incarnation: r.Incarnation, Seq: r.Seq}
	}), err
}

// earlier are up to limit of all, which are newest first, before the place.
func earlier[T any](all []T, before httpapi.Place, limit int, place func(T) httpapi.Place) []T {
	var out []T
	for _, v := range all {
		p := place(v)
		if len(out) < limit && (before == httpapi.Place{} || p.Incarnation < before.Incarnation ||
			p.Incarnation == before.Incarnation && p.Seq < before.Seq) {
			out = append(out, v)
		}
	}
	return out
}

func (s *Service) Fsck(ctx context.Context, org string) ([]httpapi.Books, error) {
	if s.Inflight != nil {
		select {
		case <-s.Inflight:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	leave, err := s.enter(org)
	defer leave()
	if err != nil {
		return nil, err
	}
	var out []httpapi.Books
	for _, o := range paged(s.orgs, "", len(s.orgs)) {
		if org != "" && o.ID != org {
			continue
		}
		c := s.cursor(o.ID)
		b := httpapi.Books{
			Org: o.ID, Through: c.Seq, Events: int64(c.Seq), Pending: c.Pending, Dead: c.Dead,
			Problems: s.Found, Wrong: int64(len(s.Found)),
		}
		if s.Lost > 0 && s.moved[o.ID] == nil {
			b.Missing, b.FirstMissing = 1, s.Lost
		}
		for _, e := range s.endpoints {
			if e.Org == o.ID {
				b.Endpoints++
			}
		}
		for _, d := range s.deliveries {
			if d.Org == o.ID && d.State == deliver.Delivered {
				b.Delivered++
			}
		}
		out = append(out, b)
	}
	return out, nil
}

func (s *Service) Health() httpapi.Health {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Now
}
