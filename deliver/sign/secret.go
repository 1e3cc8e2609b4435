package sign

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"strings"
	"sync"
)

// Bounds of a secret's key, in bytes after decoding (contract, section 1).
const (
	MinKey = 24
	MaxKey = 64
	newKey = 32 // of a generated one
)

const (
	prefix   = "whsec_"
	redacted = "[redacted]"
)

// ErrSecret: the text is not a signing secret. It never holds the text.
var ErrSecret = errors.New("signing secret: want whsec_ and the padded standard base64 of 24 to 64 bytes")

// Secret is a symmetric signing secret. However it is printed, logged or
// marshalled, it shows as [redacted]; only [Secret.Reveal] tells it. Copies
// share one state; all methods are safe for concurrent use. The zero Secret is
// none ([Secret.IsZero]) and must not sign.
type Secret struct {
	// Behind a function, so that a printer that looks through unexported fields,
	// where no method can stop it, finds only an address. It would follow a
	// pointer: fmt does for verbs that pointers do not have, such as %s.
	state func() *state
}

type state struct {
	key  []byte
	macs sync.Pool // of *mac
}

// mac is an HMAC with its key already absorbed, and room to work in.
type mac struct {
	hash.Hash
	buf [128]byte
}

func newSecret(key []byte) Secret {
	s := &state{key: key}
	s.macs.New = func() any { return &mac{Hash: hmac.New(sha256.New, s.key)} }
	return Secret{func() *state { return s }}
}

// NewSecret makes a secret of 32 random bytes.
func NewSecret() Secret {
	key := make([]byte, newKey)
	rand.Read(key) // never fails; it ends the program rather
	return newSecret(key)
}

// ParseSecret reads a secret as [Secret.Reveal] writes it: whsec_ and the
// standard base64, padding included, of 24 to 64 bytes. It is as strict as
// the official Go library in its alphabet and padding, because a secret
// that we accept and a receiver's library does not would be of no use, and
// stricter in that each key has one spelling. The error is always [ErrSecret].
func ParseSecret(text string) (Secret, error) {
	enc, ok := strings.CutPrefix(text, prefix)
	if !ok || strings.ContainsAny(enc, "\r\n") { // which the decoder would skip
		return Secret{}, ErrSecret
	}
	key, err := base64.StdEncoding.Strict().DecodeString(enc)
	if err != nil || len(key) < MinKey || len(key) > MaxKey {
		return Secret{}, ErrSecret
	}
	return newSecret(key), nil
}

// Reveal is the secret as text, for its owner and the store.
func (s Secret) Reveal() string {
	if s.state == nil {
		return ""
	}
	return prefix + base64.StdEncoding.EncodeToString(s.state().key)
}

// IsZero reports whether there is no secret.
func (s Secret) IsZero() bool { return s.state == nil }

// Equal reports, in time that does not depend on where they differ, whether
// both are the same secret.
func (s Secret) Equal(t Secret) bool {
	if s.IsZero() || t.IsZero() {
		return s.IsZero() && t.IsZero()
	}
	return subtle.ConstantTimeCompare(s.state().key, t.state().key) == 1
}

// String implements fmt.Stringer.
func (Secret) String() string { return redacted }

// GoString implements fmt.GoStringer.
func (Secret) GoString() string { return redacted }

// Format implements fmt.Formatter, for the verbs that String and GoString do
// not serve.
func (Secret) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// MarshalJSON implements json.Marshaler.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText implements encoding.TextMarshaler, which YAML and flags use.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }
