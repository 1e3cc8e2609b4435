package main

import (
	"fmt"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/spf13/cobra"
)

func (a *app) logLevelCommand() *cobra.Command {
	var atMost time.Duration
	c := &cobra.Command{
		Use:   "log-level [debug|info|warn|error|configured]",
		Short: "Show or change what the daemon logs, while it runs",
		Long: `Show what the daemon logs, or change it while it runs: for a while (--for), or
until it is changed again or the daemon ends. "configured" goes back to what the
configuration says. The signal SIGUSR1 changes between debug and that.

A change is written to the audit.`,
		Example: `  grapnel log-level debug --for 10m
  grapnel log-level configured`,
		Args:      cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"debug", "info", "warn", "error", "configured"},
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				if c.Flags().Changed("for") {
					return &usageError{fmt.Errorf("--for is for a level: say which")}
				}
				l, err := a.client().LogLevel(c.Context())
				if err != nil {
					return err
				}
				return a.show(l, func() { a.printLogLevel(l) })
			}
			change := httpapi.LogLevelChange{Level: args[0]}
			if c.Flags().Changed("for") {
				change.For = (*httpapi.Duration)(&atMost)
			}
			l, err := a.client().SetLogLevel(c.Context(), change)
			if err != nil {
				return err
			}
			return a.show(l, func() { a.printLogLevel(l) })
		},
	}
	c.Flags().DurationVar(&atMost, "for", 0, "how long, at most 168h; then it is as configured again")
	return c
}

func (a *app) printLogLevel(l httpapi.LogLevelBody) {
	switch {
	case l.Until != nil:
		a.printf("%s until %s, then %s as configured\n", l.Level, moment(*l.Until), l.Configured)
	case l.Level != l.Configured:
		a.printf("%s until it is changed again or the daemon ends; %s is configured\n", l.Level, l.Configured)
	default:
		a.printf("%s, as configured\n", l.Level)
	}
}
