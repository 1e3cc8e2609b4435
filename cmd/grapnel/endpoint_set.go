package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (a *app) endpointSet() *cobra.Command {
	var (
		e           endpointFlags
		url, secret string
	)
	c := &cobra.Command{
		Use:   "set ORG ENDPOINT",
		Short: "Change an endpoint; what is not said stays",
		Example: `  grapnel endpoint set acme ep_01M7YRRW6G0000000000000001 --type 'invoice.*' --type lead_won
  grapnel endpoint set acme ep_01M7YRRW6G0000000000000001 --new-url https://hooks.example/v2 --format tenantx --secret @secret.txt`,
		Args: cobra.ExactArgs(2),
	}
	f := c.Flags()
	e.define(f, false)
	f.StringVar(&secret, "secret", "", "takes the place of all that sign now, at once: `text`, @file, - for standard input, or new to have one made; for a change of --format")
	f.StringVar(&url, "new-url", "", "send to this `URL` from now on")
	c.RunE = func(c *cobra.Command, args []string) error {
		if !settings(f) {
			return &usageError{errors.New("say what to change, such as --timeout 5s")}
		}
		in := httpapi.EndpointUpdate{
			WorkspaceID: e.clearable("workspace", e.workspace), Description: e.clearable("description", e.description),
			TimeoutMS: e.timeoutMS(), Concurrency: e.parallel(), Retry: e.retry(),
		}
		var err error
		if in.OptionsChange, err = e.optionFlags.change(f.Changed, a.value); err != nil {
			return err
		}
		if in.CredentialsChange, err = e.credentialFlags.change(f.Changed, a.value); err != nil {
			return err
		}
		if e.said("secret") {
			text, err := a.value(secret)
			if err != nil {
				return fmt.Errorf("--secret: %w", err)
			}
			in.Secret = strings.TrimSpace(text)
		}
		if e.said("type") {
			in.EventTypes = &e.types
		}
		if e.said("new-url") {
			in.URL = &url
		}
		if e.said("header") {
			headers, err := e.readHeaders(a.value)
			if err != nil {
				return err
			}
			in.Headers = &headers
		}
		changed, err := a.client().ChangeEndpoint(c.Context(), args[0], args[1], in)
		if err != nil {
			return err
		}
		return a.show(changed, func() { a.printEndpoint(changed) })
	}
	return c
}

// settings reports whether a flag of the command itself was given.
func settings(f *pflag.FlagSet) (given bool) {
	f.Visit(func(f *pflag.Flag) {
		switch f.Name {
		case "json", "data", "url", "token", "token-file":
		default:
			given = true
		}
	})
	return given
}
