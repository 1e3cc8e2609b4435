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
	var met census
	for {
		if err := d.adopt(ctx, &met); err != nil && ctx.Err() == nil && !errors.Is(err, stream.ErrUnavailable) {
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

// adopt goes through all streams once; met is what the marks came to.
func (d *daemon) adopt(ctx context.Context, met *census) error {
	if !d.broker.Connected() {
		return nil
	}
	was := *met
	*met = census{}
	defer func() { d.news(was, *met) }()
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
		o, ours := known[org]
		if !ours {
			if o, ours, err = d.take(ctx, org, st); err != nil {
				return err
			}
		}
		if ours {
			if err := d.look(ctx, o, st, met); err != nil {
				return err
			}
		}
	}
	return nil
}

// look takes care of the mark of an org's stream, and of what it lacks.
func (d *daemon) look(ctx context.Context, o sqlite.Org, st stream.State, met *census) error {
	if st.Installation == "" && met.unmarkable != nil {
		return nil // each try takes as long as the broker may take to answer
	}
	// Before it is marked: a crash in between must not hide that it may lack something.
	d.renew(ctx, o, st)
	foreign, err := d.meet(ctx, o, st)
	switch {
	case foreign:
		met.foreign++
		return err
	case errors.Is(err, stream.ErrNoStream):
	case err != nil:
		met.unmarkable = err
	case st.Installation == "":
		met.marked++
	}
	return nil
}

// take adds the organization of a stream that was found, unless it has been
// added meanwhile. A stream that is another database's is left as it is.
func (d *daemon) take(ctx context.Context, org string, st stream.State) (o sqlite.Org, taken bool, err error) {
	d.making.Lock()
	defer d.making.Unlock()
	if _, err := d.store.GetOrg(ctx, org); err == nil {
		return o, false, nil
	}
	foreign := st.Foreign(d.store.Installation()) != nil
	if !foreign {
		if _, err := d.broker.Create(ctx, stream.OrgStream{Org: org}); err != nil {
			d.log.Error("stream looks like an organization's but cannot be used", "stream", st.Name, "error", err)
			return o, false, nil
		}
	}
	if o, err = d.store.AddOrg(ctx, sqlite.Org{ID: org, Payload: stream.PayloadData}); err != nil {
		return o, false, err
	}
	d.log.Info("found the stream of an organization", "org", org, "stream", st.Name)
	d.loop.Add(org)
	return o, foreign, nil
}

// renew gives the stream of an org what it lacks when somebody else has made it
// anew: it has another creation time than the position, or, when fan-out was
// quicker and has begun to read it, no mark. One that is another database's is left alone.
func (d *daemon) renew(ctx context.Context, o sqlite.Org, st stream.State) {
	pos, err := d.store.Position(ctx, o.ID)
	if err != nil || pos.Created.IsZero() || pos.Created.Equal(st.Created) && st.Installation != "" || st.Foreign(d.store.Installation()) != nil {
		return
	}
	if _, err := d.broker.Create(ctx, stream.OrgStream{Org: o.ID, Subjects: o.Subjects}); err != nil {
		d.log.Error("stream was made anew but cannot be used", "org", o.ID, "stream", st.Name, "error", err)
		return
	}
	d.loop.Reload(o.ID)
}
