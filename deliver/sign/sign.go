// Package sign signs webhooks and verifies them: as Standard Webhooks 1.0.0 says,
// for symmetric keys (scheme v1) and for Ed25519 (v1a), and in two forms that
// earlier platforms use. It imports nothing of this module's, so that a receiver
// can use it by itself.
//
// # The model
//
// A [Scheme] says what is signed, how, and what the header looks like; a [Secret]
// is what it is signed with:
//
//	standard     v1,<base64 HMAC-SHA256 of "id.timestamp.body">    the bytes of whsec_…
//	ed25519      v1a,<base64 Ed25519 of "id.timestamp.body">       the key pair of whsk_…; receivers have whpk_…
//	timestamped  t=<timestamp>,v1=<hex HMAC-SHA256 of "t.body">    the secret's text
//	sha256-hex   sha256=<hex HMAC-SHA256 of the body>              the secret's text
//
// The id names the event and stays the same however often it is sent; the
// timestamp is when this attempt was made, in unix seconds. Standard Webhooks has
// them in the headers webhook-id and webhook-timestamp, and in webhook-signature
// one signature for each secret that is valid at present, newest first, separated
// by a space. Since an id has no ".", what is signed can be read in one way only.
//
// A receiver calls [Verify], or a [Verifier] for another scheme or other headers,
// with the raw body, before it parses it:
//
//	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
//	…
//	if err := sign.Verify(secrets, r.Header, body, time.Now(), 0); err != nil {
//		http.Error(w, "bad signature", http.StatusUnauthorized)
//		return
//	}
package sign

import (
	"crypto/sha256"
	"encoding/base64"
	"time"
)

// Names of the headers, in the form of http.CanonicalHeaderKey.
const (
	HeaderID        = "Webhook-Id"
	HeaderTimestamp = "Webhook-Timestamp"
	HeaderSignature = "Webhook-Signature"
)

const (
	scheme = "v1,"
	// SignatureLen is how long one signature is, its scheme included.
	SignatureLen = len(scheme) + (sha256.Size+2)/3*4
)

// Sign is the value of webhook-signature for body, sent as event id at that
// second: one signature for each secret, in their order, which is newest first.
// id must not hold a ".", and a Secret that does not fit panics: nothing goes out
// unsigned.
func Sign(secrets []Secret, id string, at time.Time, body []byte) string {
	return string(AppendSignature(make([]byte, 0, len(secrets)*(SignatureLen+1)), secrets, id, at, body))
}

// AppendSignature appends what [Sign] returns to dst. It allocates nothing if
// dst has room.
func AppendSignature(dst []byte, secrets []Secret, id string, at time.Time, body []byte) []byte {
	for i, s := range secrets {
		if i > 0 {
			dst = append(dst, ' ')
		}
		if s.state().key == nil {
			panic("sign: a secret that is not " + prefix)
		}
		macs := &s.state().macs
		m := macs.Get().(*mac)
		sum := m.sum(signedHead(m.buf[:0], id, at), body)
		dst = append(dst, scheme...)
		dst = base64.StdEncoding.AppendEncode(dst, sum)
		macs.Put(m)
	}
	return dst
}

// sum is the MAC of head and body, valid until m is used again. head may lie in
// m.buf.
func (m *mac) sum(head, body []byte) []byte {
	m.Reset()
	m.Write(head)
	m.Write(body)
	return m.Sum(m.buf[:0])
}
