package main

import (
	"context"
	"fmt"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/fanout/filter"
	"github.com/grapnel-hooks/grapnel/stream"
)

// trialTime is how long one trial of a filter may take.
const trialTime = 10 * time.Second

// checkFilter says what is wrong with the text of a content filter, or nil.
func checkFilter(text string) error {
	if text == "" {
		return nil
	}
	if _, err := filter.Compile(text); err != nil {
		return &httpapi.Invalid{Field: "filter", Detail: err.Error()}
	}
	return nil
}

// setLane tells the lanes of an endpoint. One whose filter was saved by another
// version of this program and cannot be read any more gets every event that its
// types let through, and all of them are held until somebody says what it
// should be.
func (d *daemon) setLane(ep deliver.Endpoint) error {
	unread := filter.Hold(ep.Filter).Err()
	if unread != nil {
		ep.Paused = true
	}
	if err := d.lanes.Set(ep); err != nil || unread == nil {
		return err
	}
	return fmt.Errorf("its deliveries are held, since its filter cannot be read any more; change the filter: %w", unread)
}

// TryFilter goes through the stream from its end, within the bounds of
// [daemon.backwards].
func (d *daemon) TryFilter(ctx context.Context, org string, t httpapi.FilterTrial) (httpapi.FilterTried, error) {
	want := fanout.Subscription{Types: t.EventTypes, Workspace: t.Workspace}
	for i, p := range want.Types {
		if err := fanout.CheckPattern(p); err != nil {
			return httpapi.FilterTried{}, &httpapi.Invalid{Field: fmt.Sprintf("event_types[%d]", i), Detail: err.Error()}
		}
	}
	if t.Workspace != "" {
		if err := stream.CheckWorkspace(t.Workspace); err != nil {
			return httpapi.FilterTried{}, &httpapi.Invalid{Field: "workspace_id", Detail: err.Error()}
		}
	}
	if err := checkFilter(t.Filter); err != nil {
		return httpapi.FilterTried{}, err
	}
	want.Filter = filter.Hold(t.Filter)
	trial, began := fanout.NewTrial(want), time.Now()
	late := false
	next, err := d.shown(ctx, org, 0, func(ev *stream.Event) bool {
		trial.Ask(ev)
		late = time.Since(began) > trialTime
		return trial.Events < t.Last && !late
	})
	if err != nil {
		return httpapi.FilterTried{}, err
	}
	return httpapi.FilterTried{Trial: trial, All: trial.Events == t.Last || next == 0 && !late}, nil
}
