package main

import (
	"fmt"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/spf13/cobra"
)

func (a *app) endpointTryFilter() *cobra.Command {
	var in httpapi.FilterDryRun
	c := &cobra.Command{
		Use:   "try-filter ORG FILTER",
		Short: "Try a content filter on the newest events: how many match, and why the others do not",
		Long: `Try a content filter on the newest events of the organization's stream: how many
an endpoint with it would get, and why it would not get the others. Nothing is
saved. FILTER can be @file or -, for standard input. docs/filters.md describes
the language.`,
		Example: `  grapnel endpoint try-filter acme 'data.amount >= 1000'
  grapnel endpoint try-filter acme 'data.currency in ["EUR", "CHF"]' --type 'invoice.*' --last 500`,
		Args: cobra.ExactArgs(2),
	}
	f := c.Flags()
	f.StringArrayVar(&in.EventTypes, "type", nil, "event `type` of the endpoint: exact, a prefix such as 'invoice.*', or '*' (repeatable; default '*')")
	f.StringVar(&in.WorkspaceID, "workspace", "", "of the endpoint; '' for an org-wide one")
	f.IntVar(&in.Last, "last", httpapi.DefaultTrial, "how many of the newest events: 1 to 1000")
	c.RunE = func(c *cobra.Command, args []string) (err error) {
		if in.Filter, err = a.value(args[1]); err != nil {
			return err
		}
		tried, err := a.client().TryFilter(c.Context(), args[0], in)
		if err != nil {
			return err
		}
		return a.show(tried, func() { a.tried(&tried) })
	}
	return c
}

// tried prints what came of a trial, for people.
func (a *app) tried(t *httpapi.FilterDryRunBody) {
	a.printf("%d of %d events match.\n", t.Matched, t.Events)
	if t.Unjudged > 0 {
		a.printf("%d of them take more work than a filter may do, and pass.\n", t.Unjudged)
	}
	if !t.Complete {
		fmt.Fprintln(a.err, "There are more events: they are too large to be looked at at once.")
	}
	if len(t.Reasons) == 0 {
		return
	}
	reasons := &table{columns: []string{">EVENTS", "REASON", "DETAIL"}}
	for _, r := range t.Reasons {
		reasons.add(r.Events, r.Reason, r.Detail)
	}
	a.printf("\n")
	reasons.print(a.out, a.ink())
	samples := &table{columns: []string{"EVENT", ">SEQ", "TYPE", "DETAIL"}}
	for _, s := range t.Samples {
		samples.add(s.EventID, s.Seq, s.Type, s.Detail)
	}
	a.printf("\n")
	samples.print(a.out, a.ink())
}
