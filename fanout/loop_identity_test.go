package fanout_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/fanout/fanouttest"
	"github.com/grapnel-hooks/grapnel/stream"
	"github.com/grapnel-hooks/grapnel/stream/streamtest"
)

const name = "EVENTS_acme"

// REL-19: the message at the cursor of each organization is compared at least
// every minute, also while nothing is new and nobody says anything.
func TestSilentRollbackIsNoticedWithinAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		orgs := []string{"acme", "beta", "gamma"}
		w := begin(t, true, orgs...)
		defer w.stop()
		for _, org := range orgs {
			w.append(org, 20)
		}
		synctest.Wait()
		w.loop.Reload("acme") // whatever phase the sweep is in
		time.Sleep(97 * time.Second)
		w.log.OnAppend = nil // nobody says anything from here on
		for _, org := range orgs {
			name := stream.Names{}.Stream(org)
			w.log.Rollback(name, 10)
			w.append(org, 10) // as long as it was
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		for _, org := range orgs {
			if p := w.position(org); p.Incarnation != 2 || p.Seq != 20 {
				t.Errorf("%s stands at %d.%d, want 2.20", org, p.Incarnation, p.Seq)
			}
			if s, _ := w.loop.Status(org); s.Change != cursor.Regressed {
				t.Errorf("%s: change %v, want it rolled back", org, s.Change)
			}
		}
		if got := w.lanes.count(); got != 3*30 {
			t.Errorf("%d deliveries, want 90: none of the new ones is taken for read", got)
		}
	})
}

// REL-09: nothing is read of a stream that is another installation's, however
// often it is asked for, until the mark is ours; and reading stops when that is
// taken away.
func TestStreamOfAnotherInstallation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &walk{t: t, log: &streamtest.Log{}, books: fanouttest.NewDisk().Open(), lanes: &lanes{}}
		w.loop = fanout.NewLoop(fanout.Options{Books: w.books, Log: w.log, Lanes: w.lanes, Sweep: 30 * time.Second, Installation: "ours"})
		w.log.OnAppend = func(_ string, seq stream.Seq, at time.Time) { w.loop.Wake("acme", seq, at) }
		w.log.Create(name)
		w.log.Mark(name, "theirs")
		if err := w.books.AddOrg(t.Context(), fanout.Org{ID: "acme", Payload: stream.PayloadData}); err != nil {
			t.Fatal(err)
		}
		w.endpoint("acme")
		w.run()
		defer w.stop()
		stands := func(what string, position stream.Seq, unclaimed string, stats fanout.Stats) {
			t.Helper()
			synctest.Wait()
			s, _ := w.loop.Status("acme")
			if p := w.position("acme"); p.Seq != position || s.Unclaimed != unclaimed {
				t.Errorf("%s: at %d, read for %q; want %d and %q", what, p.Seq, s.Unclaimed, position, unclaimed)
			}
			if got := w.loop.Stats(); got != stats {
				t.Errorf("%s: stats %+v, want %+v", what, got, stats)
			}
		}
		w.append("acme", 5)
		stands("theirs", 0, "theirs", fanout.Stats{Orgs: 1, Unclaimed: 1})
		time.Sleep(5 * time.Minute)
		stands("theirs after many sweeps", 0, "theirs", fanout.Stats{Orgs: 1, Unclaimed: 1})

		w.log.Mark(name, "ours")
		time.Sleep(time.Minute)
		stands("ours", 5, "", fanout.Stats{Orgs: 1})

		w.log.Mark(name, "theirs")
		w.loop.Reload("acme") // the broker says that the stream was changed
		synctest.Wait()
		w.append("acme", 5)
		stands("taken away", 5, "theirs", fanout.Stats{Orgs: 1, Unclaimed: 1})
		w.log.Mark(name, "")
		w.loop.SweepAll()
		stands("nobody's", 10, "", fanout.Stats{Orgs: 1})
	})
}
