package config

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/sqlite/seal"
	"github.com/spf13/pflag"
)

func TestKeysOfTheSecrets(t *testing.T) {
	a, b := seal.NewKey(time.Time{}), seal.NewKey(time.Time{})
	for _, c := range []struct {
		name, variable string
		args           []string
		want           []seal.Key
		err            string
	}{
		{name: "none"},
		{name: "one", variable: a.Reveal(), want: []seal.Key{a}},
		{name: "two", variable: b.Reveal() + "," + a.Reveal(), want: []seal.Key{b, a}},
		{name: "no key", variable: "gkey_canary", err: "GRAPNEL_SECRETS_KEY: line 1: want gkey_ and 64 hexadecimal digits"},
		{name: "a file too", variable: a.Reveal(), args: []string{"--secrets-key-file", "x"}, err: "GRAPNEL_SECRETS_KEY: gives the key that --secrets-key-file says is in a file; leave one out"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := pflag.NewFlagSet("serve", pflag.ContinueOnError)
			Flags(f)
			if err := f.Parse(c.args); err != nil {
				t.Fatal(err)
			}
			got, err := Load(f, func(name string) (string, bool) { return c.variable, name == secretsKeyVariable })
			if e := (*Error)(nil); c.err != "" && (!errors.As(err, &e) || err.Error() != c.err) || c.err == "" && err != nil {
				t.Fatalf("error %v, want %q", err, c.err)
			}
			if err != nil && strings.Contains(err.Error(), "canary") {
				t.Error("the error repeats the key")
			}
			if len(got.SecretsKeys) != len(c.want) && err == nil {
				t.Fatalf("%d keys, want %d", len(got.SecretsKeys), len(c.want))
			}
			for i, k := range c.want {
				if got.SecretsKeys[i].ID() != k.ID() {
					t.Errorf("key %d is another", i)
				}
			}
		})
	}
}
