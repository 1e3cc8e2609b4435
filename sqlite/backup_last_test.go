package sqlite

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestLastBackup(t *testing.T) {
	dir := t.TempDir()
	if _, err := LastBackup(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before the first: %v, want ErrNotExist", err)
	}
	for _, bytes := range []int64{1, 2} {
		want := BackupReport{
			File: "/backups/x.db", Bytes: bytes, Schema: 3, Took: 1500 * time.Millisecond,
			MadeAt: time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC),
		}
		if err := NoteBackup(dir, want); err != nil {
			t.Fatal(err)
		}
		got, err := LastBackup(dir)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	}
	all, err := os.ReadDir(dir)
	if err != nil || len(all) != 1 {
		t.Fatalf("in the directory: %v, %v", all, err)
	}
	if info, err := all[0].Info(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v, want mode 0600", info, err)
	}
}

func TestLastBackupDamaged(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "no JSON": "{", "nothing in it": "{}", "too large": `{"made_at":"2026-11-21T03:00:00Z"}` + strings.Repeat(" ", lastBackupLimit),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, LastBackupName), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := LastBackup(dir); err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "make a backup") {
				t.Errorf("%v, want what to do", err)
			}
		})
	}
}

// A sound database whose rows do not belong together is no backup.
func TestBackupClaims(t *testing.T) {
	for name, breaks := range map[string]string{
		"a delivery has no event":               "DELETE FROM events WHERE id=2",
		"a delivery is another organization's":  "UPDATE events SET org=org+1 WHERE id=2",
		"a delivery has no endpoint":            "DELETE FROM endpoints WHERE id=(SELECT min(id) FROM endpoints)",
		"an attempt has no delivery":            "INSERT INTO attempts(event, endpoint, number, trigger, started, duration, class, status, revision) VALUES(9999, 1, 1, 0, 0, 0, 0, 0, 0)",
		"an event lies after its":               "UPDATE cursors SET position=1, furthest=1",
		"an event's organization has no cursor": "DELETE FROM cursors",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, Options{Dir: dir})
			w := newWalker(t, s, "acme", 2)
			w.refresh()
			w.commit(w.next(5))
			good := filepath.Join(t.TempDir(), "good.db")
			if _, err := Backup(t.Context(), dir, good, time.Now); err != nil {
				t.Fatal(err)
			}
			shut(t, s)
			db := openDB(filepath.Join(dir, FileName), "rw", 1, nil)
			if _, err := db.Exec(breaks); err != nil {
				t.Fatal(err)
			}
			db.Close()
			file := filepath.Join(t.TempDir(), "b.db")
			_, err := Backup(t.Context(), dir, file, time.Now)
			if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), name) {
				t.Errorf("%v, want %q", err, name)
			}
			if all, _ := os.ReadDir(filepath.Dir(file)); len(all) != 0 {
				t.Errorf("left behind: %v", all)
			}
		})
	}
}
