package sign

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"strings"
)

const (
	privatePrefix = "whsk_"
	publicPrefix  = "whpk_"
)

// PublicKey is the half of an Ed25519 secret that receivers verify with. It is no
// secret. The zero PublicKey is none.
type PublicKey struct {
	text string // as String writes it
}

// ErrPublicKey: the text is not a public key.
var ErrPublicKey = errors.New("public key: want whpk_ and the padded standard base64 of 32 bytes")

// ParsePublicKey reads a key as [PublicKey.String] writes it. The error is always
// [ErrPublicKey].
func ParsePublicKey(text string) (PublicKey, error) {
	if key, ok := decode(text, publicPrefix); !ok || len(key) != ed25519.PublicKeySize {
		return PublicKey{}, ErrPublicKey
	}
	return PublicKey{text}, nil
}

// String is the key as its owner hands it to receivers: whpk_ and the base64 of
// its 32 bytes.
func (k PublicKey) String() string { return k.text }

// IsZero reports whether there is no key.
func (k PublicKey) IsZero() bool { return k.text == "" }

func (k PublicKey) key() ed25519.PublicKey {
	key, _ := decode(k.text, publicPrefix)
	return key
}

// Public is what receivers verify with, if s is a secret for [Ed25519]; else it
// is the zero PublicKey.
func (s Secret) Public() PublicKey {
	if s.IsZero() || s.state().private == nil {
		return PublicKey{}
	}
	return PublicKey{publicPrefix + base64.StdEncoding.EncodeToString(s.state().private.Public().(ed25519.PublicKey))}
}

// parsePrivate reads whsk_ and the base64 of a seed and its public key, which is
// how the libraries of Standard Webhooks write a key pair.
func parsePrivate(text string) (Secret, bool) {
	key, ok := decode(text, privatePrefix)
	if !ok || len(key) != ed25519.PrivateKeySize {
		return Secret{}, false
	}
	private := ed25519.PrivateKey(key)
	if !private.Equal(ed25519.NewKeyFromSeed(private.Seed())) { // else the signatures would give the key away
		return Secret{}, false
	}
	return newPrivate(private), true
}

// decode is the bytes that a text of a known prefix and strict base64 stands for,
// so that each has one spelling.
func decode(text, prefix string) ([]byte, bool) {
	enc, ok := strings.CutPrefix(text, prefix)
	if !ok || strings.ContainsAny(enc, "\r\n") { // which the decoder would skip
		return nil, false
	}
	b, err := base64.StdEncoding.Strict().DecodeString(enc)
	return b, err == nil
}
