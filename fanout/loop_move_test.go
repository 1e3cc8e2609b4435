package fanout_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/fanout/fanouttest"
	"github.com/grapnel-hooks/grapnel/stream"
	"github.com/grapnel-hooks/grapnel/stream/streamtest"
)

// A paused organization is not read, whatever wakes it; another one is.
func TestPaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, true, "acme", "globex")
		defer w.stop()
		w.append("acme", 3)
		w.want("acme", 1, 3, 3)
		must(t, w.books.PauseCursor(t.Context(), "acme"))
		w.append("acme", 2)
		w.append("globex", 1)
		w.loop.SweepAll()
		w.loop.Reload("acme")
		time.Sleep(2 * time.Minute) // sweeps
		w.want("acme", 1, 3, 4)
		w.want("globex", 1, 1, 4)
		if s, ok := w.loop.Status("acme"); !ok || s.Err != "" {
			t.Errorf("status while paused: %+v", s)
		}
		must(t, w.books.ResumeCursor(t.Context(), "acme"))
		w.loop.Reload("acme")
		w.want("acme", 1, 5, 6)
	})
}

// move moves acme's cursor to seq.
func (w *walk) move(seq stream.Seq, skip bool) {
	w.t.Helper()
	pos := w.position("acme")
	to := pos
	to.Seq, to.Anchor, to.Hash = seq, time.Time{}, 0
	must(w.t, w.books.MoveCursor(w.t.Context(), "acme", fanout.Move{From: pos, To: to, Skip: skip}))
	w.loop.Reload("acme")
}

// A moved cursor is read from where it is, and what exists is not made again.
func TestMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, true, "acme")
		defer w.stop()
		w.append("acme", 5)
		w.want("acme", 1, 5, 5)
		w.move(2, false)
		w.want("acme", 1, 5, 5)
		must(t, w.books.PauseCursor(t.Context(), "acme"))
		w.append("acme", 4)
		w.move(8, true)
		w.want("acme", 1, 8, 5)
		must(t, w.books.ResumeCursor(t.Context(), "acme"))
		w.loop.Reload("acme")
		w.want("acme", 1, 9, 6)
		w.move(0, false)
		w.want("acme", 1, 9, 9)
	})
}

// A batch that was read before the cursor was moved is thrown away.
func TestMovedWhileABatchIsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &walk{t: t, log: &streamtest.Log{}, books: fanouttest.NewDisk().Open(), lanes: &lanes{}}
		moved := false
		w.loop = fanout.NewLoop(fanout.Options{Books: w.books, Log: w.log, Lanes: w.lanes, Failpoint: func(name string) {
			if name == "fanout.planned" && !moved && w.position("acme").Seq == 0 {
				moved = true
				w.move(4, true)
			}
		}})
		w.log.Create(stream.Names{}.Stream("acme"))
		must(t, w.books.AddOrg(t.Context(), fanout.Org{ID: "acme", Payload: stream.PayloadData}))
		w.endpoint("acme")
		pos := w.position("acme")
		st, err := w.log.State(t.Context(), pos.Stream)
		must(t, err)
		to := pos
		to.Created, to.Incarnation = st.Created, 1
		must(t, w.books.MoveCursor(t.Context(), "acme", fanout.Move{From: pos, To: to}))
		w.append("acme", 5)
		go w.loop.Run(t.Context())
		w.want("acme", 1, 5, 1)
		if !moved {
			t.Error("nothing was in flight")
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
