package main

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/stream"
)

// parkAfter is the limit of the daemons of these tests.
const parkAfter = 400

func parkingDaemon(t *testing.T, dir string) (_ *daemon, end func()) {
	t.Helper()
	d, err := openDaemon(t.Context(), daemonOptions{
		Data: dir, Version: "test", NATSListen: "off", NATSSync: time.Second, AllowHTTP: true,
		Allow: loopback, ParkAfter: parkAfter, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	return d, func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// taker is a receiver that notes what it takes, in order, unless it is down.
type taker struct {
	*httptest.Server
	down atomic.Bool
	mu   sync.Mutex
	took []string
}

func newTaker(t *testing.T) *taker {
	f := &taker{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if f.down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.took = append(f.took, r.Header.Get("webhook-id"))
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *taker) taken() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.took)
}

// An endpoint that is down for long costs a bounded number of rows, and one that
// begins in the past reads it; both get every event once, also over a restart, and
// while events come in.
func TestEndpointsThatAreBehind(t *testing.T) {
	const before, after = 2000, 1000
	dir, ctx := shortDir(t), t.Context()
	d, end := parkingDaemon(t, dir)
	defer func() { end() }()
	if _, err := d.AddOrg(ctx, httpapi.Org{ID: "acme", Payload: "data"}); err != nil {
		t.Fatal(err)
	}
	var want []string
	var seqs []stream.Seq // of what is wanted; between them lie events about endpoints
	publish := func(n int) {
		t.Helper()
		for n > 0 {
			batch := make([]httpapi.NewEvent, min(n, 500))
			for i := range batch {
				batch[i] = httpapi.NewEvent{Type: []string{"invoice.paid", "lead_won"}[i%2], Data: []byte(`{"n":1}`)}
			}
			appended, err := d.Append(ctx, "acme", batch)
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range appended {
				want, seqs = append(want, a.ID.String()), append(seqs, a.Seq)
			}
			n -= len(batch)
		}
	}
	endpoint := func(url string, start httpapi.Start, concurrency int) httpapi.MadeEndpoint {
		t.Helper()
		retry := deliver.Policy{Initial: time.Second, Multiplier: 1, MaxInterval: time.Second, Attempts: 100}
		made, err := d.AddEndpoint(ctx, httpapi.NewEndpoint{
			Org: "acme", URL: url, EventTypes: []string{"*"}, Timeout: deliver.DefaultTimeout, Retry: retry,
			Concurrency: concurrency, Start: start,
		})
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	behind := func(ep httpapi.MadeEndpoint) (httpapi.CatchingUp, bool) {
		t.Helper()
		of, err := d.CatchingUp(ctx, "acme", []deliver.Endpoint{ep.Endpoint})
		if err != nil {
			t.Fatal(err)
		}
		c, ok := of[ep.Row]
		return c, ok
	}
	away, late, middle := newTaker(t), newTaker(t), newTaker(t)
	away.down.Store(true)
	down := endpoint(away.URL, httpapi.Start{}, deliver.DefaultConcurrency)
	publish(before)
	passed(t, d, before)
	c, ok := behind(down)
	if !ok || c.Reason != "parked" || c.Behind == 0 || c.Waiting == "" {
		t.Fatalf("the endpoint that is down: %+v, %v", c, ok)
	}
	rows := d.store.PendingOf(down.Row)
	if rows <= parkAfter || rows > parkAfter+1024 {
		t.Errorf("%d rows of the endpoint that is down", rows)
	}
	end()
	d, end = parkingDaemon(t, dir)

	all := endpoint(late.URL, httpapi.Start{Beginning: true}, 1)
	half := endpoint(middle.URL, httpapi.Start{Seq: seqs[before/2]}, 8)
	if all.StartsAt != 1 || half.StartsAt != seqs[before/2] {
		t.Errorf("they start at %d and %d", all.StartsAt, half.StartsAt)
	}
	publish(after)
	passed(t, d, before+after)
	if now := d.store.PendingOf(down.Row); now > rows {
		t.Errorf("%d rows of the endpoint that is down, after %d", now, rows)
	}
	for _, f := range []struct {
		*taker
		from int
	}{{late, 0}, {middle, before / 2}} {
		await(t, "all of a backfill", func() bool { return len(f.taken()) >= len(want)-f.from })
		got := f.taken()
		if f.from != 0 {
			slices.Sort(got)
			got = slices.Compact(got)
		}
		if f.from == 0 && !slices.Equal(got, want) {
			t.Errorf("a backfill with one request at a time took %d events, not those of the stream in its order", len(got))
		}
		if len(got) != len(want)-f.from {
			t.Errorf("took %d events, want %d", len(got), len(want)-f.from)
		}
	}
	away.down.Store(false)
	await(t, "the recovery", func() bool { return len(away.taken()) >= len(want) })
	await(t, "the end of all catch-ups", func() bool { return d.store.CatchupStats().All == 0 })
	publish(10)
	await(t, "what is live again", func() bool { return len(away.taken()) >= len(want) && len(late.taken()) >= len(want) })
	for _, f := range []*taker{away, late} {
		got := f.taken()
		slices.Sort(got)
		if n := len(slices.Compact(got)); n != len(want) || len(f.taken()) != n {
			t.Errorf("%d requests for %d events, want %d", len(f.taken()), n, len(want))
		}
	}
	books, err := d.Fsck(ctx, "acme")
	if err != nil || len(books) != 1 || books[0].Wrong != 0 {
		t.Errorf("the books: %+v, %v", books, err)
	}
}

// A start beyond the end is refused, and one before the beginning is the beginning.
func TestStart(t *testing.T) {
	ctx := t.Context()
	d, end := parkingDaemon(t, shortDir(t))
	defer end()
	if _, err := d.AddOrg(ctx, httpapi.Org{ID: "acme", Payload: "data"}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Append(ctx, "acme", []httpapi.NewEvent{{Type: "a", Data: []byte("1")}, {Type: "a", Data: []byte("2")}}); err != nil {
		t.Fatal(err)
	}
	between := time.Now()
	if _, err := d.Append(ctx, "acme", []httpapi.NewEvent{{Type: "a", Data: []byte("3")}}); err != nil {
		t.Fatal(err)
	}
	passed(t, d, 3)
	for _, c := range []struct {
		name  string
		start httpapi.Start
		want  uint64
		wrong string
	}{
		{"now", httpapi.Start{}, 0, ""},
		{"the beginning", httpapi.Start{Beginning: true}, 1, ""},
		{"a sequence", httpapi.Start{Seq: 2}, 2, ""},
		{"the last one", httpapi.Start{Seq: 3}, 3, ""},
		{"beyond the end", httpapi.Start{Seq: 4}, 0, "start: the stream ends with sequence 3: leave start out for what comes from now on"},
		{"a time", httpapi.Start{Time: between}, 3, ""},
		{"long ago", httpapi.Start{Time: between.AddDate(-1, 0, 0)}, 1, ""},
		{"the future", httpapi.Start{Time: between.Add(time.Hour)}, 0, "start: the time lies in the future: leave start out for what comes from now on"},
	} {
		_, first, err := d.start(ctx, "acme", c.start)
		if uint64(first) != c.want || (err == nil) != (c.wrong == "") || err != nil && err.Error() != c.wrong {
			t.Errorf("%s: %d, %v; want %d, %q", c.name, first, err, c.want, c.wrong)
		}
	}
}
