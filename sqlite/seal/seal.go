// Package seal encrypts what must not be readable in a copy of the database:
// signing secrets, header values, answers that hold a secret.
//
// # The model
//
// A [Keyring] has one key that seals and perhaps others that only open what
// they sealed before. What is sealed carries the id of its key, so a key can be
// replaced while rows of the old one are still there:
//
//	sealed = version (1 byte) · key id (8 bytes) · nonce (12 bytes) · AES-256-GCM(plaintext) · tag (16 bytes)
//
// With each text goes associated data, the AAD, which is not stored: it names
// what the text is and whose row it is in. A text that was copied to another
// row, or to another column, does not open.
//
// Nonces are random, so one key must not seal more than 2^32 texts (NIST SP
// 800-38D, section 8.3): at a hundred a second that is more than a year.
//
// A key is written gkey_ and 64 hexadecimal digits. A key file, or a variable,
// holds one key a line, the one that seals first; see [ParseKeys].
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"
)

const (
	version  = 1
	keySize  = 32
	idSize   = 8
	header   = 1 + idSize
	overhead = header + 12 + 16

	prefix   = "gkey_"
	redacted = "[redacted]"
)

// MaxKeys is how many keys a ring may have. More than two are rare: they are
// left over when rotations were interrupted, or brought back with a backup.
const MaxKeys = 16

var (
	// ErrKey: a text is not a key, or several are not a ring. Its wraps never
	// repeat the text.
	ErrKey = errors.New("want gkey_ and 64 hexadecimal digits")
	// ErrNoKey: the ring lacks the key with which it was sealed.
	ErrNoKey = errors.New("the key with which it was sealed is not there")
	// ErrOpen: it was changed, it was sealed with other associated data, or it
	// was never sealed.
	ErrOpen = errors.New("does not open: it was changed, or belongs elsewhere")
)

// Key is one key. However it is printed, it shows as [redacted]; only
// [Key.Reveal] tells it. The zero Key is none.
type Key struct {
	id      [idSize]byte
	created time.Time
	// Behind a function, so that a printer that looks through unexported fields
	// finds only an address.
	state func() *state
}

type state struct {
	key  [keySize]byte
	aead cipher.AEAD
}

// NewKey makes a random key.
func NewKey(created time.Time) Key {
	var raw [keySize]byte
	rand.Read(raw[:]) // never fails; it ends the program rather
	return newKey(raw, created)
}

func newKey(raw [keySize]byte, created time.Time) Key {
	block, err := aes.NewCipher(raw[:])
	if err != nil {
		panic(err) // 32 bytes are always a key
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // a cipher of crypto/aes always has it
	}
	s := &state{key: raw, aead: aead}
	k := Key{created: created.UTC().Truncate(time.Second), state: func() *state { return s }}
	// The id tells nothing of a random key, and the same key always has the same.
	sum := sha256.Sum256(append([]byte("grapnel key id\x00"), raw[:]...))
	copy(k.id[:], sum[:])
	return k
}

// ParseKey reads a key as [Key.Reveal] writes it. The error is always [ErrKey].
func ParseKey(text string) (Key, error) {
	digits, ok := strings.CutPrefix(text, prefix)
	if !ok || len(digits) != 2*keySize {
		return Key{}, ErrKey
	}
	var raw [keySize]byte
	if _, err := hex.Decode(raw[:], []byte(digits)); err != nil {
		return Key{}, ErrKey
	}
	return newKey(raw, time.Time{}), nil
}

// ID names the key, for people and the books: 16 hexadecimal digits.
func (k Key) ID() string { return hex.EncodeToString(k.id[:]) }

// CreatedAt is when the key was made, zero if that is not known.
func (k Key) CreatedAt() time.Time { return k.created }

// IsZero reports whether there is no key.
func (k Key) IsZero() bool { return k.state == nil }

// Reveal is the key as text, for its file.
func (k Key) Reveal() string {
	if k.IsZero() {
		return ""
	}
	return prefix + hex.EncodeToString(k.state().key[:])
}

// String implements fmt.Stringer.
func (Key) String() string { return redacted }

// GoString implements fmt.GoStringer.
func (Key) GoString() string { return redacted }

// Format implements fmt.Formatter, for the verbs that String and GoString do
// not serve.
func (Key) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// MarshalJSON implements json.Marshaler.
func (Key) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText implements encoding.TextMarshaler, which YAML and flags use.
func (Key) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue implements slog.LogValuer.
func (Key) LogValue() slog.Value { return slog.StringValue(redacted) }

// Keyring is the keys of one database. It does not change, and is safe for
// concurrent use.
type Keyring struct {
	keys []Key // the first seals
}

// NewKeyring makes a ring of 1 to [MaxKeys] keys, of which the first seals. A
// key that is given twice counts where it stands first.
func NewKeyring(keys ...Key) (*Keyring, error) {
	r := &Keyring{}
	for _, k := range keys {
		if k.IsZero() {
			return nil, fmt.Errorf("a key of the ring: %w", ErrKey)
		}
		if _, ok := r.find(k.id[:]); !ok {
			r.keys = append(r.keys, k)
		}
	}
	switch n := len(r.keys); {
	case n == 0:
		return nil, fmt.Errorf("no key is given: %w", ErrKey)
	case n > MaxKeys:
		return nil, fmt.Errorf("%d keys are given, at most %d may be", n, MaxKeys)
	}
	return r, nil
}

// Keys are the keys of the ring, the one that seals first.
func (r *Keyring) Keys() []Key { return append([]Key(nil), r.keys...) }

// Sealing is the key that seals.
func (r *Keyring) Sealing() Key { return r.keys[0] }

func (r *Keyring) find(id []byte) (Key, bool) {
	for _, k := range r.keys {
		if string(k.id[:]) == string(id) {
			return k, true
		}
	}
	return Key{}, false
}

// Seal encrypts plaintext, to be opened with the same aad only. It is 37 bytes
// longer, and never the same twice.
func (r *Keyring) Seal(aad, plaintext []byte) []byte {
	k := r.keys[0]
	out := make([]byte, header, overhead+len(plaintext))
	out[0] = version
	copy(out[1:], k.id[:])
	return k.state().aead.Seal(out, nil, plaintext, aad)
}

// Open decrypts what Seal made. It fails with [ErrNoKey] or [ErrOpen].
func (r *Keyring) Open(aad, sealed []byte) ([]byte, error) {
	if len(sealed) < overhead || sealed[0] != version {
		return nil, ErrOpen
	}
	k, ok := r.find(sealed[1:header])
	if !ok {
		return nil, fmt.Errorf("key %x: %w", sealed[1:header], ErrNoKey)
	}
	plain, err := k.state().aead.Open(nil, nil, sealed[header:], aad)
	if err != nil {
		return nil, ErrOpen
	}
	return plain, nil
}

// Head is what everything begins with that k has sealed: a store finds with it
// what a key still holds.
func (k Key) Head() []byte { return append([]byte{version}, k.id[:]...) }

// HeadSize is the length of [Key.Head].
const HeadSize = header

// String implements fmt.Stringer.
func (*Keyring) String() string { return redacted }

// Format implements fmt.Formatter.
func (*Keyring) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// LogValue implements slog.LogValuer.
func (*Keyring) LogValue() slog.Value { return slog.StringValue(redacted) }
