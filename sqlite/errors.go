package sqlite

import (
	"errors"
	"fmt"

	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/mattn/go-sqlite3"
)

// Errors of opening.
var (
	// ErrNewer: the database was written by a newer version of the program.
	// It was not touched.
	ErrNewer = errors.New("database is of a newer version")
	// ErrOlder: the database is of an earlier version, and may not be changed, as
	// bringing it forward would.
	ErrOlder = errors.New("database is of an earlier version")
	// ErrCorrupt: the file is not a database of ours, or it is damaged. It was
	// not touched.
	ErrCorrupt = errors.New("database is damaged or not ours")
	// ErrKey: the key with which the secrets are sealed is missing, is another
	// database's, or can be read by others. The error says what to do. The
	// database was not changed.
	ErrKey = errors.New("the key of the secrets cannot be used")
)

// Errors of administration. [fanout.ErrNoOrg] and [fanout.ErrFull] occur
// beside them.
var (
	// ErrNotFound: the organization has no such thing. A thing of another
	// organization is not found either.
	ErrNotFound = errors.New("not found")
	// ErrExists: there is one of that name already.
	ErrExists = errors.New("exists already")
	// ErrInUse: it cannot be removed while something belongs to it.
	ErrInUse = errors.New("still in use")
	// ErrState: its present state does not allow it.
	ErrState = errors.New("not possible in its present state")
	// ErrRevision: somebody has changed it since the caller read it.
	ErrRevision = errors.New("changed meanwhile")
	// ErrBusy: another process held the write lock for too long; nothing was
	// written, and the same call may succeed later.
	ErrBusy = errors.New("store is busy")
	// ErrClosed: the store has been closed.
	ErrClosed = errors.New("store is closed")
)

// fault is what kind of trouble an error of SQLite is, as the writer treats
// it.
type fault int

const (
	faultNone    fault = iota // not an error of SQLite: one operation's own
	faultOp                   // of one statement: its operation fails alone
	faultFull                 // the disk is full or cannot be written
	faultBusy                 // another process holds the lock
	faultCorrupt              // the file is damaged
)

// faultOf sorts err. SQLITE_FULL comes from a full disk, a quota or
// max_page_count; the extended I/O codes from a file size limit, and from disks
// and file systems that went read-only or away (REL-04).
func faultOf(err error) fault {
	var e sqlite3.Error
	if !errors.As(err, &e) {
		return faultNone
	}
	switch e.Code {
	case sqlite3.ErrFull, sqlite3.ErrReadonly, sqlite3.ErrCantOpen:
		return faultFull
	case sqlite3.ErrIoErr:
		switch e.ExtendedCode {
		case sqlite3.ErrIoErrRead, sqlite3.ErrIoErrShortRead:
			return faultCorrupt
		}
		return faultFull
	case sqlite3.ErrBusy, sqlite3.ErrLocked:
		return faultBusy
	case sqlite3.ErrCorrupt, sqlite3.ErrNotADB:
		return faultCorrupt
	}
	return faultOp
}

// public wraps an error of SQLite with the sentinel that callers know.
func public(err error) error {
	switch faultOf(err) {
	case faultFull:
		return fmt.Errorf("%w: %w", fanout.ErrFull, err)
	case faultBusy:
		return fmt.Errorf("%w: %w", ErrBusy, err)
	case faultCorrupt:
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return err
}
