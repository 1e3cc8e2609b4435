package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/client"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/spf13/cobra"
)

func (a *app) endpointCommand() *cobra.Command {
	return family("endpoint", "Manage endpoints", `  grapnel endpoint add acme https://hooks.example/grapnel --type 'invoice.*'
  grapnel endpoint list acme`,
		a.endpointAdd(), a.endpointList(), a.endpointShow(), a.endpointStats(), a.endpointSet(), a.endpointRemove(),
		a.endpointReplay(), a.endpointRecover(), a.endpointTest(), a.endpointSecret(), a.endpointRotate(), a.endpointTryFilter(),
		a.endpointSwitch("enable", "Enable an endpoint and resume its pending deliveries", httpapi.EndpointUpdate{Disabled: new(false)}),
		a.endpointSwitch("disable", "Disable an endpoint; its deliveries wait", httpapi.EndpointUpdate{Disabled: new(true)}),
		a.endpointSwitch("pause", "Hold an endpoint's deliveries back; new ones are made and wait", paused(true)),
		a.endpointSwitch("resume", "Send a paused endpoint's deliveries again", paused(false)))
}

func (a *app) endpointAdd() *cobra.Command {
	var (
		e        endpointFlags
		secret   string
		start    string
		disabled bool
	)
	c := &cobra.Command{
		Use:   "add ORG URL",
		Short: "Make an endpoint and show its secret, once",
		Example: `  grapnel endpoint add acme https://hooks.example/grapnel
  grapnel endpoint add acme https://hooks.example/berlin --type 'invoice.*' --workspace berlin --secret @secret.txt`,
		Args: cobra.ExactArgs(2),
	}
	f := c.Flags()
	e.define(f, true)
	f.StringVar(&secret, "secret", "", "`whsec_…` of your own, or what its format signs with, @file or - for standard input; made when left out")
	f.StringVar(&start, "start", "", "from where in the stream: now (default), beginning, a `sequence`, or a time")
	f.BoolVar(&disabled, "disabled", false, "make it disabled")
	c.RunE = func(c *cobra.Command, args []string) error {
		text, err := a.value(secret)
		if err != nil {
			return fmt.Errorf("--secret: %w", err)
		}
		headers, err := e.readHeaders(a.value)
		if err != nil {
			return err
		}
		options, err := e.optionFlags.change(f.Changed, a.value)
		if err != nil {
			return err
		}
		credentials, err := e.credentialFlags.change(f.Changed, a.value)
		if err != nil {
			return err
		}
		made, err := a.client().AddEndpoint(c.Context(), args[0], httpapi.EndpointCreate{
			URL: args[1], EventTypes: e.types, Headers: headers, Secret: strings.TrimSpace(text), Disabled: disabled, Start: httpapi.StartText(start),
			WorkspaceID: e.clearable("workspace", e.workspace), Description: e.clearable("description", e.description),
			TimeoutMS: e.timeoutMS(), Concurrency: e.parallel(), Retry: e.retry(), OptionsChange: options, CredentialsChange: credentials,
		})
		if err != nil {
			return err
		}
		return a.show(made, func() {
			a.printf("Endpoint %s gets %s\n", made.ID, subscribed(made.EndpointBody))
			if made.StartsAt != 0 {
				a.printf("It begins with sequence %d of the stream\n", made.StartsAt)
			}
			a.printf("Its secret, shown only now: %s\n", a.ink().bold(made.Secret))
			if made.PublicKey != "" {
				a.printf("Its public key, for receivers: %s\n", a.ink().bold(made.PublicKey))
			}
		})
	}
	return c
}

// subscribed is what an endpoint gets, in words.
func subscribed(e httpapi.EndpointBody) string {
	types := strings.Join(e.EventTypes, ", ")
	if types == "*" {
		types = "every event"
	}
	if e.WorkspaceID != nil {
		types += " of workspace " + *e.WorkspaceID
	}
	return types
}

// value is what a flag or argument stands for: the contents of a file for
// @file, standard input for -, itself otherwise.
func (a *app) value(s string) (string, error) {
	const most = 8 << 20 // more than any event
	var (
		b   []byte
		err error
	)
	if name, ok := strings.CutPrefix(s, "@"); ok {
		f, openErr := os.Open(name)
		if openErr != nil {
			return "", openErr
		}
		defer f.Close()
		b, err = io.ReadAll(io.LimitReader(f, most+1))
	} else if s == "-" {
		b, err = io.ReadAll(io.LimitReader(a.in, most+1))
	} else {
		return s, nil
	}
	if len(b) > most {
		return "", fmt.Errorf("%s has more than %d bytes", s, most)
	}
	return string(b), err
}

// endpointState is an endpoint's state in words.
func endpointState(e httpapi.EndpointBody) string {
	switch {
	case e.Disabled && e.DisabledReason != "":
		return "disabled (" + e.DisabledReason + ")"
	case e.Disabled:
		return "disabled"
	case e.HeldBecause != "":
		return "held"
	case e.Paused:
		return "paused"
	case e.Health == "failing":
		return "failing"
	case e.CatchingUp != nil:
		return catchupState(e)
	}
	return "enabled"
}

func (a *app) endpointList() *cobra.Command {
	var l listFlags
	c := &cobra.Command{
		Use:   "list ORG",
		Short: "List an organization's endpoints",
		Example: `  grapnel endpoint list acme
  grapnel endpoint list acme --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			all, err := collect(c.Context(), l, func(ctx context.Context, p client.Page) (httpapi.List[httpapi.EndpointBody], error) {
				return a.client().Endpoints(ctx, args[0], p)
			})
			if err != nil {
				return err
			}
			t := &table{columns: []string{"ENDPOINT", "STATE", "TYPES", "WORKSPACE", "URL"}}
			return list(a, all, t, func(e httpapi.EndpointBody) {
				workspace := ""
				if e.WorkspaceID != nil {
					workspace = *e.WorkspaceID
				}
				t.add(e.ID, endpointState(e), strings.Join(e.EventTypes, ","), workspace, e.URL)
			}, fmt.Sprintf("%s has no endpoints yet. Make one: grapnel endpoint add %s https://…", args[0], args[0]))
		},
	}
	l.define(c)
	return c
}

func (a *app) endpointShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show ORG ENDPOINT",
		Short: "Show an endpoint",
		Example: `  grapnel endpoint show acme ep_01M7YRRW6G0000000000000001
  grapnel endpoint show acme ep_01M7YRRW6G0000000000000001 --json`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			e, err := a.client().Endpoint(c.Context(), args[0], args[1])
			if err != nil {
				return err
			}
			return a.show(e, func() { a.printEndpoint(e) })
		},
	}
}

func (a *app) printEndpoint(e httpapi.EndpointBody) {
	var f facts
	f.add("endpoint", e.ID)
	f.add("org", e.Org)
	f.add("url", e.URL)
	f.add("description", e.Description)
	f.add("gets", subscribed(e))
	f.add("headers", strings.Join(slices.Sorted(maps.Keys(e.Headers)), ", "))
	f.add("state", endpointState(e))
	f.add("disabled at", momentOf(e.DisabledAt))
	healthFacts(&f, e.ConditionBody)
	f.add("held", e.HeldBecause)
	catchupFacts(&f, e)
	credentialFacts(&f, e.CredentialsBody)
	optionFacts(&f, e.OptionsBody)
	f.add("timeout", httpapi.Duration(time.Duration(e.TimeoutMS)*time.Millisecond))
	f.add("concurrency", e.Concurrency)
	f.add("retry", fmt.Sprintf("after %s, ×%g up to %s, %d attempts in all",
		e.Retry.Initial, *e.Retry.Multiplier, e.Retry.MaxInterval, *e.Retry.Attempts))
	f.add("created", moment(e.CreatedAt))
	f.add("updated", moment(e.UpdatedAt))
	f.print(a.out, a.ink())
}

func (a *app) endpointRemove() *cobra.Command {
	return &cobra.Command{
		Use:   "remove ORG ENDPOINT",
		Short: "Remove an endpoint and cancel its pending deliveries",
		Example: `  grapnel endpoint remove acme ep_01M7YRRW6G0000000000000001
  grapnel endpoint remove acme ep_01M7YRRW6G0000000000000001 --json`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.client().RemoveEndpoint(c.Context(), args[0], args[1]); err != nil {
				return err
			}
			return a.show(removed{args[1], true}, func() {
				a.printf("Endpoint %s is removed; its pending deliveries are cancelled.\n", args[1])
			})
		},
	}
}

func paused(on bool) httpapi.EndpointUpdate {
	return httpapi.EndpointUpdate{OptionsChange: httpapi.OptionsChange{Paused: &on}}
}

func (a *app) endpointSwitch(verb, short string, change httpapi.EndpointUpdate) *cobra.Command {
	return &cobra.Command{
		Use:   verb + " ORG ENDPOINT",
		Short: short,
		Example: fmt.Sprintf(`  grapnel endpoint %[1]s acme ep_01M7YRRW6G0000000000000001
  grapnel endpoint %[1]s acme ep_01M7YRRW6G0000000000000001 --json`, verb),
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			e, err := a.client().ChangeEndpoint(c.Context(), args[0], args[1], change)
			if err != nil {
				return err
			}
			return a.show(e, func() {
				a.printf("Endpoint %s is %s\n", e.ID, a.ink().state(endpointState(e)))
			})
		},
	}
}
