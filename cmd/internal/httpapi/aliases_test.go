package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi/httpapitest"
)

const (
	subscribePath = "/api/v1/portal/webhooks/subscribe"
	rotatePath    = "/api/v1/portal/webhooks/{ep}/rotate-secret"
	replayPath    = "/api/v1/integrations/events/{evt}/replay"
	adminPath     = "/api/admin/webhooks"
)

// exchange makes a request with the token and returns request and answer, all
// bytes but those of the token and of the headers that every answer has.
func exchange(t *testing.T, h http.Handler, token, method, path, body string) string {
	t.Helper()
	out := &bytes.Buffer{}
	fmt.Fprintf(out, "%s %s HTTP/1.1\nAuthorization: Bearer gk_…\n", method, path)
	if body != "" {
		fmt.Fprintf(out, "Content-Type: application/json\n\n%s\n", body)
	}
	w := request(t, h, method, path, body, "Authorization", "Bearer "+token)
	fmt.Fprintf(out, "\nHTTP/1.1 %d %s\n", w.Code, http.StatusText(w.Code))
	everywhere := map[string]bool{"X-Content-Type-Options": true, "X-Request-Id": true, "Cache-Control": true, "Content-Security-Policy": true}
	if err := w.Result().Header.WriteSubset(out, everywhere); err != nil {
		t.Fatal(err)
	}
	out.WriteString("\n")
	w.Body.WriteTo(out)
	return strings.ReplaceAll(out.String(), "\r\n", "\n")
}

// Each path of the earlier platforms, all bytes of the request and of the answer.
func TestAliases(t *testing.T) {
	const hook = `{"name":"PSA","url":"https://psa.example/in","events":["ticket.updated","ticket.closed"],"is_active":false}`
	for _, c := range []struct{ name, method, path, body string }{
		{"subscribe", "POST", subscribePath, `{"url":"https://mes.example/in","event_types":["order.*"],"description":"shop floor","workspace_id":"line-4"}`},
		{"subscribe-events", "POST", subscribePath, `{"url":"https://mes.example/in","events":["order.released"],"secret":"` + httpapitest.Secret + `"}`},
		{"subscribe-least", "POST", subscribePath, `{"url":"https://mes.example/in"}`},
		{"subscribe-both", "POST", subscribePath, `{"url":"https://mes.example/in","events":["a"],"event_types":["b"]}`},
		{"subscribe-bad", "POST", subscribePath, `{"url":"http://mes.example/in"}`},
		{"subscribe-unknown", "POST", subscribePath, `{"url":"https://mes.example/in","event":"a"}`},
		{"rotate", "POST", rotatePath, ""},
		{"rotate-given", "POST", rotatePath, `{"secret":"whsec_bmV3LXNlY3JldC1vZi10aGUtc2hvcC1mbG9vci4uLi4=","overlap":"1h"}`},
		{"rotate-leaked", "POST", rotatePath, `{"overlap":"0s"}`},
		{"rotate-long", "POST", rotatePath, `{"overlap":"169h"}`},
		{"rotate-missing", "POST", "/api/v1/portal/webhooks/ep_x/rotate-secret", ""},
		{"integration-events", "GET", "/api/v1/integrations/events", ""},
		{"integration-events-page", "GET", "/api/v1/integrations/events?limit=1&event_type=invoice.paid", ""},
		{"webhook-logs", "GET", "/api/v1/integrations/webhooks", ""},
		{"webhook-logs-page", "GET", "/api/v1/integrations/webhooks?limit=1&status=dead&subscription_id={ep}&event_id={evt}", ""},
		{"webhook-logs-bad", "GET", "/api/v1/integrations/webhooks?status=lost&page=2", ""},
		{"replay", "POST", replayPath, ""},
		{"replay-one", "POST", replayPath, `{"subscription_id":"{ep}"}`},
		{"replay-nobody", "POST", replayPath, `{"subscription_id":"ep_x"}`},
		{"replay-unknown", "POST", replayPath, `{"endpoint_id":"{ep}"}`},
		{"replay-missing", "POST", "/api/v1/integrations/events/evt_x/replay", ""},
		{"admin-add", "POST", adminPath, hook},
		{"admin-add-bad", "POST", adminPath, `{"name":"PSA","url":"http://psa.example/in","events":["a"]}`},
		{"admin-add-no-events", "POST", adminPath, `{"name":"PSA","url":"https://psa.example/in","events":[]}`},
		{"admin-list", "GET", adminPath, ""},
		{"admin-show", "GET", adminPath + "/{ep}", ""},
		{"admin-show-missing", "GET", adminPath + "/ep_x", ""},
		{"admin-replace", "PUT", adminPath + "/{ep}", `{"url":"https://psa.example/two","events":["*"]}`},
		{"admin-replace-all", "PUT", adminPath + "/{ep}", hook},
		{"admin-replace-part", "PUT", adminPath + "/{ep}", `{"is_active":false}`},
		{"admin-change", "PATCH", adminPath + "/{ep}", `{"is_active":false}`},
		{"admin-change-null", "PATCH", adminPath + "/{ep}", `{"events":null}`},
		{"admin-change-missing", "PATCH", adminPath + "/ep_x", `{"name":"x"}`},
		{"admin-remove", "DELETE", adminPath + "/{ep}", ""},
		{"admin-remove-missing", "DELETE", adminPath + "/ep_x", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := world(t)
			known := names(t, s)
			golden(t, "aliases/"+c.name+".txt", exchange(t, public(s), token(t, s, "acme", httpapi.WebhooksManage).Text, c.method, known.Replace(c.path), known.Replace(c.body)))
		})
	}
}

// aliasRoutes are one request for each alias, and the scope that it takes.
var aliasRoutes = []struct {
	method, path, body string
	scope              httpapi.Scope
}{
	{"POST", subscribePath, `{"url":"https://mes.example/in"}`, httpapi.WebhooksManage},
	{"POST", rotatePath, "", httpapi.WebhooksManage},
	{"GET", "/api/v1/integrations/events", "", httpapi.WebhooksRead},
	{"GET", "/api/v1/integrations/webhooks", "", httpapi.WebhooksRead},
	{"POST", replayPath, "", httpapi.WebhooksManage},
	{"POST", adminPath, `{"url":"https://psa.example/in","events":["*"]}`, httpapi.WebhooksManage},
	{"GET", adminPath, "", httpapi.WebhooksRead},
	{"GET", adminPath + "/{ep}", "", httpapi.WebhooksRead},
	{"PUT", adminPath + "/{ep}", `{"url":"https://psa.example/in","events":["*"]}`, httpapi.WebhooksManage},
	{"PATCH", adminPath + "/{ep}", `{"is_active":false}`, httpapi.WebhooksManage},
	{"DELETE", adminPath + "/{ep}", "", httpapi.WebhooksManage},
}

// The door of the aliases is that of all routes, and the organization is the
// token's: an operator, with or without a token, has none.
func TestAliasesTakeTheTokensOrg(t *testing.T) {
	for _, r := range aliasRoutes {
		t.Run(r.method+" "+r.path, func(t *testing.T) {
			s := world(t)
			path := names(t, s).Replace(r.path)
			for _, org := range []string{"beta", "trial"} {
				if _, err := s.AddOrg(t.Context(), httpapi.Org{ID: org, Payload: "data"}); err != nil {
					t.Fatal(err)
				}
			}
			s.NoPlan = map[string]bool{"trial": true}
			h := public(s)
			other := httpapi.WebhooksRead
			if r.scope == other {
				other = httpapi.EventsWrite
			}
			for _, c := range []struct {
				name string
				h    http.Handler
				auth string
				want string // the status, and what the answer must contain
			}{
				{"no token", h, "", "401 unauthorized"},
				{"without the scope", h, token(t, s, "acme", other).Text, "403 " + string(r.scope)},
				{"an operator's token", h, token(t, s, "", httpapi.Admin).Text, "422 header.Authorization"},
				{"the socket", operator(s), "", "422 /api/v1/orgs/{org}"},
				{"a plan without webhooks", h, token(t, s, "trial", httpapi.Admin).Text, `402 "feature_key": "outgoing_webhooks"`},
			} {
				var header []string
				if c.auth != "" {
					header = []string{"Authorization", "Bearer " + c.auth}
				}
				got := ask(t, c.h, r.method, path, r.body, header...)
				status, contains, _ := strings.Cut(c.want, " ")
				if !strings.HasPrefix(got, status+"\n") || !strings.Contains(got, contains) {
					t.Errorf("%s: want %s, got %s", c.name, c.want, got)
				}
			}
			got := ask(t, h, r.method, path, r.body, "Authorization", "Bearer "+token(t, s, "beta", httpapi.Admin).Text)
			if strings.Contains(r.path, "{") && !strings.HasPrefix(got, "404\n") || strings.Contains(got, "hooks.example") {
				t.Errorf("another organization's token got %s", got)
			}
			if got := ask(t, h, r.method, path, r.body, "Authorization", "Bearer "+token(t, s, "acme", r.scope).Text); !strings.HasPrefix(got, "20") {
				t.Errorf("with the scope: %s", got)
			}
		})
	}
}

// What an alias changes is in the audit as what our own operation changes.
func TestAliasesAreAudited(t *testing.T) {
	s := world(t)
	h, by := public(s), token(t, s, "acme", httpapi.WebhooksManage)
	path := names(t, s).Replace(adminPath + "/{ep}")
	before, err := s.Audit(t.Context(), "acme", 0, 250)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range [][3]string{
		{"POST", subscribePath, `{"url":"https://mes.example/in"}`},
		{"POST", names(t, s).Replace(rotatePath), ""},
		{"POST", names(t, s).Replace(replayPath), ""},
		{"PATCH", path, `{"name":"x"}`},
		{"DELETE", path, ""},
	} {
		ask(t, h, r[0], r[1], r[2], "Authorization", "Bearer "+by.Text)
	}
	after, err := s.Audit(t.Context(), "acme", 0, 250)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range after[:len(after)-len(before)] {
		if e.Actor != by.ID {
			t.Errorf("%s by %s, want %s", e.Action, e.Actor, by.ID)
		}
		got = append(got, e.Action)
	}
	if want := "[endpoint.remove endpoint.change event.replay secret.rotate endpoint.add]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

// A creating alias honours an Idempotency-Key, and its answer is kept in its own
// shape.
func TestAliasesMakeOnce(t *testing.T) {
	for path, body := range map[string]string{
		subscribePath: `{"url":"https://mes.example/in"}`,
		adminPath:     `{"name":"PSA","url":"https://psa.example/in","events":["*"]}`,
	} {
		s := world(t)
		h, by := public(s), token(t, s, "acme", httpapi.WebhooksManage)
		send := func() *httptest.ResponseRecorder {
			return request(t, h, "POST", path, body, "Authorization", "Bearer "+by.Text, "Idempotency-Key", "k-1")
		}
		first, again := send(), send()
		if first.Code != http.StatusCreated || again.Code != http.StatusCreated || first.Body.String() != again.Body.String() {
			t.Errorf("%s: first %d %s, again %d %s", path, first.Code, first.Body, again.Code, again.Body)
		}
		if again.Header().Get("Idempotent-Replayed") != "true" {
			t.Errorf("%s: the repeated answer does not say so", path)
		}
		if all, _ := s.Endpoints(context.Background(), "acme", "", 250); len(all) != 2 {
			t.Errorf("%s: %d endpoints, want 2", path, len(all))
		}
	}
}

// Whoever moves from an earlier platform finds every path, parameter and field of
// the aliases in the page for it.
func TestAliasesAreExplained(t *testing.T) {
	page, err := os.ReadFile("../../../docs/earlier-platforms.md")
	if err != nil {
		t.Fatal(err)
	}
	type schema struct {
		Ref        string `json:"$ref"`
		Items      *schema
		Properties map[string]*schema
	}
	type content map[string]struct{ Schema *schema }
	var doc struct {
		Paths map[string]map[string]struct {
			Tags        []string
			Parameters  []struct{ Name string }
			RequestBody struct{ Content content }
			Responses   map[string]struct{ Content content }
		}
		Components struct{ Schemas map[string]*schema }
	}
	if err := json.Unmarshal(request(t, operator(httpapitest.New()), "GET", "/openapi.json", "").Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	explained := func(what, word string) {
		if !bytes.Contains(page, []byte("`"+word+"`")) && !bytes.Contains(page, []byte(word+"\n")) && !bytes.Contains(page, []byte(" "+word+"`")) {
			t.Errorf("%s: the page lacks %s", what, word)
		}
	}
	var fields func(what string, s *schema)
	fields = func(what string, s *schema) {
		for s != nil && s.Ref != "" {
			s = doc.Components.Schemas[strings.TrimPrefix(s.Ref, "#/components/schemas/")]
		}
		if s == nil {
			return
		}
		fields(what, s.Items)
		for name, p := range s.Properties {
			if name != "data" { // of a list
				explained(what, name)
			}
			fields(what, p)
		}
	}
	n := 0
	for path, operations := range doc.Paths {
		for method, op := range operations {
			if !slices.Contains(op.Tags, "earlier platforms") {
				continue
			}
			n++
			what := strings.ToUpper(method) + " " + path
			explained(what, what)
			for _, p := range op.Parameters {
				if p.Name != "id" {
					explained(what, p.Name)
				}
			}
			for _, c := range op.RequestBody.Content {
				fields(what, c.Schema)
			}
			for status, r := range op.Responses {
				for _, c := range r.Content {
					if status < "3" {
						fields(what, c.Schema)
					}
				}
			}
		}
	}
	if n != len(aliasRoutes) {
		t.Errorf("%d operations, and %d requests to try them", n, len(aliasRoutes))
	}
}
