package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/client"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/spf13/cobra"
)

func (a *app) eventCommand() *cobra.Command {
	return family("event", "Append, look at and replay events", `  grapnel event append acme invoice.paid '{"invoice":"in_1"}' --key in_1-paid
  grapnel event list acme --type 'invoice.*'`,
		a.eventAppend(), a.eventList(), a.eventShow(), a.eventExplain(), a.eventReplay(), a.eventExpunge())
}

func (a *app) eventAppend() *cobra.Command {
	var (
		in   httpapi.EventCreate
		when string
	)
	c := &cobra.Command{
		Use:   "append ORG TYPE [DATA|@FILE|-]",
		Short: "Append an event to an organization's stream",
		Long: `Append an event to an organization's stream. Its data is JSON: the argument,
a file (@FILE), standard input (-), or {} when left out.`,
		Example: `  grapnel event append acme invoice.paid '{"invoice":"in_1"}' --key in_1-paid
  grapnel event append clinic patient.admitted @admission.json --workspace berlin`,
		Args: cobra.RangeArgs(2, 3),
	}
	c.Flags().StringVar(&in.DedupeKey, "key", "", "what you call the event; the same `key` twice is one event")
	c.Flags().StringVar(&in.WorkspaceID, "workspace", "", "workspace `id`; without it an organization-level event")
	c.Flags().StringVar(&in.Source, "source", "", "the `service` that it comes from")
	c.Flags().StringVar(&in.SchemaVersion, "schema-version", "", "`version` of the data's schema")
	c.Flags().StringVar(&when, "time", "", "when it happened: an RFC 3339 `time`, or how long ago (default now)")
	c.RunE = func(c *cobra.Command, args []string) error {
		in.Type = args[1]
		data := "{}"
		if len(args) == 3 {
			var err error
			if data, err = a.value(args[2]); err != nil {
				return err
			}
		}
		in.Data = bytes.TrimSpace([]byte(data))
		if !json.Valid(in.Data) {
			return &usageError{errors.New("the data is not JSON: quote it for the shell, such as '{\"n\":1}'")}
		}
		if when != "" {
			t, err := instant("time", when, time.Now())
			if err != nil {
				return err
			}
			in.Time = &t
		}
		done, err := a.client().Append(c.Context(), args[0], in)
		if err != nil {
			return err
		}
		return a.show(done, func() {
			if done.Duplicate {
				a.printf("Event %s was there already, at %d\n", done.ID, done.Seq)
			} else {
				a.printf("Event %s is stored at %d\n", done.ID, done.Seq)
			}
		})
	}
	return c
}

func (a *app) eventList() *cobra.Command {
	var (
		l            listFlags
		q            client.EventQuery
		since, until string
	)
	c := &cobra.Command{
		Use:   "list ORG",
		Short: "List an organization's events, newest first",
		Example: `  grapnel event list acme --type 'invoice.*'
  grapnel event list clinic --workspace berlin --since 2h`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) (err error) {
			if q.Since, q.Until, err = period(since, until); err != nil {
				return err
			}
			all, err := collect(c.Context(), l, func(ctx context.Context, p client.Page) (httpapi.List[httpapi.EventBody], error) {
				q.Page = p
				return a.client().Events(ctx, args[0], q)
			})
			if err != nil {
				return err
			}
			t := &table{columns: []string{">SEQ", "EVENT", "TYPE", "WORKSPACE", "STORED", "KEY"}}
			return list(a, all, t, func(e httpapi.EventBody) {
				t.add(e.Seq, e.ID, e.Type, e.WorkspaceID, moment(e.StoredAt), e.DedupeKey)
			}, fmt.Sprintf(`No such events in %s. Append one: grapnel event append %s invoice.paid '{"invoice":"in_1"}'`, args[0], args[0]))
		},
	}
	l.define(c)
	c.Flags().StringVar(&q.Type, "type", "", "event `type`: exact, a prefix such as 'invoice.*', or '*'")
	c.Flags().StringVar(&q.Workspace, "workspace", "", "workspace `id`")
	periodFlags(c, &since, &until)
	return c
}

func periodFlags(c *cobra.Command, since, until *string) {
	c.Flags().StringVar(since, "since", "", "stored at or after: an RFC 3339 `time`, or how long ago (2h)")
	c.Flags().StringVar(until, "until", "", "stored before: an RFC 3339 `time`, or how long ago")
}

func period(since, until string) (from, to time.Time, err error) {
	now := time.Now()
	if from, err = instant("since", since, now); err == nil {
		to, err = instant("until", until, now)
	}
	return from, to, err
}

func (a *app) eventShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show ORG EVENT",
		Short: "Show an event, by its id or its sequence",
		Example: `  grapnel event show acme evt_0NKMVFQM7Z3XEJ2MXWP06B89Q0
  grapnel event show acme 17`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			e, err := a.client().Event(c.Context(), args[0], args[1])
			if err != nil {
				return err
			}
			return a.show(e, func() {
				var f facts
				f.add("event", e.ID)
				f.add("org", e.Org)
				f.add("seq", e.Seq)
				f.add("type", e.Type)
				f.add("workspace", e.WorkspaceID)
				f.add("time", moment(e.Time))
				f.add("stored", moment(e.StoredAt))
				f.add("key", e.DedupeKey)
				f.add("source", e.Source)
				f.add("schema version", e.SchemaVersion)
				f.add("traceparent", e.TraceParent)
				f.print(a.out, a.ink())
				a.printf("\n%s\n", indented(e.Data))
			})
		},
	}
}
