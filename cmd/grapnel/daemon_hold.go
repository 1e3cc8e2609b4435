package main

import (
	"context"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cursor"
)

// Books that come from a backup are held: publishers are served and everything
// can be looked at and changed, but nothing is read from the streams and nothing
// is sent until an operator has resumed.

// whenResumed is run, once the books are not held.
func (d *daemon) whenResumed(run func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-d.resumed:
			return run(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

// sayHeld tells the log of it at the start.
func (d *daemon) sayHeld() {
	if at, held := d.store.Held(); held {
		d.log.Warn("the database was put back: nothing is read and nothing is sent until 'grapnel resume --confirm'",
			"reason", d.store.HeldBecause(), "backup_made_at", at)
	}
}

// Hold asks the stream of each organization what lies after its cursor.
func (d *daemon) Hold(ctx context.Context) (httpapi.HoldStatus, error) {
	var h httpapi.HoldStatus
	if h.BackupMadeAt, h.Held = d.store.Held(); !h.Held {
		return h, nil
	}
	h.Reason = string(d.store.HeldBecause())
	all, err := d.store.Cursors(ctx)
	if err != nil {
		return h, answered(err)
	}
	for _, c := range all {
		h.Pending += c.Pending
		name := c.Stream
		if name == "" {
			name = d.names.Stream(c.Org)
		}
		st, err := d.broker.State(ctx, name)
		if err != nil {
			h.Unknown = append(h.Unknown, c.Org)
			continue
		}
		h.Unread += cursor.Lag(c.Position, st)
	}
	return h, nil
}

func (d *daemon) Resume(ctx context.Context) error {
	if err := d.store.Resume(d.asked(ctx, nil)); err != nil {
		return answered(err)
	}
	d.resume()
	d.log.Info("resumed: reading and sending begin")
	return nil
}
