package main

import (
	"fmt"
	"strings"

	"github.com/grapnel-hooks/grapnel/cmd/internal/config"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/spf13/cobra"
)

func (a *app) endpointSecret() *cobra.Command {
	return &cobra.Command{
		Use:   "secret ORG ENDPOINT",
		Short: "Print the secret of an endpoint; the audit notes that",
		Long: `Print the secret of an endpoint, alone on standard output. The audit notes who
asked. Of older secrets that still sign, only the end is told.`,
		Example: `  grapnel endpoint secret acme ep_01M7YRRW6G0000000000000001
  grapnel endpoint secret acme ep_01M7YRRW6G0000000000000001 --json`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := a.client().EndpointSecret(c.Context(), args[0], args[1])
			if err != nil {
				return err
			}
			return a.showSecret(s)
		},
	}
}

// showSecret prints a secret alone on standard output, and what there is to know
// about it beside.
func (a *app) showSecret(s httpapi.SecretBody) error {
	if !a.json {
		if s.PublicKey != "" {
			fmt.Fprintf(a.err, "Receivers verify with the public key %s.\n", s.PublicKey)
		}
		for _, p := range s.Previous {
			fmt.Fprintf(a.err, "The secret of %s signs too until %s.\n", moment(p.CreatedAt), moment(p.ExpiresAt))
		}
	}
	return a.show(s, func() { a.printf("%s\n", s.Secret) })
}

func (a *app) endpointRotate() *cobra.Command {
	var secret, overlap string
	c := &cobra.Command{
		Use:   "rotate-secret ORG ENDPOINT",
		Short: "Give an endpoint a new secret; the older ones sign too for a while",
		Long: `Give an endpoint a new secret and print it, alone on standard output. Until the
overlap ends each request has a signature by the older ones, too, so that the
receiver can change over at any moment. After a leak use --overlap 0s: then only
the new one signs, at once.`,
		Example: `  grapnel endpoint rotate-secret acme ep_01M7YRRW6G0000000000000001
  grapnel endpoint rotate-secret acme ep_01M7YRRW6G0000000000000001 --overlap 0s --secret @secret.txt`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			var in httpapi.SecretRotate
			if c.Flags().Changed("overlap") {
				d, err := config.Duration(overlap)
				if err != nil {
					return &usageError{fmt.Errorf("--overlap %w", err)}
				}
				in.Overlap = (*httpapi.Duration)(&d)
			}
			text, err := a.value(secret)
			if err != nil {
				return fmt.Errorf("--secret: %w", err)
			}
			in.Secret = strings.TrimSpace(text)
			s, err := a.client().RotateSecret(c.Context(), args[0], args[1], in)
			if err != nil {
				return err
			}
			if !a.json {
				fmt.Fprintf(a.err, "Endpoint %s has a new secret:\n", args[1])
			}
			return a.showSecret(s)
		},
	}
	c.Flags().StringVar(&overlap, "overlap", "", "how long the older secrets sign, too: a `time` from 0s to 7d (default 24h)")
	c.Flags().StringVar(&secret, "secret", "", "`whsec_…` of your own, or what the endpoint's format signs with, @file or - for standard input; made when left out")
	return c
}

func (a *app) keysCommand() *cobra.Command {
	return family("keys", "Manage the keys that encrypt secrets in the database", `  grapnel keys list
  grapnel keys rotate`,
		a.keysList(), a.keysRotate())
}

func (a *app) keysList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the keys, the one in use first, without the keys themselves",
		Long: `List the keys that encrypt secrets and headers in the database, the one in use
first. ROWS are encrypted with it; at 0 only older backups need it.`,
		Example: `  grapnel keys list
  grapnel keys list --json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			all, err := a.client().Keys(c.Context())
			if err != nil {
				return err
			}
			t := &table{columns: []string{"KEY", "USED", ">ROWS", "CREATED"}}
			return list(a, all, t, func(k httpapi.KeyBody) {
				used := "for what is there"
				switch {
				case k.Seals:
					used = "for what is written"
				case k.Rows == 0:
					used = "for older backups"
				}
				t.add(k.ID, used, k.Rows, momentOf(k.CreatedAt))
			}, "No keys.")
		},
	}
}

func (a *app) keysRotate() *cobra.Command {
	return &cobra.Command{
		Use:   "rotate",
		Short: "Make a new key and encrypt every secret again with it",
		Long: `Make a new key, encrypt every secret and header in the database again with it,
beside the traffic, and take the old one out of the key file. Backups that were
made before need the old key: keep a copy of the key file with them.`,
		Example: `  grapnel keys rotate
  grapnel keys rotate --json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			k, err := a.client().RotateKey(c.Context())
			if err != nil {
				return err
			}
			return a.show(k, func() { a.printf("Key %s encrypts all secrets now: %d rows.\n", k.ID, k.Rows) })
		},
	}
}
