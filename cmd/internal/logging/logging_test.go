package logging

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestFormats(t *testing.T) {
	at := time.Date(2026, 11, 21, 11, 0, 0, 5e6, time.FixedZone("CET", 3600))
	for _, c := range []struct{ format, want string }{
		{"auto", `{"time":"2026-11-21T10:00:00.005Z","level":"WARN","msg":"attempt failed","org":"acme","duration_seconds":1.2345}`},
		{"json", `{"time":"2026-11-21T10:00:00.005Z","level":"WARN","msg":"attempt failed","org":"acme","duration_seconds":1.2345}`},
		{"text", `11:00:00.005 WRN attempt failed org=acme duration=1.23s`},
	} {
		var out bytes.Buffer
		l, err := New(&out, c.format, slog.LevelInfo)
		if err != nil {
			t.Fatal(err)
		}
		r := slog.NewRecord(at, slog.LevelWarn, "attempt failed", 0)
		r.Add("org", "acme", "duration", 1234500*time.Microsecond)
		if err := l.Handler().Handle(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimSpace(out.String()); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.format, got, c.want)
		}
	}
}

func TestLevel(t *testing.T) {
	var out bytes.Buffer
	level := new(slog.LevelVar)
	l, err := New(&out, "json", level)
	if err != nil {
		t.Fatal(err)
	}
	l.Debug("quiet")
	level.Set(slog.LevelDebug)
	l.Debug("heard")
	if got := out.String(); strings.Contains(got, "quiet") || !strings.Contains(got, "heard") {
		t.Errorf("got %s", got)
	}
}

func TestUnknownFormat(t *testing.T) {
	if _, err := New(&bytes.Buffer{}, "xml", slog.LevelInfo); err == nil {
		t.Error("xml was accepted")
	}
}
