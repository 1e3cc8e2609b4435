package sqlite

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// whys asks for a subject and returns what was said of each endpoint.
func whys(t *testing.T, s *Store, sub Subject) map[string]fanout.Why {
	t.Helper()
	x, err := s.Explain(t.Context(), "acme", sub)
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]fanout.Why)
	for _, a := range x.Answers {
		got[a.ID] = a.Why
	}
	return got
}

// The books know enough of each sequence to say why: of what they have rows
// for, of what they have reasons for, and of what only the stream has.
func TestExplain(t *testing.T) {
	c := newClock()
	s := open(t, Options{Dir: t.TempDir(), Clock: c.read})
	ctx := t.Context()
	w := newWalker(t, s, "acme", 3)
	newWalker(t, s, "other", 1)
	es, err := s.ListEndpoints(ctx, "acme")
	if err != nil {
		t.Fatal(err)
	}
	all, invoices, removed := es[0].ID, es[1].ID, es[2].ID
	if _, err := s.SetEndpoint(ctx, "acme", invoices, EndpointChange{EventTypes: []string{"invoice.*"}}); err != nil {
		t.Fatal(err)
	}
	w.refresh()
	event := func(p fanout.Plan, i int) *stream.Event {
		ev := p.Events[i].Event
		return &ev
	}

	// 1: invoice.paid to all three, delivered, dead and pending.
	// 2: lead.won to two. 3: gap. 4: rejected. 5: gated. 6: the ID of 1.
	p := w.next(2)
	p.Events[1].Type, p.Events[1].Endpoints = "lead.won", []int64{w.endpoints[0], w.endpoints[2]}
	p.To.Seq = 6
	p.Gaps = []cursor.Gap{{Incarnation: 1, From: 3, To: 3}}
	p.Rejected = []fanout.Rejected{rejectedAt(4)}
	p.Gated = []stream.Seq{5}
	again := p.Events[0]
	again.Seq = 6
	first := w.commit(p)[0]
	w.record(c.outcome(deliver.Key{Event: first.Event, Endpoint: w.endpoints[0]}, 1, deliver.Delivered),
		c.outcome(deliver.Key{Event: first.Event, Endpoint: w.endpoints[1]}, 1, deliver.Dead))
	w.flush()
	c.add(time.Minute)
	if err := s.RemoveEndpoint(ctx, "acme", removed); err != nil {
		t.Fatal(err)
	}
	late := addEndpoint(t, s, "acme").ID

	type whyOf map[string]fanout.Why
	for name, c := range map[string]struct {
		sub  Subject
		want whyOf
	}{
		"by its ID":                     {Subject{ID: w.id(1)}, whyOf{all: fanout.WhyDelivered, invoices: fanout.WhyDead, removed: fanout.WhyCancelled, late: fanout.WhyCreatedLater}},
		"by its ID, with its message":   {Subject{ID: w.id(2), Seq: 2, Event: event(p, 1)}, whyOf{all: fanout.WhyPending, invoices: fanout.WhyType, removed: fanout.WhyCancelled, late: fanout.WhyCreatedLater}},
		"by sequence":                   {Subject{Seq: 2, Event: event(p, 1)}, whyOf{all: fanout.WhyPending, invoices: fanout.WhyType, removed: fanout.WhyCancelled, late: fanout.WhyCreatedLater}},
		"a gap":                         {Subject{Seq: 3}, whyOf{all: fanout.WhyGap, invoices: fanout.WhyGap, late: fanout.WhyGap}},
		"rejected":                      {Subject{Seq: 4}, whyOf{all: fanout.WhyRejected, invoices: fanout.WhyRejected, late: fanout.WhyRejected}},
		"gated":                         {Subject{Seq: 5, Event: &stream.Event{Type: "lead.won", Seq: 5}}, whyOf{all: fanout.WhyGated, invoices: fanout.WhyGated, late: fanout.WhyGated}},
		"a duplicate":                   {Subject{Seq: 6, Event: &again.Event}, whyOf{all: fanout.WhyDuplicate, invoices: fanout.WhyDuplicate, removed: fanout.WhyDuplicate, late: fanout.WhyCreatedLater}},
		"not reached":                   {Subject{Seq: 7, Event: &stream.Event{Type: "lead.won", Seq: 7}}, whyOf{all: fanout.WhyNotReached, invoices: fanout.WhyNotReached, late: fanout.WhyNotReached}},
		"by its ID, in the stream only": {Subject{ID: w.id(99), Seq: 7, Event: &stream.Event{ID: w.id(99), Type: "lead.won", Seq: 7}}, whyOf{all: fanout.WhyNotReached, invoices: fanout.WhyNotReached, late: fanout.WhyNotReached}},
	} {
		if diff := cmp.Diff(map[string]fanout.Why(c.want), whys(t, s, c.sub)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	x, err := s.Explain(ctx, "acme", Subject{Seq: 4})
	if err != nil || x.Code != "bad_json" || x.Detail != "not JSON" {
		t.Errorf("a rejection: %q %q, %v", x.Code, x.Detail, err)
	}
	for name, sub := range map[string]Subject{"unknown ID": {ID: w.id(98)}, "gone from the stream": {Seq: 1}} {
		if _, err := s.Explain(ctx, "acme", sub); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.Explain(ctx, "other", Subject{ID: w.id(1)}); !errors.Is(err, ErrNotFound) {
		t.Errorf("another org's event: %v", err)
	}
}
