//go:build unix

package main

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// drillLimit is how long one drill may take; it takes seconds.
const drillLimit = 90 * time.Second

var runDrills = flag.Bool("drills", false, "run the drills of scripts/drills and compare with docs/drills.md; with -update, write what they print into it")

const drillsPage = house + "/docs/drills.md"

// drills are the scripts, by name.
func drills(t *testing.T) (names []string) {
	t.Helper()
	all, err := os.ReadDir(filepath.Join(house, "scripts/drills"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if e.Name() != "run" && e.Name() != "lib.sh" {
			names = append(names, e.Name())
		}
	}
	return names
}

var drillBlock = regexp.MustCompile("(?s)\n```console\n(.*?)```\n")

// drillSection is the part of the page that is about one drill, and the block in it that
// shows what it prints.
func drillSection(page, name string) (section, block string, ok bool) {
	_, section, ok = strings.Cut(page, "\n## "+name+"\n")
	section, _, _ = strings.Cut(section, "\n## ")
	if m := drillBlock.FindStringSubmatch(section); m != nil {
		block = m[1]
	}
	return section, block, ok
}

// The page has each drill, and no others.
func TestDrillsAreDescribed(t *testing.T) {
	page := read(t, drillsPage)
	var described []string
	for _, m := range regexp.MustCompile(`(?m)^## ([a-z-]+)$`).FindAllStringSubmatch(page, -1) {
		described = append(described, m[1])
	}
	names := drills(t)
	slices.Sort(described)
	if diff := cmp.Diff(names, described); diff != "" {
		t.Errorf("-scripts +page:\n%s", diff)
	}
	for _, name := range names {
		section, block, _ := drillSection(page, name)
		if block == "" || !strings.Contains(section, "**Alarm:** ") || !strings.Contains(section, "**Do:**") {
			t.Errorf("%s: want what is printed, which alarm it is, and what to do", name)
		}
	}
	alarms := read(t, filepath.Join(house, "docs/monitoring/alerts.yaml"))
	for _, m := range regexp.MustCompile(`\[(Grapnel\w+)\]`).FindAllStringSubmatch(page, -1) {
		if !strings.Contains(alarms, "alert: "+m[1]+"\n") {
			t.Errorf("there is no alarm %s", m[1])
		}
	}
}

// Each drill passes, and prints what the page says that one sees.
func TestDrills(t *testing.T) {
	if !*runDrills {
		t.Skip("takes a minute: use -drills")
	}
	bin := t.TempDir()
	for name, what := range map[string]string{"grapnel": ".", "nats-server": "github.com/nats-io/nats-server/v2"} {
		if out, err := exec.Command("go", "build", "-o", filepath.Join(bin, name), what).CombinedOutput(); err != nil {
			t.Fatalf("go build %s: %v\n%s", what, err, out)
		}
	}
	for _, name := range drills(t) {
		t.Run(name, func(t *testing.T) {
			got := drill(t, bin, name)
			page := read(t, drillsPage)
			section, block, _ := drillSection(page, name)
			diff := cmp.Diff(unvaried(seen(block)), unvaried(seen(got)))
			switch {
			case diff == "":
			case *updateGoldens:
				changed := strings.Replace(section, "```console\n"+block, "```console\n"+got, 1)
				if err := os.WriteFile(drillsPage, []byte(strings.Replace(page, section, changed, 1)), 0o644); err != nil {
					t.Fatal(err)
				}
			default:
				t.Errorf("docs/drills.md (-page +run):\n%s", diff)
			}
		})
	}
}

// drill runs one and returns what it printed.
func drill(t *testing.T, bin, name string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), drillLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(house, "scripts/drills", name))
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	switch {
	case err != nil && cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == 77:
		t.Skip(strings.TrimSpace(errs.String()))
	case err != nil:
		t.Fatalf("%v\n%s\n%s", err, out.String(), errs.String())
	}
	return strings.TrimPrefix(out.String(), "\n")
}

// drillVaries is what differs from run to run beside what sessions have.
var drillVaries = []struct {
	pattern *regexp.Regexp
	name    string
}{
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "127.0.0.1:PORT"},
	{regexp.MustCompile(`/\S*drill\.\w{6}`), "/tmp/drill"},
	{regexp.MustCompile(`\d{8}T\d{6}Z`), "MOMENT"},
	{regexp.MustCompile(`pid \d+`), "pid N"},
	{regexp.MustCompile(`"pending":\d+`), `"pending":N`},
	{regexp.MustCompile(`\d+ pending deliveries`), "N pending deliveries"},
	{regexp.MustCompile(`repeated \d+`), "repeated N"},
	{regexp.MustCompile(`\d+\.\d s before`), "N s before"},
	{regexp.MustCompile(` +`), " "}, // columns are as wide as what is in them
}

// seen is a drill's output without what differs.
func seen(text string) string {
	for _, v := range drillVaries {
		text = v.pattern.ReplaceAllString(text, v.name)
	}
	return text
}
