package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/spf13/cobra"
)

func (a *app) cursorPause() *cobra.Command {
	var reason, until string
	c := &cobra.Command{
		Use:   "pause ORG",
		Short: "Stop reading an organization's stream",
		Long: `Stop reading an organization's stream, also after a restart of the daemon, until
"grapnel cursor resume", or until the time of --until has come. Events wait in the
stream, as long as that keeps them; deliveries that exist go on being sent. Who
paused it, when and why is shown with the cursor. Pausing a paused cursor gives it
another reason or end, if any is said.`,
		Example: `  grapnel cursor pause acme --reason 'their database is being moved' --until 2h
  grapnel cursor pause acme --json`,
		Args: cobra.ExactArgs(1),
	}
	f := c.Flags()
	f.StringVar(&reason, "reason", "", "why, for the audit and for whoever finds it paused")
	f.StringVar(&until, "until", "", "go on by itself at this `TIME` (RFC 3339), or after so long, such as 2h")
	c.RunE = func(c *cobra.Command, args []string) error {
		p := httpapi.CursorPauseBody{Reason: reason}
		if until != "" {
			end, err := later("until", until, time.Now())
			if err != nil {
				return err
			}
			p.Until = &end
		}
		b, err := a.client().PauseCursor(c.Context(), args[0], p)
		if err != nil {
			return err
		}
		return a.show(b, func() {
			a.printf("The cursor of %s is paused at %d", b.Org, b.Position)
			if b.Pause != nil && b.Pause.Until != nil {
				a.printf(" until %s", moment(*b.Pause.Until))
			}
			a.printf(".\n")
		})
	}
	return c
}

// later reads a time of a flag that is to come: RFC 3339, or how long until then
// (90m, 36h).
func later(flag, s string, now time.Time) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	if d, span := time.ParseDuration(s); err != nil && span == nil {
		t, err = now.Add(d), nil
	}
	if err != nil || !t.After(now) {
		return t, &usageError{fmt.Errorf("--%s %q: want a time to come (RFC 3339), or how long until then, such as 90m", flag, s)}
	}
	return t, nil
}

func (a *app) cursorResume() *cobra.Command {
	return &cobra.Command{
		Use:   "resume ORG",
		Short: "Read an organization's stream again",
		Example: `  grapnel cursor resume acme
  grapnel cursor resume acme --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			b, err := a.client().ResumeCursor(c.Context(), args[0])
			if err != nil {
				return err
			}
			return a.show(b, func() { a.printf("The cursor of %s goes on after %d.\n", b.Org, b.Position) })
		},
	}
}

func (a *app) cursorReset() *cobra.Command {
	var (
		r        httpapi.CursorResetBody
		seq, pos uint64
		at       string
		ago      time.Duration
	)
	c := &cobra.Command{
		Use:   "reset ORG",
		Short: "Move an organization's cursor, or see what that would do",
		Long: `Move an organization's cursor. Without --execute only the plan is shown.

Moved back, the stream is read again from there, with the subscriptions as they
were: deliveries that exist are left alone, missing ones are made. Nothing is
sent twice. Moved on over events that were never read, these are skipped and
recorded; moving back over them makes up for it.`,
		Example: `  grapnel cursor reset acme --by-duration 2h
  grapnel cursor reset acme --to-seq 40 --execute --expect-position 42 --reason 'read what was gated'`,
		Args: cobra.ExactArgs(1),
	}
	f := c.Flags()
	f.Uint64Var(&seq, "to-seq", 0, "to the sequence `N`: the next one is read next")
	f.StringVar(&at, "to-time", "", "to before the first event stored at that `TIME` (RFC 3339) or later")
	f.DurationVar(&ago, "by-duration", 0, "to before the first event stored so long ago or later, such as 2h")
	f.BoolVar(&r.ToEarliest, "to-earliest", false, "to before the first event of the stream")
	f.BoolVar(&r.ToLatest, "to-latest", false, "to the last event of the stream")
	f.BoolVar(&r.Execute, "execute", false, "move it; without, only the plan is shown")
	f.StringVar(&r.Reason, "reason", "", "why, for the audit; needed with --execute")
	f.Uint64Var(&pos, "expect-position", 0, "move it only if it is at `N`; needed with --execute")
	f.BoolVar(&r.AllowSkip, "allow-skip", false, "events that were never read may be skipped")
	c.RunE = func(c *cobra.Command, args []string) error {
		said := 0
		for _, name := range []string{"to-seq", "to-time", "by-duration", "to-earliest", "to-latest"} {
			if f.Changed(name) {
				said++
			}
		}
		if said != 1 {
			return &usageError{errors.New("say where to, by one of --to-seq, --to-time, --by-duration, --to-earliest and --to-latest")}
		}
		if f.Changed("to-seq") {
			r.ToSeq = &seq
		}
		if f.Changed("to-time") {
			t, err := time.Parse(time.RFC3339, at)
			if err != nil {
				return &usageError{fmt.Errorf("--to-time %q: want an RFC 3339 time, such as 2026-11-21T10:00:00Z", at)}
			}
			r.ToTime = &t
		}
		if f.Changed("by-duration") {
			if ago < 0 {
				return &usageError{fmt.Errorf("--by-duration %v: want how long ago", ago)}
			}
			r.ByDuration = (*httpapi.Duration)(&ago)
		}
		if f.Changed("expect-position") {
			r.ExpectPosition = &pos
		}
		if r.Execute && (r.Reason == "" || r.ExpectPosition == nil) {
			return &usageError{errors.New("--execute needs --reason, and --expect-position with where the cursor is")}
		}
		p, err := a.client().ResetCursor(c.Context(), args[0], r)
		if err != nil {
			return err
		}
		return a.show(p, func() { a.printMove(p) })
	}
	return c
}

func (a *app) printMove(p httpapi.CursorPlanBody) {
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
