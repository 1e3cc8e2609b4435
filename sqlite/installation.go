package sqlite

import (
	"crypto/rand"

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
	id, err := ulid.New(ulid.Timestamp(s.now()), rand.Reader)
	if err != nil {
		return err
	}
	if _, err := s.w.c.exec("INSERT INTO installation(one, id) VALUES(1, ?)", id.String()); err != nil {
		return err
	}
	s.installation = id.String()
	return nil
}
