package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestConfigCommands(t *testing.T) {
	file := filepath.Join(t.TempDir(), "grapnel.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("GRAPNEL_EGRESS_PROXY", "http://user:canary@127.0.0.1:3128")
	t.Setenv("GRAPNEL_LISEN", "canary")
	for _, c := range []struct {
		name, text, args string
		status           int
		want, not        string
	}{
		{"print", "rate_limit: 7\n", "print --config FILE --max-event-size 2048", exitDone,
			"SETTING\nrate_limit      7                                   grapnel.yaml:1\nmax_event_size  2048                                --max-event-size\negress_proxy    http://[redacted]@127.0.0.1:3128    GRAPNEL_EGRESS_PROXY\nGRAPNEL_LISEN is no setting: did you mean GRAPNEL_LISTEN?", "nats_listen"},
		{"print everything", "rate_limit: 7\n", "print --config FILE --effective", exitDone, "nats_listen\ndefault", ""},
		{"print as JSON", "rate_limit: 7\n", "print --config FILE --json", exitDone, "\"key\": \"rate_limit\"\n\"source\": \"file\"", "nats_listen"},
		{"print what cannot be", "rate_limit: many\n", "print --config FILE", exitConfig, `grapnel.yaml:1: rate_limit: "many"`, ""},
		{"check", "rate_limit: 7\n", "check FILE", exitDone, "can be used: 2 settings are said", ""},
		{"check what cannot be", "rate_limit: many\nlissten: x\n", "check FILE", exitConfig, "grapnel.yaml:2: lissten: unknown key: did you mean listen?", ""},
		{"check two files", "", "check FILE --config FILE", exitUsage, "use one of them", ""},
		{"check a wrong flag", "", "check FILE --nats-sync often", exitUsage, "--nats-sync", ""},
		{"what is used where nothing runs", "data: /nonexistent/data\n", "print --config FILE --running", exitFailed, "no grapnel is running on /nonexistent/data", ""},
		{"what is used, and the file cannot be read", "daata: /nonexistent/data\n", "print --config FILE --running", exitConfig, "if data is said in the file, use --data", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			write(c.text)
			var out bytes.Buffer
			args := append([]string{"config"}, strings.Fields(strings.ReplaceAll(c.args, "FILE", file))...)
			status := run(t.Context(), args, nil, &out, &out)
			got := strings.ReplaceAll(out.String(), filepath.Dir(file)+"/", "")
			if status != c.status {
				t.Errorf("status %d, want %d", status, c.status)
			}
			for part := range strings.Lines(c.want) {
				if words := strings.Fields(part); !strings.Contains(strings.Join(strings.Fields(got), " "), strings.Join(words, " ")) {
					t.Errorf("no %q in:\n%s", words, got)
				}
			}
			if strings.Contains(got, "canary") || c.not != "" && strings.Contains(got, c.not) {
				t.Errorf("it shows too much:\n%s", got)
			}
		})
	}
}
