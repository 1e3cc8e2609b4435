package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/sign"
	"github.com/grapnel-hooks/grapnel/sqlite/seal"
)

const canary = "Bearer canary-of-the-receiver"

// addSealed adds an endpoint with everything that is sealed: two secrets, headers
// and an answer that shows a secret.
func addSealed(t testing.TB, s *Store, org string) deliver.Endpoint {
	t.Helper()
	secret := sign.NewSecret()
	ctx := WithCaller(t.Context(), Caller{Actor: "operator", Once: &Once{Org: org, Key: secret.Reveal()[6:16], Answer: func(made any) ([]byte, error) {
		return []byte(made.(deliver.Endpoint).Secrets[0].Reveal()), nil
	}}})
	e, err := s.AddEndpoint(ctx, deliver.Endpoint{
		Org: org, URL: "https://example.com/hook", EventTypes: []string{"*"}, Secrets: []deliver.Secret{{Secret: secret}},
		Headers: []deliver.Header{{Name: "Authorization", Value: deliver.NewHeaderValue(canary)}},
		Timeout: deliver.DefaultTimeout, Retry: deliver.DefaultPolicy, Concurrency: deliver.DefaultConcurrency,
	}, Start{})
	if err != nil {
		t.Fatal(err)
	}
	if e, err = s.RotateSecret(t.Context(), org, e.ID, sign.NewSecret(), time.Hour); err != nil {
		t.Fatal(err)
	}
	return e
}

// sealed is what the store knows of the org's sealed things.
func sealed(t testing.TB, s *Store, org string) (lines []string) {
	t.Helper()
	list, err := s.ListEndpoints(t.Context(), org)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		line := e.ID
		for _, k := range e.Secrets {
			line += " " + k.Reveal() + " " + fmt.Sprint(k.CreatedAt, k.ExpiresAt)
		}
		for _, h := range e.Headers {
			line += " " + h.Name + "=" + h.Value.Reveal()
		}
		oldest := e.Secrets[len(e.Secrets)-1].Reveal()
		a, found, err := s.Recall(t.Context(), org, oldest[6:16])
		lines = append(lines, fmt.Sprint(line, string(a.Body), found, err))
	}
	return lines
}

// Nothing secret is in the files, and all of it is there after a restart.
func TestSEC13_FilesHoldNoSecrets(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	newWalker(t, s, "acme", 0)
	e := addSealed(t, s, "acme")
	want := sealed(t, s, "acme")
	texts := []string{canary, "canary-of", "whsec_"}
	for _, k := range e.Secrets {
		texts = append(texts, strings.TrimPrefix(k.Reveal(), "whsec_")[:20])
	}
	search := func() {
		t.Helper()
		for _, name := range []string{FileName, FileName + "-wal"} {
			data, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil && name == FileName {
				t.Fatal(err)
			}
			for _, text := range texts {
				if bytes.Contains(data, []byte(text)) {
					t.Errorf("%s holds %q", name, text)
				}
			}
		}
	}
	search()
	shut(t, s)
	search()
	s = open(t, Options{Dir: dir})
	if diff := cmp.Diff(want, sealed(t, s, "acme")); diff != "" {
		t.Errorf("after a restart (-want +got):\n%s", diff)
	}
	audit, err := s.ListAudit(t.Context(), "acme", 0, 100)
	if err != nil || len(audit) < 3 {
		t.Fatalf("%d audit entries, %v", len(audit), err)
	}
	for _, text := range texts {
		if strings.Contains(fmt.Sprintf("%+v", audit), text) {
			t.Errorf("the audit holds %q", text)
		}
	}
}

func TestSEC12_SwappedRowsDoNotOpen(t *testing.T) {
	for name, swap := range map[string]string{
		"two secrets of an endpoint":                "UPDATE secrets SET sealed = (SELECT sealed FROM secrets o WHERE o.id = 3 - secrets.id) WHERE id IN (1, 2)",
		"secrets of endpoints of two organizations": "UPDATE secrets SET endpoint = 3 - endpoint WHERE endpoint IN (1, 2)",
		"secrets of two endpoints of one":           "UPDATE secrets SET endpoint = 4 - endpoint WHERE endpoint IN (1, 3)",
		"secrets of two organizations":              "UPDATE secrets SET org = 3 - org",
		"headers of two organizations":              "UPDATE endpoints SET headers = (SELECT headers FROM endpoints o WHERE o.id = 3 - endpoints.id) WHERE id IN (1, 2)",
		"headers of two endpoints":                  "UPDATE endpoints SET headers = (SELECT headers FROM endpoints o WHERE o.id = 4 - endpoints.id) WHERE id IN (1, 3)",
		"a secret as headers":                       "UPDATE endpoints SET headers = (SELECT sealed FROM secrets LIMIT 1)",
		"a changed byte":                            "UPDATE secrets SET sealed = substr(sealed, 1, 30) || x'00' || substr(sealed, 32)",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, Options{Dir: dir})
			newWalker(t, s, "acme", 0)
			newWalker(t, s, "clinic", 0)
			for _, org := range []string{"acme", "clinic", "acme"} { // rows 1, 2 and 3
				addSealed(t, s, org)
			}
			shut(t, s)
			alter(t, filepath.Join(dir, FileName), swap)
			s, err := Open(t.Context(), Options{Dir: dir, Log: slog.New(slog.DiscardHandler)})
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("opens with %v, want ErrCorrupt", err)
			}
			if s != nil {
				shut(t, s)
			}
		})
	}
}

// Without its key a database is not opened and not touched, and opens as ever
// when the key is back.
func TestOpenWantsItsKey(t *testing.T) {
	key := seal.NewKey(time.Time{})
	for _, tc := range []struct {
		name  string
		given []seal.Key // of the first start; none: a file
		spoil func(t *testing.T, o *Options, file string)
		text  string
	}{
		{"no file", nil, func(t *testing.T, _ *Options, file string) { remove(t, file) }, "is not there: put the key file"},
		{"another's file", nil, func(t *testing.T, _ *Options, file string) {
			if err := seal.WriteFile(file, []seal.Key{seal.NewKey(time.Time{})}); err != nil {
				t.Fatal(err)
			}
		}, "holds another database's"},
		{"a file that others may read", nil, func(t *testing.T, _ *Options, file string) {
			if err := os.Chmod(file, 0o644); err != nil {
				t.Fatal(err)
			}
		}, "chmod 600"},
		{"a file without keys", nil, func(t *testing.T, _ *Options, file string) {
			if err := os.WriteFile(file, []byte("# empty\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "holds no key"},
		{"another given key", []seal.Key{key}, func(t *testing.T, o *Options, _ string) { o.Keys = []seal.Key{seal.NewKey(time.Time{})} }, "what was given holds another database's"},
		{"given key left out", []seal.Key{key}, func(t *testing.T, o *Options, _ string) { o.Keys = nil }, "is not there"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := Options{Dir: t.TempDir(), Keys: tc.given}
			s := open(t, o)
			newWalker(t, s, "acme", 0)
			addSealed(t, s, "acme")
			want := sealed(t, s, "acme")
			shut(t, s)
			file := filepath.Join(o.Dir, KeyFileName)
			keep, _ := os.ReadFile(file)
			before, err := os.ReadFile(filepath.Join(o.Dir, FileName))
			if err != nil {
				t.Fatal(err)
			}
			spoiled := o
			spoiled.Log = slog.New(slog.DiscardHandler)
			tc.spoil(t, &spoiled, file)
			if s, err := Open(t.Context(), spoiled); !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("opens with %v, want ErrKey and %q", err, tc.text)
				if s != nil {
					shut(t, s)
				}
			}
			if after, err := os.ReadFile(filepath.Join(o.Dir, FileName)); err != nil || !bytes.Equal(before, after) {
				t.Errorf("the database was changed, %v", err)
			}
			if tc.given == nil {
				if err := os.WriteFile(file, keep, 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(file, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			s = open(t, o)
			if diff := cmp.Diff(want, sealed(t, s, "acme")); diff != "" {
				t.Errorf("with the key back (-want +got):\n%s", diff)
			}
		})
	}
}

func remove(t *testing.T, file string) {
	t.Helper()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
}

// keysOf is the keys' rows, the sealing one first.
func keysOf(t testing.TB, s *Store) (rows []int64) {
	t.Helper()
	keys, err := s.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, k := range keys {
		if k.Seals != (i == 0) {
			t.Errorf("key %d of %d seals: %v", i, len(keys), k.Seals)
		}
		rows = append(rows, k.Rows)
	}
	return rows
}

// resealed waits until the start has ended a rotation that was interrupted.
func resealed(s *Store) {
	s.rotating.Lock()
	defer s.rotating.Unlock()
}

// The key is rotated beside traffic. At each step the files are copied: each
// copy opens with everything in it, finishes the rotation by itself, and then
// needs one key only. (SEC-13)
func TestSEC13_RotateKey(t *testing.T) {
	const endpoints = 300 // two steps for the secrets
	dir := t.TempDir()
	var mu sync.Mutex
	copies, on := map[string]string{}, false
	s := open(t, Options{Dir: dir, Synchronous: "NORMAL", Failpoint: func(name string) {
		mu.Lock()
		defer mu.Unlock()
		if !on || !strings.HasPrefix(name, "keyring.") && !strings.HasPrefix(name, "reseal.") {
			return
		}
		to := t.TempDir()
		copyStore(t, dir, to)
		copies[fmt.Sprintf("%02d %s", len(copies), name)] = to
	}})
	newWalker(t, s, "acme", 0)
	for range endpoints {
		addSealed(t, s, "acme")
	}
	want := sealed(t, s, "acme")
	const rows = 1 + 2*endpoints + endpoints + endpoints // probe, secrets, headers, answers
	if diff := cmp.Diff([]int64{rows}, keysOf(t, s)); diff != "" {
		t.Errorf("rows of the key (-want +got):\n%s", diff)
	}
	old, err := s.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	on = true
	mu.Unlock()
	fresh, err := s.RotateKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	on = false
	mu.Unlock()
	if fresh.ID == old[0].ID || fresh.Rows != rows || !fresh.Seals {
		t.Errorf("the new key is %+v, the old one was %+v", fresh, old[0])
	}
	if diff := cmp.Diff([]int64{rows}, keysOf(t, s)); diff != "" {
		t.Errorf("rows of the keys after the rotation (-want +got):\n%s", diff)
	}
	addSealed(t, s, "acme")
	if len(copies) < 8 {
		t.Errorf("only %d copies were made", len(copies))
	}
	for name, dir := range copies {
		t.Run(name, func(t *testing.T) {
			s := open(t, Options{Dir: dir, Synchronous: "NORMAL"})
			if diff := cmp.Diff(want, sealed(t, s, "acme")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			resealed(s)
			shut(t, s)
			s = open(t, Options{Dir: dir, Synchronous: "NORMAL"})
			resealed(s)
			if diff := cmp.Diff([]int64{rows}, keysOf(t, s)); diff != "" {
				t.Errorf("rows of the keys (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(want, sealed(t, s, "acme")); diff != "" {
				t.Errorf("after the rotation (-want +got):\n%s", diff)
			}
		})
	}
}

// Of given keys the first seals. What the others sealed is sealed again by
// the start, and then they can be left out.
func TestGivenKeysRotateByAStart(t *testing.T) {
	first, second := seal.NewKey(time.Time{}), seal.NewKey(time.Time{})
	o := Options{Dir: t.TempDir(), Keys: []seal.Key{first}}
	s := open(t, o)
	newWalker(t, s, "acme", 0)
	addSealed(t, s, "acme")
	want := sealed(t, s, "acme")
	if _, err := s.RotateKey(t.Context()); !errors.Is(err, ErrState) {
		t.Errorf("rotates given keys: %v", err)
	}
	shut(t, s)
	if _, err := os.Stat(filepath.Join(o.Dir, KeyFileName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a key file is made beside given keys: %v", err)
	}
	o.Keys = []seal.Key{second, first}
	s = open(t, o)
	for rows := keysOf(t, s); rows[1] != 0; rows = keysOf(t, s) {
		if err := context.Cause(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, sealed(t, s, "acme")); diff != "" {
		t.Errorf("sealed again (-want +got):\n%s", diff)
	}
	shut(t, s)
	o.Keys = []seal.Key{second}
	s = open(t, o)
	if diff := cmp.Diff(want, sealed(t, s, "acme")); diff != "" {
		t.Errorf("without the first key (-want +got):\n%s", diff)
	}
}
