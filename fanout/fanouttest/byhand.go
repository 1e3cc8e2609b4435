package fanouttest

import (
	"context"
	"fmt"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/stream"
)

// RetryDelivery makes a delivery pending and due now, with a fresh budget of
// attempts and its history kept.
func (b *Books) RetryDelivery(ctx context.Context, name string, k deliver.Key) (deliver.Ticket, error) {
	if err := b.begin(callAdmin, "retry %v", k); err != nil {
		return deliver.Ticket{}, err
	}
	defer b.end()
	e, d := b.disk.delivery(k)
	if d == nil || e.org.ID != name {
		return deliver.Ticket{}, fmt.Errorf("retry %v of %s: %w", k, name, errNoSuch)
	}
	if b.disk.endpoint(k.Endpoint).removed {
		return deliver.Ticket{}, fmt.Errorf("retry %v: its endpoint was removed", k)
	}
	b.again(d, deliver.Manual)
	return d.Ticket, nil
}

// CancelDelivery ends a pending delivery.
func (b *Books) CancelDelivery(ctx context.Context, name string, k deliver.Key) error {
	if err := b.begin(callAdmin, "cancel %v", k); err != nil {
		return err
	}
	defer b.end()
	e, d := b.disk.delivery(k)
	if d == nil || e.org.ID != name {
		return fmt.Errorf("cancel %v of %s: %w", k, name, errNoSuch)
	}
	if d.state != deliver.Pending {
		return fmt.Errorf("cancel %v: it is %v", k, d.state)
	}
	d.state, d.reason, d.Due, d.line = deliver.Cancelled, deliver.ByHand, 0, deliver.Line{}
	return nil
}

// ReplayEvent makes the deliveries of an event due now, or the one of an
// endpoint.
func (b *Books) ReplayEvent(ctx context.Context, name string, id stream.ID, endpoint string) ([]deliver.Key, error) {
	o, err := b.org(callAdmin, name)
	if err != nil {
		return nil, err
	}
	defer b.end()
	e := o.ids[id]
	if e == nil {
		return nil, fmt.Errorf("replay %v of %s: %w", id, name, errNoSuch)
	}
	var keys []deliver.Key
	for _, d := range e.deliveries {
		ep := b.disk.endpoint(d.Endpoint)
		if ep.removed || endpoint != "" && ep.ID != endpoint {
			continue
		}
		b.again(d, deliver.Replay)
		keys = append(keys, d.Key)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("replay %v: no endpoint is left that had it", id)
	}
	return keys, nil
}

// again makes a delivery due now. The first attempt of a fresh one is due
// anyway.
func (b *Books) again(d *delivery, trigger deliver.Trigger) {
	if d.state == deliver.Pending && d.Due == 0 {
		return
	}
	d.state, d.reason, d.Spent, d.Trigger = deliver.Pending, deliver.NoReason, 0, trigger
	d.Due, d.since = max(b.now().UnixMilli(), 1), b.disk.tick()
}
