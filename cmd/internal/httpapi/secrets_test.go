package httpapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi/httpapitest"
)

const endpoint = "/api/v1/orgs/acme/endpoints"

// secretly is a service with an endpoint that has headers, and its path.
func secretly(t *testing.T) (*httpapitest.Service, http.Handler, string) {
	t.Helper()
	s := httpapitest.New()
	if _, err := s.AddOrg(t.Context(), httpapi.Org{ID: "acme"}); err != nil {
		t.Fatal(err)
	}
	h := operator(s)
	w := request(t, h, http.MethodPost, endpoint, `{"url":"https://hooks.example/in","headers":{"authorization":"Bearer canary","x-tenant":"canary7"}}`)
	var made httpapi.EndpointCreated
	if err := json.Unmarshal(w.Body.Bytes(), &made); err != nil || made.Secret == "" {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return s, h, endpoint + "/" + made.ID
}

// Names of headers are shown and values never; a change can keep what it does
// not know, but not take it along to another origin.
func TestSEC21_HeadersOverTheAPI(t *testing.T) {
	for _, tc := range []struct {
		name, body string
		status     int
		want       string // of the headers, or of the bad field
	}{
		{"left alone", `{"description":"x"}`, 200, "Authorization X-Tenant"},
		{"one kept, one new", `{"headers":{"AUTHORIZATION":"[redacted]","X-New":"1"}}`, 200, "Authorization X-New"},
		{"dropped", `{"headers":{}}`, 200, ""},
		{"the same origin", `{"url":"https://hooks.example/other"}`, 200, "Authorization X-Tenant"},
		{"another origin", `{"url":"https://elsewhere.example/"}`, 422, "body.headers"},
		{"another origin, kept", `{"url":"https://elsewhere.example/","headers":{"Authorization":"[redacted]"}}`, 422, "body.headers"},
		{"another origin, given again", `{"url":"https://elsewhere.example/","headers":{"Authorization":"Bearer canary"}}`, 200, "Authorization"},
		{"another origin, dropped", `{"url":"https://elsewhere.example/","headers":{}}`, 200, ""},
		{"nothing to keep", `{"headers":{"X-New":"[redacted]"}}`, 422, "body.headers.X-New"},
		{"reserved", `{"headers":{"host":"canary"}}`, 422, "body.headers.host"},
		{"a bad value", `{"headers":{"X-A":"canary\n"}}`, 422, "body.headers.X-A"},
		{"a bad name", `{"headers":{"Bearer canary":"x"}}`, 422, "body.headers"},
		{"null", `{"headers":null}`, 422, "body.headers"},
		{"a number", `{"headers":{"X-A":7}}`, 422, "body.headers.X-A"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, h, one := secretly(t)
			w := request(t, h, http.MethodPatch, one, tc.body)
			if w.Code != tc.status || strings.Contains(w.Body.String(), "canary") {
				t.Errorf("%d, want %d without the value: %s", w.Code, tc.status, w.Body)
			}
			if tc.status != http.StatusOK {
				var p httpapi.Problem
				if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || len(p.Errors) == 0 || p.Errors[0].Location != tc.want {
					t.Errorf("errors %+v, %v, want %s", p.Errors, err, tc.want)
				}
				return
			}
			w = request(t, h, http.MethodGet, one, "")
			var got httpapi.EndpointBody
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			var names []string
			for name, value := range got.Headers {
				names = append(names, name)
				if value != "[redacted]" {
					t.Errorf("%s shows its value", name)
				}
			}
			slices.Sort(names)
			if s := strings.Join(names, " "); s != tc.want {
				t.Errorf("headers %q, want %q", s, tc.want)
			}
		})
	}
}

// A change that asks for a revision is made to that one only.
func TestEndpointETag(t *testing.T) {
	_, h, one := secretly(t)
	etag := request(t, h, http.MethodGet, one, "").Header().Get("ETag")
	if etag == "" {
		t.Fatal("no ETag")
	}
	for _, tc := range []struct {
		match  string
		status int
	}{
		{etag, http.StatusOK},
		{etag, http.StatusPreconditionFailed}, // it was changed by the first
		{"*", http.StatusOK},
		{"", http.StatusOK},
		{"W/" + etag, http.StatusPreconditionFailed},
		{`"another"`, http.StatusPreconditionFailed},
		{`"0"`, http.StatusPreconditionFailed},
	} {
		before := request(t, h, http.MethodGet, one, "").Header().Get("ETag")
		w := request(t, h, http.MethodPatch, one, `{"description":"x"}`, "If-Match", tc.match)
		after := request(t, h, http.MethodGet, one, "").Header().Get("ETag")
		if w.Code != tc.status || (before == after) != (tc.status != http.StatusOK) {
			t.Errorf("If-Match %s: %d, want %d; ETag %s, then %s\n%s", tc.match, w.Code, tc.status, before, after, w.Body)
		}
		if tc.status == http.StatusOK && w.Header().Get("ETag") != after {
			t.Errorf("If-Match %s: answered with ETag %s, and it is %s", tc.match, w.Header().Get("ETag"), after)
		}
	}
}

func TestRotateAndShowSecrets(t *testing.T) {
	s, h, one := secretly(t)
	show := func(method, path, body string) (int, httpapi.SecretBody, string) {
		t.Helper()
		w := request(t, h, method, path, body)
		var b httpapi.SecretBody
		json.Unmarshal(w.Body.Bytes(), &b)
		return w.Code, b, w.Body.String()
	}
	_, first, _ := show(http.MethodGet, one+"/secret", "")
	if first.Secret != httpapitest.Secret || len(first.Previous) != 0 {
		t.Errorf("the first secret: %+v", first)
	}
	code, second, text := show(http.MethodPost, one+"/rotate-secret", "")
	if code != http.StatusCreated || second.Secret == first.Secret || len(second.Previous) != 1 || strings.Contains(text, first.Secret) {
		t.Errorf("rotated without a body: %d %s", code, text)
	}
	if got := second.Previous[0].ExpiresAt.Sub(second.CreatedAt).String(); got != "24h0m0s" {
		t.Errorf("the older secret signs for %s", got)
	}
	const given = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	for n := 2; n <= 4; n++ {
		if code, _, text := show(http.MethodPost, one+"/rotate-secret", `{"overlap":"168h"}`); code != http.StatusCreated {
			t.Errorf("rotation %d: %d %s", n, code, text)
		}
	}
	code, _, text = show(http.MethodPost, one+"/rotate-secret", `{"overlap":"1h"}`)
	if code != http.StatusConflict || !strings.Contains(text, "5 secrets sign already") || !strings.Contains(text, "overlap of 0s") {
		t.Errorf("a sixth: %d %s", code, text)
	}
	code, last, _ := show(http.MethodPost, one+"/rotate-secret", `{"secret":"`+given+`","overlap":"0s"}`)
	if code != http.StatusCreated || last.Secret != given || len(last.Previous) != 0 {
		t.Errorf("after a leak: %d %+v", code, last)
	}
	if _, now, _ := show(http.MethodGet, one+"/secret", ""); cmp.Diff(last, now) != "" {
		t.Errorf("shown %+v, want %+v", now, last)
	}
	for body, want := range map[string]string{
		`{"overlap":"169h"}`:        "body.overlap",
		`{"overlap":"a day"}`:       "body.overlap",
		`{"secret":"whsec_canary"}`: "body.secret",
		`{"secert":"x"}`:            "body.secert",
		`{"secret":null}`:           "body.secret",
		`{"overlap":"-1h"}`:         "body.overlap",
		`{"secret":"` + given + `"`: "",
	} {
		if code, _, text := show(http.MethodPost, one+"/rotate-secret", body); code < 400 || code >= 500 || !strings.Contains(text, want) || strings.Contains(text, "canary") {
			t.Errorf("%s: %d %s", body, code, text)
		}
	}
	var actions []string
	entries, err := s.Audit(t.Context(), "acme", 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		actions = append(actions, strings.TrimPrefix(e.Action, "secret."))
	}
	if got, want := fmt.Sprint(actions), "[reveal rotate rotate rotate rotate rotate reveal endpoint.add org.add]"; got != want {
		t.Errorf("audit %s, want %s", got, want)
	}
}
