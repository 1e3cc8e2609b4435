package sqlite

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	contentfilter "github.com/grapnel-hooks/grapnel/fanout/filter"
	"github.com/grapnel-hooks/grapnel/sqlite/seal"
	"github.com/grapnel-hooks/grapnel/stream"
	"github.com/mattn/go-sqlite3"
)

// FileName is the database in the data directory. SQLite keeps two more files
// beside it, with -wal and -shm at the end.
const FileName = "grapnel.db"

const (
	// minVersion is the first SQLite without the bug that could corrupt a
	// write-ahead log when it was reset (REL-30).
	minVersion     = 3_051_003
	minVersionText = "3.51.3"

	// checkBelow is the largest file that is checked in full at each start:
	// more would delay it by seconds.
	checkBelow = 256 << 20

	// defaultBusy is how long a statement waits for another process's lock.
	defaultBusy = 5 * time.Second
	readers     = 4
)

// LibraryVersion is the version of SQLite itself that is built in.
func LibraryVersion() string {
	text, _, _ := sqlite3.Version()
	return text
}

// Options is what a Store needs.
type Options struct {
	Dir   string           // the data directory; made with mode 0700
	Log   *slog.Logger     // required
	Clock func() time.Time // nil: time.Now
	Names stream.Names     // how the orgs' streams are called

	// Synchronous is when a commit is flushed: FULL, the default, means that
	// what was committed survives a power cut; NORMAL that it survives a crash of
	// the process only.
	Synchronous string
	// Replicated leaves it to another program, which copies the log, when the log is
	// folded into the database (wal.go).
	Replicated bool
	// Gated says whether a plan lacks outgoing webhooks; nil: no plan does.
	Gated func(plan string) bool
	// KeyFile holds the keys that secrets are sealed with; "" means [KeyFileName]
	// in Dir. It is made with the database. Keys, if there are any, are used
	// instead, the first to seal.
	KeyFile string
	Keys    []seal.Key
	// ParkAfter is how many deliveries of one endpoint may be pending; the commit
	// that goes over it makes the endpoint catch up from there. 0: any number.
	ParkAfter int64
	// Failpoint is called with the name of each durable step just before or
	// after it: commit.before, commit.after, record.before, record.after,
	// retention.step, seal.step, sweep.step, replay.step, catchup.step, catchup.open, migrate.copied,
	// migrate.backed, migrate.statement, migrate.step, migrate.stepped, migrate.done, keyring.written, keyring.dropped, reseal.step. Nil in production.
	Failpoint func(name string)

	// For tests.
	maxPages    int                           // of the database file: a full disk
	look        time.Duration                 // for what belongs on one page of a list
	piece       int                           // see auditStep
	moment      time.Duration                 // see auditMoment
	segment     int64                         // events in a segment
	pendingScan int64                         // pending deliveries that are looked through for a page
	runSize     int                           // events in a run of keys
	endpoints   int                           // see MaxEndpoints
	filtered    int                           // see MaxFiltered
	tokens      int                           // see MaxTokens
	answers     int64                         // see MaxAnswers
	outbox      int64                         // see MaxOutbox
	busy        time.Duration                 // see defaultBusy
	wrap        func(driver.Conn) driver.Conn // of the readers' connections
	free        func(dir string) (int64, error)
}

func (o *Options) complete() error {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Gated == nil {
		o.Gated = func(string) bool { return false }
	}
	if o.Failpoint == nil {
		o.Failpoint = func(string) {}
	}
	o.endpoints = cmp.Or(o.endpoints, MaxEndpoints)
	o.filtered = cmp.Or(o.filtered, MaxFiltered)
	o.tokens = cmp.Or(o.tokens, MaxTokens)
	o.answers = cmp.Or(o.answers, MaxAnswers)
	o.outbox = cmp.Or(o.outbox, MaxOutbox)
	o.busy = cmp.Or(o.busy, defaultBusy)
	o.look = cmp.Or(o.look, defaultLook)
	o.piece = cmp.Or(o.piece, auditStep)
	o.moment = cmp.Or(o.moment, auditMoment)
	o.pendingScan = cmp.Or(o.pendingScan, pendingScan)
	o.segment = cmp.Or(o.segment, segmentSize)
	o.runSize = cmp.Or(o.runSize, defaultRunSize)
	if o.free == nil {
		o.free = freeBytes
	}
	switch o.Synchronous = strings.ToUpper(o.Synchronous); o.Synchronous {
	case "":
		o.Synchronous = "FULL"
	case "FULL", "NORMAL", "EXTRA":
	default:
		return fmt.Errorf("synchronous %q: want FULL, NORMAL or EXTRA", o.Synchronous)
	}
	return nil
}

// Store is the books. It is safe for concurrent use.
type Store struct {
	o      Options
	path   string
	log    *slog.Logger
	schema int // the number of the last migration

	readDB   *sql.DB // a pool; read-only
	w        *writer
	keys     *keys
	answers  map[int64]int64 // bytes by org; the writer's
	fares    fares
	standing standing
	behind   backlogs
	outbox   outbox

	parkAfter atomic.Int64 // Options.ParkAfter, as it is now

	installation string // its id

	held     atomic.Int64 // ms; when the backup was made that nobody has released; 0: not held
	heldWhy  HoldReason   // set by Open
	ring     atomic.Pointer[seal.Keyring]
	keyFile  string     // "": the keys were given
	rotating sync.Mutex // held by the one rotation of the key that runs

	// What people ask for all the time, as of the last commit. Written by the
	// writer's goroutine after its commits; values are replaced, never changed.
	mu        sync.RWMutex
	orgs      map[string]*orgState
	orgRows   map[int64]*orgState
	endpoints map[int64]*deliver.Endpoint // not the removed ones
	removed   map[int64]int64             // endpoints that are removed, to the row of their org
	ids       map[string]int64            // ep_… to row
	catchups  map[int64]catchup           // of endpoints that are behind
	filters   contentfilter.Cache         // of subscriptions
	tokens    map[[sha256.Size]byte]*tokenState
	tokenIDs  map[string]*tokenState // the same, by tok_…
	tokensOf  map[int64]int          // how many of them an org has, by row; 0: operators

	eventTypes eventTypes
	onEndpoint atomic.Pointer[func(deliver.Endpoint)]
	onRevoked  atomic.Pointer[func(id string)]

	sweeping sync.Mutex     // held by the one sweep that runs
	tasks    sync.WaitGroup // sealing, sweeping after a start
	stop     context.CancelFunc
	stopped  context.Context // done when Close begins
	closed   sync.Once
	closeErr error
}

// Open opens the books in o.Dir, or makes them when there are none.
//
// A database of a newer version fails with [ErrNewer], and a file that is no
// database, is another program's, is empty or damaged with [ErrCorrupt]; neither
// is touched. One of an earlier version is copied and brought forward. Without the key of its secrets it fails with [ErrKey]. The caller
// makes sure that no other process has the directory open.
func Open(ctx context.Context, o Options) (*Store, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	if text, version, _ := sqlite3.Version(); version < minVersion {
		return nil, fmt.Errorf("SQLite %s: want %s or later, earlier ones can corrupt a write-ahead log", text, minVersionText)
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	path, err := filepath.Abs(filepath.Join(o.Dir, FileName))
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	s := &Store{o: o, path: path, log: o.Log}
	s.parkAfter.Store(o.ParkAfter)
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), s.closeConnections())
	}
	return s, nil
}

func (s *Store) open(ctx context.Context) error {
	ms, err := migrations(migrationFiles)
	if err != nil {
		return err
	}
	switch err := checkHeader(s.path); {
	case errors.Is(err, fs.ErrNotExist):
		if err := create(ctx, s.path, ms, s.o.Failpoint); err != nil {
			return err
		}
	case err != nil:
		return err
	}
	if err := checkContent(ctx, s.path, len(ms)); err != nil {
		return err
	}
	if err := bringForward(ctx, s.path, ms, &s.o); err != nil {
		return err
	}

	writeDB := openDB(s.path, "rw", 1, append([]string{
		fmt.Sprintf("PRAGMA busy_timeout = %d", s.o.busy.Milliseconds()),
		"PRAGMA journal_mode = WAL",
		"PRAGMA synchronous = " + s.o.Synchronous,
		"PRAGMA cache_size = -65536",
		fmt.Sprintf("PRAGMA max_page_count = %d", max(s.o.maxPages, 0)), // 0 asks, and sets nothing
	}, s.o.logPragmas()...))
	s.w = newWriter(s, writeDB)
	pinned, err := writeDB.Conn(ctx)
	if err != nil {
		return err
	}
	s.schema = len(ms)
	if err := s.w.pin(pinned); err != nil {
		return err
	}
	if err := s.openKeyring(); err != nil {
		return err
	}

	// Read-only, and with a small cache: the pages that matter are in the
	// operating system's.
	c := newConnector(s.path, "ro", []string{"PRAGMA query_only = 1", "PRAGMA cache_size = -2048"})
	c.wrap = s.o.wrap
	s.readDB = c.pool(readers)
	if err := s.load(); err != nil {
		return err
	}
	if err := s.comeHome(); err != nil {
		return fmt.Errorf("look whether these are the books that were here: %w", err)
	}
	s.stopped, s.stop = context.WithCancel(context.Background())
	s.w.start()
	s.tasks.Go(s.stayHome)
	if s.o.Replicated {
		s.tasks.Go(s.watchLog)
	}
	s.tasks.Go(s.seal)
	s.tasks.Go(s.storeFares)
	s.tasks.Go(func() { s.sweepAfterStart(s.stopped) })
	if len(s.ring.Load().Keys()) > 1 {
		s.rotating.Lock() // already here: no rotation can come before it
		s.tasks.Go(func() { s.resealAfterStart(s.stopped) })
	}
	return nil
}

// load rebuilds what is in memory only.
func (s *Store) load() error {
	s.orgs, s.orgRows = make(map[string]*orgState), make(map[int64]*orgState)
	s.endpoints, s.ids, s.removed = make(map[int64]*deliver.Endpoint), make(map[string]int64), make(map[int64]int64)
	if err := s.loadOrgs(); err != nil {
		return fmt.Errorf("load organizations: %w", err)
	}
	if err := s.loadGapAt(); err != nil {
		return fmt.Errorf("load gaps: %w", err)
	}
	if err := s.loadEndpoints(); err != nil {
		return fmt.Errorf("load endpoints: %w", err)
	}
	if err := s.loadOutbox(); err != nil {
		return fmt.Errorf("load operational events: %w", err)
	}
	if err := s.loadCatchups(); err != nil {
		return fmt.Errorf("load endpoints that are behind: %w", err)
	}
	if err := s.loadEventTypes(); err != nil {
		return fmt.Errorf("load event types: %w", err)
	}
	if err := s.loadHold(); err != nil {
		return fmt.Errorf("load hold: %w", err)
	}
	if err := s.loadInstallation(); err != nil {
		return fmt.Errorf("load installation: %w", err)
	}
	if err := s.loadTokens(); err != nil {
		return fmt.Errorf("load tokens: %w", err)
	}
	if err := s.loadAnswers(); err != nil {
		return fmt.Errorf("count answers: %w", err)
	}
	if err := s.loadCounts(); err != nil {
		return fmt.Errorf("count deliveries: %w", err)
	}
	if err := s.loadFares(); err != nil {
		return fmt.Errorf("load endpoint stats: %w", err)
	}
	if err := s.soonEnough(); err != nil {
		return err
	}
	var err error
	if s.keys, err = loadKeys(s.w.c, s.o.runSize); err != nil {
		return fmt.Errorf("load event keys: %w", err)
	}
	return s.w.load()
}

// Close writes what is queued, folds the log into the database and closes it.
// It returns an error when outcomes could not be written: their deliveries are
// still pending in the books, and will be sent again.
func (s *Store) Close() error {
	s.closed.Do(func() {
		s.stop()
		s.tasks.Wait()
		s.countHome(context.Background())
		s.closeErr = errors.Join(s.w.stop(), s.closeConnections())
	})
	return s.closeErr
}

// closeConnections closes what is open. The writer's comes last: closing the
// last connection of all folds the log into the database.
func (s *Store) closeConnections() error {
	var errs []error
	if s.readDB != nil {
		errs = append(errs, s.readDB.Close())
	}
	if s.w != nil {
		errs = append(errs, s.w.closeDB())
	}
	return errors.Join(errs...)
}

func (s *Store) now() time.Time { return s.o.Clock() }

// create makes a new database under another name and renames it when it is
// whole, so that a crash never leaves an empty one behind: an empty file where
// the books should be is always damage (REL-08).
func create(ctx context.Context, path string, ms []migration, failpoint func(string)) error {
	for _, suffix := range []string{"-wal", "-shm"} {
		if _, err := os.Lstat(path + suffix); err == nil {
			return fmt.Errorf("%w: %s is there and its database is not", ErrCorrupt, filepath.Base(path)+suffix)
		}
	}
	draft := path + ".new"
	for _, suffix := range []string{"", "-journal", "-wal", "-shm"} {
		if err := os.Remove(draft + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := makeDraft(ctx, draft, ms, failpoint); err != nil {
		return err
	}
	if err := os.Rename(draft, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func makeDraft(ctx context.Context, path string, ms []migration, failpoint func(string)) (err error) {
	// SQLite gives the log the mode of the database, so this sets all of them.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	db := openDB(path, "rw", 1, []string{"PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL"})
	defer func() { err = errors.Join(err, db.Close()) }()
	c, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	return migrate(ctx, c, ms, failpoint)
}

func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // has no such thing
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// checkHeader looks at the first bytes of the file without SQLite, which would
// create or change what it does not know.
func checkHeader(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var header [100]byte // see "The Database Header" in SQLite's file format
	switch _, err := io.ReadFull(f, header[:]); {
	case err == io.EOF:
		return fmt.Errorf("%w: the file is empty", ErrCorrupt)
	case err == io.ErrUnexpectedEOF:
		return fmt.Errorf("%w: the file is too short", ErrCorrupt)
	case err != nil:
		return err
	}
	if !bytes.HasPrefix(header[:], []byte("SQLite format 3\x00")) {
		return fmt.Errorf("%w: not a SQLite database", ErrCorrupt)
	}
	if id := binary.BigEndian.Uint32(header[68:]); id != applicationID {
		return fmt.Errorf("%w: a SQLite database of another program (application id %#x)", ErrCorrupt, id)
	}
	return nil
}

// checkContent looks at version and health through a connection that cannot
// write.
func checkContent(ctx context.Context, path string, known int) (err error) {
	db := openDB(path, "ro", 1, nil)
	defer func() { err = errors.Join(public(err), db.Close()) }()
	var version int
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if version > known {
		return fmt.Errorf("%w: schema %d, this program knows %d", ErrNewer, version, known)
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() >= checkBelow {
		return err
	}
	var health string
	if err := db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&health); err != nil {
		return err
	}
	if health != "ok" {
		return fmt.Errorf("%w: %s", ErrCorrupt, health)
	}
	return nil
}

// connector opens connections to one file and sets each up.
type connector struct {
	dsn     string
	pragmas []string
	wrap    func(driver.Conn) driver.Conn // nil: none
}

// newConnector opens the file rw or ro; neither makes one that is not there. Nothing is
// mapped into memory, since an I/O error in a mapping would be a signal and
// not an error. The name has no host, else the first directory of a relative path would be one.
func newConnector(path, mode string, pragmas []string) *connector {
	name := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: fmt.Sprintf("mode=%s&_busy_timeout=%d&_stmt_cache_size=64", mode, defaultBusy.Milliseconds())}
	return &connector{dsn: name.String(), pragmas: append([]string{"PRAGMA mmap_size = 0"}, pragmas...)}
}

func (c *connector) Driver() driver.Driver { return &sqlite3.SQLiteDriver{} }

func (c *connector) Connect(context.Context) (driver.Conn, error) {
	opened, err := c.Driver().Open(c.dsn)
	if err != nil {
		return nil, err
	}
	for _, p := range c.pragmas {
		if _, err := opened.(*sqlite3.SQLiteConn).Exec(p, nil); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", p, err), opened.Close())
		}
	}
	if c.wrap != nil {
		return c.wrap(opened), nil
	}
	return opened, nil
}

// pool is up to n connections that stay open.
func (c *connector) pool(n int) *sql.DB {
	db := sql.OpenDB(c)
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(n)
	return db
}

func openDB(path, mode string, n int, pragmas []string) *sql.DB {
	return newConnector(path, mode, pragmas).pool(n)
}

var (
	_ fanout.Books       = (*Store)(nil)
	_ fanout.SourceBooks = (*Store)(nil)
	_ deliver.Books      = (*Store)(nil)
)
