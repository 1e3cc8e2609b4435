package cursor_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/stream"
)

// back reads all of the world, and moves the position back to seq.
func (w *world) back(seq stream.Seq) (far cursor.Position) {
	w.t.Helper()
	for w.next(cursor.Options{Verify: true}).More {
	}
	far = w.at
	w.at.Seq, w.at.Anchor = seq, time.Time{}
	return far
}

func seqsOf(b cursor.Batch) (list []stream.Seq) {
	for _, m := range b.Messages {
		list = append(list, m.Seq)
	}
	return list
}

// A batch that is read again ends where new messages begin.
func TestReadAgain(t *testing.T) {
	w := newWorld(t)
	w.add(5)
	far := w.back(2)
	w.add(3)
	for i, want := range []struct {
		again bool
		seqs  []stream.Seq
		to    stream.Seq
	}{
		{true, []stream.Seq{3, 4}, 4},
		{true, []stream.Seq{5}, 5},
		{false, []stream.Seq{6, 7}, 7},
		{false, []stream.Seq{8}, 8},
	} {
		b := w.next(cursor.Options{Max: 2, Furthest: far, Verify: i%2 == 0})
		if diff := cmp.Diff(want.seqs, seqsOf(b)); diff != "" || b.Again != want.again || b.To.Seq != want.to || b.More != (i < 3) {
			t.Errorf("read %d: again %v up to %d, more %v (-want +got):\n%s", i, b.Again, b.To.Seq, b.More, diff)
		}
		if b.To.Seq == far.Seq && b.To != far {
			t.Errorf("at the furthest place it is %+v, want %+v", b.To, far)
		}
	}
}

// What was purged since is a gap that ends with the furthest place.
func TestReadAgainWhatWasPurged(t *testing.T) {
	w := newWorld(t)
	w.add(5)
	far := w.back(2)
	w.add(3)
	w.PurgeTo(name, 8)
	b := w.next(cursor.Options{Furthest: far})
	if diff := cmp.Diff([]cursor.Gap{{Incarnation: 1, From: 3, To: 5}}, b.Gaps); diff != "" || !b.Again || b.To != far {
		t.Errorf("again %v up to %d, gaps (-want +got):\n%s", b.Again, b.To.Seq, diff)
	}
	b = w.next(cursor.Options{Furthest: far})
	if diff := cmp.Diff([]cursor.Gap{{Incarnation: 1, From: 6, To: 7}}, b.Gaps); diff != "" || b.Again {
		t.Errorf("again %v, gaps of what was never read (-want +got):\n%s", b.Again, diff)
	}
}

// A roll-back to a place after the position is seen at the furthest place.
func TestRollbackWhileReadAgain(t *testing.T) {
	for _, grown := range []int{0, 3} {
		w := newWorld(t)
		w.add(5)
		far := w.back(2)
		w.Rollback(name, 4)
		w.add(grown)
		from := w.at
		b := w.next(cursor.Options{Furthest: far, Verify: true})
		if b.Change != cursor.Regressed || b.To.Incarnation != 2 || b.From != from || b.Again {
			t.Errorf("with %d messages since: %v from %d to %d.%d, again %v", grown, b.Change, b.From.Seq, b.To.Incarnation, b.To.Seq, b.Again)
		}
	}
}

func TestBefore(t *testing.T) {
	w := newWorld(t)
	start := w.now
	w.add(20)
	w.DeleteMessage(name, 5)
	w.PurgeTo(name, 3)
	st, err := w.State(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	// Message n was stored n minutes after the start, or a little more.
	var times []time.Time
	for seq := stream.Seq(1); seq <= 20; seq++ {
		msgs, _, _ := w.Read(t.Context(), name, seq, 1)
		times = append(times, msgs[0].Time)
	}
	for _, c := range []struct {
		what string
		at   time.Time
		want stream.Seq
	}{
		{"long ago", start.Add(-time.Hour), 2},
		{"the first message that is there", times[2], 2},
		{"a nanosecond later", times[2].Add(1), 3},
		{"a message in the middle", times[9], 9},
		{"a nanosecond later", times[9].Add(1), 10},
		{"after a hole", times[5], 4},
		{"the last", times[19], 19},
		{"later than all", times[19].Add(time.Hour), 20},
	} {
		got, err := cursor.Before(t.Context(), w.Log, name, st, c.at)
		if err != nil {
			t.Fatal(err)
		}
		msgs, _, _ := w.Read(t.Context(), name, got+1, 1)
		if got != c.want && (len(msgs) == 0 || msgs[0].Seq != c.want+1) {
			t.Errorf("%s: %d, want %d", c.what, got, c.want)
		}
	}
}
