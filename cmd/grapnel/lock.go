package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

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

// lock makes the data directory, if need be, and takes its lock. Closing the
// file gives the lock back.
func lock(dir string) (io.Closer, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
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
