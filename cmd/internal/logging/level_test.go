package logging

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestLevels(t *testing.T) {
	const (
		debug, info, warn = slog.LevelDebug, slog.LevelInfo, slog.LevelWarn
		minute            = time.Minute
	)
	for _, c := range []struct {
		name string
		do   func(*Level)
		want Levels // Until as it is after one minute
	}{
		{"nothing", func(*Level) {}, Levels{Now: info, Configured: info}},
		{"asked for", func(l *Level) { l.Ask(debug, 0) }, Levels{Now: debug, Configured: info}},
		{"asked for an hour", func(l *Level) { l.Ask(debug, time.Hour) }, Levels{debug, info, time.Now().Add(time.Hour)}},
		{"asked for less than a minute", func(l *Level) { l.Ask(debug, minute-1) }, Levels{Now: info, Configured: info}},
		{"asked for again, longer", func(l *Level) { l.Ask(debug, 1); l.Ask(warn, time.Hour) }, Levels{warn, info, time.Now().Add(time.Hour)}},
		{"asked for again, without an end", func(l *Level) { l.Ask(debug, 1); l.Ask(warn, 0) }, Levels{Now: warn, Configured: info}},
		{"returned", func(l *Level) { l.Ask(debug, time.Hour); l.Return() }, Levels{Now: info, Configured: info}},
		{"configured anew", func(l *Level) { l.Configure(warn) }, Levels{Now: warn, Configured: warn}},
		{"configured anew meanwhile", func(l *Level) { l.Ask(debug, 0); l.Configure(warn) }, Levels{Now: debug, Configured: warn}},
		{"configured anew meanwhile, and over", func(l *Level) { l.Ask(debug, 1); l.Configure(warn) }, Levels{Now: warn, Configured: warn}},
		{"toggled", func(l *Level) { l.Toggle() }, Levels{Now: debug, Configured: info}},
		{"toggled twice", func(l *Level) { l.Toggle(); l.Toggle() }, Levels{Now: info, Configured: info}},
		{"toggled from what was asked for", func(l *Level) { l.Ask(warn, 1); l.Toggle() }, Levels{Now: debug, Configured: info}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := NewLevel(slog.LevelInfo)
				began := time.Now()
				c.do(l)
				time.Sleep(minute)
				synctest.Wait()
				got := l.Levels()
				if !c.want.Until.IsZero() {
					c.want.Until = began.Add(time.Hour)
				}
				if diff := cmp.Diff(c.want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				if l.Level() != got.Now {
					t.Errorf("it logs %v", l.Level())
				}
				l.Return()
			})
		})
	}
}
