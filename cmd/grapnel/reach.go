package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/grapnel-hooks/grapnel/cmd/internal/client"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// reach says over which way a command talks to the daemon: over the socket in
// its data directory, as the operator, or over the network with a token. Flags win
// over the environment, so --data leads to the socket, whatever GRAPNEL_URL says.
type reach struct {
	url, token, tokenFile string
}

func (r *reach) define(f *pflag.FlagSet) {
	f.StringVar(&r.url, "url", "", "talk to the daemon at this `URL` with a token, not over the socket (GRAPNEL_URL)")
	f.StringVar(&r.token, "token", "", "API token for --url (GRAPNEL_TOKEN); others on this machine see a flag in ps, so rather use the variable or --token-file")
	f.StringVar(&r.tokenFile, "token-file", "", "`file` that holds the token (GRAPNEL_TOKEN_FILE)")
}

// connect makes the client that the flags and the environment ask for. It does
// not talk to the daemon yet.
func (r *reach) connect(f *pflag.FlagSet, data string, env func(string) string) (*client.Client, error) {
	raw, name := r.url, "--url"
	if !f.Changed("url") && !f.Changed("data") {
		raw, name = env("GRAPNEL_URL"), "GRAPNEL_URL"
	}
	switch given := f.Changed("token") || f.Changed("token-file"); {
	case f.Changed("url") && f.Changed("data"):
		return nil, &usageError{errors.New("use --url, or --data for the socket, not both")}
	case raw == "" && f.Changed("url"):
		return nil, &usageError{errors.New("--url is empty")}
	case raw == "" && given:
		return nil, &usageError{errors.New("a token is for --url; at the socket in --data you are the operator without one")}
	case raw == "":
		return client.New(data), nil
	}
	token, err := r.secret(f, env)
	if err != nil {
		return nil, err
	}
	c, err := client.Remote(raw, token)
	if err != nil {
		return nil, &usageError{fmt.Errorf("%s: %w", name, err)}
	}
	return c, nil
}

// secret is the text of the token.
func (r *reach) secret(f *pflag.FlagSet, env func(string) string) (string, error) {
	token, file, names := r.token, r.tokenFile, "--token and --token-file"
	if !f.Changed("token") && !f.Changed("token-file") {
		token, file, names = env("GRAPNEL_TOKEN"), env("GRAPNEL_TOKEN_FILE"), "GRAPNEL_TOKEN and GRAPNEL_TOKEN_FILE"
	}
	switch {
	case token == "" && file == "":
		return "", &usageError{errors.New("over the network a token is needed: set GRAPNEL_TOKEN, or use --token-file. " +
			"An operator makes one with \"grapnel token add\"")}
	case token != "" && file != "":
		return "", &usageError{fmt.Errorf("%s: use one of them", names)}
	case file != "":
		var err error
		if token, err = readToken(file); err != nil {
			return "", err
		}
	}
	if _, ok := httpapi.TokenHash(token); !ok {
		return "", &usageError{errors.New("the token cannot be one: want gk_ and 43 letters, digits, - or _")}
	}
	return token, nil
}

func readToken(name string) (string, error) {
	const most = 4096 // bytes; a token has 46
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most))
	return strings.TrimSpace(string(b)), err
}

// begin is before each command: arguments and flags were right.
func (a *app) begin(c *cobra.Command, _ []string) (err error) {
	a.began = true
	if c.Flags().Lookup("token-file") != nil {
		a.api, err = a.reach.connect(c.Flags(), a.data, os.Getenv)
	}
	return err
}

// client calls the daemon.
func (a *app) client() *client.Client { return a.api }

// hint says what to do about a refusal, "" when the refusal says it already.
func hint(p *httpapi.Problem) string {
	switch {
	case p.Status == 401:
		return `make another with "grapnel token add", or ask an operator for one`
	case p.Status == 402:
		return `an operator can give it another plan with "grapnel org set ORG --plan NAME"`
	case p.Status == 403 && strings.Contains(p.Detail, "scope"):
		return `"grapnel token add" makes one that has it; scopes cannot be added to a token`
	case p.Status == 403:
		return `make one with "grapnel token add --operator", or use the socket on the daemon's machine`
	case slices.ContainsFunc(p.Errors, func(e httpapi.FieldError) bool {
		return strings.Contains(e.Message, "another origin") && strings.HasSuffix(e.Location, "headers")
	}):
		return "--header gives them, --header '' drops them"
	case p.Status == 412:
		return "look at it again, then change it"
	}
	return ""
}
