package main

import (
	"context"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/sqlite"
)

// Structure holds the rows of the books against each other.
func (d *daemon) Structure(ctx context.Context) ([]httpapi.Broken, error) {
	return structureAnswer(d.store.Structure(ctx))
}

// MendStructure takes out the rows that lead nowhere.
func (d *daemon) MendStructure(ctx context.Context, reason string) ([]httpapi.Broken, error) {
	mended, err := structureAnswer(d.store.Mend(d.asked(ctx, nil), reason))
	for _, b := range mended {
		d.log.Warn("rows that led nowhere are taken out of the books", "what", b.Breaks, "rows", b.Rows)
	}
	return mended, err
}

func structureAnswer(broken []sqlite.Broken, err error) ([]httpapi.Broken, error) {
	var all []httpapi.Broken
	for _, b := range broken {
		all = append(all, httpapi.Broken(b))
	}
	if err != nil {
		err = answered(err)
	}
	return all, err
}
