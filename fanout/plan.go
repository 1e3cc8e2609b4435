package fanout

import (
	"errors"
	"fmt"
	"slices"

	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/fanout/catalogue"
	"github.com/grapnel-hooks/grapnel/stream"
)

const (
	// MaxRejectedData is how many bytes of a rejected message are kept.
	MaxRejectedData = 64 << 10

	// poison is the code of a message whose decoding or checking panicked: our own fault,
	// but one that would come back with each reading.
	poison = "poison"
)

// Make plans what a batch causes. It is pure: the same org, batch and
// subscriptions give the same Plan.
//
// Each message ends in exactly one place: in Events when somebody gets it, in
// Rejected when it is no event or not one of org.Types, in Gated when the org's plan keeps it back, and
// otherwise it is counted as Unmatched, or as a Duplicate when an earlier
// message of the batch with the same ID is in Events.
func Make(org Org, b cursor.Batch, set *Set, dec stream.Decoding) Plan {
	return makePlan(org, b, set, dec.Decode)
}

func makePlan(org Org, b cursor.Batch, set *Set, decode decodeFunc) Plan {
	p := Plan{
		Org:     org.ID,
		From:    b.From,
		To:      b.To,
		Change:  b.Change,
		Gaps:    b.Gaps,
		Version: set.Version(),
		Again:   b.Again,
	}
	if b.Change != cursor.Same {
		p.Began = began(b)
	}
	planned := make(map[stream.ID]bool, len(b.Messages))
	var rows, same []int64
	for _, m := range b.Messages {
		ev, rejected := decode.safely(m)
		if rejected == nil && org.Types != nil {
			rejected = checkSafely(org.Types, &ev)
		}
		if rejected != nil {
			p.Rejected = append(p.Rejected, reject(m, rejected))
			continue
		}
		if org.Gated {
			p.Gated = append(p.Gated, m.Seq)
			continue
		}
		rows = set.Match(&ev, b.To.Incarnation, rows[:0])
		switch {
		case len(rows) == 0:
			p.Unmatched++
		case planned[ev.ID]:
			p.Duplicates++
		default:
			planned[ev.ID] = true
			if !slices.Equal(rows, same) { // neighbours mostly go to the same endpoints
				same = slices.Clone(rows)
			}
			p.Events = append(p.Events, Planned{Event: ev, Endpoints: same})
		}
	}
	return p
}

// began is the sequence after which the reading of b.To's incarnation begins.
func began(b cursor.Batch) stream.Seq {
	after := b.To.Seq
	for _, g := range b.Gaps {
		if g.Incarnation == b.To.Incarnation {
			after = min(after, g.From-1)
		}
	}
	if len(b.Messages) > 0 {
		after = min(after, b.Messages[0].Seq-1)
	}
	return after
}

// decodeFunc is [stream.Decoding.Decode].
type decodeFunc func(stream.Message) (stream.Event, error)

// safely decodes m and turns a panic into a rejection, so that no message can
// take the process down twice (REL-02).
func (decode decodeFunc) safely(m stream.Message) (ev stream.Event, rejected *stream.Rejected) {
	defer func() {
		if r := recover(); r != nil {
			rejected = &stream.Rejected{Code: poison, Detail: fmt.Sprintf("decoding panicked: %.200v", r)}
		}
	}()
	ev, err := decode(m)
	if err != nil && !errors.As(err, &rejected) {
		rejected = &stream.Rejected{Code: poison, Detail: err.Error()}
	}
	return ev, rejected
}

// checkSafely holds ev against the catalogue. As with decoding, a panic is a
// rejection.
func checkSafely(types *catalogue.Catalogue, ev *stream.Event) (rejected *stream.Rejected) {
	defer func() {
		if r := recover(); r != nil {
			rejected = &stream.Rejected{Code: poison, Detail: fmt.Sprintf("checking panicked: %.200v", r)}
		}
	}()
	return types.Check(ev)
}

func reject(m stream.Message, why *stream.Rejected) Rejected {
	data := m.Data[:min(len(m.Data), MaxRejectedData)]
	return Rejected{
		Seq:     m.Seq,
		Stored:  m.Time,
		Subject: m.Subject,
		Code:    why.Code,
		Detail:  why.Detail,
		Data:    slices.Clip(data),
	}
}
