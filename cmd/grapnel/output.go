package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/grapnel-hooks/grapnel/cmd/internal/client"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cmd/internal/logging"
	"github.com/spf13/cobra"
)

// show prints v as JSON with --json, and calls text otherwise.
func (a *app) show(v any, text func()) error {
	if !a.json {
		text()
		return nil
	}
	return writeJSON(a.out, v)
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func (a *app) printf(format string, args ...any) { fmt.Fprintf(a.out, format, args...) }

// ink colours text for people; without a terminal it leaves it as it is.
type ink bool

func (a *app) ink() ink { return ink(logging.Colour(a.out)) }

func (i ink) paint(code, s string) string {
	if !i || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (i ink) bold(s string) string   { return i.paint("1", s) }
func (i ink) faint(s string) string  { return i.paint("2", s) }
func (i ink) red(s string) string    { return i.paint("31", s) }
func (i ink) green(s string) string  { return i.paint("32", s) }
func (i ink) yellow(s string) string { return i.paint("33", s) }

// state colours the states of deliveries, endpoints and cursors by whether
// somebody has to look at them.
func (i ink) state(s string) string {
	word, _, _ := strings.Cut(s, " ")
	switch word {
	case "delivered", "enabled", "live", "proven", "valid":
		return i.green(s)
	case "dead", "disabled", "gap", "regressed", "stream-missing", "unclaimed", "unreachable", "offline", "WRONG", "revoked", "expired":
		return i.red(s)
	case "pending", "failing", "behind", "paused", "gated":
		return i.yellow(s)
	}
	return s
}

// table is a list for people. Columns whose name begins with ">" are numbers,
// aligned to the right; one named STATE or STATUS is coloured.
type table struct {
	columns []string
	rows    [][]string
}

func (t *table) add(cells ...any) {
	row := make([]string, len(cells))
	for i, c := range cells {
		row[i] = oneLine(fmt.Sprint(c))
		if row[i] == "" {
			row[i] = "-"
		}
	}
	t.rows = append(t.rows, row)
}

// print writes the table; each column is as wide as its widest cell.
func (t *table) print(w io.Writer, i ink) {
	width := make([]int, len(t.columns))
	head := make([]string, len(t.columns))
	for c, name := range t.columns {
		head[c] = strings.TrimPrefix(name, ">")
		width[c] = utf8.RuneCountInString(head[c])
		for _, row := range t.rows {
			width[c] = max(width[c], utf8.RuneCountInString(row[c]))
		}
	}
	line := func(cells []string, paint func(c int, s string) string) {
		var b strings.Builder
		for c, s := range cells {
			pad := strings.Repeat(" ", width[c]-utf8.RuneCountInString(s))
			switch {
			case strings.HasPrefix(t.columns[c], ">"):
				b.WriteString(pad + paint(c, s))
			case c == len(cells)-1:
				b.WriteString(paint(c, s))
			default:
				b.WriteString(paint(c, s) + pad)
			}
			if c < len(cells)-1 {
				b.WriteString("  ")
			}
		}
		fmt.Fprintln(w, b.String())
	}
	line(head, func(_ int, s string) string { return i.faint(s) })
	for _, row := range t.rows {
		line(row, func(c int, s string) string {
			if head[c] == "STATE" || head[c] == "STATUS" {
				return i.state(s)
			}
			return s
		})
	}
}

// facts are the lines of a thing that is shown alone. Those without a value
// are left out.
type facts [][2]string

func (f *facts) add(name string, value any) {
	if s := oneLine(fmt.Sprint(value)); s != "" {
		*f = append(*f, [2]string{name, s})
	}
}

func (f facts) print(w io.Writer, i ink) {
	width := 0
	for _, l := range f {
		width = max(width, utf8.RuneCountInString(l[0]))
	}
	for _, l := range f {
		value := l[1]
		if l[0] == "state" || l[0] == "status" {
			value = i.state(value)
		}
		fmt.Fprintf(w, "%s  %s\n", i.faint(fmt.Sprintf("%-*s", width, l[0])), value)
	}
}

// oneLine is a text, which somebody else may have written, without what could take over
// a terminal or break a line.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		return r
	}, printable(s))
}

// listFlags are the flags of every list.
type listFlags struct {
	limit  int
	cursor string
}

func (l *listFlags) define(c *cobra.Command) {
	c.Flags().IntVar(&l.limit, "limit", 50, "how many at most")
	c.Flags().StringVar(&l.cursor, "cursor", "", "go on after this `cursor`, the next_cursor of --json")
}

// collect asks for pages until it has as many as wanted or there are no more.
func collect[T any](ctx context.Context, l listFlags, fetch func(context.Context, client.Page) (httpapi.List[T], error)) (httpapi.List[T], error) {
	const page = 250
	all := httpapi.List[T]{Data: []T{}}
	if l.limit < 1 {
		return all, &usageError{fmt.Errorf("--limit %d: want at least 1", l.limit)}
	}
	next := l.cursor
	for {
		got, err := fetch(ctx, client.Page{Limit: min(page, l.limit-len(all.Data)), Cursor: next})
		if err != nil {
			return all, err
		}
		all.Data = append(all.Data, got.Data...)
		all.NextCursor = got.NextCursor
		if got.NextCursor == nil || len(all.Data) >= l.limit {
			return all, nil
		}
		next = *got.NextCursor
	}
}

// list prints what was collected: a row for each, or none's text.
func list[T any](a *app, all httpapi.List[T], t *table, row func(T), none string) error {
	return a.show(all, func() {
		for _, v := range all.Data {
			row(v)
		}
		if len(all.Data) == 0 {
			a.printf("%s\n", none)
		} else {
			t.print(a.out, a.ink())
		}
		if all.NextCursor != nil {
			fmt.Fprintf(a.err, "There are more: use a larger --limit, or --cursor %s\n", *all.NextCursor)
		}
	})
}

// moment is a time as people read it: UTC, to the second.
func moment(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

func momentOf(t *time.Time) string {
	if t == nil {
		return ""
	}
	return moment(*t)
}

// span is a duration as people read it: its two largest units.
func span(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%02dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

// around is a time as how long from now, or ago, it is.
func around(t, now time.Time) string {
	words := func(d time.Duration) string {
		if days := int(d / (24 * time.Hour)); days >= 2 {
			return fmt.Sprintf("%d days", days)
		}
		return span(d)
	}
	if d := t.Sub(now); d > 0 {
		return "in " + words(d)
	}
	return words(now.Sub(t)) + " ago"
}

// indented is JSON with indentation, or the text as it is when it is none.
func indented(raw []byte) string {
	var b bytes.Buffer
	if json.Indent(&b, raw, "", "  ") != nil {
		return string(raw)
	}
	return b.String()
}

// instant reads a time of a flag: RFC 3339, or how long ago (90m, 36h).
func instant(flag, s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, &usageError{fmt.Errorf("--%s %q: want an RFC 3339 time, or how long ago, such as 90m", flag, s)}
}
