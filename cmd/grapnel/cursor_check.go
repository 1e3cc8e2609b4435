package main

import (
	"fmt"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/spf13/cobra"
)

// level is what a monitoring system makes of a check, and the exit status of
// "cursor check" (the convention of Nagios plug-ins).
type level int

const (
	levelOK       level = 0
	levelWarning  level = 1
	levelCritical level = 2
	levelUnknown  level = 3
)

func (l level) String() string { return [...]string{"ok", "warning", "critical", "unknown"}[l] }

// MarshalText implements encoding.TextMarshaler.
func (l level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// rank is how much the level matters. What cannot be known matters less than what
// is known to be critical.
func (l level) rank() int {
	return [...]int{levelOK: 0, levelWarning: 1, levelUnknown: 2, levelCritical: 3}[l]
}

// worse is the level that matters of the two.
func (l level) worse(m level) level {
	if m.rank() > l.rank() {
		return m
	}
	return l
}

// cursorLimits say from which lag and age on a cursor is worth a warning, or
// critical. 0: never.
type cursorLimits struct {
	warnLag, criticalLag uint64
	warnAge, criticalAge time.Duration
}

// judged is a cursor as "cursor check" sees it.
type judged struct {
	Org        string   `json:"org"`
	Level      level    `json:"level"`
	Reasons    []string `json:"reasons"`
	State      string   `json:"state"`
	Lag        uint64   `json:"lag"`
	AgeSeconds float64  `json:"age_seconds"`
}

// states are those that are worth something by themselves. A gated org's cursor
// goes on as any other's.
var states = map[string]level{
	"paused": levelWarning, "gap": levelWarning, "regressed": levelCritical,
	"stream-missing": levelCritical, "unclaimed": levelCritical, "unreachable": levelUnknown, stateOffline: levelUnknown,
}

// judge holds a cursor against the limits.
func (l cursorLimits) judge(b httpapi.CursorBody) judged {
	j := judged{Org: b.Org, Reasons: []string{}, State: b.State, Lag: b.Lag, AgeSeconds: b.AgeSeconds}
	found := func(at level, format string, args ...any) {
		j.Level = j.Level.worse(at)
		j.Reasons = append(j.Reasons, fmt.Sprintf(format, args...))
	}
	if at := states[b.State]; at != levelOK {
		found(at, "%s", b.State)
	}
	age := time.Duration(b.AgeSeconds * float64(time.Second))
	switch {
	case l.criticalLag > 0 && b.Lag >= l.criticalLag:
		found(levelCritical, "%d events behind", b.Lag)
	case l.warnLag > 0 && b.Lag >= l.warnLag:
		found(levelWarning, "%d events behind", b.Lag)
	}
	switch {
	case b.Lag == 0:
	case l.criticalAge > 0 && age >= l.criticalAge:
		found(levelCritical, "the oldest waits for %s", span(age))
	case l.warnAge > 0 && age >= l.warnAge:
		found(levelWarning, "the oldest waits for %s", span(age))
	}
	return j
}

// cursorChecks is the JSON of "cursor check".
type cursorChecks struct {
	Level   level    `json:"level"`
	Error   string   `json:"error,omitempty"` // why nothing is known
	Cursors []judged `json:"cursors"`

	limits cursorLimits
}

func (a *app) cursorCheck() *cobra.Command {
	var limits cursorLimits
	var from cursorSource
	var format string
	c := &cobra.Command{
		Use:   "check [ORG]",
		Short: "Check cursors against thresholds, for monitoring",
		Long: `Check the cursors of all organizations, or of one, against thresholds for lag and
age. The exit status is the one that monitoring systems expect: 0 fine, 1 warning,
2 critical, 3 unknown (the daemon or the broker does not answer, or the
organization does not exist). A threshold of 0 is none.

A paused cursor and a gap of the last day are a warning; a stream that is missing
or was rolled back is critical.

--format says how it is told: text; json; nagios, a line with performance data, as
plug-ins of Nagios, Icinga and Sensu print; or prometheus, a file for the node
exporter's textfile collector. With --db, lag and age are unknown.`,
		Example: `  grapnel cursor check --format nagios
  grapnel cursor check acme --critical-age 5m --warn-lag 0`,
		Args: cobra.MaximumNArgs(1),
	}
	f := c.Flags()
	f.Uint64Var(&limits.warnLag, "warn-lag", 1_000, "warn at `N` events behind")
	f.Uint64Var(&limits.criticalLag, "critical-lag", 100_000, "critical at `N` events behind")
	f.DurationVar(&limits.warnAge, "warn-age", time.Minute, "warn when the oldest unread event is so old")
	f.DurationVar(&limits.criticalAge, "critical-age", 10*time.Minute, "critical when it is so old")
	f.StringVar(&format, "format", "text", "text, json, nagios or prometheus")
	from.define(f)
	c.RunE = func(c *cobra.Command, args []string) error {
		if a.json {
			format = "json"
		}
		print, ok := checkFormats[format]
		if !ok {
			return &usageError{fmt.Errorf("--format %q: want text, json, nagios or prometheus", format)}
		}
		all, err := from.picked(c.Context(), a, args)
		checks := cursorChecks{Cursors: []judged{}, limits: limits}
		if err != nil {
			checks.Level, checks.Error = levelUnknown, err.Error()
		} else {
			for _, b := range all {
				j := limits.judge(b)
				checks.Cursors = append(checks.Cursors, j)
				checks.Level = checks.Level.worse(j.Level)
			}
		}
		if err := print(a.out, checks); err != nil {
			return err
		}
		if checks.Level != levelOK {
			return &statusError{int(checks.Level)}
		}
		return nil
	}
	return c
}
