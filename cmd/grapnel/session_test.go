//go:build unix

package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/pflag"
)

// sessionLimit is how long one session may take; it takes seconds.
const sessionLimit = 60 * time.Second

// A session in the pages can be typed as it stands: its shell blocks are run in one
// bash, and the block after one of them is what that one prints.
func TestSessions(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program and runs it")
	}
	for _, tool := range []string{"bash", "curl", "jq"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(bin, "grapnel"), ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	natsCommand(t, bin)
	docs := documents(t)
	_, section, _ := strings.Cut(docs["README.md"], "\n## Behind a platform\n")
	section, _, _ = strings.Cut(section, "\n## ")
	for name, page := range map[string]string{"README.md": section, "docs/platform.md": docs["docs/platform.md"], "docs/backup.md": docs["docs/backup.md"]} {
		t.Run(filepath.Base(name), func(t *testing.T) { runSession(t, bin, page) })
	}
}

// sessionStep is a shell block and what it prints; nil: whatever it prints.
type sessionStep struct {
	script string
	prints *string
}

var fenced = regexp.MustCompile("(?ms)^```([a-z]+)\n(.*?)^```$")

// sessionSteps are the shell blocks of a page in their order.
func sessionSteps(page string) (steps []sessionStep) {
	for _, m := range fenced.FindAllStringSubmatch(page, -1) {
		switch language, text := m[1], m[2]; {
		case language == "sh":
			steps = append(steps, sessionStep{script: text})
		case (language == "json" || language == "text") && len(steps) > 0 && steps[len(steps)-1].prints == nil:
			steps[len(steps)-1].prints = &text
		}
	}
	return steps
}

// runSession types the page's steps into one bash, in an empty directory, with
// other ports than the page has.
func runSession(t *testing.T, bin, page string) {
	steps := sessionSteps(page)
	if len(steps) < 4 {
		t.Fatalf("found only %d steps", len(steps))
	}
	dir := shortDir(t)
	var here, there []string // addresses of the page, and those that are used
	for _, address := range []string{"127.0.0.1:8480", "127.0.0.1:8481", "127.0.0.1:4222"} {
		free := freeAddress(t)
		here, there = append(here, address, free), append(there, free, address)
	}
	var script strings.Builder
	fmt.Fprintf(&script, "set -e -o pipefail\n")
	for i, s := range steps {
		fmt.Fprintf(&script, "echo %d > step\n{\n%s} > out.%d 2>&1\n", i, strings.NewReplacer(here...).Replace(s.script), i)
	}
	ctx, cancel := context.WithTimeout(t.Context(), sessionLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash")
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(script.String())
	cmd.Env = append(os.Environ(),
		"PATH="+bin+":"+os.Getenv("PATH"), "GRAPNEL_LISTEN="+there[0], "GRAPNEL_NATS_LISTEN="+there[4])
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// What the session began in the background is in its group of processes.
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if cmd.Process != nil {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // nobody is left when all went well
	}
	if err != nil {
		at := strings.TrimSpace(read(t, filepath.Join(dir, "step")))
		out, _ := os.ReadFile(filepath.Join(dir, "out."+at))
		log, _ := os.ReadFile(filepath.Join(dir, "grapnel.log"))
		t.Fatalf("step %s: %v\n%s\nthe daemon's log:\n%s\n%s", at, err, out, log, said.String())
	}
	back := strings.NewReplacer(there...)
	for i, s := range steps {
		if s.prints == nil {
			continue
		}
		got := back.Replace(read(t, filepath.Join(dir, fmt.Sprintf("out.%d", i))))
		if diff := cmp.Diff(unvaried(*s.prints), unvaried(got)); diff != "" {
			t.Errorf("step %d:\n%s(-page +run):\n%s", i, s.script, diff)
		}
	}
}

// varied is what differs from run to run.
var varied = []struct {
	pattern *regexp.Regexp
	name    string
}{
	{regexp.MustCompile(`\b(ep|dlv|att|tok|evt|req)_[0-9A-Z]{26}\b`), "${1}_…"},
	{regexp.MustCompile(`\bwhsec_[A-Za-z0-9+/]+=*`), "whsec_…"},
	{regexp.MustCompile(`\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "TIME"},
	{regexp.MustCompile(`\b\d+ KiB\b`), "N KiB"},
	{regexp.MustCompile(`\bin \d+(\.\d+)?(µs|ms|s)\b`), "in T"},
	{regexp.MustCompile(`"duration_ms": ?[0-9.]+`), `"duration_ms":N`},
}

// unvaried is a text without what differs from run to run, nor a last line's end.
func unvaried(text string) string {
	for _, v := range varied {
		text = v.pattern.ReplaceAllString(text, v.name)
	}
	return strings.TrimRight(text, "\n")
}

// natsCommand puts a command into dir that publishes as the nats command does: that
// one is not everywhere.
func natsCommand(t *testing.T, dir string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\nGRAPNEL_TEST_NATS=1 exec '%s' -test.run='^TestNATSCommand$' -- \"$@\"\n", self)
	if err := os.WriteFile(filepath.Join(dir, "nats"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
}

// TestNATSCommand is that command: nats pub -J SUBJECT DATA -H NAME:VALUE. Server,
// user and password come from the environment.
func TestNATSCommand(t *testing.T) {
	if os.Getenv("GRAPNEL_TEST_NATS") == "" {
		t.Skip("is run by sessions")
	}
	f := pflag.NewFlagSet("nats", pflag.ContinueOnError)
	acked := f.BoolP("jetstream", "J", false, "")
	headers := f.StringArrayP("header", "H", nil, "")
	if err := f.Parse(flag.Args()); err != nil || f.NArg() != 3 || f.Arg(0) != "pub" || !*acked {
		t.Fatalf("want pub -J SUBJECT DATA, got %v: %v", flag.Args(), err)
	}
	nc, err := nats.Connect(os.Getenv("NATS_URL"), nats.UserInfo(os.Getenv("NATS_USER"), os.Getenv("NATS_PASSWORD")))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	m := nats.NewMsg(f.Arg(1))
	m.Data = []byte(f.Arg(2))
	for _, h := range *headers {
		name, value, _ := strings.Cut(h, ":")
		m.Header.Set(name, value)
	}
	if _, err := js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
}
