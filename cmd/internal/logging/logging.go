// Package logging makes the program's logger: lines for people on a terminal,
// JSON for machines elsewhere.
//
// A message is a constant text, so that lines can be counted by it; what differs
// stands in attributes, under the same name everywhere: org, endpoint, event,
// delivery, attempt, request, trace_id, error. docs/logs.md lists all messages.
// What looks like a secret is masked, whoever logs it. The level can change while
// the program runs ([Level]), and the last lines are kept ([Recent]).
package logging

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/lmittmann/tint"
	"github.com/mattn/go-isatty"
)

// New makes a logger that writes to w. format is "auto" (text when w is a
// terminal, else JSON), "text" or "json".
func New(w io.Writer, format string, level slog.Leveler) (*slog.Logger, error) {
	if format == "auto" {
		format = "json"
		if Terminal(w) {
			format = "text"
		}
	}
	switch format {
	case "text":
		return slog.New(tint.NewTextHandler(w, &tint.Options{
			Level: level, TimeFormat: "15:04:05.000", NoColor: !Colour(w), ReplaceAttr: briefly,
		})), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: precisely})), nil
	}
	return nil, fmt.Errorf("log format %q: want auto, text or json", format)
}

// Log is a logger, with what can be changed and asked of it.
type Log struct {
	*slog.Logger
	Level  *Level
	Recent *Recent
}

// Open makes a Log that writes to w, as [New] does.
func Open(w io.Writer, format string, level *Level) (Log, error) {
	l := Log{Level: level, Recent: NewRecent(w)}
	var err error
	l.Logger, err = New(l.Recent, format, l.Level)
	return l, err
}

// Terminal reports whether w is one.
func Terminal(w io.Writer) bool {
	if r, ok := w.(*Recent); ok {
		w = r.to
	}
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}

// Colour reports whether what is written to w should have colours: it is a
// terminal that can show them, and NO_COLOR is not set (https://no-color.org).
func Colour(w io.Writer) bool {
	return Terminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// briefly shortens what people read: durations to what matters.
func briefly(_ []string, a slog.Attr) slog.Attr {
	a = mask(a)
	if a.Value.Kind() == slog.KindDuration {
		d := a.Value.Duration()
		switch {
		case d > time.Minute:
			d = d.Round(time.Second)
		case d > time.Second:
			d = d.Round(10 * time.Millisecond)
		case d > time.Millisecond:
			d = d.Round(100 * time.Microsecond)
		}
		return slog.Duration(a.Key, d)
	}
	return a
}

// precisely puts what machines read in forms that do not depend on the
// machine: times in UTC, durations in seconds.
func precisely(_ []string, a slog.Attr) slog.Attr {
	a = mask(a)
	switch a.Value.Kind() {
	case slog.KindTime:
		return slog.Time(a.Key, a.Value.Time().UTC())
	case slog.KindDuration:
		return slog.Float64(a.Key+"_seconds", a.Value.Duration().Seconds())
	}
	return a
}
