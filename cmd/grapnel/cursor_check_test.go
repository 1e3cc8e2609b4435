package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
)

func TestJudgeCursor(t *testing.T) {
	limits := cursorLimits{warnLag: 10, criticalLag: 100, warnAge: time.Minute, criticalAge: time.Hour}
	for _, c := range []struct {
		name    string
		limits  cursorLimits
		cursor  httpapi.CursorBody
		want    level
		reasons []string
	}{
		{"nothing waits", limits, httpapi.CursorBody{State: "live"}, levelOK, nil},
		{"a little waits", limits, httpapi.CursorBody{State: "live", Lag: 9, AgeSeconds: 59.9}, levelOK, nil},
		{"lag", limits, httpapi.CursorBody{State: "live", Lag: 10, AgeSeconds: 1}, levelWarning, []string{"10 events behind"}},
		{"much lag", limits, httpapi.CursorBody{State: "behind", Lag: 100, AgeSeconds: 1}, levelCritical, []string{"100 events behind"}},
		{"age", limits, httpapi.CursorBody{State: "behind", Lag: 1, AgeSeconds: 60}, levelWarning, []string{"the oldest waits for 1m00s"}},
		{"great age", limits, httpapi.CursorBody{State: "behind", Lag: 10, AgeSeconds: 3600}, levelCritical, []string{"10 events behind", "the oldest waits for 1h00m"}},
		{"an age of nothing", limits, httpapi.CursorBody{State: "live", AgeSeconds: 3600}, levelOK, nil},
		{"no limits", cursorLimits{}, httpapi.CursorBody{State: "behind", Lag: 1e6, AgeSeconds: 1e6}, levelOK, nil},
		{"gated", limits, httpapi.CursorBody{State: "gated"}, levelOK, nil},
		{"paused", limits, httpapi.CursorBody{State: "paused"}, levelWarning, []string{"paused"}},
		{"paused for long", limits, httpapi.CursorBody{State: "paused", Lag: 1, AgeSeconds: 7200}, levelCritical, []string{"paused", "the oldest waits for 2h00m"}},
		{"a gap", limits, httpapi.CursorBody{State: "gap"}, levelWarning, []string{"gap"}},
		{"rolled back", limits, httpapi.CursorBody{State: "regressed"}, levelCritical, []string{"regressed"}},
		{"no stream", limits, httpapi.CursorBody{State: "stream-missing"}, levelCritical, []string{"stream-missing"}},
		{"no broker", limits, httpapi.CursorBody{State: "unreachable", Lag: 10}, levelUnknown, []string{"unreachable", "10 events behind"}},
		{"no broker, and late", limits, httpapi.CursorBody{State: "unreachable", Lag: 100}, levelCritical, []string{"unreachable", "100 events behind"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := c.limits.judge(c.cursor)
			if diff := cmp.Diff(append([]string{}, c.reasons...), got.Reasons); diff != "" || got.Level != c.want {
				t.Errorf("%v, want %v; reasons (-want +got):\n%s", got.Level, c.want, diff)
			}
		})
	}
}
