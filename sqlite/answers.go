package sqlite

import (
	"context"
	"crypto/sha256"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"
)

// Once lets a request with an Idempotency-Key take effect once: its answer is
// stored in the transaction of its effect, and given again to whoever repeats
// it.
type Once struct {
	Org     string // in which the key counts; "": the installation
	Key     string
	Request [sha256.Size]byte // of method, path and body
	// Answer is the body of the answer, made of what the operation made. The
	// writer calls it, perhaps more than once.
	Answer func(made any) ([]byte, error)
}

// Answer is what a request was answered that had an Idempotency-Key.
type Answer struct {
	Request [sha256.Size]byte
	Body    []byte // nil: it was begun, and perhaps it took effect
}

// answersFor is how long an Idempotency-Key is known.
const answersFor = 24 * time.Hour

// MaxAnswers is how many bytes of answers are kept of one organization, since they
// lie on the disk of all: more than a day's at 30 requests a second.
const MaxAnswers = 1 << 30

// answerSize is what a row of answers takes beside its body.
const answerSize = 256

// ErrAnswers: an organization has [MaxAnswers]. Nothing was done; a request without
// an Idempotency-Key would be.
var ErrAnswers = errors.New("too many answers to requests with an Idempotency-Key are kept")

// ErrAnswered: a request with that Idempotency-Key has taken effect already.
// Nothing was done; [Store.Recall] has the answer.
var ErrAnswered = errors.New("a request with this Idempotency-Key was answered already")

func (s *Store) answerScope(org string) (int64, error) {
	if org == "" {
		return 0, nil
	}
	o, err := s.find(org)
	if err != nil {
		return 0, err
	}
	return o.row, nil
}

// Recall finds the answer to the request with that key within the last day.
func (s *Store) Recall(ctx context.Context, org, key string) (a Answer, found bool, err error) {
	scope, err := s.answerScope(org)
	if err != nil {
		return a, false, err
	}
	rows, err := s.readDB.QueryContext(ctx, "SELECT request, body FROM answers WHERE org=? AND key=? AND at>?",
		scope, key, toMillis(s.now().Add(-answersFor)))
	if err != nil {
		return a, false, fmt.Errorf("recall an answer: %w", err)
	}
	defer rows.Close()
	if !rows.Next() {
		return a, false, rows.Err()
	}
	var request, sealed []byte
	if err := rows.Scan(&request, &sealed); err != nil {
		return a, false, err
	}
	copy(a.Request[:], request)
	if sealed != nil {
		if a.Body, err = s.reveal(answerAAD(scope, key), sealed); err != nil {
			return a, false, fmt.Errorf("recall an answer: %w", err)
		}
	}
	return a, true, nil
}

// Begin notes a request whose effect is not in this store, before it is begun,
// so that another one with its key is told from it, and returns when that was. A
// repeated Begin of the same request returns the moment of the first; of another
// request, or of one that was answered, it is [ErrAnswered].
func (s *Store) Begin(ctx context.Context, o Once) (begun time.Time, err error) {
	scope, err := s.answerScope(o.Org)
	if err != nil {
		return begun, err
	}
	err = s.w.do(ctx, func(t *txn) error {
		r := make(row, 3)
		found, err := t.c.one(r, "SELECT request, body IS NULL, at FROM answers WHERE org=? AND key=? AND at>?",
			scope, o.Key, toMillis(t.now.Add(-answersFor)))
		switch {
		case err != nil:
			return err
		case found && [sha256.Size]byte(r.blob(0)) == o.Request && r.int(1) == 1:
			begun = fromMillis(r.int(2))
			return nil
		case found:
			return ErrAnswered
		}
		begun = fromMillis(toMillis(t.now))
		if err := t.answerRoom(scope, o.Key); err != nil {
			return err
		}
		t.count(scope, answerSize)
		_, err = t.c.exec("INSERT OR REPLACE INTO answers(org, key, request, at) VALUES(?,?,?,?)",
			scope, o.Key, o.Request[:], toMillis(t.now))
		return err
	})
	return begun, err
}

// Finish stores the answer to a request that was begun. Of two answers the first
// one stays.
func (s *Store) Finish(ctx context.Context, o Once, body []byte) error {
	scope, err := s.answerScope(o.Org)
	if err != nil {
		return err
	}
	return s.w.do(ctx, func(t *txn) error {
		sealed, err := s.hide(answerAAD(scope, o.Key), body)
		if err != nil {
			return err
		}
		n, err := t.c.exec("UPDATE answers SET body=? WHERE org=? AND key=? AND request=? AND body IS NULL", sealed, scope, o.Key, o.Request[:])
		t.count(scope, n*int64(len(sealed)))
		return err
	})
}

// answered stores the answer to the present operation, if it made something on a
// request with a key.
func (t *txn) answered() error {
	once := t.caller.Once
	if once == nil || t.made == nil {
		return nil
	}
	scope, err := t.s.answerScope(once.Org)
	if err != nil {
		return err
	}
	found, err := t.c.one(make(row, 1), "SELECT 1 FROM answers WHERE org=? AND key=? AND at>?",
		scope, once.Key, toMillis(t.now.Add(-answersFor)))
	if err != nil {
		return err
	}
	if found {
		return ErrAnswered
	}
	body, err := once.Answer(t.made)
	if err != nil {
		return fmt.Errorf("answer to a request with an Idempotency-Key: %w", err)
	}
	sealed, err := t.s.hide(answerAAD(scope, once.Key), body)
	if err != nil {
		return err
	}
	if err := t.answerRoom(scope, once.Key); err != nil {
		return err
	}
	t.count(scope, answerSize+int64(len(sealed)))
	_, err = t.c.exec("INSERT OR REPLACE INTO answers(org, key, request, at, body) VALUES(?,?,?,?,?)",
		scope, once.Key, once.Request[:], toMillis(t.now), sealed)
	return err
}

// loadAnswers counts what each organization has.
func (s *Store) loadAnswers() error {
	s.answers = make(map[int64]int64)
	return s.w.c.query(func(r row) error {
		s.answers[r.int(0)] = r.int(1)
		return nil
	}, "SELECT org, sum(ifnull(length(body), 0) + ?) FROM answers GROUP BY org", int64(answerSize))
}

// answerRoom makes sure that there is room for an answer, and none to an older
// request with the key.
func (t *txn) answerRoom(scope int64, key string) error {
	if t.s.answers[scope] >= t.s.o.answers {
		return ErrAnswers
	}
	_, err := t.dropAnswers("org=? AND key=?", scope, key)
	return err
}

// count adds to what the organization has, once that is durable.
func (t *txn) count(scope, bytes int64) {
	t.after = append(t.after, func() {
		if t.s.answers[scope] += bytes; t.s.answers[scope] <= 0 {
			delete(t.s.answers, scope)
		}
	})
}

// dropAnswers removes the answers for which where holds.
func (t *txn) dropAnswers(where string, args ...driver.Value) (removed int64, err error) {
	err = t.c.query(func(r row) error {
		removed++
		t.count(r.int(0), -r.int(1)-answerSize)
		return nil
	}, "DELETE FROM answers WHERE "+where+" RETURNING org, ifnull(length(body), 0)", args...)
	return removed, err
}

// answerAAD binds a sealed answer to its row.
func answerAAD(scope int64, key string) string { return fmt.Sprintf("answer|%d|%s", scope, key) }

// retainAnswers removes up to n answers that nobody may ask for any more, and
// audit entries and revoked tokens of more than auditFor ago.
func (t *txn) retainAnswers(n int) (removed int64, err error) {
	removed, err = t.dropAnswers("(org, key) IN (SELECT org, key FROM answers INDEXED BY answers_at WHERE at < ? LIMIT ?)",
		toMillis(t.now.Add(-answersFor)), int64(n))
	if err != nil {
		return removed, err
	}
	for _, q := range []struct {
		query  string
		before time.Time
	}{
		{"DELETE FROM tokens WHERE id IN (SELECT id FROM tokens WHERE revoked_at BETWEEN 1 AND ?1 - 1 OR expires_at < ?1 LIMIT ?2)", t.now.Add(-auditFor)},
		{"DELETE FROM audit WHERE at < ? AND id IN (SELECT id FROM audit ORDER BY id LIMIT ?)", t.now.Add(-auditFor)},
	} {
		rows, err := t.c.exec(q.query, toMillis(q.before), int64(n))
		if err != nil {
			return removed, err
		}
		removed += rows
	}
	return removed, nil
}

// auditFor is how long audit entries are kept. The schema refuses to remove
// those of the last year.
const auditFor = 400 * 24 * time.Hour
