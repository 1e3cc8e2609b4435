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
	once := deliver.DefaultPolicy
	once.Attempts = 1
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
			return err == nil && c.Seq == events && c.Dead == want && c.Pending == 0
		}
	}
	await(t, "the death of all", count(events))

	dead := httpapi.ReplayFilter{Status: "dead", EventTypes: []string{"invoice.*"}}
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
