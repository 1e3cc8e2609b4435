package stream

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestAppendStandardGolden(t *testing.T) {
	for file, ev := range map[string]*Event{
		"standard_full.json": keyed("in_1-paid", func(ev *Event) {
			ev.Time, ev.Workspace, ev.Source = time.Date(2026, 11, 21, 11, 0, 0, 0, time.FixedZone("", 3600)), "berlin", "billing"
			ev.TraceParent, ev.Data = traceParent, json.RawMessage(`{ "amount": 1.50, "note": "<b>&\u2028" }`)
		}),
		"standard_least.json": paid(nil),
	} {
		want, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(bytes.TrimSuffix(want, []byte("\n"))), string(AppendStandard(nil, ev))); diff != "" {
			t.Errorf("%s: %s", file, diff)
		}
	}
}

// standard is the body of the format standard, as a receiver reads it.
type standard struct {
	ID            ID              `json:"id"`
	Type          string          `json:"type"`
	Time          time.Time       `json:"timestamp,omitzero"`
	Org           string          `json:"organization_id"`
	Workspace     string          `json:"workspace_id,omitempty"`
	SchemaVersion string          `json:"schema_version,omitempty"`
	Source        string          `json:"source,omitempty"`
	DedupeKey     string          `json:"dedupe_key,omitempty"`
	Data          json.RawMessage `json:"data,omitempty"`
}

// checkStandard reads the body of ev and compares it with ev, and its bytes
// with what encoding/json would have written.
func checkStandard(t interface {
	Helper()
	Fatalf(string, ...any)
}, ev *Event) {
	t.Helper()
	got := AppendStandard([]byte("before"), ev)
	got, ok := bytes.CutPrefix(got, []byte("before"))
	if !ok {
		t.Fatalf("what was there is gone: %s", got)
	}
	want := standard{ev.ID, ev.Type, ev.Time, ev.Org, ev.Workspace, ev.SchemaVersion, ev.Source, ev.DedupeKey, ev.Data}
	var read standard
	dec := json.NewDecoder(bytes.NewReader(got))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&read); err != nil {
		t.Fatalf("%s: %v", got, err)
	}
	if diff := cmp.Diff(want, read); diff != "" {
		t.Fatalf("%s: %s", got, diff)
	}
	if !bytes.Contains(got, ev.Data) {
		t.Fatalf("%s does not hold the data %s", got, ev.Data)
	}
}

func TestAppendStandardProperty(t *testing.T) {
	text := rapid.StringN(0, 40, 200)
	rapid.Check(t, func(t *rapid.T) {
		data, err := json.Marshal(rapid.MapOf(text, rapid.SliceOf(text)).Draw(t, "data"))
		if err != nil {
			t.Fatal(err)
		}
		ev := Event{
			ID: KeyID("acme", text.Draw(t, "key")), Type: text.Draw(t, "type"), Org: text.Draw(t, "org"), Workspace: text.Draw(t, "workspace"),
			SchemaVersion: text.Draw(t, "version"), Source: text.Draw(t, "source"), DedupeKey: text.Draw(t, "dedupe key"), Data: data,
			Time: time.Unix(rapid.Int64Range(-1e10, 1e11).Draw(t, "sec"), rapid.Int64Range(0, 999_999_999).Draw(t, "nsec")).UTC(),
		}
		checkStandard(t, &ev)
	})
}

func TestAppendJSONString(t *testing.T) {
	for s, want := range map[string]string{
		"":                   `""`,
		"a":                  `"a"`,
		`"\/`:                `"\"\\/"`,
		"\n\r\t\b\f\x00\x1f": `"\n\r\t\u0008\u000c\u0000\u001f"`,
		"<a>&'ö🎣\u2028\x7f":  "\"<a>&'ö🎣\u2028\x7f\"",
		"a\xffb\xe2\x82":     "\"a\ufffdb\ufffd\ufffd\"",
		"\ufffd":             "\"\ufffd\"",
	} {
		if got := string(AppendJSONString(nil, s)); got != want {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
	}
}

// FuzzAppendJSONString: the string that is read back is the one that was
// appended, and it is read back from valid JSON in UTF-8.
func FuzzAppendJSONString(f *testing.F) {
	f.Add("a\"\\\x00\xff\u2028")
	f.Fuzz(func(t *testing.T, s string) {
		b := AppendJSONString(nil, s)
		var got string
		if err := json.Unmarshal(b, &got); err != nil || !utf8.Valid(b) {
			t.Fatalf("%q: %q: %v", s, b, err)
		}
		if want := string([]rune(s)); got != want {
			t.Errorf("%q became %q", s, got)
		}
	})
}

func BenchmarkAppendStandard(b *testing.B) {
	ev, err := Decoding{Org: "acme"}.Decode(benchMessage(1024))
	if err != nil {
		b.Fatal(err)
	}
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst = AppendStandard(dst[:0], &ev)
	}
	b.SetBytes(int64(len(dst)))
}
