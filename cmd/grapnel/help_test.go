package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi/httpapitest"
	"github.com/spf13/cobra"
)

func TestNobodyRuns(t *testing.T) {
	golden(t, "commands/nobody.txt", transcript(t, shortDir(t), "org list", "event append acme a.b", "cursor list --json"))
}

// Each command has a help with a short text and two examples that name it.
func TestHelp(t *testing.T) {
	var all []*cobra.Command
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		all = append(all, c)
		for _, s := range c.Commands() {
			if !s.Hidden {
				walk(s)
			}
		}
	}
	walk((&app{}).command())
	for _, c := range all {
		if c.Short == "" {
			t.Errorf("%s: no short text", c.CommandPath())
		}
		examples := strings.Count(c.Example, "  grapnel")
		if examples != 2 {
			t.Errorf("%s: %d examples, want 2", c.CommandPath(), examples)
		}
		if c.Name() != "grapnel" && strings.Count(c.Example, c.CommandPath()) != 2 {
			t.Errorf("%s: its examples are of another command:\n%s", c.CommandPath(), c.Example)
		}
		if !c.HasParent() {
			continue
		}
		if c.Flags().Lookup("json") == nil && c.InheritedFlags().Lookup("json") == nil {
			t.Errorf("%s: no --json", c.CommandPath())
		}
	}
}

func TestCompletion(t *testing.T) {
	s := httpapitest.New()
	withDeliveries(t, s)
	if _, err := s.AddToken(t.Context(), httpapi.Token{Org: "acme", Name: "the portal"}); err != nil {
		t.Fatal(err)
	}
	dir := pretend(t, s)
	t.Setenv("GRAPNEL_DATA", dir)
	for _, c := range []struct {
		args string
		want string
	}{
		{"__complete org show ''", "acme\n:4\n"},
		{"__complete org show acme ''", ":4\n"},
		{"__complete endpoint show acme ''", "ep_01M7YRRW6G0000000000000001\thttps://hooks.example/in\n:4\n"},
		{"__complete token revoke acme ''", "tok_01M7YRS03G0000000000000001\tthe portal\n:4\n"},
		{"__complete token add acme --scope ''", "webhooks:read\nwebhooks:manage\nevents:write\ncursors:read\ncursors:manage\nadmin\n:4\n"},
		{"__complete token revoke --operator ''", ":4\n"},
		{"__complete event append ''", "acme\n:4\n"},
		{"__complete fsck ''", "acme\n:4\n"},
		{"__complete org add ''", ":0\n"},
		{"__complete fsc", "fsck\tRead the streams again and prove the books\n:4\n"},
	} {
		var out, errs bytes.Buffer
		if status := run(t.Context(), words(c.args), strings.NewReader(""), &out, &errs); status != 0 || out.String() != c.want {
			t.Errorf("%s: status %d, got %q, want %q\n%s", c.args, status, out.String(), c.want, errs.String())
		}
	}
	var script bytes.Buffer
	if status := run(t.Context(), []string{"completion", "bash"}, nil, &script, &script); status != 0 || !strings.Contains(script.String(), "grapnel") {
		t.Errorf("completion bash: status %d", status)
	}
}
