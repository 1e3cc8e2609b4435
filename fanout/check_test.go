package fanout

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/stream"
	"github.com/grapnel-hooks/grapnel/stream/streamtest"
)

// testBooks are books as a test writes them down.
type testBooks struct {
	pos        cursor.Position
	complete   stream.Seq
	history    []Span
	exceptions []Exception
	events     []BookedEvent
	broken     error // ends Events
}

func (b *testBooks) Position(context.Context) (cursor.Position, stream.Seq, error) {
	return b.pos, b.complete, nil
}

func (b *testBooks) History(context.Context) ([]Span, error) { return b.history, nil }

func (b *testBooks) Exceptions(context.Context) iter.Seq2[Exception, error] {
	return func(yield func(Exception, error) bool) {
		for _, x := range b.exceptions {
			if !yield(x, nil) {
				return
			}
		}
	}
}

func (b *testBooks) Pieces(context.Context) iter.Seq2[Piece, error] {
	return func(yield func(Piece, error) bool) {
		if b.broken != nil {
			yield(Piece{}, b.broken)
			return
		}
		yield(Whole(b.complete, b.history, b.exceptions, b.events), nil)
	}
}

func (b *testBooks) Booked(_ context.Context, ids []stream.ID) ([]Booked, error) {
	found := make([]Booked, len(ids))
	for _, e := range b.events {
		if i := slices.Index(ids, e.ID); i >= 0 {
			found[i].Times++
			found[i].Event = e.Event
		}
	}
	return found, nil
}

// world is a stream and books that agree, until a test breaks them.
//
//	1 deleted     in a gap                  5 invoice.paid  1 dead, 2 delivered
//	2 invoice.*   1 delivered, 2 pending    6 page.made     2 cancelled
//	3 broken      rejected                  7 invoice.paid  the same key as 2
//	4 other.made  nobody (2 was disabled)   8 other.made    gated
//	                                        9 page.made     deleted meanwhile, 2 delivered
type world struct {
	log    *streamtest.Log
	books  *testBooks
	ledger *Ledger
}

const acmeStream = "EVENTS_acme"

func newWorld() *world {
	w := &world{log: &streamtest.Log{Now: func() time.Time { return noon }}}
	w.log.Create(acmeStream)
	put := func(typ, key, data string) stream.ID {
		h := stream.Header{}
		if key != "" {
			h["Nats-Msg-Id"] = []string{key}
		}
		seq := w.log.Append("events.acme."+typ, h, []byte(data))
		msgs, _, _ := w.log.Read(context.Background(), acmeStream, seq, 1)
		ev, _ := stream.Decoding{Org: "acme"}.Decode(msgs[0])
		return ev.ID
	}
	put("page.made", "", "{}")
	two := put("invoice.paid", "two", "{}")
	put("invoice.paid", "", "{")
	put("other.made", "", "{}")
	five := put("invoice.paid", "", "{}")
	six := put("page.made", "", "{}")
	put("invoice.paid", "two", "{}")
	put("other.made", "", "{}")
	nine := put("page.made", "", "{}")
	put("page.made", "", "{}") // not read yet
	w.log.PurgeTo(acmeStream, 2)
	w.log.DeleteMessage(acmeStream, 9)

	st, _ := w.log.State(context.Background(), acmeStream)
	attempts := func(classes ...deliver.Class) (as []BookedAttempt) {
		for i, c := range classes {
			as = append(as, BookedAttempt{i + 1, c})
		}
		return as
	}
	delivery := func(endpoint int64, s deliver.State, classes ...deliver.Class) BookedDelivery {
		d := BookedDelivery{Endpoint: endpoint, Org: "acme", State: s, Made: len(classes), Attempts: attempts(classes...)}
		if s == deliver.Pending && len(classes) > 0 {
			d.Due, d.Trigger = 5000, deliver.Retry
		}
		return d
	}
	event := func(number int64, seq stream.Seq, id stream.ID, ds ...BookedDelivery) BookedEvent {
		return BookedEvent{Event: number, Org: "acme", ID: id, Incarnation: 1, Seq: seq, Kept: true, Deliveries: ds}
	}
	invoices := Subscription{Endpoint: 1, Types: []string{"invoice.*"}}
	all := Subscription{Endpoint: 2, Types: []string{"*"}}
	later := all
	later.Incarnation, later.From = 1, 4
	w.books = &testBooks{
		pos:     cursor.Position{Org: "acme", Stream: acmeStream, Created: st.Created, Incarnation: 1, Seq: 9},
		history: []Span{{Subscription: invoices}, {Subscription: all, Ended: true, UntilIncarnation: 1, Until: 3}, {Subscription: later}},
		exceptions: []Exception{
			{ExceptionGap, 1, 1, 1}, {ExceptionRejected, 1, 3, 3}, {ExceptionGated, 1, 8, 8},
		},
		events: []BookedEvent{
			event(11, 2, two, delivery(1, deliver.Delivered, deliver.Timeout, deliver.OK), delivery(2, deliver.Pending, deliver.HTTP5xx)),
			event(15, 5, five, delivery(1, deliver.Dead, deliver.HTTP4xx), delivery(2, deliver.Delivered, deliver.OK)),
			event(16, 6, six, delivery(2, deliver.Cancelled)),
			event(20, 9, nine, delivery(2, deliver.Delivered, deliver.Ours, deliver.OK)),
		},
	}
	w.ledger = &Ledger{Seen: map[Receipt]Tally{
		{1, two}: {2, 1, 0}, {2, two}: {1, 0, 0}, {1, five}: {1, 0, 0}, {2, five}: {1, 1, 0}, {2, nine}: {1, 1, 0},
	}}
	return w
}

func (w *world) check(t *testing.T) Report {
	t.Helper()
	r, err := Check(t.Context(), w.log, stream.Decoding{Org: "acme"}, w.books, w.ledger)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestCheckProvesGoodBooks(t *testing.T) {
	w := newWorld()
	want := Report{
		Org: "acme", Position: w.books.pos, Compared: true,
		Messages: 7, Unmatched: 1, Duplicates: 1, Unproven: 1,
		Events: 4, Rejected: 1, Gated: 1, Gap: 1,
		Delivered: 3, Pending: 1, Dead: 1, Cancelled: 1, Attempts: 7,
	}
	if diff := cmp.Diff(want, w.check(t)); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

func TestCheckFindsWhatIsBroken(t *testing.T) {
	tests := []struct {
		name string
		harm func(w *world, b *testBooks)
		want []string
	}{
		// INV1: no loss.
		{"a delivery is missing", func(w *world, b *testBooks) { b.events[1].Deliveries = b.events[1].Deliveries[:1] },
			[]string{"missing seq 1.5 event 15 endpoint 2", "receipt endpoint 2"}},
		{"the first of two is missing", func(w *world, b *testBooks) { b.events[1].Deliveries = b.events[1].Deliveries[1:] },
			[]string{"missing seq 1.5 event 15 endpoint 1", "receipt endpoint 1"}},
		{"an event is missing, and its duplicate with it", func(w *world, b *testBooks) { b.events = b.events[1:]; w.ledger = nil },
			[]string{"missing seq 1.2 endpoint 1", "missing seq 1.7 endpoint 1"}},
		{"a rejection is missing", func(w *world, b *testBooks) { b.exceptions = append(b.exceptions[:1:1], b.exceptions[2:]...) },
			[]string{"missing seq 1.3"}},
		{"a gated event is missing", func(w *world, b *testBooks) { b.exceptions = b.exceptions[:2] },
			[]string{"missing seq 1.8 endpoint 2"}},
		{"the position moved too far", func(w *world, b *testBooks) { b.pos.Seq = 10 },
			[]string{"missing seq 1.10 endpoint 2"}},
		{"a gap that is none", func(w *world, b *testBooks) { b.exceptions[1] = Exception{ExceptionGap, 1, 3, 4} },
			[]string{"contradiction seq 1.3", "contradiction seq 1.4"}},
		{"an event of nobody's", func(w *world, b *testBooks) { b.history[1].Until = 4 },
			[]string{"missing seq 1.4 endpoint 2"}},

		// One account of each sequence, one delivery of each pair.
		{"a pair twice", func(w *world, b *testBooks) {
			b.events[2].Deliveries = append(b.events[2].Deliveries, b.events[2].Deliveries[0])
		}, []string{"doubled seq 1.6 event 16 endpoint 2", "unsubscribed seq 1.6 event 16 endpoint 2"}},
		{"an event twice", func(w *world, b *testBooks) {
			again := b.events[0]
			again.Event, again.Seq = 17, 7
			b.events = append(b.events[:3:3], again, b.events[3])
		}, []string{"doubled event 17"}},
		{"two events at one place", func(w *world, b *testBooks) {
			again := b.events[3]
			again.Event, again.ID, again.Deliveries = 21, stream.KeyID("acme", "other"), nil
			b.events = append(b.events, again)
		}, []string{"doubled seq 1.9 event 21"}},
		{"rejected and delivered", func(w *world, b *testBooks) {
			b.exceptions = append(b.exceptions[:2:2], Exception{ExceptionRejected, 1, 6, 6}, b.exceptions[2])
		}, []string{"contradiction seq 1.6 event 16"}},
		{"gated and rejected", func(w *world, b *testBooks) { b.exceptions[2] = Exception{ExceptionGated, 1, 3, 8} },
			[]string{"contradiction seq 1.3", "contradiction seq 1.5 event 15", "contradiction seq 1.6 event 16"}},
		{"another event at this place", func(w *world, b *testBooks) { b.events[2].ID = stream.KeyID("acme", "x") },
			[]string{"identity seq 1.6 event 16"}},

		// INV3, INV4: with the position, never beyond it.
		{"an event beyond the position", func(w *world, b *testBooks) { b.pos.Seq = 8 }, []string{"ahead seq 1.9 event 20"}},
		{"a rejection beyond the position", func(w *world, b *testBooks) {
			b.exceptions = append(b.exceptions, Exception{ExceptionRejected, 1, 10, 10})
		}, []string{"ahead seq 1.10"}},
		{"an event of a later incarnation", func(w *world, b *testBooks) { b.events[3].Incarnation = 2 },
			[]string{"ahead seq 2.9 event 20"}},

		// INV8: organizations are apart, and so are subscriptions.
		{"an event of another organization", func(w *world, b *testBooks) {
			b.events[2].Org = "globex"
			b.events[2].Deliveries[0].Org = "globex"
		}, []string{"foreign seq 1.6 event 16"}},
		{"a delivery of another organization", func(w *world, b *testBooks) { b.events[2].Deliveries[0].Org = "globex" },
			[]string{"foreign seq 1.6 event 16 endpoint 2"}},
		{"an endpoint of another organization", func(w *world, b *testBooks) {
			b.events[2].Deliveries = append(b.events[2].Deliveries, BookedDelivery{Endpoint: 7, Org: "acme", State: deliver.Cancelled})
		}, []string{"foreign seq 1.6 event 16 endpoint 7", "unsubscribed seq 1.6 event 16 endpoint 7"}},
		{"an endpoint that did not want it", func(w *world, b *testBooks) {
			b.events[2].Deliveries = append([]BookedDelivery{{Endpoint: 1, Org: "acme"}}, b.events[2].Deliveries...)
		}, []string{"unsubscribed seq 1.6 event 16 endpoint 1"}},
		{"an endpoint that was disabled", func(w *world, b *testBooks) { b.history[2].From = 5 },
			[]string{"unsubscribed seq 1.5 event 15 endpoint 2"}},
		{"an endpoint of another workspace", func(w *world, b *testBooks) { b.history[0].Workspace = "berlin" },
			[]string{"unsubscribed seq 1.2 event 11 endpoint 1", "unsubscribed seq 1.5 event 15 endpoint 1"}},

		// INV5, INV6: attempts and states.
		{"an attempt is missing", func(w *world, b *testBooks) {
			b.events[0].Deliveries[0].Attempts = b.events[0].Deliveries[0].Attempts[1:]
		},
			[]string{"attempts seq 1.2 event 11 endpoint 1", "attempts seq 1.2 event 11 endpoint 1", "receipt seq 1.2 event 11 endpoint 1"}},
		{"delivered without a success", func(w *world, b *testBooks) { b.events[1].Deliveries[0].State = deliver.Delivered },
			[]string{"attempts seq 1.5 event 15 endpoint 1"}},
		{"delivered without an attempt", func(w *world, b *testBooks) { b.events[2].Deliveries[0].State = deliver.Delivered },
			[]string{"attempts seq 1.6 event 16 endpoint 2"}},
		{"dead and due", func(w *world, b *testBooks) { b.events[1].Deliveries[0].Due = 5000 },
			[]string{"due seq 1.5 event 15 endpoint 1"}},
		{"waits for ever", func(w *world, b *testBooks) { b.events[0].Deliveries[1].Due = 0 },
			[]string{"due seq 1.2 event 11 endpoint 2"}},
		{"waits without its payload", func(w *world, b *testBooks) { b.events[0].Kept = false },
			[]string{"payload seq 1.2 event 11 endpoint 2"}},

		// What the receivers saw.
		{"a success that never was", func(w *world, b *testBooks) {
			w.ledger.Seen[Receipt{2, b.events[1].ID}] = Tally{1, 0, 0}
		}, []string{"receipt seq 1.5 event 15 endpoint 2"}},
		{"an answer that never was", func(w *world, b *testBooks) { delete(w.ledger.Seen, Receipt{2, b.events[0].ID}) },
			[]string{"receipt seq 1.2 event 11 endpoint 2"}},
		{"a request more than attempts", func(w *world, b *testBooks) {
			w.ledger.Seen[Receipt{2, b.events[1].ID}] = Tally{2, 2, 0}
		}, []string{"receipt seq 1.5 event 15 endpoint 2"}},
		{"two requests more than attempts, and one crash", func(w *world, b *testBooks) {
			w.ledger.Crashes = 1
			w.ledger.Seen[Receipt{2, b.events[1].ID}] = Tally{3, 3, 0}
		}, []string{"receipt seq 1.5 event 15 endpoint 2"}},
		{"a request for no delivery", func(w *world, b *testBooks) {
			w.ledger.Seen[Receipt{1, b.events[2].ID}] = Tally{1, 1, 0}
		}, []string{"receipt endpoint 1"}},

		// What is no harm.
		{"fine: a request more, and one crash", func(w *world, b *testBooks) {
			w.ledger.Crashes = 1
			w.ledger.Seen[Receipt{2, b.events[1].ID}] = Tally{2, 2, 0}
		}, nil},
		{"fine: a request more, interrupted by a crash", func(w *world, b *testBooks) {
			w.ledger.Seen[Receipt{2, b.events[1].ID}] = Tally{2, 2, 1}
		}, nil},
		{"fine: retried by hand, the payload is in the stream", func(w *world, b *testBooks) {
			b.events[0].Kept = false
			b.events[0].Deliveries[1].Trigger = deliver.Manual
		}, nil},
		{"fine: never attempted", func(w *world, b *testBooks) { b.events[2].Deliveries[0].State = deliver.Pending }, nil},
		{"fine: a message more lost by the stream", func(w *world, b *testBooks) { w.log.DeleteMessage(acmeStream, 5) }, nil},
		{"fine: what retention has removed", func(w *world, b *testBooks) {
			b.complete, w.ledger = 5, nil
			b.events[0].Deliveries = b.events[0].Deliveries[1:]
			b.events = append(b.events[:1], b.events[2:]...)
		}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld()
			tt.harm(w, w.books)
			r := w.check(t)
			var got []string
			for _, p := range r.Problems {
				line := p
				line.Detail = ""
				s := line.String()
				got = append(got, s[:len(s)-2])
			}
			if diff := cmp.Diff(tt.want, got, cmpopts.EquateEmpty(), cmpopts.SortSlices(func(a, b string) bool { return a < b })); diff != "" {
				t.Errorf("problems (-want +got):\n%s\n%v", diff, r.Problems)
			}
			if r.Found != uint64(len(r.Problems)) {
				t.Errorf("found %d, lists %d", r.Found, len(r.Problems))
			}
		})
	}
}

func TestCheckWithoutItsStream(t *testing.T) {
	tests := []struct {
		name  string
		cause func(w *world)
	}{
		{"there is none", func(w *world) { w.log.Delete(acmeStream) }},
		{"made anew", func(w *world) { w.log.Delete(acmeStream); w.log.Create(acmeStream) }},
		{"rolled back", func(w *world) { w.log.Rollback(acmeStream, 5) }},
		{"rolled back and filled to the same length", func(w *world) {
			w.books.pos.Anchor = noon.Add(9)
			w.log.Rollback(acmeStream, 8)
			w.log.Append("events.acme.a", nil, []byte("{}"))
		}},
		{"rolled back and filled again", func(w *world) {
			w.books.pos.Anchor = noon.Add(9)
			w.log.Rollback(acmeStream, 5)
			for range 9 {
				w.log.Append("events.acme.a", nil, []byte("{}"))
			}
		}},
	}
	for _, tt := range tests {
		w := newWorld()
		tt.cause(w)
		w.books.events[2].Deliveries[0].Due = 1 // found by looking at the books only
		r := w.check(t)
		if r.Compared || r.Events != 4 || r.Found != 1 {
			t.Errorf("%s: %+v", tt.name, r)
		}
	}
}

func TestCheckOfAnEarlierIncarnation(t *testing.T) {
	w := newWorld()
	w.books.pos.Incarnation = 2 // rolled back after 4: read on from there
	w.books.complete = 4
	w.books.exceptions[2].Incarnation = 2
	for i := range w.books.events[1:] {
		w.books.events[1+i].Incarnation = 2
	}
	if r := w.check(t); r.Found != 0 || r.Messages != 7 || r.Duplicates != 1 {
		t.Errorf("%+v", r)
	}
}

func TestCheckThatCannotBeMade(t *testing.T) {
	w := newWorld()
	w.log.SetDown(true)
	if _, err := Check(t.Context(), w.log, stream.Decoding{Org: "acme"}, w.books, nil); !errors.Is(err, stream.ErrUnavailable) {
		t.Errorf("broker down: %v", err)
	}
	w = newWorld()
	w.books.broken = errors.New("disk on fire")
	if _, err := Check(t.Context(), w.log, stream.Decoding{Org: "acme"}, w.books, nil); !errors.Is(err, w.books.broken) {
		t.Errorf("books broken: %v", err)
	}
	w = newWorld()
	w.books.events[0], w.books.events[1] = w.books.events[1], w.books.events[0]
	if _, err := Check(t.Context(), w.log, stream.Decoding{Org: "acme"}, w.books, nil); err == nil {
		t.Error("events that do not ascend are taken")
	}
}

// longLog is a stream of n messages, made as they are read. Each key comes
// twice if doubled, the second time half-way further.
type longLog struct {
	n       stream.Seq
	doubled bool
}

func (l longLog) State(context.Context, string) (stream.State, error) {
	return stream.State{Created: noon, First: 1, Last: l.n}, nil
}

func (l longLog) Read(_ context.Context, _ string, from stream.Seq, max int) (ms []stream.Message, last stream.Seq, err error) {
	for seq := from; seq <= l.n && len(ms) < max; seq++ {
		ms = append(ms, stream.Message{Subject: "events.acme.a", Seq: seq, Time: noon, Header: l.header(seq), Data: []byte("{}")})
	}
	return ms, l.n, nil
}

func (l longLog) key(seq stream.Seq) string {
	if l.doubled && seq > l.n/2 {
		seq -= l.n / 2
	}
	return fmt.Sprint(seq)
}

func (l longLog) header(seq stream.Seq) stream.Header {
	return stream.Header{"Nats-Msg-Id": {l.key(seq)}}
}

// longBooks are the right books of a longLog, without those at skip.
type longBooks struct {
	testBooks
	l    longLog
	skip stream.Seq
	also stream.Seq // booked although it is a duplicate
	gone bool       // retention removes everything once it was read
}

func newLongBooks(l longLog) *longBooks {
	b := &longBooks{l: l}
	b.pos = cursor.Position{Org: "acme", Stream: acmeStream, Created: noon, Incarnation: 1, Seq: l.n}
	b.history = []Span{{Subscription: Subscription{Endpoint: 1, Types: []string{"*"}}}}
	return b
}

func (b *longBooks) event(seq stream.Seq) (BookedEvent, bool) {
	if seq == b.skip || b.l.doubled && seq > b.l.n/2 && seq != b.also {
		return BookedEvent{}, false
	}
	d := []BookedDelivery{{Endpoint: 1, Org: "acme", State: deliver.Delivered, Made: 1, Attempts: []BookedAttempt{{1, deliver.OK}}}}
	return BookedEvent{Event: int64(seq), Org: "acme", ID: stream.KeyID("acme", b.l.key(seq)), Incarnation: 1, Seq: seq, Deliveries: d}, true
}

// Pieces are of 777 sequences.
func (b *longBooks) Pieces(context.Context) iter.Seq2[Piece, error] {
	return func(yield func(Piece, error) bool) {
		p := Piece{Incarnation: 1, History: b.history}
		for seq := stream.Seq(1); seq <= b.l.n; seq++ {
			if e, ok := b.event(seq); ok {
				p.Events = append(p.Events, e)
			}
			if p.Through = seq; seq%777 == 0 || seq == b.l.n {
				if p.Last = seq == b.l.n; !yield(p, nil) {
					return
				}
				p = Piece{Incarnation: 1}
			}
		}
	}
}

func (b *longBooks) Booked(_ context.Context, ids []stream.ID) ([]Booked, error) {
	all := map[stream.ID]Booked{}
	for seq := stream.Seq(1); seq <= b.l.n && !b.gone; seq++ {
		if e, ok := b.event(seq); ok {
			all[e.ID] = Booked{all[e.ID].Times + 1, e.Event}
		}
	}
	found := make([]Booked, len(ids))
	for i, id := range ids {
		found[i] = all[id]
	}
	return found, nil
}

// A duplicate stays one when retention removes its event while the check goes on, and
// what was never booked stays missing.
func TestCheckBesideRetention(t *testing.T) {
	b := newLongBooks(longLog{n: 10, doubled: true})
	b.gone = true
	r, err := Check(t.Context(), b.l, stream.Decoding{Org: "acme"}, b, nil)
	if err != nil || r.Found != 0 || r.Duplicates != 5 {
		t.Errorf("good books: %v %+v", err, r)
	}
	b.skip = 3
	r, err = Check(t.Context(), b.l, stream.Decoding{Org: "acme"}, b, nil)
	if err != nil || r.Missing != 2 || r.FirstMissing != 3 || r.Duplicates != 4 {
		t.Errorf("without 3: %v %+v", err, r)
	}
}

func TestCheckOfMoreThanMemoryHolds(t *testing.T) {
	l := longLog{n: 2*maxSuspects + 100, doubled: true}
	r, err := Check(t.Context(), l, stream.Decoding{Org: "acme"}, newLongBooks(l), nil)
	if err != nil || r.Found != 0 || r.Duplicates != maxSuspects+50 || r.Events != maxSuspects+50 {
		t.Errorf("good books: %v %+v", err, r)
	}
	b := newLongBooks(l)
	b.skip, b.also = 7, l.n-3
	r, err = Check(t.Context(), l, stream.Decoding{Org: "acme"}, b, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []ProblemKind
	for _, p := range r.Problems {
		got = append(got, p.Kind)
	}
	want := []ProblemKind{ProblemMissing, ProblemMissing, ProblemDoubled}
	if diff := cmp.Diff(want, got, cmpopts.SortSlices(func(a, b ProblemKind) bool { return a < b })); diff != "" {
		t.Errorf("problems (-want +got):\n%s\n%v", diff, r.Problems)
	}
}

func TestReportDescribesTheFirstProblems(t *testing.T) {
	l := longLog{n: 500}
	b := newLongBooks(l)
	b.history[0].Types = []string{"other"}
	r, err := Check(t.Context(), l, stream.Decoding{Org: "acme"}, b, nil)
	if err != nil || r.Found != 500 || len(r.Problems) != MaxProblems {
		t.Errorf("%v: found %d, describes %d", err, r.Found, len(r.Problems))
	}
}

func BenchmarkCheck(b *testing.B) {
	l := longLog{n: 1_000_000}
	for b.Loop() {
		r, err := Check(b.Context(), l, stream.Decoding{Org: "acme"}, newLongBooks(l), nil)
		if err != nil || r.Found != 0 {
			b.Fatal(err, r)
		}
	}
}
