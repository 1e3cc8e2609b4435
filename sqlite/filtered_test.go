package sqlite

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// A replay of what is missing fills in what the endpoint's filter lets through, and
// its span says so. When the filter changes on the way, another span goes on.
func TestFillFilters(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	w := newWalker(t, s, "acme", 1)
	p := w.next(20)
	var events []stream.Event
	for i := range p.Events {
		p.Events[i].Data = json.RawMessage(fmt.Sprintf(`{"n":%d}`, i+1))
		events = append(events, p.Events[i].Event)
	}
	w.commit(p)
	late := addEndpoint(t, s, "acme")
	refilter := func(text string) {
		t.Helper()
		if _, err := s.SetEndpoint(t.Context(), "acme", late.ID, EndpointChange{Options: func(o *deliver.Options) { o.Filter = text }}); err != nil {
			t.Fatal(err)
		}
	}
	refilter(`data.n in [2, 4, 6, 8, 10, 12]`)
	missing := ReplayFilter{States: []deliver.State{Missing}}
	var n MissingCount
	if err := s.CountMissing(t.Context(), "acme", late.ID, missing, events, &n); err != nil || n.Matched != 6 {
		t.Errorf("%+v, %v; want 6", n.ReplayCounts, err)
	}
	r, err := s.StartReplay(t.Context(), "acme", late.ID, missing, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	for step := 0; r.State == ReplayRunning; step++ {
		if step == 1 {
			refilter(`data.n >= 19`)
		}
		next, last := r.Next()
		if r, err = s.FillReplay(t.Context(), r, events[next-1:], last, 3); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.column("SELECT e.seq FROM deliveries d JOIN events e ON e.id=d.event WHERE d.endpoint=? ORDER BY e.seq", late.Row)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int64{2, 4, 6, 19, 20}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	spans, err := s.SubscriptionHistory(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	set := fanout.CompileHistory(1, spans)
	for _, ev := range events {
		rows := set.Match(&ev, 1, nil)
		had := len(rows) > 1
		if n := int(ev.Seq); had != (n == 2 || n == 4 || n == 6 || n >= 19) {
			t.Errorf("of %d the spans say %v", n, rows)
		}
	}
}

// Filters are in the books of those who are enabled again, too.
func TestFilterOfEnabled(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	newWalker(t, s, "acme", 0)
	ep := addEndpoint(t, s, "acme")
	ctx := t.Context()
	if _, err := s.DisableEndpoint(ctx, "acme", ep.ID, "manual"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.SetEndpoint(ctx, "acme", ep.ID, EndpointChange{Options: func(o *deliver.Options) { o.Filter = `data.x` }}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.EnableEndpoint(ctx, "acme", ep.ID); err != nil {
		t.Fatal(err)
	}
	set, err := s.Subscriptions(ctx, "acme")
	if err != nil {
		t.Fatal(err)
	}
	for data, want := range map[string]int{`{"x":true}`: 1, `{}`: 0} {
		if got := set.Match(&stream.Event{Type: "a", Seq: 1, Data: json.RawMessage(data)}, 1, nil); len(got) != want {
			t.Errorf("%s: %v, want %d", data, got, want)
		}
	}
}

func TestMaxFiltered(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir(), filtered: 2})
	newWalker(t, s, "acme", 0)
	newWalker(t, s, "globex", 0)
	a, b, c := addEndpoint(t, s, "acme"), addEndpoint(t, s, "acme"), addEndpoint(t, s, "acme")
	refilter := func(org, id, text string) error {
		_, err := s.SetEndpoint(t.Context(), org, id, EndpointChange{Options: func(o *deliver.Options) { o.Filter = text }})
		return err
	}
	if err := errors.Join(refilter("acme", a.ID, "data.a"), refilter("acme", b.ID, "data.b"), refilter("acme", b.ID, "data.c")); err != nil {
		t.Fatal(err)
	}
	if err := refilter("acme", c.ID, "data.d"); !errors.Is(err, ErrState) {
		t.Errorf("a third: %v, want ErrState", err)
	}
	ep := deliver.Endpoint{Org: "acme", EventTypes: []string{"*"}, Options: deliver.Options{Filter: "data.e"}}
	if _, err := s.AddEndpoint(t.Context(), ep, Start{}); !errors.Is(err, ErrState) {
		t.Errorf("a new one: %v, want ErrState", err)
	}
	other := addEndpoint(t, s, "globex")
	if err := errors.Join(refilter("globex", other.ID, "data.a"), refilter("acme", a.ID, ""), refilter("acme", c.ID, "data.d")); err != nil {
		t.Errorf("there is room: %v", err)
	}
}
