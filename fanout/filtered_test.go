package fanout

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/fanout/filter"
	"github.com/grapnel-hooks/grapnel/stream"
	"pgregory.net/rapid"
)

func filtered(row int64, text string, types ...string) Subscription {
	return Subscription{Endpoint: row, Types: types, Filter: filter.Hold(text), Incarnation: 1}
}

func event(typ, data string) stream.Event {
	return stream.Event{Type: typ, Seq: 1, Data: json.RawMessage(data)}
}

func TestMatchFilters(t *testing.T) {
	set := Compile(1, []Subscription{
		filtered(1, "", "*"),
		filtered(2, `data.n > 1`, "*", "a.*", "a.x"), // three lists, one answer
		filtered(3, `data.n > 1`, "b"),
		filtered(4, `!(data.n > 1)`, "a.x"),
		filtered(5, `data.n >`, "a.x"), // cannot be read: everything
		filtered(6, `workspace == "w"`, "a.x"),
	})
	w := event("a.x", `{"n":2}`)
	w.Workspace = "w"
	for _, c := range []struct {
		ev   stream.Event
		want []int64
	}{
		{event("a.x", `{"n":2}`), []int64{1, 2, 5}},
		{event("a.x", `{"n":1}`), []int64{1, 4, 5}},
		{event("a.x", `{}`), []int64{1, 4, 5}},
		{event("b", `{"n":2}`), []int64{1, 2, 3}},
		{event("b", `{"n":1}`), []int64{1}},
		{w, []int64{1, 2, 5, 6}},
	} {
		for range 2 {
			if got := set.Match(&c.ev, 1, nil); !slices.Equal(got, c.want) {
				t.Errorf("%s of %s: %v, want %v", c.ev.Type, c.ev.Data, got, c.want)
			}
		}
	}
}

// A set says of each endpoint what its filter alone says.
func TestMatchFiltersTwin(t *testing.T) {
	texts := []string{"", `data.a == 1`, `data.a.b == 1`, `data.a != 1 || data.b.c`, `data.a.exists(i, i == 1)`, `!has(data.b.c)`, `1 in data.b`}
	values := []string{`1`, `2`, `true`, `[1,2]`, `{"b":1}`, `{"c":true}`, `{}`, `null`}
	rapid.Check(t, func(t *rapid.T) {
		var subs []Subscription
		for i := range rapid.IntRange(1, 12).Draw(t, "endpoints") {
			subs = append(subs, filtered(int64(i+1), rapid.SampledFrom(texts).Draw(t, "filter"), "*"))
		}
		set := Compile(1, subs)
		for range 3 { // the second event must not see anything of the first
			ev := event("x", fmt.Sprintf(`{"a":%s,"b":%s}`, rapid.SampledFrom(values).Draw(t, "a"), rapid.SampledFrom(values).Draw(t, "b")))
			var want []int64
			for _, s := range subs {
				if ok, _ := s.Filter.Match(&ev); ok {
					want = append(want, s.Endpoint)
				}
			}
			if diff := cmp.Diff(want, set.Match(&ev, 1, nil), cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("%s (-alone +together):\n%s", ev.Data, diff)
			}
		}
	})
}

// A reading is used again and again. (The race detector lets sync.Pool forget some.)
func TestMatchFiltersAllocatesNothing(t *testing.T) {
	set := Compile(1, []Subscription{filtered(1, `data.n > 1 && data.s == "x"`, "*"), filtered(2, "", "*")})
	ev := event("a.x", `{"n":2,"s":"x","t":[1,2,3]}`)
	dst := make([]int64, 0, 8)
	if n := testing.AllocsPerRun(1000, func() { dst = set.Match(&ev, 1, dst[:0]) }); n > 2 || len(dst) != 2 {
		t.Errorf("%v allocations, %v", n, dst)
	}
}

// What nobody's filter lets through is unmatched, and is not known to be a
// duplicate of anything.
func TestMakeCountsFiltered(t *testing.T) {
	b := cursor.Batch{From: cursor.Position{Incarnation: 1}, To: cursor.Position{Incarnation: 1, Seq: 3}}
	for i, data := range []string{`{"n":1}`, `{"n":2}`, `{"n":2}`} {
		h := stream.Header{"Nats-Msg-Id": []string{"one key"}}
		b.Messages = append(b.Messages, stream.Message{Subject: "events.acme.a", Seq: stream.Seq(i + 1), Time: noon, Header: h, Data: []byte(data)})
	}
	p := Make(Org{ID: "acme"}, b, Compile(1, []Subscription{filtered(1, `data.n == 2`, "*")}), stream.Decoding{Org: "acme"})
	if len(p.Events) != 1 || p.Events[0].Seq != 2 || p.Unmatched != 1 || p.Duplicates != 1 {
		t.Errorf("events %+v, %d unmatched, %d duplicates", p.Events, p.Unmatched, p.Duplicates)
	}
}

func TestExplainFiltered(t *testing.T) {
	ev := event("a.x", `{"n":1,"secret":"s3cret"}`)
	text := `data.n > 1 || data.secret.startsWith("x")`
	span := Span{Subscription: filtered(1, text, "a.*")}
	before := Span{Subscription: filtered(1, "", "a.*"), Ended: true, UntilIncarnation: 1, Until: 5}
	q := func(ev *stream.Event, spans ...Span) Question {
		return Question{Incarnation: 1, Seq: 3, Type: "a.x", Position: cursor.Position{Incarnation: 1, Seq: 9}, Event: ev, Receivers: []Receiver{{Row: 1}}, Spans: spans}
	}
	for name, c := range map[string]struct {
		q    Question
		want Answer
	}{
		"filtered":                 {q(&ev, span), Answer{Why: WhyFiltered, Types: []string{"a.*"}, Filter: text, Part: text + ": neither part is true"}},
		"the stream has it not":    {q(nil, span), Answer{Why: WhyUnknown, Types: []string{"a.*"}, Filter: text}},
		"another span lets it":     {q(&ev, before, span), Answer{Why: WhyMissing, Types: []string{"a.*"}}},
		"in whichever order":       {q(&ev, span, before), Answer{Why: WhyMissing, Types: []string{"a.*"}}},
		"its type says so already": {q(&ev, Span{Subscription: filtered(1, text, "b")}), Answer{Why: WhyType, Types: []string{"b"}, Filter: text}},
	} {
		c.want.Receiver = Receiver{Row: 1}
		if diff := cmp.Diff([]Answer{c.want}, Explain(c.q)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// Check misses nothing that a filter kept back, and finds what it should have.
func TestCheckFiltered(t *testing.T) {
	for text, want := range map[string]ProblemKind{
		`type.startsWith("invoice.") || type == "page.made"`: "",
		`type == "page.made"`:                                ProblemUnsubscribed,
	} {
		w := newWorld()
		w.books.history[2].Filter = filter.Hold(text) // of endpoint 2, from 5 on
		if got := w.check(t); want == "" && got.Found > 0 || want != "" && (got.Found == 0 || got.Problems[0].Kind != want) {
			t.Errorf("%s: %+v", text, got.Problems)
		}
	}
	w := newWorld()
	for i := range w.books.events {
		e := &w.books.events[i]
		e.Deliveries = slices.DeleteFunc(e.Deliveries, func(d BookedDelivery) bool { return d.Endpoint == 2 && e.Seq == 5 })
	}
	w.ledger = nil
	if got := w.check(t); got.Missing != 1 {
		t.Fatalf("without a filter: %+v", got.Problems)
	}
	w.books.history[2].Filter = filter.Hold(`type == "page.made"`)
	if got := w.check(t); got.Found != 0 {
		t.Errorf("kept back by the filter, and %+v", got.Problems)
	}
}

func TestTrial(t *testing.T) {
	trial := NewTrial(Subscription{Types: []string{"a.*"}, Workspace: "w", Filter: filter.Hold(`data.n > 1 && data.ok`)})
	ask := func(times int, typ, workspace, data string) {
		for range times {
			ev := event(typ, data)
			ev.Workspace, ev.Seq = workspace, stream.Seq(trial.Events+1)
			trial.Ask(&ev)
		}
	}
	ask(3, "a.x", "w", `{"n":2,"ok":true}`)
	ask(4, "a.x", "w", `{"n":1}`)
	ask(2, "a.x", "w", `{"n":2}`)
	ask(5, "b", "w", `{}`)
	ask(1, "a.x", "", `{"n":2,"ok":true}`)
	ask(30, "a.x", "w", `{"n":"2"}`)
	type summary struct {
		Events, Matched int
		Reasons         []TrialCount
	}
	want := summary{45, 3, []TrialCount{
		{TrialReason{WhyFiltered, `data.n > 1: data.n is a string`}, 30},
		{TrialReason{Why: WhyType}, 5},
		{TrialReason{WhyFiltered, `data.n > 1 is false`}, 4},
		{TrialReason{WhyFiltered, `data.ok: data.ok is missing`}, 2},
		{TrialReason{Why: WhyWorkspace}, 1},
	}}
	if diff := cmp.Diff(want, summary{trial.Events, trial.Matched, trial.Reasons()}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(trial.Samples) != MaxTrialSamples || trial.Samples[0].Seq != 4 || trial.Samples[0].Part != `data.n > 1 is false` {
		t.Errorf("samples %+v", trial.Samples)
	}
}
