package stream

import (
	"crypto/sha256"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// fromEnvelope reads the service envelope (contract, section 2):
//
//	{"event":"invoice.paid","data":{…},"timestamp":1763719200,"service":"billing"}
//
// event must be the subject's type, data is the event's data; timestamp and
// service may be absent. Members with other names are ignored.
func (d Decoding) fromEnvelope(ev *Event, b []byte) *Rejected {
	if rej := d.checkWrapped(b); rej != nil {
		return rej
	}
	v, twice, ok := pick(b, "event", "data", "timestamp", "service")
	if !ok {
		return reject(CodeBadEnvelope, `the payload is not an object: send {"event","data","timestamp","service"}`)
	}
	if twice != "" {
		return reject(CodeBadEnvelope, "the envelope has %q twice: send it once", twice)
	}
	event, data, timestamp, service := v[0], v[1], v[2], v[3]

	name, ok := text(event)
	if !ok {
		return reject(CodeBadEnvelope, `the envelope lacks "event": send the event's type there, as a string`)
	}
	if name != ev.Type {
		return mismatch("the envelope's event", name, ev.Type)
	}
	if data == nil {
		return reject(CodeBadEnvelope, `the envelope lacks "data": send the event's data there`)
	}
	if !absent(service) {
		if ev.Source, ok = text(service); !ok || len(ev.Source) > maxSource || !printable(ev.Source) {
			return reject(CodeBadEnvelope, `the envelope's "service" is not a string of at most %d printable bytes`, maxSource)
		}
	}
	if !absent(timestamp) {
		if ev.Time, ok = unixTime(string(timestamp)); !ok {
			return reject(CodeBadEnvelope, `the envelope's "timestamp" %s is not a time in unix seconds: send a number of seconds`, clip(string(timestamp)))
		}
		ev.DedupeKey = EnvelopeKey(ev.Type, data, ev.Time)
	}
	return d.setMember(ev, data)
}

// EnvelopeKey is the dedupe key of an event that came as {"event","data","timestamp"}
// without one: what such publishers promise to be unique: event, data.id and
// timestamp, as invoice.paid/in_1/1763719200. It is "" when the data has no id.
// An id that a dedupe key cannot hold goes in as its SHA-256.
func EnvelopeKey(event string, data []byte, at time.Time) string {
	v, _, ok := pick(data, "id")
	if !ok || absent(v[0]) {
		return ""
	}
	id, ok := text(v[0])
	if !ok {
		if id = string(v[0]); strings.IndexByte("-0123456789", id[0]) < 0 {
			return "" // neither a string nor a number
		}
	}
	if id == "" {
		return ""
	}
	stamp := strconv.FormatInt(at.Unix(), 10)
	if ns := at.Nanosecond(); ns != 0 {
		stamp += "." + strings.TrimRight(fmt.Sprintf("%09d", ns), "0")
	}
	key := event + "/" + id + "/" + stamp
	if CheckDedupeKey(key) != nil {
		key = fmt.Sprintf("%s/sha256:%x/%s", event, sha256.Sum256([]byte(id)), stamp)
	}
	return key
}

// unixTime reads a JSON number of seconds since 1970. Fractions count to the
// microsecond, where float64 still has them.
func unixTime(s string) (time.Time, bool) {
	if sec, err := strconv.ParseInt(s, 10, 64); err == nil {
		t := time.Unix(sec, 0).UTC()
		return t, sec > -1<<40 && sec < 1<<40 && validYear(t)
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(f) || math.Abs(f) >= 1<<40 { // a string, true, a huge number, …
		return time.Time{}, false
	}
	sec, frac := math.Modf(f)
	t := time.Unix(int64(sec), int64(math.Round(frac*1e6))*1e3).UTC()
	return t, validYear(t)
}

func mismatch(what, got, want string) *Rejected {
	return reject(CodeTypeMismatch, "%s is %s, the subject says %s: send both alike", what, clip(got), clip(want))
}
