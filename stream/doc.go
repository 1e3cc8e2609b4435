// Package stream is the durable log of events: one JetStream stream per
// organization, and nothing above it.
//
// # The model
//
// An organization ("org") has one stream, EVENTS_<org>, that binds the
// subjects events.<org>.>. What the stream stores is a [Message]: a sequence
// number, the moment it was stored, the publisher's headers and a payload.
// [Decoding.Decode] turns a Message into an [Event], or says with a
// [*Rejected] why it is none.
//
//	publisher ──▶ events.acme.invoice.paid ──▶ EVENTS_acme: 1 2 3 4 5 …
//	                                               │            │
//	                      wake.acme.invoice.paid ◀─┘            └─▶ Read(after 3)
//
// # What may be believed
//
//   - A sequence names a message only together with its stream's creation time:
//     a stream can be deleted and made anew, or rolled back by a power cut.
//     [State] carries both; package cursor draws the conclusions.
//   - Headers that the server adds come after those of the publisher, so only
//     the last value of each is the server's. [Message.Header] holds the
//     publisher's alone.
//   - A wake-up is a hint. It may be early, late, doubled or lost; whoever
//     waits for one also sweeps.
//   - The identity of an event ([ID]) is made from what the publisher calls it,
//     never from its sequence alone, so it outlives stream and database.
//
// This package is the only importer of nats.go in production code.
package stream
