package sqlite

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/sign"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// sameEndpoint compares secrets by what they are.
var sameEndpoint = cmp.Options{cmpopts.EquateEmpty(), cmpopts.IgnoreFields(deliver.Secret{}, "Row")}

// What is set is what is read, before and after a restart.
func TestEndpointSettings(t *testing.T) {
	c := newClock()
	o := Options{Dir: t.TempDir(), Clock: c.read}
	s := open(t, o)
	ctx := t.Context()
	newWalker(t, s, "acme", 0)
	want := deliver.Endpoint{
		Org: "acme", URL: "https://example.com/a", Description: "first", EventTypes: []string{"a.*", "b"}, Workspace: "berlin",
		Secrets: []deliver.Secret{{Secret: sign.NewSecret()}, {Secret: sign.NewSecret(), ExpiresAt: c.read().Add(time.Hour)}}, Timeout: 1500 * time.Millisecond,
		Retry: deliver.Policy{Initial: time.Millisecond, Multiplier: 1.5, MaxInterval: time.Hour, Attempts: 3}, Concurrency: 7,
		Options: deliver.Options{
			Format: "vexyl", Redact: []deliver.Redaction{{Types: []string{"a.*"}, Path: "/data/*/name", Replace: []byte(`"-"`)}, {Path: "/data/email"}},
			Filter: "true", RateLimit: 2.5, OrderedBy: "/data/id", DisableAfter: deliver.NeverDisable, Paused: true,
		},
	}
	got, err := s.AddEndpoint(ctx, want, Start{})
	if err != nil {
		t.Fatal(err)
	}
	if got.Row == 0 || !strings.HasPrefix(got.ID, "ep_") || len(got.ID) != 29 {
		t.Errorf("row %d, id %q", got.Row, got.ID)
	}
	want.Row, want.ID, want.CreatedAt, want.UpdatedAt, want.Revision = got.Row, got.ID, c.read(), c.read(), 1
	for i := range want.Secrets {
		want.Secrets[i].CreatedAt = c.read()
	}
	check := func() {
		t.Helper()
		got, err := s.GetEndpoint(ctx, "acme", want.ID)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, sameEndpoint); diff != "" {
			t.Errorf("endpoint (-want +got):\n%s", diff)
		}
	}
	check()
	c.add(time.Minute)
	if _, err := s.SetEndpoint(ctx, "acme", want.ID, EndpointChange{URL: ptr("https://example.com/b"), Concurrency: ptr(9)}); err != nil {
		t.Fatal(err)
	}
	want.URL, want.Concurrency, want.UpdatedAt, want.Revision = "https://example.com/b", 9, c.read(), 2
	check()
	for range 2 { // the second changes nothing
		if _, err := s.SetEndpoint(ctx, "acme", want.ID, EndpointChange{Options: func(o *deliver.Options) { o.RateLimit, o.Redact = 0, o.Redact[:1] }}); err != nil {
			t.Fatal(err)
		}
	}
	want.RateLimit, want.Redact, want.Revision = 0, want.Redact[:1], 3
	check()
	var bad *deliver.OptionError
	if _, err := s.SetEndpoint(ctx, "acme", want.ID, EndpointChange{Options: func(o *deliver.Options) { o.Ordered = true }}); !errors.As(err, &bad) || bad.Field != "ordered_by" {
		t.Errorf("ordered and ordered_by: %v", err)
	}
	check()
	if _, err := s.DisableEndpoint(ctx, "acme", want.ID, "manual"); err != nil {
		t.Fatal(err)
	}
	want.DisabledReason, want.DisabledAt, want.Revision = "manual", c.read(), 4
	if _, err := s.DisableEndpoint(ctx, "acme", want.ID, "another reason"); err != nil {
		t.Fatal(err)
	}
	check()
	shut(t, s)
	s = open(t, o)
	check()
	if text := fmt.Sprintf("%+v %#v", want, want); strings.Contains(text, want.Secrets[0].Reveal()) {
		t.Error("a printed endpoint shows its secret")
	}
}

// Each change of who wants what ends a span and begins another at the org's
// position, and makes older plans stale.
func TestSubscriptionSpans(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	ctx := t.Context()
	w := newWalker(t, s, "acme", 0)
	version := func() int64 {
		t.Helper()
		set, err := s.Subscriptions(ctx, "acme")
		if err != nil {
			t.Fatal(err)
		}
		return set.Version()
	}
	// advance moves the position by events that nobody gets.
	advance := func(n stream.Seq) {
		t.Helper()
		w.refresh()
		p := w.next(0)
		p.To.Seq += n
		w.commit(p)
	}
	var versions []int64
	note := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		versions = append(versions, version())
	}
	a, b := addEndpoint(t, s, "acme"), addEndpoint(t, s, "acme")
	note(nil, nil)
	advance(10)
	note(s.SetEndpoint(ctx, "acme", a.ID, EndpointChange{EventTypes: []string{"x"}}))
	advance(5)
	note(s.SetEndpoint(ctx, "acme", a.ID, EndpointChange{Workspace: ptr("berlin")}))
	same := version()
	if _, err := s.SetEndpoint(ctx, "acme", a.ID, EndpointChange{Description: ptr("x")}); err != nil || version() != same {
		t.Errorf("a description changes subscriptions: %d, %v", version(), err)
	}
	advance(5)
	note(s.DisableEndpoint(ctx, "acme", a.ID, "manual"))
	note(nil, s.RemoveEndpoint(ctx, "acme", b.ID))
	advance(5)
	note(s.EnableEndpoint(ctx, "acme", a.ID))
	for i := range versions[1:] {
		if versions[i] >= versions[i+1] {
			t.Errorf("versions %v", versions)
		}
	}
	spans, err := s.SubscriptionHistory(ctx, "acme")
	if err != nil {
		t.Fatal(err)
	}
	sub := func(endpoint int64, workspace string, incarnation int, from stream.Seq, types ...string) fanout.Subscription {
		return fanout.Subscription{Endpoint: endpoint, Types: types, Workspace: workspace, Incarnation: incarnation, From: from}
	}
	want := []fanout.Span{
		{Subscription: sub(a.Row, "", 0, 0, "*"), Ended: true, UntilIncarnation: 1, Until: 10},
		{Subscription: sub(a.Row, "", 1, 10, "x"), Ended: true, UntilIncarnation: 1, Until: 15},
		{Subscription: sub(a.Row, "berlin", 1, 15, "x"), Ended: true, UntilIncarnation: 1, Until: 20},
		{Subscription: sub(a.Row, "berlin", 1, 25, "x")},
		{Subscription: sub(b.Row, "", 0, 0, "*"), Ended: true, UntilIncarnation: 1, Until: 20},
	}
	if diff := cmp.Diff(want, spans); diff != "" {
		t.Errorf("spans (-want +got):\n%s", diff)
	}
}

// A start ahead of the position holds across changes, and one that was never
// reached leaves no span behind.
func TestStartAhead(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	ctx := t.Context()
	newWalker(t, s, "acme", 0)
	e, err := s.AddEndpoint(ctx, deliver.Endpoint{Org: "acme", EventTypes: []string{"a"}}, Start{After: ptr(stream.Seq(100))})
	if err != nil {
		t.Fatal(err)
	}
	matches := func(seq stream.Seq) bool {
		t.Helper()
		set, err := s.Subscriptions(ctx, "acme")
		if err != nil {
			t.Fatal(err)
		}
		return len(set.Match(&stream.Event{Type: "b", Seq: seq}, 1, nil)) > 0
	}
	if _, err := s.SetEndpoint(ctx, "acme", e.ID, EndpointChange{EventTypes: []string{"b"}}); err != nil {
		t.Fatal(err)
	}
	if matches(100) || !matches(101) {
		t.Error("the start is not after 100")
	}
	if _, err := s.DisableEndpoint(ctx, "acme", e.ID, "manual"); err != nil {
		t.Fatal(err)
	}
	if spans, err := s.SubscriptionHistory(ctx, "acme"); err != nil || len(spans) > 0 {
		t.Errorf("spans %+v, %v", spans, err)
	}
}
