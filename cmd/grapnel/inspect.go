package main

import (
	"context"
	"fmt"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/sqlite"
)

// Gaps lists ranges of sequences that were gone, newest first.
func (d *daemon) Gaps(ctx context.Context, org string, before httpapi.Place, limit int) ([]httpapi.Gap, error) {
	gaps, err := d.store.ListGaps(ctx, org, sqlite.Place(before), limit)
	if err != nil {
		return nil, answered(err)
	}
	var page []httpapi.Gap
	for _, g := range gaps {
		page = append(page, httpapi.Gap(g))
	}
	return page, nil
}

// Rejected lists messages that were no events, newest first.
func (d *daemon) Rejected(ctx context.Context, org string, before httpapi.Place, limit int) ([]httpapi.Rejected, error) {
	rejected, err := d.store.ListRejected(ctx, org, sqlite.Place(before), limit)
	if err != nil {
		return nil, answered(err)
	}
	var page []httpapi.Rejected
	for _, r := range rejected {
		page = append(page, httpapi.Rejected{Incarnation: r.Incarnation, Rejected: r.Rejected})
	}
	return page, nil
}

// Fsck reads the streams again and proves the books.
func (d *daemon) Fsck(ctx context.Context, org string) ([]httpapi.Books, error) {
	var orgs []string
	if org != "" {
		if _, err := d.store.GetOrg(ctx, org); err != nil {
			return nil, answered(err)
		}
		orgs = []string{org}
	} else {
		all, err := d.store.ListOrgs(ctx)
		if err != nil {
			return nil, err
		}
		for _, o := range all {
			orgs = append(orgs, o.ID)
		}
	}
	var answer []httpapi.Books
	for _, org := range orgs {
		r, err := d.check(ctx, org)
		if err != nil {
			return nil, fmt.Errorf("check %s: %w", org, err)
		}
		answer = append(answer, booksAnswer(r))
	}
	return answer, nil
}

func (d *daemon) check(ctx context.Context, org string) (fanout.Report, error) {
	dec, err := d.decoding(ctx, org)
	if err != nil {
		return fanout.Report{}, err
	}
	books, err := d.store.Audit(ctx, org)
	if err != nil {
		return fanout.Report{}, answered(err)
	}
	defer books.Close()
	return fanout.Check(ctx, d.broker, dec, books, nil)
}

func booksAnswer(r fanout.Report) httpapi.Books {
	b := httpapi.Books{
		Org: r.Org, Through: r.Position.Seq, Events: int64(r.Messages),
		Delivered: int64(r.Delivered), Pending: int64(r.Pending), Dead: int64(r.Dead), Cancelled: int64(r.Cancelled),
		NotSubscribed: int64(r.Unmatched), Duplicates: int64(r.Duplicates),
		Rejected: int64(r.Rejected), Gated: int64(r.Gated), InGaps: int64(r.Gap + r.Skipped),
		Missing: int64(r.Missing), FirstMissing: r.FirstMissing,
		Wrong: int64(r.Found),
	}
	for _, p := range r.Problems {
		b.Problems = append(b.Problems, p.String())
	}
	if !r.Compared {
		b.Wrong++
		b.Problems = append(b.Problems, "the stream was not there to compare with: only the books were checked")
	}
	return b
}
