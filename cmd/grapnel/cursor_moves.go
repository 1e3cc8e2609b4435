package main

import "github.com/spf13/cobra"

func (a *app) cursorPause() *cobra.Command {
	return &cobra.Command{
		Use:   "pause ORG",
		Short: "Stop reading an organization's stream",
		Long: `Stop reading an organization's stream, also after a restart of the daemon, until
"grapnel cursor resume". Events wait in the stream; deliveries that exist go on
being sent. Pausing a paused cursor changes nothing.`,
		Example: `  grapnel cursor pause acme
  grapnel cursor pause acme --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			b, err := a.client().PauseCursor(c.Context(), args[0])
			if err != nil {
				return err
			}
			return a.show(b, func() { a.printf("The cursor of %s is paused at %d.\n", b.Org, b.Position) })
		},
	}
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
