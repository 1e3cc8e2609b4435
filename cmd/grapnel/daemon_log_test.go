package main

import (
	"encoding/json"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What is logged changes while the daemon runs: by a command, which the audit has,
// and by a signal. (OPS-06)
func TestOPS06_LogLevel(t *testing.T) {
	d := serveNow(t)
	level := func() (l struct{ Level, Configured string }) {
		t.Helper()
		if err := json.Unmarshal([]byte(d.run("log-level", "--json")), &l); err != nil {
			t.Fatal(err)
		}
		return l
	}
	for _, c := range []struct {
		name, want string
		do         func()
	}{
		{"as configured", "info", func() {}},
		{"asked for", "debug", func() { d.run("log-level", "debug") }},
		{"asked for a while", "error", func() { d.run("log-level", "error", "--for", "1h") }},
		{"configured", "info", func() { d.run("log-level", "configured") }},
		{"by a signal", "debug", func() { syscall.Kill(os.Getpid(), syscall.SIGUSR1) }},
		{"by a second one", "info", func() { syscall.Kill(os.Getpid(), syscall.SIGUSR1) }},
	} {
		c.do()
		await(t, c.name, func() bool { return level().Level == c.want })
		if l := level(); l.Configured != "info" {
			t.Errorf("%s: %+v", c.name, l)
		}
	}
	var told []string
	for line := range strings.Lines(d.log.String()) {
		var l struct{ Msg, To, By string }
		if json.Unmarshal([]byte(line), &l) == nil && l.Msg == "log level is another now" {
			told = append(told, l.To+" by "+l.By)
		}
	}
	want := []string{"debug by request", "error by request", "info by request", "debug by SIGUSR1", "info by SIGUSR1"}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("the log (-want +got):\n%s", diff)
	}
	if n := strings.Count(d.run("audit", "--json"), "log_level.set"); n != 3 {
		t.Errorf("the audit has %d changes, want 3", n)
	}
}
