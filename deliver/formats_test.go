package deliver_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/delivertest"
	"github.com/grapnel-hooks/grapnel/deliver/sign"
	"github.com/grapnel-hooks/grapnel/stream"
)

// soundFormat is a format that can be used, but for the change.
func soundFormat(change func(*deliver.Format)) deliver.Format {
	f := deliver.Format{Name: "acme", Scheme: sign.SHA256Hex, Body: deliver.BodyMap,
		Headers: deliver.FormatHeaders{Type: "X-Acme-Event", Signature: "X-Acme-Signature"},
		Fields:  []deliver.BodyField{{Name: "event", Source: deliver.FromType}, {Name: "data", Source: deliver.FromData}}}
	change(&f)
	return f
}

func TestFormatCheck(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*deliver.Format)
		want   string // "": it is sound
	}{
		{"sound", func(*deliver.Format) {}, ""},
		{"names of Standard Webhooks", func(f *deliver.Format) {
			f.Scheme, f.Headers = sign.Ed25519, deliver.FormatHeaders{EventID: "webhook-id", Timestamp: "webhook-timestamp", Signature: "webhook-signature", DeliveryID: "Grapnel-Delivery"}
		}, ""},
		{"data alone", func(f *deliver.Format) { f.Body, f.Fields = deliver.BodyData, nil }, ""},
		{"no name", func(f *deliver.Format) { f.Name = "" }, "want a name of at most 64"},
		{"a name with a space", func(f *deliver.Format) { f.Name = "acme one" }, "want a name"},
		{"no scheme", func(f *deliver.Format) { f.Scheme = "" }, `scheme: "": want one of standard, sha256-hex, timestamped, ed25519`},
		{"unknown scheme", func(f *deliver.Format) { f.Scheme = "md5" }, `scheme: "md5": want one of`},
		{"no signature", func(f *deliver.Format) { f.Headers.Signature = "" }, "headers.signature: is missing: the scheme sha256-hex needs it"},
		{"nothing that names what is signed", func(f *deliver.Format) { f.Scheme = sign.Standard }, "headers.event_id: is missing: the scheme standard needs it"},
		{"no time of what is signed", func(f *deliver.Format) { f.Scheme, f.Headers.EventID = sign.Ed25519, "X-Id" }, "headers.timestamp: is missing: the scheme ed25519 needs it"},
		{"a header with a space", func(f *deliver.Format) { f.Headers.Type = "X Acme" }, `headers.type: a name holds ' '`},
		{"a header that breaks out", func(f *deliver.Format) { f.Headers.Type = "X-A\r\nX-B" }, "headers.type: a name holds '\\r'"},
		{"Host", func(f *deliver.Format) { f.Headers.Type = "host" }, "headers.type: host cannot be set: it comes from the URL"},
		{"Content-Length", func(f *deliver.Format) { f.Headers.Attempt = "Content-Length" }, "headers.attempt: Content-Length cannot be set"},
		{"Content-Type", func(f *deliver.Format) { f.Headers.Attempt = "Content-Type" }, "cannot be set"},
		{"traceparent", func(f *deliver.Format) { f.Headers.EventID = "traceparent" }, "cannot be set"},
		{"Idempotency-Key", func(f *deliver.Format) { f.Headers.EventID = "Idempotency-Key" }, "cannot be set"},
		{"Authorization", func(f *deliver.Format) { f.Headers.Signature = "Authorization" }, "headers.signature: Authorization cannot be set"},
		{"Proxy-", func(f *deliver.Format) { f.Headers.Type = "Proxy-X" }, "headers.type: Proxy-X cannot be set"},
		{"a long name", func(f *deliver.Format) { f.Headers.Type = strings.Repeat("x", 65) }, "has 65 bytes, want at most 64"},
		{"the same header", func(f *deliver.Format) { f.Headers.Type = "x-acme-signature" }, "is the name of type already"},
		{"the header of the secret before", func(f *deliver.Format) { f.Headers.Attempt = "X-Acme-Signature-Previous" }, "headers.attempt: X-Acme-Signature-Previous is the name of signature already"},
		{"ce- in binary", func(f *deliver.Format) { f.Body, f.Fields, f.Headers.Type = deliver.BodyBinary, nil, "ce-type" }, "headers.type: ce-type: names that begin with ce- belong to CloudEvents"},
		{"no fields", func(f *deliver.Format) { f.Fields = nil }, "body: has 0 fields"},
		{"too many fields", func(f *deliver.Format) { f.Fields = make([]deliver.BodyField, 25) }, "body: has 25 fields, want 1 to 24"},
		{"a field twice", func(f *deliver.Format) { f.Fields = append(f.Fields, f.Fields[0]) }, "body.event: is there twice"},
		{"a field without a name", func(f *deliver.Format) { f.Fields[0].Name = "" }, "body: the name of a field"},
		{"an unknown source", func(f *deliver.Format) { f.Fields[0].Source = "secret" }, `body.event: "secret": want one of event_id, delivery_id,`},
		{"an unknown body", func(f *deliver.Format) { f.Body = "xml" }, `body: "xml": want a map of fields, or one of data, standard, cloudevents, cloudevents-binary`},
		{"fields for nothing", func(f *deliver.Format) { f.Body = deliver.BodyData }, "body: is either data or a map of fields"},
	} {
		f := soundFormat(tc.change)
		err := f.Check()
		switch {
		case tc.want == "" && err != nil, tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		case err != nil && !errors.As(err, new(*deliver.FormatError)):
			t.Errorf("%s: no FormatError: %#v", tc.name, err)
		}
	}
}

func TestNewFormats(t *testing.T) {
	sound := soundFormat(func(*deliver.Format) {})
	fs := formats(t, sound)
	want := []string{"standard", "cloudevents", "cloudevents-binary", "tenantx", "devsphere", "vexyl", "service", "acme"}
	if diff := cmp.Diff(want, fs.Names()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	got, ok := fs.Get("acme")
	if diff := cmp.Diff(sound, got); !ok || diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, ok := (*deliver.Formats)(nil).Get("acme"); ok {
		t.Error("it is built in")
	}
	if f, ok := (*deliver.Formats)(nil).Get(""); !ok || f.Name != deliver.FormatStandard {
		t.Errorf("the default is %+v", f)
	}
	for name, list := range map[string][]deliver.Format{
		"twice":       {sound, sound},
		"a built-in":  {soundFormat(func(f *deliver.Format) { f.Name = "tenantx" })},
		"unsound":     {soundFormat(func(f *deliver.Format) { f.Scheme = "" })},
		"one hundred": make([]deliver.Format, deliver.MaxFormats+1),
	} {
		if _, err := deliver.NewFormats(list); !errors.As(err, new(*deliver.FormatError)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An endpoint is sent nothing in a format that is not there, or that its secret
// cannot sign; older secrets that cannot are left out.
func TestSecretsOfFormats(t *testing.T) {
	fs := formats(t, acmeFormats...)
	const canary = "canary-brought-by-a-platform"
	for _, tc := range []struct {
		format  string
		secrets []string
		signing int    // signatures, if it can be used
		want    string // else
	}{
		{"", []string{goldenSecret}, 1, ""},
		{"standard", []string{goldenSecret, canary}, 1, ""},
		{"standard", []string{canary}, 0, "signs by standard"},
		{"standard", []string{goldenPrivate}, 0, "signs by standard"},
		{"tenantx", []string{canary, goldenSecret}, 2, ""},
		{"tenantx", []string{goldenPrivate}, 0, "signs by sha256-hex"},
		{"tenantx", []string{goldenSecret, goldenPrivate}, 1, ""},
		{"acme-timestamped", []string{goldenSecret, canary, goldenPrivate}, 2, ""},
		{"acme-ed25519", []string{goldenPrivate, goldenSecret}, 1, ""},
		{"acme-ed25519", []string{goldenSecret}, 0, "signs by ed25519"},
		{"acme-gone", []string{goldenSecret}, 0, `there is no format "acme-gone"`},
	} {
		ep := deliver.Endpoint{ID: "ep_1", URL: "http://127.0.0.1:1/", Secrets: anySecrets(t, tc.secrets...), Options: deliver.Options{Format: tc.format}}
		check := fs.CheckEndpoint(&ep)
		to, err := fs.Target(ep)
		if tc.want != "" {
			if !errors.Is(err, deliver.ErrFormat) || !strings.Contains(err.Error(), tc.want) || !errors.Is(check, deliver.ErrFormat) || !errors.As(check, new(*deliver.OptionError)) {
				t.Errorf("%s with %d secrets: %v, %v", tc.format, len(tc.secrets), err, check)
			}
			for _, e := range []error{err, check} {
				if strings.Contains(e.Error(), "canary") || strings.Contains(e.Error(), goldenPrivate[5:20]) {
					t.Errorf("the error holds a secret: %v", e)
				}
			}
			continue
		}
		if err != nil || check != nil {
			t.Errorf("%s: %v, %v", tc.format, err, check)
			continue
		}
		request := raw(t, retargeted(t, fs, ep), standardPayload(nil), noon)
		_ = to
		f, _ := fs.Get(tc.format)
		n := 0
		for line := range bytes.Lines(request) {
			name, value, ok := bytes.Cut(line, []byte(": "))
			if ok && strings.HasPrefix(strings.ToLower(string(name)), strings.ToLower(f.Headers.Signature)) {
				n += max(bytes.Count(value, []byte("v1")), bytes.Count(value, []byte("sha256=")))
			}
		}
		if n != tc.signing {
			t.Errorf("%s with %d secrets: %d signatures, want %d", tc.format, len(tc.secrets), n, tc.signing)
		}
	}
}

func retargeted(t *testing.T, fs *deliver.Formats, ep deliver.Endpoint) *deliver.Target {
	t.Helper()
	ep.URL = "http://receiver.example/"
	to, err := fs.Target(ep)
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// A header of the endpoint's own that its format has is refused; if the format
// came later, the format's is sent.
func TestHeadersOfFormatsAreOurs(t *testing.T) {
	fs := formats(t)
	for format, name := range map[string]string{
		"tenantx": "x-tenantx-EVENT", "devsphere": "X-Signature", "vexyl": "X-Webhook-Signature-Previous", "cloudevents-binary": "Ce-Type",
	} {
		ep := deliver.Endpoint{ID: "ep_1", URL: "http://receiver.example/", Secrets: anySecrets(t, goldenSecret), Headers: headers(name, "forged"), Options: deliver.Options{Format: format}}
		var bad *deliver.OptionError
		if err := fs.CheckEndpoint(&ep); !errors.As(err, &bad) || !strings.EqualFold(bad.Field, "headers."+name) {
			t.Errorf("%s: %v", format, err)
		}
		if request := raw(t, retargeted(t, fs, ep), standardPayload(nil), noon); bytes.Contains(request, []byte("forged")) {
			t.Errorf("%s: %s", format, request)
		}
		ep.Format = ""
		if err := fs.CheckEndpoint(&ep); err != nil {
			t.Errorf("%s in the standard format: %v", name, err)
		}
	}
}

// What is redacted never reaches the wire, in any format, nor what is kept of an
// answer that shows the whole request, nor what is shown as the request, nor the
// log; and signatures are of what is sent.
func TestRedactedDataStaysHere(t *testing.T) {
	const canary = "canary-4711"
	all := formats(t, acmeFormats...)
	p := standardPayload(func(ev *stream.Event) {
		ev.Data = []byte(`{"patient":{"name":"` + canary + `","\u0069d":"` + canary + `"},"notes":[{"text":"` + canary + `"},{"text":"` + canary + `"}],"ward":"3"}`)
	})
	redact := []deliver.Redaction{
		{Path: "/data/patient/name"}, {Path: "/data/patient/id", Replace: json.RawMessage(`"[removed]"`)}, {Path: "/data/notes/*/text", Types: []string{"invoice.*"}},
	}
	var log bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	for _, name := range all.Names() {
		scheme := all.Scheme(name)
		secret := scheme.NewSecret()
		r := delivertest.NewReceiver()
		r.Otherwise(func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("X-Request-Id", req.Header.Get("Ce-Id"))
			w.WriteHeader(http.StatusInternalServerError)
			req.Write(w)
		})
		to, err := all.Target(deliver.Endpoint{ID: "ep_1", URL: r.Start(t), Secrets: []deliver.Secret{{Secret: secret}}, Options: deliver.Options{Format: name, Redact: redact}})
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		o := newSender(t, loopback()).Send(t.Context(), to, p, deliver.Key{Event: 42, Endpoint: 7}, 1, now)
		logger.Debug("attempt", "outcome", o, "target", to)
		req := r.Requests()[0]
		shown, err := to.Request(p, deliver.Key{Event: 42, Endpoint: 7}, 1, now, "grapnel/test")
		if err != nil {
			t.Fatal(err)
		}
		for where, text := range map[string][]byte{"wire": req.Body, "kept": o.Body, "shown": shown.Body, "log": log.Bytes()} {
			if bytes.Contains(text, []byte(canary)) {
				t.Errorf("%s: %s: %s", name, where, text)
			}
		}
		if !bytes.Contains(req.Body, []byte(`"patient":{"\u0069d":"[removed]"},"notes":[{},{}],"ward":"3"}`)) {
			t.Errorf("%s: the rest was changed: %s", name, req.Body)
		}
		if diff := cmp.Diff(string(req.Body), string(shown.Body)); diff != "" {
			t.Errorf("%s: what is shown (-sent +shown):\n%s", name, diff)
		}
		for header := range shown.Header {
			if sent, value := req.Header[http.CanonicalHeaderKey(header)], shown.Header[header]; sent == nil || sent[0] != value[0] && value[0] != "[redacted]" {
				t.Errorf("%s: %s is sent as %s, shown as %s", name, header, sent, value)
			}
		}
		f, _ := all.Get(name)
		if got := shown.Header[f.Headers.Signature]; len(got) != 1 || got[0] != "[redacted]" || shown.URL == "" || shown.Method != "POST" {
			t.Errorf("%s: shown %+v", name, shown)
		}
		v := f.Verifier()
		v.Secrets = []sign.Secret{secret}
		if err := v.Verify(req.Header, req.Body, now); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The dedupe key that the stream made from an envelope holds data.id: it goes where
// that goes, in all formats, in bodies and headers. One that the publisher chose stays.
func TestRedactedIDIsInNoDedupeKey(t *testing.T) {
	const canary = "canary-4711"
	all := formats(t, acmeFormats...)
	for _, c := range []struct {
		name, path, key string
		id              any
		kept            bool // the key is sent
	}{
		{"the id", "/data/id", canary, canary, false},
		{"all members", "/data/*", canary, canary, false},
		{"a number", "/data/id", "4711", 4711, false},
		{"an id of any bytes", "/data/id", "sha256:" + fmt.Sprintf("%x", sha256.Sum256([]byte(canary+"\n"))), canary + "\n", false},
		{"something else", "/data/name", canary, canary, true},
		{"a key of the publisher's", "/data/id", "his-own", canary, true},
	} {
		p := standardPayload(func(ev *stream.Event) {
			ev.Time = time.Unix(1763719200, 250e6)
			ev.DedupeKey = ev.Type + "/" + c.key + "/1763719200.25"
			ev.Data = must(json.Marshal(map[string]any{"id": c.id, "name": "n"}))
		})
		for _, name := range all.Names() {
			ep := deliver.Endpoint{ID: "ep_1", URL: "https://hooks.example/", Secrets: []deliver.Secret{{Secret: all.Scheme(name).NewSecret()}},
				Options: deliver.Options{Format: name, Redact: []deliver.Redaction{{Path: c.path}}}}
			to, err := all.Target(ep)
			if err != nil {
				t.Fatal(err)
			}
			shown, err := to.Request(p, deliver.Key{Event: 42, Endpoint: 7}, 1, noon, "grapnel/test")
			if err != nil || !json.Valid(shown.Body) {
				t.Fatalf("%s, %s: %v %s", c.name, name, err, shown.Body)
			}
			text := string(shown.Body) + fmt.Sprint(shown.Header)
			if name == "standard" && strings.Contains(text, `"dedupe_key":"`) != c.kept || !c.kept && strings.Contains(text, c.key) {
				t.Errorf("%s, %s: %s", c.name, name, text)
			}
		}
	}
}

// What is redacted for another type of event is sent, and a body that is not ours
// is our fault, and sent to nobody.
func TestRedactionKnowsItsEvent(t *testing.T) {
	r := delivertest.NewReceiver()
	ep := deliver.Endpoint{ID: "ep_1", URL: r.Start(t), Secrets: anySecrets(t, goldenSecret), Options: deliver.Options{
		Redact: []deliver.Redaction{{Path: "/data/invoice", Types: []string{"order.*"}}},
	}}
	to, err := deliver.NewTarget(ep)
	if err != nil {
		t.Fatal(err)
	}
	s := newSender(t, loopback())
	p := standardPayload(nil)
	if o := s.Send(t.Context(), to, p, deliver.Key{Event: 1, Endpoint: 7}, 1, noon); o.Class != deliver.OK || string(r.Requests()[0].Body) != string(p.Body) {
		t.Errorf("%+v: %s", o, r.Requests()[0].Body)
	}
	for _, body := range []string{"", "{}", `{"id":"evt_1","type":"order.paid","data":{"invoice":}`, `{"id":"evt_1","type":"order.paid","data":{"invoice":"x"}`} {
		broken := &deliver.Payload{Event: 2, ID: p.ID, Stored: p.Stored, Body: []byte(body)}
		if o := s.Send(t.Context(), to, broken, deliver.Key{Event: 2, Endpoint: 7}, 1, noon); o.Class != deliver.Ours || strings.Contains(o.Error, "invoice") {
			t.Errorf("%s: %+v", body, o)
		}
		if _, err := to.Request(broken, deliver.Key{Event: 2, Endpoint: 7}, 1, noon, ""); err == nil {
			t.Errorf("%s is shown", body)
		}
	}
	if n := len(r.Requests()); n != 1 {
		t.Errorf("%d requests", n)
	}
}

// Secrets of all forms are taken out of what is kept of an answer.
func TestSecretsOfAllFormsAreMasked(t *testing.T) {
	fs := formats(t, acmeFormats...)
	const brought = `bring"your<own>secret`
	for _, tc := range []struct {
		format  string
		secrets []string
	}{
		{"tenantx", []string{brought}}, {"tenantx", []string{goldenSecret, brought}}, {"acme-ed25519", []string{goldenPrivate, goldenSecret}}, {"standard", []string{goldenSecret, brought}},
	} {
		r := delivertest.NewReceiver()
		echo := strings.Join(tc.secrets, " | ") + string(must(json.Marshal(tc.secrets)))
		r.Otherwise(delivertest.Reply(500, echo, "Server", tc.secrets[0]))
		to, err := fs.Target(deliver.Endpoint{ID: "ep_1", URL: r.Start(t), Secrets: anySecrets(t, tc.secrets...), Options: deliver.Options{Format: tc.format}})
		if err != nil {
			t.Fatal(err)
		}
		o := newSender(t, loopback()).Send(t.Context(), to, standardPayload(nil), deliver.Key{Event: 1, Endpoint: 7}, 1, noon)
		for _, s := range append(tc.secrets, `bring\"your\u003cown`) {
			if bytes.Contains(o.Body, []byte(s)) || strings.Contains(o.Header.Get("Server"), s) {
				t.Errorf("%s keeps %s %v", tc.format, o.Body, o.Header)
			}
		}
		if !bytes.Contains(o.Body, []byte("[redacted]")) {
			t.Errorf("%s: %s", tc.format, o.Body)
		}
	}
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}
