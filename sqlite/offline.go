package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
)

// Offline reads the books of a daemon that does not run, as it left them, even if
// it was killed: what was committed is there. It writes nothing, neither into the
// database nor beside it, and needs no key, since it shows no secrets.
type Offline struct {
	s      *Store
	path   string
	frozen bool // it was opened as a file that nobody changes
}

// OpenOffline opens the database at path. alive says that a daemon has it open:
// then it is read beside that one, as its own readers do.
//
// It fails with [ErrNewer] and [ErrOlder] when the database is of another version
// than the program, and with [ErrCorrupt] when it is no database of ours.
func OpenOffline(ctx context.Context, path string, alive bool) (_ *Offline, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("read %s: %w", path, err)
		}
	}()
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	if err := checkHeader(path); err != nil {
		return nil, err
	}
	how, err := offlineMode(path, alive)
	if err != nil {
		return nil, err
	}
	f := &Offline{path: path, frozen: how == frozenFile}
	f.s = &Store{path: path, orgs: make(map[string]*orgState), orgRows: make(map[int64]*orgState), endpoints: make(map[int64]*deliver.Endpoint)}
	f.s.o.Clock = time.Now
	c := newConnector(path, "ro", []string{"PRAGMA query_only = 1", "PRAGMA cache_size = -2048"})
	c.dsn += how
	f.s.readDB = c.pool(1)
	if err := f.load(ctx); err != nil {
		return nil, errors.Join(public(err), f.s.readDB.Close())
	}
	return f, nil
}

// How a database is opened, as parameters of SQLite's URIs.
const (
	besideDaemon = ""
	// Without the daemon nobody keeps the index of the write-ahead log, and SQLite
	// would make a new one in the file -shm. So it makes one in memory.
	ownIndex = "&readonly_shm=1"
	// Without a log there is only the one file, and nobody changes it.
	frozenFile = "&immutable=1"
)

func offlineMode(path string, alive bool) (string, error) {
	if alive {
		return besideDaemon, nil
	}
	switch wal, err := os.Stat(path + "-wal"); {
	case errors.Is(err, fs.ErrNotExist), err == nil && wal.Size() == 0:
		return frozenFile, nil
	case err != nil:
		return "", err
	}
	if _, err := os.Stat(path + "-shm"); err != nil {
		return "", fmt.Errorf("it was copied with its log (-wal) but without -shm, which SQLite would have to write: make an empty file, %s", path+"-shm")
	}
	return ownIndex, nil
}

func (f *Offline) load(ctx context.Context) error {
	ms, err := migrations(migrationFiles)
	if err != nil {
		return err
	}
	var version int
	if err := f.s.readDB.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	switch {
	case version > len(ms):
		return fmt.Errorf("%w: schema %d, this program knows %d", ErrNewer, version, len(ms))
	case version < len(ms):
		return fmt.Errorf("%w: schema %d, this program reads %d: use the program that wrote it, or start the daemon, which brings it forward", ErrOlder, version, len(ms))
	}
	s := f.s
	err = s.read(func(scan func(...any) error) error {
		var o orgState
		if err := scan(&o.row, &o.org.ID); err != nil {
			return err
		}
		s.keepOrg(&o)
		return nil
	}, "SELECT id, org FROM orgs WHERE removed_at IS NULL")
	if err != nil {
		return err
	}
	err = s.read(func(scan func(...any) error) error {
		var e deliver.Endpoint
		var org int64
		if err := scan(&e.Row, &e.ID, &org); err != nil {
			return err
		}
		if o := s.orgRows[org]; o != nil {
			e.Org = o.org.ID
			s.endpoints[e.Row], o.endpoints = &e, append(o.endpoints, e.Row)
		}
		return nil
	}, "SELECT id, ulid, org FROM endpoints WHERE removed_at IS NULL ORDER BY id")
	if err != nil {
		return err
	}
	s.standing.of = make(map[int64]change)
	for _, count := range stateCounts {
		counts := make(map[int64]change)
		err := s.read(func(scan func(...any) error) error {
			var endpoint, n int64
			err := scan(&endpoint, &n)
			counts[endpoint] = count.of(n)
			return err
		}, count.query)
		if err != nil {
			return err
		}
		s.addCounts(counts)
	}
	return nil
}

// Close lets go of the database. It fails when a daemon was started while the
// file was read as one that nobody changes: what was read may be wrong then.
func (f *Offline) Close() error {
	if err := f.s.readDB.Close(); err != nil {
		return err
	}
	if wal, err := os.Stat(f.path + "-wal"); f.frozen && err == nil && wal.Size() > 0 {
		return fmt.Errorf("read %s: a daemon was started meanwhile: ask it, without --db", f.path)
	}
	return nil
}

// Cursors is [Store.Cursors], without rates.
func (f *Offline) Cursors(ctx context.Context) ([]Cursor, error) {
	list, err := f.s.Cursors(ctx)
	return list, public(err)
}

// Cursor is [Store.Cursor], without rates.
func (f *Offline) Cursor(ctx context.Context, org string) (Cursor, error) {
	c, err := f.s.Cursor(ctx, org)
	return c, public(err)
}

// CursorMoves is [Store.CursorMoves].
func (f *Offline) CursorMoves(ctx context.Context, org string, limit int) ([]CursorMove, error) {
	return f.s.CursorMoves(ctx, org, limit)
}

// Backlogged is [Store.Backlogged].
func (f *Offline) Backlogged(ctx context.Context, org string, limit int) ([]Backlogged, error) {
	return f.s.Backlogged(ctx, org, limit)
}

// Incarnations is [Store.Incarnations].
func (f *Offline) Incarnations(ctx context.Context, org string) ([]Incarnation, error) {
	return f.s.Incarnations(ctx, org)
}

// ListGaps is [Store.ListGaps].
func (f *Offline) ListGaps(ctx context.Context, org string, before Place, limit int) ([]Gap, error) {
	return f.s.ListGaps(ctx, org, before, limit)
}

// ListRejected is [Store.ListRejected].
func (f *Offline) ListRejected(ctx context.Context, org string, before Place, limit int) ([]Rejected, error) {
	return f.s.ListRejected(ctx, org, before, limit)
}
