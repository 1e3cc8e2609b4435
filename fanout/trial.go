package fanout

import (
	"cmp"
	"slices"

	"github.com/grapnel-hooks/grapnel/stream"
)

// Bounds of what a Trial says.
const (
	MaxTrialReasons = 20
	MaxTrialSamples = 20
)

// Trial asks events, one after the other, whether a subscription that is not made
// yet would want them, wherever in the stream they lie.
type Trial struct {
	Events   int           // that were asked about
	Matched  int           // that it would want …
	Unjudged int           // … and of these, those that take more work than its filter may do
	Samples  []TrialSample // of those that it would not want: the first ones

	want    Subscription
	reasons map[TrialReason]int
}

// TrialReason is why an event is not wanted.
type TrialReason struct {
	Why  Why    // WhyType, WhyWorkspace or WhyFiltered
	Part string // of WhyFiltered, see [Answer.Part]
}

// TrialSample is an event that is not wanted, and why.
type TrialSample struct {
	ID   stream.ID
	Seq  stream.Seq
	Type string
	TrialReason
}

// TrialCount is how many events are not wanted for a reason.
type TrialCount struct {
	TrialReason
	Events int
}

// NewTrial begins a trial of a subscription, of which types, workspace and filter
// count.
func NewTrial(want Subscription) *Trial {
	return &Trial{want: want, reasons: make(map[TrialReason]int)}
}

// Ask asks about one more event.
func (t *Trial) Ask(ev *stream.Event) {
	t.Events++
	q := Question{Event: ev}
	why := TrialReason{Why: q.refused(&Span{Subscription: t.want})}
	if why.Why == "" {
		t.Matched++
		if _, said := t.want.Filter.Match(ev); said != "" {
			t.Unjudged++
		}
		return
	}
	if why.Why == WhyFiltered {
		_, why.Part = t.want.Filter.Match(ev)
	}
	t.reasons[why]++ // there are no more of them than parts of the filter, and sorts of values
	if len(t.Samples) < MaxTrialSamples {
		t.Samples = append(t.Samples, TrialSample{ev.ID, ev.Seq, ev.Type, why})
	}
}

// Reasons are why events are not wanted, the most frequent first, at most
// MaxTrialReasons.
func (t *Trial) Reasons() []TrialCount {
	counts := make([]TrialCount, 0, len(t.reasons))
	for r, n := range t.reasons {
		counts = append(counts, TrialCount{r, n})
	}
	slices.SortFunc(counts, func(a, b TrialCount) int {
		return cmp.Or(cmp.Compare(b.Events, a.Events), cmp.Compare(a.Why, b.Why), cmp.Compare(a.Part, b.Part))
	})
	return counts[:min(len(counts), MaxTrialReasons)]
}
