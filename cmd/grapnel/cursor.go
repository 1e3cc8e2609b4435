package main

import (
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/spf13/cobra"
)

func (a *app) cursorCommand() *cobra.Command {
	return family("cursor", "See how far each stream is fanned out, hold it and move it", `  grapnel cursor list
  grapnel cursor pause acme`,
		a.cursorList(), a.cursorShow(), a.cursorReset(), a.cursorPause(), a.cursorResume(), a.cursorGaps(), a.cursorCheck(), a.cursorVerify(),
		a.cursorExport(), a.cursorImport(), a.cursorClaim())
}

func (a *app) cursorGaps() *cobra.Command {
	var l listFlags
	var from cursorSource
	c := &cobra.Command{
		Use:   "gaps ORG",
		Short: "List sequences that were never fanned out",
		Long: `List sequences that were never fanned out, the newest first: "lost" ones were gone
from the stream before the cursor came, "skipped" ones the cursor was moved over.`,
		Example: `  grapnel cursor gaps acme
  grapnel cursor gaps acme --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			all, err := from.gaps(c.Context(), a, args[0], l)
			if err != nil {
				return err
			}
			t := gapTable()
			return list(a, all, t, func(g httpapi.GapBody) { gapRow(t, g) }, "No gaps: every sequence was fanned out.")
		},
	}
	l.define(c)
	from.define(c.Flags())
	return c
}

func gapTable() *table {
	return &table{columns: []string{">FROM", ">TO", ">COUNT", ">INCARNATION", "REASON", "NOTICED"}}
}

func gapRow(t *table, g httpapi.GapBody) {
	t.add(g.From, g.To, g.Count, g.Incarnation, g.Reason, moment(g.At))
}
