package sqlite

import (
	"context"
	"database/sql/driver"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/grapnel-hooks/grapnel/sqlite/seal"
)

// KeyFileName is the key file in the data directory, unless Options say
// otherwise.
const KeyFileName = "secrets.key"

// hide seals plain for the place that aad names. It is called by operations
// only, in the writer: so whatever the former key sealed is in the database
// before the first step of a rotation looks.
func (s *Store) hide(aad string, plain []byte) ([]byte, error) {
	return s.ring.Load().Seal([]byte(aad), plain), nil
}

// reveal opens what hide sealed for the same place. It wraps [ErrKey] or
// [ErrCorrupt].
func (s *Store) reveal(aad string, sealed []byte) ([]byte, error) {
	plain, err := s.ring.Load().Open([]byte(aad), sealed)
	switch {
	case errors.Is(err, seal.ErrNoKey):
		return nil, fmt.Errorf("%w: %w: put it back, after the key that seals", ErrKey, err)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return plain, nil
}

// sealedTable is a column with sealed texts.
type sealedTable struct {
	name  string
	keys  int    // how many columns tell its rows apart
	next  string // up to ? rows after those keys whose text does not begin with ?: the keys, what the AAD needs, the text
	aad   func(row) string
	write string // the text, then the keys
	count string // of rows, by how their texts begin
}

// sealedTables are all of them. A new one must be here, or its rows are lost
// with the next rotation of the key.
var sealedTables = []sealedTable{
	{
		name: "probe", keys: 1,
		next:  "SELECT id, 0, 0, sealed FROM probe WHERE id > ? AND substr(sealed, 1, 9) <> ? LIMIT ?",
		aad:   func(row) string { return probeAAD },
		write: "UPDATE probe SET sealed=? WHERE id=?",
		count: "SELECT substr(sealed, 1, 9), count(*) FROM probe GROUP BY 1",
	},
	{
		name: "secrets", keys: 1,
		next:  "SELECT id, org, endpoint, sealed FROM secrets WHERE id > ? AND substr(sealed, 1, 9) <> ? ORDER BY id LIMIT ?",
		aad:   func(r row) string { return secretAAD(r.int(1), r.int(2), r.int(0)) },
		write: "UPDATE secrets SET sealed=? WHERE id=?",
		count: "SELECT substr(sealed, 1, 9), count(*) FROM secrets GROUP BY 1",
	},
	{
		name: "endpoints", keys: 1,
		next:  "SELECT id, org, 0, headers FROM endpoints WHERE id > ? AND headers IS NOT NULL AND substr(headers, 1, 9) <> ? ORDER BY id LIMIT ?",
		aad:   func(r row) string { return headersAAD(r.int(1), r.int(0)) },
		write: "UPDATE endpoints SET headers=? WHERE id=?",
		count: "SELECT substr(headers, 1, 9), count(*) FROM endpoints WHERE headers IS NOT NULL GROUP BY 1",
	},
	{
		name: "credentials of endpoints", keys: 1,
		next:  "SELECT id, org, 0, credentials FROM endpoints WHERE id > ? AND credentials IS NOT NULL AND substr(credentials, 1, 9) <> ? ORDER BY id LIMIT ?",
		aad:   func(r row) string { return credentialsAAD(r.int(1), r.int(0)) },
		write: "UPDATE endpoints SET credentials=? WHERE id=?",
		count: "SELECT substr(credentials, 1, 9), count(*) FROM endpoints WHERE credentials IS NOT NULL GROUP BY 1",
	},
	{
		name: "answers", keys: 2,
		next:  "SELECT org, key, 0, body FROM answers WHERE (org, key) > (?, ?) AND body IS NOT NULL AND substr(body, 1, 9) <> ? ORDER BY org, key LIMIT ?",
		aad:   func(r row) string { return answerAAD(r.int(0), r.text(1)) },
		write: "UPDATE answers SET body=? WHERE org=? AND key=?",
		count: "SELECT substr(body, 1, 9), count(*) FROM answers WHERE body IS NOT NULL GROUP BY 1",
	},
}

// The AADs name kind and place, so that no sealed text can be moved (SEC-12).
const probeAAD = "probe"

func secretAAD(org, endpoint, id int64) string {
	return fmt.Sprintf("secret|%d|%d|%d", org, endpoint, id)
}
func headersAAD(org, endpoint int64) string { return fmt.Sprintf("headers|%d|%d", org, endpoint) }

// resealStep is how many rows one transaction of a rotation changes.
const resealStep = 200

// openKeyring finds the keys and proves with the probe that they are this
// database's. A new database gets the first key of those given, or a new key
// file: the file is on disk before anything is sealed with it.
func (s *Store) openKeyring() error {
	r := make(row, 1)
	old, err := s.w.c.one(r, "SELECT sealed FROM probe")
	if err != nil {
		return err
	}
	keys, where := s.o.Keys, "what was given"
	if len(keys) == 0 {
		if s.keyFile = s.o.KeyFile; s.keyFile == "" {
			s.keyFile = filepath.Join(filepath.Dir(s.path), KeyFileName)
		}
		where = s.keyFile
		keys, err = seal.ReadFile(s.keyFile)
		switch {
		case errors.Is(err, fs.ErrNotExist) && !old:
			keys = []seal.Key{seal.NewKey(s.now())}
			if err := seal.WriteFile(s.keyFile, keys); err != nil {
				return fmt.Errorf("%w: make the key file: %w", ErrKey, err)
			}
			// Crash here: the next start finds the file, and a database that
			// has nothing sealed.
		case errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("%w: %s is not there: put the key file of this database back, or name it; without it its secrets are lost", ErrKey, s.keyFile)
		case err != nil:
			return fmt.Errorf("%w: %w", ErrKey, err)
		}
	}
	ring, err := seal.NewKeyring(keys...)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKey, err)
	}
	s.ring.Store(ring)
	if !old {
		_, err := s.w.c.exec("INSERT INTO probe(id, sealed) VALUES(1, ?)", ring.Seal([]byte(probeAAD), nil))
		return err
	}
	if _, err := ring.Open([]byte(probeAAD), r.blob(0)); err != nil {
		return fmt.Errorf("%w: %s holds another database's: %w; put the key of this database back, it may stand after others", ErrKey, where, err)
	}
	return nil
}

// SealKey is a key with which secrets are sealed at rest.
type SealKey struct {
	ID        string
	CreatedAt time.Time // zero: not known
	Rows      int64     // sealed with it
	Seals     bool      // what is sealed from now on is sealed with it
}

// Keys lists the keys, the one that seals first. One whose Rows are 0 and that
// does not seal is needed for older backups only.
func (s *Store) Keys(ctx context.Context) ([]SealKey, error) {
	rows := map[string]int64{}
	for _, table := range sealedTables {
		if err := s.countSealed(ctx, table, rows); err != nil {
			return nil, fmt.Errorf("count what is sealed in %s: %w", table.name, err)
		}
	}
	var list []SealKey
	for i, k := range s.ring.Load().Keys() {
		list = append(list, SealKey{ID: k.ID(), CreatedAt: k.CreatedAt(), Rows: rows[k.ID()], Seals: i == 0})
	}
	return list, nil
}

func (s *Store) countSealed(ctx context.Context, table sealedTable, dst map[string]int64) error {
	rows, err := s.readDB.QueryContext(ctx, table.count)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var head []byte
		var n int64
		if err := rows.Scan(&head, &n); err != nil {
			return err
		}
		dst[hex.EncodeToString(head[min(1, len(head)):])] += n
	}
	return rows.Err()
}

// RotateKey replaces the key that seals by a new one, seals every row again
// with it, in small steps beside the traffic, and takes the old key out of the
// key file. Once it has begun it does not end with ctx. What it could not finish, because
// the store was closed or the disk is full, the next start does.
//
// It wraps [ErrState] when the keys were given and are in no file of ours: then
// put the new key before the old one and start again; and when a rotation is
// under way.
//
// Backups made before need the old key: keep a copy of the key file with them.
func (s *Store) RotateKey(ctx context.Context) (SealKey, error) {
	if s.keyFile == "" {
		return SealKey{}, fmt.Errorf("rotate the key: it was given and is in no file; put a new key before it, and start again: %w", ErrState)
	}
	if !s.rotating.TryLock() {
		return SealKey{}, fmt.Errorf("rotate the key: a rotation is under way: %w", ErrState)
	}
	defer s.rotating.Unlock()
	fresh := seal.NewKey(s.now())
	keys := append([]seal.Key{fresh}, s.ring.Load().Keys()...)
	ring, err := seal.NewKeyring(keys...)
	if err != nil {
		return SealKey{}, fmt.Errorf("rotate the key: %w: %w", err, ErrState)
	}
	if err := seal.WriteFile(s.keyFile, keys); err != nil {
		return SealKey{}, fmt.Errorf("rotate the key: %w", err)
	}
	// Crash here, or anywhere until the end: the next start has all keys, seals
	// with the new one, and goes on with reseal.
	s.o.Failpoint("keyring.written")
	s.ring.Store(ring)
	ctx = context.WithoutCancel(ctx)
	err = s.w.do(ctx, func(t *txn) error {
		return t.audited(nil, "key.rotate", fresh.ID(), Changes{"key": {keys[1].ID(), fresh.ID()}})
	})
	if err == nil {
		err = s.reseal(ctx)
	}
	if err != nil {
		return SealKey{}, fmt.Errorf("the key is rotated, and not everything is sealed with it yet; the next start goes on: %w", err)
	}
	now, err := s.Keys(ctx)
	if err != nil {
		return SealKey{}, err
	}
	return now[0], nil
}

// resealAfterStart finishes a rotation that was interrupted, or that began with
// another order of keys. s.rotating is held, and let go at the end.
func (s *Store) resealAfterStart(ctx context.Context) {
	defer s.rotating.Unlock()
	if err := s.reseal(ctx); err != nil && ctx.Err() == nil {
		s.log.Error("sealing the secrets with the new key failed; the next start tries again", "error", err)
	}
}

// reseal seals with the first key what others have sealed, and then takes out
// of the key file the keys that nothing needs any more. s.rotating is held.
func (s *Store) reseal(ctx context.Context) error {
	for _, table := range sealedTables {
		after := make([]driver.Value, table.keys)
		for i := range after {
			after[i] = int64(0)
		}
		if table.keys == 2 {
			after[0], after[1] = int64(-1), ""
		}
		for more := true; more; {
			if s.stopped.Err() != nil {
				return ErrClosed
			}
			err := s.w.do(ctx, func(t *txn) (err error) {
				s.o.Failpoint("reseal.step")
				after, more, err = t.resealSome(table, after)
				return err
			})
			if err != nil {
				return fmt.Errorf("seal %s: %w", table.name, err)
			}
		}
	}
	return s.dropKeys(ctx)
}

// resealSome seals the next rows of a table again. It returns the last of them.
func (t *txn) resealSome(table sealedTable, after []driver.Value) (last []driver.Value, more bool, err error) {
	ring := t.s.ring.Load()
	type sealed struct {
		keys []driver.Value
		text []byte
	}
	var found []sealed
	each := func(r row) error {
		text := r.blob(len(r) - 1)
		aad := []byte(table.aad(r))
		plain, err := ring.Open(aad, text)
		if err != nil {
			return fmt.Errorf("row %v: %w", r[:table.keys], err)
		}
		found = append(found, sealed{append([]driver.Value(nil), r[:table.keys]...), ring.Seal(aad, plain)})
		return nil
	}
	if err := t.c.query(each, table.next, append(append([]driver.Value(nil), after...), ring.Sealing().Head(), int64(resealStep))...); err != nil {
		return after, false, err
	}
	last = after
	for _, f := range found {
		if _, err := t.c.exec(table.write, append([]driver.Value{f.text}, f.keys...)...); err != nil {
			return after, false, err
		}
		last = f.keys
	}
	return last, len(found) == resealStep, nil
}

// dropKeys takes the keys that no row needs out of the key file.
func (s *Store) dropKeys(ctx context.Context) error {
	if s.keyFile == "" {
		return nil
	}
	uses, err := s.Keys(ctx)
	if err != nil {
		return err
	}
	var keep []seal.Key
	for i, k := range s.ring.Load().Keys() {
		if i == 0 || uses[i].Rows > 0 {
			keep = append(keep, k)
		}
	}
	if len(keep) == len(uses) {
		return nil
	}
	if err := seal.WriteFile(s.keyFile, keep); err != nil {
		return err
	}
	s.o.Failpoint("keyring.dropped")
	ring, err := seal.NewKeyring(keep...)
	if err != nil {
		return err
	}
	s.ring.Store(ring)
	for _, k := range uses[1:] {
		s.log.Info("nothing is sealed with this key any more; only older backups need it", "key", k.ID, "sealing", uses[0].ID)
	}
	return nil
}
