package sqlite

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/sign"
)

const secretColumns = "k.id, k.org, k.endpoint, k.created_at, k.expires_at, k.sealed"

// scanSecret reads secretColumns.
func (s *Store) scanSecret(r row) (deliver.Secret, error) {
	text, err := s.reveal(secretAAD(r.int(1), r.int(2), r.int(0)), r.blob(5))
	if err != nil {
		return deliver.Secret{}, fmt.Errorf("secret %d: %w", r.int(0), err)
	}
	secret, err := sign.AnySecret(string(text))
	if err != nil {
		return deliver.Secret{}, fmt.Errorf("secret %d: %w", r.int(0), err)
	}
	return deliver.Secret{Secret: secret, Row: r.int(0), CreatedAt: fromMillis(r.int(3)), ExpiresAt: fromMillis(r.int(4))}, nil
}

// loadSecrets reads the secrets of all endpoints, by row, newest first.
func (s *Store) loadSecrets() (map[int64][]deliver.Secret, error) {
	of := make(map[int64][]deliver.Secret)
	err := s.w.c.query(func(r row) error {
		secret, err := s.scanSecret(r)
		of[r.int(2)] = append(of[r.int(2)], secret)
		return err
	}, "SELECT "+secretColumns+" FROM secrets k ORDER BY k.id DESC")
	return of, err
}

// secrets reads the secrets of one endpoint, newest first, those that have ended
// and are not deleted yet included.
func (t *txn) secrets(endpoint int64) (list []deliver.Secret, err error) {
	err = t.c.query(func(r row) error {
		secret, err := t.s.scanSecret(r)
		list = append(list, secret)
		return err
	}, "SELECT "+secretColumns+" FROM secrets k WHERE k.endpoint=? ORDER BY k.id DESC", endpoint)
	return list, err
}

// addSecrets stores those of e's secrets that have no row yet. They must come
// before the ones that have: rows ascend with time.
func (t *txn) addSecrets(o *orgState, e *deliver.Endpoint) error {
	r := make(row, 1)
	if _, err := t.c.one(r, "SELECT ifnull(max(id), 0) FROM secrets"); err != nil {
		return err
	}
	id := r.int(0)
	for i := len(e.Secrets) - 1; i >= 0; i-- { // the oldest first
		k := &e.Secrets[i]
		if k.Row != 0 {
			continue
		}
		id++
		sealed, err := t.s.hide(secretAAD(o.row, e.Row, id), []byte(k.Reveal()))
		if err != nil {
			return err
		}
		if _, err := t.c.exec("INSERT INTO secrets(id, org, endpoint, created_at, expires_at, sealed) VALUES(?,?,?,?,?,?)",
			id, o.row, e.Row, toMillis(k.CreatedAt), toMillis(k.ExpiresAt), sealed); err != nil {
			return err
		}
		k.Row = id
	}
	return nil
}

// keepSecrets makes the stored secrets of e those that it has: others are
// deleted, ends are written, new ones are added.
func (t *txn) keepSecrets(o *orgState, e *deliver.Endpoint, before []deliver.Secret) error {
	for _, old := range before {
		i := slices.IndexFunc(e.Secrets, func(k deliver.Secret) bool { return k.Row == old.Row })
		query, args := "DELETE FROM secrets WHERE id=?", []driver.Value{old.Row}
		switch {
		case i >= 0 && e.Secrets[i].ExpiresAt.Equal(old.ExpiresAt):
			continue
		case i >= 0:
			query, args = "UPDATE secrets SET expires_at=? WHERE id=?", []driver.Value{toMillis(e.Secrets[i].ExpiresAt), old.Row}
		}
		if _, err := t.c.exec(query, args...); err != nil {
			return err
		}
	}
	return t.addSecrets(o, e)
}

// RotateSecret gives the endpoint a new secret. Those before it go on to sign
// for the overlap; see [deliver.RotateSecrets] for its bounds. It wraps
// [ErrNotFound], and [ErrState] when too many secrets would sign.
func (s *Store) RotateSecret(ctx context.Context, org, id string, secret sign.Secret, overlap time.Duration) (deliver.Endpoint, error) {
	return s.edit(ctx, org, id, func(t *txn, o *orgState, e *deliver.Endpoint) (bool, error) {
		return true, t.rotate(o, e, secret, overlap)
	})
}

func (t *txn) rotate(o *orgState, e *deliver.Endpoint, secret sign.Secret, overlap time.Duration) error {
	before := e.Secrets
	next, err := deliver.RotateSecrets(before, secret, t.now.Truncate(time.Millisecond).UTC(), overlap)
	if errors.As(err, new(*deliver.SecretsError)) {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	if err != nil {
		return err
	}
	e.Secrets = next
	if err := t.keepSecrets(o, e, before); err != nil {
		return err
	}
	if err := t.announceRotated(o, e); err != nil {
		return err
	}
	return t.audited(o, "secret.rotate", e.ID, Changes{"secret": {}, "overlap": {nil, overlap.String()}})
}

// dropSecrets deletes up to n secrets that have ended. That changes nothing that
// anybody can see: they did not sign any more.
func (t *txn) dropSecrets(n int) (removed int64, err error) {
	touched := map[int64]bool{}
	if err := t.c.query(func(r row) error {
		touched[r.int(0)] = true
		return nil
	}, "SELECT endpoint FROM secrets INDEXED BY secrets_ending WHERE expires_at > 0 AND expires_at <= ? ORDER BY expires_at LIMIT ?", toMillis(t.now), int64(n)); err != nil {
		return 0, err
	}
	now := t.now
	for endpoint := range touched {
		rows, err := t.c.exec("DELETE FROM secrets WHERE endpoint=? AND expires_at > 0 AND expires_at <= ?", endpoint, toMillis(now))
		if err != nil {
			return removed, err
		}
		removed += rows
		t.after = append(t.after, func() {
			t.s.mu.Lock()
			defer t.s.mu.Unlock()
			if e := t.s.endpoints[endpoint]; e != nil {
				left := *e
				left.Secrets = slices.DeleteFunc(slices.Clone(e.Secrets), func(k deliver.Secret) bool { return !k.Live(now) })
				t.s.endpoints[endpoint] = &left
			}
		})
	}
	return removed, nil
}

// writeHeaders stores e's headers.
func (t *txn) writeHeaders(o *orgState, e *deliver.Endpoint) error {
	if len(e.Headers) == 0 {
		_, err := t.c.exec("UPDATE endpoints SET headers=NULL WHERE id=? AND headers IS NOT NULL", e.Row)
		return err
	}
	pairs := make([][2]string, len(e.Headers))
	for i, h := range e.Headers {
		pairs[i] = [2]string{h.Name, h.Value.Reveal()}
	}
	text, err := json.Marshal(pairs)
	if err != nil {
		return err
	}
	sealed, err := t.s.hide(headersAAD(o.row, e.Row), text)
	if err != nil {
		return err
	}
	_, err = t.c.exec("UPDATE endpoints SET headers=? WHERE id=?", sealed, e.Row)
	return err
}

func (s *Store) openHeaders(org, endpoint int64, sealed []byte) ([]deliver.Header, error) {
	if sealed == nil {
		return nil, nil
	}
	text, err := s.reveal(headersAAD(org, endpoint), sealed)
	if err != nil {
		return nil, fmt.Errorf("headers: %w", err)
	}
	var pairs [][2]string
	if err := json.Unmarshal(text, &pairs); err != nil {
		return nil, errors.New("headers cannot be read") // err could quote one
	}
	headers := make([]deliver.Header, len(pairs))
	for i, p := range pairs {
		headers[i] = deliver.Header{Name: p[0], Value: deliver.NewHeaderValue(p[1])}
	}
	return headers, nil
}
