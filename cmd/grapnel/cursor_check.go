package main

import (
	"fmt"
	"math"
	"strings"
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

// worse is the level that matters of the two. What cannot be known matters less
// than what is known to be critical.
func (l level) worse(m level) level {
	rank := [...]int{levelOK: 0, levelWarning: 1, levelUnknown: 2, levelCritical: 3}
	if rank[m] > rank[l] {
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
	"stream-missing": levelCritical, "unclaimed": levelCritical, "unreachable": levelUnknown,
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
	Cursors []judged `json:"cursors"`
}

func (a *app) cursorCheck() *cobra.Command {
	var limits cursorLimits
	c := &cobra.Command{
		Use:   "check [ORG]",
		Short: "Check cursors against thresholds, for monitoring",
		Long: `Check the cursors of all organizations, or of one, against thresholds for lag and
age. The exit status is the one that monitoring systems expect: 0 fine, 1 warning,
2 critical, 3 unknown (the daemon or the broker does not answer, or the
organization does not exist). A threshold of 0 is none.

A paused cursor and a gap of the last day are a warning; a stream that is missing
or was rolled back is critical.`,
		Example: `  grapnel cursor check
  grapnel cursor check acme --critical-age 5m --warn-lag 0`,
		Args: cobra.MaximumNArgs(1),
	}
	f := c.Flags()
	f.Uint64Var(&limits.warnLag, "warn-lag", 1_000, "warn at `N` events behind")
	f.Uint64Var(&limits.criticalLag, "critical-lag", 100_000, "critical at `N` events behind")
	f.DurationVar(&limits.warnAge, "warn-age", time.Minute, "warn when the oldest unread event is so old")
	f.DurationVar(&limits.criticalAge, "critical-age", 10*time.Minute, "critical when it is so old")
	c.RunE = func(c *cobra.Command, args []string) error {
		var all []httpapi.CursorBody
		var err error
		if len(args) == 1 {
			all = make([]httpapi.CursorBody, 1)
			all[0], err = a.client().Cursor(c.Context(), args[0])
		} else {
			var found httpapi.List[httpapi.CursorBody]
			found, err = collect(c.Context(), listFlags{limit: math.MaxInt}, a.client().Cursors)
			all = found.Data
		}
		if err != nil {
			a.printf("UNKNOWN: %v\n", err)
			return &statusError{int(levelUnknown)}
		}
		checks := cursorChecks{Cursors: []judged{}}
		for _, b := range all {
			j := limits.judge(b)
			checks.Cursors = append(checks.Cursors, j)
			checks.Level = checks.Level.worse(j.Level)
		}
		if err := a.show(checks, func() { a.printChecks(checks) }); err != nil {
			return err
		}
		if checks.Level != levelOK {
			return &statusError{int(checks.Level)}
		}
		return nil
	}
	return c
}

// printChecks says on the first line, which is all that some systems show, how
// many there are of what.
func (a *app) printChecks(checks cursorChecks) {
	bad := 0
	for _, j := range checks.Cursors {
		if j.Level != levelOK {
			bad++
		}
	}
	what := fmt.Sprintf("%d cursors", len(checks.Cursors))
	if len(checks.Cursors) == 1 {
		what = "1 cursor"
	}
	if bad > 0 {
		what = fmt.Sprintf("%d of %s", bad, what)
	}
	a.printf("%s: %s\n", strings.ToUpper(checks.Level.String()), what)
	for _, j := range checks.Cursors {
		if j.Level != levelOK {
			a.printf("%s %s: %s\n", j.Level, j.Org, strings.Join(j.Reasons, ", "))
		}
	}
}
