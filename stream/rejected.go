package stream

import "fmt"

// Codes of rejection. They are stable: operators filter and count by them.
const (
	CodeBadSubject    = "bad_subject"    // the subject is none that the organization's stream should bind
	CodeBadType       = "bad_type"       // the subject's rest is no event type
	CodeBadHeader     = "bad_header"     // a header's value cannot be used, or two contradict
	CodeNotJSON       = "not_json"       // the payload, or the data in it, is not JSON
	CodeNotUTF8       = "not_utf8"       // JSON is UTF-8 (RFC 8259, section 8.1)
	CodeTooDeep       = "too_deep"       // more than MaxDepth arrays and objects inside each other
	CodeTooLarge      = "too_large"      // more data than the organization may send
	CodeBadEnvelope   = "bad_envelope"   // not the service envelope's form
	CodeBadCloudEvent = "bad_cloudevent" // not CloudEvents 1.0
	CodeTypeMismatch  = "type_mismatch"  // the payload or a header names another type than the subject
)

// Rejected says why a message is no event. It never stops a cursor: the message is
// recorded with it and stays in the stream.
type Rejected struct {
	Code   string // one of the Code constants
	Detail string // for people: what is wrong and what to do, at most a few hundred bytes
}

// Error is the code and the detail.
func (r *Rejected) Error() string { return r.Code + ": " + r.Detail }

func reject(code, format string, args ...any) *Rejected {
	return &Rejected{Code: code, Detail: fmt.Sprintf(format, args...)}
}
