package sqlite

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/sign"
	"pgregory.net/rapid"
)

// shown is an endpoint's secrets as text, newest first.
func shown(secrets []deliver.Secret) (lines []string) {
	for _, k := range secrets {
		lines = append(lines, fmt.Sprint(k.Reveal(), " ", k.CreatedAt.UnixMilli(), " ", toMillis(k.ExpiresAt)))
	}
	return lines
}

// After any sequence of rotations, clean-ups and restarts, the store has the secrets that
// the pure function says.
func TestSEC14_RotationsAreKept(t *testing.T) {
	c := newClock()
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		o := Options{Dir: dir, Clock: c.read, Synchronous: "NORMAL"}
		s := open(t, o)
		defer func() { shut(t, s) }()
		if _, err := s.GetOrg(t.Context(), "acme"); err != nil {
			newWalker(t, s, "acme", 0)
		}
		e := addEndpoint(t, s, "acme")
		want := e.Secrets
		pool := []sign.Secret{e.Secrets[0].Secret, sign.NewSecret(), sign.NewSecret(), sign.NewSecret(), sign.NewSecret(), sign.NewSecret(), sign.NewSecret()}
		check := func(what string) {
			got, err := s.GetEndpoint(t.Context(), "acme", e.ID)
			if err != nil {
				rt.Fatal(err)
			}
			if diff := cmp.Diff(shown(want), shown(got.Secrets)); diff != "" {
				rt.Fatalf("secrets after %s (-want +got):\n%s", what, diff)
			}
		}
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			c.add(time.Duration(rapid.IntRange(0, 30).Draw(rt, "hours")) * time.Hour)
			switch what := rapid.SampledFrom([]string{"a rotation", "a rotation", "a rotation", "a clean-up", "a restart"}).Draw(rt, "step"); what {
			case "a rotation":
				overlap := time.Duration(rapid.SampledFrom([]int{0, 1, 24, 48, 7 * 24}).Draw(rt, "overlap")) * time.Hour
				secret := rapid.SampledFrom(pool).Draw(rt, "secret")
				got, err := s.RotateSecret(t.Context(), "acme", e.ID, secret, overlap)
				next, wantErr := deliver.RotateSecrets(want, secret, c.read(), overlap)
				if errors.As(err, new(*deliver.SecretsError)) != (wantErr != nil) || errors.Is(err, ErrState) != (wantErr != nil) {
					rt.Fatalf("error %v, want %v", err, wantErr)
				}
				if err == nil {
					want = next
					if diff := cmp.Diff(shown(want), shown(got.Secrets)); diff != "" {
						rt.Fatalf("answer of the rotation (-want +got):\n%s", diff)
					}
				}
				check(what)
			case "a clean-up":
				if _, err := s.Retain(t.Context(), RetainOptions{}); err != nil {
					rt.Fatal(err)
				}
				want = slices.DeleteFunc(slices.Clone(want), func(k deliver.Secret) bool { return !k.Live(c.read()) })
				check(what)
			case "a restart":
				shut(t, s)
				s = open(t, o)
				check(what)
			}
		}
		rows, err := s.column(fmt.Sprintf("SELECT id FROM secrets WHERE endpoint = %d", e.Row))
		if err != nil || len(rows) != len(want) {
			rt.Fatalf("%d rows for %d secrets, %v", len(rows), len(want), err)
		}
	})
}

func TestRemovedEndpointsHaveNoSecrets(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	newWalker(t, s, "acme", 0)
	e := addSealed(t, s, "acme")
	var told deliver.Endpoint
	s.OnEndpointChanged(func(e deliver.Endpoint) { told = e })
	if err := s.RemoveEndpoint(t.Context(), "acme", e.ID); err != nil {
		t.Fatal(err)
	}
	if rows, err := s.column("SELECT id FROM secrets UNION ALL SELECT id FROM endpoints WHERE headers IS NOT NULL"); err != nil || len(rows) != 0 {
		t.Errorf("%d rows are left, %v", len(rows), err)
	}
	if len(told.Secrets) != 0 || len(told.Headers) != 0 {
		t.Error("whoever was told of the removal was told secrets")
	}
}

// A change is whole or not at all, and only for the revision that it was meant for.
func TestEndpointRevisions(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	ctx := t.Context()
	newWalker(t, s, "acme", 0)
	e := addSealed(t, s, "acme") // added and rotated
	step := func(what string, want int64, e deliver.Endpoint, err error) {
		t.Helper()
		if err != nil || e.Revision != want {
			t.Errorf("%s: revision %d, want %d, %v", what, e.Revision, want, err)
		}
	}
	step("rotated", 2, e, nil)
	e, err := s.SetEndpoint(ctx, "acme", e.ID, EndpointChange{Description: ptr("x"), Disabled: ptr(true), Revision: 2})
	step("changed and disabled at once", 3, e, err)
	if e.Enabled() || e.Description != "x" || e.DisabledReason != deliver.DisabledManual {
		t.Errorf("endpoint %+v", e)
	}
	if _, err := s.SetEndpoint(ctx, "acme", e.ID, EndpointChange{Description: ptr("late"), Disabled: ptr(false), Revision: 2}); !errors.Is(err, ErrRevision) {
		t.Errorf("a change for an older revision: %v", err)
	}
	e, err = s.SetEndpoint(ctx, "acme", e.ID, EndpointChange{Description: ptr("x"), Disabled: ptr(true)})
	step("changed nothing", 3, e, err)
	e, err = s.DisableEndpoint(ctx, "acme", e.ID, "again")
	step("disabled again", 3, e, err)
	if _, err := s.SetEndpoint(ctx, "acme", e.ID, EndpointChange{URL: ptr("https://elsewhere.example/"), Description: ptr("y")}); !errors.Is(err, deliver.ErrOrigin) {
		t.Errorf("SEC-21: another origin with the same headers: %v", err)
	}
	if e, err = s.GetEndpoint(ctx, "acme", e.ID); e.Description != "x" || e.Headers[0].Value.Reveal() != canary {
		t.Errorf("a refused change did something: %+v, %v", e, err)
	}
	e, err = s.SetEndpoint(ctx, "acme", e.ID, EndpointChange{URL: ptr("https://elsewhere.example/?token=hidden"), Headers: &[]deliver.Header{}, Disabled: ptr(false)})
	step("moved without headers, and enabled", 4, e, err)
	if len(e.Headers) != 0 || !e.Enabled() {
		t.Errorf("endpoint %+v", e)
	}
	var actions []string
	audit, err := s.ListAudit(ctx, "acme", 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range slices.Backward(audit) {
		actions = append(actions, a.Action)
		if text := fmt.Sprint(a.Changes); strings.Contains(text, "hidden") {
			t.Errorf("the audit has the URL's query: %s", text)
		}
	}
	want := []string{"org.add", "endpoint.add", "secret.rotate", "endpoint.change", "endpoint.disable", "endpoint.change", "endpoint.enable"}
	if diff := cmp.Diff(want, actions); diff != "" {
		t.Errorf("audit (-want +got):\n%s", diff)
	}
}

// A change can bring a secret, which takes the place of all others at once, in the
// form of whatever format; it is kept, and the audit notes it without its text.
func TestSecretOfAChange(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	newWalker(t, s, "acme", 0)
	e := addEndpoint(t, s, "acme")
	if _, err := s.RotateSecret(t.Context(), "acme", e.ID, sign.NewSecret(), time.Hour); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []sign.Secret{sign.Ed25519.NewSecret(), brought(t), sign.NewSecret()} {
		before, err := s.ListAudit(t.Context(), "acme", 0, 1)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.SetEndpoint(t.Context(), "acme", e.ID, EndpointChange{Secret: secret})
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Secrets) != 1 || !got.Secrets[0].Equal(secret) || got.Revision <= e.Revision {
			t.Fatalf("%d secrets, revision %d", len(got.Secrets), got.Revision)
		}
		e = got
		shut(t, s)
		s = open(t, Options{Dir: dir})
		if got, err = s.GetEndpoint(t.Context(), "acme", e.ID); err != nil || !slices.Equal(shown(got.Secrets), shown(e.Secrets)) {
			t.Fatalf("after a restart %d secrets: %v", len(got.Secrets), err)
		}
		after, err := s.ListAudit(t.Context(), "acme", 0, 1)
		if err != nil || after[0].ID == before[0].ID || after[0].Action != "secret.rotate" || strings.Contains(fmt.Sprint(after[0].Changes), secret.Reveal()) {
			t.Errorf("the audit: %+v %v", after, err)
		}
	}
	shut(t, s)
}

func brought(t *testing.T) sign.Secret {
	t.Helper()
	s, err := sign.SHA256Hex.ParseSecret("a secret of another platform")
	if err != nil {
		t.Fatal(err)
	}
	return s
}
