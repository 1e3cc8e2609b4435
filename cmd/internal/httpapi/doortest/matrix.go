package doortest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/stream"
)

// caller is somebody who asks.
type caller struct {
	name  string
	token string
	org   string          // "": an operator
	holds []httpapi.Scope // nil: the token does not hold
}

// Matrix tries each operation as everybody: who may not is refused as the
// contract says and changes nothing. (SEC-17, SEC-18, SEC-19)
func Matrix(t *testing.T, a *API) {
	a.begin(t)
	doc := a.document(t)
	operations := doc.operations()
	inTable(t, operations)
	callers, stranger := a.callers(t), a.token(t, other, httpapi.Admin)
	for _, o := range operations {
		acc, ok := accesses[o.name]
		if !ok {
			continue
		}
		t.Run(o.name, func(t *testing.T) {
			id := a.object(t, o, acc, own)
			before := a.state(t)
			for _, c := range callers {
				a.knock(t, o, acc, c, own, id)
				if o.has("org") {
					a.knock(t, o, acc, c, trial, id)
				}
			}
			a.hidden(t, o, acc, stranger, id)
			if diff := cmp.Diff(before, a.state(t)); diff != "" {
				t.Errorf("who may not has changed something (-before +after):\n%s", diff)
			}
		})
	}
}

// inTable compares the document with the table of who may what.
func inTable(t *testing.T, operations []operation) {
	t.Helper()
	var names []string
	for _, o := range operations {
		names = append(names, o.name)
	}
	slices.Sort(names)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(accesses)), names); diff != "" {
		t.Errorf("who may use the API's operations (access.go) is not what its document has (-table +document):\n%s", diff)
	}
}

func (a *API) callers(t *testing.T) []caller {
	t.Helper()
	revoked := a.tokenUntil(t, own, time.Now().Add(time.Hour), httpapi.Admin)
	if err := a.Service.RevokeToken(t.Context(), own, revoked.ID); err != nil {
		t.Fatal(err)
	}
	all := []caller{
		{name: "no token"},
		{name: "a bad token", token: "gk_nonsense"},
		{name: "a token that was never made", token: httpapi.NewTokenText()},
		{name: "an expired token", token: a.tokenUntil(t, own, time.Now().Add(-time.Second), httpapi.Admin).Text},
		{name: "a revoked token", token: revoked.Text},
	}
	for _, org := range []string{own, other, trial, ""} {
		for _, s := range httpapi.Scopes {
			c := caller{name: org + " with " + string(s), org: org, holds: []httpapi.Scope{s}}
			if org == "" {
				c.name = "an operator" + c.name
			}
			c.token = a.token(t, org, s)
			all = append(all, c)
		}
	}
	return all
}

// wanted is the status that the caller gets for the operation on org, 0 if it
// may use it.
func wanted(o operation, acc access, c caller, org string) int {
	mine := org
	if !o.has("org") {
		mine = c.org
	}
	switch {
	case c.holds == nil:
		return http.StatusUnauthorized
	case c.org != "" && c.org != mine:
		return http.StatusNotFound
	case acc.operator && c.org != "":
		return http.StatusForbidden
	case !allows(c.holds[0], acc.scope):
		return http.StatusForbidden
	case acc.tenant && c.org == "":
		return http.StatusUnprocessableEntity
	case acc.gated && mine == trial && (c.org != "" || o.method != http.MethodGet && o.method != http.MethodDelete):
		return http.StatusPaymentRequired
	}
	return 0
}

// allows is httpapi.Allows once more, by hand.
func allows(held, needed httpapi.Scope) bool {
	return held == needed || held == httpapi.Admin ||
		held == httpapi.WebhooksManage && needed == httpapi.WebhooksRead ||
		held == httpapi.CursorsManage && needed == httpapi.CursorsRead
}

// knock tries the operation as c. Who may not sends what would be right; who may
// sends what is refused after the door, for its form.
func (a *API) knock(t *testing.T, o operation, acc access, c caller, org, id string) {
	t.Helper()
	path, want := o.at(org, id), wanted(o, acc, c, org)
	passes := want == 0
	if passes {
		path, want = path+"?unheard_of=1", http.StatusBadRequest
	}
	got := a.ask(t, o.method, path, c.token, a.sendable(o))
	if got.status != want || passes && !strings.Contains(string(got.body), "unheard_of") {
		t.Errorf("%s, %s: %d, want %d\n%s", c.name, path, got.status, want, got.body)
		return
	}
	var p httpapi.Problem
	if err := json.Unmarshal(got.body, &p); err != nil || p.Status != want || got.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%s, %s: not a problem: %s", c.name, path, got.body)
	}
	switch want {
	case http.StatusUnauthorized:
		if got.header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s, %s: 401 without WWW-Authenticate", c.name, path)
		}
	case http.StatusForbidden:
		if !acc.operator && !strings.Contains(p.Detail, string(acc.scope)) {
			t.Errorf("%s, %s: 403 does not name the scope %s: %s", c.name, path, acc.scope, p.Detail)
		}
	case http.StatusPaymentRequired:
		if p.FeatureKey != "outgoing_webhooks" {
			t.Errorf("%s, %s: 402 does not name the feature: %s", c.name, path, got.body)
		}
	}
}

// hidden checks that to a stranger, who has an organization too, the object and
// the organization look exactly like missing ones.
func (a *API) hidden(t *testing.T, o operation, acc access, stranger, id string) {
	t.Helper()
	if !o.has("org") && !acc.tenant || acc.operator {
		return
	}
	if id != "" {
		none := unlike(id)
		a.alike(t, o, stranger, o.at(other, id), o.at(other, none), id, none)
	}
	if o.has("org") {
		a.alike(t, o, stranger, o.at(own, id), o.at(missing, id), own, missing)
	}
	if o.pages && !o.has("id") { // what is listed of one object was hidden with it
		a.apart(t, o, stranger)
	}
}

// apart checks that a list of the stranger's has nothing of ours, whatever it is
// asked for.
func (a *API) apart(t *testing.T, o operation, stranger string) {
	t.Helper()
	queries := []string{"?limit=250"}
	for _, id := range a.owned {
		switch {
		case !strings.HasSuffix(o.path, "/deliveries"):
		case strings.HasPrefix(id, "ep_"):
			queries = append(queries, "?endpoint_id="+id)
		case strings.HasPrefix(id, "evt_"):
			queries = append(queries, "?event_id="+id)
		}
	}
	for _, q := range queries {
		got := a.ask(t, o.method, o.at(other, "")+q, stranger, nil)
		if got.status != http.StatusOK {
			t.Errorf("%s of %s: %d %s", q, other, got.status, got.body)
		}
		for _, mine := range append([]string{`"` + own + `"`}, a.owned...) {
			if strings.Contains(string(got.body), mine) {
				t.Errorf("%s of %s shows %s: %s", q, other, mine, got.body)
			}
		}
	}
}

// unlike is an id of the same form that nothing has.
func unlike(id string) string {
	end := "0000"
	if strings.HasSuffix(id, end) {
		end = "1111"
	}
	return id[:len(id)-len(end)] + end
}

func (a *API) alike(t *testing.T, o operation, token, there, gone, is, isNot string) {
	t.Helper()
	shown := func(path string) string {
		got := a.ask(t, o.method, path, token, a.sendable(o))
		for _, h := range []string{"Date", "X-Request-Id"} {
			got.header.Del(h)
		}
		return fmt.Sprintf("%d %v\n%s", got.status, got.header, got.body)
	}
	first, second := shown(there), shown(gone)
	if !strings.HasPrefix(second, "404 ") || strings.ReplaceAll(first, is, isNot) != second {
		t.Errorf("%s and %s can be told apart:\n%s\n%s", there, gone, first, second)
	}
}

// state is what requests could have changed.
func (a *API) state(t *testing.T) map[string]any {
	t.Helper()
	const most = 250
	ctx := t.Context()
	all := map[string]any{}
	keep := func(name string, v any, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all[name] = fmt.Sprintf("%+v", v)
	}
	orgs, err := a.Service.Orgs(ctx, "", most)
	keep("orgs", orgs, err)
	entries, err := a.Service.Audit(ctx, "", 0, 1)
	keep("the last audit entry", entries, err)
	for _, org := range []string{own, other, trial} {
		endpoints, err := a.Service.Endpoints(ctx, org, "", most)
		for i := range endpoints {
			endpoints[i].Health = deliver.Health{} // the receiver fails whatever we ask
		}
		keep("endpoints of "+org, endpoints, err)
		events, _, err := a.Service.Events(ctx, org, httpapi.EventFilter{}, 0, 20)
		// The daemon tells by itself that the receiver fails.
		events = slices.DeleteFunc(events, func(e stream.Event) bool { return stream.Operational(e.Type) })
		keep("last event of "+org, events[:min(len(events), 1)], err)
	}
	return all
}
