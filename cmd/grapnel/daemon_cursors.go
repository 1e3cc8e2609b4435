package main

import (
	"context"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
)

// PauseCursor needs to tell nobody: fan-out asks the books before each batch.
func (d *daemon) PauseCursor(ctx context.Context, org string) (httpapi.Cursor, error) {
	if err := d.store.PauseCursor(d.asked(ctx, nil), org); err != nil {
		return httpapi.Cursor{}, answered(err)
	}
	return d.Cursor(ctx, org)
}

// ResumeCursor lets the org's stream be read again.
func (d *daemon) ResumeCursor(ctx context.Context, org string) (httpapi.Cursor, error) {
	if err := d.store.ResumeCursor(d.asked(ctx, nil), org); err != nil {
		return httpapi.Cursor{}, answered(err)
	}
	d.loop.Reload(org)
	return d.Cursor(ctx, org)
}
