package fanout

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout/catalogue"
	"github.com/grapnel-hooks/grapnel/stream"
	"github.com/grapnel-hooks/grapnel/stream/streamtest"
)

func invoices(t testing.TB) *catalogue.Catalogue {
	t.Helper()
	types, err := catalogue.Compile([]catalogue.Type{
		{Name: "invoice.paid", Schema: json.RawMessage(`{"required":["amount"],"properties":{"amount":{"type":"integer"}}}`)},
		{Name: "invoice.paid", Version: "2"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return types
}

// strictStream is a stream with messages of each kind, from sequence 1.
func strictStream() *streamtest.Log {
	log := &streamtest.Log{}
	log.Create(acmeStream)
	put := func(typ, data string, h stream.Header) { log.Append("events.acme."+typ, h, []byte(data)) }
	put("invoice.paid", `{"amount":1}`, nil)
	put("invoice.payd", `{"amount":1}`, nil)
	put("invoice.paid", `{"amount":"secret"}`, nil)
	put("invoice.paid", `{`, nil)
	put("invoice.paid", `{"amount":"x"}`, stream.Header{stream.HeaderSchemaVersion: {"2"}})
	put("invoice.paid", `{"amount":1}`, stream.Header{stream.HeaderSchemaVersion: {"3"}})
	return log
}

func TestMakeRejectsWhatTheCatalogueDoesNotAllow(t *testing.T) {
	log := strictStream()
	msgs, _, err := log.Read(t.Context(), acmeStream, 1, 10)
	if err != nil {
		t.Fatal(err)
	}
	b := cursor.Batch{To: cursor.Position{Org: "acme", Incarnation: 1, Seq: 6}, Messages: msgs}
	set := Compile(1, []Subscription{{Endpoint: 1, Types: []string{"*"}, Incarnation: 1}})
	places := func(types *catalogue.Catalogue) (events []stream.Seq, rejected []string) {
		p := Make(Org{ID: "acme", Types: types}, b, set, stream.Decoding{Org: "acme"})
		for _, e := range p.Events {
			events = append(events, e.Seq)
		}
		for _, r := range p.Rejected {
			rejected = append(rejected, r.Code)
			if want := msgs[r.Seq-1]; string(r.Data) != string(want.Data) || r.Subject != want.Subject {
				t.Errorf("rejected %+v, want what message %d is", r, r.Seq)
			}
		}
		return events, rejected
	}

	events, rejected := places(invoices(t))
	if diff := cmp.Diff([]stream.Seq{1, 5}, events); diff != "" {
		t.Error("strict: events -want +got:\n" + diff)
	}
	if diff := cmp.Diff([]string{"unknown_type", "schema", "not_json", "unknown_schema_version"}, rejected); diff != "" {
		t.Error("strict: rejected -want +got:\n" + diff)
	}
	events, rejected = places(nil)
	if diff := cmp.Diff([]stream.Seq{1, 2, 3, 5, 6}, events); diff != "" {
		t.Error("not strict: events -want +got:\n" + diff)
	}
	if diff := cmp.Diff([]string{"not_json"}, rejected); diff != "" {
		t.Error("not strict: rejected -want +got:\n" + diff)
	}
}

// Strict was on when the cursor passed 2 and 3, and off before and after. The
// catalogue of then is nowhere written down, so the books are believed.
func TestCheckOfTimesThatWereStrict(t *testing.T) {
	log := strictStream()
	st, err := log.State(t.Context(), acmeStream)
	if err != nil {
		t.Fatal(err)
	}
	books := &testBooks{
		pos:     cursor.Position{Org: "acme", Stream: acmeStream, Created: st.Created, Incarnation: 1, Seq: 6},
		history: []Span{{Subscription: Subscription{Endpoint: 1, Types: []string{"*"}}}},
		exceptions: []Exception{
			{ExceptionRejected, 1, 2, 2}, {ExceptionRejected, 1, 3, 3}, {ExceptionRejected, 1, 4, 4},
		},
	}
	dec := stream.Decoding{Org: "acme"}
	for i, seq := range []stream.Seq{1, 5, 6} {
		msgs, _, err := log.Read(t.Context(), acmeStream, seq, 1)
		if err != nil {
			t.Fatal(err)
		}
		ev, err := dec.Decode(msgs[0])
		if err != nil {
			t.Fatal(err)
		}
		books.events = append(books.events, BookedEvent{
			Event: int64(i + 1), Org: "acme", ID: ev.ID, Incarnation: 1, Seq: seq,
			Deliveries: []BookedDelivery{{Endpoint: 1, Org: "acme", State: deliver.Pending}},
		})
	}
	check := func() Report {
		r, err := Check(context.Background(), log, dec, books, nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := check(); len(r.Problems) > 0 || r.Unproven != 2 || r.Rejected != 3 {
		t.Errorf("%+v, want two unproven, three rejected and no problem", r)
	}
	books.exceptions = books.exceptions[:2]
	if r := check(); len(r.Problems) != 1 || r.Problems[0].Seq != 4 {
		t.Errorf("without the record of what was no event at all: %+v", r.Problems)
	}
}

// What strict adds to planning an event.
func BenchmarkMakeStrict(b *testing.B) {
	types := invoices(b)
	batch := cursor.Batch{To: cursor.Position{Org: "acme", Incarnation: 1, Seq: 1000}}
	for seq := range stream.Seq(1000) {
		batch.Messages = append(batch.Messages, stream.Message{
			Subject: "events.acme.invoice.paid", Seq: seq + 1, Time: noon, Data: []byte(`{"invoice":"in_1","amount":1200,"currency":"EUR","lines":[{"sku":"A-1","count":2}]}`),
		})
	}
	set := Compile(1, []Subscription{{Endpoint: 1, Types: []string{"*"}, Incarnation: 1}})
	for name, t := range map[string]*catalogue.Catalogue{"off": nil, "on": types} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if p := Make(Org{ID: "acme", Types: t}, batch, set, stream.Decoding{Org: "acme"}); len(p.Events) != 1000 {
					b.Fatalf("%d rejected: %+v", len(p.Rejected), p.Rejected[0])
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/event")
		})
	}
}
