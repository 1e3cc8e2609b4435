package stream

import "fmt"

// Payload is what an organization's publishers put into a message.
type Payload string

const (
	PayloadData     Payload = "data"     // the payload is the event's data
	PayloadEnvelope Payload = "envelope" // the payload is {"event","data","timestamp","service"}
)

// ParsePayload reads a Payload; the empty string is PayloadData.
func ParsePayload(s string) (Payload, error) {
	switch p := Payload(s); p {
	case "":
		return PayloadData, nil
	case PayloadData, PayloadEnvelope:
		return p, nil
	}
	return "", fmt.Errorf("payload %s: want data or envelope", clip(s))
}

// Limits of what is decoded.
const (
	DefaultMaxData = 256 << 10 // bytes of an event's data
	MaxDepth       = 64        // arrays and objects inside each other, in an event's data
)

// Decoding is how one organization's messages become events.
type Decoding struct {
	Org      string
	Payload  Payload // "": PayloadData
	Names    Names
	Subjects []string // extra subjects that the stream binds, such as webhook.>
	MaxData  int      // bytes of an event's data; 0: DefaultMaxData
}

// Decode turns a message into an event. The error is always a *Rejected.
func (d Decoding) Decode(m Message) (Event, error) {
	return Event{}, reject(CodeBadSubject, "no")
}
