package httpapi_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
)

// A dry run counts and makes nothing; a replay is made once for each
// Idempotency-Key, with the defaults of a request without a body.
func TestReplays(t *testing.T) {
	s := world(t)
	h := operator(s)
	found, err := s.Endpoints(t.Context(), "acme", "", 1)
	if err != nil {
		t.Fatal(err)
	}
	path := "/api/v1/orgs/acme/endpoints/" + found[0].ID + "/replay"
	post := func(body string, want int, header ...string) (b httpapi.ReplayBody, text string) {
		t.Helper()
		w := request(t, h, http.MethodPost, path, body, header...)
		if w.Code != want {
			t.Errorf("%s: %d, want %d\n%s", body, w.Code, want, w.Body)
		}
		text = w.Body.String()
		if w.Code >= 300 {
			return b, text
		}
		if err := json.Unmarshal([]byte(text), &b); err != nil {
			t.Error(err)
		}
		return b, text
	}
	counted, _ := post(`{"dry_run":true,"event_types":["invoice.*"]}`, http.StatusOK)
	if counted.ID != "" || !counted.DryRun || counted.Matched != 1 || counted.Replayed != 1 {
		t.Errorf("a dry run: %+v", counted)
	}
	if list, err := s.Replays(t.Context(), "acme", "", 10); err != nil || len(list) != 0 {
		t.Errorf("a dry run made %v, %v", list, err)
	}
	for body, field := range map[string]string{
		`{"status":"pending"}`:                   "body.status",
		`{"status":["dead","missing"]}`:          "body.status",
		`{"status":[]}`:                          "body.status",
		`{"status":7}`:                           "body.status",
		`{"from_seq":0}`:                         "body.from_seq",
		`{"from_seq":3,"to_seq":2}`:              "body.to_seq",
		`{"rate":1001}`:                          "body.rate",
		`{"event_types":["invoice.paid","in*"]}`: "body.event_types[1]",
		`{"since":"2026-11-21T10:00:00Z","until":"2026-11-21T10:00:00Z"}`: "body.until",
	} {
		if _, text := post(body, http.StatusUnprocessableEntity); !strings.Contains(text, `"`+field+`"`) {
			t.Errorf("%s: %s is not named: %s", body, field, text)
		}
	}
	for body, want := range map[string]int64{
		`{"dry_run":true,"status":["cancelled","dead"]}`: 1,
		`{"dry_run":true,"from_seq":1000000}`:            0,
	} {
		if b, _ := post(body, http.StatusOK); b.Matched != want {
			t.Errorf("%s: %+v", body, b)
		}
	}
	made, first := post("", http.StatusAccepted, "Idempotency-Key", "k-1")
	if !slices.Equal(made.Status, httpapi.Statuses{"dead"}) || made.Rate != httpapi.DefaultReplayRate || made.Replayed != 1 || !strings.HasPrefix(made.ID, "rpl_") {
		t.Errorf("made %+v", made)
	}
	if _, again := post("", http.StatusAccepted, "Idempotency-Key", "k-1"); again != first {
		t.Errorf("repeated: %s\nfirst: %s", again, first)
	}
	post(`{"rate":7}`, http.StatusUnprocessableEntity, "Idempotency-Key", "k-1")
	if list, err := s.Replays(t.Context(), "acme", "", 10); err != nil || len(list) != 1 {
		t.Errorf("%d replays, %v", len(list), err)
	}
}
