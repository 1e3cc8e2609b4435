package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// Root may run a command in a directory that is the daemon's: what a link in the
// place of the lock leads to stays as it was (SEC-33).
func TestLockFollowsNoLink(t *testing.T) {
	dir, other := t.TempDir(), filepath.Join(t.TempDir(), "other")
	if err := errors.Join(os.WriteFile(other, []byte("precious"), 0o600), os.Symlink(other, filepath.Join(dir, lockName))); err != nil {
		t.Fatal(err)
	}
	if held, err := lock(dir); err == nil {
		held.Close()
		t.Error("the lock was taken through a link")
	}
	if text, err := os.ReadFile(other); string(text) != "precious" {
		t.Errorf("what the link leads to holds %q, %v", text, err)
	}
}
