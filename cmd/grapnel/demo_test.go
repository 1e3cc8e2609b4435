package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/grapnel-hooks/grapnel/testdata"
)

var escapes = regexp.MustCompile(`\x1b\[[0-9;]*m`)

// The demonstration ends well, fits a terminal, and leaves nothing behind.
func TestDemo(t *testing.T) {
	t.Setenv("TMPDIR", shortDir(t))
	var out, errs bytes.Buffer
	if status := run(t.Context(), []string{"demo"}, nil, &out, &errs); status != 0 {
		t.Fatalf("exit status %d\n%s%s", status, out.String(), errs.String())
	}
	for line := range strings.Lines(out.String()) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > 100 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	if escapes.Match(out.Bytes()) {
		t.Error("colours without a terminal")
	}
	for _, part := range []string{
		"$ grapnel org add acme\n", "$ grapnel cursor list\n", "$ grapnel fsck\n", "1     503  verified   again in", "2     200  verified   same webhook-id",
		"14 deliveries in 17 requests, all delivered",
	} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("%q is not in:\n%s", part, out.String())
		}
	}
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "grapnel-demo-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestDemoInJSON(t *testing.T) {
	t.Setenv("TMPDIR", shortDir(t))
	var out, errs bytes.Buffer
	if status := run(t.Context(), []string{"demo", "--json"}, nil, &out, &errs); status != 0 {
		t.Fatalf("exit status %d\n%s%s", status, out.String(), errs.String())
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	for _, line := range lines {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
	if last := lines[len(lines)-1]; len(lines) != 18 || !strings.HasPrefix(last, `{"deliveries":14,"requests":17,`) {
		t.Errorf("%d lines, the last is %s", len(lines), last)
	}
}

func TestDemoCannotStart(t *testing.T) {
	t.Setenv("TMPDIR", filepath.Join(shortDir(t), "nowhere"))
	var out, errs bytes.Buffer
	if status := run(t.Context(), []string{"demo"}, nil, &out, &errs); status != 1 || !strings.Contains(errs.String(), "no such file or directory") {
		t.Errorf("exit status %d: %s", status, errs.String())
	}
}

func TestSampleEvents(t *testing.T) {
	events, err := testdata.Events()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Org == "" || e.Type == "" || e.DedupeKey == "" || !json.Valid(e.Data) || !strings.Contains(e.File, e.Org+"-"+e.Type) {
			t.Errorf("%s: %+v", e.File, e)
		}
	}
	if len(events) < 12 {
		t.Errorf("%d events", len(events))
	}
}

func TestWrapped(t *testing.T) {
	got := wrapped([]string{"grapnel add", "aaaa", "bbbb", "cc"}, 20, "  ")
	if want := "grapnel add aaaa \\\n  bbbb cc"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
