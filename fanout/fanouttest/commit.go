package fanouttest

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// Orgs implements [fanout.Books].
func (b *Books) Orgs(ctx context.Context) ([]fanout.Org, error) {
	if err := b.begin(CallRead, "list organizations"); err != nil {
		return nil, err
	}
	defer b.end()
	var all []fanout.Org
	for _, name := range slices.Sorted(maps.Keys(b.disk.orgs)) {
		all = append(all, b.disk.orgs[name].Org)
	}
	return all, nil
}

// Org implements [fanout.Books].
func (b *Books) Org(ctx context.Context, org string) (fanout.Org, error) {
	o, err := b.org(CallRead, org)
	if err != nil {
		return fanout.Org{}, err
	}
	defer b.end()
	return o.Org, nil
}

// Position implements [fanout.Books].
func (b *Books) Position(ctx context.Context, org string) (cursor.Position, error) {
	o, err := b.org(CallRead, org)
	if err != nil {
		return cursor.Position{}, err
	}
	defer b.end()
	return o.pos, nil
}

// Subscriptions implements [fanout.Books].
func (b *Books) Subscriptions(ctx context.Context, org string) (*fanout.Set, error) {
	o, err := b.org(CallRead, org)
	if err != nil {
		return nil, err
	}
	defer b.end()
	var spans []fanout.Span
	for _, s := range o.spans {
		if !s.Ended || o.at().compare(place{s.UntilIncarnation, s.Until}) < 0 {
			if b.Broken.ForgetFilters && o.at().compare(place{o.far.Incarnation, o.far.Seq}) < 0 {
				s = unfiltered(s)
			}
			spans = append(spans, s)
		}
	}
	return fanout.CompileHistory(o.version, spans), nil
}

// org finds an organization and leaves the books locked.
func (b *Books) org(call Call, name string) (*org, error) {
	if err := b.begin(call, "organization %s", name); err != nil {
		return nil, err
	}
	o := b.disk.orgs[name]
	if o == nil {
		b.end()
		return nil, fmt.Errorf("organization %s: %w", name, fanout.ErrNoOrg)
	}
	return o, nil
}

// Commit implements [fanout.Books].
func (b *Books) Commit(ctx context.Context, p fanout.Plan) ([]fanout.Written, error) {
	o, err := b.org(CallCommit, p.Org)
	if err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	defer b.end()
	if !same(o.pos, p.From) || !o.reaches(p) {
		return nil, fmt.Errorf("commit %s from %d: %w to %d", p.Org, p.From.Seq, fanout.ErrMoved, o.pos.Seq)
	}
	if o.version != p.Version && !b.Broken.NoVersion {
		return nil, fmt.Errorf("commit %s from %d: %w", p.Org, p.From.Seq, fanout.ErrStale)
	}
	fault := b.fault(CallCommit)
	if fault == NotApplied {
		if b.Broken.CursorFirst {
			o.pos = p.To
		}
		return nil, fmt.Errorf("commit %s: %w", p.Org, ErrInjected)
	}
	written := b.apply(o, p)
	if fault == Unreported {
		return nil, fmt.Errorf("commit %s: %w", p.Org, ErrInjected)
	}
	return written, nil
}

func (b *Books) apply(o *org, p fanout.Plan) []fanout.Written {
	if p.Again {
		return b.applyAgain(o, p)
	}
	if p.Change != cursor.Same {
		o.complete = p.Began
		o.anew(b, p)
	}
	o.pos, o.far = p.To, p.To
	for _, r := range p.Rejected {
		o.except(fanout.ExceptionRejected, p.To.Incarnation, r.Seq, r.Seq)
	}
	for _, seq := range p.Gated {
		o.except(fanout.ExceptionGated, p.To.Incarnation, seq, seq)
	}
	for _, g := range p.Gaps {
		o.except(fanout.ExceptionGap, g.Incarnation, g.From, g.To)
	}
	written := make([]fanout.Written, len(p.Events))
	for i := range p.Events {
		written[i] = b.write(o, p.To.Incarnation, &p.Events[i])
	}
	b.park(o)
	return written
}

// write makes what is missing of one event and its deliveries.
func (b *Books) write(o *org, incarnation int, ev *fanout.Planned) fanout.Written {
	at := place{incarnation, ev.Seq}
	e := o.ids[ev.ID]
	switch {
	case e == nil || b.Broken.NoUniqueKey && e.place != at:
		e = &event{
			number:    int64(len(b.disk.events)) + 1,
			org:       o,
			place:     at,
			id:        ev.ID,
			typ:       ev.Type,
			stored:    ev.Stored,
			fannedOut: b.now(),
		}
		b.disk.events = append(b.disk.events, e)
		o.ids[ev.ID] = e
	case e.place != at:
		return fanout.Written{}
	}
	w := fanout.Written{Event: e.number}
	for _, row := range ev.Endpoints {
		if e.find(row) != nil {
			continue
		}
		e.add(row, b.disk.tick())
		if b.disk.endpoint(row).removed {
			d := e.find(row)
			d.state, d.reason = deliver.Cancelled, deliver.EndpointDeleted
			continue
		}
		w.Endpoints = append(w.Endpoints, row)
	}
	return w
}

func (o *org) except(kind fanout.ExceptionKind, incarnation int, from, to stream.Seq) {
	o.exceptions[place{incarnation, from}] = fanout.Exception{Kind: kind, Incarnation: incarnation, From: from, To: to}
}

// same compares positions as far as they name a place.
func same(a, b cursor.Position) bool {
	return a.Org == b.Org && a.Incarnation == b.Incarnation && a.Seq == b.Seq && a.Created.Equal(b.Created)
}

// EventPlaces implements [fanout.SourceBooks].
func (b *Books) EventPlaces(ctx context.Context, events []int64) ([]fanout.EventPlace, error) {
	if err := b.begin(CallRead, "places of %d events", len(events)); err != nil {
		return nil, err
	}
	defer b.end()
	var places []fanout.EventPlace
	for _, n := range events {
		if n < 1 || n > int64(len(b.disk.events)) {
			continue
		}
		e := b.disk.events[n-1]
		places = append(places, fanout.EventPlace{
			Event: n, Org: e.org.ID, Incarnation: e.place.incarnation, Seq: e.place.seq, ID: e.id,
		})
	}
	return places, nil
}

// Payloads implements [fanout.SourceBooks]: those that are kept.
func (b *Books) Payloads(ctx context.Context, events []int64) (map[int64]*deliver.Payload, error) {
	if err := b.begin(CallRead, "payloads of %d events", len(events)); err != nil {
		return nil, err
	}
	defer b.end()
	found := make(map[int64]*deliver.Payload)
	for _, n := range events {
		if n >= 1 && n <= int64(len(b.disk.events)) && b.disk.events[n-1].payload != nil {
			found[n] = b.disk.events[n-1].payload
		}
	}
	return found, nil
}
