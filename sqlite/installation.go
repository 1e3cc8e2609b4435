package sqlite

import (
	"crypto/rand"
	"crypto/sha256"

	"github.com/oklog/ulid/v2"
)

// Installation is the id of these books: made with them, and kept by their
// backups. The streams that are read for them carry it (see
// stream.Options.Installation), so that no other books read these streams
// from the beginning.
func (s *Store) Installation() string { return s.installation }

// loadInstallation reads the id, or makes it.
func (s *Store) loadInstallation() error {
	err := s.w.c.query(func(r row) error {
		s.installation = r.text(0)
		return nil
	}, "SELECT id FROM installation")
	if err != nil || s.installation != "" {
		return err
	}
	id, err := s.newInstallation()
	if err != nil {
		return err
	}
	if _, err := s.w.c.exec("INSERT INTO installation(one, id) VALUES(1, ?)", id.String()); err != nil {
		return err
	}
	s.installation = id.String()
	return nil
}

// newInstallation is a new id, but for books that have organizations: those were
// written by a release that knew no ids, and their backups have none either. Each
// copy of them has to come to the same id, or a backup from before the upgrade would
// find its streams marked as another's. They have in common the probe of their
// key, whose nonce is random, until the key is rotated.
func (s *Store) newInstallation() (ulid.ULID, error) {
	if len(s.orgs) == 0 {
		return ulid.New(ulid.Timestamp(s.now()), rand.Reader)
	}
	r := make(row, 1)
	if _, err := s.w.c.one(r, "SELECT sealed FROM probe"); err != nil { // it is there: openKeyring comes first
		return ulid.ULID{}, err
	}
	sum := sha256.Sum256(r.blob(0))
	return ulid.ULID(sum[:16]), nil
}
