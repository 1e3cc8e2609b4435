package sqlite

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/sqlite/seal"
)

// A backup that is made while the writer is busy is the books of one moment:
// each position with all deliveries that it caused, and it is whole.
func TestBackupBesideTheWriter(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	w := newWalker(t, s, "acme", 2)
	w.refresh()
	w.commit(w.next(50))
	ctx, stop := context.WithCancel(t.Context())
	var busy sync.WaitGroup
	busy.Go(func() {
		for ctx.Err() == nil {
			w.refresh()
			w.commit(w.next(50))
		}
	})
	var files []string
	for _, name := range []string{"1.db", "2.db", "3.db"} {
		file := filepath.Join(t.TempDir(), name)
		r, err := Backup(t.Context(), dir, file, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		if r.Bytes == 0 || r.Organizations != 1 || r.Endpoints != 2 || r.Pending == 0 || r.MadeAt.IsZero() {
			t.Errorf("report: %+v", r)
		}
		files = append(files, file)
	}
	stop()
	busy.Wait()

	key := filepath.Join(dir, KeyFileName)
	for _, file := range files {
		assertAlone(t, file)
		to := t.TempDir()
		if _, err := Restore(t.Context(), file, RestoreOptions{Dir: to, KeyFile: key}); err != nil {
			t.Fatal(err)
		}
		back := open(t, Options{Dir: to, KeyFile: key})
		var position, events, deliveries int64
		if err := back.readDB.QueryRow("SELECT (SELECT position FROM cursors), (SELECT count(*) FROM events), (SELECT count(*) FROM deliveries)").
			Scan(&position, &events, &deliveries); err != nil {
			t.Fatal(err)
		}
		if position == 0 || events != position || deliveries != 2*events {
			t.Errorf("position %d, %d events, %d deliveries: not of one moment", position, events, deliveries)
		}
		all, err := back.AllEndpoints(t.Context())
		if err != nil || len(all) != 2 || all[0].Secrets[0].IsZero() {
			t.Errorf("endpoints: %v, %v", all, err)
		}
	}
}

// assertAlone: a backup is one file.
func assertAlone(t *testing.T, file string) {
	t.Helper()
	all, err := os.ReadDir(filepath.Dir(file))
	if err != nil || len(all) != 1 {
		t.Errorf("beside the backup: %v, %v", all, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("backup: %v, %v", info, err)
	}
}

// What comes out of a backup holds still until somebody resumes it, also when
// the file was put back by hand.
func TestRestoredBooksAreHeld(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	if _, held := s.Held(); held {
		t.Error("new books are held")
	}
	if err := s.Resume(t.Context()); err != nil {
		t.Errorf("resume, and nothing is held: %v", err)
	}
	c := newClock()
	file := filepath.Join(t.TempDir(), "b.db")
	if _, err := Backup(t.Context(), dir, file, c.read); err != nil {
		t.Fatal(err)
	}
	if _, held := s.Held(); held {
		t.Error("making a backup holds its source")
	}
	shut(t, s)
	if err := os.Rename(file, filepath.Join(dir, FileName)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a restart does not release it
		s = open(t, Options{Dir: dir})
		if at, held := s.Held(); !held || !at.Equal(c.read()) {
			t.Errorf("held: %v since %v, want since %v", held, at, c.read())
		}
		shut(t, s)
	}
	s = open(t, Options{Dir: dir})
	if err := s.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	shut(t, s)
	s = open(t, Options{Dir: dir})
	if _, held := s.Held(); held {
		t.Error("resumed books are held after a restart")
	}
}

func TestBackupRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	newWalker(t, s, "acme", 3)
	good := filepath.Join(t.TempDir(), "good.db")
	if _, err := Backup(t.Context(), dir, good, time.Now); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, KeyFileName)

	t.Run("the file is there", func(t *testing.T) {
		if _, err := Backup(t.Context(), dir, good, time.Now); !errors.Is(err, ErrExists) {
			t.Errorf("%v, want ErrExists", err)
		}
	})
	t.Run("no books", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "x.db")
		if _, err := Backup(t.Context(), t.TempDir(), file, time.Now); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%v, want ErrNotExist", err)
		}
		if all, _ := os.ReadDir(filepath.Dir(file)); len(all) != 0 {
			t.Errorf("left behind: %v", all)
		}
	})
	t.Run("given up", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		file := filepath.Join(t.TempDir(), "x.db")
		if _, err := Backup(ctx, dir, file, time.Now); !errors.Is(err, context.Canceled) {
			t.Errorf("%v, want Canceled", err)
		}
		if all, _ := os.ReadDir(filepath.Dir(file)); len(all) != 0 {
			t.Errorf("left behind: %v", all)
		}
	})
	damaged := func(change func([]byte) []byte) string {
		t.Helper()
		b, err := os.ReadFile(good)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "bad.db")
		if err := os.WriteFile(file, change(b), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	for name, tt := range map[string]struct {
		file string
		o    RestoreOptions
		want error
	}{
		"cut short":         {damaged(func(b []byte) []byte { return b[:len(b)/2] }), RestoreOptions{KeyFile: key}, ErrCorrupt},
		"empty":             {damaged(func(b []byte) []byte { return nil }), RestoreOptions{KeyFile: key}, ErrCorrupt},
		"no database":       {damaged(func(b []byte) []byte { return []byte(strings.Repeat("x", 4096)) }), RestoreOptions{KeyFile: key}, ErrCorrupt},
		"a live database":   {filepath.Join(dir, FileName), RestoreOptions{KeyFile: key}, nil},
		"no key":            {good, RestoreOptions{}, ErrKey},
		"another's key":     {good, RestoreOptions{Keys: []seal.Key{seal.NewKey(time.Now())}}, ErrKey},
		"books are there":   {good, RestoreOptions{Dir: dir, KeyFile: key}, ErrExists},
		"it is not a file":  {t.TempDir(), RestoreOptions{KeyFile: key}, nil},
		"it does not exist": {filepath.Join(t.TempDir(), "x"), RestoreOptions{KeyFile: key}, os.ErrNotExist},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.o.Dir == "" {
				tt.o.Dir = t.TempDir()
			}
			_, err := Restore(t.Context(), tt.file, tt.o)
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
			if tt.want == ErrExists {
				return
			}
			if all, _ := os.ReadDir(tt.o.Dir); len(all) != 0 {
				t.Errorf("left behind: %v", all)
			}
		})
	}
}
