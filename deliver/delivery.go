package deliver

import (
	"encoding/binary"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/grapnel-hooks/grapnel/stream"
	"github.com/oklog/ulid/v2"
)

// Key names a delivery in the books: the event first, then the endpoint, both
// as the integers the books gave them. Event numbers ascend in the order of
// commits; within one organization that is the order of the stream.
type Key struct {
	Event    int64
	Endpoint int64
}

// maxEvent and maxEndpoint bound the parts of a Key so that both fit the 80
// bits that a ULID has beside its time.
const (
	maxEvent    = 1<<44 - 1
	maxEndpoint = 1<<36 - 1
)

// ID is the delivery's public id: dlv_ and a ULID whose time is when the stream
// stored the event and whose other 80 bits are the key. It costs the books
// nothing, since it can be read back with [ParseID].
func (k Key) ID(stored time.Time) string { return string(k.AppendID(nil, stored)) }

// AppendID appends what [Key.ID] returns to dst.
func (k Key) AppendID(dst []byte, stored time.Time) []byte {
	return appendULID(append(dst, "dlv_"...), k.ulid(stored))
}

// AttemptID is the public id of the attempt that started then: att_ and a ULID.
// A delivery has at most one attempt at a time, so time and key name it.
func (k Key) AttemptID(started time.Time) string { return "att_" + k.ulid(started).String() }

func (k Key) ulid(t time.Time) ulid.ULID {
	var u ulid.ULID
	if err := u.SetTime(uint64(max(t.UnixMilli(), 0))); err != nil {
		panic(err) // the year 10889
	}
	hi := uint64(k.Event&maxEvent)<<20 | uint64(k.Endpoint&maxEndpoint)>>16
	binary.BigEndian.PutUint64(u[6:], hi)
	binary.BigEndian.PutUint16(u[14:], uint16(k.Endpoint))
	return u
}

func appendULID(dst []byte, u ulid.ULID) []byte {
	dst = append(dst, make([]byte, ulid.EncodedSize)...)
	u.MarshalTextTo(dst[len(dst)-ulid.EncodedSize:]) // fails only for want of room
	return dst
}

// ParseID reads back the key from a delivery's public id.
func ParseID(s string) (Key, error) {
	rest, ok := strings.CutPrefix(s, "dlv_")
	if !ok {
		return Key{}, fmt.Errorf("delivery id %q: want dlv_ and 26 characters", s)
	}
	u, err := ulid.ParseStrict(rest)
	if err != nil {
		return Key{}, fmt.Errorf("delivery id %q: want dlv_ and a ULID", s)
	}
	hi := binary.BigEndian.Uint64(u[6:])
	lo := binary.BigEndian.Uint16(u[14:])
	return Key{
		Event:    int64(hi >> 20),
		Endpoint: int64(hi&(1<<20-1))<<16 | int64(lo),
	}, nil
}

// State is where a delivery stands. The numbers are stored.
type State int

const (
	Pending   State = 0
	Delivered State = 1
	Dead      State = 2
	Cancelled State = 3
)

var stateNames = [...]string{"pending", "delivered", "dead", "cancelled"}

func (s State) String() string {
	if s < 0 || int(s) >= len(stateNames) {
		return fmt.Sprintf("state(%d)", int(s))
	}
	return stateNames[s]
}

// ParseState reads a State as String writes it.
func ParseState(s string) (State, error) {
	for i, n := range stateNames {
		if n == s {
			return State(i), nil
		}
	}
	return 0, fmt.Errorf("state %q: want one of %s", s, strings.Join(stateNames[:], ", "))
}

// Reason says why a delivery is dead or cancelled. The numbers are stored.
type Reason int

const (
	NoReason        Reason = 0
	Exhausted       Reason = 1 // its attempts are used up
	Gone            Reason = 2 // the receiver answered 410
	EndpointDeleted Reason = 3
	PayloadLost     Reason = 4 // the stream no longer had the event when its first attempt came
	Poison          Reason = 5 // handling it failed by our own fault, time and again
	Blocked         Reason = 6 // the endpoint's address is not allowed
	ByHand          Reason = 7 // somebody cancelled it
)

var reasonNames = [...]string{"", "exhausted", "gone", "endpoint_deleted", "payload_lost", "poison", "blocked", "manual"}

func (r Reason) String() string {
	if r < 0 || int(r) >= len(reasonNames) {
		return fmt.Sprintf("reason(%d)", int(r))
	}
	return reasonNames[r]
}

// Trigger says what made an attempt happen. The numbers are stored.
type Trigger int

const (
	First  Trigger = 0
	Retry  Trigger = 1
	Manual Trigger = 2
	Replay Trigger = 3
	Test   Trigger = 4
)

var triggerNames = [...]string{"first", "retry", "manual", "replay", "test"}

func (t Trigger) String() string {
	if t < 0 || int(t) >= len(triggerNames) {
		return fmt.Sprintf("trigger(%d)", int(t))
	}
	return triggerNames[t]
}

// Class sorts outcomes. The numbers are stored.
type Class int

const (
	OK             Class = 0  // a 2xx
	HTTP4xx        Class = 1  // 4xx
	HTTP5xx        Class = 2  // 5xx, and anything else that is no legal answer to a POST
	Redirect       Class = 3  // 3xx: never followed
	Timeout        Class = 4  // the deadline passed, wherever the request was
	DNS            Class = 5  // the name did not resolve
	Connect        Class = 6  // refused, unreachable
	TLS            Class = 7  // handshake or certificate
	Reset          Class = 8  // the connection broke, or what came was not HTTP
	BlockedAddress Class = 9  // the guard refused the address
	Ours           Class = 10 // our own fault: shutdown, store, descriptors. Not counted
)

var classNames = [...]string{"ok", "http_4xx", "http_5xx", "redirect", "timeout", "dns", "connect", "tls", "reset", "blocked", "ours"}

func (c Class) String() string {
	if c < 0 || int(c) >= len(classNames) {
		return fmt.Sprintf("class(%d)", int(c))
	}
	return classNames[c]
}

// Outcome is what came of one request.
type Outcome struct {
	Class      Class
	Status     int           // HTTP status code; 0 if none came
	Duration   time.Duration // from before the dial to the end of what was read
	RetryAfter time.Duration // what the receiver asked for (429, 503); 0 if nothing, at most 24 h
	Header     http.Header   // the selected response headers, nil if none
	Body       []byte        // the first 4 KiB of the response body
	Truncated  bool          // there was more body than was kept
	Error      string        // for people: why there was no answer; without secrets or addresses
	Timings    Timings
	// Address is the receiver's, "203.0.113.7:443", for operators only; "" if
	// none was reached, or if an egress proxy knows it.
	Address string
	// TraceParent is the context of the attempt's span, for logs; "" if nothing is
	// traced. The books do not keep it.
	TraceParent string
}

// Timings is where the time of a request went. Zero is a part that it did not
// have, or did not come to the end of.
type Timings struct {
	DNS       time.Duration // the resolution of the name
	Connect   time.Duration // TCP, over all addresses that were tried; with an egress proxy, all until there was a tunnel
	TLS       time.Duration // the handshake
	FirstByte time.Duration // from having the connection to the first byte of the answer
	Reused    bool          // the connection was there already, so that DNS, Connect and TLS are 0
}

// Attempt is one request as the books keep it.
type Attempt struct {
	Number  int // from 1, over the whole life of the delivery
	Trigger Trigger
	Started time.Time
	// Revision is the endpoint's, by which the request was made; 0: none was.
	Revision int64
	Outcome
}

// Payload is one event ready to be sent. It is made once per event and shared
// by all its deliveries; nobody changes it.
type Payload struct {
	Event       int64 // its number in the books
	ID          stream.ID
	Org         string
	Type        string
	TraceParent string
	Stored      time.Time // when the stream stored it
	FannedOut   time.Time // when fan-out handed it over; zero if it comes from the books or the stream
	Body        []byte    // the body in the format "standard", exactly as signed and sent

	queued atomic.Int32 // tickets in memory that wait with it
}

// Delivery is one row of the books, as lists show it.
type Delivery struct {
	Key
	Org       string
	Endpoint  string // ep_…
	EventID   stream.ID
	Type      string
	Seq       stream.Seq
	State     State
	Reason    Reason
	Attempts  int
	Due       time.Time // when pending: not before this; zero means at once
	Held      bool      // when pending: it waits for others that come before it in order
	Stored    time.Time // when the stream stored the event; names the delivery, see Key.ID
	FannedOut time.Time // when the delivery was committed
}
