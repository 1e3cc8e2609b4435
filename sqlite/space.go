package sqlite

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// A full disk cannot be cleaned up by SQLite: to delete rows it has to write them to
// the log first, and so has whoever folds the log. The ballast is a file that takes
// room while there is enough of it, so that somebody can give that room back. It is
// twice as large as the log may be that stays behind a checkpoint.

const (
	// BallastName is the ballast's file in the data directory.
	BallastName = "ballast"
	// DefaultBallast is how large it is, in bytes.
	DefaultBallast = 128 << 20
)

// Ballast is the size of the ballast in dir, in bytes; 0: there is none.
func Ballast(dir string) int64 { return size(filepath.Join(dir, BallastName)) }

// MakeBallast makes a ballast of so many bytes in dir. They are random, since some
// file systems store nothing for others.
func MakeBallast(dir string, bytes int64) (err error) {
	name := filepath.Join(dir, BallastName)
	part := name + ".part"
	f, err := createDraft(part)
	if err != nil {
		return fmt.Errorf("ballast: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("ballast: %w", err), os.Remove(part))
		}
	}()
	block := make([]byte, 1<<20)
	for left := bytes; left > 0; left -= int64(len(block)) {
		block = block[:min(left, int64(len(block)))]
		rand.Read(block) // never fails
		if _, err := f.Write(block); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(part, name)
}

// ReleaseBallast removes the ballast in dir and returns how many bytes that
// freed. Doing it again frees nothing.
func ReleaseBallast(dir string) (freed int64, err error) {
	freed = Ballast(dir)
	if err := os.Remove(filepath.Join(dir, BallastName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("release the ballast: %w", err)
	}
	return freed, nil
}

// UsedBytes is how much of the database file is in use. What retention removes
// leaves pages of the file that new rows take before it grows: they are not
// counted. Nor is the log, which may be some 64 MiB more.
func (s *Store) UsedBytes() (int64, error) {
	pages, err := s.column("SELECT (SELECT page_count FROM pragma_page_count) - (SELECT freelist_count FROM pragma_freelist_count)")
	if err != nil {
		return 0, fmt.Errorf("size of the database: %w", public(err))
	}
	return pages[0] * pageSize, nil
}

// pageSize is SQLite's default, and that of every database of ours.
const pageSize = 4096

// PendingIn is how many deliveries of the organization are pending; 0 for one that
// is not there.
func (s *Store) PendingIn(org string) int64 {
	o, err := s.find(org)
	if err != nil {
		return 0
	}
	return o.pending.Load()
}
