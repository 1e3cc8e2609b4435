package fanouttest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// callAdmin is a change by hand. It fails with a full disk, never by Fault.
const callAdmin Call = "admin"

var errNoSuch = errors.New("there is none")

// AddOrg adds an organization.
func (b *Books) AddOrg(ctx context.Context, o fanout.Org) error {
	if err := b.begin(callAdmin, "add organization %s", o.ID); err != nil {
		return err
	}
	defer b.end()
	if b.disk.orgs[o.ID] != nil {
		return fmt.Errorf("add organization %s: there is one already", o.ID)
	}
	b.disk.orgs[o.ID] = &org{
		Org:        o,
		pos:        cursor.Position{Org: o.ID, Stream: stream.Names{}.Stream(o.ID)},
		far:        cursor.Position{Org: o.ID, Stream: stream.Names{}.Stream(o.ID)},
		version:    1,
		ids:        make(map[stream.ID]*event),
		exceptions: make(map[place]fanout.Exception),
		behind:     make(map[int64]*catchup),
	}
	return nil
}

// SetGated says whether the org's plan lacks outgoing webhooks.
func (b *Books) SetGated(ctx context.Context, name string, gated bool) error {
	o, err := b.org(callAdmin, name)
	if err != nil {
		return err
	}
	defer b.end()
	o.Gated = gated
	return nil
}

// PauseCursor stops the reading of the org's stream; plans made before are
// stale.
func (b *Books) PauseCursor(ctx context.Context, name string) error { return b.pause(name, true) }

// ResumeCursor undoes PauseCursor.
func (b *Books) ResumeCursor(ctx context.Context, name string) error { return b.pause(name, false) }

func (b *Books) pause(name string, paused bool) error {
	o, err := b.org(callAdmin, name)
	if err != nil {
		return err
	}
	defer b.end()
	if o.Paused != paused {
		o.Paused = paused
		if !b.Broken.PauseInVain {
			o.version++
		}
	}
	return nil
}

// AddEndpoint adds an endpoint that gets events after the org's position, with
// defaults for what it leaves out.
func (b *Books) AddEndpoint(ctx context.Context, ep deliver.Endpoint) (deliver.Endpoint, error) {
	return b.addEndpoint(ep, nil)
}

// AddEndpointFrom adds an endpoint that gets what comes after a sequence.
func (b *Books) AddEndpointFrom(ctx context.Context, ep deliver.Endpoint, after stream.Seq) (deliver.Endpoint, error) {
	return b.addEndpoint(ep, &after)
}

func (b *Books) addEndpoint(ep deliver.Endpoint, after *stream.Seq) (deliver.Endpoint, error) {
	o, err := b.org(callAdmin, ep.Org)
	if err != nil {
		return ep, err
	}
	ep.Row = int64(len(b.disk.endpoints)) + 1
	ep.ID = fmt.Sprintf("ep_%026d", ep.Row)
	ep.CreatedAt = b.now()
	if ep.Timeout == 0 {
		ep.Timeout = deliver.DefaultTimeout
	}
	if ep.Retry == (deliver.Policy{}) {
		ep.Retry = deliver.DefaultPolicy
	}
	if ep.Concurrency == 0 {
		ep.Concurrency = deliver.DefaultConcurrency
	}
	e := &endpoint{Endpoint: ep}
	b.disk.endpoints = append(b.disk.endpoints, e)
	switch {
	case after != nil && *after < o.far.Seq:
		o.fallBehind(e, *after, fanout.Backfill, b.now())
	case ep.Enabled():
		o.open(e)
		if after != nil {
			s := &o.spans[len(o.spans)-1]
			s.Incarnation, s.From = max(s.Incarnation, 1), *after
		}
	}
	b.end()
	b.tell(ep)
	return ep, nil
}

// AllEndpoints lists the endpoints that were not removed.
func (b *Books) AllEndpoints(ctx context.Context) ([]deliver.Endpoint, error) {
	if err := b.begin(CallRead, "endpoints"); err != nil {
		return nil, err
	}
	defer b.end()
	var all []deliver.Endpoint
	for _, e := range b.disk.endpoints {
		if !e.removed {
			all = append(all, e.Endpoint)
		}
	}
	return all, nil
}

// FindEndpointByRow finds an endpoint by its number.
func (b *Books) FindEndpointByRow(ctx context.Context, row int64) (deliver.Endpoint, error) {
	if err := b.begin(CallRead, "endpoint %d", row); err != nil {
		return deliver.Endpoint{}, err
	}
	defer b.end()
	e := b.disk.endpoint(row)
	if e == nil || e.removed {
		return deliver.Endpoint{}, fmt.Errorf("endpoint %d: %w", row, errNoSuch)
	}
	return e.Endpoint, nil
}

// DisableEndpoint keeps the endpoint's deliveries in the books, and ends its
// subscription at the org's position.
func (b *Books) DisableEndpoint(ctx context.Context, name, id, reason string) (deliver.Endpoint, error) {
	return b.change(name, id, func(o *org, e *endpoint) {
		if e.Enabled() {
			b.disable(o, e, reason)
			b.announce(e, stream.EndpointDisabled, "")
		}
	})
}

// EnableEndpoint begins a new subscription at the org's position.
func (b *Books) EnableEndpoint(ctx context.Context, name, id string) (deliver.Endpoint, error) {
	return b.change(name, id, func(o *org, e *endpoint) {
		if !e.Enabled() {
			e.DisabledReason = ""
			b.announce(e, stream.EndpointEnabled, "")
			e.Health = e.Renewed()
			if c := o.behind[e.Row]; c != nil {
				o.grow(c, e)
			} else {
				o.comeBack(e)
			}
		}
	})
}

// SetPaused holds the endpoint's deliveries back, or lets it go on.
func (b *Books) SetPaused(ctx context.Context, name, id string, paused bool) (deliver.Endpoint, error) {
	return b.change(name, id, func(o *org, e *endpoint) {
		if e.Paused && !paused {
			e.Health = e.Renewed()
		}
		e.Paused = paused
	})
}

// RemoveEndpoint cancels what is pending. The history stays.
func (b *Books) RemoveEndpoint(ctx context.Context, name, id string) error {
	_, err := b.change(name, id, func(o *org, e *endpoint) {
		if e.Enabled() {
			o.end(e.Row)
		}
		delete(o.behind, e.Row)
		e.removed, e.DisabledReason = true, "removed"
		for _, ev := range b.disk.events {
			if d := ev.find(e.Row); d != nil && d.state == deliver.Pending {
				d.state, d.reason, d.Due = deliver.Cancelled, deliver.EndpointDeleted, 0
			}
		}
	})
	return err
}

// disable is called with disk.mu held.
func (b *Books) disable(o *org, e *endpoint, reason string) {
	e.DisabledReason, e.DisabledAt = reason, b.now()
	o.end(e.Row)
}

func (b *Books) change(name, id string, f func(*org, *endpoint)) (deliver.Endpoint, error) {
	o, err := b.org(callAdmin, name)
	if err != nil {
		return deliver.Endpoint{}, err
	}
	i := slices.IndexFunc(b.disk.endpoints, func(e *endpoint) bool { return e.Org == name && e.ID == id && !e.removed })
	if i < 0 {
		b.end()
		return deliver.Endpoint{}, fmt.Errorf("endpoint %s of %s: %w", id, name, errNoSuch)
	}
	f(o, b.disk.endpoints[i])
	ep := b.disk.endpoints[i].Endpoint
	b.end()
	b.tell(ep)
	return ep, nil
}

// GetDelivery reads a delivery and its attempts.
func (b *Books) GetDelivery(ctx context.Context, name string, k deliver.Key) (deliver.Delivery, []deliver.Attempt, error) {
	if err := b.begin(CallRead, "delivery %v", k); err != nil {
		return deliver.Delivery{}, nil, err
	}
	defer b.end()
	e, d := b.disk.delivery(k)
	if d == nil || e.org.ID != name {
		return deliver.Delivery{}, nil, fmt.Errorf("delivery %v of %s: %w", k, name, errNoSuch)
	}
	var due time.Time
	if d.Due != 0 && d.Due != deliver.HeldBack {
		due = time.UnixMilli(d.Due).UTC()
	}
	shown := deliver.Delivery{
		Key:       k,
		Held:      d.state == deliver.Pending && d.Due == deliver.HeldBack,
		Org:       name,
		Endpoint:  b.disk.endpoint(k.Endpoint).ID,
		EventID:   e.id,
		Type:      e.typ,
		Seq:       e.place.seq,
		State:     d.state,
		Reason:    d.reason,
		Attempts:  d.Attempts,
		Due:       due,
		Stored:    e.stored,
		FannedOut: e.fannedOut,
	}
	return shown, slices.Clone(d.attempts), nil
}
