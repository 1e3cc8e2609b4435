package stream

import (
	"bytes"
	"fmt"
)

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
	return "", fmt.Errorf("payload %s: want %s or %s", clip(s), PayloadData, PayloadEnvelope)
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

// Decode turns a message into an event. The error is always a *[Rejected], and
// the same message gives the same result for ever. The event's Data is part of
// m.Data, not a copy.
//
// The type is what the subject says; a payload or header that names another is
// refused. What the payload is, the message says first and the organization
// second:
//
//	Content-Type: application/cloudevents+json   CloudEvents 1.0, structured
//	ce-specversion and other ce-*                CloudEvents 1.0, binary
//	Grapnel-Payload: data | envelope             so
//	none of them                                 d.Payload
//
// Where several places say the same thing, NATS's and Grapnel's headers win
// over CloudEvents attributes, and those over the envelope.
func (d Decoding) Decode(m Message) (Event, error) {
	ev := Event{Org: d.Org, Seq: m.Seq, Stored: m.Time, Time: m.Time.UTC(), SchemaVersion: "1"}
	var rej *Rejected
	if ev.Type, rej = d.typ(m.Subject); rej != nil {
		return Event{}, rej
	}
	if rej := d.fill(&ev, m); rej != nil {
		return Event{}, rej
	}
	if ev.DedupeKey != "" {
		ev.ID = KeyID(d.Org, ev.DedupeKey)
	} else {
		ev.ID = SeqID(d.Org, m.Seq, m.Time)
	}
	return ev, nil
}

// typ is the type that the subject names.
func (d Decoding) typ(subject string) (string, *Rejected) {
	typ, ok := d.Names.Type(d.Org, subject)
	for i := 0; !ok && i < len(d.Subjects); i++ {
		typ, ok = bound(d.Subjects[i], subject)
	}
	if !ok {
		return "", reject(CodeBadSubject, "subject %s is not the organization's: append to %s",
			clip(subject), d.Names.Subject(d.Org, "<type>"))
	}
	if err := CheckType(typ); err != nil {
		return "", reject(CodeBadType, "%v", err)
	}
	return typ, nil
}

// fill puts what headers and payload say into ev.
func (d Decoding) fill(ev *Event, m Message) *Rejected {
	var k known
	if len(m.Header) > 0 {
		k = knownHeaders(m.Header)
	}
	structured, rej := k.structured()
	if rej != nil {
		return rej
	}
	payload := d.Payload
	switch s := k[hPayload]; {
	case s == "":
	case s != string(PayloadData) && s != string(PayloadEnvelope):
		return reject(CodeBadHeader, "%s %s: want %s or %s", HeaderPayload, clip(s), PayloadData, PayloadEnvelope)
	case s == string(PayloadEnvelope) && (structured || k.cloudEvent()):
		return reject(CodeBadHeader, "%s %s contradicts the message's CloudEvents headers: leave one out", HeaderPayload, s)
	default:
		payload = Payload(s)
	}

	body := bytes.Trim(m.Data, jsonSpace)
	switch {
	case structured:
		rej = d.fromStructured(ev, body)
	case k.cloudEvent():
		rej = d.fromBinary(ev, &k, body)
	case payload == PayloadEnvelope:
		rej = d.fromEnvelope(ev, body)
	default:
		rej = d.setData(ev, body)
	}
	if rej != nil {
		return rej
	}
	return k.apply(ev)
}

// setData takes b, of which nothing is known, as the event's data.
func (d Decoding) setData(ev *Event, b []byte) *Rejected {
	if rej := d.checkSize(b); rej != nil {
		return rej
	}
	if rej := checkJSON(b); rej != nil {
		return rej
	}
	return d.setMember(ev, b)
}

// setMember takes b, which was part of a JSON text, as the event's data.
func (d Decoding) setMember(ev *Event, b []byte) *Rejected {
	if rej := d.checkSize(b); rej != nil {
		return rej
	}
	if tooDeep(b, MaxDepth) {
		return rejectDepth()
	}
	ev.Data = b
	return nil
}

func (d Decoding) maxData() int {
	if d.MaxData <= 0 {
		return DefaultMaxData
	}
	return d.MaxData
}

func (d Decoding) checkSize(data []byte) *Rejected {
	if limit := d.maxData(); len(data) > limit {
		return reject(CodeTooLarge, "%d bytes of data, at most %d are allowed: send a reference instead", len(data), limit)
	}
	return nil
}

// checkWrapped says why b is not a JSON text that may wrap data. The limit is
// loose: base64 takes a third more, and members beside the data some.
func (d Decoding) checkWrapped(b []byte) *Rejected {
	const beside = 64 << 10
	if limit := 2*d.maxData() + beside; len(b) > limit {
		return reject(CodeTooLarge, "%d bytes of payload for at most %d of data: send a reference instead", len(b), d.maxData())
	}
	return checkJSON(b)
}
