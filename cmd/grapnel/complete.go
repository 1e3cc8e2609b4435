package main

import (
	"context"
	"slices"
	"strings"

	"github.com/grapnel-hooks/grapnel/cmd/internal/client"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/spf13/cobra"
)

// completeArgs lets the shell complete the arguments that a command's usage
// calls ORG, ENDPOINT and TOKEN, by asking the daemon.
func (a *app) completeArgs(c *cobra.Command) {
	for _, sub := range c.Commands() {
		a.completeArgs(sub)
	}
	usage, _, _ := strings.Cut(c.Use, "|")
	words := strings.FieldsFunc(usage, func(r rune) bool { return strings.ContainsRune(" []…", r) })[1:]
	if c.Parent() != nil && c.Parent().Name() == "org" && c.Name() == "add" {
		return // the name is new
	}
	if !slices.ContainsFunc(words, func(w string) bool { return completions[w] != nil }) {
		return
	}
	c.ValidArgsFunction = func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		words := words
		if c.Flags().Changed("operator") {
			words = words[1:]
		}
		if len(args) >= len(words) || completions[words[len(args)]] == nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		if a.begin(c, args) != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		found, err := completions[words[len(args)]](c.Context(), a.client(), args)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}

// completions are what may stand for an argument, after the arguments before it;
// with a tab and a description.
var completions = map[string]func(context.Context, *client.Client, []string) ([]string, error){
	"ORG": func(ctx context.Context, api *client.Client, _ []string) ([]string, error) {
		orgs, err := collect(ctx, listFlags{limit: 250}, api.Orgs)
		return names(orgs, func(o httpapi.OrgBody) string { return described(o.ID, o.Name) }), err
	},
	"ENDPOINT": func(ctx context.Context, api *client.Client, args []string) ([]string, error) {
		endpoints, err := collect(ctx, listFlags{limit: 250}, func(ctx context.Context, p client.Page) (httpapi.List[httpapi.EndpointBody], error) {
			return api.Endpoints(ctx, args[0], p)
		})
		return names(endpoints, func(e httpapi.EndpointBody) string { return described(e.ID, e.URL) }), err
	},
	"TOKEN": func(ctx context.Context, api *client.Client, args []string) ([]string, error) {
		org := strings.Join(args, "") // none: the operators'
		tokens, err := collect(ctx, listFlags{limit: 250}, func(ctx context.Context, p client.Page) (httpapi.List[httpapi.TokenBody], error) {
			return api.Tokens(ctx, org, p)
		})
		return names(tokens, func(t httpapi.TokenBody) string { return described(t.ID, t.Name) }), err
	},
}

func names[T any](all httpapi.List[T], name func(T) string) (out []string) {
	for _, v := range all.Data {
		out = append(out, name(v))
	}
	return out
}

// described is a completion with what the shell shows beside it.
func described(id, text string) string {
	if text == "" {
		return id
	}
	return id + "\t" + text
}
