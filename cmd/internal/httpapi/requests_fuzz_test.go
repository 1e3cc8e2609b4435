package httpapi_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi/httpapitest"
)

// Whatever is sent, the answer is JSON and the fault is never ours; a request
// that is repeated with its Idempotency-Key gets the same answer.
func FuzzRequests(f *testing.F) {
	routes := []struct{ method, path string }{
		{"POST", "/orgs"}, {"PATCH", "/orgs/acme"}, {"POST", "/orgs/acme/endpoints"}, {"POST", "/orgs/acme/events"},
		{"POST", "/orgs/acme/tokens"}, {"GET", "/orgs/acme/events"}, {"GET", "/orgs/acme/deliveries"}, {"GET", "/orgs/acme/audit"},
		{"PUT", "/event-types/a.b"}, {"POST", "/event-types/import"},
	}
	for i := range routes {
		for _, body := range []string{`{}`, `[{}]`, `{"id":"x","url":"https://x.example","type":"a","data":1,"scopes":["admin"]}`, `{"retry":{"initial":"99999999999999h"}}`, `null`, `{"id":`} {
			f.Add(i, body, "limit=1&cursor=x", "key")
		}
	}
	s := httpapitest.New()
	if _, err := s.AddOrg(f.Context(), httpapi.Org{ID: "acme", Payload: "data"}); err != nil {
		f.Fatal(err)
	}
	h := operator(s)
	f.Fuzz(func(t *testing.T, route int, body, query, key string) {
		if route < 0 || route >= len(routes) {
			return
		}
		ask := func() *httptest.ResponseRecorder {
			r := httptest.NewRequest(routes[route].method, "/api/v1"+routes[route].path, strings.NewReader(body))
			r.URL.RawQuery = query
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Idempotency-Key", key)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w
		}
		w := ask()
		if w.Code >= http.StatusInternalServerError || !json.Valid(w.Body.Bytes()) || !utf8.Valid(w.Body.Bytes()) {
			t.Fatalf("%s %s?%s: %d %s", routes[route].method, routes[route].path, url.QueryEscape(query), w.Code, w.Body)
		}
		if again := ask(); w.Code == http.StatusCreated && key != "" && (again.Code != w.Code || again.Body.String() != w.Body.String()) {
			t.Errorf("first %s\nagain %s", w.Body, again.Body)
		}
	})
}
