package fanouttest

import (
	"cmp"
	"context"
	"slices"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/stream"
)

// book writes one record, with disk.mu held, and reports whether that disabled
// its endpoint. A record that is booked already changes nothing.
func (b *Books) book(r deliver.Record) (disabled bool) {
	e, d := b.disk.delivery(r.Key)
	if d != nil && r.Held {
		if !b.Broken.ForgetHeld {
			d.hold(&r)
		}
		return false
	}
	if d == nil || r.Attempt.Number <= d.Attempts {
		return false
	}
	d.attempts = append(d.attempts, r.Attempt)
	d.Attempts = r.Attempt.Number
	if e.payload == nil && !b.Broken.ForgetPayloads {
		e.payload = r.Payload
	}
	if dies(d, &r) {
		b.announceDead(b.disk.endpoint(d.Endpoint), e.typ)
	}
	// A delivery that was cancelled while its request was in flight stays so.
	if d.state == deliver.Pending || b.Broken.Revive {
		d.state, d.reason, d.Spent, d.Trigger, d.Due = r.Next.State, r.Next.Reason, r.Next.Spent, deliver.Retry, 0
		if d.state == deliver.Pending {
			d.Due = max(r.Next.Due.UnixMilli(), 1)
		}
		d.line = deliver.Line{}
		if d.state == deliver.Pending {
			d.line = r.Line
		}
	}
	return b.learn(e, b.disk.endpoint(d.Endpoint), &r)
}

// learn takes from a record what it says of its endpoint.
func (b *Books) learn(e *event, ep *endpoint, r *deliver.Record) (disabled bool) {
	if r.Health != nil && !b.Broken.ForgetHealth {
		ep.noteHealth(*r.Health)
	}
	if r.Next.Disable == "" || ep.removed || !ep.Enabled() {
		return false
	}
	b.disable(e.org, ep, r.Next.Disable)
	b.announce(ep, stream.EndpointDisabled, e.typ)
	return true
}

// noteHealth keeps a health, unless it is older than the one that is there.
func (e *endpoint) noteHealth(h deliver.Health) {
	if h.Step > e.Step {
		e.Health = h
	}
}

// NoteHealth implements [deliver.Books].
func (b *Books) NoteHealth(ctx context.Context, notes []deliver.HealthNote) error {
	if err := b.begin(callAdmin, "note the health of %d endpoints", len(notes)); err != nil {
		return err
	}
	var changed []deliver.Endpoint
	for _, n := range notes {
		e := b.disk.endpoint(n.Endpoint)
		if e == nil || e.removed {
			continue
		}
		e.noteHealth(n.Health)
		if n.Disable != "" && e.Enabled() {
			b.disable(b.disk.orgs[e.Org], e, n.Disable)
			b.announce(e, stream.EndpointDisabled, "")
			changed = append(changed, e.Endpoint)
		}
	}
	b.end()
	b.tell(changed...)
	return nil
}

// Release implements [deliver.Books].
func (b *Books) Release(ctx context.Context, endpoints []int64, due int64) error {
	if err := b.begin(callAdmin, "release the deliveries of %d endpoints", len(endpoints)); err != nil {
		return err
	}
	defer b.end()
	for _, e := range b.disk.events {
		for _, d := range e.deliveries {
			if d.state == deliver.Pending && d.Due > 0 && d.Due < deliver.HeldBack && slices.Contains(endpoints, d.Endpoint) {
				d.Due = due
			}
		}
	}
	return nil
}

// pending lists the pending deliveries of the endpoints (nil: all), ascending.
func (b *Books) pending(endpoints []int64) []deliver.Ticket {
	var ts []deliver.Ticket
	for _, e := range b.disk.events {
		for _, d := range e.deliveries {
			if d.state == deliver.Pending && (endpoints == nil || slices.Contains(endpoints, d.Endpoint)) {
				ts = append(ts, d.Ticket)
			}
		}
	}
	slices.SortFunc(ts, func(a, b deliver.Ticket) int {
		return cmp.Or(cmp.Compare(a.Due, b.Due), cmp.Compare(a.Event, b.Event), cmp.Compare(a.Endpoint, b.Endpoint))
	})
	return ts
}

// Pending implements [deliver.Books].
func (b *Books) Pending(ctx context.Context, from, to deliver.Place, endpoints []int64, limit int) ([]deliver.Ticket, error) {
	if err := b.begin(CallRead, "pending"); err != nil {
		return nil, err
	}
	defer b.end()
	ts := slices.DeleteFunc(b.pending(endpoints), func(t deliver.Ticket) bool {
		return t.Place().Less(from) || to.Less(t.Place())
	})
	return ts[:min(len(ts), limit)], nil
}

// Backlogs implements [deliver.Books].
func (b *Books) Backlogs(ctx context.Context, endpoints []int64) ([]deliver.Backlog, error) {
	if err := b.begin(CallRead, "backlogs"); err != nil {
		return nil, err
	}
	defer b.end()
	if b.Broken.ForgetBacklog {
		return nil, nil
	}
	of := make(map[int64]*deliver.Backlog)
	var all []*deliver.Backlog
	for _, t := range b.pending(endpoints) {
		l := of[t.Endpoint]
		if l == nil {
			l = &deliver.Backlog{Endpoint: t.Endpoint}
			of[t.Endpoint] = l
			all = append(all, l)
		}
		switch {
		case t.Due == 0 && l.Fresh == 0:
			l.Fresh = t.Event
		case t.Due != 0 && l.Due == deliver.Place{}:
			l.Due = t.Place()
		}
	}
	list := make([]deliver.Backlog, len(all))
	for i, l := range all {
		list[i] = *l
	}
	return list, nil
}

// NextDue implements [deliver.Books].
func (b *Books) NextDue(ctx context.Context, after int64) (int64, error) {
	if err := b.begin(CallRead, "next due"); err != nil {
		return 0, err
	}
	defer b.end()
	for _, t := range b.pending(nil) {
		if t.Due > after {
			return t.Due, nil
		}
	}
	return 0, nil
}
