package main

import (
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/sqlite"
)

func TestFindingsOfCursors(t *testing.T) {
	now := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	at := func(org string, lag uint64, age time.Duration, state string) httpapi.Cursor {
		return httpapi.Cursor{Position: cursor.Position{Org: org}, Lag: lag, Age: age, State: state}
	}
	excused := func(org string) bool { return org == "hooli" } // over its quota
	first := findings{}.ofCursors([]httpapi.Cursor{
		at("acme", 3, time.Minute, "behind"), at("globex", 9, time.Second, "live"), at("initech", 0, 0, "live"), at("umbrella", 5, time.Hour, "paused"),
		at("hooli", 1, time.Hour, "behind"),
	}, now, excused)
	want := findings{
		lag: 18, unread: now.Add(-time.Minute), states: map[string]int{"behind": 2, "live": 2, "paused": 1},
		behind: []laggard{{"globex", 9, now.Add(-time.Second)}, {"umbrella", 5, now.Add(-time.Hour)}, {"acme", 3, now.Add(-time.Minute)}, {"hooli", 1, now.Add(-time.Hour)}},
	}
	if diff := cmp.Diff(want, first, cmp.AllowUnexported(findings{}, laggard{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// The broker is away: nobody can say how old what waits is, but it has not become younger.
	away := first.ofCursors([]httpapi.Cursor{at("acme", 4, 0, "unreachable"), at("globex", 0, 0, "unreachable")}, now.Add(time.Hour), excused)
	if !away.unread.Equal(now.Add(-time.Minute)) {
		t.Errorf("while the broker is away: the oldest unread event is of %v", away.unread)
	}
}

// What is due counts as late from when its own endpoint did not keep it any more.
func TestOursSince(t *testing.T) {
	now := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for _, c := range []struct {
		name  string
		due   []sqlite.Due
		kept  map[int64]time.Time
		count int64
		since time.Time
	}{
		{name: "nothing"},
		{name: "nobody keeps it", due: []sqlite.Due{{Endpoint: 1, Count: 2, Since: ago(time.Minute)}}, count: 2, since: ago(time.Minute)},
		{name: "its endpoint fails", due: []sqlite.Due{{Endpoint: 1, Count: 2, Since: ago(time.Hour)}}, kept: map[int64]time.Time{1: now}, count: 2},
		{name: "its endpoint lets nothing through for a while", due: []sqlite.Due{{Endpoint: 1, Count: 1, Since: ago(time.Hour)}}, kept: map[int64]time.Time{1: now.Add(time.Minute)}, count: 1},
		{name: "its endpoint has recovered", due: []sqlite.Due{{Endpoint: 1, Count: 1, Since: ago(time.Hour)}}, kept: map[int64]time.Time{1: ago(time.Second)}, count: 1, since: ago(time.Second)},
		{name: "the oldest of two", due: []sqlite.Due{{Endpoint: 1, Count: 1, Since: ago(time.Second)}, {Endpoint: 2, Count: 1, Since: ago(time.Minute)}}, count: 2, since: ago(time.Minute)},
	} {
		if count, since := oursSince(c.due, c.kept, now); count != c.count || !since.Equal(c.since) {
			t.Errorf("%s: %d since %v, want %d since %v", c.name, count, since, c.count, c.since)
		}
	}
}

func TestHeldBack(t *testing.T) {
	stored := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name   string
		fanned time.Duration // after it was stored; 0: nobody knows
		kept   time.Duration // likewise; 0: never
		want   bool
	}{
		{name: "nobody kept it", fanned: time.Millisecond},
		{name: "its endpoint did", fanned: time.Millisecond, kept: time.Minute, want: true},
		{name: "before it was stored", fanned: time.Millisecond, kept: -time.Minute},
		{name: "fan-out was late anyhow", fanned: time.Minute, kept: 2 * time.Minute},
		{name: "after a start its endpoint did", kept: time.Minute, want: true},
	} {
		var fanned time.Time
		if c.fanned != 0 {
			fanned = stored.Add(c.fanned)
		}
		kept := int64(0)
		if c.kept != 0 {
			kept = stored.Add(c.kept).UnixMilli()
		}
		if got := heldBack(stored, fanned, kept); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestOutcomeOf(t *testing.T) {
	got := map[string]int{}
	for class := deliver.OK; class <= deliver.Ours; class++ {
		got[outcomeOf(class, false)]++
	}
	want := map[string]int{"success": 1, "http": 3, "timeout": 1, "dns": 1, "connect": 1, "tls": 1, "reset": 1, "blocked": 1, "infra": 1}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := outcomeOf(deliver.Ours, true); got != "interrupted" {
		t.Errorf("while stopping: %s", got)
	}
}

// Only who is on this machine is told the names of organizations.
func TestIsLoopback(t *testing.T) {
	for ip, want := range map[string]bool{"127.0.0.1": true, "::1": true, "0.0.0.0": false, "::": false, "192.0.2.1": false} {
		if got := isLoopback(&net.TCPAddr{IP: net.ParseIP(ip)}); got != want {
			t.Errorf("%s: %v", ip, got)
		}
	}
}
