package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/grapnel-hooks/grapnel/cmd/internal/client"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cmd/internal/typefile"
	"github.com/grapnel-hooks/grapnel/fanout/catalogue"
	"github.com/spf13/cobra"
)

func (a *app) eventTypeCommand() *cobra.Command {
	return family("event-type", "Manage the catalogue of event types", `  grapnel event-type import types.yaml
  grapnel event-type list --group billing`,
		a.eventTypeList(), a.eventTypeShow(), a.eventTypeSet(), a.eventTypeRemove(), a.eventTypeImport(), a.eventTypeExport())
}

func (a *app) eventTypeList() *cobra.Command {
	var (
		l                   listFlags
		group               string
		deprecated, current bool
	)
	c := &cobra.Command{
		Use:   "list",
		Short: "List the event types, each in its newest schema version",
		Example: `  grapnel event-type list
  grapnel event-type list --group billing --current --json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			q := client.EventTypeQuery{Group: group}
			if deprecated && current {
				return &usageError{errors.New("--deprecated and --current exclude each other")}
			}
			if deprecated || current {
				q.Deprecated = &deprecated
			}
			all, err := collect(c.Context(), l, func(ctx context.Context, p client.Page) (httpapi.List[httpapi.EventTypeBody], error) {
				q.Page = p
				return a.client().EventTypes(ctx, q)
			})
			if err != nil {
				return err
			}
			t := &table{columns: []string{"TYPE", "GROUP", "VERSIONS", "SCHEMA", "DEPRECATED", "DESCRIPTION"}}
			return list(a, all, t, func(e httpapi.EventTypeBody) {
				t.add(e.Name, e.Group, strings.Join(e.Versions, ","), yes(len(e.Schema) > 0), yes(e.Deprecated), shortened(e.Description, 60))
			}, "No such event types. Put them into a file and: grapnel event-type import types.yaml")
		},
	}
	l.define(c)
	c.Flags().StringVar(&group, "group", "", "only those of this `group`")
	c.Flags().BoolVar(&deprecated, "deprecated", false, "only deprecated ones")
	c.Flags().BoolVar(&current, "current", false, "only those that are not deprecated")
	return c
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return ""
}

// shortened is the first line of a text, of at most n characters.
func shortened(s string, n int) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

func (a *app) eventTypeShow() *cobra.Command {
	var version string
	c := &cobra.Command{
		Use:   "show TYPE",
		Short: "Show an event type with its schema and example",
		Example: `  grapnel event-type show invoice.paid
  grapnel event-type show invoice.paid --version 1 --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			e, err := a.client().EventType(c.Context(), args[0], version)
			if err != nil {
				return err
			}
			return a.showEventType(e)
		},
	}
	c.Flags().StringVar(&version, "version", "", "this schema `version`; the newest when left out")
	return c
}

func (a *app) showEventType(e httpapi.EventTypeBody) error {
	return a.show(e, func() {
		var f facts
		f.add("type", e.Name)
		f.add("schema version", e.SchemaVersion)
		f.add("versions", strings.Join(e.Versions, ", "))
		f.add("group", e.Group)
		f.add("deprecated", yes(e.Deprecated))
		f.add("changed", moment(e.UpdatedAt))
		f.print(a.out, a.ink())
		if e.Description != "" {
			a.printf("\n%s\n", strings.TrimSpace(e.Description))
		}
		if len(e.Schema) > 0 {
			a.printf("\nSchema:\n%s\n", indented(e.Schema))
		}
		if len(e.Example) > 0 {
			a.printf("\nExample:\n%s\n", indented(e.Example))
		}
	})
}

func (a *app) eventTypeSet() *cobra.Command {
	var (
		version, group, description, schema, example string
		deprecated                                   bool
	)
	c := &cobra.Command{
		Use:   "set TYPE",
		Short: "Make a version of an event type, or change what is said of it",
		Example: `  grapnel event-type set invoice.paid --group billing --schema @invoice.json --example '{"invoice":"in_1"}'
  grapnel event-type set invoice.paid --version 1 --deprecated`,
		Args: cobra.ExactArgs(1),
	}
	f := c.Flags()
	f.StringVar(&version, "version", catalogue.DefaultVersion, "the schema `version`")
	f.StringVar(&group, "group", "", "`name` of a group, for people")
	f.StringVar(&description, "description", "", "`text` for people")
	f.StringVar(&schema, "schema", "", "JSON Schema of the data: `JSON`, @file or - for standard input; empty for any data")
	f.StringVar(&example, "example", "", "data that keep to the schema: `JSON`, @file or - for standard input")
	f.BoolVar(&deprecated, "deprecated", false, "nobody should begin to use it")
	c.RunE = func(c *cobra.Command, args []string) error {
		// What is not said stays as it is.
		put := httpapi.EventTypePut{SchemaVersion: version}
		now, err := a.client().EventType(c.Context(), args[0], version)
		var missing *httpapi.Problem
		switch {
		case err == nil:
			put = httpapi.EventTypePut{
				SchemaVersion: now.SchemaVersion, Group: now.Group, Description: now.Description, Deprecated: now.Deprecated,
				Schema: now.Schema, Example: now.Example,
			}
		case !errors.As(err, &missing) || missing.Status != 404:
			return err
		}
		if f.Changed("group") {
			put.Group = group
		}
		if f.Changed("description") {
			put.Description = description
		}
		if f.Changed("deprecated") {
			put.Deprecated = deprecated
		}
		if f.Changed("schema") {
			if put.Schema, err = a.jsonValue("schema", schema); err != nil {
				return err
			}
		}
		if f.Changed("example") {
			if put.Example, err = a.jsonValue("example", example); err != nil {
				return err
			}
		}
		e, err := a.client().PutEventType(c.Context(), args[0], put)
		if err != nil {
			return err
		}
		return a.showEventType(e)
	}
	return c
}

// jsonValue is the JSON that a flag stands for; nil when it is empty.
func (a *app) jsonValue(flag, s string) (json.RawMessage, error) {
	text, err := a.value(s)
	if err != nil {
		return nil, fmt.Errorf("--%s: %w", flag, err)
	}
	if text = strings.TrimSpace(text); text == "" {
		return nil, nil
	}
	if !json.Valid([]byte(text)) {
		return nil, &usageError{fmt.Errorf("--%s is not JSON", flag)}
	}
	return json.RawMessage(text), nil
}

func (a *app) eventTypeRemove() *cobra.Command {
	var version string
	c := &cobra.Command{
		Use:   "remove TYPE",
		Short: "Remove an event type, or one schema version of it",
		Example: `  grapnel event-type remove invoice.payd
  grapnel event-type remove invoice.paid --version 1`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.client().RemoveEventType(c.Context(), args[0], version); err != nil {
				return err
			}
			return a.show(removed{args[0], true}, func() {
				what := "Event type " + args[0]
				if version != "" {
					what = "Version " + version + " of event type " + args[0]
				}
				a.printf("%s is removed from the catalogue. Endpoints stay subscribed to it.\n", what)
			})
		},
	}
	c.Flags().StringVar(&version, "version", "", "only this schema `version`; all of them when left out")
	return c
}

func (a *app) eventTypeImport() *cobra.Command {
	return &cobra.Command{
		Use:   "import FILE",
		Short: "Put all event types of a file (YAML or JSON; - for standard input) into the catalogue, or none",
		Example: `  grapnel event-type import types.yaml
  grapnel event-type export | grapnel event-type import - --data other`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			types, err := a.readTypes(args[0])
			if err != nil {
				return err
			}
			in := httpapi.EventTypeList{EventTypes: make([]httpapi.EventTypeCreate, len(types))}
			for i, t := range types {
				in.EventTypes[i] = httpapi.EventTypeEntry(t)
			}
			done, err := a.client().ImportEventTypes(c.Context(), in)
			if err != nil {
				return err
			}
			return a.show(done, func() {
				a.printf("%d event types read, %d of them new or changed.\n", done.Total, done.Changed)
			})
		},
	}
}

func (a *app) readTypes(name string) ([]catalogue.Type, error) {
	if name != "-" {
		return typefile.Read(name)
	}
	data, err := io.ReadAll(io.LimitReader(a.in, typefile.MaxJSON+1))
	if err != nil {
		return nil, err
	}
	return typefile.Parse("standard input", data)
}

func (a *app) eventTypeExport() *cobra.Command {
	return &cobra.Command{
		Use:   "export",
		Short: "Print the whole catalogue, as it can be imported",
		Example: `  grapnel event-type export > types.json
  grapnel event-type export | grapnel event-type import - --data other`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			all, err := a.client().ExportEventTypes(c.Context())
			if err != nil {
				return err
			}
			everything := *a
			everything.json = true // it has no other form
			return everything.show(all, nil)
		},
	}
}
