package sqlite

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/sign"
)

func credentials(t testing.TB) deliver.Credentials {
	t.Helper()
	ca, err := os.ReadFile("../testdata/credentials/authority.pem")
	if err != nil {
		t.Fatal(err)
	}
	return deliver.Credentials{
		Auth: deliver.Auth{Type: deliver.AuthOAuth2, TokenURL: "https://login.example/token", ClientID: "grapnel",
			ClientSecret: deliver.NewHidden("canary-of-the-client"), Scopes: []string{"a", "b"}, Audience: "hooks"},
		TLS: deliver.Identity{CA: string(ca)},
	}
}

func addAuthenticated(t testing.TB, s *Store, org string) deliver.Endpoint {
	t.Helper()
	c := credentials(t)
	e, err := s.AddEndpoint(t.Context(), deliver.Endpoint{
		Org: org, URL: "https://example.com/hook", EventTypes: []string{"*"}, Secrets: []deliver.Secret{{Secret: sign.NewSecret()}}, Credentials: &c,
		Timeout: deliver.DefaultTimeout, Retry: deliver.DefaultPolicy, Concurrency: deliver.DefaultConcurrency,
	}, Start{})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestSEC13_CredentialsAreSealed(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	newWalker(t, s, "acme", 0)
	e := addAuthenticated(t, s, "acme")
	has := func(what string, want bool) {
		t.Helper()
		got, err := s.GetEndpoint(t.Context(), "acme", e.ID)
		if err != nil || want != (got.Credentials != nil && got.Credentials.Equal(credentials(t))) {
			t.Errorf("%s: %+v, %v", what, got.Credentials, err)
		}
	}
	has("made", true)
	if _, err := s.RotateKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	shut(t, s)
	data, err := os.ReadFile(filepath.Join(dir, FileName))
	if err != nil || bytes.Contains(data, []byte("canary")) || bytes.Contains(data, []byte("login.example")) {
		t.Errorf("the database shows credentials, %v", err)
	}
	s = open(t, Options{Dir: dir})
	has("with another key, after a restart", true)
	rename := "x"
	if _, err := s.SetEndpoint(t.Context(), "acme", e.ID, EndpointChange{Description: &rename}); err != nil {
		t.Fatal(err)
	}
	has("after another change", true)
	if _, err := s.SetEndpoint(t.Context(), "acme", e.ID, EndpointChange{Credentials: deliver.CredentialsChange{Auth: &deliver.Auth{}, TLS: &deliver.Identity{}}}); err != nil {
		t.Fatal(err)
	}
	has("dropped", false)
	shut(t, s)
	s = open(t, Options{Dir: dir})
	has("dropped, after a restart", false)
}

func TestSEC12_SwappedCredentialsDoNotOpen(t *testing.T) {
	for name, swap := range map[string]string{
		"of two organizations": "UPDATE endpoints SET credentials = (SELECT credentials FROM endpoints o WHERE o.id = 3 - endpoints.id) WHERE id IN (1, 2)",
		"of two endpoints":     "UPDATE endpoints SET credentials = (SELECT credentials FROM endpoints o WHERE o.id = 4 - endpoints.id) WHERE id IN (1, 3)",
		"as headers":           "UPDATE endpoints SET headers = credentials",
	} {
		dir := t.TempDir()
		s := open(t, Options{Dir: dir})
		newWalker(t, s, "acme", 0)
		newWalker(t, s, "clinic", 0)
		for _, org := range []string{"acme", "clinic", "acme"} {
			addAuthenticated(t, s, org)
		}
		shut(t, s)
		alter(t, filepath.Join(dir, FileName), swap)
		s, err := Open(t.Context(), Options{Dir: dir})
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: opens with %v, want ErrCorrupt", name, err)
		}
		if s != nil {
			shut(t, s)
		}
	}
}

func TestSEC21_CredentialsStayAtTheirOrigin(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	newWalker(t, s, "acme", 0)
	e := addAuthenticated(t, s, "acme")
	elsewhere, beside, plain := "https://elsewhere.example/", "https://EXAMPLE.com:443/other", "http://example.com/"
	fails := func(what string, c EndpointChange, field string) {
		t.Helper()
		_, err := s.SetEndpoint(t.Context(), "acme", e.ID, c)
		var bad *deliver.CredentialsError
		if !errors.As(err, &bad) || bad.Field != field {
			t.Errorf("%s: %v, want an error of %s", what, err, field)
		}
	}
	own := []deliver.Header{{Name: "Authorization", Value: deliver.NewHeaderValue("Bearer x")}}
	c := credentials(t)
	fails("another origin", EndpointChange{URL: &elsewhere}, "auth")
	fails("another origin, authenticated again", EndpointChange{URL: &elsewhere, Credentials: deliver.CredentialsChange{Auth: &c.Auth}}, "tls")
	fails("without TLS", EndpointChange{URL: &plain, Credentials: deliver.CredentialsChange{Auth: &c.Auth, TLS: &c.TLS}}, "tls")
	fails("a header of the same name", EndpointChange{Headers: &own}, "auth")
	got, err := s.SetEndpoint(t.Context(), "acme", e.ID, EndpointChange{URL: &beside})
	if err != nil || got.Credentials == nil {
		t.Errorf("the same origin: %+v, %v", got.Credentials, err)
	}
	if got, err = s.SetEndpoint(t.Context(), "acme", e.ID, EndpointChange{URL: &elsewhere, Headers: &own,
		Credentials: deliver.CredentialsChange{Auth: &deliver.Auth{}, TLS: &c.TLS}}); err != nil || !got.Credentials.Auth.IsZero() {
		t.Errorf("dropped, and a header in its place: %+v, %v", got.Credentials, err)
	}
	audit, err := s.ListAudit(t.Context(), "acme", 0, 2)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprint(audit)
	if diff := cmp.Diff([2]any{"oauth2", ""}, audit[0].Changes["auth"]); diff != "" || strings.Contains(text, "canary") || strings.Contains(text, "CERTIFICATE") {
		t.Errorf("audit %s\n%s", text, diff)
	}
}

func TestRemovedEndpointsHaveNoCredentials(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	newWalker(t, s, "acme", 0)
	e := addAuthenticated(t, s, "acme")
	told := e
	s.OnEndpointChanged(func(e deliver.Endpoint) { told = e })
	if err := s.RemoveEndpoint(t.Context(), "acme", e.ID); err != nil {
		t.Fatal(err)
	}
	rows, err := s.column("SELECT id FROM endpoints WHERE credentials IS NOT NULL")
	if err != nil || len(rows) != 0 || told.Credentials != nil {
		t.Errorf("%d rows are left, told %+v, %v", len(rows), told.Credentials, err)
	}
}
