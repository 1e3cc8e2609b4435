package main

import (
	"bytes"
	stdlog "log"
	"log/slog"
	"strings"
	"testing"
)

// The log has no payloads, also not by way of a receiver that sends them back unasked (SEC-23).
func TestOdditiesAreNotQuoted(t *testing.T) {
	var logged bytes.Buffer
	odd := stdlog.New(oddities{slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))}, "", 0)
	odd.Printf("Unsolicited response received on idle HTTP channel starting with %q; err=%v", `{"iban":"DE02"}`, nil)
	if got := logged.String(); strings.Contains(got, "DE02") || !strings.Contains(got, "idle HTTP channel") {
		t.Errorf("logged %s", got)
	}
}
