package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi/httpapitest"
	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

var update = flag.Bool("update", false, "write the goldens")

// world is a service with an organization, an endpoint and two events, one of
// which is dead.
func world(t *testing.T) *httpapitest.Service {
	t.Helper()
	s := httpapitest.New()
	ctx := t.Context()
	if _, err := s.AddOrg(ctx, httpapi.Org{ID: "acme", Name: "Acme Ltd", Payload: "data"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.AddEndpoint(ctx, httpapi.NewEndpoint{
		Org: "acme", URL: "https://hooks.example/in", EventTypes: []string{"invoice.*"},
		Timeout: deliver.DefaultTimeout, Retry: deliver.DefaultPolicy, Concurrency: deliver.DefaultConcurrency,
	}); err != nil {
		t.Fatal(err)
	}
	add := func(key string) {
		t.Helper()
		if _, err := s.Append(ctx, "acme", []httpapi.NewEvent{{
			Type: "invoice.paid", DedupeKey: key, Source: "billing", Data: json.RawMessage(`{"invoice":"` + key + `"}`),
		}}); err != nil {
			t.Fatal(err)
		}
	}
	add("in_1")
	s.Attempt("acme", deliver.Outcome{
		Class: deliver.HTTP5xx, Status: 503, Duration: 12345678, RetryAfter: 3e9,
		Header: http.Header{"Content-Type": {"text/plain"}, "Retry-After": {"3"}}, Body: []byte("try \xff later"), Truncated: true,
		Timings: deliver.Timings{DNS: 1e6, Connect: 2e6, TLS: 3e6, FirstByte: 4567890}, Address: "203.0.113.7:443",
	}, deliver.Dead, deliver.Exhausted)
	add("in_2")
	return s
}

// authority is the PEM of an authority, as a JSON string.
func authority(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../../testdata/credentials/authority.pem")
	if err != nil {
		t.Fatal(err)
	}
	quoted, err := json.Marshal(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return string(quoted)
}

func operator(s httpapi.Service) http.Handler {
	return httpapi.Operator(httpapi.Options{
		Service: s, Log: slog.New(slog.DiscardHandler), Version: "test",
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "metrics here\n") }),
	})
}

// ask makes a request and returns the answer as text: status, the headers that
// matter, and the body with indented JSON.
func ask(t *testing.T, h http.Handler, method, path, body string, header ...string) string {
	t.Helper()
	w := request(t, h, method, path, body, header...)
	out := &bytes.Buffer{}
	fmt.Fprintf(out, "%d\n", w.Code)
	for _, name := range []string{"Content-Type", "Retry-After", "Allow"} {
		if v := w.Header().Get(name); v != "" {
			fmt.Fprintf(out, "%s: %s\n", name, v)
		}
	}
	if w.Body.Len() > 0 && json.Indent(out, bytes.TrimSpace(w.Body.Bytes()), "", "  ") != nil {
		out.Write(bytes.TrimSpace(w.Body.Bytes()))
	}
	return strings.TrimSpace(out.String()) + "\n"
}

// request makes a request with that body and those headers, names and values in
// turn.
func request(t *testing.T, h http.Handler, method, path, body string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	r := httptest.NewRequestWithContext(t.Context(), method, path, in)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// golden compares with testdata/name, or writes it with -update.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got, -update to accept):\n%s", file, diff)
	}
}

// names are the ids that the fake gave.
func names(t *testing.T, s *httpapitest.Service) *strings.Replacer {
	t.Helper()
	ctx := context.Background()
	eps, err := s.Endpoints(ctx, "acme", "", 1)
	if err != nil {
		t.Fatal(err)
	}
	ds, _, err := s.Deliveries(ctx, "acme", httpapi.DeliveryFilter{}, deliver.Key{}, 2)
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer("{ep}", eps[0].ID, "{dlv}", ds[1].ID(ds[1].Stored), "{pending}", ds[0].ID(ds[0].Stored),
		"{evt}", stream.KeyID("acme", "in_1").String())
}

func TestAnswers(t *testing.T) {
	deep := strings.Repeat("[", 70) + strings.Repeat("]", 70)
	cases := []struct {
		name, method, path, body string
		header                   []string
	}{
		{name: "org-add", method: "POST", path: "/orgs", body: `{"id":"clinic","name":"Clinic","payload":"envelope","subjects":["webhook.>"]}`},
		{name: "org-add-defaults", method: "POST", path: "/orgs", body: `{"id":"clinic"}`},
		{name: "org-add-exists", method: "POST", path: "/orgs", body: `{"id":"acme"}`},
		{name: "org-add-bad", method: "POST", path: "/orgs", body: `{"id":"a.b","payload":"xml","Name":"x","plan":null}`},
		{name: "org-add-empty", method: "POST", path: "/orgs", body: `{}`},
		{name: "org-add-not-json", method: "POST", path: "/orgs", body: `{"id":`},
		{name: "org-add-twice", method: "POST", path: "/orgs", body: `{"id":"clinic","name":"a","id":"other","name":"a"}`},
		{name: "org-add-array", method: "POST", path: "/orgs", body: `[]`},
		{name: "org-add-no-body", method: "POST", path: "/orgs"},
		{name: "org-add-form", method: "POST", path: "/orgs", body: `id=acme`, header: []string{"Content-Type", "application/x-www-form-urlencoded"}},
		{name: "org-add-gzip", method: "POST", path: "/orgs", body: `{}`, header: []string{"Content-Encoding", "gzip"}},
		{name: "org-add-too-large", method: "POST", path: "/orgs", body: `{"id":"x","name":"` + strings.Repeat("x", 1<<20) + `"}`},
		{name: "org-list", method: "GET", path: "/orgs"},
		{name: "org-list-limits", method: "GET", path: "/orgs?limit=251"},
		{name: "org-list-limit-zero", method: "GET", path: "/orgs?limit=0"},
		{name: "org-list-limit-text", method: "GET", path: "/orgs?limit=many"},
		{name: "org-list-bad-cursor", method: "GET", path: "/orgs?cursor=!"},
		{name: "org-list-other-cursor", method: "GET", path: "/orgs?cursor=ZW5kcG9pbnQ6ZXBf"},
		{name: "org-list-unknown-parameter", method: "GET", path: "/orgs?offset=3"},
		{name: "org-show", method: "GET", path: "/orgs/acme"},
		{name: "org-show-missing", method: "GET", path: "/orgs/nobody"},
		{name: "org-show-bad-name", method: "GET", path: "/orgs/no%20body"},
		{name: "org-change", method: "PATCH", path: "/orgs/acme", body: `{"name":"Acme & Sons","subjects":[]}`},
		{name: "org-change-null", method: "PATCH", path: "/orgs/acme", body: `{"name":null}`},
		{name: "org-remove-in-use", method: "DELETE", path: "/orgs/acme"},

		{name: "endpoint-add", method: "POST", path: "/orgs/acme/endpoints", body: `{"url":"https://hooks.example/b","event_types":["*"],"workspace_id":"berlin","description":"second","timeout_ms":5000,"retry":{"initial":"1s","attempts":3},"concurrency":2,"disabled":true}`},
		{name: "endpoint-add-least", method: "POST", path: "/orgs/acme/endpoints", body: `{"url":"https://hooks.example/b"}`},
		{name: "endpoint-add-unknown", method: "POST", path: "/orgs/acme/endpoints", body: `{"url":"https://hooks.example/b","event_tpyes":["*"],"start_at":"now"}`},
		{name: "endpoint-add-options", method: "POST", path: "/orgs/acme/endpoints", body: `{"url":"https://hooks.example/b","redact":[{"path":"/data/email"},{"types":["patient.*"],"path":"/data/*/name","replace":"-"}],"rate_limit":2.5,"ordered_by":"/data/customer_id","disable_after":"off","paused":true}`},
		{name: "endpoint-add-bad-options", method: "POST", path: "/orgs/acme/endpoints", body: `{"url":"https://hooks.example/b","rate_limit":100000,"disable_after":5,"redact":[{}]}`},
		{name: "endpoint-add-bad-pointer", method: "POST", path: "/orgs/acme/endpoints", body: `{"url":"https://hooks.example/b","ordered_by":"customer_id"}`},
		{name: "endpoint-add-bad-span", method: "POST", path: "/orgs/acme/endpoints", body: `{"url":"https://hooks.example/b","disable_after":"soon"}`},
		{name: "endpoint-add-start", method: "POST", path: "/orgs/acme/endpoints", body: `{"url":"https://hooks.example/b","start":"beginning"}`},
		{name: "endpoint-add-start-number", method: "POST", path: "/orgs/acme/endpoints", body: `{"url":"https://hooks.example/b","start":20}`},
		{name: "endpoint-add-start-text", method: "POST", path: "/orgs/acme/endpoints", body: `{"url":"https://hooks.example/b","start":"20"}`},
		{name: "endpoint-add-start-beyond", method: "POST", path: "/orgs/acme/endpoints", body: `{"url":"https://hooks.example/b","start":41}`},
		{name: "endpoint-add-start-zero", method: "POST", path: "/orgs/acme/endpoints", body: `{"url":"https://hooks.example/b","start":0}`},
		{name: "endpoint-add-start-future", method: "POST", path: "/orgs/acme/endpoints", body: `{"url":"https://hooks.example/b","start":"2126-11-21T12:00:00Z"}`},
		{name: "endpoint-add-bad-start", method: "POST", path: "/orgs/acme/endpoints", body: `{"url":"https://hooks.example/b","start":"yesterday"}`},
		{name: "endpoint-add-bad-start-kind", method: "POST", path: "/orgs/acme/endpoints", body: `{"url":"https://hooks.example/b","start":1.5}`},
		{name: "endpoint-add-bad", method: "POST", path: "/orgs/acme/endpoints", body: `{"event_types":[],"timeout_ms":10,"concurrency":"8","retry":{"initial":"soon","tries":3,"attempts":null}}`},
		{name: "endpoint-add-refused", method: "POST", path: "/orgs/acme/endpoints", body: `{"url":"http://hooks.example/b"}`},
		{name: "endpoint-add-bad-secret", method: "POST", path: "/orgs/acme/endpoints", body: `{"url":"https://hooks.example/b","secret":"whsec_hunter2"}`},
		{name: "endpoint-add-auth", method: "POST", path: "/orgs/acme/endpoints", body: `{"url":"https://hooks.example/b","auth":{"type":"oauth2","token_url":"https://LOGIN.example/token","client_id":"grapnel","client_secret":"not-to-be-shown","scopes":["a","b"],"audience":"hooks"},"tls":{"ca":` + authority(t) + `}}`},
		{name: "endpoint-add-basic", method: "POST", path: "/orgs/acme/endpoints", body: `{"url":"https://hooks.example/b","auth":{"type":"basic","username":"grapnel","password":"not-to-be-shown"}}`},
		{name: "endpoint-add-bad-auth", method: "POST", path: "/orgs/acme/endpoints", body: `{"url":"https://hooks.example/b","auth":{"type":"digest","user":"x","password":null},"tls":{"cert":"x"}}`},
		{name: "endpoint-add-no-password", method: "POST", path: "/orgs/acme/endpoints", body: `{"url":"https://hooks.example/b","auth":{"type":"basic","username":"grapnel"}}`},
		{name: "endpoint-add-no-key", method: "POST", path: "/orgs/acme/endpoints", body: `{"url":"https://hooks.example/b","tls":{"certificate":` + authority(t) + `}}`},
		{name: "endpoint-change-no-auth", method: "PATCH", path: "/orgs/acme/endpoints/{ep}", body: `{"auth":{},"tls":{}}`},
		{name: "endpoint-list", method: "GET", path: "/orgs/acme/endpoints"},
		{name: "endpoint-show", method: "GET", path: "/orgs/acme/endpoints/{ep}"},
		{name: "endpoint-show-missing", method: "GET", path: "/orgs/acme/endpoints/ep_x"},
		{name: "endpoint-disable", method: "PATCH", path: "/orgs/acme/endpoints/{ep}", body: `{"disabled":true}`},
		{name: "endpoint-change", method: "PATCH", path: "/orgs/acme/endpoints/{ep}", body: `{"workspace_id":"berlin","retry":{"attempts":4},"timeout_ms":2000}`},
		{name: "endpoint-change-clear", method: "PATCH", path: "/orgs/acme/endpoints/{ep}", body: `{"workspace_id":null,"description":""}`},
		{name: "endpoint-change-null-url", method: "PATCH", path: "/orgs/acme/endpoints/{ep}", body: `{"url":null}`},
		{name: "endpoint-change-secret", method: "PATCH", path: "/orgs/acme/endpoints/{ep}", body: `{"secret":"whsec_x"}`},
		{name: "endpoint-add-format", method: "POST", path: "/orgs/acme/endpoints", body: `{"url":"https://hooks.example/b","format":"tenantx","secret":"a secret of Tenantx's"}`},
		{name: "endpoint-add-format-unknown", method: "POST", path: "/orgs/acme/endpoints", body: `{"url":"https://hooks.example/b","format":"tenanty"}`},
		{name: "endpoint-add-format-short-secret", method: "POST", path: "/orgs/acme/endpoints", body: `{"url":"https://hooks.example/b","format":"vexyl","secret":"hunter2"}`},
		{name: "endpoint-change-format", method: "PATCH", path: "/orgs/acme/endpoints/{ep}", body: `{"format":"devsphere","secret":"a secret of DevSphere's"}`},
		{name: "endpoint-change-format-header", method: "PATCH", path: "/orgs/acme/endpoints/{ep}", body: `{"format":"devsphere","headers":{"x-event":"mine"}}`},
		{name: "endpoint-remove", method: "DELETE", path: "/orgs/acme/endpoints/{ep}"},

		{name: "event-append", method: "POST", path: "/orgs/acme/events", body: `{"type":"lead_won","data":{"b":1,  "a":[1.50]},"workspace_id":"berlin","dedupe_key":"lead-7","schema_version":"2","source":"crm","time":"2026-11-20T08:00:00+01:00"}`},
		{name: "event-append-twice", method: "POST", path: "/orgs/acme/events", body: `{"type":"invoice.paid","data":null,"dedupe_key":"in_1"}`},
		{name: "event-append-many", method: "POST", path: "/orgs/acme/events", body: `[{"type":"a","data":1,"dedupe_key":"1"},{"type":"b","data":"x","dedupe_key":"2"}]`},
		{name: "event-append-bad", method: "POST", path: "/orgs/acme/events", body: `{"type":"a..b","dedupe_key":7,"occurred_at":"x","time":"yesterday"}`},
		{name: "event-append-many-bad", method: "POST", path: "/orgs/acme/events", body: `[{"type":"a","data":1},{"type":"","data":1},{"typ":"c","data":1},7]`},
		{name: "event-append-refused", method: "POST", path: "/orgs/acme/events", body: `[{"type":"a","data":1},{"type":"a","data":1,"dedupe_key":"x "}]`},
		{name: "event-append-field-twice", method: "POST", path: "/orgs/acme/events", body: `{"type":"a","data":{"x":1,"x":2},"type":"b"}`},
		{name: "event-append-none", method: "POST", path: "/orgs/acme/events", body: `[]`},
		{name: "event-append-too-many", method: "POST", path: "/orgs/acme/events", body: `[` + strings.Repeat(`{"type":"a","data":1},`, 1000) + `{"type":"a","data":1}]`},
		{name: "event-append-deep", method: "POST", path: "/orgs/acme/events", body: `{"type":"a","data":` + deep + `}`},
		{name: "event-append-not-json", method: "POST", path: "/orgs/acme/events", body: `{"type":"a","data":{"x":01}}`},
		{name: "event-append-no-org", method: "POST", path: "/orgs/nobody/events", body: `{"type":"a","data":1}`},
		{name: "event-list", method: "GET", path: "/orgs/acme/events?limit=1"},
		{name: "event-list-filter", method: "GET", path: "/orgs/acme/events?since=2026-11-21T10:00:04Z&until=2026-11-21T11:00:00Z&type=invoice.paid"},
		{name: "event-list-bad-time", method: "GET", path: "/orgs/acme/events?since=yesterday"},
		{name: "event-show", method: "GET", path: "/orgs/acme/events/{evt}"},
		{name: "event-show-by-seq", method: "GET", path: "/orgs/acme/events/2"},
		{name: "event-show-missing", method: "GET", path: "/orgs/acme/events/evt_x"},

		{name: "delivery-list", method: "GET", path: "/orgs/acme/deliveries"},
		{name: "delivery-list-first-page", method: "GET", path: "/orgs/acme/deliveries?limit=1"},
		{name: "delivery-list-dead", method: "GET", path: "/orgs/acme/deliveries?status=dead&endpoint_id={ep}&event_id={evt}&type=invoice.paid"},
		{name: "delivery-list-bad", method: "GET", path: "/orgs/acme/deliveries?status=lost&event_id=evt_1"},
		{name: "delivery-list-bad-event", method: "GET", path: "/orgs/acme/deliveries?event_id=evt_1"},
		{name: "delivery-show", method: "GET", path: "/orgs/acme/deliveries/{dlv}"},
		{name: "delivery-show-missing", method: "GET", path: "/orgs/acme/deliveries/dlv_1"},
		{name: "delivery-retry", method: "POST", path: "/orgs/acme/deliveries/{dlv}/retry"},

		{name: "cursor-show", method: "GET", path: "/orgs/acme/cursor"},
		{name: "cursor-list", method: "GET", path: "/cursors"},
		{name: "gaps", method: "GET", path: "/orgs/acme/gaps"},
		{name: "rejected", method: "GET", path: "/orgs/acme/rejected"},
		{name: "fsck", method: "GET", path: "/fsck"},
		{name: "fsck-org", method: "GET", path: "/fsck?org=acme"},
		{name: "fsck-missing-org", method: "GET", path: "/fsck?org=nobody"},

		{name: "wrong-path", method: "GET", path: "/organizations"},
		{name: "wrong-method", method: "PUT", path: "/orgs/acme"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := world(t)
			path := names(t, s).Replace(c.path)
			got := ask(t, operator(s), c.method, "/api/v1"+path, c.body, c.header...)
			shown := c.body
			if len(shown) > 400 {
				shown = shown[:100] + "…"
			}
			golden(t, "answers/"+c.name+".txt", fmt.Sprintf("%s %s %s\n\n%s", c.method, path, shown, got))
		})
	}
}

func TestSecretIsShownOnce(t *testing.T) {
	s := world(t)
	h := operator(s)
	if made := ask(t, h, "POST", "/api/v1/orgs/acme/endpoints", `{"url":"https://hooks.example/b"}`); !strings.Contains(made, httpapitest.Secret) {
		t.Errorf("the answer to create lacks the secret:\n%s", made)
	}
	for _, path := range []string{"/orgs/acme/endpoints", "/orgs/acme/endpoints/{ep}"} {
		if got := ask(t, h, "GET", "/api/v1"+names(t, s).Replace(path), ""); strings.Contains(got, "secret") {
			t.Errorf("GET %s tells of the secret:\n%s", path, got)
		}
	}
}

// What is at fault is named, never repeated: it may be a secret.
func TestProblemsDoNotRepeatValues(t *testing.T) {
	h := operator(world(t))
	for _, body := range []string{
		`{"url":"https://x.example","secret":"whsec_hunter2"}`,
		`{"url":"https://x.example","secret":["hunter2"]}`,
		`{"url":["hunter2"]}`,
		`{"url":"` + strings.Repeat("hunter2", 400) + `"}`,
		`{"url":"https://x.example","retry":{"attempts":"hunter2"}}`,
	} {
		if got := ask(t, h, "POST", "/api/v1/orgs/acme/endpoints", body); strings.Contains(got, "hunter2") || !strings.HasPrefix(got, "422") {
			t.Errorf("%s: want a 422 without the value, got\n%s", body, got)
		}
	}
}

func TestFaultsBecomeProblems(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
	}{
		{"full", fmt.Errorf("commit: %w", fanout.ErrFull)},
		{"broker-full", fmt.Errorf("create: %w", stream.ErrFull)},
		{"broker-away", fmt.Errorf("append: %w", stream.ErrUnavailable)},
		{"no-stream", fmt.Errorf("append: %w", stream.ErrNoStream)},
		{"gated", httpapi.ErrGated},
		{"busy", httpapi.ErrBusy},
		{"state", fmt.Errorf("the payload is gone: %w", httpapi.ErrState)},
		{"unknown", errors.New("disk at /var/lib/secret is on fire")},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := world(t)
			s.Err = c.err
			golden(t, "faults/"+c.name+".txt", ask(t, operator(s), "POST", "/api/v1/orgs/acme/events", `{"type":"a","data":1}`))
		})
	}
}

func TestPagesCoverTheList(t *testing.T) {
	s := httpapitest.New()
	var want []string
	for i := range 7 {
		id := fmt.Sprintf("org-%d", i)
		want = append(want, id)
		if _, err := s.AddOrg(t.Context(), httpapi.Org{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	h := operator(s)
	for limit := 1; limit <= 8; limit++ {
		var got []string
		for cursor := ""; ; {
			r := httptest.NewRequest("GET", fmt.Sprintf("/api/v1/orgs?limit=%d&cursor=%s", limit, cursor), nil)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			var page httpapi.List[httpapi.OrgBody]
			if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil || w.Code != 200 {
				t.Fatalf("limit %d: %d %v %s", limit, w.Code, err, w.Body)
			}
			if len(page.Data) == 0 {
				t.Fatalf("limit %d: an empty page", limit)
			}
			for _, o := range page.Data {
				got = append(got, o.ID)
			}
			if page.NextCursor == nil {
				break
			}
			cursor = *page.NextCursor
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("limit %d (-want +got):\n%s", limit, diff)
		}
	}
}

// Each list goes on where its next_cursor says, and ends.
func TestEachListHasPages(t *testing.T) {
	s := world(t)
	if _, err := s.AddOrg(t.Context(), httpapi.Org{ID: "zoo"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.AddEndpoint(t.Context(), httpapi.NewEndpoint{Org: "acme", URL: "https://hooks.example/b"}); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		seq := stream.Seq(20 - 10*i)
		s.Missed = append(s.Missed, httpapi.Gap{Gap: cursor.Gap{Incarnation: 2 - i, From: seq, To: seq + 1}})
		s.Rejects = append(s.Rejects, httpapi.Rejected{Incarnation: 2 - i, Rejected: fanout.Rejected{Seq: seq}})
	}
	h := operator(s)
	for _, path := range []string{
		"/orgs", "/orgs/acme/endpoints", "/orgs/acme/events", "/orgs/acme/deliveries", "/cursors", "/orgs/acme/gaps", "/orgs/acme/rejected",
	} {
		seen := map[string]bool{}
		next := ""
		for range 3 {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest("GET", "/api/v1"+path+"?limit=1&cursor="+next, nil))
			var page httpapi.List[json.RawMessage]
			if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil || w.Code != 200 {
				t.Fatalf("%s: %d %s", path, w.Code, w.Body)
			}
			for _, v := range page.Data {
				seen[string(v)] = true
			}
			if next = ""; page.NextCursor == nil {
				break
			}
			next = *page.NextCursor
		}
		if len(seen) != 2 || next != "" {
			t.Errorf("%s: %d different entries in pages of one, want 2; a page after the last: %v", path, len(seen), next != "")
		}
	}
}

func TestHealth(t *testing.T) {
	sick := func(change func(*httpapi.Health)) *httpapitest.Service {
		s := httpapitest.New()
		change(&s.Now)
		return s
	}
	for _, c := range []struct {
		name string
		s    *httpapitest.Service
	}{
		{"well", sick(func(*httpapi.Health) {})},
		{"degraded", sick(func(h *httpapi.Health) { h.Degraded = []string{"the broker is away since 10:04"} })},
		{"draining", sick(func(h *httpapi.Health) { h.Ready = errors.New("draining") })},
		{"dead", sick(func(h *httpapi.Health) { h.Alive = errors.New("the writer has not moved for 61s") })},
	} {
		var out strings.Builder
		for _, path := range []string{"/healthz", "/readyz", "/metrics", "/", "/api/v1/orgs"} {
			o := httpapi.Options{Service: c.s, Log: slog.New(slog.DiscardHandler), Metrics: http.NotFoundHandler()}
			fmt.Fprintf(&out, "public GET %s\n%s\n", path, ask(t, httpapi.Public(o), "GET", path, ""))
			if path == "/healthz" || path == "/readyz" {
				fmt.Fprintf(&out, "operator GET %s\n%s\n", path, ask(t, httpapi.Operator(o), "GET", path, ""))
			}
		}
		golden(t, "health/"+c.name+".txt", out.String())
	}
}

// The document lists every operation, and errors in the shape that they have.
func TestDocument(t *testing.T) {
	h := operator(httpapitest.New())
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/openapi.json", nil))
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			OperationID string
			Responses   map[string]any
		}
		Components struct {
			Schemas map[string]struct{ Properties map[string]any }
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Fatalf("%d %v", w.Code, err)
	}
	out := &strings.Builder{}
	fmt.Fprintf(out, "OpenAPI %s\n", doc.OpenAPI)
	for _, path := range slices.Sorted(maps.Keys(doc.Paths)) {
		for _, method := range slices.Sorted(maps.Keys(doc.Paths[path])) {
			op := doc.Paths[path][method]
			fmt.Fprintf(out, "%-6s %s  %s %v\n", method, path, op.OperationID, slices.Sorted(maps.Keys(op.Responses)))
		}
	}
	fmt.Fprintf(out, "errors have %v\n", slices.Sorted(maps.Keys(doc.Components.Schemas["ErrorModel"].Properties)))
	golden(t, "document.txt", out.String())
}

func TestHandlerPanicIsOneProblem(t *testing.T) {
	h := operator(nil) // every call panics
	if got := ask(t, h, "GET", "/api/v1/orgs", ""); !strings.HasPrefix(got, "500\nContent-Type: application/problem+json") {
		t.Errorf("got\n%s", got)
	}
}
