// Package sign signs webhooks and verifies them, as Standard Webhooks 1.0.0
// says for symmetric keys (scheme v1). It imports nothing of this module's, so
// that a receiver can use it by itself.
//
// # The model
//
// A request carries three headers: webhook-id names the event and stays the
// same however often it is sent, webhook-timestamp is when this attempt was
// made in unix seconds, and webhook-signature has one signature for each secret
// that is valid at present, newest first, separated by a space:
//
//	signature = "v1," base64(HMAC-SHA256(key, id "." timestamp "." body))
//
// Since an id has no ".", what is signed can be read in one way only.
//
// A receiver calls [Verify] with the raw body, before it parses it:
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
	"strconv"
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
// id must not hold a ".", and a zero Secret panics: nothing goes out unsigned.
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
		macs := &s.state().macs
		m := macs.Get().(*mac)
		head := append(m.buf[:0], id...)
		head = append(head, '.')
		head = strconv.AppendInt(head, at.Unix(), 10)
		head = append(head, '.')
		sum := m.sum(head, body)
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
