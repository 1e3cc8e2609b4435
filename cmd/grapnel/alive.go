package main

import "github.com/spf13/cobra"

func (a *app) aliveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "alive",
		Short: "Ask the daemon whether it lives, for a container's health check",
		Long: `Ask the daemon whether it lives: exit status 0 if it does, 1 with the reason if
not or when none runs. It is what /healthz says, and no matter of the broker, of
receivers or of a full disk, which no restart would mend.`,
		Example: `  grapnel alive
  grapnel alive --data /var/lib/grapnel --json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := a.client().Alive(c.Context()); err != nil {
				return err
			}
			return a.show(struct {
				Alive bool `json:"alive"`
			}{true}, func() { a.printf("The daemon lives.\n") })
		},
	}
}
