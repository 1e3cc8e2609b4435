package sqlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

func rejectedAt(seq stream.Seq) fanout.Rejected {
	return fanout.Rejected{Seq: seq, Subject: "events.acme.x", Code: "bad_json", Detail: "not JSON", Data: []byte("{")}
}

// all reads a list page by page.
func all(t *testing.T, s *Store, org string, f Filter, limit int) (list []deliver.Delivery) {
	t.Helper()
	after := deliver.Key{}
	for {
		page, next, err := s.ListDeliveries(t.Context(), org, f, limit, after)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) > limit {
			t.Fatalf("%d on a page of %d", len(page), limit)
		}
		list = append(list, page...)
		if next == (deliver.Key{}) {
			return list
		}
		after = next
	}
}

// Lists show what a plain filter over all deliveries would, in order, for each
// kind of filter, on pages of any size and however little one page may look at,
// before and after retention has made holes, and after a restart.
func TestListDeliveries(t *testing.T) {
	for name, c := range map[string]struct {
		look  time.Duration
		limit int
	}{
		"long looks":  {time.Minute, 17},
		"short looks": {time.Nanosecond, MaxPage},
	} {
		t.Run(name, func(t *testing.T) { testListDeliveries(t, c.look, c.limit) })
	}
}

func testListDeliveries(t *testing.T, look time.Duration, limit int) {
	c := newClock()
	o := Options{Dir: t.TempDir(), Clock: c.read, runSize: 100, segment: 8, look: look, Synchronous: "NORMAL"}
	s := open(t, o)
	rng := rand.New(rand.NewPCG(1, 2))
	walkers := []*walker{newWalker(t, s, "acme", 3), newWalker(t, s, "b", 2), newWalker(t, s, "quiet", 1)}
	ids := map[int64]string{}
	for _, w := range walkers {
		es, err := s.ListEndpoints(t.Context(), w.org)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range es {
			ids[e.Row] = e.ID
		}
	}
	model := map[string][]deliver.Delivery{}
	types := []string{"invoice.paid", "invoice.void", "invoice", "lead.won"}
	commit := func(w *walker, n int) {
		p := w.next(n)
		for i := range p.Events {
			ev := &p.Events[i]
			ev.Type = types[rng.IntN(len(types))]
			ev.Endpoints = w.endpoints[rng.IntN(len(w.endpoints)):]
			ev.Stored = ev.Stored.Add(-time.Duration(rng.IntN(3)) * time.Hour) // some waited for fan-out
			if rng.IntN(60) == 0 {
				ev.Type = "rare.one"
			}
		}
		for i, ev := range w.commit(p) {
			for _, endpoint := range ev.Endpoints {
				d := deliver.Delivery{
					Key: deliver.Key{Event: ev.Event, Endpoint: endpoint}, Org: w.org, Endpoint: ids[endpoint],
					EventID: p.Events[i].ID, Type: p.Events[i].Type, Seq: p.Events[i].Seq,
					Stored: p.Events[i].Stored, FannedOut: c.read(),
				}
				d.State = []deliver.State{deliver.Pending, deliver.Pending, deliver.Delivered, deliver.Delivered, deliver.Delivered, deliver.Dead, deliver.Cancelled}[rng.IntN(7)]
				switch d.State {
				case deliver.Pending:
				case deliver.Cancelled:
					cancelRow(t, s, d.Key)
				default:
					d.Attempts = 1
					r := c.outcome(d.Key, 1, d.State)
					r.Payload = nil
					d.Reason = r.Next.Reason
					if err := s.Record(t.Context(), r); err != nil {
						t.Fatal(err)
					}
				}
				model[w.org] = append(model[w.org], d)
			}
		}
		w.flush()
	}
	commit(walkers[2], 3)
	for range 14 {
		commit(walkers[0], 1+rng.IntN(30))
		commit(walkers[1], 1+rng.IntN(10))
		c.add(time.Hour)
	}
	for org := range model {
		slices.SortFunc(model[org], func(a, b deliver.Delivery) int {
			return cmp.Or(cmp.Compare(b.Key.Event, a.Key.Event), cmp.Compare(a.Key.Endpoint, b.Key.Endpoint))
		})
	}
	since, until := c.read().Add(-11*time.Hour), c.read().Add(-5*time.Hour)
	filters := map[string]Filter{}
	for _, endpoint := range []string{"", ids[2]} {
		for _, typ := range []string{"", "invoice", "invoice.*", "rare.one"} {
			for _, state := range []*deliver.State{nil, ptr(deliver.Pending), ptr(deliver.Delivered), ptr(deliver.Dead), ptr(deliver.Cancelled)} {
				for i, times := range [][2]time.Time{{}, {since, until}} {
					f := Filter{Endpoint: endpoint, Type: typ, State: state, Since: times[0], Until: times[1]}
					filters[fmt.Sprint(endpoint, typ, state, i)] = f
				}
			}
		}
	}
	filters["since"] = Filter{Since: since}
	filters["until"] = Filter{Until: until}
	filters["nothing"] = Filter{Type: "none.at.all"}
	filters["all"] = Filter{Type: "*"}
	filters["event"] = Filter{Event: walkers[0].id(100)}
	filters["event, state"] = Filter{Event: walkers[0].id(100), State: ptr(deliver.Delivered)}
	filters["event, endpoint"] = Filter{Event: walkers[0].id(100), Endpoint: ids[3]}
	filters["unknown event"] = Filter{Event: walkers[0].id(-1)}
	check := func(t *testing.T) {
		for _, f := range filters {
			for _, w := range walkers {
				if f.Endpoint != "" && w.org != "acme" {
					if _, _, err := s.ListDeliveries(t.Context(), w.org, f, 10, deliver.Key{}); !errors.Is(err, ErrNotFound) {
						t.Errorf("%+v of %s: %v", f, w.org, err)
					}
					continue
				}
				var want []deliver.Delivery
				for _, d := range model[w.org] {
					if f.holds(d) {
						want = append(want, d)
					}
				}
				if diff := gocmp.Diff(want, all(t, s, w.org, f, limit)); diff != "" {
					t.Fatalf("%+v of %s (-want +got):\n%.2000s", f, w.org, diff)
				}
			}
		}
	}
	t.Run("whole", check)
	t.Run("with a large backlog", func(t *testing.T) {
		s.o.pendingScan = 1
		check(t)
		s.o.pendingScan = pendingScan
	})

	cut := c.read().Add(-8 * time.Hour)
	if _, err := s.Retain(t.Context(), RetainOptions{FinishedBefore: cut, Step: 100}); err != nil {
		t.Fatal(err)
	}
	for org := range model {
		model[org] = slices.DeleteFunc(model[org], func(d deliver.Delivery) bool {
			return (d.State == deliver.Delivered || d.State == deliver.Cancelled) && d.FannedOut.Before(cut)
		})
	}
	t.Run("after retention", check)

	shut(t, s)
	s = open(t, o)
	for _, w := range walkers {
		w.s = s
		commit(w, 20)
		slices.SortFunc(model[w.org], func(a, b deliver.Delivery) int {
			return cmp.Or(cmp.Compare(b.Key.Event, a.Key.Event), cmp.Compare(a.Key.Endpoint, b.Key.Endpoint))
		})
	}
	t.Run("after a restart", check)
}

// holds is what a filter means.
func (f Filter) holds(d deliver.Delivery) bool {
	return (f.Endpoint == "" || f.Endpoint == d.Endpoint) && (f.Type == "" || fanout.MatchType(f.Type, d.Type)) &&
		(f.State == nil || *f.State == d.State) && (f.Event == stream.ID{} || f.Event == d.EventID) &&
		(f.Since.IsZero() || !d.Stored.Before(f.Since)) && (f.Until.IsZero() || d.Stored.Before(f.Until))
}

// cancelRow cancels a pending delivery, as the removal of its endpoint does.
func cancelRow(t *testing.T, s *Store, k deliver.Key) {
	t.Helper()
	err := s.w.do(t.Context(), func(x *txn) error {
		x.tally(k.Endpoint, -1, 0)
		_, err := x.c.exec("UPDATE deliveries SET state=3 WHERE event=? AND endpoint=?", k.Event, k.Endpoint)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A delivery that is made later for an event of a finished segment is found by
// the filter for its endpoint.
func TestListFindsWhatAnOldEventGained(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir(), segment: 4})
	w := newWalker(t, s, "acme", 1)
	p := w.next(10)
	w.commit(p)
	late := addEndpoint(t, s, "acme")
	w.refresh()
	p.From, p.To, p.Version = w.pos, w.pos, w.version
	for i := range p.Events {
		if i == 2 || i == 9 { // of a finished segment, and of the open one
			p.Events[i].Endpoints = []int64{w.endpoints[0], late.Row}
		}
	}
	w.commit(p)
	var events []int64
	for _, d := range all(t, s, "acme", Filter{Endpoint: late.ID}, 10) {
		events = append(events, d.Key.Event)
	}
	if diff := gocmp.Diff([]int64{10, 3}, events); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// A list ends when nobody waits for it any more.
func TestListEndsWithItsCaller(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	w := newWalker(t, s, "acme", 1)
	w.deliverAll(w.commit(w.next(100)))
	w.flush()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, f := range []Filter{{}, {State: ptr(deliver.Dead)}, {Type: "lead.won"}} {
		if _, _, err := s.ListDeliveries(ctx, "acme", f, 10, deliver.Key{}); !errors.Is(err, context.Canceled) {
			t.Errorf("%+v: %v", f, err)
		}
	}
}

func TestExceptionsAreListedNewestFirst(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	w := newWalker(t, s, "acme", 1)
	newWalker(t, s, "other", 1)
	p := w.next(0)
	p.To.Seq = 30
	for seq := range stream.Seq(5) {
		p.Rejected = append(p.Rejected, rejectedAt(seq+1))
		p.Gaps = append(p.Gaps, cursor.Gap{Incarnation: 1, From: 10 + 3*seq, To: 11 + 3*seq})
	}
	w.commit(p)
	again := p
	again.From, again.To = w.pos, w.pos
	again.Gaps = []cursor.Gap{{Incarnation: 1, From: 9, To: 13}} // 10, 11 and 13 are known
	w.commit(again)

	var rejected, gaps []string
	for before := (Place{}); ; {
		page, err := s.ListRejected(t.Context(), "acme", before, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page {
			rejected = append(rejected, fmt.Sprint(r.Incarnation, r.Seq, r.Code))
			before = Place{r.Incarnation, r.Seq}
		}
		if len(page) < 2 {
			break
		}
	}
	for before := (Place{}); ; {
		page, err := s.ListGaps(t.Context(), "acme", before, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range page {
			gaps = append(gaps, fmt.Sprint(g.From, "-", g.To))
			before = Place{g.Incarnation, g.From}
		}
		if len(page) < 2 {
			break
		}
	}
	if diff := gocmp.Diff([]string{"1 5bad_json", "1 4bad_json", "1 3bad_json", "1 2bad_json", "1 1bad_json"}, rejected); diff != "" {
		t.Errorf("rejected (-want +got):\n%s", diff)
	}
	if diff := gocmp.Diff([]string{"22-23", "19-20", "16-17", "13-14", "12-12", "10-11", "9-9"}, gaps); diff != "" {
		t.Errorf("gaps (-want +got):\n%s", diff)
	}
	c, err := s.Cursor(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	if c.Rejected != 5 || c.Gaps != 7 || c.GapEvents != 12 || c.GapAt.IsZero() {
		t.Errorf("%+v", c)
	}
	if c, _ := s.Cursor(t.Context(), "other"); c.Rejected+c.Gaps+c.GapEvents != 0 {
		t.Errorf("another org's: %+v", c)
	}
}
