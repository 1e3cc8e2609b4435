package fanout

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/stream"
	"github.com/grapnel-hooks/grapnel/stream/streamtest"
	"pgregory.net/rapid"
)

// explained asks for sequence seq of the world of check_test.go.
func (w *world) explained(t testing.TB, seq stream.Seq, receivers ...Receiver) map[int64]Why {
	t.Helper()
	q := Question{Incarnation: 1, Seq: seq, Position: w.books.pos, Complete: w.books.complete, Spans: w.books.history, Receivers: receivers}
	w.books.ask(t, &q, w.log)
	got := make(map[int64]Why)
	for _, a := range Explain(q) {
		if _, ok := got[a.Row]; ok {
			t.Errorf("two answers for endpoint %d", a.Row)
		}
		got[a.Row] = a.Why
	}
	return got
}

// ask fills in what books and stream know, as a store does.
func (b *testBooks) ask(t testing.TB, q *Question, log *streamtest.Log) {
	t.Helper()
	msgs, _, err := log.Read(context.Background(), acmeStream, q.Seq, 1)
	if err != nil {
		t.Fatal(err)
	}
	if len(msgs) > 0 && msgs[0].Seq == q.Seq {
		q.Stored = msgs[0].Time
		if ev, err := (stream.Decoding{Org: "acme"}).Decode(msgs[0]); err == nil {
			q.Event = &ev
		}
	}
	for _, x := range b.exceptions {
		if x.Incarnation == q.Incarnation && x.From <= q.Seq && q.Seq <= x.To {
			q.Exception = &x
		}
	}
	for _, e := range b.events {
		if e.at() == (place{q.Incarnation, q.Seq}) {
			for _, d := range e.Deliveries {
				q.Deliveries = append(q.Deliveries, deliver.Delivery{Key: deliver.Key{Event: e.Event, Endpoint: d.Endpoint}, State: d.State, Attempts: d.Made})
			}
		} else if q.Event != nil && e.ID == q.Event.ID {
			q.Earlier = &EventPlace{Event: e.Event, Incarnation: e.Incarnation, Seq: e.Seq}
		}
	}
}

// Each sequence of the world that Check is tried with has the reason that is
// written above it.
func TestExplainTheWorldOfCheck(t *testing.T) {
	w := newWorld()
	receivers := []Receiver{{Row: 1}, {Row: 2}, {Row: 3, CreatedAt: noon.Add(time.Hour)}}
	for seq, want := range map[stream.Seq]map[int64]Why{
		1:  {1: WhyGap, 2: WhyGap, 3: WhyGap},
		2:  {1: WhyDelivered, 2: WhyPending, 3: WhyCreatedLater},
		3:  {1: WhyRejected, 2: WhyRejected, 3: WhyRejected},
		4:  {1: WhyType, 2: WhyDisabled, 3: WhyCreatedLater},
		5:  {1: WhyDead, 2: WhyDelivered, 3: WhyCreatedLater},
		6:  {1: WhyType, 2: WhyCancelled, 3: WhyCreatedLater},
		7:  {1: WhyDuplicate, 2: WhyDuplicate, 3: WhyCreatedLater},
		8:  {1: WhyGated, 2: WhyGated, 3: WhyGated},
		9:  {1: WhyUnknown, 2: WhyDelivered, 3: WhyDisabled}, // deleted, so nobody knows when it was stored
		10: {1: WhyNotReached, 2: WhyNotReached, 3: WhyNotReached},
	} {
		if diff := cmp.Diff(want, w.explained(t, seq, receivers...)); diff != "" {
			t.Errorf("sequence %d (-want +got):\n%s", seq, diff)
		}
	}
}

func TestExplainDetails(t *testing.T) {
	from, since := stream.Seq(4), noon.Add(-time.Minute)
	all := Subscription{Endpoint: 1, Types: []string{"*"}, Incarnation: 1}
	scoped := all
	scoped.Workspace = "berlin"
	late := all
	late.From = from
	lost := deliver.Delivery{Key: deliver.Key{Event: 7, Endpoint: 1}, Attempts: 1, Due: noon.Add(time.Second)}
	now := lost
	now.Due = noon
	fresh := deliver.Delivery{Key: lost.Key}
	held, later := deliver.Delivery{Key: lost.Key, Held: true}, noon.Add(time.Minute)
	ev := &stream.Event{Type: "invoice.paid", Seq: 3}
	pos := cursor.Position{Incarnation: 1, Seq: 9}
	for name, c := range map[string]struct {
		q    Question
		r    Receiver
		want Answer
	}{
		"waits for its backoff":                {Question{Deliveries: []deliver.Delivery{lost}}, Receiver{}, Answer{Why: WhyPending, Delivery: &lost, Hold: HoldBackoff}},
		"waits for its turn":                   {Question{Deliveries: []deliver.Delivery{now}}, Receiver{}, Answer{Why: WhyPending, Delivery: &now, Hold: HoldTurn}},
		"waits for its first":                  {Question{Deliveries: []deliver.Delivery{fresh}}, Receiver{}, Answer{Why: WhyPending, Delivery: &fresh, Hold: HoldFirst}},
		"waits for its endpoint to be resumed": {Question{Deliveries: []deliver.Delivery{lost}}, Receiver{Paused: true, Wait: later}, Answer{Why: WhyPending, Delivery: &lost, Hold: HoldPaused}},
		"waits for its endpoint to recover":    {Question{Deliveries: []deliver.Delivery{lost}}, Receiver{Wait: later}, Answer{Why: WhyPending, Delivery: &lost, Hold: HoldFailing}},
		"waits for those before it":            {Question{Deliveries: []deliver.Delivery{held}}, Receiver{Wait: later}, Answer{Why: WhyPending, Delivery: &held, Hold: HoldOrder}},
		"waits for its endpoint":               {Question{Deliveries: []deliver.Delivery{lost}}, Receiver{DisabledReason: "manual", DisabledAt: since}, Answer{Why: WhyPending, Delivery: &lost, Hold: HoldDisabled, Since: since}},
		"behind":                               {Question{Event: ev, Stored: noon}, Receiver{Behind: true, Incarnation: 1, Seq: 2}, Answer{Why: WhyCatchingUp}},
		"lost while it was behind":             {Question{Event: ev, Stored: noon}, Receiver{Lost: true}, Answer{Why: WhyLost}},
		"created later":                        {Question{Event: ev, Stored: noon, Spans: []Span{{Subscription: late}}}, Receiver{CreatedAt: noon.Add(1)}, Answer{Why: WhyCreatedLater, From: &from}},
		"enabled later":                        {Question{Event: ev, Stored: noon, Spans: []Span{{Subscription: late}}}, Receiver{CreatedAt: since}, Answer{Why: WhyDisabled, From: &from}},
		"disabled since":                       {Question{Event: ev, Stored: noon, Spans: []Span{{Subscription: all, Ended: true, UntilIncarnation: 1, Until: 2}}}, Receiver{DisabledReason: "gone", DisabledAt: since}, Answer{Why: WhyDisabled, Since: since}},
		"another workspace":                    {Question{Event: ev, Spans: []Span{{Subscription: scoped}}}, Receiver{}, Answer{Why: WhyWorkspace, Types: all.Types, Scope: "berlin"}},
		"one that others got":                  {Question{Type: "invoice.paid", Spans: []Span{{Subscription: scoped}}}, Receiver{}, Answer{Why: WhyWorkspace, Types: all.Types, Scope: "berlin"}},
		"gone with retention":                  {Question{Event: ev, Complete: 3, Spans: []Span{{Subscription: all}}}, Receiver{}, Answer{Why: WhyExpired, Types: all.Types}},
		"of an earlier incarnation":            {Question{Type: "invoice.paid", Position: cursor.Position{Incarnation: 2}, Spans: []Span{{Subscription: all}}}, Receiver{}, Answer{Why: WhyExpired, Types: all.Types}},
		"rejected":                             {Question{Exception: &Exception{Kind: ExceptionRejected}, Code: "bad_json", Detail: "not JSON"}, Receiver{}, Answer{Why: WhyRejected, Span: &Exception{Kind: ExceptionRejected}, Code: "bad_json", Detail: "not JSON"}},
		"what must not be":                     {Question{Event: ev, Spans: []Span{{Subscription: all}}}, Receiver{}, Answer{Why: WhyMissing, Types: all.Types}},
		"disabled from its creation":           {Question{Event: ev, Stored: noon}, Receiver{CreatedAt: since, DisabledReason: "manual", DisabledAt: since}, Answer{Why: WhyDisabled, Since: since}},
	} {
		c.q.Incarnation, c.q.Seq, c.q.Now = 1, 3, noon
		if c.q.Position.Incarnation == 0 {
			c.q.Position = pos
		}
		c.r.Row = 1
		c.q.Receivers = []Receiver{c.r}
		c.want.Receiver = c.r
		if diff := cmp.Diff([]Answer{c.want}, Explain(c.q)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// What was removed is listed only where it was subscribed.
func TestExplainLeavesOutWhatWasRemoved(t *testing.T) {
	w := newWorld()
	removed := Receiver{Row: 1, Removed: true}
	if diff := cmp.Diff(map[int64]Why{1: WhyDead}, w.explained(t, 5, removed)); diff != "" {
		t.Errorf("it was subscribed (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[int64]Why{}, w.explained(t, 6, removed)); diff != "" {
		t.Errorf("it was not (-want +got):\n%s", diff)
	}
}

// history is a random life of an org, written into books as fan-out does it,
// with what should be said of each pair.
type history struct {
	log   *streamtest.Log
	books *testBooks
	now   time.Time
	gated bool
	last  int64 // event
	known map[stream.ID]bool
	ends  []*receiverLife
	want  map[stream.Seq]map[int64]Why
}

type receiverLife struct {
	Receiver
	Subscription
	open bool // is the last span of the history that is not ended
}

func newHistory() *history {
	h := &history{now: noon, known: make(map[stream.ID]bool), want: make(map[stream.Seq]map[int64]Why), books: &testBooks{}}
	h.log = &streamtest.Log{Now: func() time.Time { return h.now }}
	h.log.Create(acmeStream)
	st, _ := h.log.State(context.Background(), acmeStream)
	h.books.pos = cursor.Position{Org: "acme", Stream: acmeStream, Created: st.Created, Incarnation: 1}
	return h
}

// close ends the receiver's span at the position, as the books do: one that would end
// before it begins never was.
func (h *history) close(r *receiverLife) {
	if !r.open {
		return
	}
	r.open = false
	i := slices.IndexFunc(h.books.history, func(s Span) bool { return s.Endpoint == r.Row && !s.Ended })
	s := &h.books.history[i]
	if s.From >= h.books.pos.Seq {
		h.books.history = slices.Delete(h.books.history, i, i+1)
		return
	}
	s.Ended, s.UntilIncarnation, s.Until = true, 1, h.books.pos.Seq
}

func (h *history) subscribe(r *receiverLife, types []string, workspace string) {
	h.close(r)
	r.open = true
	r.Subscription = Subscription{Endpoint: r.Row, Types: types, Workspace: workspace, Incarnation: 1, From: h.books.pos.Seq}
	h.books.history = append(h.books.history, Span{Subscription: r.Subscription})
}

// message appends one and fans it out, or loses it before that.
func (h *history) message(typ, workspace, key, data string, lost bool, state deliver.State) {
	header := stream.Header{}
	for name, v := range map[string]string{"Nats-Msg-Id": key, "Grapnel-Workspace": workspace} {
		if v != "" {
			header[name] = []string{v}
		}
	}
	seq := h.log.Append("events.acme."+typ, header, []byte(data))
	h.books.pos.Seq = seq
	says := make(map[int64]Why)
	h.want[seq] = says
	all := func(why Why, kind ExceptionKind) {
		h.books.exceptions = append(h.books.exceptions, Exception{kind, 1, seq, seq})
		for _, r := range h.ends {
			says[r.Row] = why
		}
	}
	if lost {
		h.log.DeleteMessage(acmeStream, seq)
		all(WhyGap, ExceptionGap)
		return
	}
	msgs, _, _ := h.log.Read(context.Background(), acmeStream, seq, 1)
	ev, err := stream.Decoding{Org: "acme"}.Decode(msgs[0])
	switch {
	case err != nil:
		all(WhyRejected, ExceptionRejected)
		return
	case h.gated:
		all(WhyGated, ExceptionGated)
		return
	}
	booked := BookedEvent{Org: "acme", ID: ev.ID, Incarnation: 1, Seq: seq, Kept: true}
	for _, r := range h.ends {
		switch {
		case !r.open:
			says[r.Row] = WhyDisabled
		case !slices.ContainsFunc(r.Types, func(p string) bool { return MatchType(p, typ) }):
			says[r.Row] = WhyType
		case r.Workspace != "" && r.Workspace != workspace:
			says[r.Row] = WhyWorkspace
		case h.known[ev.ID]:
			says[r.Row] = WhyDuplicate
		default:
			says[r.Row] = Why(state.String())
			d := BookedDelivery{Endpoint: r.Row, Org: "acme", State: state}
			if state == deliver.Delivered {
				d.Made, d.Attempts = 1, []BookedAttempt{{1, deliver.OK}}
			}
			booked.Deliveries = append(booked.Deliveries, d)
		}
	}
	if len(booked.Deliveries) > 0 {
		h.last++
		booked.Event = h.last
		h.known[ev.ID] = true
		h.books.events = append(h.books.events, booked)
	}
}

// For every sequence and endpoint of a random history there is exactly one
// reason, it is the one of what happened, and Check finds nothing wrong with
// the same books.
func TestExplainAgreesWithHistoryAndCheck(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := newHistory()
		types := []string{"a.x", "a.y", "a", "b"}
		patterns := [][]string{{"*"}, {"a.*"}, {"a"}, {"b", "a.x"}}
		spaces := []string{"", "w1", "w2"}
		for step := range rapid.IntRange(1, 40).Draw(rt, "steps") {
			h.now = h.now.Add(time.Second)
			switch what := rapid.IntRange(0, 9).Draw(rt, "what"); {
			case what == 0 || len(h.ends) == 0:
				r := &receiverLife{Receiver: Receiver{Row: int64(len(h.ends) + 1), CreatedAt: h.now}}
				h.ends = append(h.ends, r)
				if rapid.Bool().Draw(rt, "enabled") {
					h.subscribe(r, rapid.SampledFrom(patterns).Draw(rt, "types"), rapid.SampledFrom(spaces).Draw(rt, "workspace"))
				}
				h.now = h.now.Add(time.Second)
			case what == 1:
				h.close(rapid.SampledFrom(h.ends).Draw(rt, "endpoint"))
			case what == 2:
				h.subscribe(rapid.SampledFrom(h.ends).Draw(rt, "endpoint"), rapid.SampledFrom(patterns).Draw(rt, "types"), rapid.SampledFrom(spaces).Draw(rt, "workspace"))
			case what == 3:
				h.gated = !h.gated
			default:
				key := rapid.SampledFrom([]string{"", "", "k1", "k2", fmt.Sprint("only", step)}).Draw(rt, "key")
				data := rapid.SampledFrom([]string{"{}", "{}", "{}", "{"}).Draw(rt, "data")
				state := rapid.SampledFrom([]deliver.State{deliver.Pending, deliver.Delivered, deliver.Dead, deliver.Cancelled}).Draw(rt, "state")
				h.message(rapid.SampledFrom(types).Draw(rt, "type"), rapid.SampledFrom(spaces).Draw(rt, "of"), key, data,
					rapid.IntRange(0, 9).Draw(rt, "lost") == 0, state)
			}
		}
		report, err := Check(context.Background(), h.log, stream.Decoding{Org: "acme"}, h.books, nil)
		if err != nil {
			rt.Fatal(err)
		}
		if report.Found > 0 {
			rt.Fatalf("Check: %v", report.Problems)
		}
		for seq, says := range h.want {
			q := Question{Incarnation: 1, Seq: seq, Position: h.books.pos, Spans: h.books.history}
			h.books.ask(t, &q, h.log)
			for _, r := range h.ends {
				q.Receivers = append(q.Receivers, r.Receiver)
				if _, existed := says[r.Row]; !existed && q.Exception == nil {
					says[r.Row] = WhyCreatedLater
				} else if !existed {
					says[r.Row] = Why(q.Exception.Kind)
				}
			}
			got := make(map[int64]Why)
			for _, a := range Explain(q) {
				got[a.Row] = a.Why
			}
			if diff := cmp.Diff(says, got, cmpopts.EquateEmpty()); diff != "" {
				rt.Fatalf("sequence %d (-happened +explained):\n%s", seq, diff)
			}
		}
	})
}
