package httpapi_test

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi/httpapitest"
)

func public(s httpapi.Service) http.Handler {
	return httpapi.Public(httpapi.Options{
		Service: s, Log: slog.New(slog.DiscardHandler), Version: "test",
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "metrics here\n") }),
	})
}

// token makes one that holds for an hour.
func token(t *testing.T, s *httpapitest.Service, org string, scopes ...httpapi.Scope) httpapi.NewToken {
	t.Helper()
	made, err := s.AddToken(t.Context(), httpapi.Token{Org: org, Scopes: scopes, ExpiresAt: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// The door refuses in one order: who, whose, operator, scope, plan, form. (SEC-17)
func TestDoor(t *testing.T) {
	s := world(t)
	if _, err := s.AddOrg(t.Context(), httpapi.Org{ID: "beta", Payload: "data"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.AddOrg(t.Context(), httpapi.Org{ID: "trial", Payload: "data"}); err != nil {
		t.Fatal(err)
	}
	s.NoPlan = map[string]bool{"trial": true}
	h := public(s)
	reader, manager := token(t, s, "acme", httpapi.WebhooksRead), token(t, s, "acme", httpapi.WebhooksManage)
	admin, trial, operator := token(t, s, "acme", httpapi.Admin), token(t, s, "trial", httpapi.Admin), token(t, s, "", httpapi.Admin)
	expired, err := s.AddToken(t.Context(), httpapi.Token{Org: "acme", Scopes: []httpapi.Scope{httpapi.Admin}, ExpiresAt: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	revoked := token(t, s, "acme", httpapi.Admin)
	if err := s.RevokeToken(t.Context(), "acme", revoked.ID); err != nil {
		t.Fatal(err)
	}
	const endpoints, junk = "/api/v1/orgs/acme/endpoints", `{"nonsense":1}`
	for _, c := range []struct {
		name, auth, method, path, body string
		want                           string // the status, and what the answer must contain
	}{
		{"no token", "", "GET", endpoints, "", "401 unauthorized"},
		{"another scheme", "Basic " + reader.Text, "GET", endpoints, "", "401 unauthorized"},
		{"a bad token", "Bearer gk_nonsense", "GET", endpoints, "", "401 unauthorized"},
		{"an expired token", "Bearer " + expired.Text, "GET", endpoints, "", "401 unauthorized"},
		{"a revoked token", "Bearer " + revoked.Text, "GET", endpoints, "", "401 unauthorized"},
		{"no token and junk", "", "POST", endpoints, junk, "401 unauthorized"},
		{"a reader reads", "bearer " + reader.Text, "GET", endpoints, "", "200 hooks.example"},
		{"a reader cannot write, whatever it sends", "Bearer " + reader.Text, "POST", endpoints, junk, "403 webhooks:manage"},
		{"a manager can read", "Bearer " + manager.Text, "GET", endpoints, "", "200 hooks.example"},
		{"a manager sends junk", "Bearer " + manager.Text, "POST", endpoints, junk, "400 nonsense"},
		{"another organization", "Bearer " + admin.Text, "GET", "/api/v1/orgs/beta/endpoints", "", "404 no organization beta"},
		{"an organization that is not there", "Bearer " + admin.Text, "GET", "/api/v1/orgs/nobody/endpoints", "", "404 no organization nobody"},
		{"another organization without the scope", "Bearer " + reader.Text, "POST", "/api/v1/orgs/beta/endpoints", junk, "404 no organization beta"},
		{"an admin of an organization is no operator", "Bearer " + admin.Text, "GET", "/api/v1/orgs", "", "403 operator"},
		{"and cannot change its own plan", "Bearer " + admin.Text, "PATCH", "/api/v1/orgs/acme", `{"plan":"enterprise"}`, "403 operator"},
		{"an operator can", "Bearer " + operator.Text, "PATCH", "/api/v1/orgs/acme", `{"plan":"enterprise"}`, "200 enterprise"},
		{"an operator sees all organizations", "Bearer " + operator.Text, "GET", "/api/v1/orgs", "", "200 beta"},
		{"a plan without the feature", "Bearer " + trial.Text, "POST", "/api/v1/orgs/trial/endpoints", junk, `402 "feature_key": "outgoing_webhooks"`},
		{"nor for an operator that writes", "Bearer " + operator.Text, "POST", "/api/v1/orgs/trial/endpoints", junk, `402 outgoing_webhooks`},
		{"who can look", "Bearer " + operator.Text, "GET", "/api/v1/orgs/trial/endpoints", "", `200 "data"`},
		{"appending goes on without the feature", "Bearer " + trial.Text, "POST", "/api/v1/orgs/trial/events", `{"type":"a","data":1}`, `201 "seq"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var header []string
			if c.auth != "" {
				header = []string{"Authorization", c.auth}
			}
			got := ask(t, h, c.method, c.path, c.body, header...)
			status, contains, _ := strings.Cut(c.want, " ")
			if !strings.HasPrefix(got, status+"\n") || !strings.Contains(got, contains) {
				t.Errorf("want %s, got %s", c.want, got)
			}
			if strings.Contains(got, "gk_") && status != "401" {
				t.Errorf("shows a token: %s", got)
			}
		})
	}
}

// Another organization and one that does not exist cannot be told apart. (SEC-17)
func TestAnotherOrgLooksMissing(t *testing.T) {
	s := world(t)
	if _, err := s.AddOrg(t.Context(), httpapi.Org{ID: "beta", Payload: "data"}); err != nil {
		t.Fatal(err)
	}
	admin := token(t, s, "acme", httpapi.Admin)
	auth := []string{"Authorization", "Bearer " + admin.Text}
	h := public(s)
	there := ask(t, h, "GET", "/api/v1/orgs/beta/deliveries", "", auth...)
	missing := ask(t, h, "GET", "/api/v1/orgs/gone/deliveries", "", auth...)
	if got := strings.ReplaceAll(there, "beta", "gone"); got != missing {
		t.Errorf("%s\n%s", there, missing)
	}
}

// A request with an Idempotency-Key takes effect once.
func TestOnce(t *testing.T) {
	s := world(t)
	h := operator(s)
	const path, body = "/api/v1/orgs/acme/endpoints", `{"url":"https://hooks.example/once"}`
	key := []string{"Idempotency-Key", "k-1"}
	first, again := ask(t, h, "POST", path, body, key...), ask(t, h, "POST", path, body, key...)
	if first != again || !strings.HasPrefix(first, "201\n") || !strings.Contains(first, "whsec_") {
		t.Errorf("first %s\nagain %s", first, again)
	}
	if all, _ := s.Endpoints(t.Context(), "acme", "", 250); len(all) != 2 {
		t.Errorf("%d endpoints", len(all))
	}
	for name, got := range map[string]string{
		"another body": ask(t, h, "POST", path, `{"url":"https://hooks.example/two"}`, key...),
		"another path": ask(t, h, "POST", "/api/v1/orgs/acme/events", `{"type":"a","data":1}`, key...),
		"a bad key":    ask(t, h, "POST", path, body, "Idempotency-Key", strings.Repeat("k", 201)),
	} {
		if !strings.HasPrefix(got, "422\n") || !strings.Contains(got, "header.Idempotency-Key") {
			t.Errorf("%s: %s", name, got)
		}
	}
	// The key of another organization is another key.
	if got := ask(t, h, "POST", "/api/v1/orgs", `{"id":"beta"}`, key...); !strings.HasPrefix(got, "201\n") {
		t.Error(got)
	}
	const events = "/api/v1/orgs/acme/events"
	many := `[{"type":"a","data":1},{"type":"b","data":2}]`
	first, again = ask(t, h, "POST", events, many, "Idempotency-Key", "k-2"), ask(t, h, "POST", events, many, "Idempotency-Key", "k-2")
	if first != again || !strings.HasPrefix(first, "201\n") {
		t.Errorf("first %s\nagain %s", first, again)
	}
}

// The answer of a repeated request says that it is one.
func TestOnceSaysSo(t *testing.T) {
	s := world(t)
	h := operator(s)
	for i, want := range []string{"", "true"} {
		w := request(t, h, "POST", "/api/v1/orgs/acme/tokens", `{"scopes":["webhooks:read"]}`, "Idempotency-Key", "k")
		if got := w.Header().Get("Idempotent-Replayed"); got != want || w.Code != http.StatusCreated {
			t.Errorf("request %d: %d, %q", i, w.Code, got)
		}
	}
}
