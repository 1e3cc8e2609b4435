package main

import (
	"errors"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/spf13/cobra"
)

func (a *app) eventExpunge() *cobra.Command {
	var in httpapi.ExpungeBody
	c := &cobra.Command{
		Use:   "expunge ORG EVENT",
		Short: "Take an event's content out of database and stream for ever",
		Long: `Take the content of an event, by its id or its sequence, out for ever: its payload,
what receivers answered, the copy of a rejected message, and the message in the
stream. What is pending of it is cancelled, and it is never sent again. That there
was an event, and what became of its deliveries, stays, so that the books are proven.

Without --execute it only says what would be taken out. It says what remains where.`,
		Example: `  grapnel event expunge acme evt_0NKMVFQM7Z3XEJ2MXWP06B89Q0
  grapnel event expunge acme 17 --execute --reason 'case 4711'`,
		Args: cobra.ExactArgs(2),
	}
	c.Flags().BoolVar(&in.Execute, "execute", false, "do it; it cannot be undone")
	c.Flags().StringVar(&in.Reason, "reason", "", "why, for the audit (`text`); name nobody")
	c.RunE = func(c *cobra.Command, args []string) error {
		if in.Execute && in.Reason == "" {
			return &usageError{errors.New("--execute wants a --reason, for the audit")}
		}
		x, err := a.client().ExpungeEvent(c.Context(), args[0], args[1], in)
		if err != nil {
			return err
		}
		if err := a.show(x, func() { a.printExpunged(x, args[0], args[1]) }); err != nil {
			return err
		}
		if x.Executed && (x.Message == httpapi.MessageUnknown || x.Message == httpapi.MessageDenied) {
			return errReported
		}
		return nil
	}
	return c
}

// messages says in words what became of the message.
var messages = map[string]string{
	httpapi.MessageErased:  "erased: overwritten and taken out",
	httpapi.MessageThere:   "there; it would be erased",
	httpapi.MessageGone:    "not there any more",
	httpapi.MessageDenied:  "STILL THERE: the stream denies deletes, which cannot be taken back",
	httpapi.MessageUnknown: "unknown: the broker did not answer; do it again",
}

// logs says in words what the database's log still has.
var logs = map[string]string{
	httpapi.LogFolded:     "emptied",
	httpapi.LogKeeps:      "not emptied: somebody reads or copies it; what was deleted goes with a later checkpoint",
	httpapi.LogNotTouched: "not touched",
}

func (a *app) printExpunged(x httpapi.ExpungedBody, org, event string) {
	var f facts
	if x.EventID != nil {
		f.add("event", *x.EventID)
	}
	f.add("seq", x.Seq)
	f.add("payloads", x.Payloads)
	f.add("answers", x.Answers)
	f.add("rejected", x.Rejected)
	f.add("cancelled", x.Cancelled)
	f.add("in the stream", messages[x.Message])
	if x.Until != nil {
		f.add("until", moment(*x.Until))
	}
	f.add("database's log", logs[x.Log])
	f.print(a.out, a.ink())
	if x.Before {
		a.printf("\nIt was expunged before.\n")
	}
	a.printf("\nOut of reach, if there are any:\n")
	for _, r := range x.Remains {
		a.printf("  %s\n", r)
	}
	if !x.Executed {
		a.printf("\nNothing is changed. To do it: grapnel event expunge %s %s --execute --reason …\n", org, event)
	}
}
