package cursor_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/stream"
)

// forger answers with another text for one message, stored at the same
// nanosecond.
type forger struct {
	cursor.Log
	seq  stream.Seq
	text string
}

func (f *forger) Read(ctx context.Context, name string, from stream.Seq, max int) ([]stream.Message, stream.Seq, error) {
	msgs, last, err := f.Log.Read(ctx, name, from, max)
	for i := range msgs {
		if msgs[i].Seq == f.seq {
			msgs[i].Data = []byte(f.text)
		}
	}
	return msgs, last, err
}

// REL-19: the message at the position is known by what it says, too, also
// while nothing is new.
func TestAnotherTextAtThePosition(t *testing.T) {
	for _, c := range []struct {
		name   string
		happen func(*world)
		seq    stream.Seq
		o      cursor.Options
		want   cursor.Change
	}{
		{name: "nothing new", happen: func(*world) {}, seq: 10, o: cursor.Options{Verify: true}, want: cursor.Regressed},
		{name: "new ones", happen: func(w *world) { w.add(2) }, seq: 10, o: cursor.Options{Verify: true}, want: cursor.Regressed},
		{name: "before the position", happen: func(*world) {}, seq: 9, o: cursor.Options{Verify: true}},
		{name: "not asked to verify", happen: func(w *world) { w.add(2) }, seq: 10},
		{name: "books of an earlier version, without a hash", happen: func(w *world) { w.at.Hash = 0 }, seq: 10, o: cursor.Options{Verify: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.add(10)
			w.next(cursor.Options{})
			c.happen(w)
			b, err := cursor.Next(t.Context(), &forger{w.Log, c.seq, `{"other":1}`}, w.at, c.o)
			if err != nil {
				t.Fatal(err)
			}
			if b.Change != c.want {
				t.Errorf("change %v, want %v", b.Change, c.want)
			}
		})
	}
}

// Books of an earlier version get the hash with the first comparison.
func TestHashIsFilledIn(t *testing.T) {
	w := newWorld(t)
	w.add(3)
	w.next(cursor.Options{})
	want := w.at
	w.at.Hash = 0
	if b := w.next(cursor.Options{Verify: true}); b.Empty() || b.Change != cursor.Same {
		t.Errorf("nothing to commit: %+v", b)
	}
	if diff := cmp.Diff(want, w.at); diff != "" {
		t.Errorf("position (-want +got):\n%s", diff)
	}
	if b := w.next(cursor.Options{Verify: true}); !b.Empty() {
		t.Errorf("something to commit again: %+v", b)
	}
}

func TestHash(t *testing.T) {
	m := stream.Message{Subject: "events.acme.a", Seq: 1, Time: time.Unix(1, 0), Data: []byte("b")}
	for _, other := range []stream.Message{
		{Subject: "events.acme.a", Data: []byte("c")},
		{Subject: "events.acme.ab"},
		{Subject: "events.acme", Data: []byte(".ab")},
	} {
		if cursor.Hash(m) == cursor.Hash(other) {
			t.Errorf("the same hash for %+v", other)
		}
	}
	m.Seq, m.Time, m.Header = 9, time.Unix(9, 0), stream.Header{"A": {"b"}}
	if got, want := cursor.Hash(m), cursor.Hash(stream.Message{Subject: m.Subject, Data: m.Data}); got != want || got == 0 {
		t.Errorf("hash %x, want %x: of subject and data only", got, want)
	}
}
