package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"
)

// nightlyName matches what "backup DIR" calls its files. Only such files are ever
// removed; in their order by name they are in the order of time.
var nightlyName = regexp.MustCompile(`^grapnel-\d{8}T\d{6}Z\.db$`)

// nightly is where one backup goes, and which older ones it replaces.
type nightly struct {
	keep int // 0: all
	now  time.Time
	dir  string // "": a file was named
	name string // in dir
}

// place is the file to write for what was given on the command line.
func (n *nightly) place(given string, keeping bool) (string, error) {
	if keeping && n.keep < 1 {
		return "", &usageError{fmt.Errorf("--keep %d: want 1 or more", n.keep)}
	}
	info, err := os.Stat(given)
	switch {
	case err == nil && info.IsDir():
		n.dir, n.name = given, "grapnel-"+n.now.UTC().Format("20060102T150405Z")+".db"
		return filepath.Join(n.dir, n.name), nil
	case keeping && errors.Is(err, fs.ErrNotExist):
		return "", &usageError{fmt.Errorf("--keep: there is no directory %s: make it first", given)}
	case keeping:
		return "", &usageError{fmt.Errorf("--keep: %s is not a directory", given)}
	}
	return given, nil
}

// prune removes all but the newest backups, once a new one is good, and says which.
func (n *nightly) prune() (removed []string, err error) {
	if n.keep == 0 {
		return nil, nil
	}
	all, err := os.ReadDir(n.dir)
	if err != nil {
		return nil, fmt.Errorf("remove older backups: %w", err)
	}
	for _, name := range superseded(all, n.name, n.keep) {
		old := filepath.Join(n.dir, name)
		if err := os.Remove(old); err != nil {
			return removed, fmt.Errorf("remove an older backup: %w", err)
		}
		removed = append(removed, old)
	}
	return removed, nil
}

// superseded are the names of backups that go when the newest ones stay. The one that
// was just made stays in any case, also when the clock has been set back.
func superseded(all []fs.DirEntry, made string, keep int) (old []string) {
	for _, e := range all {
		if e.Type().IsRegular() && nightlyName.MatchString(e.Name()) && e.Name() != made {
			old = append(old, e.Name())
		}
	}
	slices.Sort(old)
	return old[:max(len(old)-(keep-1), 0)]
}
