package main

import (
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
