package cursor_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/stream"
	"github.com/grapnel-hooks/grapnel/stream/streamtest"
)

var _ cursor.Log = (*streamtest.Log)(nil)

const name = "EVENTS_acme"

// world is a memory log with a clock that goes on by a minute for each stamp,
// and a position to read it from.
type world struct {
	*streamtest.Log
	t   testing.TB
	now time.Time
	at  cursor.Position
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, now: time.Date(2026, 11, 21, 10, 0, 0, 1, time.UTC)}
	w.Log = &streamtest.Log{Now: func() time.Time {
		w.now = w.now.Add(time.Minute)
		return w.now
	}}
	w.at = cursor.Position{Org: "acme", Stream: name}
	w.Create(name)
	return w
}

// add appends n messages.
func (w *world) add(n int) {
	for range n {
		if w.Append("events.acme.invoice.paid", nil, []byte(`{}`)) == 0 {
			w.t.Fatal("not appended")
		}
	}
}

// next reads and, as a caller does, goes on to the new position.
func (w *world) next(o cursor.Options) cursor.Batch {
	w.t.Helper()
	b, err := cursor.Next(w.t.Context(), w.Log, w.at, o)
	if err != nil {
		w.t.Fatalf("Next at %d: %v", w.at.Seq, err)
	}
	w.at = b.To
	return b
}

// seen is what a test says of a batch.
type seen struct {
	Incarnation int
	Change      cursor.Change
	Gaps        []cursor.Gap
	Seqs        []stream.Seq
	To, Last    stream.Seq
	More        bool
}

func see(b cursor.Batch) seen {
	s := seen{Incarnation: b.To.Incarnation, Change: b.Change, Gaps: b.Gaps, To: b.To.Seq, Last: b.Last, More: b.More}
	for _, m := range b.Messages {
		s.Seqs = append(s.Seqs, m.Seq)
	}
	return s
}

func seqs(from, to stream.Seq) (s []stream.Seq) {
	for ; from <= to; from++ {
		s = append(s, from)
	}
	return s
}

func TestNext(t *testing.T) {
	verify := cursor.Options{Verify: true}
	gap := func(inc int, from, to stream.Seq) []cursor.Gap {
		return []cursor.Gap{{Incarnation: inc, From: from, To: to}}
	}
	// Each case starts from a stream of ten messages.
	for _, c := range []struct {
		name   string
		unread bool // the ten have not been read before
		happen func(w *world)
		o      cursor.Options
		want   seen
	}{
		{name: "never read", unread: true, happen: func(w *world) {},
			want: seen{Incarnation: 1, Seqs: seqs(1, 10), To: 10, Last: 10}},
		{name: "never read, in parts", unread: true, happen: func(w *world) {}, o: cursor.Options{Max: 4},
			want: seen{Incarnation: 1, Seqs: seqs(1, 4), To: 4, Last: 10, More: true}},
		{name: "never read, the first are gone: no gap", unread: true, happen: func(w *world) { w.PurgeTo(name, 8) }, o: verify,
			want: seen{Incarnation: 1, Seqs: seqs(8, 10), To: 10, Last: 10}},
		{name: "never read, all are gone: no gap", unread: true, happen: func(w *world) { w.PurgeTo(name, 11) },
			want: seen{Incarnation: 1, To: 10, Last: 10}},
		{name: "never read, empty", unread: true, happen: func(w *world) { w.Delete(name); w.Create(name) },
			want: seen{Incarnation: 1}},
		{name: "never read, placed by hand", unread: true, happen: func(w *world) { w.at.Seq = 7 }, o: verify,
			want: seen{Incarnation: 1, Seqs: seqs(8, 10), To: 10, Last: 10}},
		{name: "never read, placed after the end by hand", unread: true, happen: func(w *world) { w.at.Seq = 70 }, o: verify,
			want: seen{Incarnation: 1, To: 10, Last: 10}},

		{name: "nothing new", happen: func(w *world) {}, want: seen{Incarnation: 1, To: 10, Last: 10}},
		{name: "nothing new, verified", happen: func(w *world) {}, o: verify, want: seen{Incarnation: 1, To: 10, Last: 10}},
		{name: "new ones", happen: func(w *world) { w.add(3) },
			want: seen{Incarnation: 1, Seqs: seqs(11, 13), To: 13, Last: 13}},
		{name: "new ones, verified", happen: func(w *world) { w.add(3) }, o: verify,
			want: seen{Incarnation: 1, Seqs: seqs(11, 13), To: 13, Last: 13}},
		{name: "new ones, in parts, verified: the anchor takes no place", happen: func(w *world) { w.add(3) }, o: cursor.Options{Max: 2, Verify: true},
			want: seen{Incarnation: 1, Seqs: seqs(11, 12), To: 12, Last: 13, More: true}},
		{name: "wake-up before the message", happen: func(w *world) { w.WakeEarly = true; w.add(1) },
			want: seen{Incarnation: 1, To: 10, Last: 10}},
		{name: "wake-up before the message, verified", happen: func(w *world) { w.WakeEarly = true; w.add(1) }, o: verify,
			want: seen{Incarnation: 1, To: 10, Last: 11}},

		{name: "REL-20 hole after the position", happen: func(w *world) { w.add(3); w.DeleteMessage(name, 11) },
			want: seen{Incarnation: 1, Seqs: seqs(12, 13), To: 13, Last: 13}},
		{name: "REL-20 hole inside", happen: func(w *world) { w.add(3); w.DeleteMessage(name, 12) }, o: verify,
			want: seen{Incarnation: 1, Seqs: []stream.Seq{11, 13}, To: 13, Last: 13}},
		{name: "REL-20 only a hole", happen: func(w *world) { w.add(1); w.DeleteMessage(name, 11) }, o: verify,
			want: seen{Incarnation: 1, To: 10, Last: 11}},
		{name: "REL-20 the anchor is gone by itself", happen: func(w *world) { w.add(3); w.DeleteMessage(name, 10) }, o: verify,
			want: seen{Incarnation: 1, Seqs: seqs(11, 13), To: 13, Last: 13}},
		{name: "REL-20 the anchor is gone and was the newest", happen: func(w *world) { w.DeleteMessage(name, 10) }, o: verify,
			want: seen{Incarnation: 1, To: 10, Last: 10}},

		{name: "REL-20 the anchor is gone, in parts", happen: func(w *world) { w.add(3); w.DeleteMessage(name, 10) }, o: cursor.Options{Max: 2, Verify: true},
			want: seen{Incarnation: 1, Seqs: seqs(11, 12), To: 12, Last: 13, More: true}},

		{name: "purged up to the position: no gap", happen: func(w *world) { w.add(3); w.PurgeTo(name, 11) }, o: verify,
			want: seen{Incarnation: 1, Seqs: seqs(11, 13), To: 13, Last: 13}},
		{name: "REL-16 purged behind the position", happen: func(w *world) { w.add(5); w.PurgeTo(name, 14) }, o: verify,
			want: seen{Incarnation: 1, Gaps: gap(1, 11, 13), Seqs: seqs(14, 15), To: 15, Last: 15}},
		{name: "REL-16 noticed without verifying", happen: func(w *world) { w.add(5); w.PurgeTo(name, 14) },
			want: seen{Incarnation: 1, Gaps: gap(1, 11, 13), Seqs: seqs(14, 15), To: 15, Last: 15}},
		{name: "REL-16 a gap, then a hole", happen: func(w *world) { w.add(5); w.PurgeTo(name, 13); w.DeleteMessage(name, 14) }, o: verify,
			want: seen{Incarnation: 1, Gaps: gap(1, 11, 12), Seqs: []stream.Seq{13, 15}, To: 15, Last: 15}},
		{name: "REL-16 all purged", happen: func(w *world) { w.add(5); w.PurgeTo(name, 16) }, o: verify,
			want: seen{Incarnation: 1, Gaps: gap(1, 11, 15), To: 15, Last: 15}},

		{name: "REL-17 recreated and empty", happen: func(w *world) { w.Delete(name); w.Create(name) }, o: verify,
			want: seen{Incarnation: 2, Change: cursor.Recreated}},
		{name: "REL-17 recreated and shorter", happen: func(w *world) { w.Delete(name); w.Create(name); w.add(3) }, o: verify,
			want: seen{Incarnation: 2, Change: cursor.Recreated, Seqs: seqs(1, 3), To: 3, Last: 3}},
		{name: "REL-17 recreated and longer", happen: func(w *world) { w.Delete(name); w.Create(name); w.add(12) }, o: verify,
			want: seen{Incarnation: 2, Change: cursor.Recreated, Seqs: seqs(1, 12), To: 12, Last: 12}},
		{name: "REL-17 recreated, purged", happen: func(w *world) { w.Delete(name); w.Create(name); w.add(5); w.PurgeTo(name, 4) }, o: verify,
			want: seen{Incarnation: 2, Change: cursor.Recreated, Seqs: seqs(4, 5), To: 5, Last: 5}},
		{name: "REL-17 recreated, noticed by a jump", happen: func(w *world) { w.Delete(name); w.Create(name); w.add(15); w.PurgeTo(name, 13) },
			want: seen{Incarnation: 2, Change: cursor.Recreated, Seqs: seqs(13, 15), To: 15, Last: 15}},

		{name: "REL-18 rolled back", happen: func(w *world) { w.Rollback(name, 6) }, o: verify,
			want: seen{Incarnation: 2, Change: cursor.Regressed, Seqs: seqs(1, 6), To: 6, Last: 6}},
		{name: "REL-18 rolled back to nothing", happen: func(w *world) { w.Rollback(name, 0) }, o: verify,
			want: seen{Incarnation: 2, Change: cursor.Regressed}},
		{name: "REL-18 rolled back, new ones before the position", happen: func(w *world) { w.Rollback(name, 6); w.add(2) }, o: verify,
			want: seen{Incarnation: 2, Change: cursor.Regressed, Seqs: seqs(1, 8), To: 8, Last: 8}},
		{name: "REL-19 rolled back, new ones up to the position", happen: func(w *world) { w.Rollback(name, 6); w.add(4) }, o: verify,
			want: seen{Incarnation: 2, Change: cursor.Regressed, Seqs: seqs(1, 10), To: 10, Last: 10}},
		{name: "REL-19 rolled back, new ones beyond the position", happen: func(w *world) { w.Rollback(name, 6); w.add(7) }, o: verify,
			want: seen{Incarnation: 2, Change: cursor.Regressed, Seqs: seqs(1, 13), To: 13, Last: 13}},
		{name: "rolled back to the position: nothing was lost", happen: func(w *world) { w.add(4); w.Rollback(name, 10); w.add(1) }, o: verify,
			want: seen{Incarnation: 1, Seqs: seqs(11, 11), To: 11, Last: 11}},
		{name: "REL-18 rolled back without an anchor", happen: func(w *world) { w.at.Anchor = time.Time{}; w.Rollback(name, 6) }, o: verify,
			want: seen{Incarnation: 2, Change: cursor.Regressed, Seqs: seqs(1, 6), To: 6, Last: 6}},
		{name: "the anchor differs by a nanosecond", happen: func(w *world) { w.at.Anchor = w.at.Anchor.Add(1); w.add(1) }, o: verify,
			want: seen{Incarnation: 2, Change: cursor.Regressed, Seqs: seqs(1, 11), To: 11, Last: 11}},
		{name: "the anchor differs by a nanosecond, at the end", happen: func(w *world) { w.at.Anchor = w.at.Anchor.Add(1) }, o: verify,
			want: seen{Incarnation: 2, Change: cursor.Regressed, Seqs: seqs(1, 10), To: 10, Last: 10}},
		{name: "the anchor in another zone is the same", happen: func(w *world) {
			w.at.Anchor, w.at.Created = w.at.Anchor.In(time.FixedZone("", 3600)), w.at.Created.In(time.FixedZone("", 3600))
		}, o: verify, want: seen{Incarnation: 1, To: 10, Last: 10}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.add(10)
			if !c.unread {
				w.next(cursor.Options{})
			}
			c.happen(w)
			from := w.at
			b := w.next(c.o)
			if diff := cmp.Diff(c.want, see(b)); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(from, b.From); diff != "" {
				t.Errorf("From: %s", diff)
			}
			s, err := w.State(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			if !b.To.Created.Equal(s.Created) || b.To.Org != "acme" || b.To.Stream != name {
				t.Errorf("To = %+v in a stream created at %v", b.To, s.Created)
			}
			if n := len(b.Messages); n > 0 && !b.To.Anchor.Equal(b.Messages[n-1].Time) {
				t.Errorf("anchor %v, the last message was stored at %v", b.To.Anchor, b.Messages[n-1].Time)
			}
			if b.Empty() != (len(b.Messages) == 0 && b.To == from) {
				t.Errorf("Empty = %v", b.Empty())
			}
			// Asked again, the same place is the same place.
			if w.WakeEarly || b.More {
				return
			}
			if again := w.next(cursor.Options{Verify: true}); !again.Empty() {
				t.Errorf("asked again: %+v", see(again))
			}
		})
	}
}

// What was read longer ago than the overlap is not read again.
func TestRegressedGoesBackByTheOverlap(t *testing.T) {
	for _, c := range []struct{ total, back, fresh int }{
		{total: 300, back: 250, fresh: 0},
		{total: 300, back: 250, fresh: 20},
		{total: 300, back: 250, fresh: 100},
		{total: 300, back: 100, fresh: 5}, // an old backup
		{total: 300, back: 0, fresh: 5},
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			w := newWorld(t)
			w.add(c.total)
			w.next(cursor.Options{Max: c.total})
			cut := w.at.Anchor.Add(-cursor.Overlap)
			w.DeleteMessage(name, 100) // holes do not disturb the search
			w.DeleteMessage(name, 241)
			w.Rollback(name, stream.Seq(c.back))
			w.add(c.fresh)

			all, _, err := w.Read(t.Context(), name, 1, 1000)
			if err != nil {
				t.Fatal(err)
			}
			var want []stream.Message
			for _, m := range all {
				if m.Time.After(cut) {
					want = append(want, m)
				}
			}
			b := w.next(cursor.Options{Verify: true, Max: 1000})
			if diff := cmp.Diff(want, b.Messages, cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
			if b.Change != cursor.Regressed || b.To.Seq != all[len(all)-1].Seq || len(b.Gaps) > 0 {
				t.Errorf("got %+v", see(b))
			}
		})
	}
}

// After everything was purged the position stands where no message is. A
// roll-back to before the purge, with new messages over it, is still noticed.
func TestPurgedPositionKeepsItsAnchor(t *testing.T) {
	w := newWorld(t)
	w.add(10)
	w.next(cursor.Options{})
	w.add(5)
	w.PurgeTo(name, 16)
	w.next(cursor.Options{Verify: true})
	w.Rollback(name, 11)
	w.add(9)
	if diff := cmp.Diff(seen{Incarnation: 2, Change: cursor.Regressed, Seqs: seqs(12, 20), To: 20, Last: 20},
		see(w.next(cursor.Options{Verify: true}))); diff != "" {
		t.Error(diff)
	}
}

func TestNextErrors(t *testing.T) {
	w := newWorld(t)
	w.add(3)
	w.next(cursor.Options{Max: 1})
	for _, o := range []cursor.Options{{}, {Verify: true}} {
		w.SetDown(true)
		if _, err := cursor.Next(t.Context(), w.Log, w.at, o); !errors.Is(err, stream.ErrUnavailable) {
			t.Errorf("%+v while down: %v", o, err)
		}
		w.SetDown(false)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := cursor.Next(ctx, w.Log, w.at, o); !errors.Is(err, context.Canceled) {
			t.Errorf("%+v cancelled: %v", o, err)
		}
	}
	w.Delete(name)
	for _, o := range []cursor.Options{{}, {Verify: true}} {
		if _, err := cursor.Next(t.Context(), w.Log, w.at, o); !errors.Is(err, stream.ErrNoStream) {
			t.Errorf("%+v without a stream: %v", o, err)
		}
	}
}

// meddler does something between the questions of one Next.
type meddler struct {
	cursor.Log
	calls  int
	before func(call int)
}

func (m *meddler) State(ctx context.Context, name string) (stream.State, error) {
	m.calls++
	m.before(m.calls)
	return m.Log.State(ctx, name)
}

func (m *meddler) Read(ctx context.Context, name string, from stream.Seq, max int) ([]stream.Message, stream.Seq, error) {
	m.calls++
	m.before(m.calls)
	return m.Log.Read(ctx, name, from, max)
}

// Whatever happens between the questions, the answer is one that some moment
// would have given.
func TestNextWhileTheStreamChanges(t *testing.T) {
	for call := 1; call <= 4; call++ {
		t.Run(fmt.Sprintf("recreated before call %d", call), func(t *testing.T) {
			w := newWorld(t)
			w.add(10)
			w.next(cursor.Options{Max: 5})
			m := &meddler{Log: w.Log, before: func(n int) {
				if n == call {
					w.Delete(name)
					w.Create(name)
					w.add(12)
				}
			}}
			b, err := cursor.Next(t.Context(), m, w.at, cursor.Options{Verify: true})
			if err != nil {
				t.Fatal(err)
			}
			got, old := see(b), seen{Incarnation: 1, Seqs: seqs(6, 10), To: 10, Last: 10}
			anew := seen{Incarnation: 2, Change: cursor.Recreated, Seqs: seqs(1, 12), To: 12, Last: 12}
			if !cmp.Equal(got, anew) && !(call == 4 && cmp.Equal(got, old)) {
				t.Errorf("got %+v", got)
			}
		})
		t.Run(fmt.Sprintf("purged before call %d", call), func(t *testing.T) {
			w := newWorld(t)
			w.add(10)
			w.next(cursor.Options{Max: 5})
			m := &meddler{Log: w.Log, before: func(n int) {
				if n == call {
					w.PurgeTo(name, 9)
				}
			}}
			b, err := cursor.Next(t.Context(), m, w.at, cursor.Options{Verify: true})
			if err != nil {
				t.Fatal(err)
			}
			got, before := see(b), seen{Incarnation: 1, Seqs: seqs(6, 10), To: 10, Last: 10}
			after := seen{Incarnation: 1, Gaps: []cursor.Gap{{Incarnation: 1, From: 6, To: 8}}, Seqs: seqs(9, 10), To: 10, Last: 10}
			if !cmp.Equal(got, before) && !cmp.Equal(got, after) {
				t.Errorf("got %+v", got)
			}
		})
		t.Run(fmt.Sprintf("rolled back before call %d", call), func(t *testing.T) {
			w := newWorld(t)
			w.add(10)
			w.next(cursor.Options{Max: 5})
			m := &meddler{Log: w.Log, before: func(n int) {
				if n == call {
					w.Rollback(name, 4)
				}
			}}
			b, err := cursor.Next(t.Context(), m, w.at, cursor.Options{Verify: true})
			if err != nil {
				t.Fatal(err)
			}
			got, old := see(b), seen{Incarnation: 1, Seqs: seqs(6, 10), To: 10, Last: 10}
			after := seen{Incarnation: 2, Change: cursor.Regressed, Seqs: seqs(1, 4), To: 4, Last: 4}
			if !cmp.Equal(got, after) && !(call == 4 && cmp.Equal(got, old)) {
				t.Errorf("got %+v", got)
			}
		})
	}
	t.Run("recreated all the time", func(t *testing.T) {
		w := newWorld(t)
		w.add(10)
		w.next(cursor.Options{Max: 5})
		m := &meddler{Log: w.Log, before: func(int) {
			w.Delete(name)
			w.Create(name)
			w.add(3)
		}}
		if _, err := cursor.Next(t.Context(), m, w.at, cursor.Options{Verify: true}); !errors.Is(err, stream.ErrUnavailable) {
			t.Errorf("err = %v", err)
		}
	})
}

func TestLag(t *testing.T) {
	for _, c := range []struct {
		at, first, last stream.Seq
		messages, want  uint64
	}{
		{at: 0, first: 1, last: 0, messages: 0, want: 0},
		{at: 0, first: 1, last: 10, messages: 10, want: 10},
		{at: 4, first: 1, last: 10, messages: 10, want: 6},
		{at: 10, first: 1, last: 10, messages: 10, want: 0},
		{at: 4, first: 8, last: 10, messages: 3, want: 3},
		{at: 4, first: 11, last: 10, messages: 0, want: 0},
		{at: 4, first: 1, last: 10, messages: 2, want: 2}, // holes
		{at: 40, first: 1, last: 10, messages: 10, want: 0},
		{at: 0, first: 0, last: 0, messages: 0, want: 0},
	} {
		got := cursor.Lag(cursor.Position{Seq: c.at}, stream.State{First: c.first, Last: c.last, Messages: c.messages})
		if got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}
