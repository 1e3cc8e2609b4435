package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/delivertest"
	"github.com/grapnel-hooks/grapnel/deliver/sign"
)

// came waits until the receiver has n requests, and returns the last of them.
func came(t *testing.T, r *delivertest.Receiver, n int) delivertest.Request {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	all, err := r.Wait(ctx, n)
	if err != nil {
		t.Fatalf("%d requests, want %d", len(all), n)
	}
	return all[n-1]
}

// What is made through VexylCloud's paths gets VexylCloud's requests.
func TestVexylWebhooksGetTheirFormat(t *testing.T) {
	p := startPlatform(t, "")
	token := p.org("psa", "", httpapi.WebhooksManage, httpapi.EventsWrite)
	r := delivertest.NewReceiver()
	var made httpapi.AdminWebhookCreated
	p.must(token, "POST", "/api/admin/webhooks", map[string]any{"name": "PSA", "url": r.Start(t), "events": []string{"ticket.updated"}}, &made)
	p.append(token, "psa", platformEvent{"ticket.updated", "", `{"ticket_id":7,"status":"open"}`})
	req := came(t, r, 1)
	secret, err := sign.SHA256Hex.ParseSecret(made.Secret)
	if err != nil {
		t.Fatal(err)
	}
	v := sign.Verifier{Scheme: sign.SHA256Hex, Secrets: []sign.Secret{secret}, Headers: sign.Headers{Signature: "X-Webhook-Signature"}}
	if err := v.Verify(req.Header, req.Body, time.Now()); err != nil {
		t.Error(err)
	}
	var body struct{ Timestamp string }
	if err := json.Unmarshal(req.Body, &body); err != nil {
		t.Fatal(err)
	}
	if _, err := time.Parse("2006-01-02T15:04:05.000Z", body.Timestamp); err != nil {
		t.Error(err)
	}
	if want := `{"event":"ticket.updated","timestamp":"` + body.Timestamp + `","data":{"ticket_id":7,"status":"open"}}`; string(req.Body) != want {
		t.Errorf("body %s, want %s", req.Body, want)
	}
	if req.Header.Get("X-Webhook-Event") != "ticket.updated" {
		t.Errorf("headers %v", req.Header)
	}
	for name := range req.Header {
		if strings.HasPrefix(name, "Webhook-") || strings.HasPrefix(name, "Grapnel-") {
			t.Errorf("a header of ours: %s", name)
		}
	}
}

// A format of the configuration, changes from one to another, and what is refused.
func TestFormatsOfEndpoints(t *testing.T) {
	p := startPlatform(t, `
formats:
  acme-keys:
    scheme: ed25519
    headers: {event_id: webhook-id, timestamp: webhook-timestamp, signature: webhook-signature, type: X-Type}
    body: {type: type, data: data}
`)
	token := p.org("acme", "", httpapi.WebhooksManage, httpapi.EventsWrite)
	r := delivertest.NewReceiver()
	const endpoints = "/api/v1/orgs/acme/endpoints"
	hook := r.Start(t)
	refused := func(method, path, in, location, detail string) {
		t.Helper()
		status, answer := p.ask(token, method, path, json.RawMessage(in))
		if status != http.StatusUnprocessableEntity || !bytes.Contains(answer, []byte(`"location":"`+location+`"`)) || !bytes.Contains(answer, []byte(detail)) {
			t.Errorf("%s %s: %d %s, want 422 of %s: %s", method, in, status, answer, location, detail)
		}
	}
	refused("POST", endpoints, `{"url":"`+hook+`","format":"tenant-x"}`, "body.format", "did you mean tenantx?")
	refused("POST", endpoints, `{"url":"`+hook+`","format":"xml"}`, "body.format", "vexyl, service, acme-keys")
	refused("POST", endpoints, `{"url":"`+hook+`","secret":"a-secret-of-tenantx"}`, "body.secret", "whsec_")
	refused("POST", endpoints, `{"url":"`+hook+`","format":"tenantx","secret":"short"}`, "body.secret", "16 to 128 printable")
	refused("POST", endpoints, `{"url":"`+hook+`","format":"acme-keys","secret":"a-secret-of-tenantx"}`, "body.secret", "whsk_")
	refused("POST", endpoints, `{"url":"`+hook+`","format":"tenantx","headers":{"X-TenantX-Event":"mine"}}`, "body.headers.X-TenantX-Event", "tenantx")
	refused("POST", endpoints, `{"url":"`+hook+`","redact":[{"path":"/data/x","types":["a.*.b"]}]}`, "body.redact[0].types[0]", "*")

	var made httpapi.EndpointCreated
	p.must(token, "POST", endpoints, map[string]any{"url": hook, "format": "acme-keys"}, &made)
	if !strings.HasPrefix(made.Secret, "whsk_") || !strings.HasPrefix(made.PublicKey, "whpk_") {
		t.Fatalf("a secret that begins with %.6s, a public key %s", made.Secret, made.PublicKey)
	}
	one := endpoints + "/" + made.ID
	shown := func() (s httpapi.SecretBody) {
		t.Helper()
		p.must(token, "GET", one+"/secret", nil, &s)
		return s
	}
	if s := shown(); s.Secret != made.Secret || s.PublicKey != made.PublicKey {
		t.Errorf("shown %s, made %s", s.PublicKey, made.PublicKey)
	}
	n := 0
	next := func() delivertest.Request {
		t.Helper()
		n++
		p.append(token, "acme", platformEvent{"invoice.paid", "", fmt.Sprintf(`{"n":%d}`, n)})
		return came(t, r, n)
	}
	verified := func(v sign.Verifier, req delivertest.Request) {
		t.Helper()
		if err := v.Verify(req.Header, req.Body, time.Now()); err != nil {
			t.Errorf("%v: %v %s", err, req.Header, req.Body)
		}
	}
	public := func(text string) sign.PublicKey {
		t.Helper()
		k, err := sign.ParsePublicKey(text)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	verified(sign.Verifier{Scheme: sign.Ed25519, Public: []sign.PublicKey{public(made.PublicKey)}}, next())
	var rotated httpapi.SecretBody
	p.must(token, "POST", one+"/rotate-secret", map[string]any{}, &rotated)
	req := next()
	for _, k := range []string{made.PublicKey, rotated.PublicKey} { // both, in the window
		verified(sign.Verifier{Scheme: sign.Ed25519, Public: []sign.PublicKey{public(k)}}, req)
	}

	// Its key signs in no other format: a secret comes in the same change.
	refused("PATCH", one, `{"format":"tenantx"}`, "body.format", "give a secret for it in the same change")
	refused("PATCH", one, `{"format":"tenantx","secret":"`+made.Secret+`"}`, "body.secret", "16 to 128 printable")
	p.must(token, "PATCH", one, map[string]any{"format": "tenantx", "secret": "a-secret-of-tenantx"}, nil)
	if s := shown(); s.Secret != "a-secret-of-tenantx" || s.PublicKey != "" || len(s.Previous) != 0 {
		t.Errorf("%d secrets before, public key %q", len(s.Previous), s.PublicKey)
	}
	tenantx := func(texts ...string) sign.Verifier {
		v := sign.Verifier{Scheme: sign.SHA256Hex, Headers: sign.Headers{Signature: "X-TenantX-Signature"}}
		for _, text := range texts {
			s, err := sign.SHA256Hex.ParseSecret(text)
			if err != nil {
				t.Fatal(err)
			}
			v.Secrets = append(v.Secrets, s)
		}
		return v
	}
	verified(tenantx("a-secret-of-tenantx"), next())
	p.must(token, "POST", one+"/rotate-secret", map[string]any{}, &rotated)
	req = next()
	verified(tenantx(rotated.Secret), req)
	verified(tenantx("a-secret-of-tenantx"), req)
	if len(req.Header["X-Tenantx-Signature"]) != 1 || len(req.Header["X-Tenantx-Signature-Previous"]) != 1 {
		t.Errorf("headers %v", req.Header)
	}
	// What was made fits the standard format, too.
	p.must(token, "PATCH", one, map[string]any{"format": "standard"}, nil)
	standard, err := sign.ParseSecret(rotated.Secret)
	if err != nil {
		t.Fatal(err)
	}
	verified(sign.Verifier{Secrets: []sign.Secret{standard}}, next())
	p.must(token, "PATCH", one, map[string]any{"format": "acme-keys", "secret": "new"}, nil)
	verified(sign.Verifier{Scheme: sign.Ed25519, Public: []sign.PublicKey{public(shown().PublicKey)}}, next())
}

// syncBuffer is a buffer that a log is written to.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// An endpoint whose format is no longer configured is held, and said to be: nothing
// is sent to it in another, others go on, and it gets all that waited when the
// format is back.
func TestFormatThatIsGone(t *testing.T) {
	dir := shortDir(t)
	acme := deliver.Format{Name: "acme", Scheme: sign.SHA256Hex, Body: deliver.BodyData, Headers: deliver.FormatHeaders{Signature: "X-Acme-Signature"}}
	r, other := delivertest.NewReceiver(), delivertest.NewReceiver()
	url, elsewhere := r.Start(t), other.Start(t)
	walk := func(formats []deliver.Format, do func(*daemon)) string {
		t.Helper()
		var log syncBuffer
		d, err := openDaemon(t.Context(), daemonOptions{
			Data: dir, Version: "test", NATSListen: "127.0.0.1:0", NATSSync: time.Minute, AllowHTTP: true, Formats: formats,
			Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Listening: []string{"127.0.0.1:8480"}, Log: slog.New(slog.NewJSONHandler(&log, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
		ended := make(chan error, 1)
		go func() { ended <- d.Run(ctx) }()
		defer func() {
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}()
		do(d)
		return log.String()
	}
	appended := func(d *daemon, n int) {
		t.Helper()
		if _, err := d.Append(t.Context(), "acme", []httpapi.NewEvent{{Type: "invoice.paid", Data: json.RawMessage(fmt.Sprintf(`{"n":%d}`, n))}}); err != nil {
			t.Fatal(err)
		}
	}
	var id string
	walk([]deliver.Format{acme}, func(d *daemon) {
		if _, err := d.AddOrg(t.Context(), httpapi.Org{ID: "acme", Payload: "data"}); err != nil {
			t.Fatal(err)
		}
		e := newEndpoint(url)
		e.Options.Format = "acme"
		made, err := d.AddEndpoint(t.Context(), e)
		if err != nil {
			t.Fatal(err)
		}
		id = made.Endpoint.ID
		if _, err := d.AddEndpoint(t.Context(), newEndpoint(elsewhere)); err != nil {
			t.Fatal(err)
		}
		appended(d, 1)
		came(t, r, 1)
		came(t, other, 1)
	})
	log := walk(nil, func(d *daemon) {
		appended(d, 2)
		came(t, other, 2)
		if e, err := d.Endpoint(t.Context(), "acme", id); err != nil || !strings.Contains(d.Held(e), "configure acme again") {
			t.Errorf("it is held because of %q, %v", d.Held(e), err)
		}
		if _, err := d.TestEndpoint(t.Context(), "acme", id); err == nil {
			t.Error("it was tested in another format")
		}
		text := "moved by hand"
		if _, err := d.ChangeEndpoint(t.Context(), "acme", id, httpapi.EndpointChange{Description: &text}); err != nil {
			t.Errorf("it cannot be changed: %v", err)
		}
		appended(d, 3)
		came(t, other, 3)
		if n := len(r.Requests()); n != 1 {
			t.Errorf("%d requests to the endpoint whose format is gone, want 1", n)
		}
	})
	if !strings.Contains(log, "endpoint is held") || !strings.Contains(log, id) || !strings.Contains(log, `"format":"acme"`) {
		t.Errorf("the log does not say so:\n%s", log)
	}
	walk([]deliver.Format{acme}, func(d *daemon) {
		came(t, r, 3)
		if e, err := d.Endpoint(t.Context(), "acme", id); err != nil || d.Held(e) != "" {
			t.Errorf("it is still held because of %q, %v", d.Held(e), err)
		}
		for i, req := range r.Requests() {
			if want := fmt.Sprintf(`{"n":%d}`, i+1); string(req.Body) != want || req.Header.Get("X-Acme-Signature") == "" {
				t.Errorf("request %d: %v %s", i, req.Header, req.Body)
			}
		}
	})
}

// What an endpoint redacts is in nothing that is kept or told of its deliveries: not
// in what the receiver gets and shows back, not in the shown request, not in the log
// at its loudest, and not in the metrics. The event itself stays whole.
func TestRedactedDataIsToldToNobody(t *testing.T) {
	const canary = "canary-of-a-patient"
	var log syncBuffer
	d, err := openDaemon(t.Context(), daemonOptions{
		Data: shortDir(t), Version: "test", NATSListen: "127.0.0.1:0", NATSSync: time.Minute, AllowHTTP: true,
		Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Listening: []string{"127.0.0.1:8480"},
		Log: slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if strings.Contains(log.String(), canary) {
			t.Error("the log holds it")
		}
	}()
	if _, err := d.AddOrg(ctx, httpapi.Org{ID: "acme", Payload: "data"}); err != nil {
		t.Fatal(err)
	}
	var endpoints []string
	var receivers []*delivertest.Receiver
	for _, format := range []string{"", "tenantx", "cloudevents-binary"} {
		r := delivertest.NewReceiver()
		r.Otherwise(func(w http.ResponseWriter, req *http.Request) {
			w.WriteHeader(http.StatusGone) // so that the first attempt is the last
			req.Write(w)
		})
		e := newEndpoint(r.Start(t))
		e.Options = deliver.Options{Format: format, Redact: []deliver.Redaction{{Path: "/data/patient"}, {Types: []string{"patient.*"}, Path: "/data/notes/*", Replace: json.RawMessage(`"-"`)}}}
		made, err := d.AddEndpoint(ctx, e)
		if err != nil {
			t.Fatal(err)
		}
		endpoints, receivers = append(endpoints, made.Endpoint.ID), append(receivers, r)
	}
	data := `{"patient":{"name":"` + canary + `"},"notes":["` + canary + `"],"ward":"3"}`
	appended, err := d.Append(ctx, "acme", []httpapi.NewEvent{{Type: "patient.admitted", Data: json.RawMessage(data)}})
	if err != nil {
		t.Fatal(err)
	}
	for i, id := range endpoints {
		req := came(t, receivers[i], 1)
		var attempts []deliver.Attempt
		var one deliver.Delivery
		for deadline := time.Now().Add(20 * time.Second); len(attempts) == 0; { // until the outcome is booked
			if time.Now().After(deadline) {
				t.Fatal("no attempt was booked")
			}
			all, _, err := d.Deliveries(ctx, "acme", httpapi.DeliveryFilter{Endpoint: id}, deliver.Key{}, 10)
			if err != nil || len(all) != 1 {
				t.Fatalf("%d deliveries: %v", len(all), err)
			}
			if one, attempts, err = d.Delivery(ctx, "acme", all[0].Key); err != nil {
				t.Fatal(err)
			}
			runtime.Gosched()
		}
		shown, err := d.Requests(ctx, one, attempts)
		if err != nil || len(shown) != 1 {
			t.Fatalf("%d requests: %v", len(shown), err)
		}
		if string(shown[0].Body) != string(req.Body) || !strings.Contains(string(req.Body), `{"notes":["-"],"ward":"3"}`) {
			t.Errorf("sent %s, shown %s", req.Body, shown[0].Body)
		}
		for what, v := range map[string]any{"wire": string(req.Body), "kept": string(attempts[0].Body), "attempt": attempts, "delivery": one, "shown": string(shown[0].Body), "request": shown} {
			if text := fmt.Sprintf("%+v %s", v, v); strings.Contains(text, canary) {
				t.Errorf("%s of %s holds it: %s", what, id, text)
			}
		}
	}
	families, err := d.registry.Gather()
	if err != nil || strings.Contains(fmt.Sprint(families), canary) {
		t.Errorf("the metrics hold it: %v", err)
	}
	e, err := d.Event(ctx, "acme", appended[0].ID)
	if err != nil || string(e.Data) != data {
		t.Errorf("the event is %s: %v", e.Data, err)
	}
}
