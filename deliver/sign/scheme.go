package sign

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// Scheme is a way to sign requests (contract, section 4).
type Scheme string

// The schemes.
const (
	// Standard is v1 of Standard Webhooks: see the package's comment. It signs
	// with the bytes that the secret's base64 stands for.
	Standard Scheme = "standard"
	// SHA256Hex is sha256= and the HMAC-SHA256 of the body in hex. It signs with
	// the secret's text, and says nothing of when: a request can be repeated by
	// whoever saw it.
	SHA256Hex Scheme = "sha256-hex"
	// Timestamped is t=<unix seconds>,v1= and the HMAC-SHA256 of "t.body" in hex.
	// It signs with the secret's text.
	Timestamped Scheme = "timestamped"
	// Ed25519 is v1a of Standard Webhooks: what Standard signs, with a key of
	// which the receiver has only the public half.
	Ed25519 Scheme = "ed25519"
)

// Schemes are all of them.
var Schemes = []Scheme{Standard, SHA256Hex, Timestamped, Ed25519}

// Known reports whether s is one of [Schemes].
func (s Scheme) Known() bool { return slices.Contains(Schemes, s) }

// Several reports whether one header may hold several signatures. Where it may
// not, the newest secret signs in the header, and the one before it, while it
// signs too, in a second header: see [Previous].
func (s Scheme) Several() bool { return s != SHA256Hex }

// Names reports whether the id and the timestamp that are signed are in headers
// of their own.
func (s Scheme) Names() bool { return s == Standard || s == Ed25519 }

// Previous is what follows the name of the signature's header in the name of the
// one with the signature by the secret before the newest.
const Previous = "-previous"

// Fits reports whether the secret can sign by the scheme.
func (s Scheme) Fits(secret Secret) bool {
	if secret.IsZero() {
		return false
	}
	st := secret.state()
	switch s {
	case Standard:
		return st.key != nil
	case SHA256Hex, Timestamped:
		return st.private == nil
	case Ed25519:
		return st.private != nil
	}
	return false
}

// NewSecret makes a random secret that fits the scheme: whsk_ for Ed25519, else
// whsec_, whose text serves those schemes that sign with a text.
func (s Scheme) NewSecret() Secret {
	if s == Ed25519 {
		_, private, err := ed25519.GenerateKey(nil)
		if err != nil {
			panic(err) // the random source never fails
		}
		return newPrivate(private)
	}
	return NewSecret()
}

// Errors of [Scheme.ParseSecret]. They never hold the text.
var (
	errText    = fmt.Errorf("signing secret: want %d to %d printable ASCII characters that do not begin with %s or %s", MinText, MaxText, privatePrefix, publicPrefix)
	errPrivate = errors.New("signing secret: want whsk_ and the padded standard base64 of 64 bytes, an Ed25519 seed and its public key")
)

// ParseSecret reads a secret for the scheme: whsec_ for Standard, whsk_ for
// Ed25519, and for the others any 16 to 128 printable ASCII characters, so that a
// platform can bring those that its receivers have. The error says what is
// wanted.
func (s Scheme) ParseSecret(text string) (Secret, error) {
	switch s {
	case Standard:
		return ParseSecret(text)
	case SHA256Hex, Timestamped, Ed25519:
		secret, err := AnySecret(text)
		if err == nil && s.Fits(secret) {
			return secret, nil
		}
		if s == Ed25519 {
			return Secret{}, errPrivate
		}
		return Secret{}, errText
	}
	return Secret{}, fmt.Errorf("signature scheme %q is not known", string(s))
}

// Append appends the signature of a request to dst: the value of the signature's
// header. Secrets are newest first; where a header has one signature
// ([Scheme.Several]), it is the first one's. id and at are those of the request,
// and not looked at by SHA256Hex. It allocates nothing if dst has room, but for
// Ed25519.
//
// A secret that does not fit, and an unknown scheme, panics: nothing goes out
// unsigned.
func (s Scheme) Append(dst []byte, secrets []Secret, id string, at time.Time, body []byte) []byte {
	for _, secret := range secrets {
		if !s.Fits(secret) {
			panic("sign: a secret that does not fit the scheme " + string(s))
		}
	}
	if len(secrets) == 0 {
		panic("sign: no secret")
	}
	switch s {
	case Standard:
		return AppendSignature(dst, secrets, id, at, body)
	case SHA256Hex:
		return appendHex(append(dst, hexPrefix...), secrets[0], nil, body)
	case Timestamped:
		var room [24]byte
		t := strconv.AppendInt(room[:0], at.Unix(), 10)
		dst = append(append(dst, "t="...), t...)
		for _, secret := range secrets {
			dst = appendHex(append(dst, ",v1="...), secret, t, body)
		}
		return dst
	default:
		text := append(signedHead(nil, id, at), body...)
		for i, secret := range secrets {
			if i > 0 {
				dst = append(dst, ' ')
			}
			dst = append(dst, asymmetric...)
			dst = base64.StdEncoding.AppendEncode(dst, ed25519.Sign(secret.state().private, text))
		}
		return dst
	}
}

const (
	hexPrefix  = "sha256="
	asymmetric = "v1a,"
)

// appendHex appends the MAC by the secret's text, of "stamp.body" or, without a
// stamp, of the body.
func appendHex(dst []byte, secret Secret, stamp, body []byte) []byte {
	macs := &secret.state().texts
	m := macs.Get().(*mac)
	dst = hex.AppendEncode(dst, m.stamped(stamp, body))
	macs.Put(m)
	return dst
}

// stamped is the MAC of "stamp.body", or of body if there is no stamp, valid until
// m is used again.
func (m *mac) stamped(stamp, body []byte) []byte {
	if stamp == nil {
		return m.sum(nil, body)
	}
	return m.sum(append(append(m.buf[:0], stamp...), '.'), body)
}

// signedHead appends "id.timestamp.", which Standard and Ed25519 sign before the
// body.
func signedHead(dst []byte, id string, at time.Time) []byte {
	dst = append(append(dst, id...), '.')
	return append(strconv.AppendInt(dst, at.Unix(), 10), '.')
}

// hexLen is how long a MAC in hex is.
const hexLen = 2 * sha256.Size
