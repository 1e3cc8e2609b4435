package httpapi_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
)

// Where an endpoint was reached is for operators: a tenant's token does not see
// it (UX-05).
func TestUX05_AddressesAreForOperators(t *testing.T) {
	farAway := time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)
	s := world(t)
	tenant, err := s.AddToken(t.Context(), httpapi.Token{Org: "acme", Scopes: []httpapi.Scope{httpapi.WebhooksRead}, ExpiresAt: farAway})
	if err != nil {
		t.Fatal(err)
	}
	all, err := s.AddToken(t.Context(), httpapi.Token{Scopes: []httpapi.Scope{httpapi.WebhooksRead}, ExpiresAt: farAway})
	if err != nil {
		t.Fatal(err)
	}
	public := httpapi.Public(httpapi.Options{
		Service: s, Log: slog.New(slog.DiscardHandler), Version: "test",
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "") }),
	})
	for _, c := range []struct {
		who    string
		h      http.Handler
		header []string
		sees   bool
	}{
		{"the operator at the socket", operator(s), nil, true},
		{"an operator's token", public, []string{"Authorization", "Bearer " + all.Text}, true},
		{"a tenant's token", public, []string{"Authorization", "Bearer " + tenant.Text}, false},
	} {
		w := request(t, c.h, http.MethodGet, "/api/v1/orgs/acme/deliveries?status=dead", "", c.header...)
		var list httpapi.List[httpapi.DeliveryBody]
		if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || len(list.Data) != 1 {
			t.Fatalf("%s: %d %s", c.who, w.Code, w.Body)
		}
		w = request(t, c.h, http.MethodGet, "/api/v1/orgs/acme/deliveries/"+list.Data[0].ID, "", c.header...)
		var d httpapi.DeliveryDetail
		if err := json.Unmarshal(w.Body.Bytes(), &d); err != nil || len(d.Attempts) != 1 {
			t.Fatalf("%s: %d %s", c.who, w.Code, w.Body)
		}
		at := d.Attempts[0]
		if sees := at.RemoteAddress != ""; sees != c.sees {
			t.Errorf("%s sees the address %q", c.who, at.RemoteAddress)
		}
		if at.Timings == nil || at.Timings.FirstByteMS != 4.567 || at.Request == nil || at.Request.Method != http.MethodPost {
			t.Errorf("%s: %+v", c.who, at)
		}
	}
}
