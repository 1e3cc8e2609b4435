package deliver

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/stream"
)

// A request is shown with the scheme of its credentials and never with them, up
// to a limit, and without the body that nobody has any more.
func TestShown(t *testing.T) {
	at := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	ev := stream.Event{ID: stream.KeyID("acme", "k"), Org: "acme", Type: "invoice.paid", Time: at, Data: []byte(`"` + strings.Repeat("x", MaxShownBody) + `"`)}
	p := &Payload{Event: 1, ID: ev.ID, Org: "acme", Type: ev.Type, Stored: at, Body: stream.AppendStandard(nil, &ev)}
	var fs *Formats
	s := RequestSettings{URL: "https://hooks.example/in?key=[redacted]", Headers: []string{"X-Password"}, Auth: AuthBasic}

	r, err := fs.Shown(s, p, Key{1, 2}, 3, at, "grapnel/test")
	if err != nil {
		t.Fatal(err)
	}
	if r.URL != s.URL || !r.Truncated || !bytes.Equal(r.Body, p.Body[:MaxShownBody]) {
		t.Errorf("%s, truncated %v, %d bytes", r.URL, r.Truncated, len(r.Body))
	}
	for name, want := range map[string]string{
		"Authorization": "Basic [redacted]", "X-Password": "[redacted]", "Webhook-Signature": "[redacted]", "Grapnel-Attempt": "3", "Webhook-Id": ev.ID.String(),
	} {
		if got := r.Header[name]; cmp.Diff([]string{want}, got) != "" {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}

	gone := &Payload{Event: 1, ID: ev.ID, Org: "acme", Type: ev.Type, Stored: at}
	s.Auth, s.Format = AuthBearer, "cloudevents"
	if r, err = fs.Shown(s, gone, Key{1, 2}, 3, at, "grapnel/test"); err != nil {
		t.Fatal(err)
	}
	if r.Body != nil || r.Truncated || r.Header["Authorization"][0] != "Bearer [redacted]" {
		t.Errorf("without the event: %+v", r)
	}

	s.Format = "nobody's"
	if _, err := fs.Shown(s, p, Key{1, 2}, 3, at, ""); !errors.Is(err, ErrFormat) {
		t.Errorf("a format that is not there: %v", err)
	}
}

func TestMaskQuery(t *testing.T) {
	for url, want := range map[string]string{
		"https://a.example/b":            "https://a.example/b",
		"https://a.example/b?":           "https://a.example/b?",
		"https://a.example/b?k=v":        "https://a.example/b?k=[redacted]",
		"https://a.example/b?k=v=w&x=":   "https://a.example/b?k=[redacted]&x=[redacted]",
		"https://a.example/b?secret&=v":  "https://a.example/b?[redacted]&[redacted]",
		"https://a.example/b?k=v?secret": "https://a.example/b?k=[redacted]",
	} {
		if got := maskQuery(url); got != want {
			t.Errorf("%s: %s, want %s", url, got, want)
		}
	}
}
