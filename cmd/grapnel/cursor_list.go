package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cmd/internal/logging"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// cursorStates are all states of a cursor, those that people look for first at
// the front.
var cursorStates = []string{"stream-missing", "unclaimed", "regressed", "unreachable", "behind", "paused", "gap", "gated", "live"}

func (a *app) cursorList() *cobra.Command {
	var (
		pick  cursorPick
		wide  bool
		every time.Duration
		from  cursorSource
	)
	c := &cobra.Command{
		Use:   "list",
		Short: "List the cursors of all organizations",
		Long: `List the cursors of all organizations.

FIRST and LAST are the stream's first and last sequence, CURSOR is the last one
that was fanned out. LAG is how many events it is behind, AGE how long ago the
oldest of them was appended. PENDING, DUE and DEAD count deliveries. With --wide,
RATE/S is how many events a second are fanned out, ETA how long the lag takes at
that rate, OLDEST DUE for how long a delivery has been due, and WHY says what
stops a cursor. What a stream holds is at most 90 seconds old here; "grapnel
cursor show" asks the broker.

--watch shows the list anew every two seconds, or as often as it says, until it is
interrupted.`,
		Example: `  grapnel cursor list --sort lag --limit 20 --wide
  grapnel cursor list --org 'crm-*' --state behind,paused --json`,
		Args: func(c *cobra.Command, args []string) error { return watchArg(c, args, &every) },
	}
	f := c.Flags()
	pick.define(f)
	f.BoolVar(&wide, "wide", false, "show more columns")
	f.DurationVar(&every, "watch", 0, "show it anew every `interval`, 2s if none is said")
	f.Lookup("watch").NoOptDefVal = "2s"
	from.define(f)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := pick.check(); err != nil {
			return err
		}
		if f.Changed("watch") && every < watchLeast {
			return &usageError{fmt.Errorf("--watch %v: want %v at least", every, watchLeast)}
		}
		show := func(ctx context.Context, out io.Writer, rows int) error {
			all, err := from.cursors(ctx, a)
			if err != nil {
				return err
			}
			return a.showCursors(out, pick.from(all, rows), wide, from.offline())
		}
		if every == 0 {
			return show(c.Context(), a.out, math.MaxInt)
		}
		return a.watch(c.Context(), every, show)
	}
	return c
}

// watchLeast is the shortest interval of --watch.
const watchLeast = 100 * time.Millisecond

// watchArg takes the argument after --watch as its interval, if it is one: of a
// flag whose value may be left out, only "--watch=5s" would be a value.
func watchArg(c *cobra.Command, args []string, every *time.Duration) error {
	if len(args) == 1 && c.Flags().Changed("watch") {
		if d, err := time.ParseDuration(args[0]); err == nil {
			*every = d
			return nil
		}
	}
	return cobra.NoArgs(c, args)
}

// cursorPick says which cursors are shown, and in which order.
type cursorPick struct {
	org    string
	states []string
	sort   string
	limit  int
}

func (p *cursorPick) define(f *pflag.FlagSet) {
	f.StringVar(&p.org, "org", "", "only organizations whose id has this `text` in it, or is like crm-*")
	f.StringSliceVar(&p.states, "state", nil, "only cursors in these `states`: "+strings.Join(cursorStates, ", "))
	f.StringVar(&p.sort, "sort", "org", "by lag, age (both with the worst first) or org")
	f.IntVar(&p.limit, "limit", 0, "how many at most, after sorting; 0: all")
}

func (p *cursorPick) check() error {
	if _, err := filepath.Match(p.org, ""); err != nil {
		return &usageError{fmt.Errorf("--org %q: want a part of an id, or a pattern of *, ? and [a-z]", p.org)}
	}
	for _, s := range p.states {
		if !slices.Contains(cursorStates, s) && s != stateOffline {
			return &usageError{fmt.Errorf("--state %q: want one of %s", s, strings.Join(cursorStates, ", "))}
		}
	}
	if !slices.Contains([]string{"lag", "age", "org"}, p.sort) {
		return &usageError{fmt.Errorf("--sort %q: want lag, age or org", p.sort)}
	}
	if p.limit < 0 {
		return &usageError{fmt.Errorf("--limit %d: want 0 (all) or more", p.limit)}
	}
	return nil
}

func (p *cursorPick) matches(b httpapi.CursorBody) bool {
	if len(p.states) > 0 && !slices.Contains(p.states, b.State) {
		return false
	}
	if !strings.ContainsAny(p.org, "*?[") {
		return strings.Contains(b.Org, p.org)
	}
	ok, _ := filepath.Match(p.org, b.Org)
	return ok
}

// from picks, sorts and cuts, to the limit and to so many rows.
func (p *cursorPick) from(all []httpapi.CursorBody, rows int) cursorTable {
	var t cursorTable
	t.Data = []httpapi.CursorBody{}
	t.Total.Of = len(all)
	t.Total.States = map[string]int{}
	for _, b := range all {
		if p.matches(b) {
			t.Data = append(t.Data, b)
			t.Total.count(b)
		}
	}
	slices.SortFunc(t.Data, func(x, y httpapi.CursorBody) int {
		worst := 0
		switch p.sort {
		case "lag":
			worst = cmp.Or(cmp.Compare(y.Lag, x.Lag), cmp.Compare(y.AgeSeconds, x.AgeSeconds))
		case "age":
			worst = cmp.Or(cmp.Compare(y.AgeSeconds, x.AgeSeconds), cmp.Compare(y.Lag, x.Lag))
		}
		return cmp.Or(worst, cmp.Compare(x.Org, y.Org))
	})
	if p.limit > 0 {
		rows = min(rows, p.limit)
	}
	t.Data = t.Data[:min(len(t.Data), max(rows, 1))]
	t.left = t.Total.Cursors - len(t.Data)
	return t
}

// cursorTable is what "cursor list" shows, and its JSON.
type cursorTable struct {
	Data       []httpapi.CursorBody `json:"data"`
	NextCursor *string              `json:"next_cursor"` // always null: there are no pages
	Total      cursorTotal          `json:"total"`
	left       int                  // that were picked, and are not in Data
}

// cursorTotal counts the cursors that were picked, also those beyond the limit.
type cursorTotal struct {
	Cursors   int            `json:"cursors"`
	Of        int            `json:"of"` // all organizations
	States    map[string]int `json:"states"`
	Lag       uint64         `json:"lag"`
	OldestAge float64        `json:"oldest_age_seconds"`
	Pending   int64          `json:"pending"`
	Due       int64          `json:"due"`
	Dead      int64          `json:"dead"`
}

func (t *cursorTotal) count(b httpapi.CursorBody) {
	t.Cursors++
	t.States[b.State]++
	t.Lag += b.Lag
	t.OldestAge = max(t.OldestAge, b.AgeSeconds)
	t.Pending += b.Pending
	t.Due += b.Due
	t.Dead += b.Dead
}

func (t *cursorTotal) String() string {
	var b strings.Builder
	if t.Cursors != t.Of {
		fmt.Fprintf(&b, "%d of ", t.Cursors)
	}
	fmt.Fprintf(&b, "%s: ", plural(t.Of, "organization"))
	var states []string
	for _, s := range append(slices.Clone(cursorStates), stateOffline) {
		if n := t.States[s]; n > 0 {
			states = append(states, fmt.Sprintf("%d %s", n, s))
		}
	}
	if len(states) == 0 {
		states = []string{"none such"}
	}
	fmt.Fprintf(&b, "%s; ", strings.Join(states, ", "))
	if t.Lag > 0 {
		fmt.Fprintf(&b, "%d events behind, the oldest for %s; ", t.Lag, span(seconds(t.OldestAge)))
	}
	fmt.Fprintf(&b, "deliveries: %d pending, %d due, %d dead", t.Pending, t.Due, t.Dead)
	return b.String()
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func (a *app) showCursors(out io.Writer, all cursorTable, wide, offline bool) error {
	if a.json {
		if offline {
			return writeJSON(out, all.withoutBroker())
		}
		return writeJSON(out, all)
	}
	if all.Total.Of == 0 {
		fmt.Fprintln(out, "No organizations yet. Make one: grapnel org add acme")
		return nil
	}
	if len(all.Data) > 0 {
		cursorRows(all.Data, wide, offline).print(out, a.ink())
		fmt.Fprintln(out)
	}
	fmt.Fprintln(out, all.Total.String())
	if all.left > 0 {
		fmt.Fprintf(out, "%s\n", a.ink().faint(fmt.Sprintf("(%d more are not shown)", all.left)))
	}
	return nil
}

// cursorRows has the columns of the contract, section 7, and with wide more.
func cursorRows(all []httpapi.CursorBody, wide, offline bool) *table {
	t := &table{columns: []string{"ORG", "STREAM", ">FIRST", ">LAST", ">CURSOR", ">LAG", ">AGE", ">PENDING", ">DUE", ">DEAD", "STATE"}}
	if wide {
		t.columns = append(t.columns, ">RATE/S", ">ETA", ">GAPS", ">INCARNATION", "UPDATED", ">OLDEST DUE", "WHY")
	}
	for _, b := range all {
		first, last, lag, rate := fmt.Sprint(b.FirstSeq), fmt.Sprint(b.LastSeq), fmt.Sprint(b.Lag), fmt.Sprintf("%.1f", b.Rate1m)
		if b.FirstSeq == 0 { // the broker does not tell
			first = ""
		}
		if offline {
			first, last, lag, rate = "", "", "", ""
		}
		cells := []any{b.Org, b.Stream, first, last, b.Position, lag, cursorAge(b), b.Pending, b.Due, b.Dead, b.State}
		if wide {
			cells = append(cells, rate, cursorETA(b), b.Gaps, b.Incarnation, momentOf(b.UpdatedAt), oldestDue(b), b.Why)
		}
		t.add(cells...)
	}
	return t
}

func cursorAge(b httpapi.CursorBody) string {
	if b.Lag == 0 {
		return ""
	}
	return span(seconds(b.AgeSeconds))
}

// cursorETA is how long the lag takes at the present rate, "" for a cursor that
// stands: its rate is that of a minute ago.
func cursorETA(b httpapi.CursorBody) string {
	left := untilRead(b.Lag, b.Rate1m)
	if left == 0 || slices.Contains([]string{"stream-missing", "unclaimed", "unreachable", "paused"}, b.State) {
		return ""
	}
	return span(left)
}

func oldestDue(b httpapi.CursorBody) string {
	if b.OldestDue == 0 {
		return ""
	}
	return span(seconds(b.OldestDue))
}

// watch calls show every interval until ctx ends, which is how people end it. On a
// terminal each output takes the place of the one before and has as many rows as
// fit; elsewhere an empty line stands between them. A daemon that does not
// answer is said, and asked again.
func (a *app) watch(ctx context.Context, every time.Duration, show func(ctx context.Context, out io.Writer, rows int) error) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	redraw := logging.Terminal(a.out) && !a.json
	for first := true; ; first = false {
		var text strings.Builder
		rows := math.MaxInt
		if redraw {
			rows = terminalRows(a.out)
		}
		err := show(ctx, &text, rows)
		var usage *usageError
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &usage):
			return err
		case err != nil && first:
			return err
		case err != nil:
			fmt.Fprintf(&text, "grapnel: %v\n", err)
		}
		switch {
		case redraw && first:
			a.printf("\x1b[2J")
			fallthrough
		case redraw: // from the top left, each line and then the screen wiped to its end
			a.printf("\x1b[H%s\x1b[J", strings.ReplaceAll(text.String(), "\n", "\x1b[K\n"))
		case first || a.json:
			a.printf("%s", text.String())
		default:
			a.printf("\n%s", text.String())
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// terminalRows is how many rows of a table fit on the screen, beside its head
// and the total.
func terminalRows(out io.Writer) int {
	const others = 5
	f, ok := out.(*os.File)
	if !ok {
		return math.MaxInt
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Row == 0 {
		return math.MaxInt
	}
	return max(int(size.Row)-others, 1)
}
