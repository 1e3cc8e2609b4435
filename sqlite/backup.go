package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/grapnel-hooks/grapnel/sqlite/seal"
	"github.com/mattn/go-sqlite3"
)

// A backup is one file: the books as they were at one moment, without the log
// beside them. It is made by reading, in a transaction of its own, so the daemon
// goes on writing meanwhile and is never kept waiting; its log only cannot
// shrink until the copy is done.
//
//	copy to FILE.part → mark as a backup → check → sync → rename to FILE → note it in backup.json
//
// Crash anywhere: FILE is not there, and FILE.part is overwritten by the next.
//
// The mark (a row of the table hold) makes every daemon that opens the copy, by
// whatever way it came back, hold still until somebody releases it.

// BackupReport is what is in a backup.
type BackupReport struct {
	File          string
	Bytes         int64
	MadeAt        time.Time
	Took          time.Duration
	Schema        int // version
	Organizations int64
	Endpoints     int64
	Pending       int64 // deliveries

	Marked bool // it is what Backup wrote, and no other copy
}

// unchanging opens a file that nobody writes, and makes none beside it.
const unchanging = "ro&immutable=1"

// backupPages are copied between two looks at the context: 16 MiB.
const backupPages = 4096

// Backup copies the books in the directory dir to a new file, whether a daemon
// has them open or not, and proves that the copy is whole. It fails with
// [ErrExists] when the file is there, and as [Open] does when the books cannot be
// used. Secrets stay sealed: the key is not part of it.
func Backup(ctx context.Context, dir, file string, now func() time.Time) (BackupReport, error) {
	r := BackupReport{File: file}
	if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
		return r, fmt.Errorf("back up to %s: %w", file, cmpErr(err, ErrExists))
	}
	began := now()
	path, err := filepath.Abs(filepath.Join(dir, FileName)) // as a URI has it
	if err != nil {
		return r, fmt.Errorf("data directory: %w", err)
	}
	whole, err := filepath.Abs(file)
	if err != nil {
		return r, fmt.Errorf("back up to %s: %w", file, err)
	}
	draft := whole + ".part"
	if err = r.make(ctx, path, draft, now); err == nil {
		err = name(draft, whole)
	}
	if err != nil {
		os.Remove(draft)
		return r, fmt.Errorf("back up to %s: %w", file, err)
	}
	r.Took = now().Sub(began)
	return r, nil
}

// cmpErr is err, or otherwise when there is none.
func cmpErr(err, otherwise error) error {
	if err == nil {
		return otherwise
	}
	return err
}

// make copies the database at path to draft, and counts what is in it.
func (r *BackupReport) make(ctx context.Context, path, draft string, now func() time.Time) error {
	if err := checkHeader(path); err != nil {
		return err
	}
	f, err := createDraft(draft)
	if err != nil {
		return err
	}
	defer f.Close()
	if r.MadeAt, err = copyBooks(ctx, path, draft, now); err != nil {
		return public(err)
	}
	if err := r.examine(ctx, draft); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	r.Bytes = info.Size()
	return nil
}

// copyBooks copies page by page, all as of the moment that it returns, and
// marks the copy.
func copyBooks(ctx context.Context, path, draft string, now func() time.Time) (at time.Time, err error) {
	from := openDB(path, "ro", 1, nil)
	defer func() { err = errors.Join(err, from.Close()) }()
	// The copy can be thrown away until it is whole, so it needs no journal.
	to := openDB(draft, "rw", 1, []string{"PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF"})
	defer func() { err = errors.Join(err, to.Close()) }()
	src, err := from.Conn(ctx)
	if err != nil {
		return at, err
	}
	defer src.Close()
	dst, err := to.Conn(ctx)
	if err != nil {
		return at, err
	}
	defer dst.Close()
	// With a read transaction of its own the source shows one moment to all steps,
	// however much is written meanwhile.
	if _, err := src.ExecContext(ctx, "BEGIN"); err != nil {
		return at, err
	}
	var version int
	if err := src.QueryRowContext(ctx, "SELECT user_version FROM pragma_user_version, (SELECT count(*) FROM sqlite_schema)").Scan(&version); err != nil {
		return at, err
	}
	at = now()
	err = onBoth(dst, src, func(dst, src *sqlite3.SQLiteConn) error { return copyPages(ctx, dst, src) })
	if err != nil {
		return at, err
	}
	// Its header says that there is a log beside it, and there is none.
	if _, err := dst.ExecContext(ctx, "PRAGMA journal_mode = DELETE"); err != nil {
		return at, err
	}
	_, err = dst.ExecContext(ctx, "INSERT OR REPLACE INTO hold(id, made_at) VALUES(1, ?)", toMillis(at))
	return at, err
}

// onBoth gives the driver's own connections to f.
func onBoth(a, b *sql.Conn, f func(a, b *sqlite3.SQLiteConn) error) error {
	return a.Raw(func(a any) error {
		return b.Raw(func(b any) error { return f(a.(*sqlite3.SQLiteConn), b.(*sqlite3.SQLiteConn)) })
	})
}

func copyPages(ctx context.Context, dst, src *sqlite3.SQLiteConn) (err error) {
	b, err := dst.Backup("main", src, "main")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Finish()) }()
	for {
		done, err := b.Step(backupPages)
		if err != nil || done {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// examine proves that the file is whole, and counts.
func (r *BackupReport) examine(ctx context.Context, path string) (err error) {
	ms, err := migrations(migrationFiles)
	if err != nil {
		return err
	}
	if err := checkHeader(path); err != nil {
		return err
	}
	db := openDB(path, unchanging, 1, nil)
	defer func() { err = errors.Join(public(err), db.Close()) }()
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&r.Schema); err != nil {
		return err
	}
	if r.Schema > len(ms) {
		return fmt.Errorf("%w: schema %d, this program knows %d", ErrNewer, r.Schema, len(ms))
	}
	var health string
	if err := db.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&health); err != nil {
		return err
	}
	if health != "ok" {
		return fmt.Errorf("%w: %s", ErrCorrupt, health)
	}
	if err := checkClaims(ctx, db); err != nil {
		return err
	}
	var made int64
	err = db.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM orgs WHERE removed_at IS NULL), (SELECT count(*) FROM endpoints WHERE removed_at IS NULL),
		(SELECT count(*) FROM deliveries INDEXED BY deliveries_pending WHERE state=0), ifnull((SELECT made_at FROM hold), 0)`).
		Scan(&r.Organizations, &r.Endpoints, &r.Pending, &made)
	if r.Marked = made != 0; err == nil && !r.Marked {
		made, err = lastWrite(ctx, db, r.Schema)
	}
	r.MadeAt = fromMillis(made)
	return err
}

// lastWrite is about when books that nobody marked were written last, in ms.
func lastWrite(ctx context.Context, db *sql.DB, schema int) (at int64, err error) {
	query := "SELECT ifnull((SELECT max(updated_at) FROM cursors), 0)"
	if schema >= homeSchema {
		query = "SELECT max(ifnull((SELECT max(updated_at) FROM cursors), 0), ifnull((SELECT at FROM home), 0))"
	}
	err = db.QueryRowContext(ctx, query).Scan(&at)
	return at, err
}

// checkApart refuses books that somebody may have open, or a copy without all that
// belongs to it: what was committed last is in the log beside it. What [Backup] wrote, and
// what Litestream restores, is one file.
func checkApart(path string) error {
	for _, suffix := range []string{"-wal", "-journal"} {
		if info, err := os.Stat(path + suffix); err == nil && info.Size() > 0 {
			return fmt.Errorf("%s belongs to it, so it is a daemon's database, or a copy of one: save that first, with grapnel backup --data %s",
				filepath.Base(path)+suffix, filepath.Dir(path))
		}
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(path), HomeName)); err == nil {
		return fmt.Errorf("it is the database of the data directory %s: save that first, with grapnel backup --data %[1]s", filepath.Dir(path))
	}
	return nil
}

// name gives a whole and synced draft its name.
func name(draft, file string) error {
	if err := os.Link(draft, file); err != nil { // unlike a rename it never replaces
		return err
	}
	if err := os.Remove(draft); err != nil {
		return err
	}
	return syncDir(filepath.Dir(file))
}

// RestoreOptions are what a backup is restored with.
type RestoreOptions struct {
	Dir     string     // the data directory; made if need be. Nobody else has it open
	KeyFile string     // the key of the backup's secrets; "": [KeyFileName] in Dir
	Keys    []seal.Key // instead of a file
}

// Verify proves that a backup is whole and says what is in it, and whether the key of
// its secrets is there ([ErrKey]); nothing is restored or written.
func Verify(ctx context.Context, file string, o RestoreOptions) (BackupReport, error) {
	r, whole, err := verify(ctx, file, o)
	if err != nil {
		return r, fmt.Errorf("verify %s: %w", file, err)
	}
	info, err := os.Stat(whole)
	if err != nil {
		return r, fmt.Errorf("verify: %w", err)
	}
	r.Bytes = info.Size()
	return r, nil
}

// verify also returns the file's absolute name.
func verify(ctx context.Context, file string, o RestoreOptions) (r BackupReport, whole string, err error) {
	r = BackupReport{File: file}
	if whole, err = filepath.Abs(file); err != nil {
		return r, "", err
	}
	if err := r.examine(ctx, whole); err != nil {
		return r, "", err
	}
	if !r.Marked {
		if err := checkApart(whole); err != nil {
			return r, "", err
		}
	}
	return r, whole, proveKey(ctx, whole, &o)
}

// Restore makes a backup, or another copy that is one file, as Litestream restores it, the books in a directory that has none: it fails
// with [ErrExists] when there are some. The file is checked first, and so is that
// the key of its secrets is there ([ErrKey]). Whoever opens the books then holds
// still until [Store.Resume].
func Restore(ctx context.Context, file string, o RestoreOptions) (r BackupReport, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("restore %s: %w", file, err)
		}
	}()
	r, file, err = verify(ctx, file, o)
	if err != nil {
		return r, err
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return r, fmt.Errorf("data directory: %w", err)
	}
	path, err := filepath.Abs(filepath.Join(o.Dir, FileName)) // as a URI has it
	if err != nil {
		return r, fmt.Errorf("data directory: %w", err)
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if _, err := os.Lstat(path + suffix); !errors.Is(err, fs.ErrNotExist) {
			return r, fmt.Errorf("%s: %w", path+suffix, cmpErr(err, ErrExists))
		}
	}
	draft := path + ".part"
	r.Bytes, err = copyFile(file, draft)
	if err == nil && !r.Marked {
		err = markCopy(ctx, draft, r.MadeAt)
	}
	if err == nil {
		err = name(draft, path)
	}
	return r, err
}

// markCopy makes of a copy what Backup would have written.
func markCopy(ctx context.Context, path string, asOf time.Time) (err error) {
	db := openDB(path, "rw", 1, []string{"PRAGMA journal_mode = DELETE", "PRAGMA synchronous = FULL"})
	defer func() { err = errors.Join(err, db.Close()) }()
	_, err = db.ExecContext(ctx, "INSERT OR REPLACE INTO hold(id, made_at) VALUES(1, ?)", max(toMillis(asOf), 1))
	return err
}

// proveKey opens the backup's probe.
func proveKey(ctx context.Context, file string, o *RestoreOptions) (err error) {
	keys, where := o.Keys, "what was given"
	if len(keys) == 0 {
		if where = o.KeyFile; where == "" {
			where = filepath.Join(o.Dir, KeyFileName)
		}
		if keys, err = seal.ReadFile(where); err != nil {
			return fmt.Errorf("%w: %w: without the key the secrets of the backup are lost; put the key file that belongs to it there, or name it", ErrKey, err)
		}
	}
	ring, err := seal.NewKeyring(keys...)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKey, err)
	}
	db := openDB(file, unchanging, 1, nil)
	defer func() { err = errors.Join(err, db.Close()) }()
	var sealed []byte
	if err := db.QueryRowContext(ctx, "SELECT sealed FROM probe").Scan(&sealed); err != nil {
		return public(err)
	}
	if _, err := ring.Open([]byte(probeAAD), sealed); err != nil {
		return fmt.Errorf("%w: %s is another database's: %w", ErrKey, where, err)
	}
	return nil
}

// createDraft makes a file, mode 0600, in the place of what a crash left there. It writes
// through no link: whoever restores may be root, and who owns the directory is not.
func createDraft(path string) (*os.File, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
}

func copyFile(from, to string) (n int64, err error) {
	src, err := os.Open(from)
	if err != nil {
		return 0, err
	}
	defer src.Close()
	dst, err := createDraft(to)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	if n, err = io.Copy(dst, src); err != nil {
		return n, err
	}
	return n, dst.Sync()
}

// Held is when the backup was made that these books come from (of another copy: when
// it was counted last, see home.go), and whether nobody has released them since.
func (s *Store) Held() (madeAt time.Time, held bool) {
	at := s.held.Load()
	return fromMillis(at), at != 0
}

// HeldBecause is why they are held, or why they were at the start; "": they were not.
func (s *Store) HeldBecause() HoldReason { return s.heldWhy }

func (s *Store) loadHold() error {
	r := make(row, 2)
	found, err := s.w.c.one(r, "SELECT made_at, reason FROM hold")
	if err == nil && found {
		s.held.Store(max(r.int(0), 1))
		s.heldWhy = HoldReason(r.text(1))
	}
	return err
}

// Resume lets the walk begin, in books that come from a backup. It changes nothing
// when they are not held.
func (s *Store) Resume(ctx context.Context) error {
	err := s.w.do(ctx, func(t *txn) error {
		r := make(row, 1)
		found, err := t.c.one(r, "SELECT made_at FROM hold")
		if err != nil {
			return err
		}
		if !found {
			return nil
		}
		if _, err := t.c.exec("DELETE FROM hold"); err != nil {
			return err
		}
		t.after = append(t.after, func() { s.held.Store(0) })
		return t.audited(nil, "hold.resume", "", Changes{"backup_made_at": {fromMillis(r.int(0)), nil}})
	})
	if err != nil {
		return fmt.Errorf("resume: %w", err)
	}
	return nil
}
