package sqlite

import (
	"errors"
	"math/rand/v2"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/deliver"
	"pgregory.net/rapid"
)

// twin counts as the stats say they do, from the plain list of what was booked.
type twin struct {
	slot    int64
	outcome deliver.Outcome
}

// windows counts what was booked in the slots of the last hour and day.
func windows(booked []twin, now time.Time) (hour, day deliver.Window) {
	for _, b := range booked {
		if age := slotAt(now) - b.slot; age < hourSlots {
			hour.Count(&b.outcome)
			day.Count(&b.outcome)
		} else if age < daySlots {
			day.Count(&b.outcome)
		}
	}
	return hour, day
}

// The stats of endpoints are those of a naive twin, whenever they are stored
// and however often the store is opened again.
func TestEndpointStatsAgainstATwin(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		c := newClock()
		sub, err := os.MkdirTemp(dir, "")
		if err != nil {
			rt.Fatal(err)
		}
		o := Options{Dir: sub, Clock: c.read, Synchronous: "NORMAL"}
		s := open(t, o)
		defer func() { shut(t, s) }()
		w := newWalker(t, s, "acme", 2)
		booked := make(map[int64][]twin)
		standing := make(map[int64]change)
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			switch rapid.IntRange(0, 5).Draw(rt, "step") {
			case 0:
				c.add(time.Duration(rapid.IntRange(1, 400).Draw(rt, "minutes")) * time.Minute)
			case 1:
				if err := s.flushFares(); err != nil {
					rt.Fatal(err)
				}
			case 2:
				shut(t, s) // stores what was counted
				s = open(t, o)
				w.s = s
			default:
				for _, ev := range w.commit(w.next(rapid.IntRange(1, 5).Draw(rt, "events"))) {
					for _, endpoint := range ev.Endpoints {
						state := rapid.SampledFrom([]deliver.State{deliver.Pending, deliver.Delivered, deliver.Dead}).Draw(rt, "state")
						r := c.outcome(deliver.Key{Event: ev.Event, Endpoint: endpoint}, 1, state)
						if rapid.IntRange(0, 9).Draw(rt, "ours") == 0 && state == deliver.Pending {
							r.Attempt.Class = deliver.Ours
						}
						r.Attempt.Duration = time.Duration(rapid.IntRange(100, 20_000_000).Draw(rt, "µs")) * time.Microsecond
						w.record(r)
						booked[endpoint] = append(booked[endpoint], twin{slotAt(c.read()), r.Attempt.Outcome})
						n := standing[endpoint]
						switch state {
						case deliver.Pending:
							n.pending++
						case deliver.Dead:
							n.dead++
						}
						standing[endpoint] = n
					}
				}
				w.flush()
			}
			es, err := s.ListEndpoints(t.Context(), "acme")
			if err != nil {
				rt.Fatal(err)
			}
			for _, e := range es {
				got, err := s.EndpointStats(t.Context(), "acme", e.ID)
				if err != nil {
					rt.Fatal(err)
				}
				want := deliver.EndpointStats{Pending: standing[e.Row].pending, Dead: standing[e.Row].dead, Condition: deliver.Healthy, FailingSince: e.FailingSince}
				want.Hour, want.Day = windows(booked[e.Row], c.read())
				if diff := cmp.Diff(want, got); diff != "" {
					rt.Fatalf("stats (-want +got):\n%s", diff)
				}
			}
		}
	})
}

// Once a minute what was counted is stored, so that a crash forgets no more;
// after 25 hours it is gone.
func TestEndpointStatsAreStoredEachMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, Options{Dir: t.TempDir()})
		w := newWalker(t, s, "acme", 1)
		rows := func() int {
			n, err := s.column("SELECT slot FROM endpoint_slots")
			if err != nil {
				t.Fatal(err)
			}
			return len(n)
		}
		w.deliverAll(w.commit(w.next(3)))
		w.flush()
		if n := rows(); n != 0 {
			t.Errorf("%d rows at once", n)
		}
		time.Sleep(slotsEvery + time.Second) // virtual
		synctest.Wait()
		if n := rows(); n != 1 {
			t.Errorf("%d rows after a minute", n)
		}
		time.Sleep(26 * time.Hour) // virtual
		synctest.Wait()
		if n := rows(); n != 0 {
			t.Errorf("%d rows after a day", n)
		}
		shut(t, s)
	})
}

// Ten thousand busy endpoints take little memory, in the slot and at its turn,
// and what could not be stored is stored later.
func TestFaresAreBounded(t *testing.T) {
	f := fares{open: make(map[int64]*fare)}
	records := make([]deliver.Record, 10_000)
	for i := range records {
		records[i] = delivered(deliver.Key{Event: 1, Endpoint: int64(i)})
		records[i].Attempt.Duration = time.Duration(rand.IntN(1e9))
	}
	for slot := range int64(10) { // nothing is stored meanwhile
		f.count(records, slot)
	}
	if len(f.open) != len(records) || len(f.finished) > maxFinished {
		t.Errorf("%d open, %d finished", len(f.open), len(f.finished))
	}
	list := f.take(9)
	f.back(list)
	if again := f.take(9); len(again) != len(list) {
		t.Errorf("%d to be stored, then %d", len(list), len(again))
	}
	if f.take(10); len(f.open) != 0 {
		t.Errorf("%d open after their time", len(f.open))
	}
}

func TestEndpointStatsOfAnotherOrg(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	newWalker(t, s, "acme", 1)
	newWalker(t, s, "other", 1)
	es, err := s.ListEndpoints(t.Context(), "other")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.EndpointStats(t.Context(), "acme", es[0].ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("another org's endpoint: %v", err)
	}
}
