package sqlite

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/stream"
	"pgregory.net/rapid"
)

// drawFilter draws what a replay of the world's endpoint could be asked for.
func drawFilter(t *rapid.T, w *replayed) ReplayFilter {
	at := func(name string) time.Time {
		if n := rapid.IntRange(-1, len(w.events)-1).Draw(t, name); n >= 0 {
			return w.at(n)
		}
		return time.Time{}
	}
	return ReplayFilter{
		States: rapid.SampledFrom([][]deliver.State{
			{deliver.Dead}, {deliver.Cancelled}, {deliver.Delivered}, {deliver.Dead, deliver.Cancelled},
			{deliver.Delivered, deliver.Dead}, {deliver.Delivered, deliver.Dead, deliver.Cancelled},
		}).Draw(t, "states"),
		Types: rapid.SampledFrom([][]string{nil, {"*"}, {"invoice.*"}, {"lead_won"}, {"lead_won", "invoice.due"}, {"nothing"}}).Draw(t, "types"),
		Since: at("since"), Until: at("until"),
		From: stream.Seq(rapid.IntRange(0, len(w.events)+1).Draw(t, "from")),
		To:   stream.Seq(rapid.IntRange(0, len(w.events)+1).Draw(t, "to")),
	}
}

// What a dry run counts is what a run does while nothing else happens, whatever
// the filter is, how small the steps are, and what the stream still holds.
func TestReplayDoesWhatWasCounted(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newReplayed(t, Options{Dir: t.TempDir()}, rapid.IntRange(5, 20).Draw(rt, "events"))
		defer w.s.Close()
		f, n := drawFilter(rt, w), rapid.IntRange(1, 20).Draw(rt, "step")
		readable := Readable{Incarnation: rapid.IntRange(1, 2).Draw(rt, "incarnation"), First: stream.Seq(rapid.IntRange(1, 30).Draw(rt, "first"))}
		counted, err := w.s.CountReplay(t.Context(), "acme", w.id, f, readable)
		if err != nil {
			rt.Fatal(err)
		}
		r, err := w.s.StartReplay(t.Context(), "acme", w.id, f, 0, 100)
		for err == nil && r.State == ReplayRunning {
			r, err = w.s.StepReplay(t.Context(), r, readable, n)
		}
		if err != nil {
			rt.Fatal(err)
		}
		if diff := cmp.Diff(counted, r.ReplayCounts); diff != "" {
			rt.Errorf("(-counted +done):\n%s", diff)
		}
		if share, _ := r.Progress(Ahead{}); share != 1 || r.Matched != r.Replayed+r.Skipped()+r.Lost {
			rt.Errorf("%v is done of %+v", share, r.ReplayCounts)
		}
	})
}

// The same of what is missing: also where events come again under the same key,
// long after, and where some were rejected.
func TestMissingIsCountedAsItIsFilled(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := newClock()
		s := open(t, Options{Dir: t.TempDir(), Clock: c.read, Synchronous: "NORMAL"})
		defer s.Close()
		w := newWalker(t, s, "acme", 1)
		p := w.next(rapid.IntRange(2, 40).Draw(rt, "events"))
		var events []stream.Event
		for i := range p.Events {
			ev := &p.Events[i].Event
			if i > 0 && rapid.IntRange(0, 3).Draw(rt, "again") == 0 {
				earlier := &p.Events[rapid.IntRange(0, i-1).Draw(rt, "which")].Event
				if earlier.DedupeKey == "" {
					earlier.DedupeKey = earlier.ID.String()
				}
				ev.ID, ev.DedupeKey = earlier.ID, earlier.DedupeKey
			}
		}
		rejected := stream.Seq(rapid.IntRange(1, len(p.Events)).Draw(rt, "rejected"))
		for i := range p.Events {
			events = append(events, p.Events[i].Event)
		}
		p.Rejected = append(p.Rejected, rejectedAt(rejected))
		p.Events = nil // nobody wanted them
		w.commit(p)
		late := addEndpoint(t, s, "acme")
		f := ReplayFilter{States: []deliver.State{Missing}}
		f.From = stream.Seq(rapid.IntRange(0, len(events)).Draw(rt, "from"))
		f.To = stream.Seq(rapid.IntRange(0, len(events)).Draw(rt, "to"))
		size := rapid.IntRange(1, len(events)).Draw(rt, "batch")
		batch := func(next, last stream.Seq) ([]stream.Event, stream.Seq) {
			upTo := min(next+stream.Seq(size)-1, last)
			if next > last {
				return nil, last
			}
			return events[next-1 : upTo], upTo
		}
		var counted MissingCount
		first, last := max(f.From, 1), stream.Seq(len(events))
		if f.To > 0 {
			last = min(last, f.To)
		}
		for next := first; next <= last; {
			some, upTo := batch(next, last)
			if err := s.CountMissing(t.Context(), "acme", late.ID, f, some, &counted); err != nil {
				rt.Fatal(err)
			}
			next = upTo + 1
		}
		r, err := s.StartReplay(t.Context(), "acme", late.ID, f, 0, 100)
		for err == nil && r.State == ReplayRunning {
			some, upTo := batch(r.Next())
			r, err = s.FillReplay(t.Context(), r, some, upTo, rapid.IntRange(1, 9).Draw(rt, "step"))
		}
		if err != nil {
			rt.Fatal(err)
		}
		// One that was rejected may come again: then what is withheld, and what is
		// made instead of it, depends on where the batches end.
		for i, ev := range events {
			if ev.ID == events[rejected-1].ID && stream.Seq(i+1) != rejected {
				return
			}
		}
		if diff := cmp.Diff(counted.ReplayCounts, r.ReplayCounts); diff != "" {
			rt.Errorf("from %d to %d of %d (-counted +done):\n%s", f.From, f.To, len(events), diff)
		}
	})
}

// The report says what was sent again, by type, from which event to which, and
// for how long the replay ran; pauses are not counted.
func TestReplayReport(t *testing.T) {
	w := newReplayed(t, Options{Dir: t.TempDir()}, 40) // dead are 1, 5, 9, …
	ctx := t.Context()
	r, err := w.s.StartReplay(ctx, "acme", w.id, ReplayFilter{States: []deliver.State{deliver.Dead}}, 0, 100)
	step := func() {
		t.Helper()
		if err == nil {
			r, err = w.s.StepReplay(ctx, r, wholeStream, 5)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	w.c.add(2 * time.Second)
	step()
	w.c.add(time.Second)
	_, err = w.s.PauseReplay(ctx, "acme", r.ID)
	w.c.add(time.Hour)
	if err == nil {
		r, err = w.s.ResumeReplay(ctx, "acme", r.ID)
	}
	share, left := r.Progress(Ahead{Matched: 20, Known: true})
	if share != 0.25 || left != 9*time.Second {
		t.Errorf("5 of 20 after 3 s: %v, %v left", share, left)
	}
	if share, left := r.Progress(Ahead{Matched: 7}); share != -1 || left != -1 {
		t.Errorf("without knowing: %v, %v", share, left)
	}
	w.c.add(2 * time.Second)
	step()
	step()
	id := func(n int) stream.ID {
		t.Helper()
		d, _, err := w.s.GetDelivery(ctx, "acme", deliver.Key{Event: w.events[n], Endpoint: w.endpoints[0]})
		if err != nil {
			t.Fatal(err)
		}
		return d.EventID
	}
	want := ReplayReport{
		ReplayCounts: ReplayCounts{Matched: 10, Replayed: 10},
		ByType:       map[string]int64{"invoice.due": 4, "lead_won": 3, "invoice.paid": 3},
		First:        id(1), Last: id(37), Ran: 5 * time.Second,
	}
	if diff := cmp.Diff(want, r.ReplayReport); diff != "" || r.State != ReplayDone || r.PerSecond() != 2 {
		t.Errorf("%s, %v a second (-want +got):\n%s", r.State, r.PerSecond(), diff)
	}
}

// A report tells a bounded number of types apart.
func TestReplayReportIsBounded(t *testing.T) {
	before := map[string]int64{"known": 1}
	p := progress{}
	for i := range 3 * maxReplayTypes {
		p.replayed(int64(i+1), "t"+strings.Repeat("x", i))
	}
	p.replayed(1000, "known")
	text, err := p.added(before)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(text, ":"); n != maxReplayTypes+1 || !strings.Contains(text, `"known":2`) || !strings.Contains(text, `"*":101`) {
		t.Errorf("%d types: %s", n, text)
	}
	if p.first != 1 || p.last != 1000 || p.Replayed != 3*maxReplayTypes+1 {
		t.Errorf("%+v", p)
	}
}

// However much is asked for, and however much there is, a step of a replay
// changes a bounded number of rows, so that it does not keep the writer for long.
func TestReplayStepsAreBounded(t *testing.T) {
	const dead = MaxPage + 50
	c := newClock()
	s := open(t, Options{Dir: t.TempDir(), Clock: c.read, Synchronous: "NORMAL"})
	w := newWalker(t, s, "acme", 1)
	for _, ev := range w.commit(w.next(dead)) {
		w.record(c.outcome(deliver.Key{Event: ev.Event, Endpoint: w.endpoints[0]}, 1, deliver.Dead))
	}
	list, err := s.ListEndpoints(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.StartReplay(t.Context(), "acme", list[0].ID, ReplayFilter{States: []deliver.State{deliver.Dead}}, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	before := s.Stats().Rows
	if r, err = s.StepReplay(t.Context(), r, wholeStream, 1_000_000); err != nil || r.Replayed != MaxPage {
		t.Fatalf("a step made %d, want %d; %v", r.Replayed, MaxPage, err)
	}
	if rows := s.Stats().Rows - before; rows != MaxPage {
		t.Errorf("the step wrote %d rows", rows)
	}
	if longest := s.LongestCommit(); longest <= 0 || s.LongestCommit() != 0 {
		t.Errorf("the longest transaction took %s", longest)
	}
}
