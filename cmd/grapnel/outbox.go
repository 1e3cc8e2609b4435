package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/grapnel-hooks/grapnel/sqlite"
	"github.com/grapnel-hooks/grapnel/stream"
)

const (
	relayBatch   = 100             // operational events of one organization at once
	relayBackoff = 5 * time.Second // of an organization whose stream does not take them
)

// relay brings operational events from the books' outbox to the streams of their
// organizations, each in its order. It remembers nothing that the books do not
// know, but for whom it waits.
//
// Crash between append and remove: the events are appended again by their dedupe
// keys. The stream knows these again for some minutes, and the cursor for as
// long as deliveries are kept: it stays one event.
type relay struct {
	orgs   func() []string // for whose streams events wait
	read   func(ctx context.Context, org string, limit int) ([]sqlite.Announcement, error)
	append func(ctx context.Context, org string, batch []stream.Append) error // all or none
	remove func(ctx context.Context, org string, upTo int64) error
	wake   <-chan struct{}
	log    *slog.Logger

	next map[string]time.Time // when an organization is tried again. Owned by Run
}

func newRelay(d *daemon) *relay {
	return &relay{
		orgs: d.store.AnnouncingOrgs, read: d.store.Announcements, append: d.appendOperational, remove: d.store.RemoveAnnouncements,
		wake: d.store.Announced(), log: d.log, next: map[string]time.Time{},
	}
}

// Run relays until ctx ends.
func (r *relay) Run(ctx context.Context) error {
	tick := time.NewTimer(0)
	defer tick.Stop()
	for {
		select {
		case <-r.wake:
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		for r.round(ctx) {
		}
		if wait, some := r.due(time.Now()); some {
			tick.Reset(wait)
		}
	}
}

// round relays one batch of each organization that is not waited for, and
// reports whether one of them may have more.
func (r *relay) round(ctx context.Context) (more bool) {
	for _, org := range r.orgs() {
		if time.Now().Before(r.next[org]) || ctx.Err() != nil {
			continue
		}
		full, err := r.relay(ctx, org)
		if err == nil {
			delete(r.next, org)
			more = more || full
			continue
		}
		if _, again := r.next[org]; !again && ctx.Err() == nil {
			r.log.Warn("operational events wait: they cannot be appended now", "org", org, "error", err)
		}
		r.next[org] = time.Now().Add(relayBackoff)
	}
	return more
}

// due is how long to wait until the next organization is tried again.
func (r *relay) due(now time.Time) (wait time.Duration, some bool) {
	waiting := r.orgs()
	kept := make(map[string]time.Time, len(r.next))
	for _, org := range waiting {
		at, ok := r.next[org]
		if !ok {
			continue // it has just come, and the channel says so
		}
		kept[org] = at
		if left := max(at.Sub(now), 0); !some || left < wait {
			wait, some = left, true
		}
	}
	r.next = kept // without those that are gone
	return wait, some
}

// relay appends the org's oldest operational events and removes them from the
// outbox. full: there may be more.
func (r *relay) relay(ctx context.Context, org string) (full bool, err error) {
	list, err := r.read(ctx, org, relayBatch)
	if err != nil || len(list) == 0 {
		return false, err
	}
	batch := make([]stream.Append, len(list))
	for i, a := range list {
		batch[i] = stream.Append{
			Type: a.Type, Data: a.Data, DedupeKey: a.DedupeKey, Workspace: a.Workspace,
			Source: stream.OperationalSource, Time: a.At,
		}
	}
	whole, rejected := true, new(stream.Rejected)
	err = r.append(ctx, org, batch)
	if errors.As(err, &rejected) && len(batch) > 1 { // which of them is found one by one
		whole, list, batch = false, list[:1], batch[:1]
		err = r.append(ctx, org, batch)
	}
	if errors.As(err, &rejected) {
		r.log.Error("an operational event is dropped: it can be no event of the stream", "org", org, "type", batch[0].Type, "error", err)
		err = nil
	}
	if err != nil {
		return false, err
	}
	return !whole || len(list) == relayBatch, r.remove(ctx, org, list[len(list)-1].ID)
}

// appendOperational appends operational events to the org's stream.
func (d *daemon) appendOperational(ctx context.Context, org string, batch []stream.Append) error {
	o, err := d.store.GetOrg(ctx, org)
	if err != nil {
		return err
	}
	if o.Payload == stream.PayloadEnvelope {
		for i := range batch {
			batch[i].Payload = stream.PayloadData
		}
	}
	ctx, cancel := context.WithTimeout(ctx, appendWithin)
	defer cancel()
	if _, err := d.appendAll(ctx, org, batch); err != nil {
		return err
	}
	d.failpoint("announce.appended")
	// Crash here: the events are appended again, and are the same ones.
	return nil
}
