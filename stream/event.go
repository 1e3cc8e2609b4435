package stream

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
)

// Seq is the place of a message in its stream, from 1. Zero means "before the
// first".
type Seq uint64

// Message is one stored message, as the stream holds it.
type Message struct {
	Subject string
	Seq     Seq
	Time    time.Time // when the stream stored it, to the nanosecond, UTC
	Header  Header    // the publisher's headers, without those the server adds
	Data    []byte    // the payload; empty is legal
}

// Header is a message's headers. Names keep the spelling of the publisher.
type Header map[string][]string

// Get returns the first value of the named header, or "". Names are compared
// without regard to case, since publishers come from HTTP as well as from NATS.
func (h Header) Get(name string) string {
	if v := h[name]; len(v) > 0 { // the usual spelling, without a search
		return v[0]
	}
	for k, v := range h {
		if len(v) > 0 && strings.EqualFold(k, name) {
			return v[0]
		}
	}
	return ""
}

// State is what a stream says of itself.
type State struct {
	Name     string
	Created  time.Time // its identity: differs after delete and create
	First    Seq       // of the oldest message; Last+1 when it is empty
	Last     Seq       // of the newest message ever stored
	LastTime time.Time // when Last was stored; zero when nothing was
	Messages uint64
	Bytes    uint64
	Subjects []string
	// Installation is the id of the books that the stream is marked as read for;
	// "": it has no mark.
	Installation string
}

// Event is one fact that a service appended for an organization, decoded.
type Event struct {
	ID            ID
	Org           string
	Seq           Seq
	Stored        time.Time // when the stream stored it
	Type          string    // invoice.paid
	Time          time.Time // when it happened, as the publisher says; else Stored
	Workspace     string    // "": an organization-level event
	SchemaVersion string    // "1" unless said otherwise
	Source        string    // the service that wrote it, or ""
	DedupeKey     string    // what the publisher calls it, or ""
	TraceParent   string    // W3C trace context, or ""
	TraceState    string
	Data          json.RawMessage // valid JSON, byte for byte as it was appended
}

// ID is the identity of an event: the same fact has the same ID for ever, also
// after the loss of the database. As text it is "evt_" and 26 characters of
// Crockford base32 (contract, section 1).
type ID [16]byte

// KeyID is the ID of the event that its publisher calls key.
func KeyID(org, key string) ID {
	h := sha256.New()
	fmt.Fprintf(h, "grapnel/event/key\x00%s\x00%s", org, key)
	return ID(h.Sum(nil)[:16])
}

// SeqID is the ID of an event that its publisher gave no name: the message at
// seq that the org's stream stored at that nanosecond.
func SeqID(org string, seq Seq, stored time.Time) ID {
	h := sha256.New()
	fmt.Fprintf(h, "grapnel/event/seq\x00%s\x00", org)
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(seq))
	binary.BigEndian.PutUint64(b[8:], uint64(stored.UnixNano()))
	h.Write(b[:])
	return ID(h.Sum(nil)[:16])
}

// String is the ID as users see it: evt_01ARZ3….
func (id ID) String() string { return "evt_" + ulid.ULID(id).String() }

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ID) UnmarshalText(b []byte) error {
	v, err := ParseID(string(b))
	if err == nil {
		*id = v
	}
	return err
}

// ParseID reads an ID as String writes it.
func ParseID(s string) (ID, error) {
	rest, ok := strings.CutPrefix(s, "evt_")
	if !ok {
		return ID{}, fmt.Errorf("event id %q: want evt_ and 26 characters", s)
	}
	u, err := ulid.ParseStrict(rest)
	if err != nil {
		return ID{}, fmt.Errorf("event id %q: want evt_ and 26 characters of Crockford base32", s)
	}
	return ID(u), nil
}
