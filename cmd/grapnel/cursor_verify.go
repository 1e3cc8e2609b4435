package main

import (
	"errors"
	"fmt"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/spf13/cobra"
)

// verified is the JSON of "cursor verify".
type verified struct {
	httpapi.BooksBody
	Repair *httpapi.CursorPlanBody `json:"repair,omitempty"` // how the cursor was moved
}

func (a *app) cursorVerify() *cobra.Command {
	var repair bool
	c := &cobra.Command{
		Use:   "verify ORG",
		Short: "Read an organization's stream again and list deliveries that are missing",
		Long: `Read an organization's stream again and list deliveries that are missing, as
"grapnel fsck" does. With --repair the cursor is moved back to before the first of
them, and the daemon makes them as it reads the stream again; what exists is left
alone. The exit status is 1 if something is wrong that is not being repaired.`,
		Example: `  grapnel cursor verify acme
  grapnel cursor verify acme --repair`,
		Args: cobra.ExactArgs(1),
	}
	c.Flags().BoolVar(&repair, "repair", false, "make what is missing")
	c.RunE = func(c *cobra.Command, args []string) error {
		api, ctx := a.client(), c.Context()
		f, err := api.Fsck(ctx, args[0])
		if err != nil {
			return err
		}
		if len(f.Orgs) != 1 {
			return errors.New("the daemon did not say what it found")
		}
		v := verified{BooksBody: f.Orgs[0]}
		if repair && v.Missing > 0 {
			plan, err := a.makeMissing(ctx, v.BooksBody, "")
			if err != nil {
				return fmt.Errorf("repair: %w", err)
			}
			v.Repair = &plan
		}
		if err := a.show(v, func() { a.printVerified(v, f) }); err != nil {
			return err
		}
		if left := v.Wrong > v.Missing || len(v.Problems) > 0 && v.Missing == 0; left || v.Missing > 0 && v.Repair == nil {
			return errReported
		}
		return nil
	}
	return c
}

func (a *app) printVerified(v verified, f httpapi.FsckBody) {
	printBooks(a.out, a.ink(), f)
	switch {
	case v.Repair != nil:
		a.printf("The cursor was moved back from %d to %d: missing deliveries are made as the stream is read again.\n", v.Repair.From, v.Repair.To)
	case v.Missing > 0:
		a.printf("Missing deliveries: %d. To make them: grapnel cursor verify %s --repair\n", v.Missing, v.Org)
	}
}
