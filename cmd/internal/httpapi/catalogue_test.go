package httpapi_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi/httpapitest"
)

const types = "/api/v1/event-types"

func TestEventTypes(t *testing.T) {
	h := operator(httpapitest.New())
	var out strings.Builder
	show := func(method, path, body string) {
		t.Helper()
		out.WriteString(method + " " + strings.TrimPrefix(path, "/api/v1") + " " + body + "\n" + ask(t, h, method, path, body) + "\n")
	}
	show(http.MethodPost, types, `{"name":"invoice.paid","group":"billing","description":"Paid.","schema":{"type":"object", "required":["amount"]},"example":{"amount":1}}`)
	show(http.MethodPost, types, `{"name":"invoice.paid"}`)
	show(http.MethodPut, types+"/invoice.paid", `{"schema_version":"2","deprecated":true,"schema":null}`)
	show(http.MethodGet, types+"/invoice.paid", "")
	show(http.MethodGet, types+"/invoice.paid?version=1", "")
	show(http.MethodGet, types+"/invoice.paid?version=3", "")
	show(http.MethodPost, types, `{"name":"invoice.void","schema":{"type":"text"}}`)
	show(http.MethodPost, types, `{"name":"invoice.void","schema":{"$ref":"https://example.com/schema"}}`)
	show(http.MethodPost, types, `{"name":"invoice..void"}`)
	show(http.MethodPut, types+"/invoice.void", `{"schema":{"required":["x"]},"example":{"amount":"secret"}}`)
	show(http.MethodPut, types+"/invoice.void", `{"sheme":{}}`)
	show(http.MethodPost, types+"/import", `{"event_types":[{"name":"task.done"},{"name":"invoice.paid","schema_version":"2","deprecated":true}]}`)
	show(http.MethodPost, types+"/import", `{"event_types":[{"name":"a"},{"name":"b","schema":7},{"name":"a","schema_version":"1"}]}`)
	show(http.MethodGet, types+"?limit=1", "")
	show(http.MethodGet, types+"?deprecated=true", "")
	show(http.MethodGet, types+"?deprecated=maybe", "")
	show(http.MethodGet, types+"/export", "")
	show(http.MethodDelete, types+"/invoice.paid?version=2", "")
	show(http.MethodDelete, types+"/invoice.paid", "")
	show(http.MethodDelete, types+"/invoice.paid", "")
	golden(t, "event-types.txt", out.String())
}

// What was exported makes the same catalogue, and changes nothing where it came from.
func TestEventTypesRoundTrip(t *testing.T) {
	h := operator(httpapitest.New())
	in := `{"event_types":[{"name":"a","schema":{"const":"<&>","maximum":12345678901234567890.10}},{"name":"a","schema_version":"2","group":"g","deprecated":true},{"name":"b","example":{"x":[1,2]}}]}`
	if w := request(t, h, http.MethodPost, types+"/import", in); w.Code != http.StatusOK {
		t.Fatal(w.Body)
	}
	exported := request(t, h, http.MethodGet, types+"/export", "").Body.String()
	for _, tt := range []struct {
		name    string
		to      http.Handler
		changed int
	}{{"back", h, 0}, {"elsewhere", operator(httpapitest.New()), 3}} {
		w := request(t, tt.to, http.MethodPost, types+"/import", exported)
		var done httpapi.EventTypesImported
		if err := json.Unmarshal(w.Body.Bytes(), &done); err != nil || done != (httpapi.EventTypesImported{Total: 3, Changed: tt.changed}) {
			t.Errorf("%s: %d %s", tt.name, w.Code, w.Body)
		}
		if diff := cmp.Diff(exported, request(t, tt.to, http.MethodGet, types+"/export", "").Body.String()); diff != "" {
			t.Errorf("%s: exported again: -want +got:\n%s", tt.name, diff)
		}
	}
}

// A repeated POST with its Idempotency-Key is answered as the first, not refused.
func TestAddEventTypeOnce(t *testing.T) {
	h := operator(httpapitest.New())
	const body = `{"name":"invoice.paid"}`
	first := request(t, h, http.MethodPost, types, body, "Idempotency-Key", "k1")
	again := request(t, h, http.MethodPost, types, body, "Idempotency-Key", "k1")
	if first.Code != http.StatusCreated || again.Code != http.StatusCreated || first.Body.String() != again.Body.String() {
		t.Errorf("%d %s\n%d %s", first.Code, first.Body, again.Code, again.Body)
	}
	if other := request(t, h, http.MethodPost, types, `{"name":"task.done"}`, "Idempotency-Key", "k1"); other.Code != http.StatusUnprocessableEntity {
		t.Errorf("another request with the key: %d %s", other.Code, other.Body)
	}
}
