package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// files are the contents of all files of a directory, and when they were changed.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[f.Name()] = info.ModTime().Format(time.RFC3339Nano) + " " + string(content)
	}
	return all
}

// killed copies the books of an open store as a kill would leave them.
func killed(t *testing.T, from string, names ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, name := range names {
		content, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// The books of a dead daemon say what it had committed, and not a byte of them
// changes.
func TestOffline(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	s := open(t, Options{Dir: dir, Synchronous: "NORMAL"})
	w := newWalker(t, s, "acme", 1)
	for range 3 {
		w.commit(w.next(100))
	}
	if err := s.PauseCursor(ctx, "acme", Pause{Reason: "their database is moved"}); err != nil {
		t.Fatal(err)
	}
	want, err := s.Cursors(ctx)
	if err != nil {
		t.Fatal(err)
	}
	rates := cmpopts.IgnoreFields(Cursor{}, "Pace")

	check := func(t *testing.T, dir string, alive bool) {
		before := files(t, dir)
		f, err := OpenOffline(ctx, filepath.Join(dir, FileName), alive)
		if err != nil {
			t.Fatal(err)
		}
		got, err := f.Cursors(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, rates); diff != "" {
			t.Errorf("cursors (-want +got):\n%s", diff)
		}
		one, err := f.Cursor(ctx, "acme")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want[0], one, rates); diff != "" {
			t.Errorf("cursor (-want +got):\n%s", diff)
		}
		if most, err := f.Backlogged(ctx, "acme", 10); err != nil || len(most) != 1 || most[0].Pending != 300 {
			t.Errorf("endpoints with the most to do: %+v, %v", most, err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(before, files(t, dir)); diff != "" && !alive {
			t.Error("a file has changed")
		}
	}
	t.Run("killed", func(t *testing.T) {
		dir := killed(t, dir, FileName, FileName+"-wal", FileName+"-shm")
		if err := os.Chmod(dir, 0o500); err != nil {
			t.Fatal(err)
		}
		check(t, dir, false)
	})
	t.Run("beside a daemon", func(t *testing.T) { check(t, dir, true) })
	t.Run("without -shm", func(t *testing.T) {
		dir := killed(t, dir, FileName, FileName+"-wal")
		if f, err := OpenOffline(ctx, filepath.Join(dir, FileName), false); err == nil {
			f.Close()
			t.Error("it was opened")
		}
		if err := os.WriteFile(filepath.Join(dir, FileName+"-shm"), nil, 0o600); err != nil { // as the error says
			t.Fatal(err)
		}
		check(t, dir, false)
	})
	shut(t, s)
	t.Run("stopped", func(t *testing.T) { check(t, killed(t, dir, FileName), false) })
	t.Run("a daemon starts", func(t *testing.T) {
		dir := killed(t, dir, FileName)
		f, err := OpenOffline(ctx, filepath.Join(dir, FileName), false)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, FileName+"-wal"), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err == nil {
			t.Error("nobody noticed")
		}
	})
	for _, c := range []struct {
		name    string
		version int
		want    error
	}{{"older", 2, ErrOlder}, {"newer", 99, ErrNewer}} {
		t.Run(c.name, func(t *testing.T) {
			dir := killed(t, dir, FileName)
			path := filepath.Join(dir, FileName)
			setVersion(t, path, c.version)
			before := files(t, dir)
			if _, err := OpenOffline(ctx, path, false); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if diff := cmp.Diff(before, files(t, dir)); diff != "" {
				t.Error("a file has changed")
			}
		})
	}
}

func setVersion(t *testing.T, path string, version int) {
	t.Helper()
	db, err := sql.Open("sqlite3", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, q := range []string{"PRAGMA journal_mode = DELETE", "PRAGMA user_version = " + map[int]string{2: "2", 99: "99"}[version], "PRAGMA journal_mode = WAL"} {
		if _, err := db.ExecContext(context.Background(), q); err != nil {
			t.Fatal(err)
		}
	}
}
