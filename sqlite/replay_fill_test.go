package sqlite

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

func TestNarrowed(t *testing.T) {
	for _, c := range []struct{ a, b, want []string }{
		{[]string{"*"}, nil, []string{"*"}},
		{[]string{"*"}, []string{"invoice.*", "lead_won"}, []string{"invoice.*", "lead_won"}},
		{[]string{"invoice.*"}, []string{"*"}, []string{"invoice.*"}},
		{[]string{"invoice.*"}, []string{"invoice.paid.*", "invoice", "invoices.x"}, []string{"invoice.paid.*"}},
		{[]string{"invoice.paid", "lead_won"}, []string{"invoice.*"}, []string{"invoice.paid"}},
		{[]string{"invoice.*", "invoice.paid"}, []string{"invoice.paid", "invoice.*"}, []string{"invoice.*", "invoice.paid"}},
		{[]string{"lead_won"}, []string{"invoice.paid"}, nil},
	} {
		if diff := cmp.Diff(c.want, narrowed(c.a, c.b)); diff != "" {
			t.Errorf("%v by %v (-want +got):\n%s", c.a, c.b, diff)
		}
	}
}

// A fill that a crash interrupts goes on where it was: from every copy of the books
// the replay ends with the same deliveries, all in order.
func TestFillSurvivesCrashes(t *testing.T) {
	dir, c, crash := t.TempDir(), newClock(), false
	var copies []string
	s := open(t, Options{Dir: dir, Clock: c.read, segment: 7, Synchronous: "NORMAL", Failpoint: func(name string) {
		if name == "replay.step" && crash {
			to := t.TempDir()
			copyStore(t, dir, to)
			copies = append(copies, to)
		}
	}})
	w := newWalker(t, s, "acme", 1)
	p := w.next(30)
	var events []stream.Event
	for _, ev := range p.Events {
		events = append(events, ev.Event)
	}
	p.Events = p.Events[:20] // nobody wanted the others
	w.commit(p)
	late := addEndpoint(t, s, "acme")
	r, err := s.StartReplay(t.Context(), "acme", late.ID, ReplayFilter{States: []deliver.State{Missing}}, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	run := func(s *Store, r Replay) Replay {
		t.Helper()
		for r.State == ReplayRunning {
			next, last := r.Next()
			var err error
			if r, err = s.FillReplay(t.Context(), r, events[next-1:], last, 4); err != nil {
				t.Fatal(err)
			}
		}
		return r
	}
	type pair struct {
		Seq     int64
		Trigger deliver.Trigger
		Fresh   bool
	}
	had := func(s *Store) (list []pair) {
		t.Helper()
		err := s.read(func(scan func(...any) error) error {
			var p pair
			err := scan(&p.Seq, &p.Trigger, &p.Fresh)
			list = append(list, p)
			return err
		}, "SELECT e.seq, d.trigger, d.due=0 FROM deliveries d JOIN events e ON e.id=d.event WHERE d.endpoint=? ORDER BY e.seq", late.Row)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	crash = true
	if r = run(s, r); r.Replayed != 30 || r.State != ReplayDone {
		t.Fatalf("%+v", r)
	}
	crash = false
	var want []pair
	for seq := range int64(30) {
		want = append(want, pair{seq + 1, deliver.Replay, false})
	}
	if diff := cmp.Diff(want, had(s)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for i, dir := range copies {
		s := open(t, Options{Dir: dir, Clock: c.read, segment: 7})
		running, err := s.RunningReplays(t.Context())
		if err != nil || len(running) != 1 {
			t.Fatalf("copy %d: %d running, %v", i, len(running), err)
		}
		if again := run(s, running[0]); again.ReplayCounts != r.ReplayCounts {
			t.Errorf("copy %d: %+v", i, again)
		}
		if diff := cmp.Diff(want, had(s)); diff != "" {
			t.Errorf("copy %d (-want +got):\n%s", i, diff)
		}
		spans, err := s.SubscriptionHistory(t.Context(), "acme")
		if err != nil || !slices.ContainsFunc(spans, func(sp fanout.Span) bool {
			return sp.Endpoint == late.Row && sp.Ended && sp.From == 0 && sp.Until == 30
		}) {
			t.Errorf("copy %d: spans %+v, %v", i, spans, err)
		}
	}
	// A step of before does nothing.
	if _, err := s.FillReplay(t.Context(), Replay{ID: r.ID, Org: "acme", Endpoint: late.ID, Row: late.Row}, events, 30, 4); err != nil {
		t.Fatal(err)
	}
	if now, err := s.GetReplay(t.Context(), "acme", r.ID); err != nil || now.ReplayCounts != r.ReplayCounts {
		t.Errorf("%+v, %v", now, err)
	}
}

// What has a reason not to be delivered stays as it is: it was rejected, kept
// back by the plan, or retention may have removed its deliveries.
func TestFillLeavesAlone(t *testing.T) {
	c := newClock()
	s := open(t, Options{Dir: t.TempDir(), Clock: c.read})
	w := newWalker(t, s, "acme", 1)
	old := w.next(10)
	for _, ev := range w.commit(old) {
		w.record(c.outcome(deliver.Key{Event: ev.Event, Endpoint: w.endpoints[0]}, 1, deliver.Delivered))
	}
	c.add(10 * day)
	p := w.next(20) // 11 to 30
	all := append(slices.Clone(old.Events), p.Events...)
	p.Rejected, p.Gated = append(p.Rejected, rejectedAt(15)), []stream.Seq{20, 21}
	p.Events = p.Events[11:] // 22 to 30; nobody wanted the others
	w.commit(p)
	var events []stream.Event
	for _, ev := range all {
		events = append(events, ev.Event)
	}
	late := addEndpoint(t, s, "acme")
	filter := ReplayFilter{States: []deliver.State{Missing}}
	var n MissingCount
	if err := s.CountMissing(t.Context(), "acme", late.ID, filter, events, &n); err != nil || n.ReplayCounts != (ReplayCounts{Matched: 30, Replayed: 27, Withheld: 3}) {
		t.Errorf("missing %+v, %v; want 27", n.ReplayCounts, err)
	}
	r, err := s.StartReplay(t.Context(), "acme", late.ID, filter, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	// Retention comes between the start and the first step.
	if removed, err := s.Retain(t.Context(), RetainOptions{FinishedBefore: c.read().Add(-day)}); err != nil || removed.Events != 10 {
		t.Fatalf("%+v, %v", removed, err)
	}
	r, err = s.FillReplay(t.Context(), r, events, 30, 100)
	if diff := cmp.Diff(ReplayCounts{Matched: 30, Replayed: 17, Withheld: 13}, r.ReplayCounts); err != nil || diff != "" || r.State != ReplayDone {
		t.Errorf("%s, %v (-want +got):\n%s", r.State, err, diff)
	}
	if after, last, err := s.MissingFrom(t.Context(), "acme"); err != nil || after != 10 || last != 30 {
		t.Errorf("the next one goes from %d to %d, %v", after, last, err)
	}
}
