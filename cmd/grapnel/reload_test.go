package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/grapnel-hooks/grapnel/cmd/internal/config"
	"github.com/spf13/pflag"
)

// configuredBy is what the text of a file and the arguments say, and can be read
// again.
func configuredBy(t *testing.T, text string, args ...string) *configured {
	t.Helper()
	name := filepath.Join(t.TempDir(), "grapnel.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	config.Flags(flags)
	if err := flags.Parse(append(args, "--config", name)); err != nil {
		t.Fatal(err)
	}
	load := func() (config.Serve, error) {
		return config.Load(flags, func(string) (string, bool) { return "", false })
	}
	cfg, err := load()
	if err != nil {
		t.Fatal(err)
	}
	return newConfigured(cfg, load)
}
