package sqlite

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCompiledIn(t *testing.T) {
	l, err := CompiledIn(t.Context())
	if err != nil || !l.Good || !slices.Contains(l.Options, "THREADSAFE=1") {
		t.Errorf("%+v, %v", l, err)
	}
}

// Books are looked at without a byte of them changing.
func TestLook(t *testing.T) {
	dir := t.TempDir()
	if _, err := Look(t.Context(), Options{Dir: dir}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("where there are none: %v", err)
	}
	s := open(t, Options{Dir: dir})
	if _, err := s.AddOrg(t.Context(), Org{ID: "acme", Payload: "data"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(dir, FileName))
	if err != nil {
		t.Fatal(err)
	}
	g, err := Look(t.Context(), Options{Dir: dir})
	if err != nil || g.Orgs != 1 || g.Schema != g.Known || g.Key != nil || !g.HeldSince.IsZero() {
		t.Errorf("%+v, %v", g, err)
	}
	after, err := os.ReadFile(filepath.Join(dir, FileName))
	if diff := cmp.Diff(before, after); err != nil || diff != "" {
		t.Errorf("the file has changed: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, KeyFileName)); err != nil {
		t.Fatal(err)
	}
	if g, err = Look(t.Context(), Options{Dir: dir}); err != nil || !errors.Is(g.Key, ErrKey) {
		t.Errorf("without the key: %v, %v", g.Key, err)
	}
	if err := os.WriteFile(filepath.Join(dir, FileName), []byte("no database at all, but long enough to be looked at as one, which takes a hundred bytes and not one less"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Look(t.Context(), Options{Dir: dir}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("another file: %v", err)
	}
}

// The default data directory is a relative one.
func TestLookInARelativeDirectory(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.Mkdir("data", 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), Options{Dir: "data"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if g, err := Look(t.Context(), Options{Dir: "data"}); err != nil || g.Schema != g.Known || g.Key != nil {
		t.Errorf("%+v, %v", g, err)
	}
	if m, err := PlanMigrations(t.Context(), "./data"); err != nil || m.Schema != m.Known {
		t.Errorf("%+v, %v", m, err)
	}
}
