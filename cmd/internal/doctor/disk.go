package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// FileSystem is what a data directory is on; the zero value is nothing that is
// known to be wrong.
type FileSystem struct {
	Name string
	kind fsKind
}

type fsKind int

const (
	local   fsKind = iota
	network        // locks and the memory that SQLite shares between connections do not work as they must
	memory         // gone with a restart of the machine
	layered        // of a container: gone with it
	unknown        // whatever is behind it
)

// Disk is what was seen of the disk of the data directory.
type Disk struct {
	Err         error // it could not be looked at
	Above       bool  // the directory is not there yet: it is the disk that it will be on, and no file was written
	Free, Total int64 // bytes
	FS          FileSystem
	Sync        time.Duration // a small file, written and flushed: the median of several
	SyncErr     error
}

// What is free is judged by these: below the first nothing can be appended to the
// embedded broker.
const (
	leastFree   = 512 << 20
	enoughFree  = 2 << 30
	enoughShare = 10 // percent
)

// Flushes are judged by these. A disk that keeps its promises needs tens of
// microseconds at least, to tell its controller.
const (
	quickestSync = 15 * time.Microsecond
	slowSync     = 50 * time.Millisecond
)

// SeeDisk looks at the disk of dir. It writes a file there, flushes it, and removes
// it again, if the directory is there.
func SeeDisk(dir string) (d Disk) {
	for {
		if d.FS, d.Free, d.Total, d.Err = seeFileSystem(dir); !errors.Is(d.Err, fs.ErrNotExist) || filepath.Dir(dir) == dir {
			break
		}
		dir, d.Above = filepath.Dir(dir), true
	}
	if d.Err == nil && !d.Above {
		d.Sync, d.SyncErr = timeSync(dir)
	}
	return d
}

func timeSync(dir string) (median time.Duration, err error) {
	f, err := os.CreateTemp(dir, ".doctor-*")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	var took []time.Duration
	page := make([]byte, 4<<10)
	for range 7 {
		if _, err := f.Write(page); err != nil {
			return 0, err
		}
		began := time.Now()
		if err := f.Sync(); err != nil {
			return 0, err
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}

// Findings judges room, kind and flushes.
func (d Disk) Findings() []Finding {
	if d.Err != nil {
		return []Finding{bad("disk", Fail, "run it as the daemon's user, or name another directory with --data", "the data directory cannot be looked at: %v", d.Err)}
	}
	if d.Above {
		return []Finding{d.room(), d.fileSystem()}
	}
	return []Finding{d.room(), d.fileSystem(), d.flush()}
}

func (d Disk) room() Finding {
	const check, do = "disk", "make room, or shorten the retention"
	share := int64(0)
	if d.Total > 0 {
		share = d.Free * 100 / d.Total
	}
	what := fmt.Sprintf("%s of %s are free (%d %%)", size(d.Free), size(d.Total), share)
	switch {
	case d.Free < leastFree:
		return bad(check, Fail, do, "%s: an embedded broker takes nothing below %s", what, size(leastFree))
	case d.Free < enoughFree, share < enoughShare:
		return bad(check, Warn, do, "%s", what)
	}
	return good(check, "%s", what)
}

func (d Disk) fileSystem() Finding {
	const check = "file system"
	switch d.FS.kind {
	case network:
		return bad(check, Fail, "use a disk of this machine", "%s is a network file system: SQLite's locks and shared memory are not safe on it", d.FS.Name)
	case memory:
		return bad(check, Warn, "use a disk, unless this is a try", "%s is memory: everything is gone when the machine starts again", d.FS.Name)
	case layered:
		return bad(check, Warn, "mount a volume at the data directory", "%s is the container's own layer: everything is gone with the container", d.FS.Name)
	case unknown:
		return bad(check, Warn, "use a disk of this machine, or make sure that a flush reaches the disk", "%s hides what is behind it", d.FS.Name)
	}
	return good(check, "local")
}

func (d Disk) flush() Finding {
	const check = "flush"
	took := d.Sync.Round(time.Microsecond)
	switch {
	case d.SyncErr != nil:
		return bad(check, Fail, "mend the disk, or its permissions", "a file cannot be written and flushed in the data directory: %v", d.SyncErr)
	case d.Sync < quickestSync && d.FS.kind != memory:
		return bad(check, Warn, "look whether the disk's cache is volatile, or flushes are switched off (eatmydata, nobarrier): a power cut would lose what was acknowledged", "a flush takes only %v, less than any disk needs", took)
	case d.Sync > slowSync:
		return bad(check, Warn, "use a faster disk: each group of events waits for a flush", "a flush takes %v", took)
	}
	return good(check, "a flush takes %v", took)
}
