package sqlite

import (
	"crypto/sha256"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/fanout"
)

// tokens is a store with organizations acme and beta, and its clock.
func tokens(t *testing.T) (*Store, *clock, Options) {
	t.Helper()
	c := newClock()
	o := Options{Dir: t.TempDir(), Clock: c.read}
	s := open(t, o)
	for _, org := range []string{"acme", "beta"} {
		if _, err := s.AddOrg(t.Context(), Org{ID: org, Payload: "data"}); err != nil {
			t.Fatal(err)
		}
	}
	return s, c, o
}

func addToken(t *testing.T, s *Store, c *clock, org, text string) Token {
	t.Helper()
	k, err := s.AddToken(t.Context(), Token{Org: org, Name: text, Scopes: []string{"admin"}, ExpiresAt: c.read().Add(time.Hour)}, sha256.Sum256([]byte(text)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func holds(s *Store, text string) bool {
	_, ok := s.Authenticate(sha256.Sum256([]byte(text)))
	return ok
}

// A token holds from when it is made until it expires or is revoked, and not
// a moment longer. (SEC-16)
func TestTokens(t *testing.T) {
	s, c, o := tokens(t)
	made := addToken(t, s, c, "acme", "a")
	operators := addToken(t, s, c, "", "o")
	got, ok := s.Authenticate(sha256.Sum256([]byte("a")))
	if !ok {
		t.Fatal("unknown")
	}
	want := made
	want.UsedAt = c.read().Truncate(time.Millisecond).UTC()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if holds(s, "b") {
		t.Error("another text holds")
	}

	shut(t, s)
	s = open(t, o)
	if !holds(s, "a") || !holds(s, "o") {
		t.Error("lost at the start")
	}
	c.add(time.Hour - time.Millisecond)
	if !holds(s, "a") {
		t.Error("expired too early")
	}
	var told []string
	s.OnTokenRevoked(func(id string) { told = append(told, id) })
	for range 2 {
		if err := s.RevokeToken(t.Context(), "", operators.ID); err != nil {
			t.Fatal(err)
		}
	}
	if holds(s, "o") || !slices.Equal(told, []string{operators.ID}) {
		t.Errorf("revoked: holds %v, told %v", holds(s, "o"), told)
	}
	c.add(time.Millisecond)
	if holds(s, "a") {
		t.Error("holds when expired")
	}
	shut(t, s)
	if s = open(t, o); holds(s, "o") {
		t.Error("revoked, and holds after a start")
	}
}

// Tokens are an organization's own. (SEC-19)
func TestTokensOfOthers(t *testing.T) {
	s, c, _ := tokens(t)
	acme, operators := addToken(t, s, c, "acme", "a"), addToken(t, s, c, "", "o")
	for _, org := range []string{"beta", ""} {
		if err := s.RevokeToken(t.Context(), org, acme.ID); !errors.Is(err, ErrNotFound) {
			t.Errorf("revoked by %q: %v", org, err)
		}
	}
	if err := s.RevokeToken(t.Context(), "acme", operators.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("an organization revoked an operator's: %v", err)
	}
	for org, want := range map[string][]string{"acme": {acme.ID}, "beta": nil, "": {operators.ID}} {
		list, err := s.ListTokens(t.Context(), org, "", 10)
		var ids []string
		for _, k := range list {
			ids = append(ids, k.ID)
		}
		if diff := cmp.Diff(want, ids); diff != "" || err != nil {
			t.Errorf("%q: %s, %v", org, diff, err)
		}
	}
	if _, err := s.AddToken(t.Context(), Token{Org: "gone"}, sha256.Sum256([]byte("g"))); !errors.Is(err, fanout.ErrNoOrg) {
		t.Errorf("of no organization: %v", err)
	}
	if _, err := s.AddToken(t.Context(), Token{Org: "beta"}, sha256.Sum256([]byte("a"))); err == nil {
		t.Error("two tokens of one text")
	}
}

// The tokens of an organization end with it, also for one of the same name.
func TestTokensEndWithTheirOrg(t *testing.T) {
	s, c, o := tokens(t)
	k := addToken(t, s, c, "acme", "a")
	var told []string
	s.OnTokenRevoked(func(id string) { told = append(told, id) })
	if err := s.RemoveOrg(t.Context(), "acme"); err != nil {
		t.Fatal(err)
	}
	if holds(s, "a") || !slices.Equal(told, []string{k.ID}) {
		t.Errorf("holds %v, told %v", holds(s, "a"), told)
	}
	if _, err := s.AddOrg(t.Context(), Org{ID: "acme", Payload: "data"}); err != nil {
		t.Fatal(err)
	}
	shut(t, s)
	s = open(t, o)
	list, err := s.ListTokens(t.Context(), "acme", "", 10)
	if holds(s, "a") || len(list) != 0 || err != nil {
		t.Errorf("holds %v, %v, %v", holds(s, "a"), list, err)
	}
}

// When a token was last used is written at most once a minute, and survives.
func TestTokenUse(t *testing.T) {
	s, c, o := tokens(t)
	addToken(t, s, c, "acme", "a")
	used := func() time.Time {
		t.Helper()
		if err := s.FlushTokens(t.Context()); err != nil {
			t.Fatal(err)
		}
		shut(t, s)
		s = open(t, o)
		list, err := s.ListTokens(t.Context(), "acme", "", 10)
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		return list[0].UsedAt
	}
	if at := used(); !at.IsZero() {
		t.Errorf("used at %v", at)
	}
	holds(s, "a")
	first := c.read()
	if at := used(); !at.Equal(first.Truncate(time.Millisecond)) {
		t.Errorf("used at %v, want %v", at, first)
	}
	c.add(usedEvery - time.Millisecond)
	holds(s, "a")
	if at := used(); !at.Equal(first.Truncate(time.Millisecond)) {
		t.Errorf("written again after less than a minute: %v", at)
	}
	c.add(time.Millisecond)
	holds(s, "a")
	if at := used(); !at.Equal(c.read().Truncate(time.Millisecond)) {
		t.Errorf("used at %v, want %v", at, c.read())
	}
}

// What is changed for somebody's sake has an entry that names them; what fails
// has none; and no entry is changed or removed before its time. (SEC-20)
func TestAudit(t *testing.T) {
	s, c, _ := tokens(t)
	ctx := WithCaller(t.Context(), Caller{Actor: "tok_1", Address: "192.0.2.1", Request: "req_1"})
	if _, err := s.AddOrg(ctx, Org{ID: "acme", Payload: "data"}); !errors.Is(err, ErrExists) {
		t.Fatal(err)
	}
	o, err := s.GetOrg(ctx, "acme")
	if err != nil {
		t.Fatal(err)
	}
	o.Plan = "pro"
	if _, err := s.SetOrg(ctx, o); err != nil {
		t.Fatal(err)
	}
	k, err := s.AddToken(ctx, Token{Org: "acme", Scopes: []string{"admin"}, ExpiresAt: c.read().Add(time.Hour)}, sha256.Sum256([]byte("a")))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Audited(ctx, "acme", "secret.reveal", "ep_1"); err != nil {
		t.Fatal(err)
	}
	type entry struct{ Org, Actor, Action, Target, Address, Request string }
	entries := func(org string, before int64, limit int) (all []entry, last int64) {
		t.Helper()
		list, err := s.ListAudit(ctx, org, before, limit)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			all, last = append(all, entry{e.Org, e.Actor, e.Action, e.Target, e.Address, e.Request}), e.ID
		}
		return all, last
	}
	first, last := entries("acme", 0, 2)
	rest, _ := entries("acme", last, 10)
	want := []entry{
		{"acme", "tok_1", "secret.reveal", "ep_1", "192.0.2.1", "req_1"},
		{"acme", "tok_1", "token.add", k.ID, "192.0.2.1", "req_1"},
		{"acme", "tok_1", "org.change", "acme", "192.0.2.1", "req_1"},
		{"acme", "grapnel", "org.add", "acme", "", ""},
	}
	if diff := cmp.Diff(want, append(first, rest...)); diff != "" {
		t.Error(diff)
	}
	if all, _ := entries("", 0, 10); len(all) != 5 { // and beta's
		t.Errorf("all: %v", all)
	}
	if list, err := s.ListAudit(ctx, "acme", 0, 3); err != nil || !cmp.Equal(list[2].Changes, Changes{"plan": {"", "pro"}}) {
		t.Errorf("changes: %+v, %v", list, err)
	}
}

// No entry of the audit is changed, or removed before its time, whoever asks.
func TestAuditStays(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	if _, err := s.AddOrg(t.Context(), Org{ID: "acme", Payload: "data"}); err != nil {
		t.Fatal(err)
	}
	for _, query := range []string{"UPDATE audit SET actor = 'nobody'", "DELETE FROM audit"} {
		err := s.w.do(t.Context(), func(x *txn) error {
			_, err := x.c.exec(query)
			return err
		})
		if err == nil {
			t.Errorf("%s: done", query)
		}
	}
	if list, err := s.ListAudit(t.Context(), "acme", 0, 10); err != nil || len(list) != 1 || list[0].Actor != itself {
		t.Errorf("%+v, %v", list, err)
	}
}

// SEC-28: an organization has so many tokens, and no more; those that are revoked or
// have expired do not count, and do not stay in memory.
func TestTokensHaveALimit(t *testing.T) {
	c := newClock()
	c.add(-3 * 365 * 24 * time.Hour) // the schema keeps audit entries for a year of the real time
	o := Options{Dir: t.TempDir(), Clock: c.read, tokens: 3}
	s := open(t, o)
	for _, org := range []string{"acme", "beta"} {
		if _, err := s.AddOrg(t.Context(), Org{ID: org, Payload: "data"}); err != nil {
			t.Fatal(err)
		}
	}
	add := func(org, text string) error {
		_, err := s.AddToken(t.Context(), Token{Org: org, Scopes: []string{"admin"}, ExpiresAt: c.read().Add(time.Hour)}, sha256.Sum256([]byte(text)))
		return err
	}
	revoked := addToken(t, s, c, "acme", "1")
	addToken(t, s, c, "acme", "2")
	addToken(t, s, c, "acme", "3")
	if err := add("acme", "4"); !errors.Is(err, ErrState) {
		t.Fatalf("one too many: %v, want %v", err, ErrState)
	}
	addToken(t, s, c, "beta", "b")
	addToken(t, s, c, "", "o")
	if err := s.RevokeToken(t.Context(), "acme", revoked.ID); err != nil {
		t.Fatal(err)
	}
	addToken(t, s, c, "acme", "5")
	shut(t, s)
	s = open(t, o)
	if err := add("acme", "6"); !errors.Is(err, ErrState) {
		t.Errorf("one too many after a restart: %v, want %v", err, ErrState)
	}
	holds(s, "2")
	c.add(time.Hour)
	if err := s.FlushTokens(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(s.tokens) != 0 || len(s.tokenIDs) != 0 || len(s.tokensOf) != 0 {
		t.Errorf("%d expired tokens are in memory", len(s.tokens))
	}
	addToken(t, s, c, "acme", "7")

	c.add(auditFor + 2*time.Hour)
	if _, err := s.Retain(t.Context(), RetainOptions{}); err != nil {
		t.Fatal(err)
	}
	if list, err := s.ListTokens(t.Context(), "acme", "", 10); err != nil || len(list) != 0 {
		t.Errorf("%d tokens are listed for longer than the audit: %v", len(list), err)
	}
}

func TestEndpointsHaveALimit(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir(), endpoints: 2})
	for _, org := range []string{"acme", "beta"} {
		if _, err := s.AddOrg(t.Context(), Org{ID: org, Payload: "data"}); err != nil {
			t.Fatal(err)
		}
	}
	first := addEndpoint(t, s, "acme")
	addEndpoint(t, s, "acme")
	again := first
	again.Secrets = first.Secrets[:1]
	if _, err := s.AddEndpoint(t.Context(), again, Start{}); !errors.Is(err, ErrState) {
		t.Fatalf("one too many: %v, want %v", err, ErrState)
	}
	addEndpoint(t, s, "beta")
	if err := s.RemoveEndpoint(t.Context(), "acme", first.ID); err != nil {
		t.Fatal(err)
	}
	addEndpoint(t, s, "acme")
}
