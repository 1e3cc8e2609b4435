package streamtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/grapnel-hooks/grapnel/stream"
)

// Reader is what a cursor reads: the same methods as cursor.Log.
type Reader interface {
	State(ctx context.Context, name string) (stream.State, error)
	Read(ctx context.Context, name string, from stream.Seq, max int) ([]stream.Message, stream.Seq, error)
}

// Fixture is a broker under test and what publishers and operators do to it.
// The functions fail the test themselves when they cannot do it.
type Fixture struct {
	Log Reader

	Create        func(t testing.TB, name string)                                                  // a stream, named and bound as [stream.Names] says
	Delete        func(t testing.TB, name string)                                                  // the stream with all it holds
	Append        func(t testing.TB, subject string, header stream.Header, data []byte) stream.Seq // acknowledged
	DeleteMessage func(t testing.TB, name string, seq stream.Seq)                                  // leaves a hole
	PurgeTo       func(t testing.TB, name string, seq stream.Seq)                                  // removes all messages before seq
}

const (
	name    = "EVENTS_acme"
	subject = "events.acme.invoice.paid"
)

// TestLog is the suite that every implementation of cursor.Log passes. Each
// call of open gives an empty broker of its own.
func TestLog(t *testing.T, open func(t *testing.T) Fixture) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, f *fixture)
	}{
		{"missing stream", testMissing},
		{"empty stream", testEmpty},
		{"batches", testBatches},
		{"from the middle", testMiddle},
		{"holes", testHoles},
		{"purge", testPurge},
		{"deleted and made anew", testRecreated},
		{"two streams", testTwoStreams},
		{"payloads", testPayloads},
		{"headers", testHeaders},
		{"status headers", testStatusHeaders},
		{"forged headers", testForgedHeaders},
		{"while appending", testWhileAppending},
		{"cancelled", testCancelled},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, &fixture{open(t)}) })
	}
}

type fixture struct{ Fixture }

// fill makes the stream with n messages, which say their sequence.
func (f *fixture) fill(t *testing.T, n int) {
	t.Helper()
	f.Create(t, name)
	for i := range n {
		if seq := f.Append(t, subject, nil, fmt.Appendf(nil, `{"n":%d}`, i+1)); seq != stream.Seq(i+1) {
			t.Fatalf("message %d got sequence %d", i+1, seq)
		}
	}
}

func (f *fixture) state(t *testing.T) stream.State {
	t.Helper()
	s, err := f.Log.State(t.Context(), name)
	if err != nil {
		t.Fatalf("State: %v", err)
	}
	return s
}

// all reads from a sequence to the end, in reads of at most max, and checks
// what holds for each of them.
func (f *fixture) all(t *testing.T, from stream.Seq, max int) (all []stream.Message) {
	t.Helper()
	end := f.state(t).Last
	for {
		msgs, last, err := f.Log.Read(t.Context(), name, from, max)
		if err != nil {
			t.Fatalf("Read from %d: %v", from, err)
		}
		if len(msgs) == 0 {
			return all
		}
		if len(msgs) > max {
			t.Fatalf("Read returned %d messages, asked for %d", len(msgs), max)
		}
		for _, m := range msgs {
			if m.Seq < from {
				t.Fatalf("Read returned %d, expected %d or more", m.Seq, from)
			}
			from = m.Seq + 1
		}
		if last != 0 && last < from-1 || last > end {
			t.Fatalf("last = %d, after reading %d of %d", last, from-1, end)
		}
		all = append(all, msgs...)
	}
}

func seqs(msgs []stream.Message) (s []stream.Seq) {
	for _, m := range msgs {
		s = append(s, m.Seq)
	}
	return s
}

func span(from, to stream.Seq) (s []stream.Seq) {
	for ; from <= to; from++ {
		s = append(s, from)
	}
	return s
}

func check[T any](t *testing.T, what string, want, got T) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s: -want +got\n%s", what, diff)
	}
}

func testMissing(t *testing.T, f *fixture) {
	if _, err := f.Log.State(t.Context(), name); !errors.Is(err, stream.ErrNoStream) {
		t.Errorf("State: %v", err)
	}
	if _, _, err := f.Log.Read(t.Context(), name, 1, 10); !errors.Is(err, stream.ErrNoStream) {
		t.Errorf("Read: %v", err)
	}
	f.fill(t, 1)
	f.Delete(t, name)
	if _, err := f.Log.State(t.Context(), name); !errors.Is(err, stream.ErrNoStream) {
		t.Errorf("State after delete: %v", err)
	}
	if _, _, err := f.Log.Read(t.Context(), name, 1, 10); !errors.Is(err, stream.ErrNoStream) {
		t.Errorf("Read after delete: %v", err)
	}
}

func testEmpty(t *testing.T, f *fixture) {
	f.Create(t, name)
	s := f.state(t)
	if s.Created.IsZero() {
		t.Error("no creation time")
	}
	s.Created = time.Time{}
	check(t, "State", stream.State{Name: name, First: 1, Subjects: []string{"events.acme.>"}}, s)
	for _, from := range []stream.Seq{1, 2, 1 << 40} {
		msgs, last, err := f.Log.Read(t.Context(), name, from, 10)
		if err != nil || len(msgs) > 0 || last > 0 {
			t.Errorf("Read from %d: %d messages, last %d, %v", from, len(msgs), last, err)
		}
	}
}

func testBatches(t *testing.T, f *fixture) {
	f.fill(t, 25)
	want := f.all(t, 1, 100)
	check(t, "sequences", span(1, 25), seqs(want))
	s := f.state(t)
	var before time.Time
	for _, m := range want {
		check(t, "message", stream.Message{Subject: subject, Seq: m.Seq, Time: m.Time, Data: fmt.Appendf(nil, `{"n":%d}`, m.Seq)}, m)
		if m.Time.Before(before) || m.Time.Before(s.Created.Add(-time.Minute)) || m.Time.Location() != time.UTC {
			t.Errorf("message %d stored at %v, after one stored at %v", m.Seq, m.Time, before)
		}
		before = m.Time
	}
	if !s.LastTime.Equal(before) || s.First != 1 || s.Last != 25 || s.Messages != 25 || s.Bytes == 0 {
		t.Errorf("State = %+v, the last message was stored at %v", s, before)
	}
	// However it is cut, it is the same.
	for _, max := range []int{1, 2, 7, 25} {
		check(t, fmt.Sprintf("in reads of %d", max), want, f.all(t, 1, max))
	}
	_, last, err := f.Log.Read(t.Context(), name, 1, 5)
	if err != nil || last != 25 {
		t.Errorf("last = %d, %v: there is more to read", last, err)
	}
}

func testMiddle(t *testing.T, f *fixture) {
	f.fill(t, 12)
	check(t, "from 0", span(1, 12), seqs(f.all(t, 0, 5)))
	check(t, "from 6", span(6, 12), seqs(f.all(t, 6, 5)))
	check(t, "from the last", span(12, 12), seqs(f.all(t, 12, 5)))
	check(t, "after the last", nil, f.all(t, 13, 5))
	check(t, "far after the last", nil, f.all(t, 1<<40, 5))
}

func testHoles(t *testing.T, f *fixture) {
	f.fill(t, 20)
	before := f.all(t, 1, 100)
	var want []stream.Message
	for i, m := range before {
		if m.Seq%3 == 0 || m.Seq == 20 || m.Seq == 10 || m.Seq == 11 {
			f.DeleteMessage(t, name, m.Seq)
			continue
		}
		want = append(want, before[i])
	}
	for _, max := range []int{1, 4, 100} {
		check(t, fmt.Sprintf("in reads of %d", max), want, f.all(t, 1, max))
	}
	check(t, "from inside a hole", span(13, 14), seqs(f.all(t, 10, 2))[:2])
	s := f.state(t)
	if s.First != 1 || s.Last != 20 || s.Messages != uint64(len(want)) {
		t.Errorf("State = %+v", s)
	}
	if seq := f.Append(t, subject, nil, nil); seq != 21 {
		t.Errorf("the sequence of the deleted last message was given again: %d", seq)
	}
	check(t, "after the hole at the end", span(21, 21), seqs(f.all(t, 20, 10)))
}

func testPurge(t *testing.T, f *fixture) {
	f.fill(t, 10)
	f.PurgeTo(t, name, 6)
	if s := f.state(t); s.First != 6 || s.Last != 10 || s.Messages != 5 {
		t.Errorf("State = %+v", s)
	}
	check(t, "from before the first", span(6, 10), seqs(f.all(t, 2, 3)))
	f.PurgeTo(t, name, 11)
	if s := f.state(t); s.First != 11 || s.Last != 10 || s.Messages != 0 {
		t.Errorf("State of a stream purged as a whole = %+v", s)
	}
	check(t, "of a stream purged as a whole", nil, f.all(t, 1, 3))
	f.Append(t, subject, nil, nil)
	check(t, "after the purge", span(11, 11), seqs(f.all(t, 1, 3)))
}

func testRecreated(t *testing.T, f *fixture) {
	f.fill(t, 5)
	old := f.state(t)
	if again := f.state(t); !again.Created.Equal(old.Created) {
		t.Errorf("created at %v, then at %v", old.Created, again.Created)
	}
	f.Delete(t, name)
	f.fill(t, 2)
	s := f.state(t)
	if s.Created.Equal(old.Created) || s.First != 1 || s.Last != 2 {
		t.Errorf("State = %+v, before it was %+v", s, old)
	}
	check(t, "from 1", span(1, 2), seqs(f.all(t, 1, 10)))
	check(t, "from the old end", nil, f.all(t, 6, 10))
}

func testTwoStreams(t *testing.T, f *fixture) {
	f.fill(t, 3)
	f.Create(t, "EVENTS_globex")
	f.Append(t, "events.globex.a", nil, []byte("1"))
	f.Append(t, subject, nil, []byte("4"))
	f.Append(t, "events.globex.b.c", nil, []byte("2"))

	check(t, "acme", span(1, 4), seqs(f.all(t, 1, 10)))
	msgs, _, err := f.Log.Read(t.Context(), "EVENTS_globex", 1, 10)
	if err != nil {
		t.Fatal(err)
	}
	for i := range msgs {
		msgs[i].Time = time.Time{}
	}
	check(t, "globex", []stream.Message{
		{Subject: "events.globex.a", Seq: 1, Data: []byte("1")},
		{Subject: "events.globex.b.c", Seq: 2, Data: []byte("2")},
	}, msgs)
}

func testPayloads(t *testing.T, f *fixture) {
	f.Create(t, name)
	want := [][]byte{
		nil,
		{0},
		[]byte("x"),
		[]byte("NATS/1.0 404 Not Found\r\n\r\n"),
		bytes.Repeat([]byte("\r\n"), 100),
		bytes.Repeat([]byte{0xff, 0}, 100<<10),
		[]byte("the end"),
	}
	for _, data := range want {
		f.Append(t, subject, nil, data)
	}
	for _, max := range []int{1, 100} {
		msgs := f.all(t, 1, max)
		if len(msgs) != len(want) {
			t.Fatalf("%d messages in reads of %d, want %d", len(msgs), max, len(want))
		}
		for i, m := range msgs {
			if !bytes.Equal(m.Data, want[i]) {
				t.Errorf("message %d in reads of %d: %d bytes that differ from the %d appended", m.Seq, max, len(m.Data), len(want[i]))
			}
		}
	}
}

func testHeaders(t *testing.T, f *fixture) {
	f.Create(t, name)
	want := []stream.Header{
		nil,
		{"Nats-Msg-Id": {"in_1-paid"}, "Grapnel-Workspace": {"berlin"}},
		{"x-lower": {"1"}, "X-LOWER": {"2"}, "ce-id": {"a b"}},
		{"X-Many": {"one", "two", "one"}},
		{"X-Empty": {""}, "X-Umlaut": {"Größe"}, "X-Long": {strings.Repeat("v", 4000)}},
	}
	for _, h := range want {
		f.Append(t, subject, h, []byte("{}"))
	}
	var got []stream.Header
	for _, m := range f.all(t, 1, 100) {
		got = append(got, m.Header)
	}
	check(t, "headers", want, got)
}

// An event with an empty body and a header Status looks like an answer of the
// server itself; common clients stop there.
func testStatusHeaders(t *testing.T, f *fixture) {
	f.Create(t, name)
	var want []stream.Header
	for _, status := range []string{"100", "204", "404", "408", "409", "503", "0", "x"} {
		for _, h := range []stream.Header{
			{"Status": {status}},
			{"Status": {status}, "Description": {"EOB"}},
			{"Status": {status}, "Nats-Msg-Id": {"id " + status}},
		} {
			want = append(want, h)
			f.Append(t, subject, h, nil)
		}
	}
	want = append(want, nil)
	f.Append(t, subject, nil, []byte("{}"))
	for _, max := range []int{1, 5, 100} {
		msgs := f.all(t, 1, max)
		var got []stream.Header
		for _, m := range msgs {
			got = append(got, m.Header)
		}
		check(t, fmt.Sprintf("in reads of %d", max), want, got)
		check(t, "sequences", span(1, stream.Seq(len(want))), seqs(msgs))
	}
}

// Headers that the server adds to what it returns say nothing when a publisher
// sent them, and are not among the message's headers in either case.
func testForgedHeaders(t *testing.T, f *fixture) {
	f.Create(t, name)
	forged := []stream.Header{
		{"Nats-Sequence": {"999"}},
		{"Nats-Subject": {"events.globex.stolen"}},
		{"Nats-Stream": {"EVENTS_globex"}},
		{"Nats-Time-Stamp": {"2001-01-01T00:00:00Z"}},
		{"Nats-Num-Pending": {"0"}},
		{"Nats-Last-Sequence": {"77"}},
		{"Nats-Last-Sequence": {"0"}, "Nats-Num-Pending": {"0"}, "Status": {"204"}, "Description": {"EOB"}},
		{"Nats-Sequence": {"1", "2", "x"}, "Nats-Subject": {"a", "b"}, "Nats-Stream": {"c", "d"}, "Nats-Last-Sequence": {"9", "9"}},
		{"Nats-Sequence": {"18446744073709551615"}, "Nats-Num-Pending": {"18446744073709551615"}},
	}
	start := time.Now().Add(-time.Hour)
	for i, h := range forged {
		h["X-Own"] = []string{fmt.Sprint(i)}
		for _, data := range []string{"{}", ""} {
			f.Append(t, subject, h, []byte(data))
		}
	}
	f.Append(t, subject, nil, []byte("{}"))
	last := f.state(t)
	for _, max := range []int{1, 4, 100} {
		msgs := f.all(t, 1, max)
		check(t, fmt.Sprintf("sequences in reads of %d", max), span(1, last.Last), seqs(msgs))
		for _, m := range msgs {
			if m.Subject != subject {
				t.Errorf("message %d has subject %q", m.Seq, m.Subject)
			}
			if last.LastTime.After(start) && m.Time.Before(start) {
				t.Errorf("message %d stored at %v", m.Seq, m.Time)
			}
			for k := range m.Header {
				if serverHeaders[k] {
					t.Errorf("message %d has header %s", m.Seq, k)
				}
			}
			if m.Seq < last.Last && m.Header.Get("X-Own") != fmt.Sprint((m.Seq-1)/2) {
				t.Errorf("message %d has lost a header of its own: %v", m.Seq, m.Header)
			}
		}
	}
}

// A read beside an append sees the message or does not; it misses none before
// one that it sees.
func testWhileAppending(t *testing.T, f *fixture) {
	f.fill(t, 1)
	const n = 200
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range n {
			if f.Append(t, subject, nil, []byte("{}")) == 0 {
				t.Error("not appended")
				return
			}
		}
	}()
	var got []stream.Seq
	for from := stream.Seq(1); ; {
		ended := false
		select {
		case <-done:
			ended = true
		default:
		}
		msgs, _, err := f.Log.Read(t.Context(), name, from, 16)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, seqs(msgs)...)
		if len(got) > 0 {
			from = got[len(got)-1] + 1
		}
		if ended && len(msgs) == 0 {
			break
		}
	}
	check(t, "sequences", span(1, n+1), got)
}

func testCancelled(t *testing.T, f *fixture) {
	f.fill(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Log.State(ctx, name); !errors.Is(err, context.Canceled) {
		t.Errorf("State: %v", err)
	}
	if _, _, err := f.Log.Read(ctx, name, 1, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("Read: %v", err)
	}
}
