package config

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout/catalogue"
	"github.com/spf13/pflag"
)

// load reads a configuration from arguments, variables and a file's text.
func load(t *testing.T, args []string, env map[string]string, text string) (Serve, error) {
	t.Helper()
	f := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	Flags(f)
	if text != "" {
		name := filepath.Join(t.TempDir(), "grapnel.yaml")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--config", name)
	}
	if err := f.Parse(args); err != nil {
		t.Fatal(err)
	}
	c, err := Load(f, func(name string) (string, bool) { v, ok := env[name]; return v, ok })
	if c.File != "" {
		c.File = filepath.Base(c.File)
	}
	return c, err
}

func defaults(change func(*Serve)) Serve {
	c := Serve{Data: "./grapnel-data", Listen: "127.0.0.1:8480", NATSListen: "127.0.0.1:4222", SubjectPrefix: "events", MaxEventSize: 256 << 10, RateLimit: 50, OnMissing: "fail", ParkAfter: 100_000, MaxPending: 5_000_000, MinFree: -1, Ballast: 128 << 20, LogFormat: "auto", TraceSample: 0.1}
	if change != nil {
		change(&c)
	}
	return c
}

func nets(s ...string) (out []netip.Prefix) {
	for _, p := range s {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func TestLoad(t *testing.T) {
	pem := filepath.Join(t.TempDir(), "some.pem")
	if err := os.WriteFile(pem, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	types := filepath.Join(t.TempDir(), "types.yaml")
	if err := os.WriteFile(types, []byte("event_types: [{name: task.done}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	everything := `
data: /var/lib/grapnel   # all of it
listen: "off"
admin_listen: 127.0.0.1:8481
nats_listen: 127.0.0.1:0
nats_sync: 2s
allow_http: true
allow_network: [10.0.0.0/8, "fd00::/8"]
allow_port: [9443, 10443]
secrets_key_file: /etc/grapnel/secrets.key
rate_limit: 200
park_after: 5000
on_missing_cursor: new
trusted_proxy: 192.0.2.0/24
log_format: json
log_level: debug
plans: {trial: [], enterprise: [outgoing_webhooks]}
strict: true
event_types:
  - {name: invoice.paid, schema_version: "2", schema: {type: object}}
retention:
  finished: 12h
  dead: 90d
`
	for _, c := range []struct {
		name string
		args []string
		env  map[string]string
		file string
		want Serve
	}{
		{name: "defaults", want: defaults(nil)},
		{name: "flag over environment over file",
			args: []string{"--listen", "127.0.0.1:1"},
			env:  map[string]string{"GRAPNEL_LISTEN": "127.0.0.1:2", "GRAPNEL_LOG_LEVEL": "warn"},
			file: "listen: 127.0.0.1:3\nlog_level: error\nlog_format: text\n",
			want: defaults(func(c *Serve) {
				c.Listen, c.LogLevel, c.LogFormat, c.File = "127.0.0.1:1", slog.LevelWarn, "text", "grapnel.yaml"
			})},
		{name: "a flag that says the default is still a flag",
			args: []string{"--listen", "127.0.0.1:8480"}, env: map[string]string{"GRAPNEL_LISTEN": "127.0.0.1:2"},
			want: defaults(nil)},
		{name: "empty variable is none", env: map[string]string{"GRAPNEL_LISTEN": ""}, want: defaults(nil)},
		{name: "whole file", file: everything, want: Serve{
			Data: "/var/lib/grapnel", Listen: "off", Admin: "127.0.0.1:8481", NATSListen: "127.0.0.1:0", NATSSync: 2 * time.Second, SubjectPrefix: "events", MaxEventSize: 256 << 10, AllowHTTP: true,
			MaxPending: 5_000_000, MinFree: -1, Ballast: 128 << 20, RateLimit: 200, OnMissing: "new", ParkAfter: 5000, TrustedProxies: nets("192.0.2.0/24"),
			AllowNetworks: nets("10.0.0.0/8", "fd00::/8"), AllowPorts: []uint16{9443, 10443}, SecretsKeyFile: "/etc/grapnel/secrets.key", LogFormat: "json", LogLevel: slog.LevelDebug, TraceSample: 0.1, File: "grapnel.yaml",
			Plans:        map[string][]string{"trial": {}, "enterprise": {"outgoing_webhooks"}},
			KeepFinished: 12 * time.Hour, KeepDead: 90 * 24 * time.Hour,
			Strict: true, EventTypes: []catalogue.Type{{Name: "invoice.paid", Version: "2", Schema: json.RawMessage(`{"type":"object"}`)}},
		}},
		{name: "event types in a file of their own", file: "event_types: " + types + "\n",
			want: defaults(func(c *Serve) {
				c.EventTypes, c.File = []catalogue.Type{{Name: "task.done", Version: "1"}}, "grapnel.yaml"
			})},
		{name: "strict by a flag", args: []string{"--strict"}, want: defaults(func(c *Serve) { c.Strict = true })},
		{name: "lists: a flag replaces the file's, and is repeatable",
			args: []string{"--allow-network", "127.0.0.0/8", "--allow-network=::1/128"}, file: "allow_network: [10.0.0.0/8]\n",
			want: defaults(func(c *Serve) { c.AllowNetworks, c.File = nets("127.0.0.0/8", "::1/128"), "grapnel.yaml" })},
		{name: "lists in the environment have commas", env: map[string]string{"GRAPNEL_ALLOW_NETWORK": "10.1.2.3/8, ::1/128"},
			want: defaults(func(c *Serve) { c.AllowNetworks = nets("10.0.0.0/8", "::1/128") })},
		{name: "boolean flag", args: []string{"--allow-http"},
			want: defaults(func(c *Serve) { c.AllowHTTP = true })},
		{name: "boolean in the environment", env: map[string]string{"GRAPNEL_ALLOW_HTTP": "1"},
			want: defaults(func(c *Serve) { c.AllowHTTP = true })},
		{name: "publishers sign in", args: []string{"--nats-listen", "0.0.0.0:4222", "--nats-sign-in", "--tls-cert", pem, "--tls-key", pem},
			want: defaults(func(c *Serve) {
				c.NATSListen, c.NATSSignIn, c.TLSCert, c.TLSKey = "0.0.0.0:4222", true, pem, pem
			})},
		{name: "a broker elsewhere", args: []string{"--nats-url", "tls://nats.example:4222", "--nats-creds", pem, "--nats-tls-cert", pem, "--nats-tls-key", pem},
			want: defaults(func(c *Serve) {
				c.NATSURL, c.NATSCreds, c.NATSTLSCert, c.NATSTLSKey = "tls://nats.example:4222", pem, pem, pem
			})},
		{name: "an egress proxy, its password in the environment", env: map[string]string{"GRAPNEL_EGRESS_PROXY": "http://user:of-the-proxy@Proxy.example:3128/"},
			args: []string{"--nat64-prefix", "64:ff9b::/96"},
			want: defaults(func(c *Serve) {
				c.EgressProxy = &url.URL{Scheme: "http", User: url.UserPassword("user", "of-the-proxy"), Host: "proxy.example:3128"}
				c.NAT64 = nets("64:ff9b::/96")
			})},
		{name: "a collector of traces, its headers in the environment", args: []string{"--otlp-endpoint", "https://otlp.example/tenant", "--trace-sample", "1"},
			env: map[string]string{"GRAPNEL_OTLP_HEADERS": "x-scope=acme, Authorization=Basic%20YTpi"},
			want: defaults(func(c *Serve) {
				c.OTLPEndpoint, c.TraceSample = &url.URL{Scheme: "https", Host: "otlp.example", Path: "/tenant"}, 1
				c.OTLPHeaders = []deliver.Header{{Name: "Authorization", Value: deliver.NewHeaderValue("Basic YTpi")}, {Name: "X-Scope", Value: deliver.NewHeaderValue("acme")}}
			})},
		{name: "nothing but comments", file: "# nothing yet\n", want: defaults(func(c *Serve) { c.File = "grapnel.yaml" })},
		{name: "one key", file: "allow_network: 10.0.0.0/8\n",
			want: defaults(func(c *Serve) { c.AllowNetworks, c.File = nets("10.0.0.0/8"), "grapnel.yaml" })},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := load(t, c.args, c.env, c.file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got, cmpopts.EquateComparable(netip.Prefix{}, url.Userinfo{}), cmpopts.IgnoreUnexported(Serve{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestLoadRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		env  map[string]string
		file string
		want string // a part of the error for each line of it
	}{
		{name: "flag", args: []string{"--listen", "8480"}, want: `--listen: "8480": want host:port`},
		{name: "an address that cannot be left out", args: []string{"--admin-listen", "off"}, want: `--admin-listen: "off": want host:port`},
		{name: "variable", env: map[string]string{"GRAPNEL_LOG_FORMAT": "xml"}, want: `GRAPNEL_LOG_FORMAT: "xml": want one of auto, text, json`},
		{name: "file, with the line", file: "\nlog_level: info\nnats_sync: often\n", want: `grapnel.yaml:3: nats_sync: "often": want always, or a duration such as 2s`},
		{name: "unknown key, with the nearest", file: "nats_lisen: 127.0.0.1:1\n", want: "grapnel.yaml:1: nats_lisen: unknown key: did you mean nats_listen?"},
		{name: "key spelt like the flag", file: "nats-listen: 127.0.0.1:1\n", want: "unknown key: did you mean nats_listen?"},
		{name: "unknown key, nothing near", file: "colour: blue\n", want: "grapnel.yaml:1: colour: unknown key: known are admin_listen, allow_http, allow_network, allow_port, ballast, data,"},
		{name: "all errors at once", file: "colour: blue\nlog_level: loud\nplan: x\n", want: "yaml:1: colour\nyaml:3: plan"},
		{name: "unknown keys and bad values at once", file: "colour: blue\nlog_level: loud\n", want: "yaml:1: colour: unknown key: known are\nyaml:2: log_level: \"loud\""},
		{name: "all bad values at once", file: "log_level: loud\nlisten: x\n", want: "yaml:1: log_level: \"loud\"\nyaml:2: listen: \"x\""},
		{name: "strict", file: "strict: maybe\n", want: "grapnel.yaml:1: strict: \"maybe\": want true or false"},
		{name: "event types", file: "listen: off\nevent_types:\n  - name: a\n  - {name: b, schema: {type: text}}\n", want: "grapnel.yaml:2: event_types: line 4: event type b: schema: /type"},
		{name: "no event types", file: "event_types: {a: b}\n", want: "grapnel.yaml:1: event_types: want a list of event types, or the name of a file"},
		{name: "event types of no file", file: "event_types: none.yaml\n", want: "none.yaml: no such file"},
		{name: "twice", file: "listen: 127.0.0.1:1\nlisten: 127.0.0.1:2\n", want: "grapnel.yaml:2"},
		{name: "not YAML", file: "listen: [\n", want: "grapnel.yaml:1"},
		{name: "a list of things", file: "- listen\n", want: "want keys with values"},
		{name: "two documents", file: "listen: 127.0.0.1:1\n---\nlisten: 127.0.0.1:2\n", want: "several YAML documents"},
		{name: "no value", file: "listen:\n", want: "grapnel.yaml:1: listen: has no value"},
		{name: "list for one", file: "listen: [a, b]\n", want: "want one value, not a list"},
		{name: "mapping for one", file: "listen: {a: b}\n", want: "grapnel.yaml:1: listen: want a text"},
		{name: "unknown feature", file: "plans:\n  trial: [outgoing_webhook]\n", want: `grapnel.yaml:1: plans: plan trial in line 2: unknown feature "outgoing_webhook"`},
		{name: "plan without a list", file: "plans:\n  trial: yes\n", want: "plan trial in line 2: want a list of features"},
		{name: "unknown retention", file: "retention:\n  delivered: 3d\n", want: "retention: delivered in line 2: unknown key"},
		{name: "short retention", file: "retention: {dead: 1s}\n", want: `dead in line 1: "1s": want at least 1h`},
		{name: "network without bits", args: []string{"--allow-network", "10.0.0.1"}, want: `--allow-network: "10.0.0.1": want a network in CIDR form, such as 10.0.0.1/32`},
		{name: "the egress proxy's password on the command line", args: []string{"--egress-proxy", "http://user:of-the-proxy@proxy.example:3128"},
			want: "--egress-proxy: holds a user and password"},
		{name: "an egress proxy with a path", file: "egress_proxy: http://proxy.example/x\n", want: "grapnel.yaml:1: egress_proxy: has more than a host and a port"},
		{name: "an egress proxy by SOCKS", args: []string{"--egress-proxy", "socks5://proxy.example"}, want: "--egress-proxy: want http://… or https://…"},
		{name: "headers of a collector on the command line", args: []string{"--otlp-endpoint", "http://c:1", "--otlp-headers", "a=b"}, want: "--otlp-headers: everybody sees it who lists processes"},
		{name: "headers for nobody", env: map[string]string{"GRAPNEL_OTLP_HEADERS": "a=b"}, want: "GRAPNEL_OTLP_HEADERS: is for a collector: say which with --otlp-endpoint"},
		{name: "samples for nobody", file: "trace_sample: 0.5\n", want: "trace_sample: is for a collector"},
		{name: "no header", env: map[string]string{"GRAPNEL_OTLP_HEADERS": "a=b,canary"}, want: "GRAPNEL_OTLP_HEADERS: header 2: want name=value"},
		{name: "no collector", args: []string{"--otlp-endpoint", "127.0.0.1:4318"}, want: "--otlp-endpoint: want http://host:port"},
		{name: "no part", args: []string{"--trace-sample", "10%"}, want: `--trace-sample: "10%": want a number from 0 to 1`},
		{name: "no prefix of NAT64", args: []string{"--nat64-prefix", "64:ff9b::/95"}, want: "--nat64-prefix: \"64:ff9b::/95\": want an IPv6 prefix of 32,"},
		{name: "sync too long", args: []string{"--nats-sync", "1h"}, want: "--nats-sync: \"1h\": want always, or 1ms to 10m"},
		{name: "embedded and external", args: []string{"--nats-url", "nats://h:1"}, env: map[string]string{"GRAPNEL_NATS_LISTEN": "127.0.0.1:4222"},
			want: "GRAPNEL_NATS_LISTEN: is for the embedded NATS server, and --nats-url uses another"},
		{name: "credentials for nobody", args: []string{"--nats-creds", os.DevNull}, want: "--nats-creds: is for a NATS server elsewhere"},
		{name: "certificate without key", args: []string{"--nats-url", "nats://h:1", "--nats-tls-cert", os.DevNull}, want: "--nats-tls-cert: needs the certificate's key"},
		{name: "our certificate without key", args: []string{"--tls-cert", os.DevNull}, want: "--tls-cert: needs the certificate's key"},
		{name: "our key without certificate", env: map[string]string{"GRAPNEL_TLS_KEY": os.DevNull}, want: "GRAPNEL_TLS_KEY: needs the key's certificate"},
		{name: "sign-in elsewhere", args: []string{"--nats-url", "nats://h:1", "--nats-sign-in"}, want: "--nats-sign-in: is for the embedded NATS server"},
		{name: "sign-in, perhaps", file: "nats_sign_in: perhaps\n", want: `grapnel.yaml:1: nats_sign_in: "perhaps": want true or false`},
		{name: "missing file of credentials", args: []string{"--nats-url", "nats://h:1", "--nats-creds", "/nonexistent/x"}, want: "--nats-creds: open /nonexistent/x: no such file"},
		{name: "missing configuration", args: []string{"--config", "/nonexistent/grapnel.yaml"}, want: "/nonexistent/grapnel.yaml: no such file or directory"},
		{name: "too large", file: strings.Repeat("# filler\n", 120_000), want: "has more than 1048576 bytes"},
		{name: "empty data", args: []string{"--data", " "}, want: "--data: is empty"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := load(t, c.args, c.env, c.file)
			if err == nil {
				t.Fatal("it was accepted")
			}
			for part := range strings.Lines(c.want) {
				if part = strings.TrimSpace(part); !strings.Contains(err.Error(), part) {
					t.Errorf("want %q in:\n%v", part, err)
				}
			}
			var e *Error
			if !errors.As(err, &e) {
				t.Errorf("no *Error: %#v", err)
			} else if wantFlag := strings.HasPrefix(c.want, "--"); e.Flag != wantFlag {
				t.Errorf("Flag is %v, want %v", e.Flag, wantFlag)
			}
		})
	}
}

// What the help says is the default is the default.
func TestDefaultsOfFlags(t *testing.T) {
	f := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	Flags(f)
	for _, s := range settings {
		if s.many {
			continue
		}
		if got := f.Lookup(s.flag).DefValue; got != s.initial {
			t.Errorf("--%s: default %q, want %q", s.flag, got, s.initial)
		}
	}
}

func FuzzFile(f *testing.F) {
	for _, s := range []string{"", "a: b", "- x", "plans: {a: [b]}", "retention: {dead: 1d}", "&a x: *a", "? [a]\n: b", "<<: {a: b}", "a: !!binary x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		name := filepath.Join(t.TempDir(), "f.yaml")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		readFile(name) // must not panic
	})
}
