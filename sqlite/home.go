package sqlite

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A database file can be put back by other ways than [Restore]: by Litestream, by cp,
// from a picture of the disk. It then starts where it was hours ago, and would send
// all of that again, unasked. So the books and a file beside them have the same two things: a nonce,
// and a count that goes up at each start, each minute and at the end.
//
//	books: UPDATE home, COMMIT, synced → home.json: write, sync, rename
//
// Crash between them: the file is one behind, and that is well. It is never ahead of
// books that have stayed here. Only books that have never counted get their file first. What that shows at the next start:
//
//	the books are at the file's count or beyond      they are the ones that were here, also when the whole directory was moved
//	the file is ahead, or has another nonce          an older copy, or another database, took their place
//	the books have counted, and there is no file     they came here alone
//
// In the last two cases the books are held, as after [Restore]. A copy that is put back within
// the minute that it was made in cannot be told from the original.
//
// With synchronous=NORMAL a power cut may set the books back behind the file, so there
// nothing is counted and nothing concluded.

// HomeName is the file beside the database.
const HomeName = "home.json"

// homeSchema is the first version that counts.
const homeSchema = 3

// homeLimit is the most that is read of it, in bytes.
const homeLimit = 4 << 10

// homeEvery is how often it counts.
const homeEvery = time.Minute

// HoldReason is why books are held.
type HoldReason string

const (
	// HoldBackup: they are what Backup wrote, or went through Restore.
	HoldBackup HoldReason = "backup"
	// HoldOlder: they are older than those that were last used here, or others.
	HoldOlder HoldReason = "older"
	// HoldAlone: they came without what lies beside them.
	HoldAlone HoldReason = "alone"
)

// home is what books and file have in common.
type home struct {
	Nonce string    `json:"nonce"` // "": there is none
	Count int64     `json:"count"`
	At    time.Time `json:"at"` // when it was counted
}

// judgeHome says why the books cannot be the ones that were last used here, or "".
func judgeHome(books, file home) HoldReason {
	switch {
	case books.Nonce == "": // new, or of a schema that did not count
		return ""
	case file.Nonce == "":
		return HoldAlone
	case file.Nonce != books.Nonce, file.Count > books.Count:
		return HoldOlder
	}
	return ""
}

// counts reports whether a commit of these books outlives a power cut.
func (s *Store) counts() bool { return s.o.Synchronous != "NORMAL" }

// comeHome compares books and file, holds the books if need be, and counts the start.
// The writer does not run yet. A full disk keeps nobody from starting.
func (s *Store) comeHome() error {
	if !s.counts() {
		return nil
	}
	books, err := s.homeInBooks()
	if err != nil {
		return err
	}
	file, err := readHome(filepath.Join(s.o.Dir, HomeName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("the file that belongs to the database cannot be read", "file", HomeName, "error", err)
	}
	why := judgeHome(books, file)
	if s.held.Load() != 0 {
		why = "" // the mark of a backup says more
	}
	if why != "" {
		s.held.Store(max(toMillis(books.At), 1))
		s.heldWhy = why
	}
	next := home{Nonce: books.Nonce, Count: books.Count + 1, At: s.now()}
	if why != "" || next.Nonce == "" {
		next.Nonce = rand.Text() // so that the books that were here before are others now
	}
	err = tidyHome(s.o.Dir)
	if books.Nonce == "" { // the first time the file goes first: books that have counted without one came here alone
		err = errors.Join(err, writeHome(s.o.Dir, next))
	}
	if err == nil {
		err = s.moveIn(next, why, books.At)
	}
	if err == nil && books.Nonce != "" {
		err = writeHome(s.o.Dir, next)
	}
	if err != nil {
		s.log.Warn("the start could not be counted beside the database", "file", HomeName, "error", err)
	}
	return nil
}

func (s *Store) homeInBooks() (h home, err error) {
	r := make(row, 3)
	found, err := s.w.c.one(r, "SELECT nonce, count, at FROM home")
	if err == nil && found {
		h = home{r.text(0), r.int(1), fromMillis(r.int(2))}
	}
	return h, err
}

// moveIn writes to the books what was found at the start, in one transaction.
func (s *Store) moveIn(next home, why HoldReason, asOf time.Time) (err error) {
	c := s.w.c
	if _, err := c.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if _, err = c.exec("INSERT OR REPLACE INTO home(id, nonce, count, at) VALUES(1, ?, ?, ?)", next.Nonce, next.Count, toMillis(next.At)); err == nil && why != "" {
		_, err = c.exec("INSERT OR REPLACE INTO hold(id, made_at, reason) VALUES(1, ?, ?)", max(toMillis(asOf), 1), string(why))
	}
	if err == nil {
		_, err = c.exec("COMMIT")
	}
	if err != nil && !c.c.AutoCommit() {
		_, rollback := c.exec("ROLLBACK")
		err = errors.Join(err, rollback)
	}
	return err
}

// stayHome counts until the store closes.
func (s *Store) stayHome() {
	tick := time.NewTicker(homeEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.countHome(s.stopped)
		case <-s.stopped.Done():
			return
		}
	}
}

// countHome counts once. When it cannot, the file stays behind the books, or both as they were.
func (s *Store) countHome(ctx context.Context) {
	if !s.counts() {
		return
	}
	var next home
	err := s.w.do(ctx, func(t *txn) error {
		r := make(row, 2)
		if _, err := t.c.one(r, "SELECT nonce, count FROM home"); err != nil {
			return err
		}
		next = home{r.text(0), r.int(1) + 1, t.now}
		_, err := t.c.exec("UPDATE home SET count=?, at=?", next.Count, toMillis(next.At))
		return err
	})
	if err == nil && next.Nonce != "" {
		err = writeHome(s.o.Dir, next)
	}
	if err != nil && ctx.Err() == nil && !s.Full() {
		s.log.Warn("could not be counted beside the database", "file", HomeName, "error", err)
	}
}

func readHome(path string) (h home, err error) {
	f, err := os.Open(path)
	if err != nil {
		return h, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, homeLimit))
	if err == nil {
		err = json.Unmarshal(text, &h)
	}
	if err != nil {
		return home{}, fmt.Errorf("%s: %w", path, err)
	}
	return h, nil
}

func writeHome(dir string, h home) error { return replaceJSON(dir, HomeName, h) }

// tidyHome removes what writers of the file left that were killed: nobody else writes it.
func tidyHome(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), HomeName+".") {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

// replaceJSON writes a small file, mode 0600: whoever reads it, also after a crash, sees
// the one before or this one.
func replaceJSON(dir, name string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, name+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // not there any more when all went well
	_, err = f.Write(append(text, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), filepath.Join(dir, name)); err != nil {
		return err
	}
	return syncDir(dir)
}
