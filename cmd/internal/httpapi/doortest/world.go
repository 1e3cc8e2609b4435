package doortest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
)

// API is handlers under test. It has no organizations yet, no limits to rates, and
// a plan "trial" without outgoing webhooks that the organization trial has from
// its beginning.
type API struct {
	Service  httpapi.Service                             // behind the handlers
	Do       func(*http.Request) (*http.Response, error) // of httpapi.Public
	Receiver string                                      // URL for endpoints; it fails every request

	operator string   // a token's text
	made     int      // endpoints
	owned    []string // ids of what the organization own has
}

// The organizations of the tests.
const (
	own     = "alpha" // has one of everything
	other   = "beta"
	trial   = "trial" // its plan lacks outgoing webhooks
	missing = "gamma" // does not exist
)

// begin makes the organizations.
func (a *API) begin(t *testing.T) {
	t.Helper()
	a.operator = a.token(t, "", httpapi.Admin)
	for _, org := range []string{own, other, trial} {
		body := map[string]any{"id": org}
		if org == trial {
			body["plan"] = trial
		}
		a.must(t, http.MethodPost, "/api/v1/orgs", body)
	}
	for _, org := range []string{own, other} {
		a.must(t, http.MethodPost, "/api/v1/orgs/"+org+"/endpoints", map[string]any{"url": a.Receiver})
	}
}

// token makes one that holds for an hour.
func (a *API) token(t *testing.T, org string, scopes ...httpapi.Scope) string {
	t.Helper()
	return a.tokenUntil(t, org, time.Now().Add(time.Hour), scopes...).Text
}

func (a *API) tokenUntil(t *testing.T, org string, end time.Time, scopes ...httpapi.Scope) httpapi.NewToken {
	t.Helper()
	made, err := a.Service.AddToken(t.Context(), httpapi.Token{Org: org, Scopes: scopes, ExpiresAt: end})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// answer is what a request got.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// ask makes a request with that token ("": none), body (nil: none) and headers,
// names and values in turn.
func (a *API) ask(t *testing.T, method, path, token string, body any, header ...string) answer {
	t.Helper()
	var in io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		in = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, path, in)
	if err != nil {
		t.Fatal(err)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := a.Do(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return answer{resp.StatusCode, resp.Header, text}
}

// must makes a request as the operator that has to succeed.
func (a *API) must(t *testing.T, method, path string, body any) map[string]any {
	t.Helper()
	got := a.ask(t, method, path, a.operator, body)
	var object map[string]any
	if got.status >= 300 || json.Unmarshal(got.body, &object) != nil {
		t.Fatalf("%s %s: %d %s", method, path, got.status, got.body)
	}
	return object
}

// makers make the object that {id} stands for, behind that word of a path, in an
// organization; "" is the installation.
var makers = map[string]func(a *API, t *testing.T, org string) (id string){
	"endpoints":  (*API).endpoint,
	"webhooks":   (*API).endpoint,
	"events":     func(a *API, t *testing.T, org string) string { id, _ := a.event(t, org); return id },
	"deliveries": func(a *API, t *testing.T, org string) string { _, id := a.event(t, org); return id },
	"replays":    (*API).replay,
	"tokens": func(a *API, t *testing.T, org string) string {
		return a.tokenUntil(t, org, time.Now().Add(time.Hour), httpapi.WebhooksRead).ID
	},
}

func (a *API) endpoint(t *testing.T, org string) string {
	t.Helper()
	a.made++
	made := a.must(t, http.MethodPost, "/api/v1/orgs/"+org+"/endpoints",
		map[string]any{"url": a.Receiver, "event_types": []string{fmt.Sprintf("never.%d", a.made)}})
	return made["id"].(string)
}

// replay starts one that waits, since its endpoint is disabled.
func (a *API) replay(t *testing.T, org string) string {
	t.Helper()
	path := "/api/v1/orgs/" + org + "/endpoints/" + a.endpoint(t, org)
	a.must(t, http.MethodPatch, path, map[string]any{"disabled": true})
	return a.must(t, http.MethodPost, path+"/replay", map[string]any{})["id"].(string)
}

// event appends one and waits for a delivery of it.
func (a *API) event(t *testing.T, org string) (id, delivery string) {
	t.Helper()
	made := a.must(t, http.MethodPost, "/api/v1/orgs/"+org+"/events", map[string]any{"type": "door.tried", "data": 1})
	id = made["id"].(string)
	path := "/api/v1/orgs/" + org + "/deliveries?event_id=" + id
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if found := a.must(t, http.MethodGet, path, nil)["data"].([]any); len(found) > 0 {
			return id, found[0].(map[string]any)["id"].(string)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("event %s got no delivery", id)
		}
	}
}

// object makes what the operation's {id} stands for in the organization of its
// path, or of the token.
func (a *API) object(t *testing.T, o operation, acc access, org string) string {
	t.Helper()
	if o.has("type") { // which operation.at names
		a.must(t, http.MethodPut, "/api/v1/event-types/door.tried", map[string]any{"group": "doors"})
	}
	if !o.has("id") {
		return ""
	}
	before, _, _ := strings.Cut(o.path, "/{id}")
	kind := before[strings.LastIndex(before, "/")+1:]
	maker, ok := makers[kind]
	if !ok {
		t.Fatalf("%s: makers (world.go) does not know how to make one of the %s", o.name, kind)
	}
	if !o.has("org") && !acc.tenant {
		org = ""
	}
	id := maker(a, t, org)
	if org == own {
		a.owned = append(a.owned, id)
	}
	return id
}

// at is the operation's path with its parameters filled in.
func (o operation) at(org, id string) string {
	return strings.NewReplacer("{org}", org, "{id}", id, "{type}", "door.tried").Replace(o.path)
}

// sendable is the example of the operation's body with a URL that may be called.
func (a *API) sendable(o operation) any {
	body := plainly(o.body)
	if object, ok := body.(map[string]any); ok && object["url"] != nil {
		object["url"] = a.Receiver
	}
	return body
}
