package sqlite

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// once is a request with that key and content, whose answer names the token it made.
func once(org, key, content string) *Once {
	return &Once{Org: org, Key: key, Request: sha256.Sum256([]byte(content)), Answer: func(made any) ([]byte, error) {
		return json.Marshal(made.(Token).ID + " canary-answer")
	}}
}

// addOnce makes a token on behalf of a request with a key.
func addOnce(t *testing.T, s *Store, c *clock, o *Once, text string) (Token, error) {
	t.Helper()
	ctx := WithCaller(t.Context(), Caller{Actor: "operator", Once: o})
	return s.AddToken(ctx, Token{Org: "acme", Scopes: []string{"admin"}, ExpiresAt: c.read().Add(48 * time.Hour)}, sha256.Sum256([]byte(text)))
}

// A request with a key takes effect once, and its answer is stored with the
// effect: in the same transaction, sealed, for a day.
func TestOnce(t *testing.T) {
	s, c, o := tokens(t)
	ctx := t.Context()
	first, err := addOnce(t, s, c, once("acme", "k", "a"), "one")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := addOnce(t, s, c, once("acme", "k", "a"), "two"); !errors.Is(err, ErrAnswered) {
		t.Errorf("again: %v", err)
	}
	if holds(s, "two") {
		t.Error("took effect twice")
	}
	shut(t, s)
	s = open(t, o)
	a, found, err := s.Recall(ctx, "acme", "k")
	if err != nil || !found || a.Request != sha256.Sum256([]byte("a")) || string(a.Body) != `"`+first.ID+` canary-answer"` {
		t.Errorf("%q, %v, %v", a.Body, found, err)
	}
	for _, name := range []string{FileName, FileName + "-wal"} {
		if b, err := os.ReadFile(filepath.Join(o.Dir, name)); err == nil && strings.Contains(string(b), "canary-answer") {
			t.Errorf("%s holds the answer", name)
		}
	}
	for _, org := range []string{"beta", ""} {
		if _, found, err := s.Recall(ctx, org, "k"); found || err != nil {
			t.Errorf("%q finds it: %v", org, err)
		}
	}
	c.add(answersFor - time.Millisecond)
	if _, found, _ := s.Recall(ctx, "acme", "k"); !found {
		t.Error("forgotten too early")
	}
	c.add(time.Millisecond)
	if _, found, _ := s.Recall(ctx, "acme", "k"); found {
		t.Error("known for more than a day")
	}
	if _, err := addOnce(t, s, c, once("acme", "k", "b"), "three"); err != nil {
		t.Errorf("after a day: %v", err)
	}
}

// What fails leaves no answer: the request may be repeated.
func TestOnceThatFails(t *testing.T) {
	s, c, _ := tokens(t)
	addToken(t, s, c, "acme", "taken")
	if _, err := addOnce(t, s, c, once("acme", "k", "a"), "taken"); err == nil {
		t.Fatal("two tokens of one text")
	}
	bad := once("acme", "k", "a")
	bad.Answer = func(any) ([]byte, error) { return nil, errors.New("no answer") }
	if _, err := addOnce(t, s, c, bad, "one"); err == nil || holds(s, "one") {
		t.Errorf("without an answer: %v, holds %v", err, holds(s, "one"))
	}
	if _, found, err := s.Recall(t.Context(), "acme", "k"); found || err != nil {
		t.Errorf("found %v, %v", found, err)
	}
	if _, err := addOnce(t, s, c, once("acme", "k", "a"), "one"); err != nil {
		t.Error(err)
	}
}

// Of many that come at once, one takes effect.
func TestOnceAtOnce(t *testing.T) {
	s, c, _ := tokens(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	made := 0
	for i := range 20 {
		wg.Go(func() {
			_, err := addOnce(t, s, c, once("acme", "k", "a"), string(rune('a'+i)))
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				made++
			} else if !errors.Is(err, ErrAnswered) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if made != 1 {
		t.Errorf("%d took effect", made)
	}
}

// An effect outside of the store is begun before and finished after; in between,
// the same request goes on from the same moment, and another one is refused.
func TestBegin(t *testing.T) {
	s, c, o := tokens(t)
	ctx := t.Context()
	a, b := *once("acme", "k", "a"), *once("acme", "k", "b")
	var first time.Time
	for i := range 2 { // a crash in between is a repeated request
		begun, err := s.Begin(ctx, a)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = begun
		} else if !begun.Equal(first) {
			t.Errorf("begun at %v, and repeated as of %v", first, begun)
		}
		if _, err := s.Begin(ctx, b); !errors.Is(err, ErrAnswered) {
			t.Errorf("another request: %v", err)
		}
		shut(t, s)
		s = open(t, o)
		c.add(time.Hour)
	}
	if was, found, err := s.Recall(ctx, "acme", "k"); !found || was.Body != nil || err != nil {
		t.Errorf("begun: %v, %q, %v", found, was.Body, err)
	}
	for _, body := range []string{"done", "done by another at the same moment"} {
		if err := s.Finish(ctx, a, []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	if was, _, err := s.Recall(ctx, "acme", "k"); string(was.Body) != "done" || err != nil {
		t.Errorf("finished: %q, %v", was.Body, err)
	}
	if _, err := s.Begin(ctx, a); !errors.Is(err, ErrAnswered) {
		t.Errorf("finished, and begun again: %v", err)
	}
	c.add(answersFor)
	if begun, err := s.Begin(ctx, b); err != nil || !begun.After(first) {
		t.Errorf("after a day: %v, %v", begun, err)
	}
	// Retention removes what nobody may ask for.
	c.add(answersFor + time.Millisecond)
	if _, err := s.Retain(ctx, RetainOptions{}); err != nil {
		t.Fatal(err)
	}
	var left int
	if err := s.readDB.QueryRowContext(ctx, "SELECT count(*) FROM answers").Scan(&left); err != nil || left != 0 {
		t.Errorf("%d answers left, %v", left, err)
	}
}

// An organization's answers take so much of the disk, and no more: whoever
// makes up keys cannot fill it for the others.
func TestAnswersHaveALimit(t *testing.T) {
	c := newClock()
	o := Options{Dir: t.TempDir(), Clock: c.read, answers: 1000}
	s := open(t, o)
	for _, org := range []string{"acme", "beta"} {
		if _, err := s.AddOrg(t.Context(), Org{ID: org, Payload: "data"}); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(org, key string) error {
		n := *once(org, key, key)
		if _, err := s.Begin(t.Context(), n); err != nil {
			return err
		}
		return s.Finish(t.Context(), n, make([]byte, 600))
	}
	if err := errors.Join(ask("acme", "a"), ask("acme", "b")); err != nil {
		t.Fatal(err)
	}
	if err := ask("acme", "c"); !errors.Is(err, ErrAnswers) {
		t.Errorf("one too many: %v, want %v", err, ErrAnswers)
	}
	if _, err := addOnce(t, s, c, once("acme", "d", "d"), "one"); !errors.Is(err, ErrAnswers) || holds(s, "one") {
		t.Errorf("another kind of request: %v, want %v and no effect", err, ErrAnswers)
	}
	if err := ask("beta", "c"); err != nil {
		t.Error(err)
	}
	had := s.answers[1]
	shut(t, s)
	s = open(t, o)
	if s.answers[1] != had {
		t.Errorf("%d bytes after a restart, before it %d", s.answers[1], had)
	}
	if err := ask("acme", "c"); !errors.Is(err, ErrAnswers) {
		t.Errorf("one too many after a restart: %v, want %v", err, ErrAnswers)
	}
	c.add(answersFor + time.Hour)
	err := s.w.do(t.Context(), func(t *txn) error {
		_, err := t.dropAnswers("at < ?", toMillis(t.now.Add(-answersFor)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.answers) != 0 {
		t.Errorf("%v bytes when all are gone", s.answers)
	}
	if err := ask("acme", "a"); err != nil {
		t.Error(err)
	}
}
