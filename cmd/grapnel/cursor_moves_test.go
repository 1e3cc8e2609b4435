package main

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/stream"
)

// moves is the whole daemon with an organization whose cursor is moved.
type moves struct {
	*testing.T
	httpapi.Service
	ctx context.Context
}

func (m *moves) must(err error) {
	m.Helper()
	if err != nil {
		m.Fatal(err)
	}
}

func (m *moves) append(n int) {
	m.Helper()
	for range n {
		_, err := m.Append(m.ctx, "acme", []httpapi.NewEvent{{Type: "a.b", Data: []byte("1")}})
		m.must(err)
	}
}

// reads waits until the cursor is at seq.
func (m *moves) reads(seq stream.Seq) {
	m.Helper()
	ctx, cancel := context.WithTimeout(m.ctx, 20*time.Second)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := m.Cursor(ctx, "acme")
		m.must(err)
		if c.Seq == seq {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			m.Fatalf("the cursor is at %d, want %d", c.Seq, seq)
		}
	}
}

// deliveries counts them.
func (m *moves) deliveries() int {
	m.Helper()
	all, _, err := m.Deliveries(m.ctx, "acme", httpapi.DeliveryFilter{}, deliver.Key{}, 100)
	m.must(err)
	return len(all)
}

// proven holds the books against the stream.
func (m *moves) proven() {
	m.Helper()
	books, err := m.Fsck(m.ctx, "acme")
	m.must(err)
	for _, p := range books[0].Problems {
		m.Error(p)
	}
}

// A cursor is held, moved on over events, and back again, and the books are
// proven after each step.
func TestCursorMoves(t *testing.T) {
	m := &moves{T: t, Service: wholeDaemon(t).Service, ctx: t.Context()}
	_, err := m.AddOrg(m.ctx, httpapi.Org{ID: "acme", Payload: "data"})
	m.must(err)
	_, err = m.AddEndpoint(m.ctx, httpapi.NewEndpoint{Org: "acme", URL: "http://127.0.0.1:9/", EventTypes: []string{"*"},
		Timeout: deliver.DefaultTimeout, Retry: deliver.DefaultPolicy, Concurrency: 1,
		Options: deliver.Options{Paused: true}}) // one that fails would have the daemon append events of its own
	m.must(err)
	m.append(3)
	m.reads(3)

	c, err := m.PauseCursor(m.ctx, "acme", httpapi.Pausing{})
	m.must(err)
	if c.State != "paused" {
		t.Errorf("a paused cursor is %s", c.State)
	}
	m.append(4)
	plan, err := m.ResetCursor(m.ctx, "acme", httpapi.CursorReset{Latest: true})
	m.must(err)
	if diff := cmp.Diff(httpapi.CursorPlan{Org: "acme", From: 3, To: 7, Skipped: 4, Complete: true, Through: 7}, plan); diff != "" {
		t.Errorf("the plan of moving on (-want +got):\n%s", diff)
	}
	m.reads(3)
	on := httpapi.CursorReset{Latest: true, Execute: true, Reason: "these are not wanted", Expect: 3}
	var invalid *httpapi.Invalid
	if _, err := m.ResetCursor(m.ctx, "acme", on); !errors.As(err, &invalid) || invalid.Field != "allow_skip" {
		t.Errorf("a move that would skip: %v", err)
	}
	on.AllowSkip, on.Expect = true, 2
	if _, err := m.ResetCursor(m.ctx, "acme", on); !errors.Is(err, httpapi.ErrState) {
		t.Errorf("a move from elsewhere: %v", err)
	}
	on.Expect = 3
	plan, err = m.ResetCursor(m.ctx, "acme", on)
	m.must(err)
	if !plan.Executed {
		t.Errorf("not executed: %+v", plan)
	}
	m.reads(7)
	m.proven()
	gaps, err := m.Gaps(m.ctx, "acme", httpapi.Place{}, 10)
	m.must(err)
	want := []httpapi.Gap{{Gap: cursor.Gap{Incarnation: 1, From: 4, To: 7}, Skipped: true}}
	if diff := cmp.Diff(want, gaps, cmpopts.IgnoreFields(httpapi.Gap{}, "At")); diff != "" {
		t.Errorf("gaps (-want +got):\n%s", diff)
	}

	hour := time.Hour
	back := httpapi.CursorReset{Ago: &hour, Execute: true, Reason: "they are", Expect: 7}
	plan, err = m.ResetCursor(m.ctx, "acme", back)
	m.must(err)
	if diff := cmp.Diff(httpapi.CursorPlan{Org: "acme", Executed: true, From: 7, Again: 7, Existing: 3, New: 4, Complete: true, Through: 7}, plan); diff != "" {
		t.Errorf("the plan of moving back (-want +got):\n%s", diff)
	}
	m.proven()
	if n := m.deliveries(); n != 3 {
		t.Errorf("%d deliveries while it is paused, want 3", n)
	}
	_, err = m.ResumeCursor(m.ctx, "acme")
	m.must(err)
	m.reads(8) // the last is the daemon's own: it tells of what was skipped
	m.proven()
	if n := m.deliveries(); n != 7 {
		t.Errorf("%d deliveries, want 7", n)
	}
	if gaps, err := m.Gaps(m.ctx, "acme", httpapi.Place{}, 10); err != nil || len(gaps) != 0 {
		t.Errorf("gaps that were made up for: %+v, %v", gaps, err)
	}

	entries, err := m.Audit(m.ctx, "acme", 0, 10)
	m.must(err)
	var actions []string
	for _, e := range entries {
		actions = append(actions, e.Action)
	}
	if diff := cmp.Diff([]string{"cursor.resume", "cursor.reset", "cursor.reset", "cursor.pause", "endpoint.add", "org.add"}, actions); diff != "" {
		t.Errorf("audit (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string][2]any{"position": {float64(7), float64(0)}, "reason": {nil, "they are"}}, map[string][2]any(entries[1].Changes)); diff != "" {
		t.Errorf("the entry of the move (-want +got):\n%s", diff)
	}
}
