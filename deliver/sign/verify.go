package sign

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// DefaultTolerance is how far the timestamp may be from now, either way.
const DefaultTolerance = 5 * time.Minute

// maxSignatures bounds how many signatures of one request are looked at.
const maxSignatures = 32

// Check names one of the checks of [Verify].
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

// Verify checks that the headers and the raw body of a request were signed with
// one of the secrets, by a sender whose clock is at most tolerance from now
// (0: [DefaultTolerance]). An error is always an [*Error]. Without secrets
// nothing is authentic.
func Verify(secrets []Secret, header http.Header, body []byte, now time.Time, tolerance time.Duration) error {
	id, err := single(header, HeaderID)
	if err != nil {
		return err
	}
	stamp, err := single(header, HeaderTimestamp)
	if err != nil {
		return err
	}
	sigs, err := single(header, HeaderSignature)
	if err != nil {
		return err
	}
	if strings.Contains(id, ".") {
		return malformed(HeaderID, "the id holds a '.'")
	}
	at, ok := unixSeconds(stamp)
	if !ok {
		return malformed(HeaderTimestamp, "the timestamp is not in unix seconds")
	}
	if tolerance <= 0 {
		tolerance = DefaultTolerance
	}
	if skew := at.Sub(now); skew > tolerance || skew < -tolerance {
		return stale(skew, tolerance)
	}
	given, err := parseSignatures(sigs)
	if err != nil {
		return err
	}
	head := make([]byte, 0, len(id)+len(stamp)+2)
	head = append(append(append(append(head, id...), '.'), stamp...), '.')
	match := false
	for _, s := range secrets {
		if s.IsZero() {
			continue
		}
		macs := &s.state().macs
		m := macs.Get().(*mac)
		want := m.sum(head, body)
		for i := range given { // all of them, so that time tells nothing
			match = hmac.Equal(given[i][:], want) || match
		}
		macs.Put(m)
	}
	if !match {
		return &Error{Check: Authentic, detail: "no signature matches: another secret, or the body was changed"}
	}
	return nil
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

// parseSignatures decodes the v1 signatures of a header's value. Signatures of
// other schemes, and those that do not decode to a whole MAC, are passed over: an empty
// or shortened one never matches. A value without any v1 signature is
// malformed.
func parseSignatures(v string) ([][sha256.Size]byte, error) {
	var out [][sha256.Size]byte
	seen, v1 := 0, false
	for sig := range strings.SplitSeq(v, " ") {
		if seen++; seen > maxSignatures {
			return nil, malformed(HeaderSignature, fmt.Sprintf("more than %d signatures", maxSignatures))
		}
		enc, ok := strings.CutPrefix(sig, scheme)
		if !ok {
			continue
		}
		v1 = true
		var mac [sha256.Size + 1]byte // Decode may write one byte beyond
		if len(enc) != SignatureLen-len(scheme) {
			continue
		}
		n, err := base64.StdEncoding.Strict().Decode(mac[:], []byte(enc))
		if err != nil || n != sha256.Size {
			continue
		}
		out = append(out, [sha256.Size]byte(mac[:]))
	}
	if !v1 {
		return nil, malformed(HeaderSignature, "no signature of scheme v1")
	}
	return out, nil
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
