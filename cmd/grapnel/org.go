package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/spf13/cobra"
)

func (a *app) orgCommand() *cobra.Command {
	return family("org", "Manage organizations", `  grapnel org add acme
  grapnel org list`,
		a.orgAdd(), a.orgList(), a.orgShow(), a.orgSet(), a.orgRemove())
}

func (a *app) orgAdd() *cobra.Command {
	var in httpapi.OrgCreate
	c := &cobra.Command{
		Use:   "add ORG",
		Short: "Make an organization and its stream",
		Example: `  grapnel org add acme
  grapnel org add crm --payload envelope --subject 'webhook.>'`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			in.ID = args[0]
			o, err := a.client().AddOrg(c.Context(), in)
			if err != nil {
				return err
			}
			return a.show(o, func() {
				a.printf("Organization %s is made; its stream takes events on events.%s.>\n", o.ID, o.ID)
				a.printf("Next: grapnel endpoint add %s https://…\n", o.ID)
			})
		},
	}
	c.Flags().StringVar(&in.Name, "name", "", "name for people")
	c.Flags().StringVar(&in.Plan, "plan", "", "a plan of the configuration file")
	c.Flags().StringVar(&in.Payload, "payload", "data", "what its publishers send: data or envelope")
	c.Flags().StringArrayVar(&in.Subjects, "subject", nil, "extra `subject` that its stream binds, such as 'webhook.>' (repeatable)")
	return c
}

func (a *app) orgList() *cobra.Command {
	var l listFlags
	c := &cobra.Command{
		Use:   "list",
		Short: "List the organizations",
		Example: `  grapnel org list
  grapnel org list --json --limit 1000`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			all, err := collect(c.Context(), l, a.client().Orgs)
			if err != nil {
				return err
			}
			t := &table{columns: []string{"ORG", "NAME", "PLAN", "PAYLOAD", "SUBJECTS", "CREATED"}}
			return list(a, all, t, func(o httpapi.OrgBody) {
				t.add(o.ID, o.Name, o.Plan, o.Payload, strings.Join(o.Subjects, ","), moment(o.CreatedAt))
			}, `No organizations yet. Make one: grapnel org add acme`)
		},
	}
	l.define(c)
	return c
}

func (a *app) orgShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show ORG",
		Short: "Show an organization",
		Example: `  grapnel org show acme
  grapnel org show acme --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			o, err := a.client().Org(c.Context(), args[0])
			if err != nil {
				return err
			}
			return a.show(o, func() { a.printOrg(o) })
		},
	}
}

func (a *app) printOrg(o httpapi.OrgBody) {
	var f facts
	f.add("org", o.ID)
	f.add("name", o.Name)
	f.add("plan", o.Plan)
	f.add("payload", o.Payload)
	f.add("publish to", strings.Join(append([]string{"events." + o.ID + ".>"}, o.Subjects...), ", "))
	f.add("created", moment(o.CreatedAt))
	f.print(a.out, a.ink())
}

func (a *app) orgSet() *cobra.Command {
	var (
		name, plan, payload string
		subjects            []string
	)
	c := &cobra.Command{
		Use:   "set ORG",
		Short: "Change an organization; what is not said stays",
		Example: `  grapnel org set acme --plan enterprise
  grapnel org set crm --subject 'webhook.>' --subject 'crm.>'`,
		Args: cobra.ExactArgs(1),
	}
	f := c.Flags()
	f.StringVar(&name, "name", "", "name for people")
	f.StringVar(&plan, "plan", "", "a plan of the configuration file")
	f.StringVar(&payload, "payload", "", "what its publishers send: data or envelope")
	f.StringArrayVar(&subjects, "subject", nil, "all extra `subject`s that its stream binds (repeatable; '' for none)")
	c.RunE = func(c *cobra.Command, args []string) error {
		if !settings(f) {
			return &usageError{errors.New("say what to change, such as --plan enterprise")}
		}
		var in httpapi.OrgUpdate
		for flag, field := range map[string]**string{"name": &in.Name, "plan": &in.Plan, "payload": &in.Payload} {
			if f.Changed(flag) {
				text := f.Lookup(flag).Value.String()
				*field = &text
			}
		}
		if f.Changed("subject") {
			given := slices.DeleteFunc(subjects, func(s string) bool { return s == "" })
			in.Subjects = &given
		}
		o, err := a.client().ChangeOrg(c.Context(), args[0], in)
		if err != nil {
			return err
		}
		return a.show(o, func() { a.printOrg(o) })
	}
	return c
}

func (a *app) orgRemove() *cobra.Command {
	return &cobra.Command{
		Use:   "remove ORG",
		Short: "Remove an organization that has no endpoints, and its stream with every event",
		Example: `  grapnel org remove acme
  grapnel org remove acme --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.client().RemoveOrg(c.Context(), args[0]); err != nil {
				return err
			}
			return a.show(removed{args[0], true}, func() {
				a.printf("Organization %s is removed, and its stream with every event in it.\n", args[0])
			})
		},
	}
}

// removed is the JSON of something that is no more.
type removed struct {
	ID      string `json:"id"`
	Removed bool   `json:"removed"`
}
