package main

import (
	"errors"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/spf13/cobra"
)

func (a *app) cursorClaim() *cobra.Command {
	var b httpapi.CursorClaimBody
	c := &cobra.Command{
		Use:   "claim ORG",
		Short: "Take a stream over that another database has read",
		Long: `Take a stream over that another database has read.

Each stream is marked with the database that reads it. A database that meets the
mark of another one reads nothing (state "unclaimed"), since it cannot know what
was sent already. If the other database is lost, restore its backup: that keeps
the cursors. If there is none, or the stream is to move here, claim it:

  --from beginning   sends all events that the stream still has, also those that
                     were sent before (receivers know them by their webhook-id)
  --from end         sends none of those that are there already
  --from N           sends those after the sequence N
  --from position    goes on where this database was; it has read the stream before

The other database, if it still runs, reads the stream no longer then.`,
		Example: `  grapnel cursor claim acme --from end --reason 'the old database is lost'
  grapnel cursor claim acme --from position --reason 'the other daemon was a mistake'`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if b.From == "" || b.Reason == "" {
				return &usageError{errors.New("say where to begin by --from, and why by --reason")}
			}
			done, err := a.client().ClaimCursor(c.Context(), args[0], b)
			if err != nil {
				return err
			}
			return a.show(done, func() {
				if !done.Claimed {
					a.printf("The stream of %s is this database's already; nothing was changed.\n", done.Org)
					return
				}
				a.printf("The stream of %s is this database's now. Its cursor goes on after %d.\n", done.Org, done.Position)
			})
		},
	}
	f := c.Flags()
	f.StringVar(&b.From, "from", "", "where to begin: beginning, end, position or a `SEQUENCE`")
	f.StringVar(&b.Reason, "reason", "", "why, for the audit")
	return c
}
