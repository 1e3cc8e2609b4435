package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func TestOpenMakesPrivateFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := open(t, Options{Dir: dir})
	newWalker(t, s, "acme", 1)
	got := map[string]fs.FileMode{}
	for _, name := range []string{"", FileName, FileName + "-wal", FileName + "-shm"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		got[name] = info.Mode().Perm()
	}
	want := map[string]fs.FileMode{"": 0o700, FileName: 0o600, FileName + "-wal": 0o600, FileName + "-shm": 0o600}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("modes (-want +got):\n%s", diff)
	}
}

// alter edits the database with a connection of its own.
func alter(t *testing.T, path string, statements ...string) {
	t.Helper()
	db := openDB(path, "rwc", 1, nil)
	defer db.Close()
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func TestOpenRefusesAndTouchesNothing(t *testing.T) {
	// books is a database of ours with something in it.
	books := func(t *testing.T, path string) {
		s := open(t, Options{Dir: filepath.Dir(path)})
		w := newWalker(t, s, "acme", 2)
		for range 8 {
			w.deliverAll(w.commit(w.next(100)))
		}
		shut(t, s)
	}
	write := func(data string) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	tests := []struct {
		name string
		make func(t *testing.T, path string)
		want error
		text string
	}{
		{"empty", write(""), ErrCorrupt, "empty"},
		{"short", write("SQLite format 3\x00"), ErrCorrupt, "short"},
		{"text", write(strings.Repeat("no database\n", 100)), ErrCorrupt, "not a SQLite database"},
		{"another program's", func(t *testing.T, path string) { alter(t, path, "CREATE TABLE t(x)") }, ErrCorrupt, "another program"},
		{"newer", func(t *testing.T, path string) {
			books(t, path)
			alter(t, path, "PRAGMA user_version = 99", "PRAGMA journal_mode = DELETE")
		}, ErrNewer, "schema 99"},
		{"truncated", func(t *testing.T, path string) {
			books(t, path)
			if err := os.Truncate(path, 3*4096); err != nil {
				t.Fatal(err)
			}
		}, ErrCorrupt, ""},
		{"a page overwritten", func(t *testing.T, path string) {
			books(t, path)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 4096 {
				data[30*4096+i] = byte(i * 7)
			}
			write(string(data))(t, path)
		}, ErrCorrupt, ""},
		{"gone, its log is there", func(t *testing.T, path string) { write("log")(t, path+"-wal") }, ErrCorrupt, "-wal"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), FileName)
			test.make(t, path)
			before, _ := os.ReadFile(path)
			s, err := Open(t.Context(), Options{Dir: filepath.Dir(path), Log: slog.New(slog.DiscardHandler)})
			if err == nil {
				s.Close()
			}
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.text) {
				t.Errorf("error %v, want one of %v with %q", err, test.want, test.text)
			}
			if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
				t.Error("the file was changed")
			}
		})
	}
}

func TestOpenRefusesAnUnknownSynchronous(t *testing.T) {
	if _, err := Open(t.Context(), Options{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler), Synchronous: "OFF"}); err == nil {
		t.Error("OFF was accepted")
	}
}

// A crash while a new database is made leaves nothing that a start stumbles
// over.
func TestOpenAfterACrashWhileMaking(t *testing.T) {
	dir := t.TempDir()
	crash := errors.New("crash")
	func() {
		defer func() {
			if r := recover(); r != crash {
				t.Fatalf("recovered %v", r)
			}
		}()
		Open(t.Context(), Options{Dir: dir, Log: slog.New(slog.DiscardHandler), Failpoint: func(name string) {
			if name == "migrate.step" {
				panic(crash)
			}
		}})
	}()
	if _, err := os.Stat(filepath.Join(dir, FileName+".new")); err != nil {
		t.Fatalf("the crash left no draft behind: %v", err)
	}
	s := open(t, Options{Dir: dir})
	newWalker(t, s, "acme", 1)
	if _, err := os.Stat(filepath.Join(dir, FileName+".new")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the draft is still there: %v", err)
	}
}

func TestMigrationsAreNumberedWithoutGaps(t *testing.T) {
	tests := []struct {
		name  string
		files []string
		ok    bool
	}{
		{"in order", []string{"0001_a.sql", "0002_b.sql"}, true},
		{"gap", []string{"0001_a.sql", "0003_b.sql"}, false},
		{"twice", []string{"0001_a.sql", "0001_b.sql"}, false},
		{"no number", []string{"a.sql"}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			files := fstest.MapFS{}
			for _, f := range test.files {
				files["migrations/"+f] = &fstest.MapFile{}
			}
			if _, err := migrations(files); (err == nil) != test.ok {
				t.Errorf("error %v", err)
			}
		})
	}
}

// Each step is one transaction: what fails in the middle leaves the step before.
func TestMigrateStepByStep(t *testing.T) {
	db := openDB(filepath.Join(t.TempDir(), "test.db"), "rwc", 1, nil)
	defer db.Close()
	c, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	state := func() (version int, tables []string) {
		if err := c.QueryRowContext(t.Context(), "PRAGMA user_version").Scan(&version); err != nil {
			t.Fatal(err)
		}
		tables = tableNames(t, c)
		return version, tables
	}
	steps := []migration{
		{1, "0001", "CREATE TABLE a(x); CREATE TABLE b(x)"},
		{2, "0002", "CREATE TABLE c(x); CREATE TABLE a(x)"},
	}
	calls := 0
	if err := migrate(t.Context(), c, steps, func(name string) {
		if name == "migrate.stepped" {
			calls++
		}
	}); err == nil {
		t.Fatal("the second step did not fail")
	}
	if version, tables := state(); version != 1 || !slices.Equal(tables, []string{"a", "b"}) || calls != 1 {
		t.Errorf("version %d, tables %v, %d steps", version, tables, calls)
	}
	steps[1].script = "CREATE TABLE c(x)"
	if err := migrate(t.Context(), c, steps, func(string) {}); err != nil {
		t.Fatal(err)
	}
	if version, tables := state(); version != 2 || !slices.Equal(tables, []string{"a", "b", "c"}) {
		t.Errorf("version %d, tables %v", version, tables)
	}
	if err := migrate(t.Context(), c, steps[:1], func(string) {}); !errors.Is(err, ErrNewer) {
		t.Errorf("error %v, want %v", err, ErrNewer)
	}
}

func tableNames(t *testing.T, c interface {
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
}) (tables []string) {
	t.Helper()
	err := each(c, func(scan func(...any) error) error {
		var name string
		err := scan(&name)
		tables = append(tables, name)
		return err
	}, "SELECT name FROM sqlite_schema WHERE type='table' ORDER BY name")
	if err != nil {
		t.Fatal(err)
	}
	return tables
}
