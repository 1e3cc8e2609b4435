package main

import (
	"fmt"
	"strings"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/spf13/cobra"
)

func (a *app) cursorShow() *cobra.Command {
	var from cursorSource
	c := &cobra.Command{
		Use:   "show ORG",
		Short: "Show an organization's cursor: why it stands where it does, who has the most to do, who moved it",
		Long: `Show an organization's cursor: its state and why it is in it, since when, and what
ends it; how it recognises its stream; the endpoints that have the most to do; the
latest moves by hand; gaps and rejected messages.`,
		Example: `  grapnel cursor show acme
  grapnel cursor show acme --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			d, err := from.cursor(c.Context(), a, args[0])
			if err != nil {
				return err
			}
			if a.json && from.offline() {
				return writeJSON(a.out, d.withoutBroker())
			}
			return a.show(d, func() { a.printCursor(d, from.offline()) })
		},
	}
	from.define(c.Flags())
	return c
}

func (a *app) printCursor(d cursorDetail, offline bool) {
	b := d.CursorBody
	var f facts
	f.add("org", b.Org)
	f.add("state", b.State)
	f.add("why", b.Why)
	f.add("since", momentOf(b.Since))
	if b.LastError != "" && b.State != "unclaimed" && !strings.Contains(b.Why, b.LastError) { // else it says the same
		f.add("last error", b.LastError)
	}
	f.add("stream", b.Stream)
	f.add("stream made", momentOf(b.StreamCreated))
	f.add("incarnation", b.Incarnation)
	if !offline {
		if b.FirstSeq > 0 { // else the broker has not said it
			f.add("first", b.FirstSeq)
		}
		f.add("last", b.LastSeq)
	}
	f.add("cursor", b.Position)
	f.add("moved", momentOf(b.UpdatedAt))
	f.add("fingerprint", fingerprint(b, offline))
	if !offline {
		f.add("lag", b.Lag)
		f.add("age", cursorAge(b))
		f.add("events/s", fmt.Sprintf("%.1f, %.1f, %.1f (1 m, 5 m, 1 h)", b.Rate1m, b.Rate5m, b.Rate1h))
		f.add("lag gone in", cursorETA(b))
	}
	due := fmt.Sprintf("%d, %d of them due", b.Pending, b.Due)
	if b.OldestDue > 0 {
		due += ", the oldest for " + span(seconds(b.OldestDue))
	}
	f.add("pending", due)
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
	if len(b.Moves) > 0 {
		a.printf("\nMoved by hand:\n")
		t := &table{columns: []string{"WHEN", "BY", ">FROM", ">TO", "SKIPPED", "REASON"}}
		for _, m := range b.Moves {
			t.add(moment(m.At), m.By, m.From, m.To, m.Skipped, m.Reason)
		}
		t.print(a.out, a.ink())
	}
	if len(b.Incarnations) > 0 {
		a.printf("\nStreams found in place of the one that was read:\n")
		t := &table{columns: []string{"WHEN", ">INCARNATION", "CHANGE", "CREATED", ">READ TO", ">GOES ON AFTER"}}
		for _, i := range b.Incarnations {
			t.add(moment(i.At), i.Incarnation, i.Change, moment(i.StreamCreated), i.ReadBefore, i.ReadAfter)
		}
		t.print(a.out, a.ink())
	}
	if len(d.GapList) > 0 {
		a.printf("\nSequences that were never fanned out:\n")
		t := gapTable()
		for _, g := range d.GapList {
			gapRow(t, g)
		}
		t.print(a.out, a.ink())
	}
	if len(d.RejectedList) > 0 {
		a.printf("\nMessages that were no events:\n")
		t := &table{columns: []string{">SEQ", "STORED", "SUBJECT", "REASON"}}
		for _, r := range d.RejectedList {
			t.add(r.Seq, moment(r.StoredAt), r.Subject, r.Code+": "+r.Detail)
		}
		t.print(a.out, a.ink())
	}
	if d.more {
		a.printf("%s\n", a.ink().faint(fmt.Sprintf("(the newest %d of each)", newest)))
	}
}

// fingerprint says by what the cursor recognises its stream, and when it did last. The
// message was found as it is, too, when the cursor came to it.
func fingerprint(b httpapi.CursorBody, offline bool) string {
	if b.PositionAt == nil {
		return ""
	}
	text := fmt.Sprintf("message %d was stored %s", b.Position, b.PositionAt.UTC().Format("2006-01-02T15:04:05.000000000Z"))
	if b.PositionHash != "" {
		text += ", hash " + b.PositionHash
	}
	switch {
	case offline:
		return text
	case b.VerifiedAt == nil:
		return text + "; not compared since the daemon's start"
	}
	found := *b.VerifiedAt
	if b.UpdatedAt != nil && b.UpdatedAt.After(found) {
		found = *b.UpdatedAt
	}
	return text + "; found so " + moment(found)
}
