package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/grapnel-hooks/grapnel/sqlite/seal"
	"github.com/mattn/go-sqlite3"
)

// Library is the SQLite that is compiled in.
type Library struct {
	Version string
	Good    bool     // no earlier one than [Open] wants, 3.51.3
	Least   string   // the one that Open wants
	Options []string // it was compiled with: "THREADSAFE=1"
}

// CompiledIn asks SQLite about itself; no books are opened.
func CompiledIn(ctx context.Context) (Library, error) {
	text, number, _ := sqlite3.Version()
	l := Library{Version: text, Good: number >= minVersion, Least: minVersionText}
	db := (&connector{dsn: "file::memory:"}).pool(1)
	defer db.Close()
	rows, err := db.QueryContext(ctx, "PRAGMA compile_options")
	if err != nil {
		return l, fmt.Errorf("ask SQLite how it was compiled: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var option string
		if err := rows.Scan(&option); err != nil {
			return l, fmt.Errorf("ask SQLite how it was compiled: %w", err)
		}
		l.Options = append(l.Options, option)
	}
	return l, rows.Err()
}

// Glance is what can be told of books without opening them for work.
type Glance struct {
	Schema, Known  int // of the books, and the last that this program knows
	Orgs           int
	Endpoints      int
	HeldSince      time.Time // when the backup was made that nobody has released; zero: not held
	Bytes, WALByte int64
	Key            error // why the key does not fit; nil: it does, or nothing was ever sealed
}

// Look reads the books in o.Dir, with their keys, and writes nothing: for those of a
// daemon that does not run. It fails with [fs.ErrNotExist] when there are none, and
// as [Open] does with [ErrCorrupt]. Of a newer schema it tells the schema alone.
func Look(ctx context.Context, o Options) (g Glance, err error) {
	path := filepath.Join(o.Dir, FileName)
	defer func() {
		if err != nil {
			err = fmt.Errorf("look at %s: %w", path, err)
		}
	}()
	m, err := PlanMigrations(ctx, o.Dir)
	if err != nil {
		return g, err
	}
	if m.Schema == 0 {
		return g, fs.ErrNotExist
	}
	g.Schema, g.Known, g.Bytes, g.WALByte = m.Schema, m.Known, size(path), size(path+"-wal")
	if g.Schema > g.Known {
		return g, nil
	}
	db := openDB(path, "ro", 1, []string{"PRAGMA query_only = 1"})
	defer func() { err = errors.Join(public(err), db.Close()) }()
	if err := db.QueryRowContext(ctx, "SELECT (SELECT count(*) FROM orgs), (SELECT count(*) FROM endpoints WHERE swept = 0)").Scan(&g.Orgs, &g.Endpoints); err != nil {
		return g, err
	}
	var held int64
	switch err := db.QueryRowContext(ctx, "SELECT made_at FROM hold").Scan(&held); {
	case err == nil:
		g.HeldSince = fromMillis(max(held, 1))
	case !errors.Is(err, sql.ErrNoRows):
		return g, err
	}
	var sealed []byte
	switch err := db.QueryRowContext(ctx, "SELECT sealed FROM probe").Scan(&sealed); {
	case err == nil:
		g.Key = o.fits(sealed)
	case !errors.Is(err, sql.ErrNoRows):
		return g, err
	}
	return g, nil
}

// fits says why the options' keys do not open the probe of the books.
func (o Options) fits(probe []byte) error {
	keys, where := o.Keys, "what was given"
	if len(keys) == 0 {
		if where = o.KeyFile; where == "" {
			where = filepath.Join(o.Dir, KeyFileName)
		}
		var err error
		if keys, err = seal.ReadFile(where); err != nil {
			return fmt.Errorf("%w: %w", ErrKey, err)
		}
	}
	ring, err := seal.NewKeyring(keys...)
	if err == nil {
		_, err = ring.Open([]byte(probeAAD), probe)
	}
	if err != nil {
		return fmt.Errorf("%w: %s holds another database's: %w", ErrKey, where, err)
	}
	return nil
}
