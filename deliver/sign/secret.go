package sign

import (
	"crypto/ed25519"
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

// Bounds of a secret's key, in bytes after decoding, and of a text that serves as
// one, in characters (contract, sections 1 and 4).
const (
	MinKey  = 24
	MaxKey  = 64
	newKey  = 32 // of a generated one
	MinText = 16
	MaxText = 128
)

const (
	prefix   = "whsec_"
	redacted = "[redacted]"
)

// ErrSecret: the text is not a signing secret. It never holds the text.
var ErrSecret = errors.New("signing secret: want whsec_ and the padded standard base64 of 24 to 64 bytes")

// Secret is a signing secret: whsec_ and a key in base64, whsk_ and an Ed25519 key
// pair in base64, or a text that a platform brought. [Scheme.Fits] tells which
// scheme it can sign by. However it is printed, logged or marshalled, it shows as
// [redacted]; only [Secret.Reveal] tells it. Copies share one state; all methods
// are safe for concurrent use. The zero Secret is none ([Secret.IsZero]) and must
// not sign.
type Secret struct {
	// Behind a function, so that a printer that looks through unexported fields,
	// where no method can stop it, finds only an address. It would follow a
	// pointer: fmt does for verbs that pointers do not have, such as %s.
	state func() *state
}

type state struct {
	text    string             // as it is shown
	key     []byte             // that whsec_ stands for; nil: it is none
	private ed25519.PrivateKey // that whsk_ stands for; nil: it is none
	macs    sync.Pool          // of *mac, by key
	texts   sync.Pool          // of *mac, by text
}

// mac is an HMAC with its key already absorbed, and room to work in.
type mac struct {
	hash.Hash
	buf [128]byte
}

func newMAC(key []byte) any { return &mac{Hash: hmac.New(sha256.New, key)} }

func newSecret(s *state) Secret {
	s.macs.New = func() any { return newMAC(s.key) }
	s.texts.New = func() any { return newMAC([]byte(s.text)) }
	return Secret{func() *state { return s }}
}

func newSymmetric(key []byte) Secret {
	return newSecret(&state{text: prefix + base64.StdEncoding.EncodeToString(key), key: key})
}

func newPrivate(key ed25519.PrivateKey) Secret {
	return newSecret(&state{text: privatePrefix + base64.StdEncoding.EncodeToString(key), private: key})
}

// NewSecret makes a secret of 32 random bytes.
func NewSecret() Secret {
	key := make([]byte, newKey)
	rand.Read(key) // never fails; it ends the program rather
	return newSymmetric(key)
}

// ParseSecret reads a secret as [Secret.Reveal] writes it: whsec_ and the
// standard base64, padding included, of 24 to 64 bytes. It is as strict as
// the official Go library in its alphabet and padding, because a secret
// that we accept and a receiver's library does not would be of no use, and
// stricter in that each key has one spelling. The error is always [ErrSecret].
func ParseSecret(text string) (Secret, error) {
	key, ok := decode(text, prefix)
	if !ok || len(key) < MinKey || len(key) > MaxKey {
		return Secret{}, ErrSecret
	}
	return newSymmetric(key), nil
}

// AnySecret reads a secret of whatever form, as [Secret.Reveal] writes it: for a
// store, which knows that it was accepted before. Use [Scheme.ParseSecret] for
// what a person gives.
func AnySecret(text string) (Secret, error) {
	if s, err := ParseSecret(text); err == nil {
		return s, nil
	}
	if strings.HasPrefix(text, privatePrefix) {
		if s, ok := parsePrivate(text); ok {
			return s, nil
		}
		return Secret{}, errPrivate
	}
	if len(text) < MinText || len(text) > MaxText || strings.Trim(text, " ") != text || strings.HasPrefix(text, publicPrefix) {
		return Secret{}, errText
	}
	for _, c := range []byte(text) {
		if c < ' ' || c > '~' {
			return Secret{}, errText
		}
	}
	return newSecret(&state{text: text}), nil
}

// Reveal is the secret as text, for its owner and the store.
func (s Secret) Reveal() string {
	if s.state == nil {
		return ""
	}
	return s.state().text
}

// IsZero reports whether there is no secret.
func (s Secret) IsZero() bool { return s.state == nil }

// Equal reports, in time that does not depend on where they differ, whether
// both are the same secret.
func (s Secret) Equal(t Secret) bool {
	if s.IsZero() || t.IsZero() {
		return s.IsZero() && t.IsZero()
	}
	return subtle.ConstantTimeCompare([]byte(s.state().text), []byte(t.state().text)) == 1
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
