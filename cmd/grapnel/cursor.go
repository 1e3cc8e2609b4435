package main

import (
	"context"
	"fmt"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/client"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/spf13/cobra"
)

func (a *app) cursorCommand() *cobra.Command {
	return family("cursor", "See how far each stream is fanned out, hold it and move it", `  grapnel cursor list
  grapnel cursor pause acme`,
		a.cursorList(), a.cursorShow(), a.cursorReset(), a.cursorPause(), a.cursorResume(), a.cursorGaps(), a.cursorCheck(), a.cursorVerify())
}

func (a *app) cursorList() *cobra.Command {
	var l listFlags
	c := &cobra.Command{
		Use:   "list",
		Short: "List the cursors of all organizations",
		Long: `List the cursors of all organizations.

FIRST and LAST are the stream's first and last sequence, CURSOR is the last one
that was fanned out. LAG is how many events it is behind, AGE how long ago the
oldest of them was appended. PENDING, DUE and DEAD count deliveries.`,
		Example: `  grapnel cursor list
  grapnel cursor list --json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			all, err := collect(c.Context(), l, a.client().Cursors)
			if err != nil {
				return err
			}
			t := cursorTable()
			return list(a, all, t, func(b httpapi.CursorBody) { cursorRow(t, b) },
				"No organizations yet. Make one: grapnel org add acme")
		},
	}
	l.define(c)
	return c
}

// cursorTable has the columns of the contract, section 7.
func cursorTable() *table {
	return &table{columns: []string{"ORG", "STREAM", ">FIRST", ">LAST", ">CURSOR", ">LAG", ">AGE", ">PENDING", ">DUE", ">DEAD", "STATE"}}
}

func cursorRow(t *table, b httpapi.CursorBody) {
	t.add(b.Org, b.Stream, b.FirstSeq, b.LastSeq, b.Position, b.Lag, cursorAge(b), b.Pending, b.Due, b.Dead, b.State)
}

func cursorAge(b httpapi.CursorBody) string {
	if b.Lag == 0 {
		return ""
	}
	return span(time.Duration(b.AgeSeconds * float64(time.Second)))
}

// cursorDetail is the JSON of "cursor show".
type cursorDetail struct {
	httpapi.CursorBody
	GapList      []httpapi.GapBody      `json:"gap_list"`
	RejectedList []httpapi.RejectedBody `json:"rejected_list"`
}

func (a *app) cursorShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show ORG",
		Short: "Show an organization's cursor: its rate, who has the most to do, gaps and rejected events",
		Example: `  grapnel cursor show acme
  grapnel cursor show acme --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			const newest = 10
			api, ctx := a.client(), c.Context()
			b, err := api.Cursor(ctx, args[0])
			if err != nil {
				return err
			}
			gaps, err := api.Gaps(ctx, args[0], client.Page{Limit: newest})
			if err != nil {
				return err
			}
			rejected, err := api.Rejected(ctx, args[0], client.Page{Limit: newest})
			if err != nil {
				return err
			}
			return a.show(cursorDetail{b, gaps.Data, rejected.Data}, func() { a.printCursor(b, gaps, rejected) })
		},
	}
}

func (a *app) cursorGaps() *cobra.Command {
	var l listFlags
	c := &cobra.Command{
		Use:   "gaps ORG",
		Short: "List sequences that were never fanned out",
		Long: `List sequences that were never fanned out, the newest first: "lost" ones were gone
from the stream before the cursor came, "skipped" ones the cursor was moved over.`,
		Example: `  grapnel cursor gaps acme
  grapnel cursor gaps acme --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api := a.client()
			all, err := collect(c.Context(), l, func(ctx context.Context, p client.Page) (httpapi.List[httpapi.GapBody], error) {
				return api.Gaps(ctx, args[0], p)
			})
			if err != nil {
				return err
			}
			t := gapTable()
			return list(a, all, t, func(g httpapi.GapBody) { gapRow(t, g) }, "No gaps: every sequence was fanned out.")
		},
	}
	l.define(c)
	return c
}

func gapTable() *table {
	return &table{columns: []string{">FROM", ">TO", ">COUNT", ">INCARNATION", "REASON", "NOTICED"}}
}

func gapRow(t *table, g httpapi.GapBody) {
	t.add(g.From, g.To, g.Count, g.Incarnation, g.Reason, moment(g.At))
}

func (a *app) printCursor(b httpapi.CursorBody, gaps httpapi.List[httpapi.GapBody], rejected httpapi.List[httpapi.RejectedBody]) {
	var f facts
	f.add("org", b.Org)
	f.add("state", b.State)
	f.add("stream", b.Stream)
	f.add("stream made", momentOf(b.StreamCreated))
	f.add("incarnation", b.Incarnation)
	f.add("first", b.FirstSeq)
	f.add("last", b.LastSeq)
	f.add("cursor", b.Position)
	f.add("moved", momentOf(b.UpdatedAt))
	f.add("lag", b.Lag)
	f.add("age", cursorAge(b))
	f.add("events/s", fmt.Sprintf("%.1f, %.1f, %.1f (1 m, 5 m, 1 h)", b.Rate1m, b.Rate5m, b.Rate1h))
	f.add("pending", fmt.Sprintf("%d, %d of them due", b.Pending, b.Due))
	f.add("dead", b.Dead)
	f.add("rejected", b.Rejected)
	f.add("gaps", b.Gaps)
	f.print(a.out, a.ink())
	if len(b.Endpoints) > 0 {
		a.printf("\nEndpoints with the most to do:\n")
		t := &table{columns: []string{"ENDPOINT", ">PENDING", ">DEAD"}}
		for _, e := range b.Endpoints {
			t.add(e.EndpointID, e.Pending, e.Dead)
		}
		t.print(a.out, a.ink())
	}
	if len(gaps.Data) > 0 {
		a.printf("\nSequences that were never fanned out:\n")
		t := gapTable()
		for _, g := range gaps.Data {
			gapRow(t, g)
		}
		t.print(a.out, a.ink())
	}
	if len(rejected.Data) > 0 {
		a.printf("\nMessages that were no events:\n")
		t := &table{columns: []string{">SEQ", "STORED", "SUBJECT", "REASON"}}
		for _, r := range rejected.Data {
			t.add(r.Seq, moment(r.StoredAt), r.Subject, r.Code+": "+r.Detail)
		}
		t.print(a.out, a.ink())
	}
	if gaps.NextCursor != nil || rejected.NextCursor != nil {
		a.printf("%s\n", a.ink().faint("(the newest 10 of each)"))
	}
}
