package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/sqlite"
)

// A nightly backup is named by its moment, and replaces the oldest of its kind;
// nothing else in the directory is touched.
func TestSupersededBackups(t *testing.T) {
	const made = "grapnel-20261121T030000Z.db"
	for name, tt := range map[string]struct {
		there []string
		keep  int
		want  []string
	}{
		"the first":       {[]string{made}, 3, nil},
		"as many as stay": {[]string{"grapnel-20261119T030000Z.db", "grapnel-20261120T030000Z.db", made}, 3, nil},
		"one more":        {[]string{"grapnel-20261120T030000Z.db", "grapnel-20261119T030000Z.db", made}, 2, []string{"grapnel-20261119T030000Z.db"}},
		"only this one":   {[]string{"grapnel-20261120T030000Z.db", made}, 1, []string{"grapnel-20261120T030000Z.db"}},
		"a clock that was ahead": {
			[]string{"grapnel-20271120T030000Z.db", "grapnel-20271121T030000Z.db", made}, 2, []string{"grapnel-20271120T030000Z.db"},
		},
		"what is not ours": {
			[]string{"grapnel.db", "grapnel-20261101T030000Z.db.age", "grapnel-20261101.db", "before.db", "grapnel-20261101T030000Z.db.part", made}, 1, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, f := range tt.there {
				if err := os.WriteFile(filepath.Join(dir, f), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Mkdir(filepath.Join(dir, "grapnel-20200101T000000Z.db"), 0o700); err != nil {
				t.Fatal(err)
			}
			all, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			if got := superseded(all, made, tt.keep); !slices.Equal(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestBackupPlace(t *testing.T) {
	dir := t.TempDir()
	at := time.Date(2026, 11, 21, 4, 0, 0, 0, time.FixedZone("", 3600))
	for name, tt := range map[string]struct {
		given   string
		keep    int
		keeping bool
		want    string
		wrong   string
	}{
		"a file":                {given: dir + "/x.db", want: dir + "/x.db"},
		"a directory":           {given: dir, want: dir + "/grapnel-20261121T030000Z.db"},
		"a directory and keep":  {given: dir, keep: 7, keeping: true, want: dir + "/grapnel-20261121T030000Z.db"},
		"keep none":             {given: dir, keeping: true, wrong: "--keep 0: want 1 or more"},
		"keep less":             {given: dir, keep: -1, keeping: true, wrong: "--keep -1: want 1 or more"},
		"keep with a file":      {given: os.Args[0], keep: 1, keeping: true, wrong: "is not a directory"},
		"keep and no directory": {given: dir + "/no", keep: 1, keeping: true, wrong: "make it first"},
	} {
		t.Run(name, func(t *testing.T) {
			n := nightly{keep: tt.keep, now: at}
			got, err := n.place(tt.given, tt.keeping)
			var usage *usageError
			switch {
			case tt.wrong == "" && (err != nil || got != tt.want):
				t.Errorf("%q, %v, want %q", got, err, tt.want)
			case tt.wrong != "" && (!errors.As(err, &usage) || !strings.Contains(err.Error(), tt.wrong)):
				t.Errorf("%v, want wrong usage: %s", err, tt.wrong)
			}
		})
	}
}

// The command says what it did, leaves it for monitoring, and proves the file later.
func TestBackupCommand(t *testing.T) {
	data, dir := t.TempDir(), t.TempDir()
	if status, _, stderr := cli(t, "restore", "--verify", "--data", data, filepath.Join(dir, "x.db")); status != exitFailed {
		t.Errorf("verify of nothing: status %d, %s", status, stderr)
	}
	makeBooks(t, data)
	old := filepath.Join(dir, "grapnel-20200101T000000Z.db")
	if err := os.WriteFile(old, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	status, stdout, stderr := cli(t, "backup", dir, "--keep", "1", "--data", data, "--json")
	var got backedUp
	if err := json.Unmarshal([]byte(stdout), &got); status != exitDone || stderr != "" || err != nil {
		t.Fatalf("status %d, %v, %s%s", status, err, stdout, stderr)
	}
	if diff := cmp.Diff([]string{old}, got.Removed); diff != "" || got.Schema == 0 || got.Bytes == 0 {
		t.Errorf("%+v, removed (-want +got):\n%s", got, diff)
	}
	last, err := sqlite.LastBackup(data)
	if err != nil || last.File != got.File || last.Bytes != got.Bytes || last.Schema != got.Schema || last.MadeAt.Before(began.Add(-time.Second)) {
		t.Errorf("last backup: %+v, %v; want %+v", last, err, got)
	}

	status, stdout, stderr = cli(t, "restore", "--verify", "--data", data, got.File)
	if status != exitDone || !strings.Contains(stdout, "can be restored") {
		t.Errorf("verify: status %d, %s%s", status, stdout, stderr)
	}
	elsewhere := filepath.Join(t.TempDir(), "none")
	status, _, stderr = cli(t, "restore", "--verify", "--data", elsewhere, got.File)
	if status != exitConfig || !strings.Contains(stderr, "the file is whole, but cannot be restored here") {
		t.Errorf("verify without the key: status %d, %s", status, stderr)
	}
	if _, err := os.Stat(elsewhere); err == nil {
		t.Error("verify made a data directory")
	}
}

// cli runs a command line of the program.
func cli(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = run(t.Context(), args, strings.NewReader(""), &out, &errs)
	return status, out.String(), errs.String()
}

// makeBooks makes the database of a daemon that was never started.
func makeBooks(t *testing.T, dir string) {
	t.Helper()
	s, err := sqlite.Open(t.Context(), sqlite.Options{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
