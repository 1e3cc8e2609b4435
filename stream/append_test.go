package stream_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/grapnel-hooks/grapnel/stream"
)

// What Append stores is what Decode reads.
func TestAppendRoundTrip(t *testing.T) {
	b := newBroker(t)
	b.create(t, "acme")
	trace := "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	full := stream.Append{
		Type: "invoice.paid", Data: []byte(`{"a": 1}`), DedupeKey: "in_1 paid ü", Workspace: "berlin",
		SchemaVersion: "2", Source: "billing", Time: time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600)),
		TraceParent: trace, TraceState: "a=b", Payload: stream.PayloadData,
	}
	if ack := b.append(t, "acme", full); ack != (stream.Ack{Seq: 1}) {
		t.Errorf("ack %+v", ack)
	}
	if ack := b.append(t, "acme", stream.Append{Type: "x", Data: []byte("null"), TraceParent: "bad\r\nX: 1"}); ack != (stream.Ack{Seq: 2}) {
		t.Errorf("ack %+v", ack)
	}
	if ack := b.append(t, "acme", full); ack != (stream.Ack{Seq: 1, Duplicate: true}) {
		t.Errorf("ack %+v", ack)
	}
	msgs := all(t, b.Client, "EVENTS_acme")
	if len(msgs) != 2 {
		t.Fatalf("read %d", len(msgs))
	}
	if msgs[1].Header != nil {
		t.Errorf("headers %v", msgs[1].Header)
	}
	d := stream.Decoding{Org: "acme", Payload: stream.PayloadEnvelope}
	got, err := d.Decode(msgs[0])
	if err != nil {
		t.Fatal(err)
	}
	want := stream.Event{
		ID: stream.KeyID("acme", full.DedupeKey), Org: "acme", Seq: 1, Stored: msgs[0].Time, Type: full.Type, Time: full.Time.UTC(),
		Workspace: full.Workspace, SchemaVersion: full.SchemaVersion, Source: full.Source, DedupeKey: full.DedupeKey,
		TraceParent: trace, TraceState: "a=b", Data: full.Data,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAppendRefuses(t *testing.T) {
	b := newBroker(t)
	b.create(t, "acme")
	ok := stream.Append{Type: "x", Data: []byte("{}")}
	with := func(f func(a *stream.Append)) stream.Append {
		a := ok
		f(&a)
		return a
	}
	cases := []struct {
		name string
		a    stream.Append
		code string
	}{
		{"no type", with(func(a *stream.Append) { a.Type = "" }), stream.CodeBadType},
		{"a type with a wildcard", with(func(a *stream.Append) { a.Type = "x.>" }), stream.CodeBadType},
		{"a type with a line break", with(func(a *stream.Append) { a.Type = "x\r\nPUB y" }), stream.CodeBadType},
		{"a bad workspace", with(func(a *stream.Append) { a.Workspace = "a b" }), stream.CodeBadHeader},
		{"a key with a line break", with(func(a *stream.Append) { a.DedupeKey = "a\r\nb" }), stream.CodeBadHeader},
		{"a key with a space at the end", with(func(a *stream.Append) { a.DedupeKey = "a " }), stream.CodeBadHeader},
		{"a long key", with(func(a *stream.Append) { a.DedupeKey = strings.Repeat("k", 257) }), stream.CodeBadHeader},
		{"a source with a line break", with(func(a *stream.Append) { a.Source = "a\nb" }), stream.CodeBadHeader},
		{"no data", with(func(a *stream.Append) { a.Data = nil }), stream.CodeNotJSON},
		{"not JSON", with(func(a *stream.Append) { a.Data = []byte("{") }), stream.CodeNotJSON},
		{"too much", with(func(a *stream.Append) { a.Data = fmt.Appendf(nil, `"%s"`, strings.Repeat("x", 256<<10)) }), stream.CodeTooLarge},
		{"an envelope", with(func(a *stream.Append) { a.Payload = stream.PayloadEnvelope }), stream.CodeBadEnvelope},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := b.Append(t.Context(), "acme", c.a)
			var r *stream.Rejected
			if !errors.As(err, &r) || r.Code != c.code {
				t.Errorf("error %v, want code %s", err, c.code)
			}
			_, err = b.AppendBatch(t.Context(), "acme", []stream.Append{ok, c.a})
			if !errors.As(err, &r) || r.Code != c.code || !strings.Contains(err.Error(), "event 1") {
				t.Errorf("batch: error %v, want code %s", err, c.code)
			}
		})
	}
	if _, err := b.Append(t.Context(), "a.b", ok); err == nil {
		t.Error("a bad organization was taken")
	}
	if n := len(all(t, b.Client, "EVENTS_acme")); n != 0 {
		t.Errorf("%d were stored", n)
	}
}

func TestAppendWithoutStream(t *testing.T) {
	b := newBroker(t)
	if _, err := b.Append(t.Context(), "acme", event("x")); !errors.Is(err, stream.ErrNoStream) {
		t.Errorf("error %v", err)
	}
	if _, err := b.AppendBatch(t.Context(), "acme", []stream.Append{event("x"), event("x")}); !errors.Is(err, stream.ErrNoStream) {
		t.Errorf("batch: error %v", err)
	}
}

// A subject that another stream binds is not the organization's.
func TestAppendToAnotherStream(t *testing.T) {
	b := newBroker(t)
	_, js := b.raw(t)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "LEGACY", Subjects: []string{"events.>"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Append(t.Context(), "acme", event("x")); err == nil || !strings.Contains(err.Error(), "LEGACY") {
		t.Errorf("error %v", err)
	}
}

func TestAppendToFullStream(t *testing.T) {
	b := newBroker(t)
	if _, err := b.Create(t.Context(), stream.OrgStream{Org: "acme", MaxBytes: 10 << 10}); err != nil {
		t.Fatal(err)
	}
	big := stream.Append{Type: "x", Data: fmt.Appendf(nil, `"%s"`, strings.Repeat("x", 4<<10))}
	b.append(t, "acme", big)
	b.append(t, "acme", big)
	if _, err := b.Append(t.Context(), "acme", big); !errors.Is(err, stream.ErrFull) {
		t.Errorf("error %v", err)
	}
	if _, err := b.AppendBatch(t.Context(), "acme", []stream.Append{event("x"), big}); !errors.Is(err, stream.ErrFull) {
		t.Errorf("batch: error %v", err)
	}
	if diff := cmp.Diff([]stream.Seq{1, 2}, seqs(all(t, b.Client, "EVENTS_acme"))); diff != "" {
		t.Errorf("nothing was to be lost or half stored: %s", diff)
	}
}

func TestAppendBatch(t *testing.T) {
	b := newBroker(t)
	b.create(t, "acme")
	n := 0
	batch := func(keys ...string) []stream.Append {
		var events []stream.Append
		for _, k := range keys {
			n++
			events = append(events, stream.Append{Type: "x", Data: fmt.Append(nil, n), DedupeKey: k})
		}
		return events
	}
	many := make([]string, stream.MaxAppendBatch)
	steps := []struct {
		name string
		keys []string
		want []stream.Ack
	}{
		{"none", nil, []stream.Ack{}},
		{"one", []string{"a"}, []stream.Ack{{Seq: 1}}},
		{"some", []string{"b", "", "c"}, []stream.Ack{{Seq: 2}, {Seq: 3}, {Seq: 4}}},
		{"again", []string{"b", "c"}, []stream.Ack{{Seq: 2, Duplicate: true}, {Seq: 4, Duplicate: true}}},
		{"one again", []string{"a"}, []stream.Ack{{Seq: 1, Duplicate: true}}},
		{"mixed", []string{"d", "b", "", "e"}, []stream.Ack{{Seq: 5}, {Seq: 2, Duplicate: true}, {Seq: 6}, {Seq: 7}}},
		{"all but one", []string{"a", "b", "f"}, []stream.Ack{{Seq: 1, Duplicate: true}, {Seq: 2, Duplicate: true}, {Seq: 8}}},
		{"twice in one", []string{"g", "g", "", "g"}, []stream.Ack{{Seq: 9}, {Seq: 9, Duplicate: true}, {Seq: 10}, {Seq: 9, Duplicate: true}}},
		{"many", many, nil},
	}
	last := stream.Seq(0)
	for _, s := range steps {
		got, err := b.AppendBatch(t.Context(), "acme", batch(s.keys...))
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		for _, a := range got {
			last = max(last, a.Seq)
		}
		if s.want == nil {
			continue
		}
		if diff := cmp.Diff(s.want, got); diff != "" {
			t.Errorf("%s: %s", s.name, diff)
		}
	}
	msgs := all(t, b.Client, "EVENTS_acme")
	if last != stream.Seq(len(msgs)) || len(msgs) != 10+len(many) {
		t.Errorf("last %d, %d messages", last, len(msgs))
	}
	if _, err := b.AppendBatch(t.Context(), "acme", batch(append(many, "")...)); err == nil {
		t.Error("too large a batch was taken")
	}
}

// Two writers who append the same events in batches store each of them once.
func TestAppendBatchInParallel(t *testing.T) {
	b := newBroker(t)
	b.create(t, "acme")
	const writers, each = 30, 20
	errs := make(chan error, writers)
	for w := range writers {
		go func() {
			events := make([]stream.Append, each)
			for i := range events { // every event is appended by two writers
				events[i] = stream.Append{Type: "x", Data: []byte("1"), DedupeKey: fmt.Sprintf("%d-%d", w/2, i)}
			}
			acks, err := b.AppendBatch(context.Background(), "acme", events)
			if err == nil && len(acks) != each {
				err = fmt.Errorf("%d acks", len(acks))
			}
			errs <- err
		}()
	}
	for range writers {
		if err := within(t, "writer", errs); err != nil {
			t.Error(err)
		}
	}
	if n := len(all(t, b.Client, "EVENTS_acme")); n != writers/2*each {
		t.Errorf("%d messages, want %d", n, writers/2*each)
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, mode := range []struct {
		name string
		sync time.Duration
	}{{"always", 0}, {"minute", time.Minute}} {
		s, err := stream.StartServer(b.Context(), stream.ServerOptions{Dir: b.TempDir(), Listen: "off", SyncInterval: mode.sync})
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		c := connect(b, stream.Options{Server: s})
		if _, err := c.Create(b.Context(), stream.OrgStream{Org: "acme"}); err != nil {
			b.Fatal(err)
		}
		b.Run("sync="+mode.name+"/one", func(b *testing.B) {
			for b.Loop() {
				if _, err := c.Append(b.Context(), "acme", event("x")); err != nil {
					b.Fatal(err)
				}
			}
		})
		for _, size := range []int{256, 1000} {
			b.Run(fmt.Sprintf("sync=%s/batch%d", mode.name, size), func(b *testing.B) {
				for b.Loop() {
					fill(b, c, "acme", size, size)
				}
				b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "msg/s")
			})
		}
	}
}
