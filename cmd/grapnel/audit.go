package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/grapnel-hooks/grapnel/cmd/internal/client"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/spf13/cobra"
)

func (a *app) auditCommand() *cobra.Command {
	var l listFlags
	c := &cobra.Command{
		Use:   "audit [ORG]",
		Short: "List who changed what, newest first",
		Long: `List who changed what in an organization, or in all and the installation, newest
first. The actor is a token's id; operator, at the socket; or grapnel itself. Of
secrets and headers only the name is there.`,
		Example: `  grapnel audit acme
  grapnel audit --json --limit 1000`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			org := ""
			if len(args) == 1 {
				org = args[0]
			}
			all, err := collect(c.Context(), l, func(ctx context.Context, p client.Page) (httpapi.List[httpapi.AuditBody], error) {
				return a.client().Audit(ctx, org, p)
			})
			if err != nil {
				return err
			}
			t := &table{columns: []string{"TIME", "ORG", "ACTOR", "ACTION", "TARGET", "CHANGED", "FROM"}}
			return list(a, all, t, func(e httpapi.AuditBody) {
				of := ""
				if e.Org != nil {
					of = *e.Org
				}
				t.add(moment(e.At), of, e.Actor, e.Action, e.Target, changed(e.Changes), e.Address)
			}, "Nothing was changed yet.")
		},
	}
	l.define(c)
	return c
}

// changed says what changed, as "name: old → new", the names in order. Long
// values are cut: --json has them whole.
func changed(changes map[string]httpapi.ChangeBody) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(changes)) {
		c := changes[name]
		if c.Old == nil && c.New == nil {
			parts = append(parts, name)
			continue
		}
		parts = append(parts, fmt.Sprintf("%s: %s → %s", name, brief(c.Old), brief(c.New)))
	}
	return cut(strings.Join(parts, "; "), 100)
}

// cut is s in at most that many characters.
func cut(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

// brief is a value of JSON in at most 40 characters.
func brief(v any) string {
	s, ok := v.(string)
	if !ok {
		b, err := json.Marshal(v)
		if err != nil {
			return "?"
		}
		s = string(b)
	}
	if v == nil || s == "" {
		return "-"
	}
	return cut(s, 40)
}
