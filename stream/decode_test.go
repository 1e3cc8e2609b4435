package stream

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var storedAt = time.Date(2026, 11, 21, 10, 0, 0, 123456789, time.UTC)

const (
	traceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	structured  = "application/cloudevents+json"
)

// paid is the event that a message without headers makes, with changes.
func paid(change func(*Event)) *Event {
	ev := &Event{
		ID: SeqID("acme", 7, storedAt), Org: "acme", Seq: 7, Stored: storedAt, Time: storedAt,
		Type: "invoice.paid", SchemaVersion: "1", Data: json.RawMessage(`{"id":"in_1"}`),
	}
	if change != nil {
		change(ev)
	}
	return ev
}

func keyed(key string, change func(*Event)) *Event {
	return paid(func(ev *Event) {
		ev.ID, ev.DedupeKey = KeyID("acme", key), key
		if change != nil {
			change(ev)
		}
	})
}

func TestDecode(t *testing.T) {
	ce := func(extra ...string) Header {
		h := Header{"ce-specversion": {"1.0"}, "ce-id": {"ce-7"}, "ce-source": {"/billing"}, "ce-type": {"invoice.paid"}}
		for i := 0; i < len(extra); i += 2 {
			h[extra[i]] = []string{extra[i+1]}
			if extra[i+1] == "" {
				delete(h, extra[i])
			}
		}
		return h
	}
	fromCE := func(change func(*Event)) *Event {
		return keyed("ce-7", func(ev *Event) {
			ev.Source = "/billing"
			if change != nil {
				change(ev)
			}
		})
	}
	ct := func(ct string, extra ...string) Header {
		h := Header{"Content-Type": {ct}}
		for i := 0; i < len(extra); i += 2 {
			h[extra[i]] = []string{extra[i+1]}
		}
		return h
	}
	envelope := Header{"Grapnel-Payload": {"envelope"}}
	const full = `{"event":"invoice.paid","data":{"id":"in_1"},"timestamp":1763719200,"service":"billing"}`
	fromEnvelope := func(key string, change func(*Event)) *Event {
		return paid(func(ev *Event) {
			ev.Source, ev.Time = "billing", time.Unix(1763719200, 0).UTC()
			if key != "" {
				ev.DedupeKey, ev.ID = key, KeyID("acme", key)
			}
			if change != nil {
				change(ev)
			}
		})
	}

	for _, c := range []struct {
		name    string
		subject string // "": events.acme.invoice.paid
		header  Header
		data    string    // "": {"id":"in_1"}
		d       *Decoding // nil: acme's defaults
		want    *Event
		code    string // of the rejection, when want is nil
	}{
		// Plain data.
		{name: "plain", want: paid(nil)},
		{name: "space around", data: " \r\n\t{\"id\":\"in_1\"}\n", want: paid(nil)},
		{name: "space inside stays", data: `{ "a" : 1.50e+3 }`, want: paid(func(ev *Event) { ev.Data = json.RawMessage(`{ "a" : 1.50e+3 }`) })},
		{name: "any JSON", data: `null`, want: paid(func(ev *Event) { ev.Data = json.RawMessage(`null`) })},
		{name: "escaped NUL is text", data: `"a\u0000"`, want: paid(func(ev *Event) { ev.Data = json.RawMessage(`"a\u0000"`) })},
		{name: "empty", data: " ", code: "not_json"},
		{name: "text", data: `hello`, code: "not_json"},
		{name: "two values", data: `{}{}`, code: "not_json"},
		{name: "cut off", data: `{"a":`, code: "not_json"},
		{name: "NUL", data: "{}\x00", code: "not_json"},
		{name: "NUL in a string", data: "\"a\x00\"", code: "not_json"},
		{name: "byte order mark", data: "\ufeff{}", code: "not_json"},
		{name: "vertical tab is no space", data: "\v{}", code: "not_json"},
		{name: "not UTF-8", data: "\"\xff\"", code: "not_utf8"},
		{name: "not UTF-8, cut off", data: "\"\xe2\x82\"", code: "not_utf8"},
		{name: "surrogate in UTF-8", data: "\"\xed\xa0\x80\"", code: "not_utf8"},
		{name: "REL-21 64 deep", data: strings.Repeat("[", 64) + strings.Repeat("]", 64),
			want: paid(func(ev *Event) {
				ev.Data = json.RawMessage(strings.Repeat("[", 64) + strings.Repeat("]", 64))
			})},
		{name: "REL-21 65 deep", data: strings.Repeat("[", 65) + strings.Repeat("]", 65), code: "too_deep"},
		{name: "REL-21 65 deep, mixed", data: strings.Repeat(`{"a":[`, 33) + strings.Repeat(`]}`, 33), code: "too_deep"},
		{name: "wide is not deep", data: `[` + strings.Repeat(`{},`, 200) + `"[[[[\"{{{{"]`,
			want: paid(func(ev *Event) {
				ev.Data = json.RawMessage(`[` + strings.Repeat(`{},`, 200) + `"[[[[\"{{{{"]`)
			})},
		{name: "deep beyond any parser", data: strings.Repeat("[", 20000), code: "too_deep"},
		{name: "as large as allowed", data: `"12345678"`, d: &Decoding{Org: "acme", MaxData: 10}, want: paid(func(ev *Event) { ev.Data = json.RawMessage(`"12345678"`) })},
		{name: "too large", data: `"123456789"`, d: &Decoding{Org: "acme", MaxData: 10}, code: "too_large"},
		{name: "too large by default", data: `"` + strings.Repeat("a", 256<<10) + `"`, code: "too_large"},

		// Subjects.
		{name: "another type", subject: "events.acme.a", want: paid(func(ev *Event) { ev.Type = "a" })},
		{name: "another org", subject: "events.globex.invoice.paid", code: "bad_subject"},
		{name: "another prefix", subject: "event.acme.invoice.paid", code: "bad_subject"},
		{name: "no type", subject: "events.acme", code: "bad_subject"},
		{name: "own prefix", subject: "evt.acme.invoice.paid", d: &Decoding{Org: "acme", Names: Names{Prefix: "evt"}}, want: paid(nil)},
		{name: "empty word", subject: "events.acme.a..b", code: "bad_type"},
		{name: "wildcard as a word", subject: "events.acme.>", code: "bad_type"},
		{name: "NUL in the subject", subject: "events.acme.a\x00", code: "bad_type"},
		{name: "long type", subject: "events.acme." + strings.Repeat("a", 129), code: "bad_type"},
		{name: "extra subject", subject: "webhook.invoice.paid", d: &Decoding{Org: "acme", Subjects: []string{"svc.*.done", "webhook.>"}}, want: paid(nil)},
		{name: "extra subject with a word in the middle", subject: "svc.refund.done", d: &Decoding{Org: "acme", Subjects: []string{"svc.*.done"}}, want: paid(func(ev *Event) { ev.Type = "refund" })},
		{name: "extra subject with a bad type", subject: "webhook.a..b", d: &Decoding{Org: "acme", Subjects: []string{"webhook.>"}}, code: "bad_type"},
		{name: "subject not bound", subject: "webhook.invoice.paid", code: "bad_subject"},

		// Headers.
		{name: "all headers", header: Header{
			"Nats-Msg-Id": {"in_1-paid"}, "Grapnel-Workspace": {"berlin"}, "Grapnel-Schema-Version": {"2.1"}, "Grapnel-Source": {"billing"},
			"Grapnel-Time": {"2026-11-20T23:30:00.5-02:00"}, "traceparent": {traceParent}, "tracestate": {"a=1,b=2"}, "Content-Type": {"application/json; charset=utf-8"}, "X-Other": {"x"},
		}, want: keyed("in_1-paid", func(ev *Event) {
			ev.Workspace, ev.SchemaVersion, ev.Source = "berlin", "2.1", "billing"
			ev.Time = time.Date(2026, 11, 21, 1, 30, 0, 500_000_000, time.UTC)
			ev.TraceParent, ev.TraceState = traceParent, "a=1,b=2"
		})},
		{name: "other spelling", header: Header{"NATS-MSG-ID": {"k"}, "grapnel-workspace": {"w"}}, want: keyed("k", func(ev *Event) { ev.Workspace = "w" })},
		{name: "several spellings", header: Header{"nats-msg-id": {"b"}, "Nats-Msg-Id": {"a"}, "NATS-MSG-ID": {"c"}}, want: keyed("a", nil)},
		{name: "several unusual spellings", header: Header{"nats-msg-id": {"b"}, "NATS-MSG-ID": {"c"}, "Nats-Msg-ID": {"d"}, "Nats-msg-id": {"e"}, "nATS-mSG-iD": {"f"}}, want: keyed("c", nil)},
		{name: "several values", header: Header{"Nats-Msg-Id": {"a", "b"}}, want: keyed("a", nil)},
		{name: "space around values, empty values, no values", header: Header{"Nats-Msg-Id": {" a\t"}, "Grapnel-Workspace": {" "}, "Grapnel-Source": nil}, want: keyed("a", nil)},
		{name: "long key", header: Header{"Nats-Msg-Id": {strings.Repeat("a", 257)}}, code: "bad_header"},
		{name: "key with a control character", header: Header{"Nats-Msg-Id": {"a\x00b"}}, code: "bad_header"},
		{name: "bad workspace", header: Header{"Grapnel-Workspace": {"a.b"}}, code: "bad_header"},
		{name: "bad version", header: Header{"Grapnel-Schema-Version": {strings.Repeat("1", 65)}}, code: "bad_header"},
		{name: "bad source", header: Header{"Grapnel-Source": {"\xff"}}, code: "bad_header"},
		{name: "bad time", header: Header{"Grapnel-Time": {"yesterday"}}, code: "bad_header"},
		{name: "a year that has five digits in UTC", header: Header{"Grapnel-Time": {"9999-12-31T23:59:59-01:00"}}, code: "bad_header"},
		{name: "bad payload", header: Header{"Grapnel-Payload": {"xml"}}, code: "bad_header"},
		{name: "broken traces are left out", header: Header{"traceparent": {"00-" + strings.Repeat("0", 32) + "-00f067aa0ba902b7-01"}, "tracestate": {"a=1"}}, want: paid(nil)},
		{name: "long trace state is left out", header: Header{"traceparent": {traceParent}, "tracestate": {strings.Repeat("a", 513)}}, want: paid(func(ev *Event) { ev.TraceParent = traceParent })},

		// CloudEvents, binary.
		{name: "binary", header: ce(), want: fromCE(nil)},
		{name: "binary with time", header: ce("ce-time", "2026-11-20T10:00:00Z", "ce-myext", "x", "ce-subject", "s"), want: fromCE(func(ev *Event) { ev.Time = time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC) })},
		{name: "binary, encoded", header: ce("ce-id", "Gr%C3%B6%20%25%zz", "ce-source", "%22"), want: keyed("Grö %%zz", func(ev *Event) { ev.Source = `"` })},
		{name: "binary without data", header: ce(), data: " ", want: fromCE(func(ev *Event) { ev.Data = json.RawMessage(`null`) })},
		{name: "binary wins over the org's envelope", header: ce(), d: &Decoding{Org: "acme", Payload: PayloadEnvelope}, want: fromCE(nil)},
		{name: "binary and Grapnel-Payload: data", header: ce("Grapnel-Payload", "data"), want: fromCE(nil)},
		{name: "binary and an envelope", header: ce("Grapnel-Payload", "envelope"), data: full, code: "bad_header"},
		{name: "Nats-Msg-Id wins over ce-id, ours over theirs", header: ce("Nats-Msg-Id", "n", "Grapnel-Source", "s", "Grapnel-Time", "2026-01-01T00:00:00Z", "ce-time", "2025-01-01T00:00:00Z"),
			want: keyed("n", func(ev *Event) { ev.Source, ev.Time = "s", time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) })},
		{name: "binary without specversion", header: ce("ce-specversion", ""), code: "bad_cloudevent"},
		{name: "binary of another version", header: ce("ce-specversion", "0.3"), code: "bad_cloudevent"},
		{name: "binary without id", header: ce("ce-id", ""), code: "bad_cloudevent"},
		{name: "binary without source", header: ce("ce-source", ""), code: "bad_cloudevent"},
		{name: "binary without type", header: ce("ce-type", ""), code: "bad_cloudevent"},
		{name: "binary of another type", header: ce("ce-type", "invoice.voided"), code: "type_mismatch"},
		{name: "binary with a bad time", header: ce("ce-time", "1763719200"), code: "bad_cloudevent"},
		{name: "binary with a bad id", header: ce("ce-id", "a%00"), code: "bad_cloudevent"},
		{name: "binary with a bad source", header: ce("ce-source", strings.Repeat("a", 257)), code: "bad_cloudevent"},
		{name: "binary of XML", header: ce("Content-Type", "application/xml"), data: "<a/>", code: "not_json"},

		// CloudEvents, structured.
		{name: "structured", header: ct(structured), data: `{"specversion":"1.0","id":"ce-7","source":"/billing","type":"invoice.paid","data":{"id":"in_1"}}`, want: fromCE(nil)},
		{name: "structured, with all", header: ct("Application/CloudEvents+JSON; charset=\"UTF-8\"", "Grapnel-Workspace", "w"),
			data: ` {"data" : {"id":"in_1"} , "time":"2026-11-20T10:00:00Z","datacontenttype":"application/json","subject":null,"ext":{"data":[1,{}]},"\u0069d":"ce\u002d7","specversion":"1.0","source":"/billing","type":"invoice.paid"} `,
			want: fromCE(func(ev *Event) { ev.Workspace, ev.Time = "w", time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC) })},
		{name: "structured, base64", header: ct("application/cloudevents"), data: `{"specversion":"1.0","id":"ce-7","source":"/billing","type":"invoice.paid","data_base64":"` + base64.StdEncoding.EncodeToString([]byte(`{"id":"in_1"} `)) + `"}`, want: fromCE(nil)},
		{name: "structured, without data", header: ct(structured), data: `{"specversion":"1.0","id":"ce-7","source":"/billing","type":"invoice.paid"}`, want: fromCE(func(ev *Event) { ev.Data = json.RawMessage(`null`) })},
		{name: "structured wins over the org's envelope", header: ct(structured), d: &Decoding{Org: "acme", Payload: PayloadEnvelope},
			data: `{"specversion":"1.0","id":"ce-7","source":"/billing","type":"invoice.paid","data":{"id":"in_1"}}`, want: fromCE(nil)},
		{name: "structured and an envelope", header: ct(structured, "Grapnel-Payload", "envelope"), data: full, code: "bad_header"},
		{name: "structured, base64 of no JSON", header: ct(structured), data: `{"specversion":"1.0","id":"ce-7","source":"/billing","type":"invoice.paid","data_base64":"aGVsbG8="}`, code: "not_json"},
		{name: "structured, no base64", header: ct(structured), data: `{"specversion":"1.0","id":"ce-7","source":"/billing","type":"invoice.paid","data_base64":"?"}`, code: "bad_cloudevent"},
		{name: "structured, base64 is a number", header: ct(structured), data: `{"specversion":"1.0","id":"ce-7","source":"/billing","type":"invoice.paid","data_base64":7}`, code: "bad_cloudevent"},
		{name: "structured, data and base64", header: ct(structured), data: `{"specversion":"1.0","id":"ce-7","source":"/billing","type":"invoice.paid","data":1,"data_base64":"MQ=="}`, code: "bad_cloudevent"},
		{name: "structured, id twice", header: ct(structured), data: `{"specversion":"1.0","id":"ce-7","source":"/billing","type":"invoice.paid","\u0069d":"x"}`, code: "bad_cloudevent"},
		{name: "structured, names in another case", header: ct(structured), data: `{"SpecVersion":"1.0","ID":"ce-7","Source":"/billing","Type":"invoice.paid"}`, code: "bad_cloudevent"},
		{name: "structured, id is a number", header: ct(structured), data: `{"specversion":"1.0","id":7,"source":"/billing","type":"invoice.paid"}`, code: "bad_cloudevent"},
		{name: "structured, another type", header: ct(structured), data: `{"specversion":"1.0","id":"ce-7","source":"/billing","type":"a"}`, code: "type_mismatch"},
		{name: "structured, a list", header: ct(structured), data: `[]`, code: "bad_cloudevent"},
		{name: "structured, no JSON", header: ct(structured), data: `{`, code: "not_json"},
		{name: "structured, data too deep", header: ct(structured), data: `{"specversion":"1.0","id":"ce-7","source":"/billing","type":"invoice.paid","data":` + strings.Repeat("[", 65) + strings.Repeat("]", 65) + `}`, code: "too_deep"},
		{name: "structured, data too large", header: ct(structured), d: &Decoding{Org: "acme", MaxData: 4}, data: `{"specversion":"1.0","id":"ce-7","source":"/billing","type":"invoice.paid","data":"abc"}`, code: "too_large"},
		{name: "structured, payload too large", header: ct(structured), d: &Decoding{Org: "acme", MaxData: 4}, data: `{"x":"` + strings.Repeat("a", 70<<10) + `"}`, code: "too_large"},
		{name: "batch", header: ct("application/cloudevents-batch+json"), data: `[]`, code: "bad_header"},
		{name: "another event format", header: ct("application/cloudevents+avro"), code: "bad_header"},
		{name: "another charset", header: ct(structured + "; charset=latin1"), code: "bad_header"},
		{name: "broken content type", header: ct(structured + "; charset"), code: "bad_header"},
		{name: "similar content type", header: ct("application/cloudeventsy"), code: "bad_header"},

		// Service envelope.
		{name: "envelope", header: envelope, data: full, want: fromEnvelope("invoice.paid/in_1/1763719200", nil)},
		{name: "envelope by the org", d: &Decoding{Org: "acme", Payload: PayloadEnvelope}, data: full, want: fromEnvelope("invoice.paid/in_1/1763719200", nil)},
		{name: "data though the org sends envelopes", d: &Decoding{Org: "acme", Payload: PayloadEnvelope}, header: Header{"Grapnel-Payload": {"data"}}, want: paid(nil)},
		{name: "envelope with a message id", header: Header{"Grapnel-Payload": {"envelope"}, "Nats-Msg-Id": {"k"}}, data: full, want: fromEnvelope("k", nil)},
		{name: "envelope, headers win", header: Header{"Grapnel-Payload": {"envelope"}, "Grapnel-Source": {"s"}, "Grapnel-Time": {"2026-01-01T00:00:00Z"}}, data: full,
			want: fromEnvelope("invoice.paid/in_1/1763719200", func(ev *Event) { ev.Source, ev.Time = "s", time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) })},
		{name: "envelope with spaces and more", header: envelope, data: ` { "more" : "}" , "service":"billing", "timestamp" : 1763719200 ,"data": {"id":"in_1"},"event" :"invoice.paid" } `,
			want: fromEnvelope("invoice.paid/in_1/1763719200", nil)},
		{name: "envelope, id is a number", header: envelope, data: strings.Replace(full, `"in_1"`, `42`, 1), want: fromEnvelope("invoice.paid/42/1763719200", func(ev *Event) { ev.Data = json.RawMessage(`{"id":42}`) })},
		{name: "envelope, id is null", header: envelope, data: strings.Replace(full, `"in_1"`, `null`, 1), want: fromEnvelope("", func(ev *Event) { ev.Data = json.RawMessage(`{"id":null}`) })},
		{name: "envelope, id is an object", header: envelope, data: strings.Replace(full, `"in_1"`, `{}`, 1), want: fromEnvelope("", func(ev *Event) { ev.Data = json.RawMessage(`{"id":{}}`) })},
		{name: "envelope, data is no object", header: envelope, data: strings.Replace(full, `{"id":"in_1"}`, `[1]`, 1), want: fromEnvelope("", func(ev *Event) { ev.Data = json.RawMessage(`[1]`) })},
		{name: "envelope, id that no key can hold", header: envelope, data: strings.Replace(full, `"in_1"`, `"\n"`, 1),
			want: fromEnvelope("invoice.paid/sha256:01ba4719c80b6fe911b091a7c05124b64eeece964e09c058ef8f9805daca546b/1763719200", func(ev *Event) { ev.Data = json.RawMessage(`{"id":"\n"}`) })},
		{name: "envelope, fraction of a second", header: envelope, data: strings.Replace(full, `1763719200`, `1763719200.25`, 1), want: fromEnvelope("invoice.paid/in_1/1763719200.25", func(ev *Event) { ev.Time = time.Unix(1763719200, 250_000_000).UTC() })},
		{name: "envelope, seconds as a power", header: envelope, data: strings.Replace(full, `1763719200`, `1.7637192e9`, 1), want: fromEnvelope("invoice.paid/in_1/1763719200", nil)},
		{name: "envelope, least", header: envelope, data: `{"event":"invoice.paid","data":{"id":"in_1"}}`, want: paid(nil)},
		{name: "envelope, milliseconds", header: envelope, data: strings.Replace(full, `1763719200`, `1763719200000`, 1), code: "bad_envelope"},
		{name: "envelope, a year of five digits", header: envelope, data: strings.Replace(full, `1763719200`, `300000000000`, 1), code: "bad_envelope"},
		{name: "envelope, time as a string", header: envelope, data: strings.Replace(full, `1763719200`, `"1763719200"`, 1), code: "bad_envelope"},
		{name: "envelope, huge time", header: envelope, data: strings.Replace(full, `1763719200`, `1e400`, 1), code: "bad_envelope"},
		{name: "envelope, no event", header: envelope, data: `{"data":{}}`, code: "bad_envelope"},
		{name: "envelope, event is a number", header: envelope, data: `{"event":1,"data":{}}`, code: "bad_envelope"},
		{name: "envelope, another event", header: envelope, data: `{"event":"invoice.voided","data":{}}`, code: "type_mismatch"},
		{name: "envelope, event twice", header: envelope, data: `{"event":"invoice.paid","data":{},"event":"invoice.paid"}`, code: "bad_envelope"},
		{name: "envelope, no data", header: envelope, data: `{"event":"invoice.paid"}`, code: "bad_envelope"},
		{name: "envelope, service is a number", header: envelope, data: `{"event":"invoice.paid","data":{},"service":1}`, code: "bad_envelope"},
		{name: "envelope, a list", header: envelope, data: `[]`, code: "bad_envelope"},
		{name: "envelope, no JSON", header: envelope, data: `{"event":`, code: "not_json"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := Decoding{Org: "acme"}
			if c.d != nil {
				d = *c.d
			}
			m := Message{Subject: c.subject, Seq: 7, Time: storedAt, Header: c.header, Data: []byte(c.data)}
			if m.Subject == "" {
				m.Subject = "events.acme.invoice.paid"
			}
			if c.data == "" {
				m.Data = []byte(`{"id":"in_1"}`)
			}
			got, err := d.Decode(m)
			if c.want != nil {
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(*c.want, got); diff != "" {
					t.Error(diff)
				}
				return
			}
			var rej *Rejected
			if !errors.As(err, &rej) {
				t.Fatalf("err = %v, want a rejection", err)
			}
			if rej.Code != c.code {
				t.Errorf("rejected with %v, want %s", rej, c.code)
			}
			if rej.Detail == "" || len(rej.Detail) > 500 {
				t.Errorf("detail %q", rej.Detail)
			}
			if diff := cmp.Diff(Event{}, got); diff != "" {
				t.Errorf("event beside the rejection: %s", diff)
			}
		})
	}
}

func TestParsePayload(t *testing.T) {
	for s, want := range map[string]Payload{"": PayloadData, "data": PayloadData, "envelope": PayloadEnvelope, "Data": "", "xml": ""} {
		if got, err := ParsePayload(s); got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v", s, got, err)
		}
	}
}

func TestValidTraceParent(t *testing.T) {
	for s, want := range map[string]bool{
		traceParent:                               true,
		"01" + traceParent[2:] + "-more":          true,
		"01" + traceParent[2:]:                    true,
		traceParent + "-more":                     false,
		"ff" + traceParent[2:]:                    false,
		strings.ToUpper(traceParent):              false,
		traceParent[:54]:                          false,
		strings.Replace(traceParent, "-", "_", 1): false,
		"01" + traceParent[2:] + "-\x00":          false,
		"":                                        false,
		traceParent[:36] + strings.Repeat("0", 16) + traceParent[52:]: false,
	} {
		if got := validTraceParent(s); got != want {
			t.Errorf("%q: %v", s, got)
		}
	}
}

// FuzzDecode: every message gives an event that holds what it promises, or a
// rejection.
func FuzzDecode(f *testing.F) {
	f.Add("invoice.paid", "", "", "", "", []byte(`{"id":"in_1"}`))
	f.Add("invoice.paid", "Content-Type", structured, "", "", []byte(`{"specversion":"1.0","id":"1","source":"/s","type":"invoice.paid","data_base64":"e30="}`))
	f.Add("a", "Grapnel-Payload", "envelope", "Nats-Msg-Id", "k", []byte(`{"event":"a","data":{"id":"\u0041"},"timestamp":1.5,"service":"s"}`))
	f.Add("a", "ce-specversion", "1.0", "ce-time", "2026-11-20T10:00:00+01:00", []byte(`[1,2]`))
	f.Fuzz(func(t *testing.T, typ, name1, value1, name2, value2 string, data []byte) {
		for _, d := range []Decoding{{Org: "acme"}, {Org: "acme", Payload: PayloadEnvelope, Subjects: []string{"webhook.>"}, MaxData: 64}} {
			m := Message{Subject: "events.acme." + typ, Seq: 7, Time: storedAt, Header: Header{name1: {value1}, name2: {value2}}, Data: data}
			ev, err := d.Decode(m)
			again, err2 := d.Decode(m)
			if diff := cmp.Diff(ev, again); diff != "" || (err == nil) != (err2 == nil) {
				t.Fatalf("decoded again it differs: %s, %v, %v", diff, err, err2)
			}
			if err != nil {
				rej, ok := err.(*Rejected)
				if !ok || rej.Code == "" || rej.Detail == "" || len(rej.Detail) > 1000 {
					t.Fatalf("error %#v", err)
				}
				continue
			}
			if err := errors.Join(CheckType(ev.Type)); err != nil || ev.Type != typ {
				t.Errorf("type %q of subject %q: %v", ev.Type, m.Subject, err)
			}
			if ev.DedupeKey != "" && (CheckDedupeKey(ev.DedupeKey) != nil || ev.ID != KeyID("acme", ev.DedupeKey)) {
				t.Errorf("dedupe key %q, id %v", ev.DedupeKey, ev.ID)
			}
			if ev.Workspace != "" && CheckWorkspace(ev.Workspace) != nil {
				t.Errorf("workspace %q", ev.Workspace)
			}
			if !printable(ev.Source) || !printable(ev.SchemaVersion) || ev.SchemaVersion == "" || !printableASCII(ev.TraceParent+ev.TraceState) {
				t.Errorf("%+v", ev)
			}
			if !json.Valid(ev.Data) || len(ev.Data) > d.maxData() || tooDeep(ev.Data, MaxDepth) {
				t.Errorf("data %q", ev.Data)
			}
			if s := ev.Time.Format(time.RFC3339Nano); ev.Time.Location() != time.UTC || len(s) > 30 {
				t.Errorf("time %s", s)
			}
			checkStandard(t, &ev)
		}
	})
}

// FuzzPick: the members found in an object are those that encoding/json finds.
func FuzzPick(f *testing.F) {
	f.Add([]byte(`{"a":1,"b":[{"a":2}],"\u0061":"x\"}","c":{"b":null} }`))
	f.Add([]byte(`{ "a" : -1.5e3 , "b":true}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		names := []string{"a", "b", "c", "id"}
		if b = bytes.Trim(b, jsonSpace); checkJSON(b) != nil {
			return
		}
		var want map[string]json.RawMessage
		err := json.Unmarshal(b, &want)
		values, twice, ok := pick(b, names...)
		if ok != (err == nil && want != nil) {
			t.Fatalf("%q is an object: %v, and encoding/json says %v", b, ok, err)
		}
		if !ok {
			return
		}
		for i, n := range names {
			if got := string(values[i]); got != string(want[n]) {
				t.Errorf("%q: %s is %q, want %q (twice: %q)", b, n, got, want[n], twice)
			}
		}
	})
}

func TestTooDeep(t *testing.T) {
	for s, want := range map[string]bool{
		`[[[]]]`: false, `[[[[]]]]`: true, `[[],[],[],[],[[]]]`: false, `"[[[["`: false, `["\"[[[[",[[]]]`: false, `{"a":{"b":{"c":{}}}}`: true,
		`[[["`: false, `[[[[`: true, `["\`: false, ``: false, `]]]][[[[[[[`: false,
	} {
		if got := tooDeep([]byte(s), 3); got != want {
			t.Errorf("%s: %v", s, got)
		}
	}
}

func benchMessage(size int) Message {
	data := `{"id":"in_1","lines":[`
	for len(data) < size-60 {
		data += `{"sku":"a-17","amount":1200,"currency":"EUR","note":"two of them"},`
	}
	data += `{"pad":"` + strings.Repeat("x", max(0, size-len(data)-12)) + `"}]}`
	return Message{Subject: "events.acme.invoice.paid", Seq: 7, Time: storedAt, Data: []byte(data),
		Header: Header{"Nats-Msg-Id": {"in_1-paid"}, "Grapnel-Workspace": {"berlin"}, "Grapnel-Source": {"billing"}}}
}

func BenchmarkDecode(b *testing.B) {
	m := benchMessage(1024)
	b.Run("event", func(b *testing.B) {
		d := Decoding{Org: "acme"}
		b.SetBytes(int64(len(m.Data)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := d.Decode(m); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("soundJSON alone", func(b *testing.B) {
		b.SetBytes(int64(len(m.Data)))
		for b.Loop() {
			soundJSON(m.Data)
		}
	})
	b.Run("json.Valid alone", func(b *testing.B) {
		b.SetBytes(int64(len(m.Data)))
		for b.Loop() {
			json.Valid(m.Data)
		}
	})
}
