package fanout

import (
	"context"
	"fmt"
	"slices"

	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/stream"
)

// Move is a change of an organization's position by hand.
//
// Moved back, the stream is read again from there, with the subscriptions as
// they were; see [Books.Commit] for what that makes. Moved on beyond what was
// ever read, the sequences in between are recorded as skipped, and moving back
// over them makes up for it.
type Move struct {
	From   cursor.Position // where it has to be; Incarnation and Seq count
	To     cursor.Position // in the same stream and incarnation (the first one, when it was never read)
	Skip   bool            // sequences that were never read may be skipped
	Reason string          // for the audit
}

// SkipError: a Move would skip what was never read.
type SkipError struct {
	From, To stream.Seq // inclusive
}

func (e *SkipError) Error() string {
	return fmt.Sprintf("sequences %d to %d were never read and would be skipped", e.From, e.To)
}

// Check says whether the move can be made from that position, of which the
// furthest is known. skipped is what was never read and then never is: From 0 when
// there is nothing.
func (m Move) Check(pos, furthest cursor.Position) (skipped Exception, err error) {
	switch {
	case m.From.Incarnation != pos.Incarnation || m.From.Seq != pos.Seq:
		return skipped, fmt.Errorf("%w: it is at %d.%d", ErrMoved, pos.Incarnation, pos.Seq)
	case m.To.Incarnation != max(pos.Incarnation, 1):
		return skipped, fmt.Errorf("a move from incarnation %d to %d", pos.Incarnation, m.To.Incarnation)
	case m.To.Seq <= furthest.Seq:
		return skipped, nil
	}
	skipped = Exception{Kind: ExceptionSkipped, Incarnation: m.To.Incarnation, From: furthest.Seq + 1, To: m.To.Seq}
	if !m.Skip {
		return skipped, &SkipError{skipped.From, skipped.To}
	}
	return skipped, nil
}

// Forecast is what a Move would cause.
type Forecast struct {
	Again    uint64 // messages that would be read again
	Existing uint64 // deliveries of them that exist, and would be left alone
	New      uint64 // deliveries of them that are missing, and would be made
	// Forgotten counts messages among them whose deliveries retention may have
	// removed: nothing is made of them.
	Forgotten uint64
	Skipped   uint64 // events that were never read and would be skipped
	// Through is the last sequence that was counted. It lies before the end
	// of the range when that has more than MaxForecast messages.
	Through  stream.Seq
	Complete bool // all of the range was counted
}

// MaxForecast is how many messages are read to foresee a Move, about: a
// million takes some ten seconds and 100 MB.
const MaxForecast = 1_000_000

// MoveBooks is what Foresee asks the store; all of it sees the same moment.
type MoveBooks interface {
	Audited
	// Find looks up events by ID. The answer has one Found for each.
	Find(ctx context.Context, ids []stream.ID) ([]Found, error)
}

// Found is what the books have of an event's ID; the zero Found is nothing.
type Found struct {
	Incarnation int
	Seq         stream.Seq
	Endpoints   []int64 // with a delivery, ascending
}

// Foresee counts what a move of org's position to the sequence to would cause.
// It reads the stream between the two, and writes nothing. pos is the org's
// position.
func Foresee(ctx context.Context, log cursor.Log, dec stream.Decoding, org Org, books MoveBooks, pos cursor.Position, to stream.Seq) (Forecast, error) {
	return ForeseeRows(ctx, log, dec, org, books, pos, to, func(ForecastRow) {})
}

// Fate is what a Move does to an event, or to its delivery to one endpoint.
type Fate string

const (
	Exists    Fate = "exists"    // the delivery is there, and is left alone
	IsMade    Fate = "new"       // the delivery is missing, and is made
	Forgotten Fate = "forgotten" // retention may have removed the event's deliveries: none are made
	Skipped   Fate = "skipped"   // the event was never read, and never is
)

// ForecastRow is one line of a Forecast. Endpoint is the row of one, 0 where the
// fate is the event's.
type ForecastRow struct {
	Seq      stream.Seq
	ID       stream.ID
	Type     string
	Endpoint int64
	Fate     Fate
}

// ForeseeRows is Foresee that also tells row of each event and delivery, by
// sequence. Messages that make no deliveries and have none are left out.
func ForeseeRows(ctx context.Context, log cursor.Log, dec stream.Decoding, org Org, books MoveBooks, pos cursor.Position, to stream.Seq, row func(ForecastRow)) (Forecast, error) {
	f := forecaster{row: row, books: books, org: org, gated: org.Gated, dec: dec, pos: pos, made: make(map[stream.ID]bool)}
	f.org.Gated = false // what exists is counted all the same
	if err := f.run(ctx, log, to); err != nil {
		return Forecast{}, fmt.Errorf("foresee a move of %s to %d: %w", dec.Org, to, err)
	}
	return f.Forecast, nil
}

type forecaster struct {
	Forecast
	row      func(ForecastRow)
	books    MoveBooks
	org      Org
	gated    bool
	dec      stream.Decoding
	pos      cursor.Position
	complete stream.Seq
	set      *Set
	records  []Exception        // of the present incarnation, ascending
	made     map[stream.ID]bool // would be made already, by an earlier message
	left     int                // messages that may still be read
}

func (f *forecaster) run(ctx context.Context, log cursor.Log, to stream.Seq) error {
	far, complete, err := f.books.Position(ctx)
	if err != nil {
		return err
	}
	history, err := f.books.History(ctx)
	if err != nil {
		return err
	}
	f.complete, f.set, f.left = complete, compile(0, history), MaxForecast
	for x, err := range f.books.Exceptions(ctx) {
		if err != nil {
			return err
		}
		if x.Incarnation == f.pos.Incarnation {
			f.records = append(f.records, x)
		}
	}
	if to <= f.pos.Seq {
		return f.read(ctx, log, to, f.pos.Seq, f.again)
	}
	return f.read(ctx, log, max(f.pos.Seq, far.Seq), to, f.skip)
}

// read plans the messages after one sequence up to another, piece by piece.
func (f *forecaster) read(ctx context.Context, log cursor.Log, after, to stream.Seq, count func(context.Context, []stream.Message) error) error {
	for f.Through = after; f.Through < to; {
		if f.left <= 0 {
			return nil
		}
		msgs, _, err := log.Read(ctx, f.pos.Stream, f.Through+1, min(checkBatch, f.left))
		if err != nil {
			return err
		}
		n := len(msgs)
		for n > 0 && msgs[n-1].Seq > to {
			n--
		}
		if n == 0 { // the rest is gone from the stream
			f.Through = to
			break
		}
		if err := count(ctx, msgs[:n]); err != nil {
			return err
		}
		f.left -= n
		if f.Through = msgs[n-1].Seq; n < len(msgs) {
			f.Through = to
		}
	}
	f.Through, f.Complete = to, true
	return nil
}

// plan is what the messages would cause if nobody had read them.
func (f *forecaster) plan(msgs []stream.Message) Plan {
	at := f.pos
	at.Incarnation = max(at.Incarnation, 1)
	return Make(f.org, cursor.Batch{From: at, To: at, Messages: msgs}, f.set, f.dec)
}

func (f *forecaster) skip(_ context.Context, msgs []stream.Message) error {
	p := f.plan(msgs)
	f.Skipped += uint64(len(msgs) - len(p.Rejected))
	for _, ev := range p.Events {
		f.tell(ev, 0, Skipped)
	}
	return nil
}

func (f *forecaster) again(ctx context.Context, msgs []stream.Message) error {
	f.Again += uint64(len(msgs))
	var events []Planned
	var ids []stream.ID
	for i := range msgs { // one by one: a plan has no two of one ID
		for _, ev := range f.plan(msgs[i : i+1]).Events {
			events, ids = append(events, ev), append(ids, ev.ID)
		}
	}
	found, err := f.books.Find(ctx, ids)
	if err != nil {
		return err
	}
	for i := range events {
		ev, have := &events[i], found[i]
		here := have.Incarnation == f.pos.Incarnation && have.Seq == ev.Seq
		switch {
		case here:
			f.Existing += uint64(len(have.Endpoints))
			for _, row := range have.Endpoints {
				f.tell(*ev, row, Exists)
			}
		case have.Incarnation != 0 || f.made[ev.ID]:
			continue // a duplicate
		}
		if f.gated {
			continue
		}
		if ev.Seq <= f.complete && (here || !f.recorded(ev.Seq)) {
			if !here {
				f.Forgotten++
				f.tell(*ev, 0, Forgotten)
			}
			continue
		}
		f.made[ev.ID] = true
		for _, row := range ev.Endpoints {
			if _, ok := slices.BinarySearch(have.Endpoints, row); !ok || !here {
				f.New++
				f.tell(*ev, row, IsMade)
			}
		}
	}
	return nil
}

func (f *forecaster) tell(ev Planned, endpoint int64, fate Fate) {
	f.row(ForecastRow{Seq: ev.Seq, ID: ev.ID, Type: ev.Type, Endpoint: endpoint, Fate: fate})
}

// recorded reports whether the books say why the sequence has no deliveries.
func (f *forecaster) recorded(seq stream.Seq) bool {
	i, ok := slices.BinarySearchFunc(f.records, seq, func(x Exception, seq stream.Seq) int {
		switch {
		case x.To < seq:
			return -1
		case x.From > seq:
			return 1
		}
		return 0
	})
	return ok && f.records[i].Kind != ExceptionGap
}
