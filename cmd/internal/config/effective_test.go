package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// said is the effective values of a configuration that somebody has set, and
// the file without its directory.
func said(c Serve) []Value {
	var set []Value
	for _, v := range c.Effective() {
		if v.Source != Default {
			v.Where = filepath.Base(v.Where)
			set = append(set, v)
		}
	}
	return set
}

func TestEffective(t *testing.T) {
	c, err := load(t, []string{"--rate-limit", "7", "--allow-port", "1", "--allow-port", "2"},
		map[string]string{"GRAPNEL_LOG_LEVEL": "warn", "GRAPNEL_EGRESS_PROXY": "http://user:canary@proxy.example:3128", "GRAPNEL_RATE_LIMIT": "9"},
		"strict: true\nrate_limit: 8\nplans: {trial: [], pro: [outgoing_webhooks]}\nretention: {dead: 100d}\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []Value{
		{Key: "rate_limit", Values: []string{"7"}, Source: Flag, Where: "--rate-limit", Reload: true},
		{Key: "strict", Values: []string{"true"}, Source: File, Where: "grapnel.yaml:1", Reload: true},
		{Key: "allow_port", Values: []string{"1", "2"}, Source: Flag, Where: "--allow-port", Reload: true},
		{Key: "egress_proxy", Values: []string{"http://[redacted]@proxy.example:3128"}, Source: Variable, Where: "GRAPNEL_EGRESS_PROXY"},
		{Key: "log_level", Values: []string{"warn"}, Source: Variable, Where: "GRAPNEL_LOG_LEVEL", Reload: true},
		{Key: "plans", Values: []string{"pro: [outgoing_webhooks]", "trial: []"}, Source: File, Where: "grapnel.yaml:3", Reload: true},
		{Key: "retention", Values: []string{"dead: 2400h0m0s"}, Source: File, Where: "grapnel.yaml:4", Reload: true},
	}
	if diff := cmp.Diff(want, said(c)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := len(c.Effective()); n != len(settings)+len(sections) {
		t.Errorf("%d values, want one for each of %d settings", n, len(settings)+len(sections))
	}
	if all := (Serve{}).Effective(); all != nil {
		t.Errorf("of one that Load did not make: %v", all)
	}
}

func TestChanges(t *testing.T) {
	format := func(header string) string {
		return "formats: {acme: {scheme: sha256-hex, headers: {signature: " + header + "}, body: data}}\n"
	}
	for _, c := range []struct {
		name     string
		from, to string // files
		flags    []string
		want     []Change
	}{
		{name: "nothing", from: "rate_limit: 7\n", to: "rate_limit: 7\n"},
		{name: "only its line", from: "rate_limit: 7\n", to: "\n\nrate_limit: 7\n"},
		{name: "to what was the default", from: "# none\n", to: "rate_limit: 50\n"},
		{name: "one that a reload changes", from: "rate_limit: 7\n", to: "rate_limit: 8\n",
			want: []Change{{Key: "rate_limit", From: []string{"7"}, To: []string{"8"}, Where: "grapnel.yaml:1", Reload: true}}},
		{name: "one that wants a restart", from: "# none\n", to: "listen: 127.0.0.1:1\n",
			want: []Change{{Key: "listen", From: []string{"127.0.0.1:8480"}, To: []string{"127.0.0.1:1"}, Where: "grapnel.yaml:1"}}},
		{name: "back to the default", from: "log_level: debug\n", to: "# none\n",
			want: []Change{{Key: "log_level", From: []string{"debug"}, To: []string{"info"}, Reload: true}}},
		{name: "a flag stays in force", flags: []string{"--rate-limit", "7"}, from: "rate_limit: 1\n", to: "rate_limit: 2\n"},
		{name: "a password alone", from: "egress_proxy: http://u:canary-a@h.example\n", to: "egress_proxy: http://u:canary-b@h.example\n",
			want: []Change{{Key: "egress_proxy", From: []string{"http://[redacted]@h.example"}, To: []string{"http://[redacted]@h.example"}, Where: "grapnel.yaml:1"}}},
		{name: "a part of a section", from: "retention: {finished: 2h}\n", to: "retention: {finished: 3h}\n",
			want: []Change{{Key: "retention", From: []string{"finished: 2h0m0s"}, To: []string{"finished: 3h0m0s"}, Where: "grapnel.yaml:1", Reload: true}}},
		{name: "what a format says", from: format("X-A"), to: format("X-B"),
			want: []Change{{Key: "formats", From: []string{"acme (95b57d25)"}, To: []string{"acme (c6aa53ec)"}, Where: "grapnel.yaml:1", Reload: true}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			was, err := load(t, c.flags, nil, c.from)
			if err != nil {
				t.Fatal(err)
			}
			is, err := load(t, c.flags, nil, c.to)
			if err != nil {
				t.Fatal(err)
			}
			got := was.Changes(is)
			for i := range got {
				if got[i].Where != "" {
					got[i].Where = filepath.Base(got[i].Where)
				}
			}
			if diff := cmp.Diff(c.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestHidden(t *testing.T) {
	for _, c := range []struct{ value, want string }{
		{"", "[redacted]"},
		{"nats://nats.example:4222", "nats://nats.example:4222"},
		{"nats://user:canary@nats.example:4222", "nats://[redacted]@nats.example:4222"},
		{"nats://canary@nats.example", "nats://[redacted]@nats.example"},
		{"nats://u:canary@a.example, nats://u:canary@b.example", "nats://[redacted]@a.example,nats://[redacted]@b.example"},
		{"nats://u:12,canary@h.example", "[redacted]@h.example"},
		{"nats://u:can@ary@h.example", "nats://[redacted]@h.example"},
		{"nats://u:can/ary@h.example", "[redacted]@h.example"},
		{"u:canary@h.example:4222", "[redacted]@h.example:4222"},
		{"h.example", "[redacted]"},
		{"https://h.example/path?key=canary#canary", "https://h.example/path?[redacted]"},
		{"x@h.example?key=canary", "[redacted]"},
		{"%canary", "[redacted]"},
	} {
		got := hideUser(c.value)
		if strings.Contains(got, "canary") || strings.Contains(got, "can") || strings.Contains(got, "12") {
			t.Errorf("hideUser(%q) shows the secret: %q", c.value, got)
		}
		if got != c.want {
			t.Errorf("hideUser(%q) = %q, want %q", c.value, got, c.want)
		}
	}
}

// Whatever a password is made of, nothing of it is shown, though it ought to have
// been escaped.
func FuzzHidden(f *testing.F) {
	for _, s := range []string{"", "x@y", "a/b", "1,2", "x@h/", "x@h,", "?", "#", "%", " "} {
		f.Add(s, "")
		f.Add("", s)
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		password := before + "canary" + after
		if strings.Contains(password, "://") {
			t.Skip() // two URLs
		}
		for _, value := range []string{
			"nats://user:" + password + "@h.example:4222",
			"nats://u:p@h.example,nats://user:" + password + "@h.example",
			"http://h.example/?" + password,
			"user:" + password + "@h.example",
		} {
			if got := hideUser(value); strings.Contains(got, "canary") {
				t.Errorf("%q shows the secret: %q", value, got)
			}
		}
	})
}

func TestSecretsInFiles(t *testing.T) {
	write := func(text string) string {
		name := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	good := write("nats://user:canary@127.0.0.1:4222\n")
	for _, c := range []struct {
		name string
		env  map[string]string
		file string
		want string // of --nats-url
		err  string
	}{
		{name: "a file", env: map[string]string{"GRAPNEL_NATS_URL_FILE": good}, want: "nats://user:canary@127.0.0.1:4222"},
		{name: "over the configuration file", env: map[string]string{"GRAPNEL_NATS_URL_FILE": good}, file: "nats_url: nats://127.0.0.1:1\n", want: "nats://user:canary@127.0.0.1:4222"},
		{name: "both", env: map[string]string{"GRAPNEL_NATS_URL_FILE": good, "GRAPNEL_NATS_URL": "nats://canary"}, err: "GRAPNEL_NATS_URL: gives what GRAPNEL_NATS_URL_FILE says is in a file; leave one out"},
		{name: "none there", env: map[string]string{"GRAPNEL_NATS_URL_FILE": "/nonexistent/x"}, err: "GRAPNEL_NATS_URL_FILE: /nonexistent/x: no such file or directory"},
		{name: "an empty one", env: map[string]string{"GRAPNEL_NATS_URL_FILE": write(" \n")}, err: ": is empty"},
		{name: "a wrong value", env: map[string]string{"GRAPNEL_EGRESS_PROXY_FILE": write("socks5://u:canary@h.example")}, err: "GRAPNEL_EGRESS_PROXY_FILE: want http://… or https://…"},
		{name: "of a setting without secrets", env: map[string]string{"GRAPNEL_LISTEN_FILE": good}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := load(t, nil, c.env, c.file)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "canary") {
					t.Fatalf("error %v, want %q", err, c.err)
				}
				return
			}
			if err != nil || got.NATSURL != c.want {
				t.Errorf("%q %v, want %q", got.NATSURL, err, c.want)
			}
			for _, v := range got.Effective() {
				if strings.Contains(strings.Join(v.Values, " "), "canary") {
					t.Errorf("%s shows the secret: %q", v.Key, v.Values)
				}
			}
		})
	}
}

func TestUnknownVariables(t *testing.T) {
	got := UnknownVariables([]string{
		"PATH=/bin", "GRAPNEL_LISTEN=x", "GRAPNEL_TOKEN=canary", "GRAPNEL_NATS_URL_FILE=x", "GRAPNEL_SECRETS_KEY=x",
		"GRAPNEL_LISEN=canary", "GRAPNEL_COLOUR=blue", "GRAPNEL_LISTEN_FILE=x", "GRAPNEL_PORT=tcp://x", "GRAPNEL_PORT_8480_TCP=x", "GRAPNEL_SERVICE_HOST=x",
	})
	want := []UnknownVariable{{"GRAPNEL_COLOUR", ""}, {"GRAPNEL_LISEN", "GRAPNEL_LISTEN"}, {"GRAPNEL_LISTEN_FILE", ""}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
