package stream_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/grapnel-hooks/grapnel/stream"
	"github.com/grapnel-hooks/grapnel/stream/streamtest"
)

// plain makes a stream in which an operator may delete and purge, as ours
// forbid.
func plain(t testing.TB, js jetstream.JetStream, name string) {
	t.Helper()
	org, ok := stream.Names{}.Org(name)
	if !ok {
		t.Fatalf("%s is no stream of an organization", name)
	}
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: name, Subjects: stream.Names{}.Subjects(org), AllowDirect: true,
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestConformance(t *testing.T) {
	streamtest.TestLog(t, func(t *testing.T) streamtest.Fixture {
		b := newBroker(t)
		nc, js := b.own(t)
		get := func(t testing.TB, name string) jetstream.Stream {
			s, err := js.Stream(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		return streamtest.Fixture{
			Log:    b,
			Create: func(t testing.TB, name string) { plain(t, js, name) },
			Delete: func(t testing.TB, name string) {
				if err := js.DeleteStream(t.Context(), name); err != nil {
					t.Fatal(err)
				}
			},
			Append: func(t testing.TB, subject string, header stream.Header, data []byte) stream.Seq {
				_ = nc
				ack, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: subject, Header: nats.Header(header), Data: data})
				if err != nil {
					t.Fatal(err)
				}
				return stream.Seq(ack.Sequence)
			},
			DeleteMessage: func(t testing.TB, name string, seq stream.Seq) {
				if err := get(t, name).DeleteMsg(t.Context(), uint64(seq)); err != nil {
					t.Fatal(err)
				}
			},
			PurgeTo: func(t testing.TB, name string, seq stream.Seq) {
				if err := get(t, name).Purge(t.Context(), jetstream.WithPurgeSequence(uint64(seq))); err != nil {
					t.Fatal(err)
				}
			},
		}
	})
}

// What breaks common clients: an empty body with a status header looks like the
// server's own word, headers of the server can be sent by a publisher, and a
// header block can hide what the server appends to it.
func TestReadPoison(t *testing.T) {
	const subject = "events.acme.lead_won"
	forged := "Nats-Stream: EVENTS_acme\r\nNats-Subject: events.other.x\r\nNats-Sequence: 999\r\n" +
		"Nats-Time-Stamp: 2001-01-01T00:00:00Z\r\nNats-Num-Pending: 0\r\nNats-Last-Sequence: 0\r\n"
	cases := []struct {
		name   string
		header string // raw
		data   string
		want   stream.Header
	}{
		{"status 404, empty", "NATS/1.0\r\nStatus: 404\r\n\r\n", "", stream.Header{"Status": {"404"}}},
		{"status 503, empty", "NATS/1.0\r\nStatus: 503\r\n\r\n", "", stream.Header{"Status": {"503"}}},
		{"status 100, empty", "NATS/1.0\r\nStatus: 100\r\n\r\n", "", stream.Header{"Status": {"100"}}},
		{"end of batch, empty", "NATS/1.0 204 EOB\r\nNats-Num-Pending: 0\r\nNats-Last-Sequence: 1\r\n\r\n", "", nil},
		{"inline status 404", "NATS/1.0 404 Message Not Found\r\n\r\n", "", nil}, // this server takes it away
		{"forged headers", "NATS/1.0\r\n" + forged + "X-Own: 1\r\n\r\n", "{}", stream.Header{"X-Own": {"1"}}},
		{"forged in other case", "NATS/1.0\r\nnats-sequence: 999\r\n\r\n", "{}", stream.Header{"nats-sequence": {"999"}}},
		{"status before an empty line", "NATS/1.0\r\nStatus: 404\r\n\r\nX: 1\r\n\r\n", "", stream.Header{"Status": {"404"}}},
		{"end of batch before an empty line", "NATS/1.0\r\nStatus: 204\r\nNats-Num-Pending: 0\r\nNats-Last-Sequence: 0\r\n\r\nX: 1\r\n\r\n", "",
			stream.Header{"Status": {"204"}}},
		{"forged headers before an empty line", "NATS/1.0\r\n" + forged + "\r\nX: 1\r\n\r\n", "{}", nil},
		{"forged, and many lines without a space", "NATS/1.0\r\n" + forged + strings.Repeat("a:b\r\n", 300) + "\r\nX: 1\r\n\r\n", "{}",
			stream.Header{"a": slices.Repeat([]string{"b"}, 300)}},
		{"no colon", "NATS/1.0\r\nnonsense\r\n\r\n", "{}", nil},
		{"no end", "NATS/1.0\r\nX: abc", "{}", stream.Header{"X": {"abc"}}},
		{"no version", "HTTP/1.1 200\r\nX: 1\r\n\r\n", "{}", stream.Header{"X": {"1"}}},
		{"space at the end", "NATS/1.0\r\nX: 1   \r\n\r\n", "{}", stream.Header{"X": {"1   "}}},
		{"no space after the colon", "NATS/1.0\r\nX:1\r\nY:2\r\n\r\n", "{}", stream.Header{"X": {"1"}, "Y": {"2"}}},
		{"nothing but the version", "NATS/1.0\r\n\r\n", "{}", nil},
	}
	b := newBroker(t)
	b.create(t, "acme")
	b.append(t, "acme", event("before"))
	for _, c := range cases {
		b.publishRaw(t, subject, c.header, c.data)
	}
	b.append(t, "acme", event("after"))

	got := all(t, b.Client, "EVENTS_acme")
	if len(got) != len(cases)+2 {
		t.Fatalf("read %d messages, want %d", len(got), len(cases)+2)
	}
	state, err := b.State(t.Context(), "EVENTS_acme")
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m := got[i+1]
			want := stream.Message{Subject: subject, Seq: stream.Seq(i + 2), Header: c.want, Data: []byte(c.data)}
			if diff := cmp.Diff(want, m, cmpopts.IgnoreFields(stream.Message{}, "Time"), cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
			if m.Time.Before(state.Created) || m.Time.After(state.LastTime) {
				t.Errorf("stored at %v, not between %v and %v", m.Time, state.Created, state.LastTime)
			}
			// The same, as the first of a read.
			one, _, err := b.Read(t.Context(), "EVENTS_acme", m.Seq, 1)
			if err != nil || len(one) != 1 {
				t.Fatalf("read alone: %d messages, error %v", len(one), err)
			}
			if diff := cmp.Diff(m, one[0]); diff != "" {
				t.Errorf("read alone: %s", diff)
			}
		})
	}
}

func TestReadStepsOverDeletes(t *testing.T) {
	b := newBroker(t)
	_, js := b.own(t)
	plain(t, js, "EVENTS_acme")
	for range 10 {
		b.append(t, "acme", event("x"))
	}
	s, err := js.Stream(t.Context(), "EVENTS_acme")
	if err != nil {
		t.Fatal(err)
	}
	for _, seq := range []uint64{3, 4, 7} {
		if err := s.DeleteMsg(t.Context(), seq); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]stream.Seq{1, 2, 5, 6, 8, 9, 10}, seqs(all(t, b.Client, "EVENTS_acme"))); diff != "" {
		t.Error(diff)
	}
	msgs, last, err := b.Read(t.Context(), "EVENTS_acme", 3, 2)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]stream.Seq{5, 6}, seqs(msgs)); diff != "" {
		t.Error(diff)
	}
	if last < 6 || last > 10 {
		t.Errorf("last %d, want one that is known to be there", last)
	}

	// The end is deleted too: the stream was heard to reach 10, yet nothing is there.
	if err := s.DeleteMsg(t.Context(), 10); err != nil {
		t.Fatal(err)
	}
	msgs, last, err = b.Read(t.Context(), "EVENTS_acme", 10, 2)
	if len(msgs) != 0 || last != 10 || err != nil {
		t.Errorf("read the deleted end: %v, last %d, error %v", msgs, last, err)
	}
}

func TestReadMissingAndRecreated(t *testing.T) {
	b := newBroker(t)
	if _, _, err := b.Read(t.Context(), "EVENTS_acme", 1, 10); !errors.Is(err, stream.ErrNoStream) {
		t.Errorf("read a stream that never was: %v", err)
	}
	was := b.create(t, "acme")
	for range 5 {
		b.append(t, "acme", event("x"))
	}
	if n := len(all(t, b.Client, "EVENTS_acme")); n != 5 {
		t.Fatalf("read %d", n)
	}
	if err := b.Remove(t.Context(), "acme"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Read(t.Context(), "EVENTS_acme", 6, 10); !errors.Is(err, stream.ErrNoStream) {
		t.Errorf("read a deleted stream: %v", err)
	}
	if _, err := b.State(t.Context(), "EVENTS_acme"); !errors.Is(err, stream.ErrNoStream) {
		t.Errorf("state of a deleted stream: %v", err)
	}
	if err := b.Remove(t.Context(), "acme"); !errors.Is(err, stream.ErrNoStream) {
		t.Errorf("remove a deleted stream: %v", err)
	}
	is := b.create(t, "acme")
	if !is.Created.After(was.Created) {
		t.Errorf("created %v, before it %v", is.Created, was.Created)
	}
	b.append(t, "acme", event("x"))
	// What was heard of the old one (5) does not disturb the new one (1).
	if msgs, _, err := b.Read(t.Context(), "EVENTS_acme", 4, 10); len(msgs) != 0 || err != nil {
		t.Errorf("read after the end: %v, %v", msgs, err)
	}
	if diff := cmp.Diff([]stream.Seq{1}, seqs(all(t, b.Client, "EVENTS_acme"))); diff != "" {
		t.Error(diff)
	}
}

func TestReadWithoutDirectAccess(t *testing.T) {
	b := newBroker(t)
	_, js := b.raw(t)
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "EVENTS_acme", Subjects: []string{"events.acme.>"}})
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = b.Read(t.Context(), "EVENTS_acme", 1, 10)
	if !errors.Is(err, stream.ErrUnavailable) || !strings.Contains(err.Error(), "allow_direct") {
		t.Errorf("error %v", err)
	}
}

// Large events: a batch ends by its bytes, and nothing is left out.
func TestReadEndsBatchByBytes(t *testing.T) {
	b := newBroker(t)
	b.create(t, "acme")
	data := fmt.Appendf(nil, `"%s"`, strings.Repeat("x", 200<<10))
	for range 12 {
		b.append(t, "acme", stream.Append{Type: "big", Data: data})
	}
	msgs, last, err := b.Read(t.Context(), "EVENTS_acme", 1, 256)
	if err != nil {
		t.Fatal(err)
	}
	if len(msgs) == 0 || len(msgs) > 6 || last != 12 {
		t.Errorf("one read gave %d of 12 messages, last %d", len(msgs), last)
	}
	if n := len(all(t, b.Client, "EVENTS_acme")); n != 12 {
		t.Errorf("read %d of 12", n)
	}
	if strings.Contains(b.logs.String(), "less than it has") {
		t.Error("a batch that is full by its bytes was reported as early")
	}
}

func TestReadHonoursContext(t *testing.T) {
	b := newBroker(t)
	b.create(t, "acme")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := b.Read(ctx, "EVENTS_acme", 1, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// Many readers at once share one subscription and get their own streams.
func TestReadInParallel(t *testing.T) {
	b := newBroker(t)
	const orgs, events = 40, 50
	for i := range orgs {
		org := fmt.Sprintf("org%d", i)
		b.create(t, org)
		batch := make([]stream.Append, events)
		for n := range batch {
			batch[n] = stream.Append{Type: "x", Data: fmt.Appendf(nil, "[%d,%d]", i, n)}
		}
		if _, err := b.AppendBatch(t.Context(), org, batch); err != nil {
			t.Fatal(err)
		}
	}
	errs := make(chan error, orgs)
	for i := range orgs {
		go func() {
			name := fmt.Sprintf("EVENTS_org%d", i)
			for from := stream.Seq(1); from <= events; {
				msgs, _, err := b.Read(context.Background(), name, from, 7)
				if err != nil || len(msgs) == 0 {
					errs <- fmt.Errorf("%s from %d: %d messages, %w", name, from, len(msgs), err)
					return
				}
				for _, m := range msgs {
					if want := fmt.Sprintf("[%d,%d]", i, from-1); string(m.Data) != want || m.Seq != from {
						errs <- fmt.Errorf("%s: got %d %s, want %d %s", name, m.Seq, m.Data, from, want)
						return
					}
					from++
				}
			}
			errs <- nil
		}()
	}
	for range orgs {
		if err := within(t, "reader", errs); err != nil {
			t.Error(err)
		}
	}
}

func BenchmarkRead(b *testing.B) {
	const stored = 50_000
	read := func(b *testing.B, br *broker, batch int) {
		from, n := stream.Seq(1), 0
		b.ReportAllocs()
		b.ResetTimer()
		for n < b.N {
			msgs, _, err := br.Read(b.Context(), "EVENTS_acme", from, batch)
			if err != nil {
				b.Fatal(err)
			}
			n += len(msgs)
			if from += stream.Seq(len(msgs)); from > stored {
				from = 1
			}
		}
		b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "msg/s")
	}
	for _, batch := range []int{64, 256, 1024} {
		b.Run(fmt.Sprintf("plain/%d", batch), func(b *testing.B) { // without headers
			br := newBroker(b)
			br.create(b, "acme")
			_, js := br.raw(b)
			data := []byte(strings.Repeat("x", 1<<10))
			for range stored {
				if _, err := js.PublishAsync("events.acme.x", data); err != nil {
					b.Fatal(err)
				}
			}
			<-js.PublishAsyncComplete()
			read(b, br, batch)
		})
		b.Run(fmt.Sprintf("batched/%d", batch), func(b *testing.B) { // with the headers of atomic batches
			br := newBroker(b)
			br.create(b, "acme")
			fill(b, br.Client, "acme", stored, 1000)
			read(b, br, batch)
		})
	}
	b.Run("end", func(b *testing.B) {
		br := newBroker(b)
		br.create(b, "acme")
		fill(b, br.Client, "acme", 1000, 1000)
		b.ReportAllocs()
		for b.Loop() {
			if msgs, _, err := br.Read(b.Context(), "EVENTS_acme", 1001, 256); len(msgs) > 0 || err != nil {
				b.Fatal(len(msgs), err)
			}
		}
	})
}

// fill appends n events of 1 KiB in batches.
func fill(t testing.TB, c *stream.Client, org string, n, size int) {
	t.Helper()
	data := fmt.Appendf(nil, `{"x":"%s"}`, strings.Repeat("x", 1<<10-8))
	for n > 0 {
		batch := make([]stream.Append, min(n, size))
		for i := range batch {
			batch[i] = stream.Append{Type: "invoice.paid", Data: data}
		}
		if _, err := c.AppendBatch(t.Context(), org, batch); err != nil {
			t.Fatal(err)
		}
		n -= len(batch)
	}
}
