package main

import (
	"fmt"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout/filter"
)

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
