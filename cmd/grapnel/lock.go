package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/grapnel-hooks/grapnel/sqlite"
	"golang.org/x/sys/unix"
)

// lockName is the file in the data directory that the daemon holds a lock on.
// The lock goes with the process, however it ends; the file stays.
const lockName = "grapnel.lock"

// lockedError: another process holds the lock.
type lockedError struct {
	dir string
	pid string // of the holder, "" when it cannot be read
}

func (e *lockedError) Error() string {
	who := "another grapnel"
	if e.pid != "" {
		who += " (pid " + e.pid + ")"
	}
	return who + " is running on " + e.dir
}

// lock makes the data directory, if need be, and takes its lock, through no link:
// root may run this in a directory that is the daemon's. Closing the
// file gives the lock back.
func lock(dir string) (io.Closer, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("lock the data directory: %w: run it as the user whose directory it is", err)
	}
	if err != nil {
		return nil, fmt.Errorf("lock the data directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		pid, _ := io.ReadAll(io.LimitReader(f, 20))
		return nil, &lockedError{dir: dir, pid: strings.TrimSpace(string(pid))}
	}
	// The pid is for people: a crash between these two lines leaves it empty or
	// old, while the lock itself is right.
	err = f.Truncate(0)
	if err == nil {
		_, err = fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("write %s: %w", f.Name(), err)
	}
	return f, nil
}

// exposedError: others than the daemon's user can open what is in the data directory.
type exposedError struct {
	path string
	mode os.FileMode
	want os.FileMode
}

func (e *exposedError) Error() string {
	return fmt.Sprintf("%s has mode %04o, so other users of this machine can get at events and secrets: chmod %04o %s", e.path, e.mode, e.want, e.path)
}

// private checks that nobody else can open the data directory, the database or what
// lies beside it. The key of the secrets is checked where it is read.
func private(dir string) error {
	check := func(path string, want os.FileMode) error {
		info, err := os.Stat(path)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
		if mode := info.Mode().Perm(); mode&0o077 != 0 {
			return &exposedError{path, mode, want}
		}
		return nil
	}
	if err := check(dir, 0o700); err != nil {
		return err
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := check(filepath.Join(dir, sqlite.FileName+suffix), 0o600); err != nil {
			return err
		}
	}
	return nil
}
