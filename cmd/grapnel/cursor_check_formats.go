package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
)

// checkFormats write what was found, for people or for a monitoring system.
var checkFormats = map[string]func(io.Writer, cursorChecks) error{
	"text": writeChecks, "nagios": writeNagios, "prometheus": writePrometheus,
	"json": func(w io.Writer, c cursorChecks) error { return writeJSON(w, c) },
}

// headline is how many there are of what: all that some systems show.
func (c cursorChecks) headline() string {
	if c.Error != "" {
		return oneLine(c.Error)
	}
	bad := len(c.bad())
	what := plural(len(c.Cursors), "cursor")
	if bad > 0 {
		what = fmt.Sprintf("%d of %s", bad, what)
	}
	return what
}

// bad are those that are worth a word, the worst first.
func (c cursorChecks) bad() (bad []judged) {
	for _, j := range c.Cursors {
		if j.Level != levelOK {
			bad = append(bad, j)
		}
	}
	slices.SortStableFunc(bad, func(x, y judged) int { return cmp.Compare(y.Level.rank(), x.Level.rank()) })
	return bad
}

func writeChecks(w io.Writer, c cursorChecks) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", strings.ToUpper(c.Level.String()), c.headline())
	for _, j := range c.bad() {
		fmt.Fprintf(&b, "%s %s: %s\n", j.Level, j.Org, strings.Join(j.Reasons, ", "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// nagiosShown is how many cursors the output has a line for: plug-ins are cut off
// after some kilobytes.
const nagiosShown = 20

// writeNagios writes a plug-in's output: a line with the state and, after a bar,
// the worst lag and age with the thresholds; then a line for each cursor that is not
// well. A bar in a text would end it, so there is none.
func writeNagios(w io.Writer, c cursorChecks) error {
	var b strings.Builder
	clean := func(s string) string { return strings.ReplaceAll(oneLine(s), "|", "/") }
	fmt.Fprintf(&b, "CURSORS %s - %s", strings.ToUpper(c.Level.String()), clean(c.headline()))
	if c.Error == "" {
		lag, age := uint64(0), 0.0
		for _, j := range c.Cursors {
			lag, age = max(lag, j.Lag), max(age, j.AgeSeconds)
		}
		fmt.Fprintf(&b, " | lag=%d;%s;%s;0 age=%.3fs;%s;%s;0 cursors=%d bad=%d;;;0", lag,
			threshold(float64(c.limits.warnLag)), threshold(float64(c.limits.criticalLag)), age,
			threshold(c.limits.warnAge.Seconds()), threshold(c.limits.criticalAge.Seconds()), len(c.Cursors), len(c.bad()))
	}
	b.WriteString("\n")
	for i, j := range c.bad() {
		if i == nagiosShown {
			fmt.Fprintf(&b, "and %d more\n", len(c.bad())-nagiosShown)
			break
		}
		fmt.Fprintf(&b, "%s %s: %s\n", j.Level, j.Org, clean(strings.Join(j.Reasons, ", ")))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// threshold is a limit in performance data, "" for none. It alarms from the limit
// on, where a plug-in's range alarms above it: near enough for a graph.
func threshold(limit float64) string {
	if limit == 0 {
		return ""
	}
	return fmt.Sprintf("%g", limit)
}

// writePrometheus writes the text format of Prometheus: of every cursor what the
// check found, and of the whole.
func writePrometheus(w io.Writer, c cursorChecks) error {
	var b strings.Builder
	family := func(name, help string, value func(judged) string) {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s gauge\n", name, help, name)
		for _, j := range c.Cursors {
			fmt.Fprintf(&b, "%s{org=%q} %s\n", name, j.Org, value(j)) // an id has nothing to escape
		}
	}
	fmt.Fprintf(&b, "# HELP cursor_check_level The worst of all: 0 ok, 1 warning, 2 critical, 3 unknown.\n# TYPE cursor_check_level gauge\ncursor_check_level %d\n", c.Level)
	family("cursor_check_org_level", "Of one organization's cursor: 0 ok, 1 warning, 2 critical, 3 unknown.", func(j judged) string { return fmt.Sprint(int(j.Level)) })
	family("cursor_check_lag_events", "Events that its cursor is behind.", func(j judged) string { return fmt.Sprint(j.Lag) })
	family("cursor_check_age_seconds", "How long ago the oldest of them was appended.", func(j judged) string { return fmt.Sprintf("%g", j.AgeSeconds) })
	_, err := io.WriteString(w, b.String())
	return err
}
