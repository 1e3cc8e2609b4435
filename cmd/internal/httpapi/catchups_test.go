package httpapi_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
)

// An endpoint that is behind says so wherever it is shown; what it lost is shown
// with the one.
func TestCatchingUp(t *testing.T) {
	s := world(t)
	h := operator(s)
	ask := func(method, path, body string, want int, into any) {
		t.Helper()
		w := request(t, h, method, "/api/v1/orgs/acme/endpoints"+path, body)
		if w.Code != want {
			t.Fatalf("%s %s: %d, want %d\n%s", method, path, w.Code, want, w.Body)
		}
		if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
			t.Fatal(err)
		}
	}
	var made httpapi.EndpointCreated
	ask(http.MethodPost, "", `{"url":"https://hooks.example/b","start":20}`, http.StatusCreated, &made)
	if made.StartsAt != 20 {
		t.Errorf("it starts at %d, want 20", made.StartsAt)
	}
	want := &httpapi.CatchingUpBody{Reason: "backfill", Since: made.CreatedAt, From: 19, Place: 21, Behind: 19, Lost: 2}
	gaps := []httpapi.EndpointGapBody{{Incarnation: 1, From: 20, To: 21, Count: 2, At: made.CreatedAt}}

	var one httpapi.EndpointBody
	ask(http.MethodGet, "/"+made.ID, "", http.StatusOK, &one)
	if diff := cmp.Diff(want, one.CatchingUp); diff != "" {
		t.Errorf("shown (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(gaps, one.Gaps); diff != "" {
		t.Errorf("gaps (-want +got):\n%s", diff)
	}
	ask(http.MethodPatch, "/"+made.ID, `{"description":"x"}`, http.StatusOK, &one)
	if diff := cmp.Diff(want, one.CatchingUp); diff != "" {
		t.Errorf("changed (-want +got):\n%s", diff)
	}
	var all httpapi.List[httpapi.EndpointBody]
	ask(http.MethodGet, "", "", http.StatusOK, &all)
	for _, e := range all.Data {
		if behind := e.ID == made.ID; behind != (e.CatchingUp != nil) {
			t.Errorf("endpoint %s is behind: %v", e.ID, e.CatchingUp != nil)
		}
	}
}

func TestParseStart(t *testing.T) {
	at := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]httpapi.Start{
		"":                     {},
		"now":                  {},
		"beginning":            {Beginning: true},
		"7":                    {Seq: 7},
		"2026-11-21T12:00:00Z": {Time: at},
	} {
		if got, err := httpapi.ParseStart(text); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"0", "-1", "1.5", "18446744073709551616", "yesterday", "2026-11-21", "Now", " now", "0001-01-01T00:00:00Z", "true"} {
		if got, err := httpapi.ParseStart(text); err == nil {
			t.Errorf("%q: %+v", text, got)
		}
	}
}
