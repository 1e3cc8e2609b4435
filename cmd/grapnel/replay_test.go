package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/stream"
)

// fickle is a receiver that refuses what it gets until it heals, and
// counts what it took by event.
type fickle struct {
	*httptest.Server
	healed atomic.Bool
	mu     sync.Mutex
	took   map[string]int
}

func newFickle(t *testing.T) *fickle {
	f := &fickle{took: map[string]int{}}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !f.healed.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.took[r.Header.Get("webhook-id")]++
	}))
	t.Cleanup(f.Close)
	return f
}

// await waits until done says so.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s did not come", what)
		}
	}
}

// What died is sent again by a replay that waits for its endpoint, also over a
// restart; each event is taken once, and the books are proven.
func TestReplayOfTheDead(t *testing.T) {
	const events = 30
	f := newFickle(t)
	dir, ctx := shortDir(t), t.Context()
	d, end := strictDaemon(t, dir, false)
	if _, err := d.AddOrg(ctx, httpapi.Org{ID: "acme", Payload: "data"}); err != nil {
		t.Fatal(err)
	}
	// One attempt each; the circuit opens, and the probes are the others'.
	once := deliver.Policy{Initial: deliver.MinInitial, Multiplier: 1, MaxInterval: deliver.MinInitial, Attempts: 1}
	ep, err := d.AddEndpoint(ctx, httpapi.NewEndpoint{
		Org: "acme", URL: f.URL, EventTypes: []string{"*"}, Timeout: deliver.DefaultTimeout, Retry: once, Concurrency: deliver.DefaultConcurrency,
	})
	if err != nil {
		t.Fatal(err)
	}
	batch := make([]httpapi.NewEvent, events)
	for i := range batch {
		batch[i] = httpapi.NewEvent{Type: []string{"invoice.paid", "lead_won"}[i%2], Data: []byte("{}")}
	}
	appended, err := d.Append(ctx, "acme", batch)
	if err != nil {
		t.Fatal(err)
	}
	count := func(want int64) func() bool {
		return func() bool {
			c, err := d.Cursor(ctx, "acme")
			return err == nil && c.Seq >= events && c.Dead == want && c.Pending == 0
		}
	}
	await(t, "the death of all", count(events))

	dead := httpapi.ReplayFilter{Status: httpapi.Statuses{"dead"}, EventTypes: []string{"invoice.*"}}
	counts, err := d.CountReplay(ctx, "acme", ep.ID, dead)
	if diff := cmp.Diff(httpapi.ReplayCounts{Matched: events / 2, Replayed: events / 2}, counts); err != nil || diff != "" {
		t.Fatalf("%v (-want +got):\n%s", err, diff)
	}
	off, on := true, false
	if _, err := d.ChangeEndpoint(ctx, "acme", ep.ID, httpapi.EndpointChange{Disabled: &off}); err != nil {
		t.Fatal(err)
	}
	r, err := d.StartReplay(ctx, "acme", ep.ID, httpapi.NewReplay{ReplayFilter: dead, Rate: 1000})
	if err != nil || r.State != "running" || r.Waiting == "" {
		t.Fatalf("%+v, %v", r, err)
	}
	end()

	f.healed.Store(true)
	d, end = strictDaemon(t, dir, false)
	defer func() { end() }()
	if _, err := d.ChangeEndpoint(ctx, "acme", ep.ID, httpapi.EndpointChange{Disabled: &on}); err != nil {
		t.Fatal(err)
	}
	await(t, "the end of the replay", func() bool {
		r, err = d.Replay(ctx, "acme", r.ID)
		return err == nil && r.State == "done"
	})
	await(t, "the delivery of what was replayed", count(events/2))
	if diff := cmp.Diff(httpapi.ReplayCounts{Matched: events / 2, Replayed: events / 2}, r.ReplayCounts); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	want := map[string]int{}
	for i, a := range appended {
		if i%2 == 0 {
			want[a.ID.String()] = 1
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if diff := cmp.Diff(want, f.took); diff != "" {
		t.Errorf("taken (-want +got):\n%s", diff)
	}
	books, err := d.Fsck(ctx, "acme")
	if err != nil || len(books) != 1 || books[0].Wrong != 0 {
		t.Errorf("the books: %+v, %v", books, err)
	}
	ds, _, err := d.Deliveries(ctx, "acme", httpapi.DeliveryFilter{Event: &appended[0].ID}, deliver.Key{}, 1)
	if err != nil || len(ds) != 1 {
		t.Fatal(ds, err)
	}
	_, attempts, err := d.Delivery(ctx, "acme", ds[0].Key)
	if err != nil || len(attempts) != 2 || attempts[1].Trigger != deliver.Replay || attempts[1].Number != 2 {
		t.Errorf("attempts: %+v, %v", attempts, err)
	}
}

// What endpoints never had is filled in, once, as far as their subscriptions and
// the filter go; the books say why and are proven, also while it is under way.
func TestReplayOfTheMissing(t *testing.T) {
	const events = 600 // more than one stretch of the stream
	f := newFickle(t)
	f.healed.Store(true)
	ctx := t.Context()
	d, end := strictDaemon(t, shortDir(t), false)
	defer end()
	if _, err := d.AddOrg(ctx, httpapi.Org{ID: "acme", Payload: "data"}); err != nil {
		t.Fatal(err)
	}
	endpoint := func(workspace string, types ...string) httpapi.MadeEndpoint {
		t.Helper()
		ep, err := d.AddEndpoint(ctx, httpapi.NewEndpoint{
			Org: "acme", URL: f.URL, EventTypes: types, Workspace: workspace,
			Timeout: deliver.DefaultTimeout, Retry: deliver.DefaultPolicy, Concurrency: deliver.DefaultConcurrency,
		})
		if err != nil {
			t.Fatal(err)
		}
		return ep
	}
	endpoint("", "invoice.*") // so that the books know a third of the events
	batch := make([]httpapi.NewEvent, events)
	for i := range batch {
		batch[i] = httpapi.NewEvent{Type: []string{"invoice.paid", "lead_won", "task.done"}[i%3], Workspace: []string{"", "berlin"}[i%2], Data: []byte("{}")}
	}
	if _, err := d.Append(ctx, "acme", batch); err != nil {
		t.Fatal(err)
	}
	idle := func() bool {
		c, err := d.Cursor(ctx, "acme")
		return err == nil && c.Seq == events && c.Pending == 0
	}
	await(t, "the fan-out", idle)
	middle, err := d.EventAt(ctx, "acme", events/2)
	if err != nil {
		t.Fatal(err)
	}
	half := middle.Stored.Truncate(time.Millisecond)
	after := 0 // events stored at that time or later
	for seq := range events {
		ev, err := d.EventAt(ctx, "acme", stream.Seq(seq+1))
		if err != nil {
			t.Fatal(err)
		}
		if !ev.Stored.Before(half) {
			after++
		}
	}
	missing := func(ep httpapi.MadeEndpoint, filter httpapi.ReplayFilter, want int) {
		t.Helper()
		filter.Status = httpapi.Statuses{"missing"}
		counts := httpapi.ReplayCounts{Matched: int64(want), Replayed: int64(want)}
		counted, err := d.CountReplay(ctx, "acme", ep.ID, filter)
		if diff := cmp.Diff(counts, counted); err != nil || diff != "" {
			t.Errorf("counted: %v (-want +got):\n%s", err, diff)
		}
		r, err := d.StartReplay(ctx, "acme", ep.ID, httpapi.NewReplay{ReplayFilter: filter, Rate: 1000})
		if err != nil {
			t.Fatal(err)
		}
		await(t, "the end of the replay", func() bool {
			books, err := d.Fsck(ctx, "acme")
			if err != nil || len(books) != 1 || books[0].Wrong != 0 {
				t.Fatalf("the books: %+v, %v", books, err)
			}
			r, err = d.Replay(ctx, "acme", r.ID)
			return err == nil && r.State == "done"
		})
		if diff := cmp.Diff(counts, r.ReplayCounts); diff != "" {
			t.Errorf("report (-want +got):\n%s", diff)
		}
		await(t, "the delivery", idle)
		if again, err := d.CountReplay(ctx, "acme", ep.ID, filter); err != nil || again.Matched != 0 {
			t.Errorf("it still lacks %+v, %v", again, err)
		}
	}
	all := endpoint("", "*")
	missing(all, httpapi.ReplayFilter{EventTypes: []string{"lead_won", "invoice.*"}}, events/3*2)
	missing(all, httpapi.ReplayFilter{}, events/3)
	missing(endpoint("berlin", "task.*", "lead_won"), httpapi.ReplayFilter{}, events/3)
	missing(endpoint("", "*"), httpapi.ReplayFilter{Since: half}, after)
	missing(endpoint("", "*"), httpapi.ReplayFilter{Until: half}, events-after)
	missing(endpoint("", "*"), httpapi.ReplayFilter{EventTypes: []string{"nothing"}}, 0)
	// What comes now goes its usual way.
	if _, err := d.Append(ctx, "acme", batch[:1]); err != nil {
		t.Fatal(err)
	}
	await(t, "the next event", func() bool {
		c, err := d.Cursor(ctx, "acme")
		return err == nil && c.Seq == events+1 && c.Pending == 0
	})
	books, err := d.Fsck(ctx, "acme")
	if err != nil || len(books) != 1 || books[0].Wrong != 0 {
		t.Errorf("the books: %+v, %v", books, err)
	}
}
