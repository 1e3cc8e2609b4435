package sqlite

import (
	"cmp"
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
// kind of filter, before and after retention has made holes.
func TestListDeliveries(t *testing.T) {
	c := newClock()
	s := open(t, Options{Dir: t.TempDir(), Clock: c.read, runSize: 100, Synchronous: "NORMAL"})
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
	types := []string{"invoice.paid", "invoice.void", "lead.won"}
	commit := func(w *walker, n int) {
		p := w.next(n)
		for i := range p.Events {
			p.Events[i].Type = types[rng.IntN(len(types))]
			p.Events[i].Endpoints = w.endpoints[rng.IntN(len(w.endpoints)):]
		}
		for i, ev := range w.commit(p) {
			for _, endpoint := range ev.Endpoints {
				d := deliver.Delivery{
					Key: deliver.Key{Event: ev.Event, Endpoint: endpoint}, Org: w.org, Endpoint: ids[endpoint],
					EventID: p.Events[i].ID, Type: p.Events[i].Type, Seq: p.Events[i].Seq,
					Stored: p.Events[i].Stored, FannedOut: c.read(),
				}
				d.State = []deliver.State{deliver.Pending, deliver.Pending, deliver.Delivered, deliver.Delivered, deliver.Delivered, deliver.Dead}[rng.IntN(6)]
				if d.State != deliver.Pending {
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
	for range 30 {
		commit(walkers[0], 1+rng.IntN(30))
		commit(walkers[1], 1+rng.IntN(10))
		c.add(time.Hour)
	}
	for org := range model {
		slices.SortFunc(model[org], func(a, b deliver.Delivery) int {
			return cmp.Or(cmp.Compare(b.Key.Event, a.Key.Event), cmp.Compare(a.Key.Endpoint, b.Key.Endpoint))
		})
	}
	state := func(s deliver.State) *deliver.State { return &s }
	since, until := c.read().Add(-20*time.Hour), c.read().Add(-10*time.Hour)
	filters := map[string]Filter{
		"all":            {},
		"endpoint":       {Endpoint: ids[2]},
		"type":           {Type: "lead.won"},
		"pending":        {State: state(deliver.Pending)},
		"dead":           {State: state(deliver.Dead)},
		"delivered":      {State: state(deliver.Delivered)},
		"cancelled":      {State: state(deliver.Cancelled)},
		"since":          {Since: since},
		"until":          {Until: until},
		"event":          {Event: walkers[0].id(100)},
		"event, state":   {Event: walkers[0].id(100), State: state(deliver.Delivered)},
		"unknown event":  {Event: walkers[0].id(-1)},
		"much":           {Endpoint: ids[1], Type: "invoice.paid", State: state(deliver.Dead), Since: since, Until: c.read()},
		"much, by chain": {Endpoint: ids[3], Type: "invoice.void", State: state(deliver.Delivered), Since: since, Until: until},
	}
	check := func(t *testing.T) {
		for name, f := range filters {
			for _, w := range walkers {
				var want []deliver.Delivery
				foreign := f.Endpoint != "" && w.org != "acme"
				for _, d := range model[w.org] {
					if (f.Endpoint == "" || f.Endpoint == d.Endpoint) && (f.Type == "" || f.Type == d.Type) &&
						(f.State == nil || *f.State == d.State) && (f.Event == stream.ID{} || f.Event == d.EventID) &&
						(f.Since.IsZero() || !d.Stored.Before(f.Since)) && (f.Until.IsZero() || d.Stored.Before(f.Until)) {
						want = append(want, d)
					}
				}
				if foreign {
					if _, _, err := s.ListDeliveries(t.Context(), w.org, f, 10, deliver.Key{}); !errors.Is(err, ErrNotFound) {
						t.Errorf("%s of %s: %v", name, w.org, err)
					}
					continue
				}
				for _, limit := range []int{17, MaxPage} {
					if diff := gocmp.Diff(want, all(t, s, w.org, f, limit)); diff != "" {
						t.Fatalf("%s of %s, pages of %d (-want +got):\n%.2000s", name, w.org, limit, diff)
					}
				}
			}
		}
	}
	t.Run("whole", check)

	cut := c.read().Add(-15 * time.Hour)
	if _, err := s.Retain(t.Context(), RetainOptions{FinishedBefore: cut, Step: 100}); err != nil {
		t.Fatal(err)
	}
	for org := range model {
		model[org] = slices.DeleteFunc(model[org], func(d deliver.Delivery) bool {
			return d.State == deliver.Delivered && d.FannedOut.Before(cut)
		})
	}
	t.Run("after retention", check)
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
