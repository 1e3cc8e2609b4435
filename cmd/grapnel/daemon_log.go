package main

import (
	"cmp"
	"context"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
)

func (d *daemon) LogLevel(context.Context) (httpapi.LogLevel, error) {
	l := d.cfg.Level.Levels()
	return httpapi.LogLevel{Level: levelName(l.Now), Configured: levelName(l.Configured), Until: l.Until}, nil
}

func levelName(l slog.Level) string { return strings.ToLower(l.String()) }

// SetLogLevel writes to the audit first: nobody makes the log silent unseen.
func (d *daemon) SetLogLevel(ctx context.Context, name string, atMost time.Duration) (httpapi.LogLevel, error) {
	target := cmp.Or(name, "configured")
	if atMost > 0 {
		target += " for " + httpapi.Duration(atMost).String()
	}
	if err := d.store.Audited(d.asked(ctx, nil), "", "log_level.set", target); err != nil {
		return httpapi.LogLevel{}, answered(err)
	}
	if name == "" {
		d.cfg.Level.Return()
	} else {
		var level slog.Level
		if err := level.UnmarshalText([]byte(name)); err != nil {
			return httpapi.LogLevel{}, &httpapi.Invalid{Field: "level", Detail: "want debug, info, warn or error"}
		}
		d.cfg.Level.Ask(level, atMost)
	}
	d.tellLevel("request")
	return d.LogLevel(ctx)
}

// tellLevel logs a change of the level, so that it is seen whatever that is now.
func (d *daemon) tellLevel(by string) {
	l := d.cfg.Level.Levels()
	attrs := []slog.Attr{slog.String("to", levelName(l.Now)), slog.String("configured", levelName(l.Configured)), slog.String("by", by)}
	if !l.Until.IsZero() {
		attrs = append(attrs, slog.Time("until", l.Until))
	}
	d.log.LogAttrs(context.Background(), max(l.Now, slog.LevelInfo), "log level is another now", attrs...)
}

// heedSignals changes between debug and the configured level at each SIGUSR1.
func (d *daemon) heedSignals(ctx context.Context) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	defer signal.Stop(signals)
	for {
		select {
		case <-signals:
			d.cfg.Level.Toggle()
			d.tellLevel("SIGUSR1")
		case <-ctx.Done():
			return nil
		}
	}
}
