package main

import (
	"testing"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi/httpapitest"
)

func TestInsightCommands(t *testing.T) {
	golden(t, "commands/insight.txt", transcript(t, pretend(t, httpapitest.New()),
		"org add acme",
		"event append acme lead_won {}",
		"event explain acme 1",
		"endpoint add acme https://hooks.example/in",
		"endpoint add acme https://hooks.example/off --disabled",
		"event append acme invoice.paid {}",
		"event explain acme 2",
		"event explain acme 1",
		"event explain acme 2 --json --limit 1",
		"event explain acme 99",
		"event explain acme",
		"endpoint stats acme ep_01M7YRRX5R0000000000000001",
		"endpoint stats acme ep_01M7YRRX5R0000000000000001 --json",
		"endpoint stats acme ep_nothing",
	))
}

func TestWindowsInWords(t *testing.T) {
	rate, ms := 0.98765, 48.5123
	if got := percent(&rate) + " " + latency(&ms) + percent(nil) + latency(nil); got != "98.8 % 48.51 ms" {
		t.Error(got)
	}
}
