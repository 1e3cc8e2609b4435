package cursor

import (
	"context"
	"fmt"
	"time"

	"github.com/grapnel-hooks/grapnel/stream"
)

// DefaultMax is how many messages Next reads when Options names no number.
const DefaultMax = 256

// Overlap is how far before the anchor reading goes on in a stream that was
// rolled back (see [Next]).
const Overlap = time.Hour

// Options say how Next reads.
type Options struct {
	// Max is how many messages a batch has at most; 0: DefaultMax.
	Max int
	// Verify makes Next ask first whether the stream is still the one that the
	// position was taken from. Without it Next trusts that: it may be left out
	// only while nothing can have happened to the stream, so ask for it at
	// start, after each reconnect, and from time to time.
	Verify bool
	// Furthest is how far the stream was read before the position was moved
	// back, in the same incarnation; the zero Position, or one that is not
	// ahead, when it was not.
	Furthest Position
	// Installation is whose books the position is in: with Verify, a stream that
	// carries another's mark is not read. "": no mark is minded.
	Installation string
}

// Next reads the batch that follows the position. It stores nothing: the caller
// commits batch.To with the batch's effects, and asks again from there.
//
// A position that was never read (its Created is zero) takes the identity of
// the stream that is there and begins at its first message; what the stream
// lost before is no gap. Later, sequences that the stream no longer has are a
// [Gap] if they lie before its first one.
//
// With Verify, or when it comes upon missing sequences, Next compares the
// stream with the position:
//
//   - Another creation time: [Recreated], a new incarnation from the stream's
//     first message on.
//   - The same creation time, but the stream ends before the position, or the
//     message there is another one (stored at another time than the anchor
//     says, or with another hash): [Regressed], a new incarnation that goes on
//     from what is there.
//   - No message at the position any more: the same stream. Messages may go.
//
// A regressed stream has kept its messages up to some unknown sequence, which
// were read before, and may have stored new ones after it, under sequences that
// were read before too. Going on at the stream's end would lose the new ones.
// Beginning again at its first message would bring back old ones whose
// deliveries the books have long forgotten, and hand them to endpoints that
// subscribed after them. But everything that was read is as old as the anchor
// or older, and everything new is younger, since it was stored after the
// roll-back. So reading goes on with the first message that was stored less
// than [Overlap] before the anchor: the overlap forgives a clock that is behind
// after the power cut, and events in it are recognised by their id. Without an
// anchor reading begins at the first message. A clock that is behind by more
// than the overlap can hide new events; reading the stream again against the
// books finds them.
//
// Errors wrap [stream.ErrNoStream] and [stream.ErrUnavailable] as log's do, and a
// *[stream.ForeignError] when the stream is read for another installation.
//
// A position that was moved back has less to be recognised by than the furthest
// place: a stream rolled back to somewhere between the two looks as it should
// from the position. Therefore both are compared with the stream, and a batch
// never reaches over the furthest place: it is read again, or it is new.
func Next(ctx context.Context, log Log, at Position, o Options) (Batch, error) {
	if far := o.Furthest; far.Incarnation == at.Incarnation && far.Seq > at.Seq {
		return again(ctx, log, at, o)
	}
	r := reading{log: log, from: at, max: o.Max, installation: o.Installation}
	if r.max <= 0 {
		r.max = DefaultMax
	}
	if !o.Verify && !at.Created.IsZero() {
		b, ok, err := r.trusting(ctx)
		if err != nil || ok {
			return b, err
		}
	}
	// The stream can be replaced between the questions; the answers count only
	// if it was the same one before and after them.
	const tries = 3
	for range tries {
		b, ok, err := r.verified(ctx)
		if err != nil || ok {
			return b, err
		}
	}
	return Batch{}, fmt.Errorf("read %s after %d: the stream was replaced %d times meanwhile: %w",
		at.Stream, at.Seq, tries, stream.ErrUnavailable)
}

// again is Next for a position that is behind the furthest one.
func again(ctx context.Context, log Log, at Position, o Options) (Batch, error) {
	far := o.Furthest
	b, err := Next(ctx, log, at, Options{Max: o.Max, Verify: o.Verify, Installation: o.Installation})
	if err != nil {
		return b, err
	}
	if o.Verify || b.Change != Same {
		ahead, err := Next(ctx, log, far, Options{Max: o.Max, Verify: true, Installation: o.Installation})
		if err != nil || ahead.Change != Same {
			ahead.From = at
			return ahead, err
		}
	}
	if b.Change != Same {
		return b, nil
	}
	return b.upTo(far), nil
}

// upTo is the part of the batch that was read again.
func (b Batch) upTo(far Position) Batch {
	b.Again = true
	if b.To.Seq <= far.Seq {
		return b
	}
	n := len(b.Messages)
	for n > 0 && b.Messages[n-1].Seq > far.Seq {
		n--
	}
	b.Messages, b.To, b.More = b.Messages[:n], far, true
	for i := range b.Gaps {
		b.Gaps[i].To = min(b.Gaps[i].To, far.Seq)
	}
	return b
}

// reading is one call of Next.
type reading struct {
	log  Log
	from Position
	max  int

	installation string
}

// trusting reads on without a question. It is not ok when the answer begins with
// missing sequences, which only the stream's state can explain.
func (r reading) trusting(ctx context.Context) (Batch, bool, error) {
	at := r.from
	msgs, last, err := r.read(ctx, at.Seq+1, r.max)
	if err != nil {
		return Batch{}, false, err
	}
	if len(msgs) > 0 && msgs[0].Seq != at.Seq+1 {
		return Batch{}, false, nil
	}
	return r.batch(at, Same, msgs, last), true, nil
}

// verified reads after it has compared the stream with the position. It is not
// ok when the stream was replaced meanwhile.
func (r reading) verified(ctx context.Context) (Batch, bool, error) {
	before, err := r.state(ctx)
	if err != nil {
		return Batch{}, false, err
	}
	p, err := r.place(ctx, before)
	if err != nil {
		return Batch{}, false, err
	}
	msgs, last := p.msgs, p.last
	if !p.read && before.Last > p.to.Seq {
		if msgs, last, err = r.read(ctx, p.to.Seq+1, r.max); err != nil {
			return Batch{}, false, err
		}
	}
	after := before
	if p.read || len(msgs) > 0 {
		if after, err = r.state(ctx); err != nil {
			return Batch{}, false, err
		}
		if !after.Created.Equal(before.Created) || after.Last < before.Last {
			return Batch{}, false, nil
		}
	}
	b := r.batch(p.to, p.change, msgs, max(last, after.Last))
	if first := firstAvailable(after, msgs); first > p.to.Seq+1 {
		b.Gaps = []Gap{{Incarnation: p.to.Incarnation, From: p.to.Seq + 1, To: first - 1}}
		if len(msgs) == 0 { // the position goes over the gap
			b.To.standBefore(first, after)
		}
	}
	return b, true, nil
}

// place is where reading goes on, and what was read on the way to knowing it.
type place struct {
	to     Position
	change Change
	read   bool // msgs and last are what follows to
	msgs   []stream.Message
	last   stream.Seq
}

// place compares the stream with the position.
func (r reading) place(ctx context.Context, s stream.State) (place, error) {
	to := r.from
	switch {
	case to.Created.IsZero():
		to.Created = s.Created
		to.Incarnation = max(to.Incarnation, 1)
		if to.Seq = min(to.Seq, s.Last); to.Seq == 0 {
			to.standBefore(s.First, s)
		}
		return place{to: to}, nil
	case !to.Created.Equal(s.Created):
		to.Created = s.Created
		to.Incarnation++
		to.standBefore(s.First, s)
		return place{to: to, change: Recreated}, nil
	case s.Last < to.Seq:
		return r.regressed(ctx, s)
	case to.Seq == 0 || to.Seq < s.First || to.Anchor.IsZero() && to.Hash == 0:
		return place{to: to}, nil // nothing to compare with
	}
	idle, most := s.Last == to.Seq, r.max+1
	if idle {
		most = 1
	}
	msgs, last, err := r.read(ctx, to.Seq, most)
	switch {
	case err != nil:
		return place{}, err
	case len(msgs) == 0 || msgs[0].Seq != to.Seq: // the anchor's message is gone
		return place{to: to, read: true, msgs: msgs[:min(len(msgs), r.max)], last: last}, nil
	case !to.fits(msgs[0]):
		return r.regressed(ctx, s)
	}
	to.StandAt(msgs[0]) // books of an earlier version have no hash
	if idle {
		return place{to: to}, nil // the usual: nothing has happened
	}
	return place{to: to, read: true, msgs: msgs[1:], last: last}, nil
}

// regressed finds where reading goes on in a stream that was rolled back: after
// the last message that is certainly old. The times in a stream ascend, so it is
// found by halving.
func (r reading) regressed(ctx context.Context, s stream.State) (place, error) {
	to := r.from
	to.Incarnation++
	to.standBefore(s.First, s)
	if r.from.Anchor.IsZero() {
		return place{to: to, change: Regressed}, nil
	}
	old := r.from.Anchor.Add(-Overlap) // stored until then: read before the roll-back
	for end := s.Last + 1; to.Seq+1 < end; {
		mid := to.Seq + 1 + (end-to.Seq-1)/2
		msgs, _, err := r.read(ctx, mid, 1)
		if err != nil {
			return place{}, err
		}
		if len(msgs) > 0 && !msgs[0].Time.After(old) {
			to.StandAt(msgs[0])
		} else {
			end = mid
		}
	}
	return place{to: to, change: Regressed}, nil
}

func (r reading) batch(to Position, change Change, msgs []stream.Message, last stream.Seq) Batch {
	b := Batch{From: r.from, To: to, Change: change, Messages: msgs, Last: last}
	if n := len(msgs); n > 0 {
		b.To.StandAt(msgs[n-1])
		b.More = b.Last > b.To.Seq
	}
	b.Last = max(b.Last, b.To.Seq)
	return b
}

func (r reading) state(ctx context.Context) (stream.State, error) {
	s, err := r.log.State(ctx, r.from.Stream)
	if err != nil {
		return s, fmt.Errorf("compare %s with its cursor at %d: %w", r.from.Stream, r.from.Seq, err)
	}
	return s, s.Foreign(r.installation)
}

func (r reading) read(ctx context.Context, from stream.Seq, max int) ([]stream.Message, stream.Seq, error) {
	msgs, last, err := r.log.Read(ctx, r.from.Stream, from, max)
	if err != nil {
		return nil, 0, fmt.Errorf("read %s from %d: %w", r.from.Stream, from, err)
	}
	return msgs, last, nil
}

// standBefore puts the position before seq, where no message is to be read. If
// the stream has stored nothing since, it still says when what was there was
// stored, which is an anchor too.
func (p *Position) standBefore(seq stream.Seq, s stream.State) {
	p.Seq, p.Anchor, p.Hash = max(seq, 1)-1, time.Time{}, 0
	if p.Seq == s.Last {
		p.Anchor = s.LastTime
	}
}

// firstAvailable is the first sequence that could still be read: messages that
// were read and have gone since were available.
func firstAvailable(s stream.State, msgs []stream.Message) stream.Seq {
	if len(msgs) > 0 {
		return min(s.First, msgs[0].Seq)
	}
	return s.First
}

// Lag is how many messages the stream still has after the position; where the
// stream was replaced it is a guess. Holes can make it too high by as many as
// there are, never too low.
func Lag(p Position, s stream.State) uint64 {
	after := max(p.Seq, max(s.First, 1)-1)
	if s.Last <= after {
		return 0
	}
	return min(uint64(s.Last-after), s.Messages)
}
