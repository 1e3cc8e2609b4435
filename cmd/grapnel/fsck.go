package main

import (
	"fmt"
	"io"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/spf13/cobra"
)

func (a *app) fsckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "fsck [ORG]",
		Short: "Read the streams again and prove the books",
		Long: `Read the stream of an organization, or of all, again and prove the books: every
sequence up to the cursor is, for every endpoint, exactly one of delivered,
pending, dead, cancelled, not subscribed, rejected, gated or in a recorded gap.
What is missing is printed, and the exit status is 1 if anything is.`,
		Example: `  grapnel fsck
  grapnel fsck acme --json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			org := ""
			if len(args) == 1 {
				org = args[0]
			}
			f, err := a.client().Fsck(c.Context(), org)
			if err != nil {
				return err
			}
			if err := a.show(f, func() { printBooks(a.out, a.ink(), f) }); err != nil {
				return err
			}
			if !f.Proven {
				return errReported
			}
			return nil
		},
	}
}

// printBooks shows what fsck found.
func printBooks(w io.Writer, i ink, f httpapi.FsckBody) {
	if len(f.Orgs) == 0 {
		fmt.Fprintf(w, "No organizations, so there is nothing to prove.\n")
		return
	}
	t := &table{columns: []string{"ORG", ">EVENTS", ">DELIVERED", ">PENDING", ">DEAD", ">CANCELLED", ">REJECTED", ">GATED", ">IN GAPS", "STATE"}}
	for _, b := range f.Orgs {
		state := "proven"
		if !b.Proven {
			state = fmt.Sprintf("WRONG (%d)", max(b.Wrong, int64(len(b.Problems))))
		}
		t.add(b.Org, b.Events, b.Delivered, b.Pending, b.Dead, b.Cancelled, b.Rejected, b.Gated, b.InGaps, state)
	}
	t.print(w, i)
	for _, b := range f.Orgs {
		for _, p := range b.Problems {
			fmt.Fprintf(w, "%s %s\n", i.red(b.Org+":"), p)
		}
		if n := b.Wrong - int64(len(b.Problems)); n > 0 {
			fmt.Fprintf(w, "%s and %d more\n", i.red(b.Org+":"), n)
		}
	}
}
