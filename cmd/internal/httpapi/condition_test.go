package httpapi

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
)

func TestConditionBody(t *testing.T) {
	now := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	failing := deliver.Health{
		FailingSince: now.Add(-time.Hour), Failures: 7, OpenedAt: now.Add(-50 * time.Minute), ProbeAt: now.Add(10 * time.Minute), HeldUntil: now.Add(5 * time.Minute),
	}
	for _, c := range []struct {
		name string
		ep   deliver.Endpoint
		want string
	}{
		{"well", deliver.Endpoint{}, `{"health":"healthy","consecutive_failures":0}`},
		{"a failure", deliver.Endpoint{Health: deliver.Health{Failures: 1, FailingSince: now}},
			`{"health":"healthy","consecutive_failures":1,"failing_since":"2026-11-21T10:00:00Z"}`},
		{"failing", deliver.Endpoint{Health: failing},
			`{"health":"failing","consecutive_failures":7,"failing_since":"2026-11-21T09:00:00Z","next_probe_at":"2026-11-21T10:10:00Z","held_until":"2026-11-21T10:05:00Z","disables_at":"2026-11-26T09:00:00Z"}`},
		{"never disabled", deliver.Endpoint{Health: deliver.Health{Failures: 5, OpenedAt: now, ProbeAt: now.Add(time.Second)}, Options: deliver.Options{DisableAfter: deliver.NeverDisable}},
			`{"health":"failing","consecutive_failures":5,"next_probe_at":"2026-11-21T10:00:01Z"}`},
		{"a hold that is over", deliver.Endpoint{Health: deliver.Health{HeldUntil: now}}, `{"health":"healthy","consecutive_failures":0}`},
		{"paused", deliver.Endpoint{Health: failing, Options: deliver.Options{Paused: true}},
			`{"health":"paused","consecutive_failures":7,"failing_since":"2026-11-21T09:00:00Z","held_until":"2026-11-21T10:05:00Z"}`},
		{"disabled", deliver.Endpoint{Health: failing, DisabledReason: deliver.DisabledFailing},
			`{"health":"disabled","consecutive_failures":7,"failing_since":"2026-11-21T09:00:00Z"}`},
	} {
		b, err := json.Marshal(conditionBody(&c.ep, now))
		if err != nil || string(b) != c.want {
			t.Errorf("%s: %s, %v, want %s", c.name, b, err, c.want)
		}
	}
}
