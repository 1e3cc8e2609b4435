package main

import (
	"strings"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cursor"
)

// A state says what stops a cursor, before what merely happened to it, and the
// sentence beside it what ends it.
func TestJudgeStanding(t *testing.T) {
	now := time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)
	hour := now.Add(-time.Hour)
	pause := &httpapi.CursorPause{By: "operator", Reason: "their database is moved", At: hour}
	until := &httpapi.CursorPause{By: "tok_1", At: hour, Until: now.Add(time.Hour)}
	for _, c := range []struct {
		name  string
		s     standing
		state string
		why   string // part of it
		since time.Time
	}{
		{"nothing to do", standing{}, "live", "", time.Time{}},
		{"a little to do", standing{lag: 5, age: behindAfter}, "live", "", time.Time{}},
		{"behind, and reading", standing{lag: 1000, age: time.Hour, rate: 20}, "behind", "done in about 50s", hour},
		{"behind, and nobody reads", standing{lag: 1000, age: time.Hour}, "behind", "was not read for a minute", hour},
		{"behind, with an error", standing{lag: 1, age: time.Hour, lastError: "no room", rate: 3}, "behind", "reading fails, and is tried again: no room", hour},
		{"behind, with a full disk", standing{lag: 1, age: time.Hour, full: true, lastError: "no room"}, "behind", "the disk is full", hour},
		{"held after a restore", standing{lag: 1, age: time.Hour, held: hour}, "behind", "grapnel resume --confirm", hour},
		{"held with nothing to read", standing{held: hour}, "live", "grapnel resume --confirm", time.Time{}},
		{"paused", standing{pause: pause, lag: 1, age: time.Hour}, "paused", "paused by operator: their database is moved; goes on with grapnel cursor resume acme", hour},
		{"paused until", standing{pause: until}, "paused", "paused by tok_1; goes on by itself at 2026-11-21T04:00:00Z", hour},
		{"paused before anybody noted who did", standing{pause: &httpapi.CursorPause{}}, "paused", "paused by somebody", time.Time{}},
		{"no stream, and paused", standing{missing: true, pause: pause, stoppedAt: hour}, "stream-missing", "no stream of that name", hour},
		{"no broker", standing{unreachable: "connection refused", pause: pause, stoppedAt: hour}, "unreachable", "connection refused", hour},
		{"another database's, and paused", standing{unclaimed: "01K", pause: pause, stoppedAt: hour}, "unclaimed", "grapnel cursor claim acme", hour},
		{"made anew", standing{change: cursor.Recreated, changedAt: hour}, "live", "made anew", hour},
		{"rolled back", standing{change: cursor.Regressed, changedAt: hour, lag: 1, age: time.Hour}, "regressed", "rolled back", hour},
		{"rolled back long ago", standing{change: cursor.Regressed, changedAt: now.Add(-recently)}, "live", "", time.Time{}},
		{"gated", standing{gated: true, lag: 1, age: time.Hour}, "gated", "plan lacks", time.Time{}},
		{"a gap", standing{gapAt: hour, gapCount: 7}, "gap", "grapnel cursor gaps acme", hour},
		{"a gap, and behind", standing{gapAt: hour, lag: 1, age: time.Hour, rate: 1}, "behind", "done in about 1s", hour},
		{"an old gap", standing{gapAt: now.Add(-recently), gapCount: 7}, "live", "", time.Time{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.s.now, c.s.org = now, "acme"
			v := c.s.judge()
			if v.state != c.state || !v.since.Equal(c.since) || !strings.Contains(v.why, c.why) || (c.why == "") != (v.why == "") {
				t.Errorf("%+v, want %s since %v: …%s…", v, c.state, c.since, c.why)
			}
		})
	}
}

func TestUntilRead(t *testing.T) {
	for _, c := range []struct {
		lag  uint64
		rate float64
		want time.Duration
	}{
		{0, 100, 0},
		{100, 0, 0},
		{100, 0.01, 0},
		{100, 10, 10 * time.Second},
		{1, 1000, time.Second},
		{1 << 63, 1, 365 * 24 * time.Hour},
	} {
		if got := untilRead(c.lag, c.rate); got != c.want {
			t.Errorf("%d events at %g/s: %v, want %v", c.lag, c.rate, got, c.want)
		}
	}
}
