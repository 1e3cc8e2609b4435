package main

import (
	"context"
	"fmt"

	"github.com/grapnel-hooks/grapnel/cmd/internal/client"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/spf13/cobra"
)

func (a *app) eventExplain() *cobra.Command {
	var l listFlags
	c := &cobra.Command{
		Use:   "explain ORG EVENT",
		Short: "Say for each endpoint why it did or did not get an event",
		Long: `Say for each endpoint of the organization why it did or did not get an event,
given by its id or its sequence. A sequence without an event, rejected or in a
gap, has a reason, too.`,
		Example: `  grapnel event explain acme evt_0NKMVFQM7Z3XEJ2MXWP06B89Q0
  grapnel event explain acme 17`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			var x httpapi.ExplainBody
			all, err := collect(c.Context(), l, func(ctx context.Context, p client.Page) (httpapi.List[httpapi.ExplainedBody], error) {
				var err error
				x, err = a.client().Explain(ctx, args[0], args[1], p)
				return httpapi.List[httpapi.ExplainedBody]{Data: x.Data, NextCursor: x.NextCursor}, err
			})
			if err != nil {
				return err
			}
			x.Data, x.NextCursor = all.Data, all.NextCursor
			return a.show(x, func() { a.explained(args[0], &x) })
		},
	}
	l.define(c)
	return c
}

// explained prints an explanation for people.
func (a *app) explained(org string, x *httpapi.ExplainBody) {
	var f facts
	if f.add("seq", x.Seq); x.EventID != nil {
		f.add("event", *x.EventID)
	}
	f.add("type", x.Type)
	f.add("stored", momentOf(x.StoredAt))
	f.print(a.out, a.ink())
	if len(x.Data) == 0 {
		a.printf("\n%s has no endpoints. Make one: grapnel endpoint add %s https://…\n", org, org)
		return
	}
	t := &table{columns: []string{"ENDPOINT", "REASON", "DETAIL"}}
	for _, e := range x.Data {
		t.add(e.EndpointID, e.Reason, e.Detail)
	}
	a.printf("\n")
	t.print(a.out, a.ink())
	if x.NextCursor != nil {
		fmt.Fprintf(a.err, "There are more: use a larger --limit, or --cursor %s\n", *x.NextCursor)
	}
}

func (a *app) endpointStats() *cobra.Command {
	return &cobra.Command{
		Use:   "stats ORG ENDPOINT",
		Short: "Show how an endpoint fares: what waits, success rate and latency",
		Example: `  grapnel endpoint stats acme ep_01KB2Q3X8V9W0Y1Z2A3B4C5D6E
  grapnel endpoint stats acme ep_01KB2Q3X8V9W0Y1Z2A3B4C5D6E --json`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			st, err := a.client().EndpointStats(c.Context(), args[0], args[1])
			if err != nil {
				return err
			}
			return a.show(st, func() {
				var f facts
				f.add("pending", st.Pending)
				f.add("dead", st.Dead)
				f.add("health", st.Health)
				f.add("failing since", momentOf(st.FailingSince))
				f.print(a.out, a.ink())
				t := &table{columns: []string{"LAST", ">ATTEMPTS", ">FAILED", ">SUCCESS", ">P50", ">P99"}}
				for _, w := range []struct {
					name string
					httpapi.WindowBody
				}{{"hour", st.LastHour}, {"day", st.LastDay}} {
					t.add(w.name, w.Attempts, w.Failed, percent(w.SuccessRate), latency(w.P50MS), latency(w.P99MS))
				}
				a.printf("\n")
				t.print(a.out, a.ink())
			})
		},
	}
}

func percent(rate *float64) string {
	if rate == nil {
		return ""
	}
	return fmt.Sprintf("%.1f %%", 100**rate)
}

func latency(ms *float64) string {
	if ms == nil {
		return ""
	}
	return fmt.Sprintf("%.4g ms", *ms)
}
