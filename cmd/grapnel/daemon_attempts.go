package main

import (
	"context"
	"errors"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/deliver"
)

const (
	shownRequests = 100             // of one delivery, the newest
	shownBodies   = 1 << 20         // bytes of the bodies of one delivery's requests
	payloadWithin = 5 * time.Second // to read the event from the stream
)

// What is missing of a request that is shown.
const (
	noteNone     = "no request was made"
	noteOlder    = "only the newest 100 requests are shown"
	noteSettings = "the endpoint's settings of then are not known any more"
	noteFormat   = "the endpoint's format of then is not configured any more"
	noteGone     = "the body is not shown: neither the books nor the stream have the event any more"
	noteAway     = "the body is not shown: the stream cannot be read at this moment"
	noteBodies   = "the body is not shown: the bodies of newer requests have 1 MiB already"
)

// Requests makes the requests of attempts again, from the event and from the
// endpoint's settings of then: they are not stored with each attempt.
func (d *daemon) Requests(ctx context.Context, dl deliver.Delivery, attempts []deliver.Attempt) ([]httpapi.SentRequest, error) {
	if len(attempts) == 0 {
		return nil, nil
	}
	settings, err := d.store.GetRequestSettings(ctx, dl.Org, dl.Key.Endpoint)
	if err != nil {
		return nil, answered(err)
	}
	p, missing := d.payload(ctx, dl)
	requests := make([]httpapi.SentRequest, len(attempts))
	room := shownBodies
	for i := len(attempts) - 1; i >= 0; i-- {
		a, r := &attempts[i], &requests[i]
		r.Note = missing
		s, known := settings.At(a.Revision)
		switch {
		case a.Revision == 0:
			r.Note = noteNone
			continue
		case len(attempts)-i > shownRequests:
			r.Note = noteOlder
			continue
		case !known:
			r.Note = noteSettings
			continue
		}
		if r.ShownRequest, err = d.formats.Shown(s, p, dl.Key, a.Number, a.Started, d.userAgent(a.Started)); err != nil {
			if !errors.Is(err, deliver.ErrFormat) {
				return nil, err
			}
			r.Note = noteFormat
			continue
		}
		if room -= len(r.Body); room < 0 {
			r.Body, r.Truncated, r.Note, room = nil, false, noteBodies, 0
		}
	}
	return requests, nil
}

// payload is the event of a delivery, without its body when nobody has that: then
// missing says so.
func (d *daemon) payload(ctx context.Context, dl deliver.Delivery) (_ *deliver.Payload, missing string) {
	ctx, cancel := context.WithTimeout(ctx, payloadWithin)
	defer cancel()
	found, err := d.source.Payloads(ctx, []int64{dl.Event})
	p, known := found[dl.Event]
	switch {
	case p != nil:
		return p, ""
	case err != nil || !known:
		missing = noteAway
	default:
		missing = noteGone
	}
	return &deliver.Payload{Event: dl.Event, ID: dl.EventID, Org: dl.Org, Type: dl.Type, Stored: dl.Stored}, missing
}

// userAgent is what requests at that time called themselves. Which version ran
// before this process is not known.
func (d *daemon) userAgent(at time.Time) string {
	if at.Before(d.started) {
		return "grapnel"
	}
	return "grapnel/" + d.cfg.Version
}
