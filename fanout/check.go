package fanout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/stream"
)

const (
	// checkBatch is how many messages one read of the stream asks for.
	checkBatch = 1000
	// batchesAhead is how many of them may wait for the check.
	batchesAhead = 4
	// maxSuspects is how many IDs are looked up together; more of them are looked
	// up sooner, and take no more memory.
	maxSuspects = 1 << 16
)

// Check proves one organization's books against its stream, and, with a
// ledger, against what its receivers saw. It writes nothing.
//
// It holds the books to the promise of the package comment: each sequence up
// to the position is, for each endpoint, exactly one of delivered, pending,
// dead, cancelled, not subscribed, a duplicate, rejected, gated or in a
// recorded gap. Besides: one delivery per pair; nothing booked beyond the
// position; nothing of another organization; attempts numbered from 1 without
// a hole; what is terminal is not due, and what is to be sent again is due some
// time and has its payload.
//
// Stream and books are walked side by side, each a little ahead of the check, so
// memory does not grow with them (at most some 60 MB, and what the books need to
// bring their events into order). The books are read piece by piece, each as it is
// at some moment while the check goes on, so that it may take as long as it wants.
// What the stream has forgotten can only be checked by itself and is counted as
// Unproven.
//
// A message counts as what it decodes to now: after a change of the org's
// payload or of the limit on data, older ones may be Unproven or have another
// identity. The catalogue of event types is not asked, since it may have been
// another one, or none, when the cursor passed: a message that is recorded as
// rejected and decodes is Unproven.
//
// An error means that the check could not be made; broken promises are in the
// Report.
func Check(ctx context.Context, log cursor.Log, dec stream.Decoding, books Audited, ledger *Ledger) (Report, error) {
	c := checker{
		books:    books,
		decode:   dec.Decode,
		ledger:   ledger,
		known:    make(map[int64]bool),
		suspects: make(map[stream.ID]suspect),
		expected: make(map[Receipt]bool),
	}
	if err := c.run(ctx, log); err != nil {
		return c.report, fmt.Errorf("check %s: %w", dec.Org, err)
	}
	return c.report, nil
}

// checker is one run of Check.
type checker struct {
	books  Audited
	decode decodeFunc
	ledger *Ledger
	report Report

	pos   cursor.Position
	set   *Set           // everybody who was ever subscribed, and when; of the present piece
	known map[int64]bool // endpoints of the org

	// The walk. In piece are the events and exceptions that were not taken yet.
	pieces    *front[Piece]
	piece     Piece
	before    place // of the event before
	exception Exception
	rows      []int64 // reused

	seen      idFilter              // IDs of the events so far
	forgotten idFilter              // IDs of messages of which retention may have removed the event
	suspects  map[stream.ID]suspect // to be looked up
	lacking   int                   // messages in suspects
	expected  map[Receipt]bool      // receipts for which there is a delivery
}

// suspect is an ID that has to be looked up in the books.
type suspect struct {
	twice   bool    // the books seem to have it twice
	lacking []claim // messages that are lost unless the books have it at all
}

// claim is a message without a row of its own, and one endpoint that should
// have got it.
type claim struct {
	seq      stream.Seq
	endpoint int64
}

func (c *checker) run(ctx context.Context, log cursor.Log) (err error) {
	if c.pos, _, err = c.books.Position(ctx); err != nil {
		return err
	}
	c.report.Org, c.report.Position = c.pos.Org, c.pos
	c.pieces = newFront(c.books.Pieces(ctx))
	defer c.pieces.stop()
	if err := c.nextPiece(); err != nil {
		return err
	}
	if c.report.Compared, err = c.comparable(ctx, log); err != nil {
		return err
	}
	if c.report.Compared {
		if err := c.messages(ctx, log); err != nil {
			return err
		}
	}
	// What is left on the side of the books.
	if err := c.eventsBefore(theEnd); err != nil {
		return err
	}
	c.exceptionAt(theEnd)
	if err := c.clear(ctx); err != nil {
		return err
	}
	c.strays()
	return nil
}

// nextPiece takes what is left of exceptions in a piece, and goes on with the next.
func (c *checker) nextPiece() error {
	c.exceptionAt(theEnd)
	c.pieces.advance()
	p, ok, err := c.pieces.peek()
	if err == nil && !ok {
		err = errors.New("the books ended before their last piece")
	}
	if err != nil {
		return err
	}
	c.piece = p
	if p.History != nil {
		for _, s := range p.History {
			c.known[s.Endpoint] = true
		}
		c.set = compile(0, p.History)
	}
	return nil
}

// comparable reports whether the stream is the one that the position was taken
// from.
func (c *checker) comparable(ctx context.Context, log cursor.Log) (bool, error) {
	st, err := log.State(ctx, c.pos.Stream)
	if errors.Is(err, stream.ErrNoStream) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if c.pos.Seq == 0 {
		return true, nil
	}
	if !st.Created.Equal(c.pos.Created) || st.Last < c.pos.Seq || st.Last == c.pos.Seq && !c.anchored(st.LastTime) {
		return false, nil
	}
	msgs, _, err := log.Read(ctx, c.pos.Stream, c.pos.Seq, 1)
	if err != nil {
		return false, err
	}
	return len(msgs) == 0 || msgs[0].Seq != c.pos.Seq || c.anchored(msgs[0].Time), nil
}

// anchored reports whether a message at the position may have been stored then.
func (c *checker) anchored(stored time.Time) bool {
	return c.pos.Anchor.IsZero() || c.pos.Anchor.Equal(stored)
}

// messages walks the stream up to the position.
func (c *checker) messages(ctx context.Context, log cursor.Log) error {
	for batch := range c.readAhead(ctx, log) {
		if batch.err != nil {
			return batch.err
		}
		for i := range batch.messages {
			if err := c.message(ctx, &batch.messages[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// decoded is a message and what it is.
type decoded struct {
	seq      stream.Seq
	event    stream.Event
	rejected *stream.Rejected
}

// decodedBatch is what one read of the stream had, or why there was none.
type decodedBatch struct {
	messages []decoded
	err      error
}

// readAhead reads and decodes the stream up to the position, beside the check of what was
// read before.
func (c *checker) readAhead(ctx context.Context, log cursor.Log) iter.Seq[decodedBatch] {
	return func(yield func(decodedBatch) bool) {
		ctx, stop := context.WithCancel(ctx)
		batches := make(chan decodedBatch, batchesAhead)
		go func() {
			defer close(batches)
			for from := stream.Seq(1); from != 0 && from <= c.pos.Seq; {
				var b decodedBatch
				b, from = c.readBatch(ctx, log, from)
				select {
				case batches <- b:
				case <-ctx.Done():
					return
				}
			}
		}()
		defer func() {
			stop()
			for range batches { // until it has ended
			}
		}()
		for b := range batches {
			if !yield(b) {
				return
			}
		}
	}
}

// readBatch returns the messages from a sequence on, and where to go on; 0 at the
// end.
func (c *checker) readBatch(ctx context.Context, log cursor.Log, from stream.Seq) (b decodedBatch, next stream.Seq) {
	msgs, _, err := log.Read(ctx, c.pos.Stream, from, checkBatch)
	if err != nil {
		return decodedBatch{err: err}, 0
	}
	b.messages = make([]decoded, 0, len(msgs))
	for _, m := range msgs {
		if m.Seq > c.pos.Seq {
			return b, 0
		}
		if m.Seq == c.pos.Seq && !c.anchored(m.Time) {
			b.err = fmt.Errorf("%s was rolled back meanwhile: %w", c.pos.Stream, stream.ErrUnavailable)
			return b, 0
		}
		ev, rejected := c.decode.safely(m)
		b.messages = append(b.messages, decoded{m.Seq, ev, rejected})
		next = m.Seq + 1
	}
	return b, next
}

// message finds the account of one message.
func (c *checker) message(ctx context.Context, m *decoded) error {
	c.report.Messages++
	at := place{c.pos.Incarnation, m.seq}
	if err := c.eventsBefore(at); err != nil {
		return err
	}
	ev, rejected := &m.event, m.rejected
	if rejected == nil {
		c.rows = c.set.Match(ev, at.incarnation, c.rows[:0])
	}
	if len(c.piece.Events) > 0 && c.piece.Events[0].at() == at {
		booked := &c.piece.Events[0]
		if err := c.event(booked); err != nil {
			return err
		}
		if rejected != nil {
			c.report.Unproven++
		} else {
			c.compare(booked, ev)
		}
		c.piece.Events = c.piece.Events[1:]
		return nil
	}
	why, covered := c.exceptionAt(at)
	switch {
	case m.seq <= c.piece.Complete:
		c.report.Unproven++
		if rejected == nil {
			c.forgotten.add(ev.ID)
		}
	case covered && why.Kind == ExceptionGap:
		c.problem(ProblemContradicted, at, 0, 0, "recorded as a gap, but the stream has it")
	case covered && why.Kind == ExceptionRejected && rejected == nil:
		c.report.Unproven++
	case covered:
	case rejected != nil:
		c.problem(ProblemMissing, at, 0, 0, "no event (%s), and not recorded as rejected", rejected.Code)
	case len(c.rows) == 0:
		c.report.Unmatched++
	case c.forgotten.has(ev.ID):
		c.report.Duplicates++ // of an event that retention has removed
	default: // a duplicate, or lost
		s := c.suspects[ev.ID]
		s.lacking = append(s.lacking, claim{m.seq, c.rows[0]})
		c.suspects[ev.ID] = s
		if c.lacking++; c.lacking >= maxSuspects {
			return c.clear(ctx)
		}
	}
	return nil
}

// compare holds the deliveries of an event against who was subscribed to it
// (c.rows), both ascending.
func (c *checker) compare(booked *BookedEvent, ev *stream.Event) {
	at := booked.at()
	if booked.ID != ev.ID {
		c.problem(ProblemIdentity, at, booked.Event, 0, "booked as %s, the stream has %s", booked.ID, ev.ID)
		return
	}
	due := c.rows
	for _, d := range booked.Deliveries {
		for len(due) > 0 && due[0] < d.Endpoint {
			c.missing(at, booked.Event, due[0])
			due = due[1:]
		}
		if len(due) > 0 && due[0] == d.Endpoint {
			due = due[1:]
			continue
		}
		c.problem(ProblemUnsubscribed, at, booked.Event, d.Endpoint, "%s was not subscribed to, or not here", ev.Type)
	}
	for _, row := range due {
		c.missing(at, booked.Event, row)
	}
}

func (c *checker) missing(at place, event, endpoint int64) {
	if at.incarnation == c.pos.Incarnation && at.seq <= c.piece.Complete {
		return
	}
	c.problem(ProblemMissing, at, event, endpoint, "subscribed, and has no delivery")
}

// theEnd is after every place.
var theEnd = place{incarnation: int(^uint(0) >> 1)}

// eventsBefore takes the booked events before a place, of which the stream has
// no message any more, and the pieces that end before it.
func (c *checker) eventsBefore(at place) error {
	for {
		for len(c.piece.Events) > 0 && c.piece.Events[0].at().less(at) {
			if err := c.event(&c.piece.Events[0]); err != nil {
				return err
			}
			c.report.Unproven++
			c.piece.Events = c.piece.Events[1:]
		}
		if len(c.piece.Events) > 0 || c.piece.Last || !(place{c.piece.Incarnation, c.piece.Through}).less(at) {
			return nil
		}
		if err := c.nextPiece(); err != nil {
			return err
		}
	}
}

// exceptionAt takes the exceptions of the piece before a place, and returns the
// one that covers it.
func (c *checker) exceptionAt(at place) (why Exception, covered bool) {
	for {
		x := c.exception
		if at.incarnation == x.Incarnation && x.From <= at.seq && at.seq <= x.To {
			return x, true
		}
		if len(c.piece.Exceptions) == 0 {
			return Exception{}, false
		}
		next := c.piece.Exceptions[0]
		if at.less(place{next.Incarnation, next.From}) {
			return Exception{}, false
		}
		c.piece.Exceptions = c.piece.Exceptions[1:]
		n := uint64(next.To-next.From) + 1
		switch next.Kind {
		case ExceptionRejected:
			c.report.Rejected += n
		case ExceptionGated:
			c.report.Gated += n
		case ExceptionGap:
			c.report.Gap += n
		case ExceptionSkipped:
			c.report.Skipped += n
		}
		from, to := place{next.Incarnation, next.From}, place{next.Incarnation, next.To}
		if c.beyond(to) {
			c.problem(ProblemAhead, to, 0, 0, "%s, beyond the position", next.Kind)
		}
		if prev := (place{x.Incarnation, x.To}); from.less(prev) || from == prev {
			c.problem(ProblemContradicted, from, 0, 0, "both %s and %s", x.Kind, next.Kind)
			if to.less(prev) {
				continue
			}
		}
		c.exception = next
	}
}

// beyond reports whether the cursor has not come to p yet.
func (c *checker) beyond(p place) bool {
	return place{c.pos.Incarnation, c.pos.Seq}.less(p)
}

// event checks a booked event by itself.
func (c *checker) event(e *BookedEvent) error {
	at := e.at()
	switch {
	case at == c.before:
		c.problem(ProblemDoubled, at, e.Event, 0, "another event is booked at this place")
	case at.less(c.before):
		return fmt.Errorf("events of the books do not ascend: %d.%d comes after %d.%d",
			at.incarnation, at.seq, c.before.incarnation, c.before.seq)
	}
	c.before = at
	c.report.Events++
	if e.Org != c.pos.Org {
		c.problem(ProblemForeign, at, e.Event, 0, "the event belongs to %q", e.Org)
	}
	if c.beyond(at) {
		c.problem(ProblemAhead, at, e.Event, 0, "booked beyond the position")
	}
	if why, covered := c.exceptionAt(at); covered {
		c.problem(ProblemContradicted, at, e.Event, 0, "has deliveries, and is recorded as %s", why.Kind)
	}
	if c.seen.add(e.ID) {
		s := c.suspects[e.ID]
		s.twice = true
		c.suspects[e.ID] = s
	}
	for i := range e.Deliveries {
		d := &e.Deliveries[i]
		if i > 0 && d.Endpoint <= e.Deliveries[i-1].Endpoint {
			c.problem(ProblemDoubled, at, e.Event, d.Endpoint, "two deliveries of one pair")
		}
		c.delivery(e, d)
	}
	return nil
}

// clear decides about the suspects, by what the books have of their IDs.
func (c *checker) clear(ctx context.Context) error {
	if len(c.suspects) == 0 {
		return nil
	}
	ids := slices.Collect(maps.Keys(c.suspects))
	booked, err := c.books.Booked(ctx, ids)
	if err != nil {
		return err
	}
	var lost []claim
	for i, id := range ids {
		s, b := c.suspects[id], booked[i]
		if s.twice && b.Times > 1 {
			c.problem(ProblemDoubled, place{}, b.Event, 0, "%s is booked %d times", id, b.Times)
		}
		// Retention may have removed meanwhile, even since the last piece was read,
		// what was there when the check passed it.
		if b.Times > 0 || c.seen.has(id) {
			c.report.Duplicates += uint64(len(s.lacking))
		} else {
			lost = append(lost, s.lacking...)
		}
	}
	slices.SortFunc(lost, func(a, b claim) int { return cmp.Compare(a.seq, b.seq) })
	for _, l := range lost {
		c.problem(ProblemMissing, place{c.pos.Incarnation, l.seq}, 0, l.endpoint, "subscribed, and there is neither a delivery nor a reason")
	}
	clear(c.suspects)
	c.lacking = 0
	return nil
}

func (c *checker) problem(kind ProblemKind, at place, event, endpoint int64, format string, args ...any) {
	c.report.Found++
	if kind == ProblemMissing && endpoint != 0 {
		c.report.Missing++
		if c.report.FirstMissing == 0 || at.seq < c.report.FirstMissing {
			c.report.FirstMissing = at.seq
		}
	}
	if len(c.report.Problems) == MaxProblems {
		return
	}
	c.report.Problems = append(c.report.Problems, Problem{
		Kind:        kind,
		Incarnation: at.incarnation,
		Seq:         at.seq,
		Event:       event,
		Endpoint:    endpoint,
		Detail:      fmt.Sprintf(format, args...),
	})
}

func (e *BookedEvent) at() place { return place{e.Incarnation, e.Seq} }
