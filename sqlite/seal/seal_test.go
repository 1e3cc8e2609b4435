package seal_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/sqlite/seal"
	"pgregory.net/rapid"
)

var made = time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)

func ring(t testing.TB, keys ...seal.Key) *seal.Keyring {
	t.Helper()
	r, err := seal.NewKeyring(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSEC12_OnlyItsPlaceOpensIt(t *testing.T) {
	first, second := seal.NewKey(made), seal.NewKey(made)
	old := ring(t, first)
	sealed := old.Seal([]byte("secret|1|2|3"), []byte("whsec_canary"))
	if bytes.Contains(sealed, []byte("canary")) {
		t.Error("what is sealed can be read")
	}
	if bytes.Equal(sealed, old.Seal([]byte("secret|1|2|3"), []byte("whsec_canary"))) {
		t.Error("sealing twice gives the same")
	}
	if !bytes.HasPrefix(sealed, first.Head()) || len(first.Head()) != seal.HeadSize {
		t.Error("what is sealed does not begin with the head of its key")
	}
	flipped := bytes.Clone(sealed)
	flipped[len(flipped)-20] ^= 1
	otherKey := bytes.Clone(sealed)
	copy(otherKey, second.Head())
	for _, tc := range []struct {
		name   string
		ring   *seal.Keyring
		aad    string
		sealed []byte
		want   error
	}{
		{"its own key and place", old, "secret|1|2|3", sealed, nil},
		{"after a new key", ring(t, second, first), "secret|1|2|3", sealed, nil},
		{"another row", old, "secret|1|2|4", sealed, seal.ErrOpen},
		{"another kind", old, "headers|1|2|3", sealed, seal.ErrOpen},
		{"no place", old, "", sealed, seal.ErrOpen},
		{"without its key", ring(t, second), "secret|1|2|3", sealed, seal.ErrNoKey},
		{"changed", old, "secret|1|2|3", flipped, seal.ErrOpen},
		{"said to be another key's", ring(t, second, first), "secret|1|2|3", otherKey, seal.ErrOpen},
		{"cut short", old, "secret|1|2|3", sealed[:20], seal.ErrOpen},
		{"empty", old, "secret|1|2|3", nil, seal.ErrOpen},
		{"another version", old, "secret|1|2|3", append([]byte{9}, sealed[1:]...), seal.ErrOpen},
	} {
		t.Run(tc.name, func(t *testing.T) {
			plain, err := tc.ring.Open([]byte(tc.aad), tc.sealed)
			if !errors.Is(err, tc.want) || (err == nil) != (string(plain) == "whsec_canary") {
				t.Errorf("got %q, %v, want error %v", plain, err, tc.want)
			}
		})
	}
}

func TestOpenUndoesSeal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var keys []seal.Key
		for range rapid.IntRange(1, 5).Draw(t, "keys") {
			keys = append(keys, seal.NewKey(made))
		}
		by := rapid.IntRange(0, len(keys)-1).Draw(t, "by")
		aad, plain := rapid.SliceOf(rapid.Byte()).Draw(t, "aad"), rapid.SliceOf(rapid.Byte()).Draw(t, "plain")
		one, err := seal.NewKeyring(keys[by])
		if err != nil {
			t.Fatal(err)
		}
		all, err := seal.NewKeyring(keys...)
		if err != nil {
			t.Fatal(err)
		}
		sealed := one.Seal(aad, plain)
		if got, err := all.Open(aad, sealed); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("opens as %x, %v, want %x", got, err, plain)
		}
		i := rapid.IntRange(0, len(sealed)-1).Draw(t, "byte")
		sealed[i] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if got, err := all.Open(aad, sealed); err == nil {
			t.Fatalf("byte %d was changed, and it opens as %x", i, got)
		}
	})
}

func TestKeyringBounds(t *testing.T) {
	k := seal.NewKey(made)
	if n := len(ring(t, k, seal.NewKey(made), k).Keys()); n != 2 {
		t.Errorf("a key given twice makes a ring of %d, want 2", n)
	}
	many := make([]seal.Key, seal.MaxKeys+1)
	for i := range many {
		many[i] = seal.NewKey(made)
	}
	for name, keys := range map[string][]seal.Key{"none": nil, "the zero key": {{}}, "too many": many} {
		if _, err := seal.NewKeyring(keys...); err == nil {
			t.Errorf("a ring of %s is made", name)
		}
	}
}

func TestParseKeys(t *testing.T) {
	a, b := seal.NewKey(made), seal.NewKey(made)
	for _, tc := range []struct {
		name, text string
		want       string // ids and times, or part of the error
		ok         bool
	}{
		{"one", a.Reveal(), a.ID() + " ", true},
		{"with its time", a.Reveal() + " 2026-11-21T10:00:00Z\n", a.ID() + " 2026-11-21", true},
		{"two lines", "# comment, with gkey_0\n\n" + a.Reveal() + "\r\n" + b.Reveal() + "\n", a.ID() + " " + b.ID() + " ", true},
		{"two with a comma, as in a variable", a.Reveal() + ", " + b.Reveal(), a.ID() + " " + b.ID() + " ", true},
		{"upper-case digits", "gkey_" + strings.ToUpper(a.Reveal()[5:]), a.ID() + " ", true},
		{"none", "# nothing\n", "holds no key", false},
		{"no prefix", a.Reveal()[5:], "line 1: want gkey_", false},
		{"too short", "\n" + a.Reveal()[:68], "line 2: want gkey_", false},
		{"no digits", "gkey_" + strings.Repeat("g", 64), "line 1: want gkey_", false},
		{"something behind", a.Reveal() + " yesterday", "when it was made", false},
		{"two on a line", a.Reveal() + " " + b.Reveal(), "when it was made", false},
		{"too many", strings.Repeat(a.Reveal()+"\n", seal.MaxKeys+1), "more than 16 keys", false},
		{"too long", strings.Repeat("#\n", 10000), "bytes are not keys", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			keys, err := seal.ParseKeys(tc.text)
			if (err == nil) != tc.ok {
				t.Fatalf("error %v, want ok %v", err, tc.ok)
			}
			if err != nil {
				if !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), a.Reveal()[5:40]) {
					t.Errorf("error %v, want %q and no key in it", err, tc.want)
				}
				return
			}
			got := ""
			for _, k := range keys {
				got += k.ID() + " "
				if !k.CreatedAt().IsZero() {
					got += k.CreatedAt().Format(time.DateOnly)
				}
			}
			if got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func TestKeyFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "secrets.key")
	if _, err := seal.ReadFile(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	for _, keys := range [][]seal.Key{{seal.NewKey(made)}, {seal.NewKey(made), seal.NewKey(time.Time{})}} {
		if err := seal.WriteFile(path, keys); err != nil {
			t.Fatal(err)
		}
		got, err := seal.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		reveal := cmp.Transformer("reveal", func(k seal.Key) string { return k.Reveal() + k.CreatedAt().String() })
		if diff := cmp.Diff(keys, got, reveal); diff != "" {
			t.Error("the file has other keys than were written")
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("files are left over: %v", left)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o660, 0o644} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := seal.ReadFile(path); !errors.Is(err, seal.ErrMode) {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
	if _, err := seal.ReadFile(dir); err == nil {
		t.Error("a directory is read as a key file")
	}
}

func TestSEC23_KeysDoNotShow(t *testing.T) {
	k := seal.NewKey(made)
	type hidden struct{ k seal.Key }
	var out bytes.Buffer
	for _, v := range []any{k, &k, []seal.Key{k}, hidden{k}, &hidden{k}, ring(t, k), *ring(t, k), struct{ R *seal.Keyring }{ring(t, k)}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		if err := json.NewEncoder(&out).Encode(v); err != nil {
			t.Fatal(err)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("m", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "v", v)
	}
	digits := k.Reveal()[5:]
	raw, err := hex.DecodeString(digits)
	if err != nil {
		t.Fatal(err)
	}
	for _, leak := range []string{digits, digits[:16], strings.ToUpper(digits), fmt.Sprint(raw)} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("the output holds the key:\n%s", out.String())
		}
	}
}

func FuzzParseKeys(f *testing.F) {
	k := seal.NewKey(made)
	f.Add(k.Reveal() + " 2026-11-21T10:00:00Z\n# comment\n")
	f.Add("gkey_,gkey_\n" + k.Reveal() + "," + k.Reveal())
	f.Fuzz(func(t *testing.T, text string) {
		keys, err := seal.ParseKeys(text)
		if err != nil {
			return
		}
		if len(keys) == 0 || len(keys) > seal.MaxKeys {
			t.Fatalf("%d keys", len(keys))
		}
		for _, k := range keys {
			if again, err := seal.ParseKey(k.Reveal()); err != nil || again.ID() != k.ID() {
				t.Fatalf("a key reads differently the second time: %v", err)
			}
		}
	})
}
