package sign

import (
	"cmp"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// DefaultTolerance is how far the timestamp may be from now, either way.
const DefaultTolerance = 5 * time.Minute

// maxSignatures bounds how many signatures of one request are looked at.
const maxSignatures = 32

// Check names one of the checks of [Verifier.Verify].
type Check string

const (
	Present    Check = "present"     // each header is there, once
	WellFormed Check = "well-formed" // id, timestamp and signatures can be read
	Fresh      Check = "fresh"       // the timestamp is near now
	Authentic  Check = "authentic"   // a signature matches
)

// Error says which check a request failed. It holds nothing secret, but is
// meant for the receiver's own log: the sender should learn only that
// verification failed.
type Error struct {
	Check  Check
	Header string        // the header at fault, for Present and WellFormed
	Skew   time.Duration // for Fresh: positive when the timestamp lies in the future
	detail string
}

func (e *Error) Error() string { return "verify webhook: " + e.detail }

// Verify checks that the headers and the raw body of a request were signed by
// [Standard] with one of the secrets, by a sender whose clock is at most tolerance
// from now (0: [DefaultTolerance]). An error is always an [*Error]. Without secrets
// nothing is authentic.
func Verify(secrets []Secret, header http.Header, body []byte, now time.Time, tolerance time.Duration) error {
	v := Verifier{Secrets: secrets, Tolerance: tolerance}
	return v.Verify(header, body, now)
}

// Verifier checks requests by any scheme. It does not change when it is used.
type Verifier struct {
	Scheme    Scheme        // "": Standard
	Secrets   []Secret      // one match is enough; those that do not fit the scheme match nothing
	Public    []PublicKey   // of Ed25519, beside the halves of Secrets
	Headers   Headers       // where id, timestamp and signature are
	Tolerance time.Duration // between the timestamp and now, either way; 0: DefaultTolerance
}

// Headers are names of headers, in any spelling; an empty one stands for that of
// Standard Webhooks. Timestamped reads only the signature's, and SHA256Hex that and
// the one with [Previous] behind it.
type Headers struct{ ID, Timestamp, Signature string }

// Verify checks one request: its headers, and its raw body. An error is always an
// [*Error].
func (v *Verifier) Verify(header http.Header, body []byte, now time.Time) error {
	names := Headers{
		cmp.Or(v.Headers.ID, HeaderID), cmp.Or(v.Headers.Timestamp, HeaderTimestamp), cmp.Or(v.Headers.Signature, HeaderSignature),
	}
	switch v.Scheme {
	case SHA256Hex:
		return v.verifyHex(names, header, body)
	case Timestamped:
		return v.verifyTimestamped(names, header, body, now)
	case Standard, Ed25519, "":
		return v.verifyNamed(names, header, body, now)
	}
	return malformed(names.Signature, fmt.Sprintf("the scheme %q is not known", string(v.Scheme)))
}

// verifyNamed is Verify for the schemes whose id and timestamp have headers.
func (v *Verifier) verifyNamed(names Headers, header http.Header, body []byte, now time.Time) error {
	id, err := single(header, names.ID)
	if err != nil {
		return err
	}
	stamp, err := single(header, names.Timestamp)
	if err != nil {
		return err
	}
	sigs, err := single(header, names.Signature)
	if err != nil {
		return err
	}
	if strings.Contains(id, ".") {
		return malformed(names.ID, "the id holds a '.'")
	}
	if err := v.fresh(names.Timestamp, stamp, now); err != nil {
		return err
	}
	head := make([]byte, 0, len(id)+len(stamp)+2)
	head = append(append(append(append(head, id...), '.'), stamp...), '.')
	if v.Scheme == Ed25519 {
		return v.matchKeys(names.Signature, sigs, append(head, body...))
	}
	given, err := signatures(names.Signature, sigs, scheme, sha256.Size)
	if err != nil {
		return err
	}
	return v.matchMACs(given, Standard, func(m *mac) []byte { return m.sum(head, body) })
}

// verifyHex is Verify for SHA256Hex: one signature, and perhaps one by the secret
// before.
func (v *Verifier) verifyHex(names Headers, header http.Header, body []byte) error {
	sig, err := single(header, names.Signature)
	if err != nil {
		return err
	}
	given, err := hexSignature(nil, names.Signature, sig)
	if err != nil {
		return err
	}
	if sig, err := single(header, names.Signature+Previous); err == nil {
		if given, err = hexSignature(given, names.Signature+Previous, sig); err != nil {
			return err
		}
	}
	return v.matchMACs(given, SHA256Hex, func(m *mac) []byte { return m.sum(nil, body) })
}

// verifyTimestamped is Verify for Timestamped.
func (v *Verifier) verifyTimestamped(names Headers, header http.Header, body []byte, now time.Time) error {
	sig, err := single(header, names.Signature)
	if err != nil {
		return err
	}
	parts := strings.SplitN(sig, ",", maxSignatures+2)
	if len(parts) > maxSignatures+1 {
		return malformed(names.Signature, fmt.Sprintf("more than %d signatures", maxSignatures))
	}
	stamp, ok := strings.CutPrefix(parts[0], "t=")
	if !ok {
		return malformed(names.Signature, "does not begin with t=")
	}
	if err := v.fresh(names.Signature, stamp, now); err != nil {
		return err
	}
	var given [][]byte
	for _, part := range parts[1:] {
		enc, ok := strings.CutPrefix(part, "v1=")
		if !ok {
			continue // of a scheme that may come
		}
		if sum, err := hex.DecodeString(enc); err == nil && len(sum) == sha256.Size {
			given = append(given, sum)
		}
	}
	if given == nil {
		return malformed(names.Signature, "no whole signature v1=")
	}
	return v.matchMACs(given, Timestamped, func(m *mac) []byte { return m.stamped([]byte(stamp), body) })
}

// fresh checks the timestamp.
func (v *Verifier) fresh(header, stamp string, now time.Time) error {
	at, ok := unixSeconds(stamp)
	if !ok {
		return malformed(header, "the timestamp is not in unix seconds")
	}
	tolerance := v.Tolerance
	if tolerance <= 0 {
		tolerance = DefaultTolerance
	}
	if skew := at.Sub(now); skew > tolerance || skew < -tolerance {
		return stale(skew, tolerance)
	}
	return nil
}

// matchMACs looks for one of the given MACs among those that the secrets make.
func (v *Verifier) matchMACs(given [][]byte, by Scheme, sum func(*mac) []byte) error {
	match := false
	for _, s := range v.Secrets {
		if !by.Fits(s) {
			continue
		}
		macs := &s.state().texts
		if by == Standard {
			macs = &s.state().macs
		}
		m := macs.Get().(*mac)
		want := sum(m)
		for i := range given { // all of them, so that time tells nothing
			match = hmac.Equal(given[i], want) || match
		}
		macs.Put(m)
	}
	if !match {
		return unauthentic()
	}
	return nil
}

// matchKeys looks for a signature of text, among those of v1a, by one of the keys.
func (v *Verifier) matchKeys(name, sigs string, text []byte) error {
	given, err := signatures(name, sigs, asymmetric, ed25519.SignatureSize)
	if err != nil {
		return err
	}
	keys := slices.Clone(v.Public)
	for _, s := range v.Secrets {
		keys = append(keys, s.Public())
	}
	for _, k := range keys {
		for _, sig := range given {
			if !k.IsZero() && ed25519.Verify(k.key(), text, sig) {
				return nil // nothing of this is secret, nor is the time that it takes
			}
		}
	}
	return unauthentic()
}

func unauthentic() *Error {
	return &Error{Check: Authentic, detail: "no signature matches: another secret, or the body was changed"}
}

// single is the one value of the named header, whose spelling may be any.
func single(h http.Header, name string) (string, error) {
	v := h[name]
	if len(v) == 0 { // a header map that did not come from net/http
		for k := range h {
			if strings.EqualFold(k, name) {
				v = h[k]
				break
			}
		}
	}
	switch {
	case len(v) == 0 || len(v) == 1 && v[0] == "":
		return "", &Error{Check: Present, Header: name, detail: "header " + strings.ToLower(name) + " is missing"}
	case len(v) > 1:
		return "", &Error{Check: Present, Header: name, detail: "header " + strings.ToLower(name) + " is there more than once"}
	}
	return v[0], nil
}

// unixSeconds reads decimal digits only: no sign, no space, no fraction.
func unixSeconds(s string) (time.Time, bool) {
	if len(s) > 12 { // the year 33658
		return time.Time{}, false
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return time.Time{}, false
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return time.Unix(n, 0), err == nil
}

// signatures decodes the signatures of one scheme, which have size bytes, from a
// header's value. Those of other schemes, and those that do not decode to a whole
// signature, are passed over: an empty or shortened one never matches. A value
// without any of the scheme is malformed.
func signatures(name, v, scheme string, size int) (given [][]byte, err error) {
	seen, found := 0, false
	for sig := range strings.SplitSeq(v, " ") {
		if seen++; seen > maxSignatures {
			return nil, malformed(name, fmt.Sprintf("more than %d signatures", maxSignatures))
		}
		enc, ok := strings.CutPrefix(sig, scheme)
		if !ok {
			continue
		}
		found = true
		if len(enc) != (size+2)/3*4 || strings.ContainsAny(enc, "\r\n") { // which the decoder would skip
			continue
		}
		if b, err := base64.StdEncoding.Strict().DecodeString(enc); err == nil && len(b) == size {
			given = append(given, b)
		}
	}
	if !found {
		return nil, malformed(name, "no signature of scheme "+strings.TrimSuffix(scheme, ","))
	}
	return given, nil
}

// hexSignature appends the MAC of a header's value to given.
func hexSignature(given [][]byte, name, v string) ([][]byte, error) {
	enc, ok := strings.CutPrefix(v, hexPrefix)
	if !ok || len(enc) != hexLen {
		return nil, malformed(name, "is not sha256= and 64 digits of hex")
	}
	sum, err := hex.DecodeString(enc)
	if err != nil {
		return nil, malformed(name, "is not sha256= and 64 digits of hex")
	}
	return append(given, sum), nil
}

func malformed(header, detail string) *Error {
	return &Error{Check: WellFormed, Header: header, detail: detail}
}

func stale(skew, tolerance time.Duration) *Error {
	where := "past"
	if skew > 0 {
		where = "future"
	}
	return &Error{Check: Fresh, Skew: skew, detail: fmt.Sprintf(
		"timestamp is %d s in the %s, more than the %d s that are tolerated",
		int64(skew.Abs()/time.Second), where, int64(tolerance/time.Second))}
}
