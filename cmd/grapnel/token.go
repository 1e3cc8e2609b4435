package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/client"
	"github.com/grapnel-hooks/grapnel/cmd/internal/config"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cmd/internal/suggest"
	"github.com/spf13/cobra"
)

func (a *app) tokenCommand() *cobra.Command {
	return family("token", "Manage API tokens", `  grapnel token add acme --scope webhooks:manage
  grapnel token list acme`,
		a.tokenAdd(), a.tokenList(), a.tokenRevoke())
}

// scopesHelp explains the scopes in the help of the commands.
const scopesHelp = `  webhooks:read    look at endpoints, events, deliveries
  webhooks:manage  and change endpoints, send again
  events:write     append events, by HTTP or at the NATS server
  cursors:read     look at the cursor, gaps, rejected events
  cursors:manage   and move it
  admin            everything, also tokens and the audit`

// owner is the --operator flag, which stands in place of an organization.
type owner struct{ operator bool }

func (o *owner) define(c *cobra.Command, help string) {
	c.Flags().BoolVar(&o.operator, "operator", false, help)
}

// args wants an organization, or --operator, and then n further arguments.
func (o *owner) args(n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		want := n
		if !o.operator {
			want++
		}
		switch {
		case !o.operator && len(args) == n:
			return errors.New("name an organization, or use --operator")
		case o.operator && len(args) == n+1:
			return errors.New("name an organization, or use --operator, not both")
		}
		return cobra.ExactArgs(want)(c, args)
	}
}

// split is the organization, "" for the operator, and the further arguments.
func (o *owner) split(args []string) (org string, rest []string) {
	if o.operator {
		return "", args
	}
	return args[0], args[1:]
}

func (a *app) tokenAdd() *cobra.Command {
	var (
		of      owner
		in      httpapi.TokenCreate
		scopes  []string
		expires string
	)
	c := &cobra.Command{
		Use:   "add ORG --scope … | add --operator --scope …",
		Short: "Make a token and print its text, once",
		Long: `Make a token of an organization, or with --operator one for all organizations.

Its text goes to standard output, alone, and is never shown again; what is said
about it goes to standard error. So this works:

  export GRAPNEL_TOKEN=$(grapnel token add acme --scope webhooks:read)

A token may do what its scopes say:

` + scopesHelp,
		Example: `  grapnel token add acme --scope webhooks:manage --name 'the portal' --expires 30d
  grapnel token add --operator --scope admin --name ci`,
		Args: of.args(0),
		RunE: func(c *cobra.Command, args []string) (err error) {
			if in.Scopes, err = knownScopes(scopes); err != nil {
				return err
			}
			if in.ExpiresAt, err = expiry(expires, time.Now()); err != nil {
				return err
			}
			org, _ := of.split(args)
			t, err := a.client().AddToken(c.Context(), org, in)
			if err != nil {
				return err
			}
			if !a.json {
				fmt.Fprintf(a.err, "Token %s holds until %s for %s. Its text, shown only now:\n",
					t.ID, moment(t.ExpiresAt), strings.Join(scopeNames(t.Scopes), ", "))
			}
			return a.show(t, func() { a.printf("%s\n", t.Token) })
		},
	}
	of.define(c, "for all organizations and the installation")
	c.Flags().StringArrayVar(&scopes, "scope", nil, "what it may do: a `scope` (repeatable)")
	c.Flags().StringVar(&in.Name, "name", "", "`text` for people")
	c.Flags().StringVar(&expires, "expires", "", "when it ends: after a `time` such as 12h or 30d, or an RFC 3339 time (default 90d, at most 365d)")
	c.RegisterFlagCompletionFunc("scope", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return scopeNames(httpapi.Scopes), cobra.ShellCompDirectiveNoFileComp
	})
	return c
}

// knownScopes checks the scopes of flags.
func knownScopes(given []string) ([]httpapi.Scope, error) {
	known := scopeNames(httpapi.Scopes)
	var scopes []httpapi.Scope
	for _, s := range given {
		if !slices.Contains(known, s) {
			text := fmt.Sprintf("--scope %q: known are %s", s, strings.Join(known, ", "))
			if near := suggest.Nearest(s, known); near != "" {
				text = fmt.Sprintf("--scope %q: did you mean %s?", s, near)
			}
			return nil, &usageError{errors.New(text)}
		}
		scopes = append(scopes, httpapi.Scope(s))
	}
	if len(scopes) == 0 {
		return nil, &usageError{fmt.Errorf("say what it may do: --scope with one of %s", strings.Join(known, ", "))}
	}
	return scopes, nil
}

// expiry reads --expires: nil for the default.
func expiry(s string, now time.Time) (*time.Time, error) {
	if s == "" {
		return nil, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return &t, nil
	}
	d, err := config.Duration(s)
	if err != nil {
		return nil, &usageError{fmt.Errorf("--expires %q: want a time from now such as 12h or 30d, or an RFC 3339 time", s)}
	}
	t := now.Add(d)
	return &t, nil
}

func scopeNames(scopes []httpapi.Scope) (names []string) {
	for _, s := range scopes {
		names = append(names, string(s))
	}
	return names
}

func (a *app) tokenList() *cobra.Command {
	var (
		of owner
		l  listFlags
	)
	c := &cobra.Command{
		Use:   "list ORG | list --operator",
		Short: "List an organization's tokens, or the operators', without their texts",
		Example: `  grapnel token list acme
  grapnel token list --operator --json`,
		Args: of.args(0),
		RunE: func(c *cobra.Command, args []string) error {
			org, _ := of.split(args)
			all, err := collect(c.Context(), l, func(ctx context.Context, p client.Page) (httpapi.List[httpapi.TokenBody], error) {
				return a.client().Tokens(ctx, org, p)
			})
			if err != nil {
				return err
			}
			now := time.Now()
			t := &table{columns: []string{"TOKEN", "NAME", "SCOPES", "STATE", "EXPIRES", "LAST USED"}}
			none := `No operator's tokens yet. Make one: grapnel token add --operator --scope admin`
			if org != "" {
				none = fmt.Sprintf("%s has no tokens yet. Make one: grapnel token add %s --scope webhooks:manage", org, org)
			}
			return list(a, all, t, func(b httpapi.TokenBody) {
				used := "never"
				if b.LastUsedAt != nil {
					used = around(*b.LastUsedAt, now)
				}
				t.add(b.ID, b.Name, strings.Join(scopeNames(b.Scopes), ","), tokenState(b, now), around(b.ExpiresAt, now), used)
			}, none)
		},
	}
	of.define(c, "those for all organizations")
	l.define(c)
	return c
}

// tokenState says whether a token holds.
func tokenState(t httpapi.TokenBody, now time.Time) string {
	switch {
	case t.RevokedAt != nil:
		return "revoked"
	case !now.Before(t.ExpiresAt):
		return "expired"
	}
	return "valid"
}

func (a *app) tokenRevoke() *cobra.Command {
	var of owner
	c := &cobra.Command{
		Use:   "revoke ORG TOKEN | revoke --operator TOKEN",
		Short: "Revoke a token; the next request with it is refused",
		Example: `  grapnel token revoke acme tok_01M7YRRX5R0000000000000002
  grapnel token revoke --operator tok_01M7YRRX5R0000000000000002 --json`,
		Args: of.args(1),
		RunE: func(c *cobra.Command, args []string) error {
			org, rest := of.split(args)
			if err := a.client().RevokeToken(c.Context(), org, rest[0]); err != nil {
				return err
			}
			return a.show(revoked{rest[0], true}, func() { a.printf("Token %s is revoked.\n", rest[0]) })
		},
	}
	of.define(c, "one for all organizations")
	return c
}

// revoked is the JSON of a token that holds no more.
type revoked struct {
	ID      string `json:"id"`
	Revoked bool   `json:"revoked"`
}
