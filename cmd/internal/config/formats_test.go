package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/sign"
)

func TestFormats(t *testing.T) {
	c, err := load(t, nil, nil, `
formats:
  acme:
    scheme: timestamped
    headers:
      event_id: X-Acme-Id
      delivery_id: X-Acme-Delivery
      type: X-Acme-Event
      timestamp: X-Acme-Timestamp
      signature: Acme-Signature
      attempt: X-Acme-Attempt
    body:
      id: event_id
      event: type
      7: time_unix
      payload: data
  acme-keys:
    scheme: ed25519
    headers: {event_id: webhook-id, timestamp: webhook-timestamp, signature: webhook-signature}
    body: cloudevents
  acme_raw: {scheme: sha256-hex, headers: {signature: X-Signature}, body: data}
`)
	if err != nil {
		t.Fatal(err)
	}
	want := []deliver.Format{
		{Name: "acme", Scheme: sign.Timestamped, Body: deliver.BodyMap,
			Headers: deliver.FormatHeaders{EventID: "X-Acme-Id", DeliveryID: "X-Acme-Delivery", Type: "X-Acme-Event", Timestamp: "X-Acme-Timestamp", Signature: "Acme-Signature", Attempt: "X-Acme-Attempt"},
			Fields:  []deliver.BodyField{{Name: "id", Source: deliver.FromEventID}, {Name: "event", Source: deliver.FromType}, {Name: "7", Source: deliver.FromTimeUnix}, {Name: "payload", Source: deliver.FromData}}},
		{Name: "acme-keys", Scheme: sign.Ed25519, Body: deliver.BodyEvent,
			Headers: deliver.FormatHeaders{EventID: "webhook-id", Timestamp: "webhook-timestamp", Signature: "webhook-signature"}},
		{Name: "acme_raw", Scheme: sign.SHA256Hex, Body: deliver.BodyData, Headers: deliver.FormatHeaders{Signature: "X-Signature"}},
	}
	if diff := cmp.Diff(want, c.Formats); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := deliver.NewFormats(c.Formats); err != nil {
		t.Error(err)
	}
	if c, err := load(t, nil, nil, "formats: {}\n"); err != nil || len(c.Formats) != 0 {
		t.Errorf("no formats: %v %v", c.Formats, err)
	}
}

// A mistake stops the start, with the line and the reason, and all of them at
// once.
func TestFormatsRefused(t *testing.T) {
	const head = "formats:\n  acme:\n"
	for _, tc := range []struct{ name, file, want string }{
		{"no map", "formats: [a]\n", "grapnel.yaml:1: formats: want formats by name"},
		{"no parts", "formats:\n  acme: sha256-hex\n", "grapnel.yaml:1: formats: format acme in line 2: want scheme, headers and body"},
		{"an unknown part", head + "    shceme: sha256-hex\n    headers: {signature: X-S}\n    body: data\n", "format acme: shceme in line 3: unknown key: did you mean scheme?"},
		{"no scheme", head + "    headers: {signature: X-S}\n    body: data\n", `format acme: scheme in line 2: "": want one of standard, sha256-hex`},
		{"no headers", head + "    scheme: sha256-hex\n    body: data\n", "format acme in line 2: headers is missing"},
		{"no body", head + "    scheme: sha256-hex\n    headers: {signature: X-S}\n", "format acme in line 2: body is missing"},
		{"a scheme misspelt", head + "    scheme: sha256hex\n    headers: {signature: X-S}\n    body: data\n", `format acme: scheme in line 3: "sha256hex": did you mean sha256-hex?`},
		{"another scheme", head + "    scheme: rsa-with-sha\n    headers: {signature: X-S}\n    body: data\n", `format acme: scheme in line 3: "rsa-with-sha": want one of`},
		{"a role misspelt", head + "    scheme: sha256-hex\n    headers:\n      type: X-T\n      sginature: X-S\n    body: data\n", "format acme: headers.sginature in line 6: unknown key: did you mean signature?"},
		{"no signature", head + "    scheme: sha256-hex\n    headers:\n      type: X-T\n    body: data\n", "format acme: headers.signature in line 4: is missing"},
		{"no id where the scheme signs it", head + "    scheme: standard\n    headers:\n      signature: X-S\n    body: data\n", "format acme: headers.event_id in line 4: is missing: the scheme standard needs it"},
		{"a header of HTTP's", head + "    scheme: sha256-hex\n    headers:\n      signature: X-S\n      type: Content-Length\n    body: data\n", "format acme: headers.type in line 6: Content-Length cannot be set: it comes from the body"},
		{"a header twice", head + "    scheme: sha256-hex\n    headers:\n      type: X-S\n      signature: x-s\n    body: data\n", "format acme: headers.signature in line 6: x-s is the name of type already"},
		{"a role twice", head + "    scheme: sha256-hex\n    headers:\n      signature: X-S\n      signature: X-T\n    body: data\n", "grapnel.yaml:6"},
		{"a header without a name", head + "    scheme: sha256-hex\n    headers:\n      signature:\n    body: data\n", "format acme: headers.signature in line 5: has no value"},
		{"a body misspelt", head + "    scheme: sha256-hex\n    headers: {signature: X-S}\n    body: cloudevent\n", `format acme: body in line 5: "cloudevent": did you mean cloudevents?`},
		{"a body that is only a word", head + "    scheme: sha256-hex\n    headers: {signature: X-S}\n    body: map\n", "format acme: body in line 5: want a map of fields"},
		{"a source misspelt", head + "    scheme: sha256-hex\n    headers: {signature: X-S}\n    body:\n      event: type\n      id: envent_id\n", `format acme: body.id in line 7: "envent_id": did you mean event_id?`},
		{"a source that there is not", head + "    scheme: sha256-hex\n    headers: {signature: X-S}\n    body:\n      event: type\n      id: the_customers_password\n", `format acme: body.id in line 7: "the_customers_password": want one of event_id,`},
		{"a list of fields", head + "    scheme: sha256-hex\n    headers: {signature: X-S}\n    body: [data]\n", "format acme: body in line 5: want a text"},
		{"an empty map", head + "    scheme: sha256-hex\n    headers: {signature: X-S}\n    body: {}\n", "format acme: body in line 5: has 0 fields"},
		{"the name of a built-in one", "formats:\n\n  tenantx:\n    scheme: sha256-hex\n    headers: {signature: X-S}\n    body: data\n", "format tenantx in line 3: there is one of this name already"},
		{"a name with a space", "formats:\n  a b: {scheme: sha256-hex, headers: {signature: X-S}, body: data}\n", "format a b in line 2: want a name of at most 64 letters"},
		{"several mistakes", head + "    scheme: sha256hex\n    headers: {sig: X-S}\n    body: dat\n  other: {}\n", "scheme in line 3\nheaders.sig in line 4\nbody in line 5\nformat other in line 6: headers is missing"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := load(t, nil, nil, tc.file)
			if err == nil {
				t.Fatal("it was accepted")
			}
			for part := range strings.Lines(tc.want) {
				if part = strings.TrimSpace(part); !strings.Contains(err.Error(), part) {
					t.Errorf("want %q in:\n%v", part, err)
				}
			}
		})
	}
}
