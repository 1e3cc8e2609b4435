// Package cursor is the durable place in one organization's stream: how far
// fan-out has read, and whether that place still means what it meant.
//
// # The model
//
// A [Position] is a sequence, the identity of the stream it belongs to
// (creation time, and an incarnation counted by us) and the fingerprint of the
// message at that sequence: when it was stored, and a hash of what it says. [Next] reads the batch that follows a
// Position and returns the Position after it. It stores nothing: the caller
// commits the new Position in the same transaction as what the batch caused.
//
//	Position 3 ──Next──▶ Batch{4 5 6, Gaps, Change} ──commit──▶ Position 6
//
// # Invariants
//
//   - A Position moves forward only, except into a new incarnation, or when
//     somebody moves it back to have a part of the stream read again.
//   - Sequences that the stream no longer had when the cursor came are in
//     [Batch.Gaps]; holes between messages that are there are normal (a message
//     can be deleted by itself) and are not gaps.
//   - A stream that is not the one the Position was taken from is noticed
//     ([Change]), never read as if nothing had happened: a new creation time is
//     a stream made anew and read from its first sequence; the same creation time with
//     another message at the position, or with an end before it, is a stream
//     rolled back, and reading goes on from what is there.
package cursor

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/grapnel-hooks/grapnel/stream"
)

// Position is how far one organization's stream has been fanned out.
type Position struct {
	Org         string
	Stream      string     // its name, EVENTS_<org>
	Created     time.Time  // the stream's creation time; zero before the first read
	Incarnation int        // from 1; counts the streams (and rolled-back states) of this name that we have read
	Seq         stream.Seq // fanned out up to here, inclusive
	Anchor      time.Time  // when the message at Seq was stored; zero if there was none
	Hash        uint64     // of the message at Seq, see [Hash]; 0 if there was none, or it is not known
}

// StandAt puts the position on a message.
func (p *Position) StandAt(m stream.Message) {
	p.Seq, p.Anchor, p.Hash = m.Seq, m.Time, Hash(m)
}

// fits reports whether the message may be the one that the position stands on.
func (p *Position) fits(m stream.Message) bool {
	return (p.Anchor.IsZero() || p.Anchor.Equal(m.Time)) && (p.Hash == 0 || p.Hash == Hash(m))
}

// Hash is the part of a message's fingerprint that does not depend on a clock: 64
// bits of the SHA-256 of its subject and its data, never 0. The headers are left
// out, since one block of headers can be read in two ways (see package stream).
func Hash(m stream.Message) uint64 {
	h := sha256.New()
	h.Write([]byte(m.Subject))
	h.Write([]byte{0}) // no subject has it
	h.Write(m.Data)
	return max(binary.BigEndian.Uint64(h.Sum(nil)), 1)
}

// Change says how the stream differs from the one a Position was taken from.
type Change int

const (
	Same      Change = iota
	Recreated        // another creation time: deleted and made anew
	Regressed        // same creation time, but the message at the position is gone or another: rolled back
)

// Gap is a range of sequences that the stream no longer had when the cursor
// came to it, From and To inclusive.
type Gap struct {
	Incarnation int
	From, To    stream.Seq
}

// Count is how many sequences the gap spans.
func (g Gap) Count() uint64 { return uint64(g.To-g.From) + 1 }

// Batch is what follows a Position.
type Batch struct {
	From     Position // what was asked
	To       Position // what to commit together with the effects of Messages
	Change   Change   // whether To is in another incarnation than From
	Gaps     []Gap
	Messages []stream.Message // ascending, all in To's incarnation
	Last     stream.Seq       // the newest sequence of the stream that this read knows of
	More     bool             // there is more to read right now
	// Again: the position was moved back, and all of the batch lies at or before
	// the furthest place that it had been at (see Options.Furthest). What is in
	// Gaps then was there once, and was read.
	Again bool
}

// Empty reports whether committing the batch would change nothing.
func (b Batch) Empty() bool { return len(b.Messages) == 0 && b.To == b.From && len(b.Gaps) == 0 }

// Log is the part of package stream that a cursor reads.
//
// Implementations are safe for concurrent use. Errors wrap
// [stream.ErrNoStream] when the stream does not exist, and
// [stream.ErrUnavailable] when the broker does not answer.
type Log interface {
	// State asks the stream about itself.
	State(ctx context.Context, name string) (stream.State, error)
	// Read returns up to max messages with a sequence of from or more,
	// ascending and complete: no message between the first and the last
	// returned was left out. It may return fewer than there are. last is the newest
	// sequence known to the read, 0 if it learned none; no messages with a nil
	// error means that nothing at or after from was readable.
	Read(ctx context.Context, name string, from stream.Seq, max int) (msgs []stream.Message, last stream.Seq, err error)
}
