package fanout

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/stream"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// decodeLine decodes messages that are written "type" or "type key"; "!" and
// "?" are broken in two ways, and "panic" is our own fault.
func decodeLine(m stream.Message) (stream.Event, error) {
	typ, key, _ := strings.Cut(string(m.Data), " ")
	switch typ {
	case "!":
		return stream.Event{}, &stream.Rejected{Code: stream.CodeNotJSON, Detail: "broken"}
	case "?":
		return stream.Event{}, errors.New("no reason")
	case "panic":
		panic("index out of range")
	}
	id := stream.SeqID("acme", m.Seq, m.Time)
	if key != "" {
		id = stream.KeyID("acme", key)
	}
	return stream.Event{ID: id, Org: "acme", Seq: m.Seq, Type: typ}, nil
}

// planLines plans a batch of such lines, with sequences from 101.
func planLines(org Org, lines ...string) Plan {
	b := cursor.Batch{
		From: cursor.Position{Org: "acme", Incarnation: 1, Seq: 100},
		To:   cursor.Position{Org: "acme", Incarnation: 1, Seq: 100 + stream.Seq(len(lines))},
	}
	for i, l := range lines {
		b.Messages = append(b.Messages, stream.Message{
			Subject: "events.acme.x", Seq: stream.Seq(101 + i), Time: noon, Data: []byte(l),
		})
	}
	set := Compile(3, []Subscription{
		{Endpoint: 1, Types: []string{"invoice.*"}, Incarnation: 1},
		{Endpoint: 2, Types: []string{"*"}, Incarnation: 1, From: 104},
	})
	return makePlan(org, b, set, decodeLine)
}

func TestMakePutsEachMessageInOnePlace(t *testing.T) {
	type planned struct {
		Seq       stream.Seq
		Endpoints []int64
	}
	type places struct {
		Events                []planned
		Rejected              []string // sequence's line, and code
		Gated                 []stream.Seq
		Unmatched, Duplicates int
	}
	acme := Org{ID: "acme"}
	tests := []struct {
		name  string
		org   Org
		lines []string
		want  places
	}{
		{"nothing", acme, nil, places{}},
		{"subscribed, and to nobody", acme, []string{"invoice.paid", "page.made"},
			places{Events: []planned{{101, []int64{1}}}, Unmatched: 1}},
		{"a subscription that starts within the batch", acme, []string{"a", "a", "a", "a", "a", "invoice.paid"},
			places{Events: []planned{{105, []int64{2}}, {106, []int64{1, 2}}}, Unmatched: 4}},
		{"one key twice", acme, []string{"invoice.paid k", "invoice.paid", "invoice.paid k"},
			places{Events: []planned{{101, []int64{1}}, {102, []int64{1}}}, Duplicates: 1}},
		{"one key three times, other types", acme, []string{"invoice.paid k", "invoice.void k", "invoice.paid k"},
			places{Events: []planned{{101, []int64{1}}}, Duplicates: 2}},
		{"one key, first to nobody: as if they had come in two batches", acme, []string{"page.made k", "invoice.paid k", "page.made k"},
			places{Events: []planned{{102, []int64{1}}}, Unmatched: 2}},
		{"no events", acme, []string{"!", "invoice.paid", "?", "panic"},
			places{Events: []planned{{102, []int64{1}}}, Rejected: []string{"! not_json broken", "? poison no reason", "panic poison decoding panicked: index out of range"}}},
		{"gated", Org{ID: "acme", Gated: true}, []string{"invoice.paid", "!", "page.made"},
			places{Gated: []stream.Seq{101, 103}, Rejected: []string{"! not_json broken"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := planLines(tt.org, tt.lines...)
			got := places{Gated: p.Gated, Unmatched: p.Unmatched, Duplicates: p.Duplicates}
			for _, e := range p.Events {
				got.Events = append(got.Events, planned{e.Seq, e.Endpoints})
			}
			for _, r := range p.Rejected {
				if line := tt.lines[r.Seq-101]; line != string(r.Data) || r.Subject != "events.acme.x" || !r.Stored.Equal(noon) {
					t.Errorf("rejected %+v, want %q", r, line)
				}
				got.Rejected = append(got.Rejected, string(r.Data)+" "+r.Code+" "+r.Detail)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if n := len(p.Events) + len(p.Rejected) + len(p.Gated) + p.Unmatched + p.Duplicates; n != len(tt.lines) {
				t.Errorf("%d of %d messages are accounted for", n, len(tt.lines))
			}
			if p.Org != "acme" || p.Version != 3 || p.From.Seq != 100 || p.To.Seq != 100+stream.Seq(len(tt.lines)) {
				t.Errorf("plan of %s, version %d, from %d to %d", p.Org, p.Version, p.From.Seq, p.To.Seq)
			}
		})
	}
}

func TestMakeKeepsOnlyTheFrontOfWhatIsRejected(t *testing.T) {
	set := Compile(1, nil)
	b := cursor.Batch{Messages: []stream.Message{{Seq: 1, Data: bytes.Repeat([]byte("x"), MaxRejectedData+1)}}}
	p := makePlan(Org{ID: "acme"}, b, set, func(stream.Message) (stream.Event, error) {
		return stream.Event{}, &stream.Rejected{Code: stream.CodeTooLarge}
	})
	if n := len(p.Rejected[0].Data); n != MaxRejectedData || cap(p.Rejected[0].Data) != n {
		t.Errorf("%d bytes are kept, with room for %d; want %d", n, cap(p.Rejected[0].Data), MaxRejectedData)
	}
}

func TestMakeSaysWhereANewIncarnationBegan(t *testing.T) {
	at := func(incarnation int, seq stream.Seq) cursor.Position {
		return cursor.Position{Org: "acme", Incarnation: incarnation, Seq: seq}
	}
	messages := func(from, to stream.Seq) (ms []stream.Message) {
		for s := from; s <= to; s++ {
			ms = append(ms, stream.Message{Seq: s, Data: []byte("a")})
		}
		return ms
	}
	tests := []struct {
		name string
		b    cursor.Batch
		want stream.Seq
	}{
		{"the same", cursor.Batch{From: at(1, 50), To: at(1, 52), Messages: messages(51, 52)}, 0},
		{"made anew", cursor.Batch{Change: cursor.Recreated, From: at(1, 50), To: at(2, 3), Messages: messages(1, 3)}, 0},
		{"made anew and purged", cursor.Batch{Change: cursor.Recreated, From: at(1, 50), To: at(2, 9), Messages: messages(8, 9),
			Gaps: []cursor.Gap{{Incarnation: 2, From: 1, To: 7}}}, 0},
		{"rolled back, nothing new", cursor.Batch{Change: cursor.Regressed, From: at(1, 50), To: at(2, 40)}, 40},
		{"rolled back, and on", cursor.Batch{Change: cursor.Regressed, From: at(1, 50), To: at(2, 43), Messages: messages(41, 43)}, 40},
		{"rolled back, with a gap of the old", cursor.Batch{Change: cursor.Regressed, From: at(1, 50), To: at(2, 40),
			Gaps: []cursor.Gap{{Incarnation: 1, From: 30, To: 40}}}, 40},
	}
	for _, tt := range tests {
		if got := makePlan(Org{ID: "acme"}, tt.b, Compile(1, nil), decodeLine).Began; got != tt.want {
			t.Errorf("%s: began after %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestMakeWithRealDecoding(t *testing.T) {
	dec := stream.Decoding{Org: "acme"}
	b := cursor.Batch{Messages: []stream.Message{
		{Subject: "events.acme.invoice.paid", Seq: 1, Time: noon, Header: stream.Header{"Grapnel-Workspace": {"berlin"}}, Data: []byte(`{"invoice":"in_1"}`)},
		{Subject: "events.acme.invoice.paid", Seq: 2, Time: noon, Data: []byte(`{`)},
	}}
	p := Make(Org{ID: "acme"}, b, Compile(1, []Subscription{{Endpoint: 4, Types: []string{"*"}, Workspace: "berlin"}}), dec)
	if len(p.Events) != 1 || p.Events[0].Type != "invoice.paid" || len(p.Rejected) != 1 || p.Rejected[0].Code != stream.CodeNotJSON {
		t.Errorf("plan %+v", p)
	}
}
