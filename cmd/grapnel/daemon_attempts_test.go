package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/delivertest"
	"github.com/grapnel-hooks/grapnel/deliver/sign"
)

// Each attempt shows the request that the receiver got then, byte for byte, also
// when the endpoint has other settings now, and nothing that is secret.
func TestUX05_RequestsAsSent(t *testing.T) {
	secret := sign.NewSecret()
	r := delivertest.NewReceiver(secret)
	r.Script(delivertest.Status(500), delivertest.Status(500))
	l := live(t, shortDir(t))
	l.addOrg(t, httpapi.Org{ID: "acme", Payload: "data"})
	base := r.Start(t)
	ep := l.endpoint(t, base+"/old?key=canary-query&canary-flag", func(e *httpapi.NewEndpoint) {
		e.Secret = secret.Reveal()
		e.Headers = []deliver.Header{{Name: "X-Password", Value: deliver.NewHeaderValue("canary-header")}}
		e.Options.Redact = []deliver.Redaction{{Path: "/data/card"}}
	})
	if _, err := l.Append(t.Context(), "acme", []httpapi.NewEvent{{Type: "invoice.paid", Data: json.RawMessage(`{"card":"canary-card","n":1}`)}}); err != nil {
		t.Fatal(err)
	}
	var dl deliver.Delivery
	attempted := func(n int) {
		t.Helper()
		until(t, "attempts", func() bool {
			all, _, err := l.Deliveries(t.Context(), "acme", httpapi.DeliveryFilter{}, deliver.Key{}, 10)
			if err != nil {
				t.Fatal(err)
			}
			if len(all) == 1 {
				dl = all[0]
			}
			return len(all) == 1 && dl.Attempts == n
		})
	}
	attempted(1)
	url := base + "/new"
	_, err := l.ChangeEndpoint(t.Context(), "acme", ep.ID, httpapi.EndpointChange{URL: &url, Headers: &[]deliver.Header{}, Options: func(o *deliver.Options) { o.Redact = nil }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.RetryDelivery(t.Context(), "acme", dl.Key); err != nil {
		t.Fatal(err)
	}
	attempted(2)

	var raw json.RawMessage
	if status := l.ask(t, http.MethodGet, "/api/v1/orgs/acme/deliveries/"+dl.ID(dl.Stored), "", "", &raw); status != 200 {
		t.Fatalf("%d %s", status, raw)
	}
	var shown httpapi.DeliveryDetail
	if err := json.Unmarshal(raw, &shown); err != nil {
		t.Fatal(err)
	}
	for _, canary := range []string{"canary-query", "canary-flag", "canary-header", secret.Reveal()} {
		if strings.Contains(string(raw), canary) {
			t.Errorf("%s is shown", canary)
		}
	}
	got := r.Requests()
	if len(got) != 2 || len(shown.Attempts) != 2 {
		t.Fatalf("%d requests, %d attempts", len(got), len(shown.Attempts))
	}
	for i, want := range []string{base + "/old?key=[redacted]&[redacted]", base + "/new"} {
		at, sent := shown.Attempts[i], got[i]
		if at.Request == nil || at.Request.URL != want || at.Request.Method != http.MethodPost || at.Request.Note != "" {
			t.Fatalf("attempt %d: %+v", i+1, at.Request)
		}
		if at.Request.Body != string(sent.Body) {
			t.Errorf("attempt %d: shows the body %s, sent was %s", i+1, at.Request.Body, sent.Body)
		}
		for name, values := range sent.Header {
			switch name {
			case "Accept-Encoding", "Content-Length": // the transport's
				continue
			}
			want := values[0]
			if name == "X-Password" || name == "Webhook-Signature" {
				want = "[redacted]"
			}
			if at.Request.Headers[strings.ToLower(name)] != want {
				t.Errorf("attempt %d: shows %s %q, sent was %q", i+1, name, at.Request.Headers[strings.ToLower(name)], want)
			}
		}
	}
	if first := shown.Attempts[0].Request.Body; strings.Contains(first, "canary-card") || !strings.Contains(shown.Attempts[1].Request.Body, "canary-card") {
		t.Errorf("redaction is not that of its time: %s", first)
	}
	if at := shown.Attempts[0]; at.Timings == nil || at.Timings.ConnectMS <= 0 || at.Timings.FirstByteMS <= 0 || !strings.HasPrefix(at.RemoteAddress, "127.0.0.1:") {
		t.Errorf("timings %+v, address %q", at.Timings, at.RemoteAddress)
	}
}

func TestCurlLine(t *testing.T) {
	r := httpapi.RequestBody{
		Method: "POST", URL: "https://hooks.example/in", Headers: map[string]string{"b": "2", "a": "it's\x1b[31m"}, Body: `{"a":"'"}`,
	}
	want := `curl -X POST 'https://hooks.example/in' -H 'a: it'\''s�[31m' -H 'b: 2' --data-binary '{"a":"'\''"}'`
	if got := curlLine(r); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for _, r := range []httpapi.RequestBody{{}, {Method: "POST", Truncated: true}, {Method: "POST", Note: noteGone}} {
		if got := curlLine(r); got != "" {
			t.Errorf("%+v: %s", r, got)
		}
	}
}
