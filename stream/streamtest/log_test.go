package streamtest_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/grapnel-hooks/grapnel/stream"
	"github.com/grapnel-hooks/grapnel/stream/streamtest"
)

func TestMemoryLog(t *testing.T) {
	streamtest.TestLog(t, func(t *testing.T) streamtest.Fixture {
		l := &streamtest.Log{}
		return streamtest.Fixture{
			Log:           l,
			Create:        func(t testing.TB, name string) { l.Create(name) },
			Delete:        func(t testing.TB, name string) { l.Delete(name) },
			DeleteMessage: func(t testing.TB, name string, seq stream.Seq) { l.DeleteMessage(name, seq) },
			PurgeTo:       func(t testing.TB, name string, seq stream.Seq) { l.PurgeTo(name, seq) },
			Append: func(t testing.TB, subject string, header stream.Header, data []byte) stream.Seq {
				return l.Append(subject, header, data)
			},
		}
	})
}

const name = "EVENTS_acme"

func read(t *testing.T, l *streamtest.Log) (seqs []stream.Seq) {
	t.Helper()
	msgs, _, err := l.Read(t.Context(), name, 1, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range msgs {
		seqs = append(seqs, m.Seq)
	}
	return seqs
}

// A roll-back keeps the creation time and gives sequences out again, to
// messages stored at other times.
func TestRollback(t *testing.T) {
	frozen := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	l := &streamtest.Log{Now: func() time.Time { return frozen }}
	l.Create(name)
	for range 5 {
		l.Append("events.acme.a", nil, nil)
	}
	before, _ := l.State(t.Context(), name)
	third, _, _ := l.Read(t.Context(), name, 3, 1)
	l.PurgeTo(name, 4)
	l.Rollback(name, 3)
	s, _ := l.State(t.Context(), name)
	want := stream.State{Name: name, Created: before.Created, First: 4, Last: 3, LastTime: third[0].Time, Subjects: before.Subjects}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Error(diff)
	}
	if seq := l.Append("events.acme.a", nil, nil); seq != 4 {
		t.Errorf("appended at %d", seq)
	}
	if s, _ = l.State(t.Context(), name); !s.LastTime.After(before.LastTime) {
		t.Errorf("stored at %v, before the roll-back at %v", s.LastTime, before.LastTime)
	}
}

func TestWakeUps(t *testing.T) {
	var woken []stream.Seq
	l := &streamtest.Log{WakeEarly: true}
	l.OnAppend = func(n string, seq stream.Seq, at time.Time) {
		if n != name || at.IsZero() {
			t.Errorf("woken for %s at %v", n, at)
		}
		woken = append(woken, seq)
	}
	l.Create(name)
	l.Append("events.acme.a", nil, nil)
	l.Append("events.acme.a", nil, nil)
	if diff := cmp.Diff([]stream.Seq{1, 2}, woken); diff != "" {
		t.Error(diff)
	}
	if got := read(t, l); len(got) > 0 {
		t.Errorf("the first read sees %d", got)
	}
	if diff := cmp.Diff([]stream.Seq{1, 2}, read(t, l)); diff != "" {
		t.Error(diff)
	}
}

func TestDown(t *testing.T) {
	l := &streamtest.Log{}
	l.Create(name, "events.acme.>", "webhook.>")
	l.SetDown(true)
	if seq := l.Append("events.acme.a", nil, nil); seq != 0 {
		t.Errorf("appended %d while down", seq)
	}
	if _, err := l.State(t.Context(), name); !errors.Is(err, stream.ErrUnavailable) {
		t.Errorf("State: %v", err)
	}
	if _, _, err := l.Read(t.Context(), name, 1, 1); !errors.Is(err, stream.ErrUnavailable) {
		t.Errorf("Read: %v", err)
	}
	l.SetDown(false)
	if seq := l.Append("webhook.a.b", nil, nil); seq != 1 {
		t.Errorf("appended %d", seq)
	}
	if seq := l.Append("other.a", nil, nil); seq != 0 {
		t.Errorf("appended %d where nothing is bound", seq)
	}
}
