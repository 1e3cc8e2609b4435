package main

import (
	"context"
	"errors"
	"time"

	"github.com/grapnel-hooks/grapnel/sqlite"
	"github.com/grapnel-hooks/grapnel/stream"
)

// findStreams takes into the books the organizations whose streams somebody
// else has made: at start, when the broker comes back, when one is created,
// and once a minute.
func (d *daemon) findStreams(ctx context.Context) error {
	look := make(chan struct{}, 1)
	again := func() {
		select {
		case look <- struct{}{}:
		default:
		}
	}
	d.broker.OnStream(func(org string, created bool) {
		if created {
			again()
		}
		d.loop.Reload(org)
	})
	d.broker.OnState(func(connected bool) {
		if connected {
			again()
		}
	})
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		if err := d.adopt(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, stream.ErrUnavailable) {
			d.log.Warn("looking for streams failed; it is tried again", "error", err)
		}
		select {
		case <-look:
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (d *daemon) adopt(ctx context.Context) error {
	if !d.broker.Connected() {
		return nil
	}
	orgs, err := d.store.ListOrgs(ctx)
	if err != nil {
		return err
	}
	limitMemory(len(orgs), d.lanes.Stats().Lanes)
	known := make(map[string]sqlite.Org, len(orgs))
	for _, o := range orgs {
		known[o.ID] = o
	}
	for st, err := range d.broker.Find(ctx) {
		if err != nil {
			return err
		}
		org, ok := d.names.Org(st.Name)
		if !ok || stream.CheckOrg(org) != nil {
			continue
		}
		if o, ours := known[org]; ours {
			d.renew(ctx, o, st)
			continue
		}
		if err := d.take(ctx, org, st.Name); err != nil {
			return err
		}
	}
	return nil
}

// take adds the organization of a stream that was found, unless it has been
// added meanwhile.
func (d *daemon) take(ctx context.Context, org, name string) error {
	d.making.Lock()
	defer d.making.Unlock()
	if _, err := d.store.GetOrg(ctx, org); err == nil {
		return nil
	}
	if _, err := d.broker.Create(ctx, stream.OrgStream{Org: org}); err != nil {
		d.log.Error("stream looks like an organization's but cannot be used", "stream", name, "error", err)
		return nil
	}
	if _, err := d.store.AddOrg(ctx, sqlite.Org{ID: org, Payload: stream.PayloadData}); err != nil {
		return err
	}
	d.log.Info("found the stream of an organization", "org", org, "stream", name)
	d.loop.Add(org)
	return nil
}

// renew gives the stream of an org what it lacks when somebody else has made it
// anew.
func (d *daemon) renew(ctx context.Context, o sqlite.Org, st stream.State) {
	pos, err := d.store.Position(ctx, o.ID)
	if err != nil || pos.Created.IsZero() || pos.Created.Equal(st.Created) {
		return
	}
	if _, err := d.broker.Create(ctx, stream.OrgStream{Org: o.ID, Subjects: o.Subjects}); err != nil {
		d.log.Error("stream was made anew but cannot be used", "org", o.ID, "stream", st.Name, "error", err)
		return
	}
	d.loop.Reload(o.ID)
}
