package fanout_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/fanout/fanouttest"
	"github.com/grapnel-hooks/grapnel/stream"
	"github.com/grapnel-hooks/grapnel/stream/streamtest"
)

// lanes takes every delivery and keeps it.
type lanes struct {
	mu      sync.Mutex
	offered []deliver.Ticket
	waited  int
}

func (l *lanes) Offer(ts []deliver.Ticket) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.offered = append(l.offered, ts...)
}

func (l *lanes) Wait(context.Context, []int64, time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waited++
}

func (l *lanes) Recheck(int64) {}

func (l *lanes) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.offered)
}

// walk is a loop with everything around it in memory.
type walk struct {
	t      *testing.T
	log    *streamtest.Log
	books  *fanouttest.Books
	lanes  *lanes
	loop   *fanout.Loop
	stop   func()
	logged bytes.Buffer // to be read once the loop has stopped
}

// begin runs a loop over these orgs, each with one endpoint for everything.
func begin(t *testing.T, wakes bool, orgs ...string) *walk {
	t.Helper()
	return beginTraced(t, nil, wakes, orgs...)
}

func beginTraced(t *testing.T, tracer fanout.Tracer, wakes bool, orgs ...string) *walk {
	t.Helper()
	w := &walk{t: t, log: &streamtest.Log{}, books: fanouttest.NewDisk().Open(), lanes: &lanes{}}
	w.loop = fanout.NewLoop(fanout.Options{Books: w.books, Log: w.log, Lanes: w.lanes, Sweep: 30 * time.Second, Tracer: tracer,
		Logger: slog.New(slog.NewTextHandler(&w.logged, nil))})
	if wakes {
		w.log.OnAppend = func(name string, seq stream.Seq, at time.Time) {
			org, _ := stream.Names{}.Org(name)
			w.loop.Wake(org, seq, at)
		}
	}
	for _, org := range orgs {
		w.log.Create(stream.Names{}.Stream(org))
		if err := w.books.AddOrg(t.Context(), fanout.Org{ID: org, Payload: stream.PayloadData}); err != nil {
			t.Fatal(err)
		}
		w.endpoint(org)
	}
	w.run()
	return w
}

// run starts the loop.
func (w *walk) run() {
	w.t.Helper()
	ctx, stop := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- w.loop.Run(ctx) }()
	w.stop = func() {
		stop()
		if err := <-done; err != nil {
			w.t.Errorf("Run: %v", err)
		}
	}
	synctest.Wait()
}

func (w *walk) endpoint(org string) {
	w.t.Helper()
	_, err := w.books.AddEndpoint(w.t.Context(), deliver.Endpoint{Org: org, URL: "https://example.com", EventTypes: []string{"*"}})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *walk) append(org string, n int) {
	for range n {
		w.log.Append(stream.Names{}.Subject(org, "invoice.paid"), nil, []byte(`{"a":1}`))
	}
}

func (w *walk) position(org string) cursor.Position {
	w.t.Helper()
	p, err := w.books.Position(w.t.Context(), org)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

func (w *walk) want(org string, incarnation int, seq stream.Seq, offered int) {
	w.t.Helper()
	synctest.Wait()
	p := w.position(org)
	if p.Incarnation != incarnation || p.Seq != seq || w.lanes.count() != offered {
		w.t.Errorf("%s: position %d.%d, %d deliveries handed over; want %d.%d, %d",
			org, p.Incarnation, p.Seq, w.lanes.count(), incarnation, seq, offered)
	}
}

func TestWakeUpMakesItQuick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, true, "acme")
		defer w.stop()
		w.append("acme", 600) // more than two batches
		w.want("acme", 1, 600, 600)
		w.lanes.mu.Lock()
		defer w.lanes.mu.Unlock()
		if !slices.IsSortedFunc(w.lanes.offered, func(a, b deliver.Ticket) int { return int(a.Event - b.Event) }) {
			t.Error("deliveries were not handed over in the order of their events")
		}
		p := w.lanes.offered[0].Payload
		if p.Event != w.lanes.offered[0].Event || p.Org != "acme" || p.Type != "invoice.paid" || len(p.Body) == 0 {
			t.Errorf("payload %+v", p)
		}
	})
}

func TestSweepMakesItSure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		orgs := []string{"a", "b", "c"}
		w := begin(t, false, orgs...)
		defer w.stop()
		for _, org := range orgs {
			w.append(org, 2)
		}
		w.want("a", 1, 0, 0)
		time.Sleep(61 * time.Second) // the orgs of this round, and all of it
		w.want("a", 1, 2, 6)
	})
}

func TestWakeUpBeforeTheDataCanBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, true, "acme")
		defer w.stop()
		w.log.WakeEarly = true
		w.append("acme", 1)
		time.Sleep(100 * time.Millisecond) // long before the sweep
		w.want("acme", 1, 1, 1)
	})
}

func TestForgedWakeUpIsLeftToTheSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, true, "acme")
		defer w.stop()
		w.loop.Wake("acme", 1<<60, time.Now())
		w.loop.Wake("nobody", 1, time.Now())
		time.Sleep(time.Minute)
		w.append("acme", 1)
		w.want("acme", 1, 1, 1)
	})
}

func TestMissingStreamIsReadWhenItComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, true, "acme")
		defer w.stop()
		w.append("acme", 3)
		synctest.Wait()
		w.log.Delete("EVENTS_acme")
		w.loop.Reload("acme")
		synctest.Wait()
		if s, _ := w.loop.Status("acme"); !s.Missing {
			t.Errorf("status %+v, want a missing stream", s)
		}
		w.log.Create("EVENTS_acme")
		w.append("acme", 2)
		w.want("acme", 2, 2, 5)
		if s, _ := w.loop.Status("acme"); s.Missing || s.Change != cursor.Recreated || s.Err != "" {
			t.Errorf("status %+v, want a stream that was made anew", s)
		}
	})
}

// A stream made anew while we looked away has low sequences again: the wake-up
// alone must be enough to notice.
func TestWakeUpOfAnotherStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, true, "acme")
		defer w.stop()
		w.append("acme", 10)
		synctest.Wait()
		w.log.Delete("EVENTS_acme")
		w.log.Create("EVENTS_acme")
		w.append("acme", 1)
		w.want("acme", 2, 1, 11)
	})
}

func TestRolledBackStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, true, "acme")
		defer w.stop()
		w.append("acme", 10)
		synctest.Wait()
		w.log.Rollback("EVENTS_acme", 4)
		w.append("acme", 3)
		synctest.Wait()
		if n := w.lanes.count(); n != 13 {
			t.Errorf("%d deliveries, want 13: the three new ones, and no old one twice", n)
		}
	})
}

func TestBrokerAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, true, "acme")
		defer w.stop()
		w.append("acme", 1)
		synctest.Wait()
		w.log.SetDown(true)
		w.loop.SweepAll()
		time.Sleep(time.Hour)
		synctest.Wait()
		if s, _ := w.loop.Status("acme"); s.Err == "" {
			t.Error("no error in the status while the broker is away")
		}
		w.log.SetDown(false)
		w.append("acme", 1)
		time.Sleep(6 * time.Second)
		w.want("acme", 1, 2, 2)
	})
}

func TestCommitThatFailsIsRepeated(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault fanouttest.Fault
		// A commit that happened and was reported as failed leaves its
		// deliveries to the lanes' pager: they are in the books, not handed over.
		offered int
	}{
		{"not applied", fanouttest.NotApplied, 5},
		{"applied, reported as failed", fanouttest.Unreported, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := begin(t, true, "acme")
				defer w.stop()
				failed := false
				w.books.Fault = func(call fanouttest.Call) fanouttest.Fault {
					if call == fanouttest.CallCommit && !failed {
						failed = true
						return c.fault
					}
					return fanouttest.NoFault
				}
				w.append("acme", 5)
				time.Sleep(10 * time.Second)
				w.want("acme", 1, 5, c.offered)
				b, err := w.books.Backlogs(t.Context(), nil)
				if err != nil || len(b) != 1 {
					t.Fatalf("backlogs %v, %v: want one", b, err)
				}
			})
		})
	}
}

func TestDiskFullPausesFanOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, true, "acme")
		defer w.stop()
		w.books.SetFull(true)
		w.append("acme", 5)
		time.Sleep(time.Hour)
		w.want("acme", 1, 0, 0)
		w.books.SetFull(false)
		time.Sleep(10 * time.Second)
		w.want("acme", 1, 5, 5)
	})
}

func TestEndpointAddedBetweenPlanAndCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, true, "acme")
		defer w.stop()
		done := false
		w.loop.Forget("acme")
		loop := fanout.NewLoop(fanout.Options{
			Books: w.books, Log: w.log, Lanes: w.lanes,
			Failpoint: func(name string) {
				if name == "fanout.planned" && !done {
					done = true
					w.endpoint("acme")
				}
			},
		})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- loop.Run(ctx) }()
		w.append("acme", 4)
		loop.SweepAll()
		time.Sleep(time.Minute)
		w.want("acme", 1, 4, 8) // the plan was made anew, with the new endpoint
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestOrganizationsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, false, "aaa", "big", "zzz")
		w.stop()
		loop := fanout.NewLoop(fanout.Options{Books: w.books, Log: w.log, Lanes: w.lanes, Workers: 1, Batch: 256})
		w.append("big", 256*20)
		w.append("aaa", 1)
		w.append("zzz", 1)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- loop.Run(ctx) }()
		synctest.Wait()
		stop()
		<-ended
		for _, org := range []string{"aaa", "zzz"} {
			at := slices.IndexFunc(w.lanes.offered, func(x deliver.Ticket) bool { return x.Payload.Org == org })
			if at < 0 || at > 256+1 {
				t.Errorf("the event of %s came after %d others, want at most a batch of the big org's", org, at)
			}
		}
	})
}

func TestRejectedDoesNotStopTheCursor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, true, "acme")
		defer w.stop()
		subject := stream.Names{}.Subject("acme", "invoice.paid")
		w.log.Append(subject, nil, []byte(`not json`))
		w.log.Append(subject, stream.Header{"Status": {"404"}}, nil)
		w.append("acme", 1)
		w.want("acme", 1, 3, 1)
	})
}

// What a publisher wrote is in the books, which can be expunged, and not in the log.
func TestRejectedIsNotQuotedInTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, true, "acme")
		w.log.Append(stream.Names{}.Subject("acme", "invoice.paid"), stream.Header{"Grapnel-Time": {"born 1970 in Bremen"}}, []byte(`{}`))
		w.want("acme", 1, 1, 0)
		w.stop()
		if got := w.logged.String(); !strings.Contains(got, "messages rejected") || strings.Contains(got, "Bremen") {
			t.Errorf("logged %q", got)
		}
	})
}

// payloads of deliveries that were paged in: from the books, from the stream,
// gone for ever, and not to be had now.
func TestSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, true, "acme", "other")
		defer w.stop()
		w.append("acme", 600)
		w.append("other", 2)
		synctest.Wait()
		src := &fanout.Source{Books: w.books, Log: w.log}
		numbers := map[string]int64{} // org.seq → number
		var all []int64
		places, err := w.books.EventPlaces(t.Context(), upTo(602))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range places {
			numbers[fmt.Sprintf("%s.%d", p.Org, p.Seq)] = p.Event
			all = append(all, p.Event)
		}
		got, err := src.Payloads(t.Context(), all)
		if err != nil {
			t.Fatal(err)
		}
		offered := map[int64]*deliver.Payload{}
		for _, o := range w.lanes.offered {
			offered[o.Event] = o.Payload
		}
		for n, p := range offered {
			if got[n] == nil || string(got[n].Body) != string(p.Body) || got[n].ID != p.ID || !got[n].Stored.Equal(p.Stored) {
				t.Fatalf("event %d read again: %+v, want %+v", n, got[n], p)
			}
		}

		w.log.PurgeTo("EVENTS_acme", 100)
		w.log.DeleteMessage("EVENTS_acme", 300)
		got, err = src.Payloads(t.Context(), all)
		if err != nil {
			t.Fatal(err)
		}
		for name, lost := range map[string]bool{"acme.1": true, "acme.99": true, "acme.300": true, "acme.299": false, "acme.600": false, "other.1": false} {
			p, ok := got[numbers[name]]
			if !ok || (p == nil) != lost {
				t.Errorf("%s: present %t, lost %t; want lost %t", name, ok, p == nil, lost)
			}
		}

		w.log.SetDown(true)
		if got, err := src.Payloads(t.Context(), all[:1]); err == nil || len(got) != 0 {
			t.Errorf("with the broker away: %d payloads, error %v; want none and an error", len(got), err)
		}
		w.log.SetDown(false)
		w.log.Delete("EVENTS_other")
		w.log.Create("EVENTS_other")
		w.append("other", 2)
		got, err = src.Payloads(t.Context(), []int64{numbers["other.1"]})
		if p, ok := got[numbers["other.1"]]; err != nil || !ok || p != nil {
			t.Errorf("an event whose sequence another stream uses: %v, %v; want lost", p, err)
		}
	})
}

func upTo(n int64) []int64 {
	list := make([]int64, n)
	for i := range list {
		list[i] = int64(i) + 1
	}
	return list
}

// While there is no room nothing is read, and it goes on by itself.
func TestNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, true, "acme", "globex")
		defer w.stop()
		w.loop.Forget("acme")
		w.loop.Forget("globex")
		var full sync.Map
		loop := fanout.NewLoop(fanout.Options{
			Books: w.books, Log: w.log, Lanes: w.lanes,
			Room: func(org string) error {
				if _, no := full.Load(org); no {
					return fmt.Errorf("nine of nine: %w", fanout.ErrNoRoom)
				}
				return nil
			},
		})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- loop.Run(ctx) }()
		full.Store("acme", true)
		w.append("acme", 4)
		w.append("globex", 3)
		loop.SweepAll()
		time.Sleep(time.Minute)
		w.want("acme", 1, 0, 3)
		w.want("globex", 1, 3, 3)
		if s, _ := loop.Status("acme"); !s.NoRoom || s.Err == "" {
			t.Errorf("the status without room: %+v", s)
		}
		full.Delete("acme")
		time.Sleep(6 * time.Second) // without a wake-up
		w.want("acme", 1, 4, 7)
		if s, _ := loop.Status("acme"); s.NoRoom || s.Err != "" {
			t.Errorf("the status with room: %+v", s)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
