package sqlite

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// wholeStream: every message of the tests can be read still.
var wholeStream = Readable{Incarnation: 1}

// replayed is an org whose first endpoint has deliveries in all states, one
// event a minute, in several segments.
type replayed struct {
	*walker
	c      *clock
	id     string // ep_… of the first endpoint
	events []int64
	types  map[int64]string
	stored map[int64]time.Time
	seqs   map[int64]stream.Seq
}

func newReplayed(t *testing.T, o Options, n int) *replayed {
	t.Helper()
	c := newClock()
	o.Clock, o.segment, o.Synchronous = c.read, 7, "NORMAL"
	s := open(t, o)
	other := newWalker(t, s, "other", 1)
	w := &replayed{walker: newWalker(t, s, "acme", 2), c: c, types: map[int64]string{}, stored: map[int64]time.Time{}, seqs: map[int64]stream.Seq{}}
	list, err := s.ListEndpoints(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if e.Row == w.endpoints[0] {
			w.id = e.ID
		}
	}
	for i := range n {
		p := w.next(1)
		p.Events[0].Type = []string{"invoice.paid", "invoice.due", "lead_won"}[i%3]
		event := w.commit(p)[0].Event
		w.events, w.types[event], w.stored[event] = append(w.events, event), p.Events[0].Type, p.Events[0].Stored
		w.seqs[event] = p.Events[0].Seq
		other.deliverAll(other.commit(other.next(1)))
		for _, endpoint := range w.endpoints {
			k := deliver.Key{Event: event, Endpoint: endpoint}
			switch i % 4 {
			case 0:
				w.record(c.outcome(k, 1, deliver.Delivered))
			case 1:
				w.record(c.outcome(k, 1, deliver.Dead))
			case 2:
				if err := s.CancelDelivery(t.Context(), "acme", k); err != nil {
					t.Fatal(err)
				}
			}
		}
		c.add(time.Minute)
	}
	return w
}

// at is when the stream stored the nth event.
func (w *replayed) at(n int) time.Time { return w.stored[w.events[n]] }

// states lists the deliveries of the org by event and endpoint, and by what their
// next attempt is triggered.
func (w *replayed) states() map[deliver.Key]string {
	w.t.Helper()
	found := map[deliver.Key]string{}
	err := w.s.read(func(scan func(...any) error) error {
		var k deliver.Key
		var state deliver.State
		var trigger deliver.Trigger
		var spent int
		err := scan(&k.Event, &k.Endpoint, &state, &trigger, &spent)
		found[k] = state.String()
		if trigger == deliver.Replay {
			found[k] += fmt.Sprintf(", replay, %d spent", spent)
		}
		return err
	}, "SELECT event, endpoint, state, trigger, spent FROM deliveries WHERE org=(SELECT id FROM orgs WHERE org='acme')")
	if err != nil {
		w.t.Fatal(err)
	}
	return found
}

// run carries a replay on to its end.
func (w *replayed) run(s *Store, r Replay, n int) Replay {
	w.t.Helper()
	const most = 1000
	for range most {
		if r.State != ReplayRunning {
			return r
		}
		next, err := s.StepReplay(w.t.Context(), r, wholeStream, n)
		if err != nil {
			w.t.Fatal(err)
		}
		if made := next.Replayed - r.Replayed; made > int64(n) {
			w.t.Errorf("a step of %d made %d", n, made)
		}
		r = next
	}
	w.t.Fatalf("not finished after %d steps: %+v", most, r)
	return r
}

func TestReplay(t *testing.T) {
	type world = replayed
	for name, filter := range map[string]func(*world) ReplayFilter{
		"dead":      func(*world) ReplayFilter { return ReplayFilter{States: []deliver.State{deliver.Dead}} },
		"cancelled": func(*world) ReplayFilter { return ReplayFilter{States: []deliver.State{deliver.Cancelled}} },
		"delivered": func(*world) ReplayFilter { return ReplayFilter{States: []deliver.State{deliver.Delivered}} },
		"dead, one type": func(*world) ReplayFilter {
			return ReplayFilter{States: []deliver.State{deliver.Dead}, Types: []string{"lead_won"}}
		},
		"delivered, two types": func(*world) ReplayFilter {
			return ReplayFilter{States: []deliver.State{deliver.Delivered}, Types: []string{"lead_won", "invoice.*"}}
		},
		"dead since": func(w *world) ReplayFilter {
			return ReplayFilter{States: []deliver.State{deliver.Dead}, Since: w.at(17)}
		},
		"dead until": func(w *world) ReplayFilter {
			return ReplayFilter{States: []deliver.State{deliver.Dead}, Until: w.at(17)}
		},
		"delivered since": func(w *world) ReplayFilter {
			return ReplayFilter{States: []deliver.State{deliver.Delivered}, Since: w.at(20)}
		},
		"delivered from to": func(w *world) ReplayFilter {
			return ReplayFilter{States: []deliver.State{deliver.Delivered}, Since: w.at(12), Until: w.at(36)}
		},
		"dead and cancelled": func(w *world) ReplayFilter {
			return ReplayFilter{States: []deliver.State{deliver.Dead, deliver.Cancelled}, Types: []string{"invoice.*"}, Until: w.at(40)}
		},
		"delivered and dead": func(*world) ReplayFilter {
			return ReplayFilter{States: []deliver.State{deliver.Delivered, deliver.Dead}}
		},
		"dead from to": func(*world) ReplayFilter {
			return ReplayFilter{States: []deliver.State{deliver.Dead}, From: 10, To: 30}
		},
		"delivered from on": func(*world) ReplayFilter { return ReplayFilter{States: []deliver.State{deliver.Delivered}, From: 10} },
		"nothing": func(w *world) ReplayFilter {
			return ReplayFilter{States: []deliver.State{deliver.Delivered}, Since: w.c.read().Add(time.Hour)}
		},
	} {
		for _, n := range []int{1, 3, 100} {
			t.Run(fmt.Sprint(name, ", ", n), func(t *testing.T) {
				t.Parallel()
				w := newReplayed(t, Options{Dir: t.TempDir()}, 50)
				f := filter(w)
				want, matched := w.states(), int64(0)
				for _, event := range w.events {
					k := deliver.Key{Event: event, Endpoint: w.endpoints[0]}
					typed := len(f.Types) == 0
					for _, p := range f.Types {
						typed = typed || fanout.MatchType(p, w.types[event])
					}
					stored := w.stored[event]
					inside := f.From <= w.seqs[event] && (f.To == 0 || w.seqs[event] <= f.To)
					if slices.Contains(f.Statuses(), want[k]) && typed && inside && !stored.Before(f.Since) && (f.Until.IsZero() || stored.Before(f.Until)) {
						want[k] = "pending, replay, 0 spent"
						matched++
					}
				}
				counts, err := w.s.CountReplay(t.Context(), "acme", w.id, f, wholeStream)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(ReplayCounts{Matched: matched, Replayed: matched}, counts); diff != "" {
					t.Errorf("counted before (-want +got):\n%s", diff)
				}
				r, err := w.s.StartReplay(t.Context(), "acme", w.id, f, 0, 100)
				if err != nil {
					t.Fatal(err)
				}
				// What comes later is not part of it.
				later := w.commit(w.next(1))[0].Event
				for _, endpoint := range w.endpoints {
					k := deliver.Key{Event: later, Endpoint: endpoint}
					w.record(w.c.outcome(k, 1, deliver.Dead))
					want[k] = "dead"
				}
				ahead, steps := Ahead{}, 0
				for ; !ahead.Known && steps < 10; steps++ {
					if ahead, err = w.s.CountAhead(t.Context(), r, ahead); err != nil {
						t.Fatal(err)
					}
				}
				if ahead.Matched != matched {
					t.Errorf("%d were counted ahead, want %d", ahead.Matched, matched)
				}
				r = w.run(w.s, r, n)
				if diff := cmp.Diff(want, w.states()); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(ReplayCounts{Matched: matched, Replayed: matched}, r.ReplayCounts); diff != "" || r.State != ReplayDone || r.FinishedAt.IsZero() {
					t.Errorf("ended as %+v (-want +got):\n%s", r, diff)
				}
			})
		}
	}
}

// Where retention has been the chain of events has holes; what it has left is
// replayed as everything else.
func TestReplayOfWhatRetentionLeft(t *testing.T) {
	w := newReplayed(t, Options{Dir: t.TempDir()}, 50)
	if _, err := w.s.Retain(t.Context(), RetainOptions{FinishedBefore: w.at(30), DeadBefore: w.at(10), Step: 10}); err != nil {
		t.Fatal(err)
	}
	for _, state := range []deliver.State{deliver.Delivered, deliver.Dead, deliver.Cancelled} {
		want, n := w.states(), int64(0)
		for k, was := range want {
			if k.Endpoint == w.endpoints[0] && was == state.String() {
				want[k] = "pending, replay, 0 spent"
				n++
			}
		}
		r, err := w.s.StartReplay(t.Context(), "acme", w.id, ReplayFilter{States: []deliver.State{state}}, 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		if r = w.run(w.s, r, 4); r.Replayed != n || n == 0 {
			t.Errorf("%s: %d replayed, want %d", state, r.Replayed, n)
		}
		if diff := cmp.Diff(want, w.states()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", state, diff)
		}
	}
}

// Each step is whole or not there: from every copy of the books that a crash
// could have left, the replay ends with the same, and nothing is done twice.
// (REL-01)
func TestReplaySurvivesCrashes(t *testing.T) {
	dir := t.TempDir()
	var copies []string
	crash := false
	w := newReplayed(t, Options{Dir: dir, Failpoint: func(name string) {
		if name == "replay.step" && crash {
			to := t.TempDir()
			copyStore(t, dir, to)
			copies = append(copies, to)
		}
	}}, 40)
	r, err := w.s.StartReplay(t.Context(), "acme", w.id, ReplayFilter{States: []deliver.State{deliver.Dead}}, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	crash = true
	ended := w.run(w.s, r, 3)
	want := w.states()
	crash = false
	if len(copies) < 4 || ended.Replayed != 10 {
		t.Fatalf("%d steps, %d replayed", len(copies), ended.Replayed)
	}
	for i, dir := range copies {
		s := open(t, Options{Dir: dir, Clock: w.c.read, segment: 7})
		running, err := s.RunningReplays(t.Context())
		if err != nil || len(running) != 1 {
			t.Fatalf("copy %d: %d running, %v", i, len(running), err)
		}
		if got := running[0].Replayed; got != int64(3*i) {
			t.Errorf("copy %d: %d replayed so far", i, got)
		}
		again := w.run(s, running[0], 3)
		if diff := cmp.Diff(ended.ReplayCounts, again.ReplayCounts); diff != "" {
			t.Errorf("copy %d (-without a crash +with):\n%s", i, diff)
		}
		was := w.s
		w.s = s
		if diff := cmp.Diff(want, w.states()); diff != "" {
			t.Errorf("copy %d (-without a crash +with):\n%s", i, diff)
		}
		w.s = was
	}
}

// A step that was looked for before another one was taken does nothing.
func TestReplayStepsOnce(t *testing.T) {
	w := newReplayed(t, Options{Dir: t.TempDir()}, 40)
	old, err := w.s.StartReplay(t.Context(), "acme", w.id, ReplayFilter{States: []deliver.State{deliver.Dead}}, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	first, err := w.s.StepReplay(t.Context(), old, wholeStream, 3)
	if err != nil {
		t.Fatal(err)
	}
	k := deliver.Key{Event: w.events[1], Endpoint: w.endpoints[0]}
	w.record(w.c.outcome(k, 2, deliver.Dead)) // is dead again
	second, err := w.s.StepReplay(t.Context(), old, wholeStream, 3)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, second, cmp.AllowUnexported(Replay{})); diff != "" {
		t.Errorf("(-first +second):\n%s", diff)
	}
	if w.run(w.s, second, 3); w.states()[k] != "dead" {
		t.Errorf("what died again is %s", w.states()[k])
	}
}

// What left its state between looking and stepping is skipped; that whose
// payload is nowhere is counted as lost and stays as it is.
func TestReplaySkipsAndLoses(t *testing.T) {
	w := newReplayed(t, Options{Dir: t.TempDir()}, 12) // 0, 4, 8 are delivered; 1, 5, 9 dead, with payload
	ctx := t.Context()
	f := ReplayFilter{States: []deliver.State{deliver.Delivered}}
	readable := Readable{Incarnation: 1, First: 6} // the events 0 to 4 are gone from the stream
	counts, err := w.s.CountReplay(ctx, "acme", w.id, f, readable)
	if diff := cmp.Diff(ReplayCounts{Matched: 3, Replayed: 1, Lost: 2}, counts); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	r, err := w.s.StartReplay(ctx, "acme", w.id, f, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	o, _ := w.s.find("acme")
	found, upTo, err := w.s.replayWalk(o, r.Row, f, 0, readable, 100).look(ctx, r.place, r.last)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.s.RetryDelivery(ctx, "acme", deliver.Key{Event: w.events[8], Endpoint: w.endpoints[0]}); err != nil {
		t.Fatal(err)
	}
	if err := w.s.w.do(ctx, func(t *txn) error { return t.stepReplay(o, r, found, upTo) }); err != nil {
		t.Fatal(err)
	}
	r, err = w.s.GetReplay(ctx, "acme", r.ID)
	if diff := cmp.Diff(ReplayCounts{Matched: 3, Changed: 1, Lost: 2}, r.ReplayCounts); err != nil || diff != "" || r.State != ReplayDone {
		t.Errorf("%v, %+v (-want +got):\n%s", err, r, diff)
	}
	// A payload that the books keep is enough.
	if counts, err := w.s.CountReplay(ctx, "acme", w.id, ReplayFilter{States: []deliver.State{deliver.Dead}}, Readable{Incarnation: 2, First: 1}); err != nil || counts.Lost != 0 || counts.Replayed != 3 {
		t.Errorf("kept payloads: %+v, %v", counts, err)
	}
}

func TestReplayStates(t *testing.T) {
	w := newReplayed(t, Options{Dir: t.TempDir()}, 30)
	ctx := WithCaller(t.Context(), Caller{Actor: "tok_x"})
	dead := ReplayFilter{States: []deliver.State{deliver.Dead}}
	r, err := w.s.StartReplay(ctx, "acme", w.id, dead, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	if r.Actor != "tok_x" || !strings.HasPrefix(r.ID, "rpl_") {
		t.Errorf("started %+v", r)
	}
	if _, err := w.s.StartReplay(ctx, "acme", w.id, dead, 0, 100); !errors.Is(err, ErrState) {
		t.Errorf("a second one of the endpoint: %v", err)
	}
	is := r
	want := func(state ReplayState, r Replay, err error) {
		t.Helper()
		if is = r; err != nil || r.State != state {
			t.Fatalf("it is %s, %v; want %s", r.State, err, state)
		}
	}
	set := func(f func() (Replay, error), state ReplayState) {
		t.Helper()
		r, err := f()
		want(state, r, err)
	}
	pause := func() (Replay, error) { return w.s.PauseReplay(ctx, "acme", r.ID) }
	resume := func() (Replay, error) { return w.s.ResumeReplay(ctx, "acme", r.ID) }
	cancel := func() (Replay, error) { return w.s.CancelReplay(ctx, "acme", r.ID) }
	step := func() (Replay, error) { return w.s.StepReplay(ctx, is, wholeStream, 2) }
	set(step, ReplayRunning)
	set(resume, ReplayRunning) // changes nothing
	set(pause, ReplayPaused)
	set(pause, ReplayPaused)
	set(step, ReplayPaused)
	if is.Replayed != 2 {
		t.Errorf("a paused one went on: %d", is.Replayed)
	}
	if running, err := w.s.RunningReplays(ctx); err != nil || len(running) != 0 {
		t.Errorf("running: %v, %v", running, err)
	}
	set(resume, ReplayRunning)
	set(step, ReplayRunning)
	set(cancel, ReplayCancelled)
	for name, f := range map[string]func() (Replay, error){"pause": pause, "resume": resume, "cancel": cancel} {
		if _, err := f(); !errors.Is(err, ErrState) {
			t.Errorf("%s a cancelled one: %v", name, err)
		}
	}
	entries, err := w.s.ListAudit(ctx, "acme", 0, 4)
	if err != nil {
		t.Fatal(err)
	}
	var actions []string
	for _, e := range entries {
		actions = append(actions, e.Actor+" "+e.Action)
		if e.Target != r.ID {
			t.Errorf("the audit's target is %q", e.Target)
		}
	}
	if diff := cmp.Diff([]string{"tok_x replay.cancel", "tok_x replay.resume", "tok_x replay.pause", "tok_x replay.start"}, actions); diff != "" {
		t.Errorf("audit (-want +got):\n%s", diff)
	}

	// The endpoint's removal ends its replay.
	r, err = w.s.StartReplay(ctx, "acme", w.id, dead, 0, 100)
	want(ReplayRunning, r, err)
	if err := w.s.RemoveEndpoint(ctx, "acme", w.id); err != nil {
		t.Fatal(err)
	}
	set(step, ReplayCancelled)
	if is.Why == "" {
		t.Error("it does not say why")
	}

	// Finished ones go after a month.
	w.c.add(29 * day)
	for kept := 2; kept >= 0; kept -= 2 {
		if _, err := w.s.Retain(ctx, RetainOptions{}); err != nil {
			t.Fatal(err)
		}
		if list, err := w.s.ListReplays(ctx, "acme", "", 10); err != nil || len(list) != kept {
			t.Errorf("%d are kept, want %d; %v", len(list), kept, err)
		}
		w.c.add(2 * day)
	}
}

func TestReplaysOfAnOrgAreBounded(t *testing.T) {
	c := newClock()
	s := open(t, Options{Dir: t.TempDir(), Clock: c.read})
	newWalker(t, s, "acme", MaxReplays+1)
	list, err := s.ListEndpoints(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for i, e := range list {
		c.add(time.Second)
		r, err := s.StartReplay(t.Context(), "acme", e.ID, ReplayFilter{States: []deliver.State{deliver.Dead}}, 0, 100)
		switch {
		case i < MaxReplays && err != nil:
			t.Fatal(err)
		case i == MaxReplays && !errors.Is(err, ErrState):
			t.Errorf("one too many: %v", err)
		case err == nil:
			ids = append([]string{r.ID}, ids...)
		}
	}
	// Lists are newest first, page by page.
	var listed []string
	for before := ""; ; {
		page, err := s.ListReplays(t.Context(), "acme", before, 3)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, r := range page {
			listed = append(listed, r.ID)
		}
		before = listed[len(listed)-1]
	}
	if diff := cmp.Diff(ids, listed); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
