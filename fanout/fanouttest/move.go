package fanouttest

import (
	"context"
	"fmt"
	"math"

	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// Furthest implements [fanout.Books].
func (b *Books) Furthest(ctx context.Context, org string) (cursor.Position, error) {
	o, err := b.org(CallRead, org)
	if err != nil {
		return cursor.Position{}, err
	}
	defer b.end()
	return o.far, nil
}

// MoveCursor moves the org's position by hand.
func (b *Books) MoveCursor(ctx context.Context, name string, m fanout.Move) error {
	o, err := b.org(callAdmin, name)
	if err != nil {
		return err
	}
	defer b.end()
	skipped, err := m.Check(o.pos, o.far)
	if err != nil {
		return fmt.Errorf("move the cursor of %s: %w", name, err)
	}
	o.pos = m.To
	if o.far.Incarnation == 0 || m.To.Seq > o.far.Seq || b.Broken.ForgetFurthest {
		o.far = m.To
	}
	if skipped.From != 0 && !b.Broken.SkipInSilence {
		o.exceptions[place{skipped.Incarnation, skipped.From}] = skipped
	}
	o.version++
	return nil
}

func (o *org) at() place { return place{o.pos.Incarnation, o.pos.Seq} }

// reaches reports whether the plan goes as far as such a plan may.
func (o *org) reaches(p fanout.Plan) bool {
	switch {
	case p.Change != cursor.Same:
		return true
	case p.Again:
		return p.To.Seq <= o.far.Seq
	}
	return p.From.Seq == o.far.Seq
}

// applyAgain commits what was read again.
func (b *Books) applyAgain(o *org, p fanout.Plan) []fanout.Written {
	in := p.To.Incarnation
	unskipped := func(seq stream.Seq) bool { return o.recorded(in, seq) == fanout.ExceptionSkipped }
	var rejected, gated []stream.Seq
	for _, r := range p.Rejected {
		if unskipped(r.Seq) {
			rejected = append(rejected, r.Seq)
		}
	}
	for _, seq := range p.Gated {
		if unskipped(seq) {
			gated = append(gated, seq)
		}
	}
	written := make([]fanout.Written, len(p.Events))
	for i := range p.Events {
		ev := &p.Events[i]
		why := o.recorded(in, ev.Seq)
		if e := o.ids[ev.ID]; e != nil && e.place != (place{in, ev.Seq}) {
			continue // a duplicate
		}
		if ev.Seq <= o.complete && why == "" {
			continue // its rows may be gone by right
		}
		written[i] = b.write(o, in, ev)
		if why == fanout.ExceptionRejected || why == fanout.ExceptionGated {
			delete(o.exceptions, place{in, ev.Seq})
		}
	}
	after := p.From.Seq
	for _, g := range p.Gaps {
		after = max(after, g.To) // what is gone by now stays skipped
	}
	o.unskip(in, after+1, p.To.Seq)
	for _, seq := range rejected {
		o.except(fanout.ExceptionRejected, in, seq, seq)
	}
	for _, seq := range gated {
		o.except(fanout.ExceptionGated, in, seq, seq)
	}
	o.pos = p.To
	return written
}

// recorded is why the sequence made no deliveries, "" if nothing says so. A gap
// does not: what it spans is not in the stream.
func (o *org) recorded(incarnation int, seq stream.Seq) fanout.ExceptionKind {
	for _, x := range o.exceptions {
		if x.Incarnation == incarnation && x.From <= seq && seq <= x.To && x.Kind != fanout.ExceptionGap {
			return x.Kind
		}
	}
	return ""
}

// unskip removes from the records what was skipped and is in that range.
func (o *org) unskip(incarnation int, from, to stream.Seq) {
	for at, x := range o.exceptions {
		if x.Kind != fanout.ExceptionSkipped || x.Incarnation != incarnation || x.To < from || x.From > to {
			continue
		}
		delete(o.exceptions, at)
		if x.From < from {
			o.exceptions[at] = fanout.Exception{Kind: x.Kind, Incarnation: incarnation, From: x.From, To: from - 1}
		}
		if x.To > to && to < math.MaxUint64 {
			o.exceptions[place{incarnation, to + 1}] = fanout.Exception{Kind: x.Kind, Incarnation: incarnation, From: to + 1, To: x.To}
		}
	}
}

// Find implements [fanout.MoveBooks].
func (a *audited) Find(ctx context.Context, ids []stream.ID) ([]fanout.Found, error) {
	o, err := a.books.org(CallRead, a.org)
	if err != nil {
		return nil, err
	}
	defer a.books.end()
	found := make([]fanout.Found, len(ids))
	for i, id := range ids {
		e := o.ids[id]
		if e == nil {
			continue
		}
		found[i] = fanout.Found{Incarnation: e.place.incarnation, Seq: e.place.seq}
		for _, d := range e.deliveries {
			found[i].Endpoints = append(found[i].Endpoints, d.Endpoint)
		}
	}
	return found, nil
}
