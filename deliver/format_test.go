package deliver_test

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/delivertest"
	"github.com/grapnel-hooks/grapnel/deliver/sign"
	"github.com/grapnel-hooks/grapnel/stream"
)

// Secrets of the golden requests, which testdata/requests/secrets.json repeats for
// those who verify them by other means.
const (
	goldenSecret  = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	goldenBrought = "tenantx-shared-secret-of-2025"
	goldenPrivate = "whsk_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8DoQe/884Qvh1w3RjnS8CZZ+TWMJulDV8d3IZkElUxuA=="
)

// acmeFormats are some that a configuration might add.
var acmeFormats = []deliver.Format{
	{Name: "acme-timestamped", Scheme: sign.Timestamped, Body: deliver.BodyMap,
		Headers: deliver.FormatHeaders{EventID: "X-Acme-Id", DeliveryID: "X-Acme-Delivery", Type: "x-acme-TYPE", Timestamp: "X-Acme-Timestamp", Signature: "Acme-Signature", Attempt: "X-Acme-Attempt"},
		Fields: []deliver.BodyField{{Name: "event_id", Source: deliver.FromEventID}, {Name: "delivery", Source: deliver.FromDeliveryID},
			{Name: "what", Source: deliver.FromType}, {Name: "org", Source: deliver.FromOrg}, {Name: "place", Source: deliver.FromWorkspace},
			{Name: "at", Source: deliver.FromTime}, {Name: "at_ms", Source: deliver.FromTimeMillis}, {Name: "at_s", Source: deliver.FromTimeUnix},
			{Name: "by", Source: deliver.FromSource}, {Name: "version", Source: deliver.FromSchemaVersion},
			{Name: "key \"quoted\"", Source: deliver.FromDedupeKey}, {Name: "payload", Source: deliver.FromData}}},
	{Name: "acme-ed25519", Scheme: sign.Ed25519, Body: deliver.BodyData,
		Headers: deliver.FormatHeaders{EventID: "webhook-id", Timestamp: "webhook-timestamp", Signature: "webhook-signature"}},
}

func formats(t testing.TB, configured ...deliver.Format) *deliver.Formats {
	t.Helper()
	fs, err := deliver.NewFormats(configured)
	if err != nil {
		t.Fatal(err)
	}
	return fs
}

func anySecrets(t testing.TB, texts ...string) (list []deliver.Secret) {
	t.Helper()
	for i, text := range texts {
		s, err := sign.AnySecret(text)
		if err != nil {
			t.Fatalf("secret %d: %v", i, err)
		}
		k := deliver.Secret{Secret: s}
		if i > 0 {
			k.ExpiresAt = noon.Add(time.Hour)
		}
		list = append(list, k)
	}
	return list
}

// standardPayload is an event with everything that there can be, ready to be sent.
func standardPayload(change func(*stream.Event)) *deliver.Payload {
	ev := stream.Event{
		ID: stream.KeyID("acme", "in_1-paid"), Org: "acme", Type: "invoice.paid", Workspace: "berlin", SchemaVersion: "2",
		Source: `bill"ing`, DedupeKey: `in_1 "paid" – ü`, Stored: time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC),
		Time: time.Date(2026, 11, 21, 9, 59, 58, 500e6, time.UTC),
		Data: []byte("{\"invoice\": \"in_1\",\t\"total\":1.50,\"total\":15e-1, \"note\":\"\\u00fc ü\\/\", \"lines\":[ ]}"),
	}
	if change != nil {
		change(&ev)
	}
	return &deliver.Payload{
		Event: 42, ID: ev.ID, Org: ev.Org, Type: ev.Type, Stored: ev.Stored, TraceParent: ev.TraceParent, Body: stream.AppendStandard(nil, &ev),
	}
}

// raw is one request as it goes over the wire.
func raw(t *testing.T, to *deliver.Target, p *deliver.Payload, at time.Time) []byte {
	t.Helper()
	n := delivertest.NewNetwork()
	n.Name("receiver.example", "93.184.215.14")
	ln := n.Listen("93.184.215.14:80")
	defer ln.Close()
	got := make(chan []byte, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		b := make([]byte, 8192) // net.Pipe: a write is read whole
		k, _ := c.Read(b)
		got <- b[:k]
		io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
	}()
	s := newSender(t, inMemory(n))
	if o := s.Send(t.Context(), to, p, deliver.Key{Event: 42, Endpoint: 7}, 3, at); o.Class != deliver.OK {
		t.Fatalf("outcome %+v", o)
	}
	return <-got
}

// Each format's request is the golden one: all headers, all bytes. Their
// signatures are recomputed in TestGoldensVerifiedElsewhere.
func TestFormatsByteForByte(t *testing.T) {
	all := formats(t, acmeFormats...)
	const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	own := headers("X-Environment", "test")
	for _, tc := range []struct {
		file    string
		ep      deliver.Endpoint
		secrets []string
		change  func(*stream.Event)
	}{
		{"cloudevents.http", deliver.Endpoint{Options: deliver.Options{Format: "cloudevents"}}, []string{goldenSecret}, nil},
		{"cloudevents-least.http", deliver.Endpoint{Options: deliver.Options{Format: "cloudevents"}}, []string{goldenSecret}, func(ev *stream.Event) {
			ev.Workspace, ev.Source, ev.DedupeKey, ev.Data = "", "", "", []byte(`null`)
		}},
		{"cloudevents-binary.http", deliver.Endpoint{Options: deliver.Options{Format: "cloudevents-binary"}}, []string{goldenSecret}, nil},
		{"tenantx.http", deliver.Endpoint{Options: deliver.Options{Format: "tenantx"}}, []string{goldenSecret}, nil},
		{"tenantx-rotated.http", deliver.Endpoint{Headers: own, Options: deliver.Options{Format: "tenantx"}}, []string{goldenSecret, goldenBrought, goldenSecret}, func(ev *stream.Event) {
			ev.Workspace, ev.TraceParent = "", traceparent
		}},
		{"devsphere.http", deliver.Endpoint{Options: deliver.Options{Format: "devsphere"}}, []string{goldenBrought}, nil},
		{"vexyl.http", deliver.Endpoint{Options: deliver.Options{Format: "vexyl"}}, []string{goldenSecret}, nil},
		{"service.http", deliver.Endpoint{Options: deliver.Options{Format: "service"}}, []string{goldenSecret}, nil},
		{"acme-timestamped.http", deliver.Endpoint{Options: deliver.Options{Format: "acme-timestamped"}}, []string{goldenSecret, goldenBrought}, nil},
		{"acme-ed25519.http", deliver.Endpoint{Options: deliver.Options{Format: "acme-ed25519"}}, []string{goldenPrivate, goldenSecret}, nil},
		{"standard-redacted.http", deliver.Endpoint{Options: deliver.Options{Redact: []deliver.Redaction{
			{Path: "/data/note"}, {Path: "/data/total", Replace: json.RawMessage(`"…"`)}, {Path: "/data/lines", Types: []string{"order.*"}},
		}}}, []string{goldenSecret}, nil},
	} {
		t.Run(tc.file, func(t *testing.T) {
			tc.ep.ID, tc.ep.URL, tc.ep.Secrets = "ep_1", "http://receiver.example/hooks", anySecrets(t, tc.secrets...)
			to, err := all.Target(tc.ep)
			if err != nil {
				t.Fatal(err)
			}
			p := standardPayload(tc.change)
			before := string(p.Body)
			request := raw(t, to, p, time.Date(2026, 11, 21, 10, 0, 5, 999e6, time.UTC))
			golden(t, tc.file, request)
			if string(p.Body) != before {
				t.Error("the payload, which others share, was changed")
			}
			if tc.ep.Format != "" && !strings.HasPrefix(tc.ep.Format, "cloudevents") && tc.ep.Format != "acme-ed25519" {
				for line := range bytes.Lines(request) {
					if lower := bytes.ToLower(line); bytes.HasPrefix(lower, []byte("webhook-")) || bytes.HasPrefix(lower, []byte("grapnel-")) {
						t.Errorf("a header of ours: %s", line)
					}
				}
			}
			for _, text := range tc.secrets {
				if bytes.Contains(request, []byte(text)) || bytes.Contains(request, []byte(text[6:])) {
					t.Error("the request holds a secret")
				}
			}
		})
	}
}

// Every built-in format has a golden request.
func TestEveryFormatHasAGolden(t *testing.T) {
	for _, f := range deliver.BuiltInFormats() {
		if _, err := os.Stat(filepath.Join("..", "testdata", "requests", f.Name+".http")); err != nil {
			t.Error(err)
		}
		if err := f.Check(); err != nil {
			t.Errorf("%s: %v", f.Name, err)
		}
	}
}

// One sender, whose exchanges are used again, serves endpoints of all formats in
// turn: each request is that of a sender that never sent another.
func TestFormatsInTurn(t *testing.T) {
	all := formats(t, acmeFormats...)
	r, other := delivertest.NewReceiver(), delivertest.NewReceiver()
	url := r.Start(t)
	elsewhere := other.Start(t)
	s := newSender(t, loopback())
	var endpoints []deliver.Endpoint
	for _, name := range all.Names() {
		scheme := all.Scheme(name)
		newest, older := deliver.Secret{Secret: scheme.NewSecret()}, deliver.Secret{Secret: scheme.NewSecret(), ExpiresAt: noon.Add(time.Hour)}
		o := deliver.Options{Format: name}
		endpoints = append(endpoints,
			deliver.Endpoint{ID: "ep_1", Secrets: []deliver.Secret{newest}, Options: o},
			deliver.Endpoint{ID: "ep_2", Secrets: []deliver.Secret{newest, older}, Options: o, Headers: headers("X-Own", name)})
		o.Redact = []deliver.Redaction{{Path: "/data/note", Types: []string{"invoice.*"}}}
		endpoints = append(endpoints, deliver.Endpoint{ID: "ep_3", Secrets: []deliver.Secret{newest}, Options: o})
	}
	sent := map[*deliver.Payload]string{}
	for round := range 4 * len(endpoints) {
		ep := endpoints[round*7%len(endpoints)]
		if round >= 2*len(endpoints) { // those of one format behind each other
			ep = endpoints[round%len(endpoints)]
		}
		p := standardPayload(func(ev *stream.Event) {
			switch round / len(endpoints) % 3 {
			case 0:
				ev.Workspace, ev.DedupeKey, ev.TraceParent = "", "", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
			case 1:
				ev.Type = "order.paid"
			}
		})
		sent[p] = string(p.Body)
		at := noon.Add(time.Duration(round) * time.Second)
		send := func(s *deliver.Sender, url string, r *delivertest.Receiver) delivertest.Request {
			ep.URL = url
			to, err := all.Target(ep)
			if err != nil {
				t.Fatal(err)
			}
			if o := s.Send(t.Context(), to, p, deliver.Key{Event: 42, Endpoint: 7}, 1, at); o.Class != deliver.OK {
				t.Fatalf("outcome %+v", o)
			}
			return r.Requests()[round]
		}
		got := send(s, url, r)
		fresh := deliver.NewSender(loopback())
		want := send(fresh, elsewhere, other)
		fresh.Close()
		if diff := cmp.Diff(want.Header, got.Header); diff != "" {
			t.Errorf("round %d, %s of %s: headers (-fresh +used again):\n%s", round, ep.Format, ep.ID, diff)
		}
		if diff := cmp.Diff(string(want.Body), string(got.Body)); diff != "" {
			t.Errorf("round %d, %s of %s: body (-fresh +used again):\n%s", round, ep.Format, ep.ID, diff)
		}
		for other, before := range sent {
			if string(other.Body) != before {
				t.Fatalf("round %d, %s of %s: a payload, which others share, was changed", round, ep.Format, ep.ID)
			}
		}
		f, _ := all.Get(ep.Format)
		for _, secret := range ep.Secrets {
			v := f.Verifier()
			v.Secrets = []sign.Secret{secret.Secret}
			if err := v.Verify(got.Header, got.Body, at); err != nil && secret.Live(at) {
				t.Errorf("round %d, %s of %s: %v", round, ep.Format, ep.ID, err)
			}
		}
	}
}
