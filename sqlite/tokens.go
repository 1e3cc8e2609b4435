package sqlite

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"
)

// Token is who may call the API, and for what. Its text is not here: only its
// SHA-256 is stored.
type Token struct {
	ID        string // tok_…
	Org       string // "": an operator's, of all organizations
	Name      string // for people
	Scopes    []string
	CreatedAt time.Time
	ExpiresAt time.Time
	UsedAt    time.Time // the last use, to about a minute; zero: never
	RevokedAt time.Time // zero: it was not
}

// tokenState is a token as memory has it: all that are neither revoked nor
// long expired.
type tokenState struct {
	row   int64
	org   int64 // 0: an operator's
	token Token // replaced as a whole; UsedAt is in used
	hash  [sha256.Size]byte
	used  atomic.Int64 // ms
	wrote atomic.Int64 // ms; what the database has of used
}

// MaxTokens is how many tokens an organization can have, and operators together,
// without those that were revoked or have expired. Each takes memory.
const MaxTokens = 1000

// usedEvery is how exact Token.UsedAt is.
const usedEvery = time.Minute

const tokenColumns = "k.id, k.ulid, ifnull(k.org, 0), k.hash, k.name, k.scopes, k.created_at, k.expires_at, k.used_at, k.revoked_at"

func (s *Store) scanToken(r row) (*tokenState, error) {
	k := &tokenState{row: r.int(0), org: r.int(2), token: Token{
		ID: r.text(1), Name: r.text(4), CreatedAt: fromMillis(r.int(6)), ExpiresAt: fromMillis(r.int(7)),
		UsedAt: fromMillis(r.int(8)), RevokedAt: fromMillis(r.int(9)),
	}}
	copy(k.hash[:], r.blob(3))
	k.used.Store(r.int(8))
	k.wrote.Store(r.int(8))
	if err := json.Unmarshal([]byte(r.text(5)), &k.token.Scopes); err != nil {
		return nil, fmt.Errorf("scopes of token %s: %w", k.token.ID, err)
	}
	if k.org != 0 {
		o := s.orgRows[k.org]
		if o == nil {
			return nil, nil // of an organization that was removed
		}
		k.token.Org = o.org.ID
	}
	return k, nil
}

func (s *Store) loadTokens() error {
	s.tokens, s.tokenIDs, s.tokensOf = make(map[[sha256.Size]byte]*tokenState), make(map[string]*tokenState), make(map[int64]int)
	return s.w.c.query(func(r row) error {
		k, err := s.scanToken(r)
		if err == nil && k != nil {
			s.keepToken(k)
		}
		return err
	}, "SELECT "+tokenColumns+" FROM tokens k WHERE k.revoked_at = 0 AND k.expires_at > ? ORDER BY k.id", toMillis(s.now()))
}

func (s *Store) keepToken(k *tokenState) {
	s.tokens[k.hash], s.tokenIDs[k.token.ID] = k, k
	s.tokensOf[k.org]++
}

func (s *Store) dropToken(k *tokenState) {
	delete(s.tokens, k.hash)
	delete(s.tokenIDs, k.token.ID)
	if s.tokensOf[k.org]--; s.tokensOf[k.org] == 0 {
		delete(s.tokensOf, k.org)
	}
}

// dropExpired forgets tokens that have expired, when what is known of their use
// is written.
func (s *Store) dropExpired() {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.tokens {
		if !now.Before(k.token.ExpiresAt) && k.used.Load() == k.wrote.Load() {
			s.dropToken(k)
		}
	}
}

// AddToken makes a token whose text has that SHA-256, of t's Org, Name, Scopes and
// ExpiresAt; the rest is given by the store. Once it returns, [Store.Authenticate]
// knows it. It wraps [ErrState] when there are [MaxTokens].
func (s *Store) AddToken(ctx context.Context, k Token, hash [sha256.Size]byte) (Token, error) {
	var o *orgState
	if k.Org != "" {
		var err error
		if o, err = s.find(k.Org); err != nil {
			return Token{}, err
		}
	}
	err := s.w.do(ctx, func(t *txn) error {
		k.CreatedAt, k.UsedAt, k.RevokedAt = t.now.Truncate(time.Millisecond).UTC(), time.Time{}, time.Time{}
		k.ExpiresAt = k.ExpiresAt.Truncate(time.Millisecond).UTC()
		k.Scopes = slices.Clone(k.Scopes)
		id, err := ulid.New(ulid.Timestamp(k.CreatedAt), rand.Reader)
		if err != nil {
			return fmt.Errorf("make token id: %w", err)
		}
		k.ID = "tok_" + id.String()
		var org any
		state := &tokenState{hash: hash, token: k}
		if o != nil {
			if _, err := t.place(o); err != nil { // removed a moment ago
				return err
			}
			org, state.org = o.row, o.row
		}
		s.mu.RLock()
		n := s.tokensOf[state.org]
		s.mu.RUnlock()
		if n >= s.o.tokens {
			return fmt.Errorf("there are %d already, the most that there may be; revoke those that nobody needs: %w", n, ErrState)
		}
		if _, err := t.c.exec("INSERT INTO tokens(ulid, org, hash, name, scopes, created_at, expires_at) VALUES(?,?,?,?,?,?,?)",
			k.ID, org, hash[:], k.Name, jsonList(k.Scopes), toMillis(k.CreatedAt), toMillis(k.ExpiresAt)); err != nil {
			return err
		}
		r := make(row, 1)
		if _, err := t.c.one(r, "SELECT last_insert_rowid()"); err != nil {
			return err
		}
		state.row = r.int(0)
		if err := t.audited(o, "token.add", k.ID, Changes{"name": {nil, k.Name}, "scopes": {nil, k.Scopes}, "expires_at": {nil, k.ExpiresAt}}); err != nil {
			return err
		}
		t.made = k
		t.after = append(t.after, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.keepToken(state)
		})
		return nil
	})
	if err != nil {
		return Token{}, fmt.Errorf("add token to %q: %w", k.Org, err)
	}
	return k, nil
}

// Authenticate finds the token whose text has that SHA-256, and notes that it
// was used. ok is false when there is none; a token that is expired or revoked
// is none. It costs a lookup in memory: a revocation acts as soon as it is durable.
func (s *Store) Authenticate(hash [sha256.Size]byte) (t Token, ok bool) {
	now := s.now()
	s.mu.RLock()
	k := s.tokens[hash]
	s.mu.RUnlock()
	if k == nil || !now.Before(k.token.ExpiresAt) {
		return Token{}, false
	}
	if ms := toMillis(now); ms-k.used.Load() >= usedEvery.Milliseconds() {
		k.used.Store(ms)
	}
	return k.shown(), true
}

func (k *tokenState) shown() Token {
	t := k.token
	t.UsedAt = fromMillis(k.used.Load())
	return t
}

// ListTokens lists up to limit tokens whose id comes after the given one: those
// of the organization, or with org "" those of operators. Revoked ones are
// listed until they go with the audit's age.
func (s *Store) ListTokens(_ context.Context, org, after string, limit int) ([]Token, error) {
	query, args := "k.org IS NULL", []any{after, min(max(limit, 1), MaxPage)}
	if org != "" {
		o, err := s.find(org)
		if err != nil {
			return nil, err
		}
		query, args = "k.org = ?3", append(args, o.row)
	}
	rows, err := s.readDB.QueryContext(background, "SELECT k.ulid, k.name, k.scopes, k.created_at, k.expires_at, k.used_at, k.revoked_at FROM tokens k WHERE "+
		query+" AND k.ulid > ?1 ORDER BY k.ulid LIMIT ?2", args...)
	if err != nil {
		return nil, fmt.Errorf("list tokens of %q: %w", org, err)
	}
	defer rows.Close()
	var list []Token
	for rows.Next() {
		t := Token{Org: org}
		var scopes string
		var created, expires, used, revoked int64
		if err := rows.Scan(&t.ID, &t.Name, &scopes, &created, &expires, &used, &revoked); err != nil {
			return nil, err
		}
		if err := json.Unmarshal([]byte(scopes), &t.Scopes); err != nil {
			return nil, fmt.Errorf("scopes of token %s: %w", t.ID, err)
		}
		t.CreatedAt, t.ExpiresAt, t.UsedAt, t.RevokedAt = fromMillis(created), fromMillis(expires), fromMillis(used), fromMillis(revoked)
		s.mu.RLock()
		if k := s.tokenIDs[t.ID]; k != nil {
			t.UsedAt = k.shown().UsedAt // what is not written yet
		}
		s.mu.RUnlock()
		list = append(list, t)
	}
	return list, rows.Err()
}

// RevokeToken ends a token of the organization, or with org "" of an operator,
// at once. It wraps [ErrNotFound]; revoking it again changes nothing.
func (s *Store) RevokeToken(ctx context.Context, org, id string) error {
	var o *orgState
	where, args := "org IS NULL", int64(0)
	if org != "" {
		var err error
		if o, err = s.find(org); err != nil {
			return err
		}
		where, args = "org = ?", o.row
	}
	err := s.w.do(ctx, func(t *txn) error {
		r := make(row, 2)
		find := "SELECT id, revoked_at FROM tokens WHERE ulid = ? AND " + where
		var found bool
		var err error
		if o == nil {
			found, err = t.c.one(r, find, id)
		} else {
			found, err = t.c.one(r, find, id, args)
		}
		switch {
		case err != nil:
			return err
		case !found:
			return ErrNotFound
		case r.int(1) != 0:
			return nil
		}
		if _, err := t.c.exec("UPDATE tokens SET revoked_at = ? WHERE id = ?", toMillis(t.now), r.int(0)); err != nil {
			return err
		}
		t.after = append(t.after, func() {
			s.mu.Lock()
			k := s.tokenIDs[id]
			if k != nil {
				s.dropToken(k)
			}
			s.mu.Unlock()
			if f := s.onRevoked.Load(); f != nil {
				(*f)(id)
			}
		})
		return t.audited(o, "token.revoke", id, nil)
	})
	if err != nil {
		return fmt.Errorf("revoke token %s: %w", id, err)
	}
	return nil
}

// OnTokenRevoked sets the function that is told the id of each token that was
// revoked, once that is durable. The writer calls it: it must be quick and must not
// call the store.
func (s *Store) OnTokenRevoked(f func(id string)) { s.onRevoked.Store(&f) }

// FlushTokens writes when tokens were last used, those that changed, and forgets
// those that have expired. Call it about once a minute.
func (s *Store) FlushTokens(ctx context.Context) error {
	var late []*tokenState
	s.mu.RLock()
	for _, k := range s.tokens {
		if k.used.Load() != k.wrote.Load() {
			late = append(late, k)
		}
	}
	s.mu.RUnlock()
	for chunk := range slices.Chunk(late, 1000) {
		err := s.w.do(ctx, func(t *txn) error {
			for _, k := range chunk {
				used := k.used.Load()
				if _, err := t.c.exec("UPDATE tokens SET used_at = ? WHERE id = ?", used, k.row); err != nil {
					return err
				}
				t.after = append(t.after, func() { k.wrote.Store(used) })
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("write the use of tokens: %w", err)
		}
	}
	s.dropExpired()
	return nil
}

// endTokens revokes all tokens of an org that is removed.
func (t *txn) endTokens(o *orgState) error {
	if _, err := t.c.exec("UPDATE tokens SET revoked_at = ? WHERE org = ? AND revoked_at = 0", toMillis(t.now), o.row); err != nil {
		return err
	}
	t.after = append(t.after, func() {
		var ended []string
		t.s.mu.Lock()
		for id, k := range t.s.tokenIDs {
			if k.org == o.row {
				t.s.dropToken(k)
				ended = append(ended, id)
			}
		}
		t.s.mu.Unlock()
		if f := t.s.onRevoked.Load(); f != nil {
			for _, id := range ended {
				(*f)(id)
			}
		}
	})
	return nil
}
