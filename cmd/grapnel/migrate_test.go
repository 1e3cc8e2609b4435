package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/sqlite"
	"github.com/grapnel-hooks/grapnel/testdata/databases"
)

// ofTheMoment are fields whose values depend on when they are asked for, or on what
// the daemon has in memory.
var ofTheMoment = []string{"age_seconds", "rate_1m", "rate_5m", "rate_1h", "lag", "due", "last_used_at", "used_at", "waiting", "waits_for", "detail", "previous"}

// lacks lists what the answer of a release has and this one's does not, or has with
// another value. More fields are no difference.
func lacks(path string, had, has any) (missing []string) {
	switch had := had.(type) {
	case map[string]any:
		now, ok := has.(map[string]any)
		if !ok {
			return []string{fmt.Sprintf("%s: had an object and has %v", path, has)}
		}
		for _, key := range slices.Sorted(maps.Keys(had)) {
			if slices.Contains(ofTheMoment, key) {
				continue
			}
			missing = append(missing, lacks(path+"."+key, had[key], now[key])...)
		}
		return missing
	case []any:
		now, ok := has.([]any)
		if !ok || len(now) != len(had) {
			return []string{fmt.Sprintf("%s: had %d things and has %d", path, len(had), len(now))}
		}
		for i := range had {
			missing = append(missing, lacks(fmt.Sprintf("%s[%d]", path, i), had[i], now[i])...)
		}
		return missing
	}
	if !cmp.Equal(had, has) {
		return []string{fmt.Sprintf("%s: had %v and has %v", path, had, has)}
	}
	return nil
}

// REL-35: on the data of an earlier release the daemon answers what that release
// answered, from books and streams; then it goes on where that one stopped.
func TestAnswersAfterUpgrade(t *testing.T) {
	for _, schema := range databases.Schemas() {
		t.Run(fmt.Sprintf("schema %d", schema), func(t *testing.T) {
			dir := shortDir(t)
			if err := databases.Unpack(schema, dir); err != nil {
				t.Fatal(err)
			}
			answers, err := databases.Answers(schema)
			if err != nil {
				t.Fatal(err)
			}
			l := live(t, dir, func(o *daemonOptions) {
				o.Plans = map[string][]string{"trial": nil, "enterprise": {featureOutgoing}}
			})
			if _, held := l.store.Held(); !held {
				t.Fatal("it is not held, so it sends what is pending")
			}
			for _, path := range slices.Sorted(maps.Keys(answers)) {
				var had, has any
				if err := json.Unmarshal(answers[path], &had); err != nil {
					t.Fatal(err)
				}
				if status := l.ask(t, "GET", "/api/v1"+path, "", "", &has); status != 200 {
					t.Errorf("GET %s: status %d: %v", path, status, has)
					continue
				}
				for _, m := range lacks(path, had, has) {
					t.Error(m)
				}
			}
			if err := l.store.Resume(t.Context()); err != nil {
				t.Fatal(err)
			}
			l.resume()
			until(t, "what waited in the outbox is in the stream", func() bool { return len(l.store.AnnouncingOrgs()) == 0 })
			var books httpapi.FsckBody
			if status := l.ask(t, "GET", "/api/v1/fsck", "", "", &books); status != 200 || !books.Proven {
				t.Errorf("fsck: status %d: %+v", status, books)
			}
		})
	}
}

// everything is what the files below dir hold, by path.
func everything(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		all[path] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// REL-35: a database of a newer release is refused with 78 and stays as it is.
func TestNewerDatabaseIsRefused(t *testing.T) {
	dir := shortDir(t)
	if err := databases.Unpack(2, dir); err != nil {
		t.Fatal(err)
	}
	// The header of a database has its user_version at byte 60, as SQLite's "The
	// Database Header" says. 255 is newer than any.
	path := filepath.Join(dir, sqlite.FileName)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{0, 0, 0, 255}, 60); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	before := everything(t, dir)
	for _, args := range []string{"serve --listen off --nats-listen off --log-level error", "migrate up", "migrate plan", "migrate status"} {
		var out, errs bytes.Buffer
		status := run(t.Context(), append(strings.Fields(args), "--data", dir), nil, &out, &errs)
		if status != exitConfig || !strings.Contains(errs.String(), "schema 255") {
			t.Errorf("%s: status %d, %s%s", args, status, out.String(), errs.String())
		}
		after := everything(t, dir)
		for _, own := range []string{lockName, sqlite.FileName + "-shm", sqlite.FileName + "-wal"} {
			delete(after, filepath.Join(dir, own)) // made by whoever looks, and empty
		}
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("%s changed files (-before +after):\n%s", args, diff)
		}
	}
}

func TestMigrateCommands(t *testing.T) {
	dir := shortDir(t)
	grapnel := func(args ...string) string {
		t.Helper()
		var out bytes.Buffer
		if status := run(t.Context(), append(args, "--data", dir), nil, &out, &out); status != exitDone {
			t.Fatalf("%v: status %d\n%s", args, status, out.String())
		}
		return out.String()
	}
	contains := func(got string, wants ...string) {
		t.Helper()
		for _, want := range wants {
			if !strings.Contains(got, want) {
				t.Errorf("no %q in:\n%s", want, got)
			}
		}
	}
	contains(grapnel("migrate", "status"), "no database")
	if err := databases.Unpack(2, dir); err != nil {
		t.Fatal(err)
	}
	before := everything(t, dir)
	contains(grapnel("migrate", "status"), "schema 2", "0003_operations.sql")
	contains(grapnel("migrate", "plan"), "grapnel.db.schema-2.bak", "0003_operations.sql")
	if got := everything(t, dir); got[filepath.Join(dir, sqlite.FileName)] != before[filepath.Join(dir, sqlite.FileName)] {
		t.Error("looking has changed the database")
	}
	contains(grapnel("migrate", "up"), "schema 2", "grapnel.db.schema-2.bak")
	contains(grapnel("migrate", "up"), "Nothing to do")
	contains(grapnel("migrate", "status"), "Nothing to do")

	held, err := lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	var errs bytes.Buffer
	if status := run(t.Context(), []string{"migrate", "up", "--data", dir}, nil, &errs, &errs); status != exitRunning {
		t.Errorf("while a daemon runs: status %d: %s", status, errs.String())
	}
}
