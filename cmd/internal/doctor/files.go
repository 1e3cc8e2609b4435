package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Files is what was seen of the data directory's permissions.
type Files struct {
	Dir   string
	Mode  fs.FileMode
	Owner bool     // it is this user's
	Open  []string // files that others than their owner may read or write
	Stops bool     // with one of them so, the daemon does not start
	Err   error
}

// SeeFiles looks at a data directory, and at keyFile, if that is elsewhere.
func SeeFiles(dir, keyFile string) (f Files) {
	f.Dir = dir
	info, err := os.Stat(dir)
	if err != nil {
		return Files{Dir: dir, Err: err}
	}
	f.Mode, f.Owner = info.Mode(), ownedByUs(info)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return Files{Dir: dir, Err: err}
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && isSecret(info) && !strings.HasPrefix(e.Name(), ".doctor-") {
			f.Open = append(f.Open, e.Name())
			f.Stops = f.Stops || stopsStart(e.Name())
		}
	}
	if keyFile != "" && filepath.Dir(keyFile) != filepath.Clean(dir) {
		if info, err := os.Stat(keyFile); err == nil && isSecret(info) {
			f.Open, f.Stops = append(f.Open, keyFile), true
		}
	}
	return f
}

// isSecret reports whether others may read or write a file that nobody else should.
func isSecret(info fs.FileInfo) bool {
	return info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0
}

// stopsStart reports whether the daemon refuses to start while others may open the file.
func stopsStart(name string) bool {
	return slices.Contains([]string{"grapnel.db", "grapnel.db-wal", "grapnel.db-shm", "secrets.key"}, name)
}

func ownedByUs(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return !ok || int(st.Uid) == os.Geteuid()
}

// Finding judges them.
func (f Files) Finding() Finding {
	const check = "permissions"
	switch {
	case errors.Is(f.Err, fs.ErrNotExist):
		return bad(check, Warn, "name the daemon's directory with --data; if this is it, the first start makes it", "%s is not there", f.Dir)
	case f.Err != nil:
		return bad(check, Fail, "run it as the daemon's user", "%s cannot be read: %v", f.Dir, f.Err)
	case !f.Owner:
		return bad(check, Warn, "run it as the daemon's user, or give that user the directory", "%s belongs to another user", f.Dir)
	case f.Mode.Perm()&0o077 != 0 && len(f.Open) > 0:
		return bad(check, Fail, fmt.Sprintf("chmod 700 %s", f.Dir), "others of this machine may look into %s (%v), and read %s", f.Dir, f.Mode.Perm(), some(f.Open))
	case f.Mode.Perm()&0o077 != 0:
		return bad(check, Fail, fmt.Sprintf("chmod 700 %s", f.Dir), "others of this machine may look into %s (%v), and the daemon does not start so", f.Dir, f.Mode.Perm())
	case f.Stops:
		return bad(check, Fail, "chmod 600 them", "only the directory keeps others from reading %s, and the daemon does not start so", some(f.Open))
	case len(f.Open) > 0:
		return bad(check, Warn, "chmod 600 them", "only the directory keeps others from reading %s", some(f.Open))
	}
	return good(check, "%s and its files are the owner's alone", f.Dir)
}

// some are the first of several names.
func some(names []string) string {
	const most = 4
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}
