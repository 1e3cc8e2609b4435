package sqlite

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
)

// Beyond its size the database loses what is finished, the oldest first, and
// nothing that is dead, pending or young; the file does not shrink, what is in use does.
func TestRetainBySize(t *testing.T) {
	c := newClock()
	s := open(t, Options{Dir: t.TempDir(), Clock: c.read, runSize: 64, Synchronous: "NORMAL"})
	w := newWalker(t, s, "acme", 2)
	kept := map[deliver.Key]deliver.State{}
	for range 40 {
		ev := w.commit(w.next(100))
		var rs []deliver.Record
		for i, e := range ev {
			for _, endpoint := range w.endpoints {
				k := deliver.Key{Event: e.Event, Endpoint: endpoint}
				switch {
				case i == 50:
					kept[k] = deliver.Pending
				case i == 70:
					kept[k] = deliver.Dead
					rs = append(rs, c.outcome(k, 1, deliver.Dead))
				default:
					rs = append(rs, c.outcome(k, 1, deliver.Delivered))
				}
			}
		}
		w.record(rs...)
		c.add(time.Minute)
	}
	used := func() int64 {
		t.Helper()
		n, err := s.UsedBytes()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before, file := used(), s.Stats().DatabaseBytes
	o := RetainOptions{MaxBytes: before * 3 / 4, LeastKept: 10 * time.Minute, Step: 50}
	got, err := s.Retain(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if after := used(); after > o.MaxBytes || after < o.MaxBytes*3/4 || got.TooLarge || got.Deliveries == 0 {
		t.Errorf("%d of %d bytes are in use, at most %d may be; removed %+v", after, before, o.MaxBytes, got)
	}
	if left := w.oldest(deliver.Delivered); left == 0 || w.newest() != 4000 {
		t.Errorf("the oldest delivered event is %d, the newest %d", left, w.newest())
	}
	o.MaxBytes = 1
	if got, err = s.Retain(t.Context(), o); err != nil || !got.TooLarge {
		t.Errorf("a size that cannot be kept: %+v, %v", got, err)
	}
	if left := w.oldest(deliver.Delivered); left < 2900 || left > 3101 {
		t.Errorf("the oldest delivered event is %d: what is ten minutes old stays, and nothing older", left)
	}
	for k, state := range kept {
		d, _, err := s.GetDelivery(t.Context(), "acme", k)
		if err != nil || d.State != state {
			t.Errorf("delivery %v is %v, %v; want %v", k, d.State, err, state)
		}
	}
	if size := s.Stats().DatabaseBytes; size > file+1<<20 {
		t.Errorf("the file grew from %d to %d bytes by removing", file, size)
	}
}

// oldest is the first event with a delivery in that state.
func (w *walker) oldest(state deliver.State) int64 {
	w.t.Helper()
	ids, err := w.s.column("SELECT ifnull(min(event), 0) FROM deliveries WHERE state=?", int64(state))
	if err != nil {
		w.t.Fatal(err)
	}
	return ids[0]
}

func (w *walker) newest() int64 {
	w.t.Helper()
	ids, err := w.s.column("SELECT max(id) FROM events")
	if err != nil {
		w.t.Fatal(err)
	}
	return ids[0]
}

// Who runs a command is not always who owns the directory (SEC-33): a link that lies
// where a file is to be made is replaced, and what it leads to stays as it was.
func TestFilesAreNotMadeThroughLinks(t *testing.T) {
	books := t.TempDir()
	shut(t, open(t, Options{Dir: books}))
	backup := filepath.Join(t.TempDir(), "b.db")
	if _, err := Backup(t.Context(), books, backup, time.Now); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		link string
		make func(dir string) error
	}{
		"backup": {"c.db.part", func(dir string) error {
			_, err := Backup(t.Context(), books, filepath.Join(dir, "c.db"), time.Now)
			return err
		}},
		"restore": {FileName + ".part", func(dir string) error {
			_, err := Restore(t.Context(), backup, RestoreOptions{Dir: dir, KeyFile: filepath.Join(books, KeyFileName)})
			return err
		}},
		"ballast": {BallastName + ".part", func(dir string) error { return MakeBallast(dir, 1<<20) }},
	} {
		t.Run(what, func(t *testing.T) {
			dir, other := t.TempDir(), filepath.Join(t.TempDir(), "other")
			if err := errors.Join(os.WriteFile(other, []byte("precious"), 0o600), os.Symlink(other, filepath.Join(dir, c.link))); err != nil {
				t.Fatal(err)
			}
			if err := c.make(dir); err != nil {
				t.Error(err)
			}
			if text, err := os.ReadFile(other); string(text) != "precious" {
				t.Errorf("what the link leads to is now %d bytes, %v", len(text), err)
			}
		})
	}
}

func TestBallast(t *testing.T) {
	dir := t.TempDir()
	const bytes = 3<<20 + 17
	for range 2 { // a ballast that is there is replaced
		if err := MakeBallast(dir, bytes); err != nil {
			t.Fatal(err)
		}
		if got := Ballast(dir); got != bytes {
			t.Errorf("a ballast of %d bytes, want %d", got, bytes)
		}
	}
	info, err := os.Stat(filepath.Join(dir, BallastName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("its mode is %v, %v", info.Mode(), err)
	}
	for _, want := range []int64{bytes, 0} {
		if freed, err := ReleaseBallast(dir); err != nil || freed != want {
			t.Errorf("released %d bytes, %v; want %d", freed, err, want)
		}
	}
	if err := MakeBallast(filepath.Join(dir, "nowhere"), 1); err == nil {
		t.Error("a ballast in a directory that is not there")
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("%v is left", left)
	}
}
