package main

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"

	"github.com/grapnel-hooks/grapnel/sqlite"
)

// diskSpace is what an unprivileged process may still write to the disk of a
// directory, and how large the disk is.
func diskSpace(dir string) (free, size uint64, err error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return uint64(st.Bavail) * uint64(st.Bsize), uint64(st.Blocks) * uint64(st.Bsize), nil
}

// lastBackup is when the last good backup was made; zero if there never was one.
func lastBackup(dir string) (time.Time, error) {
	r, err := sqlite.LastBackup(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, nil
	}
	return r.MadeAt, err
}
