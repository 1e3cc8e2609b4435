package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/grapnel-hooks/grapnel/fanout"
)

// Migrations bring the books of an earlier release forward, and nothing brings
// them back: whoever has to go back uses the backup that is made before.
//
//	books of schema N ─▶ grapnel.db.schema-N.bak ─▶ step N+1 ─▶ step N+2 … ─▶ earlier .bak removed
//
// Rules for a step, once a release has had the one before it:
//
//   - A script is never changed. What comes later is a new script.
//   - It only adds: tables, columns with a constant default, indexes of small tables.
//     So whoever reads the books by the older names (backups, reports) still can.
//   - It is one transaction, and costs the same however many rows there are. What
//     has to touch every delivery, event or attempt is done after the start, by a task of
//     the store, in small steps beside the traffic, as resealing is; both shapes
//     are right until it is finished.
//
// Crash points:
//
//	before the backup has its name    nothing happened; the draft is overwritten
//	between it and the first COMMIT   the backup is made again
//	after the COMMIT of a step        the next start goes on from there

// applicationID marks a file as ours: "GRPN" in its header.
const applicationID = 0x4752504e

const (
	// firstReleased is the oldest schema that a backup can be made of: it has
	// the mark of one. No release had an older one.
	firstReleased = 2
	// migrationRoom is what a migration may write beside the backup.
	migrationRoom = 64 << 20
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// migration is one step from a schema version to the next. Versions count from
// 1 without gaps, and are what the file's user_version holds.
type migration struct {
	version int
	name    string
	script  string
}

// migrations reads the embedded scripts NNNN_name.sql in order.
func migrations(files fs.FS) ([]migration, error) {
	names, err := fs.Glob(files, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	var ms []migration
	for i, name := range names {
		base := strings.TrimPrefix(name, "migrations/")
		number, _, _ := strings.Cut(base, "_")
		if v, err := strconv.Atoi(number); err != nil || v != i+1 {
			return nil, fmt.Errorf("migration %s: want number %04d", base, i+1)
		}
		script, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		ms = append(ms, migration{version: i + 1, name: base, script: string(script)})
	}
	return ms, nil
}

// MigrationStep is one step that a database has before it.
type MigrationStep struct {
	Schema int    // that it leads to
	Name   string // 0003_operations.sql
	Script string // SQL
}

// Migrations is what has to be done to the books in a directory before this
// program can use them.
type Migrations struct {
	Schema int // of the books; 0: there are none, and new ones are made as they have to be
	Known  int // by this program; less than Schema: the books are of a newer one
	Due    []MigrationStep
	Backup string // the file that is made before; "": no step is due
	Need   int64  // bytes that have to be free for all of it
	Free   int64  // bytes that are
}

// PlanMigrations looks at the books in dir and changes nothing, whether a daemon
// has them open or not. Damaged books fail with [ErrCorrupt].
func PlanMigrations(ctx context.Context, dir string) (Migrations, error) {
	ms, err := migrations(migrationFiles)
	if err != nil {
		return Migrations{}, err
	}
	path, err := filepath.Abs(filepath.Join(dir, FileName))
	if err != nil {
		return Migrations{}, fmt.Errorf("data directory: %w", err)
	}
	m, err := planMigrations(ctx, path, ms, freeBytes)
	if err != nil {
		return m, fmt.Errorf("look at %s: %w", path, err)
	}
	return m, nil
}

func planMigrations(ctx context.Context, path string, ms []migration, free func(dir string) (int64, error)) (m Migrations, err error) {
	m.Known = len(ms)
	err = checkHeader(path)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err == nil {
		m.Schema, err = schemaOf(ctx, path)
	}
	if err != nil || m.Schema >= m.Known {
		return m, err
	}
	for _, step := range ms[m.Schema:] {
		m.Due = append(m.Due, MigrationStep{Schema: step.version, Name: step.name, Script: step.script})
	}
	m.Need = migrationRoom
	if m.Schema >= firstReleased {
		m.Backup = backupBefore(path, m.Schema)
		for _, suffix := range []string{"", "-wal"} {
			if info, err := os.Stat(path + suffix); err == nil {
				m.Need += info.Size()
			}
		}
	}
	m.Free, err = free(filepath.Dir(path))
	return m, err
}

// backupBefore is the file that books of a schema are copied to before they are
// brought forward.
func backupBefore(path string, schema int) string {
	return fmt.Sprintf("%s.schema-%d.bak", path, schema)
}

func schemaOf(ctx context.Context, path string) (version int, err error) {
	db := openDB(path, "ro", 1, nil)
	defer func() { err = errors.Join(public(err), db.Close()) }()
	err = db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version)
	return version, err
}

// Migrate brings the books in o.Dir forward, as [Open] does by itself, and
// returns what was done. It fails as Open does; without the room for the backup
// with [fanout.ErrFull], and then nothing was changed. The caller makes sure
// that no other process has the directory open.
func Migrate(ctx context.Context, o Options) (Migrations, error) {
	if err := o.complete(); err != nil {
		return Migrations{}, err
	}
	m, err := PlanMigrations(ctx, o.Dir)
	if err != nil || m.Schema == 0 {
		return m, err
	}
	ms, err := migrations(migrationFiles)
	if err != nil {
		return m, err
	}
	path, err := filepath.Abs(filepath.Join(o.Dir, FileName))
	if err != nil {
		return m, fmt.Errorf("data directory: %w", err)
	}
	if err = checkContent(ctx, path, len(ms)); err == nil {
		err = bringForward(ctx, path, ms, &o)
	}
	if err != nil {
		return m, fmt.Errorf("migrate %s: %w", path, err)
	}
	return m, nil
}

// bringForward makes the backup and takes the steps that are due, if any.
func bringForward(ctx context.Context, path string, ms []migration, o *Options) error {
	m, err := planMigrations(ctx, path, ms, o.free)
	if err != nil || len(m.Due) == 0 {
		return err
	}
	if m.Free < m.Need {
		return fmt.Errorf("%w: books of schema %d are copied before they are brought to schema %d: that takes %d MiB and %d MiB are free in %s; make room, then start again",
			fanout.ErrFull, m.Schema, m.Known, m.Need>>20, m.Free>>20, filepath.Dir(path))
	}
	began := time.Now()
	o.Log.Info("the database is of an earlier release and is brought forward", "schema", m.Schema, "to", m.Known, "backup", m.Backup)
	if m.Backup != "" {
		if err := copyBefore(ctx, path, m.Backup, o); err != nil {
			return fmt.Errorf("back up to %s: %w", m.Backup, err)
		}
		// Crash here: the backup is made again, from the same books.
		o.Failpoint("migrate.backed")
	}
	if err := takeSteps(ctx, path, ms, o); err != nil {
		return err
	}
	o.Failpoint("migrate.done")
	// Crash here: the backups of earlier migrations stay until the next one.
	for v := firstReleased; v < m.Schema; v++ {
		if err := os.Remove(backupBefore(path, v)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			o.Log.Warn("the backup of an earlier migration cannot be removed", "error", err)
		}
	}
	o.Log.Info("the database is of this release now", "schema", m.Known, "took", time.Since(began))
	return nil
}

// copyBefore makes a backup as [Backup] does, in the place of an earlier one of
// the same schema: that is of an upgrade that was taken back, or of one that
// did not end.
func copyBefore(ctx context.Context, path, backup string, o *Options) error {
	draft := backup + ".part"
	if err := os.Remove(draft); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var r BackupReport
	if err := r.make(ctx, path, draft, o.Clock); err != nil {
		return errors.Join(err, os.Remove(draft))
	}
	o.Failpoint("migrate.copied")
	if err := os.Rename(draft, backup); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// takeSteps runs the scripts on a connection of their own.
func takeSteps(ctx context.Context, path string, ms []migration, o *Options) (err error) {
	db := openDB(path, "rw", 1, []string{
		fmt.Sprintf("PRAGMA busy_timeout = %d", o.busy.Milliseconds()), "PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL",
	})
	defer func() { err = errors.Join(public(err), db.Close()) }()
	c, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	return migrate(ctx, c, ms, o.Failpoint)
}

// migrate brings the database forward, one transaction for each step. A crash
// leaves it at the version of the last step that was committed; the next start
// goes on from there.
func migrate(ctx context.Context, c *sql.Conn, ms []migration, failpoint func(string)) error {
	var version int
	if err := c.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	if version > len(ms) {
		return fmt.Errorf("%w: schema %d, this program knows %d", ErrNewer, version, len(ms))
	}
	for _, m := range ms[version:] {
		if err := migrateStep(ctx, c, m, failpoint); err != nil {
			return fmt.Errorf("migration %s: %w", m.name, err)
		}
	}
	return nil
}

func migrateStep(ctx context.Context, c *sql.Conn, m migration, failpoint func(string)) error {
	if _, err := c.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	steps := []string{
		m.script,
		fmt.Sprintf("PRAGMA application_id = %d", applicationID),
		fmt.Sprintf("PRAGMA user_version = %d", m.version), // part of the transaction
	}
	for _, step := range steps {
		if _, err := c.ExecContext(ctx, step); err != nil {
			c.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
			return err
		}
		failpoint("migrate.statement")
	}
	failpoint("migrate.step")
	if _, err := c.ExecContext(ctx, "COMMIT"); err != nil {
		return err
	}
	failpoint("migrate.stepped")
	return nil
}
