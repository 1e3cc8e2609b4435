package main

import (
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// resetFlags are those of "cursor reset".
type resetFlags struct {
	body     httpapi.CursorResetBody
	seq, pos uint64
	shift    int64
	at       string
	ago      time.Duration
	file     string // --from-file
	export   string // --export
}

// places are the flags that say where to, of which one is needed.
var places = []string{"to-seq", "to-time", "by-duration", "shift-by", "to-earliest", "to-latest", "from-file"}

func (a *app) cursorReset() *cobra.Command {
	var r resetFlags
	c := &cobra.Command{
		Use:   "reset ORG",
		Short: "Move an organization's cursor, or see what that would do",
		Long: `Move an organization's cursor. Without --execute only the plan is shown; --export
writes what happens to each delivery into a file as well.

Moved back, the stream is read again from there, with the subscriptions as they
were: deliveries that exist are left alone, missing ones are made. Nothing is
sent twice. Moved on over events that were never read, these are skipped and
recorded; moving back over them makes up for it.

--execute needs --reason, and --expect-position with where the plan found the
cursor: if it has moved since, nothing happens. It may be said twice: a cursor that
is there already stays there.`,
		Example: `  grapnel cursor reset acme --by-duration 2h --export plan.csv
  grapnel cursor reset acme --to-seq 40 --execute --expect-position 42 --reason 'read what was gated'`,
		Args: cobra.ExactArgs(1),
	}
	f := c.Flags()
	r.define(f)
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := r.check(f, args[0]); err != nil {
			return err
		}
		p, err := a.client().ResetCursor(c.Context(), args[0], r.body)
		if err != nil {
			return err
		}
		rows := len(p.Rows)
		if r.export != "" {
			if err := writePlan(r.export, p.Rows); err != nil {
				return err
			}
			p.Rows = nil
		}
		return a.show(p, func() {
			a.printMove(p)
			if r.export != "" {
				a.printf("%s: %s\n", r.export, plural(rows, "row"))
				if rows == httpapi.MaxPlanRows {
					a.printf("There are more: the file ends with the first %d.\n", rows)
				}
			}
		})
	}
	return c
}

func (r *resetFlags) define(f *pflag.FlagSet) {
	f.Uint64Var(&r.seq, "to-seq", 0, "to the sequence `N`: the next one is read next")
	f.StringVar(&r.at, "to-time", "", "to before the first event stored at that `TIME` (RFC 3339) or later")
	f.DurationVar(&r.ago, "by-duration", 0, "to before the first event stored so long ago or later, such as 2h")
	f.Int64Var(&r.shift, "shift-by", 0, "on by `N` sequences, or with -N back")
	f.BoolVar(&r.body.ToEarliest, "to-earliest", false, "to before the first event of the stream")
	f.BoolVar(&r.body.ToLatest, "to-latest", false, "to the last event of the stream")
	f.StringVar(&r.file, "from-file", "", "to where it is in a `file` of \"grapnel cursor export\", if the stream is the same")
	f.StringVar(&r.export, "export", "", "write what happens to each delivery into this `file`, as CSV")
	f.BoolVar(&r.body.Execute, "execute", false, "move it; without, only the plan is shown")
	f.StringVar(&r.body.Reason, "reason", "", "why, for the audit; needed with --execute")
	f.Uint64Var(&r.pos, "expect-position", 0, "move it only if it is at `N`; needed with --execute")
	f.BoolVar(&r.body.AllowSkip, "allow-skip", false, "events that were never read may be skipped")
}

// check makes the request of the flags.
func (r *resetFlags) check(f *pflag.FlagSet, org string) error {
	said := 0
	for _, name := range places {
		if f.Changed(name) {
			said++
		}
	}
	if said != 1 {
		return &usageError{errors.New("say where to, by one of --to-seq, --to-time, --by-duration, --shift-by, --to-earliest, --to-latest and --from-file")}
	}
	b := &r.body
	b.Rows = r.export != ""
	if f.Changed("to-seq") {
		b.ToSeq = &r.seq
	}
	if f.Changed("shift-by") {
		if r.shift == 0 {
			return &usageError{errors.New("--shift-by 0: want how many sequences on, or with - back")}
		}
		b.ShiftBy = &r.shift
	}
	if f.Changed("to-time") {
		t, err := time.Parse(time.RFC3339, r.at)
		if err != nil {
			return &usageError{fmt.Errorf("--to-time %q: want an RFC 3339 time, such as 2026-11-21T10:00:00Z", r.at)}
		}
		b.ToTime = &t
	}
	if f.Changed("by-duration") {
		if r.ago < 0 {
			return &usageError{fmt.Errorf("--by-duration %v: want how long ago", r.ago)}
		}
		b.ByDuration = (*httpapi.Duration)(&r.ago)
	}
	if f.Changed("expect-position") {
		b.ExpectPosition = &r.pos
	}
	if b.Execute && (b.Reason == "" || b.ExpectPosition == nil) {
		return &usageError{errors.New("--execute needs --reason, and --expect-position with where the cursor is")}
	}
	if f.Changed("from-file") {
		all, err := readMarks(r.file)
		if err != nil {
			return err
		}
		m, ok := all.of(org)
		if !ok {
			return fmt.Errorf("%s has no cursor of %s", r.file, org)
		}
		b.ToMark = m.mark()
	}
	return nil
}

// writePlan writes what happens to each delivery. The file is the caller's alone:
// it says what a tenant's events were called.
func writePlan(name string, rows []httpapi.CursorPlanRowBody) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write the plan: %w", err)
	}
	w := csv.NewWriter(f)
	w.Write([]string{"seq", "event", "type", "endpoint", "fate"}) // an error stays until Flush
	for _, r := range rows {
		w.Write([]string{strconv.FormatUint(r.Seq, 10), r.EventID, r.Type, r.EndpointID, r.Fate})
	}
	w.Flush()
	if err := cmp.Or(w.Error(), f.Close()); err != nil {
		return fmt.Errorf("write the plan: %w", err)
	}
	return nil
}

func (a *app) printMove(p httpapi.CursorPlanBody) {
	if p.Already {
		a.printf("The cursor of %s is at %d already: nothing was done.\n", p.Org, p.From)
		return
	}
	var f facts
	f.add("org", p.Org)
	f.add("from", p.From)
	f.add("to", p.To)
	f.add("events read again", p.EventsAgain)
	f.add("deliveries that exist", p.DeliveriesExisting)
	f.add("new deliveries", p.DeliveriesNew)
	f.add("events forgotten", p.EventsForgotten)
	f.add("events skipped", p.EventsSkipped)
	if !p.Complete {
		f.add("counted up to", p.CountedThrough)
	}
	f.print(a.out, a.ink())
	switch {
	case p.Executed:
		a.printf("\nThe cursor of %s was moved.\n", p.Org)
	case p.EventsSkipped > 0:
		a.printf("\nNothing was moved. To do it, add: --execute --expect-position %d --allow-skip --reason '…'\n", p.From)
	default:
		a.printf("\nNothing was moved. To do it, add: --execute --expect-position %d --reason '…'\n", p.From)
	}
}
