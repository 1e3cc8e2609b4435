package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi/httpapitest"
	"github.com/grapnel-hooks/grapnel/sqlite"
)

// The commands that only read do so from the database of a daemon that is dead
// (OPS-12), and say what they cannot know.
func TestCursorOffline(t *testing.T) {
	dir := shortDir(t)
	s, err := sqlite.Open(t.Context(), sqlite.Options{Dir: dir, Log: slog.New(slog.DiscardHandler), Clock: func() time.Time { return httpapitest.Epoch }})
	if err != nil {
		t.Fatal(err)
	}
	for _, org := range []string{"acme", "crm"} {
		if _, err := s.AddOrg(t.Context(), sqlite.Org{ID: org, Payload: "data"}); err != nil {
			t.Fatal(err)
		}
	}
	asked := sqlite.WithCaller(t.Context(), sqlite.Caller{Actor: "operator"})
	if err := s.PauseCursor(asked, "crm", sqlite.Pause{Reason: "their database is moved"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	older := filepath.Join(dir, "older.db")
	if err := os.WriteFile(older, []byte("SQLite format 2"), 0o600); err != nil {
		t.Fatal(err)
	}
	db := " --db " + dir
	got := transcript(t, "",
		"cursor list --wide"+db,
		"cursor list --json --org crm"+db,
		"cursor show crm"+db,
		"cursor show nobody"+db,
		"cursor gaps crm --db "+filepath.Join(dir, sqlite.FileName),
		"cursor gaps nobody"+db,
		"cursor export crm"+db,
		"cursor check"+db,
		"cursor list --db "+older,
		"cursor list --db "+filepath.Join(dir, "nothing.db"),
		"cursor list --url http://127.0.0.1:1"+db,
	)
	golden(t, "commands/cursor-offline.txt", strings.ReplaceAll(got, dir, "DIR"))
}
