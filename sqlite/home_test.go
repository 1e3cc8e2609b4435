package sqlite

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestJudgeHome(t *testing.T) {
	at := func(nonce string, count int64) home { return home{Nonce: nonce, Count: count} }
	for name, tt := range map[string]struct {
		books, file home
		want        HoldReason
	}{
		"new":                            {home{}, home{}, ""},
		"new, where others were":         {home{}, at("a", 7), ""},
		"as they were":                   {at("a", 7), at("a", 7), ""},
		"a crash between books and file": {at("a", 8), at("a", 7), ""},
		"days without a file":            {at("a", 5000), at("a", 7), ""},
		"older":                          {at("a", 6), at("a", 7), HoldOlder},
		"others":                         {at("b", 9), at("a", 7), HoldOlder},
		"alone":                          {at("a", 1), home{}, HoldAlone},
	} {
		t.Run(name, func(t *testing.T) {
			if got := judgeHome(tt.books, tt.file); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// assertHeld opens the books in dir and says whether they are held, and why; twice,
// since a restart releases nothing.
func assertHeld(t *testing.T, o Options, want HoldReason) {
	t.Helper()
	for range 2 {
		s := open(t, o)
		if _, held := s.Held(); held != (want != "") || s.HeldBecause() != want {
			t.Errorf("held: %v, because %q; want %q", held, s.HeldBecause(), want)
		}
		shut(t, s)
	}
}

// copyTo copies some of the files in a data directory to a new one.
func copyTo(t *testing.T, from string, which func(name string) bool) (to string) {
	t.Helper()
	to = t.TempDir()
	all, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if !which(e.Name()) {
			continue
		}
		b, err := os.ReadFile(filepath.Join(from, e.Name()))
		if err == nil {
			err = os.WriteFile(filepath.Join(to, e.Name()), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// Books that were put in the place of newer ones, by whatever way, are held; those
// that have stayed, or moved with all that is theirs, are not.
func TestBooksThatWerePutHere(t *testing.T) {
	all := func(string) bool { return true }
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	newWalker(t, s, "acme", 1)
	early := copyTo(t, dir, func(name string) bool { return strings.HasPrefix(name, FileName) }) // of a living daemon, with its log
	s.countHome(t.Context())
	killed := copyTo(t, dir, all)
	shut(t, s)
	assertHeld(t, Options{Dir: killed}, "")
	assertHeld(t, Options{Dir: dir}, "")

	moved := copyTo(t, dir, all)
	assertHeld(t, Options{Dir: moved}, "")
	assertHeld(t, Options{Dir: copyTo(t, dir, func(name string) bool { return name != HomeName })}, HoldAlone)

	// The older copy takes the place of the books that went on.
	older := copyTo(t, dir, func(name string) bool { return !strings.HasPrefix(name, FileName) })
	files, err := os.ReadDir(early)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if err := os.Rename(filepath.Join(early, f.Name()), filepath.Join(older, f.Name())); err != nil {
			t.Fatal(err)
		}
	}
	assertHeld(t, Options{Dir: older}, HoldOlder)
	s = open(t, Options{Dir: older})
	if at, _ := s.Held(); time.Since(at) > time.Hour {
		t.Errorf("held as of %v", at)
	}
	if err := s.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	shut(t, s)
	assertHeld(t, Options{Dir: older}, "")

	// The books that went on are strangers in the directory of the copy by now.
	foreign := copyTo(t, older, func(name string) bool { return name != FileName })
	b, err := os.ReadFile(filepath.Join(dir, FileName))
	if err == nil {
		err = os.WriteFile(filepath.Join(foreign, FileName), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	assertHeld(t, Options{Dir: foreign}, HoldOlder)
}

// Where a power cut may take commits back nothing is concluded.
func TestBooksThatAreNotSyncedDoNotCount(t *testing.T) {
	dir := t.TempDir()
	o := Options{Dir: dir, Synchronous: "NORMAL"}
	shut(t, open(t, o))
	if _, err := os.Stat(filepath.Join(dir, HomeName)); err == nil {
		t.Error("counted")
	}
	shut(t, open(t, Options{Dir: dir}))
	if err := writeHome(dir, home{Nonce: "x", Count: 99}); err != nil {
		t.Fatal(err)
	}
	assertHeld(t, o, "")
}

// What Litestream restores is one file without a mark: Restore takes it, and it is
// held. A database that somebody uses is not taken.
func TestRestoreOfAnotherCopy(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	w := newWalker(t, s, "acme", 2)
	w.refresh()
	w.commit(w.next(5))
	key := filepath.Join(dir, KeyFileName)
	to := t.TempDir()
	if _, err := Restore(t.Context(), filepath.Join(dir, FileName), RestoreOptions{Dir: to, KeyFile: key}); err == nil || !strings.Contains(err.Error(), "grapnel backup --data "+dir) {
		t.Errorf("restore a daemon's database: %v, want what to do", err)
	}
	shut(t, s)
	one := filepath.Join(copyTo(t, dir, func(name string) bool { return name == FileName }), FileName)
	if _, err := Restore(t.Context(), filepath.Join(dir, FileName), RestoreOptions{Dir: to, KeyFile: key}); err == nil || !strings.Contains(err.Error(), "grapnel backup --data "+dir) {
		t.Errorf("restore a stopped daemon's database: %v, want what to do", err)
	}
	r, err := Restore(t.Context(), one, RestoreOptions{Dir: to, KeyFile: key})
	if err != nil {
		t.Fatal(err)
	}
	if r.MadeAt.IsZero() || r.Pending == 0 || r.Marked {
		t.Errorf("report: %+v", r)
	}
	assertAlone(t, one)
	assertHeld(t, Options{Dir: to, KeyFile: key}, HoldBackup)
}

// Books that are new here, and those of a release that did not count, may die at
// their first start: the next one is not the first of books that came alone. What
// writers that were killed have left goes.
func TestHomeFirstStartCutShort(t *testing.T) {
	o := Options{Dir: t.TempDir()}
	file := filepath.Join(o.Dir, HomeName)
	if err := os.Mkdir(file, 0o700); err != nil { // so that it cannot be written
		t.Fatal(err)
	}
	shut(t, open(t, o))
	left := file + ".123"
	if err := errors.Join(os.Remove(file), os.WriteFile(left, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	assertHeld(t, o, "")
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is there still: %v", left, err)
	}
}
