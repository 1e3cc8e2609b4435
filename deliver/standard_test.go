package deliver

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/stream"
	"pgregory.net/rapid"
)

// told is a body of the format standard, as encoding/json reads it.
type told struct {
	ID        string          `json:"id"`
	Type      string          `json:"type"`
	Time      string          `json:"timestamp"`
	Org       string          `json:"organization_id"`
	Workspace string          `json:"workspace_id"`
	Version   string          `json:"schema_version"`
	Source    string          `json:"source"`
	Dedupe    string          `json:"dedupe_key"`
	Data      json.RawMessage `json:"data"`
}

func (s *standardBody) told() told {
	return told{plain(s.id), plain(s.typ), plain(s.time), plain(s.org), plain(s.workspace), plain(s.version), plain(s.source), plain(s.dedupe),
		bytes.TrimSpace(s.data)}
}

// What the stream writes is read as it was written, whatever an event has.
func TestParseStandard(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.Just(""), rapid.SampledFrom([]string{`","data":{}}`, `\`, `"`, "ü\u2028", "\x01", `,"type":"x"`}), rapid.String())
		ev := stream.Event{
			ID: stream.KeyID("acme", text.Draw(t, "key")), Org: "acme", Type: "invoice.paid", Workspace: text.Draw(t, "workspace"),
			SchemaVersion: text.Draw(t, "version"), Source: text.Draw(t, "source"), DedupeKey: text.Draw(t, "dedupe"),
			Data: json.RawMessage(drawJSON(t, 2)),
		}
		if rapid.Bool().Draw(t, "timed") {
			ev.Time = time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "s"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns"))
		}
		body := stream.AppendStandard(nil, &ev)
		s, ok := parseStandard(body)
		if !ok {
			t.Fatalf("not read: %s", body)
		}
		var want told
		if err := json.Unmarshal(body, &want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, s.told()); diff != "" {
			t.Fatalf("%s\n(-encoding/json +parseStandard):\n%s", body, diff)
		}
		if !bytes.Equal(s.data, ev.Data) || !bytes.Equal(body[s.dataAt:len(body)-1], ev.Data) {
			t.Fatalf("data %s, want %s", s.data, ev.Data)
		}
		if !s.when().Equal(ev.Time) {
			t.Fatalf("time %v, want %v", s.when(), ev.Time)
		}
	})
}

func FuzzParseStandard(f *testing.F) {
	for _, seed := range []string{
		`{"id":"evt_1","type":"a","timestamp":"2026-11-21T10:00:00Z","organization_id":"o","workspace_id":"w","schema_version":"1","source":"s","dedupe_key":"d","data":{}}`,
		`{"id":"evt_1","data":1}`, `{"id":"evt_1"}`, `{}`, `{"id":"a","id":"b"}`, `{"id":"\u0061","type":"\"","data":[]}`, `{"id":"a","data":}`, `{"id":"a"`, `{"type":"a"}`,
		`{"id":"a","data":1,"data":2}`, `{"id":"a" ,"data":1}`, `{"id":"a","other":1}`, `{"id":}`, `{"id":"`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		s, ok := parseStandard(body)
		var want told
		if !ok || !utf8.Valid(body) || !json.Valid(body) || !json.Valid(s.data) && s.data != nil {
			return // not ours, which must not panic
		}
		if err := json.Unmarshal(body, &want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, s.told()); diff != "" {
			t.Fatalf("%s\n(-encoding/json +parseStandard):\n%s", body, diff)
		}
	})
}

// What is no body of ours is not sent, in any format but the standard one, where it
// is not looked at.
func TestBodiesThatAreNotOurs(t *testing.T) {
	for _, body := range []string{``, `{}`, `[]`, `null`, `{"type":"a","id":"evt_1"}`, `{"id":"evt_1","data":}`, `{"id":"evt_1","x":1}`, `{"id":"evt_1" }`, "{\"id\":\"e\n\"}"} {
		if s, ok := parseStandard([]byte(body)); ok {
			t.Errorf("%s was read as %+v", body, s.told())
		}
	}
}
