package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/grapnel-hooks/grapnel/cmd/internal/config"
	"github.com/spf13/pflag"
)

// repository is the top of it.
const repository = "../.."

func fileOf(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(repository, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Containers cannot be run by the tests, nor systemd. What their files say of the
// program is true all the same: commands, flags, variables and files exist.
func TestServiceFilesAreTrue(t *testing.T) {
	unit, image, compose := fileOf(t, "scripts/service/grapnel.service"), fileOf(t, "scripts/service/Dockerfile"), fileOf(t, "scripts/service/compose.yaml")
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	config.Flags(flags)

	exec := regexp.MustCompile(`(?m)^ExecStart=/usr/bin/grapnel (.*)$`).FindStringSubmatch(unit)
	if exec == nil {
		t.Fatal("the unit starts nothing")
	}
	root := (&app{out: io.Discard, err: io.Discard}).command()
	found, rest, err := root.Find(strings.Fields(exec[1]))
	if err != nil || found.Name() != "serve" {
		t.Fatalf("%s: %v, %v", exec[1], found.Name(), err)
	}
	if err := found.ParseFlags(rest); err != nil {
		t.Errorf("the unit: %v", err)
	}
	for _, m := range regexp.MustCompile(`CMD \[(.*)\]`).FindAllStringSubmatch(image, -1) {
		words := strings.Fields(strings.NewReplacer(`"`, "", ",", " ", "/usr/bin/grapnel", "").Replace(m[1]))
		if c, _, err := root.Find(words); err != nil || c == root {
			t.Errorf("the image: no command %v", words)
		}
	}
	variables := map[string]bool{}
	flags.VisitAll(func(f *pflag.Flag) {
		variables["GRAPNEL_"+strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))] = true
	})
	for name, text := range map[string]string{"Dockerfile": image, "compose.yaml": compose} {
		for _, v := range regexp.MustCompile(`GRAPNEL_[A-Z_]+`).FindAllString(text, -1) {
			if !variables[v] {
				t.Errorf("%s: there is no variable %s", name, v)
			}
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^RestartPreventExitStatus=(.*)$`).FindAllStringSubmatch(unit, -1) {
		if m[1] != "65 75 78" { // exitCorrupt, exitRunning, exitConfig
			t.Errorf("the unit starts again after %s", m[1])
		}
	}
	// By netlink the guard learns which addresses are this machine's.
	if !strings.Contains(unit, "AF_NETLINK") {
		t.Error("the unit keeps the daemon from knowing this machine's addresses")
	}
	for _, m := range regexp.MustCompile(`(?m)^(?:RUN|COPY) (\.ci/\S+|go\.\S+)`).FindAllStringSubmatch(image, -1) {
		if _, err := os.Stat(filepath.Join(repository, m[1])); err != nil {
			t.Errorf("the image: %v", err)
		}
	}
	var services struct {
		Services map[string]struct {
			Build   struct{ Context, Dockerfile string }
			Volumes []string
		}
	}
	if err := yaml.Unmarshal([]byte(compose), &services); err != nil {
		t.Fatal(err)
	}
	for name, s := range services.Services {
		if _, err := os.Stat(filepath.Join(repository, "scripts/service", s.Build.Context, s.Build.Dockerfile)); err != nil {
			t.Errorf("compose, %s: %v", name, err)
		}
		if len(s.Volumes) == 0 || !strings.Contains(image, "VOLUME "+strings.SplitN(s.Volumes[0], ":", 2)[1]) {
			t.Errorf("compose, %s: volumes %v are not the image's", name, s.Volumes)
		}
	}
}

// Every file that a release packs is here, or is made by scripts/release-files.
func TestReleaseFilesExist(t *testing.T) {
	text := fileOf(t, ".goreleaser.yaml")
	var any map[string]any
	if err := yaml.Unmarshal([]byte(text), &any); err != nil {
		t.Fatal(err)
	}
	sources := regexp.MustCompile(`(?m)(?:src: |install: |remove: |cmd: |^    - )((?:scripts|docs|dist-files|\.ci|LICENSE|NOTICE|README|CHANGELOG)[^,}\s]*)`).FindAllStringSubmatch(text, -1)
	if len(sources) < 15 {
		t.Fatalf("found only %d files", len(sources))
	}
	for _, m := range sources {
		if rest, made := strings.CutPrefix(m[1], "dist-files"); made {
			if rest != "" && rest != "/completions/*" && !regexp.MustCompile(`^/completions/grapnel\.(bash|zsh|fish)$`).MatchString(rest) {
				t.Errorf("%s is made by nobody", m[1])
			}
			continue
		}
		if found, err := filepath.Glob(filepath.Join(repository, m[1])); err != nil || len(found) == 0 {
			t.Errorf("%s is not there", m[1])
		}
	}
	if !strings.Contains(text, "-X main.version=") {
		t.Error("the binary does not learn its version")
	}
}

func TestAlive(t *testing.T) {
	dir := shortDir(t)
	var out bytes.Buffer
	if status := run(t.Context(), []string{"alive", "--data", dir}, nil, &out, &out); status != exitFailed || !strings.Contains(out.String(), "no grapnel is running") {
		t.Errorf("without a daemon: status %d: %s", status, out.String())
	}
}
