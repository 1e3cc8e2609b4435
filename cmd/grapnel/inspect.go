package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/sqlite"
	"github.com/grapnel-hooks/grapnel/stream"
)

const (
	// recently is how long a gap or a change of a stream's identity shows in a cursor's state.
	recently = 24 * time.Hour
	// behindAfter is how old the oldest unread event may be while the cursor
	// still counts as live.
	behindAfter = 10 * time.Second
)

// Cursor shows one org's cursor beside what its stream says of itself.
func (d *daemon) Cursor(ctx context.Context, org string) (httpapi.Cursor, error) {
	c, err := d.store.Cursor(ctx, org)
	if err != nil {
		return httpapi.Cursor{}, answered(err)
	}
	shown, err := d.cursor(ctx, c)
	if err != nil {
		return shown, err
	}
	most, err := d.store.Backlogged(ctx, org, backloggedShown)
	for _, e := range most {
		shown.Endpoints = append(shown.Endpoints, httpapi.Backlogged(e))
	}
	return shown, answered(err)
}

// backloggedShown is how many endpoints are shown with a cursor.
const backloggedShown = 20

// Cursors shows those of up to limit orgs after the given one.
func (d *daemon) Cursors(ctx context.Context, after string, limit int) ([]httpapi.Cursor, error) {
	all, err := d.store.Cursors(ctx)
	if err != nil {
		return nil, answered(err)
	}
	var page []httpapi.Cursor
	for _, c := range all {
		if c.Org <= after || len(page) == limit {
			continue
		}
		shown, err := d.cursor(ctx, c)
		if err != nil {
			return nil, err
		}
		page = append(page, shown)
	}
	return page, nil
}

func (d *daemon) cursor(ctx context.Context, c sqlite.Cursor) (httpapi.Cursor, error) {
	shown := httpapi.Cursor{
		Position: c.Position, UpdatedAt: c.UpdatedAt,
		Pending: c.Pending, Due: c.Due, Dead: c.Dead, Rejected: int64(c.Rejected), Gaps: int64(c.Gaps),
		State: "live", Pace: httpapi.Pace(c.Pace),
	}
	if shown.Stream == "" {
		shown.Stream = d.names.Stream(c.Org)
	}
	status, _ := d.loop.Status(c.Org)
	st, err := d.broker.State(ctx, shown.Stream)
	missing := errors.Is(err, stream.ErrNoStream)
	if err == nil {
		shown.First, shown.Last = st.First, st.Last
		shown.Lag = cursor.Lag(c.Position, st)
		if shown.Lag > 0 {
			shown.Age = d.age(ctx, shown.Stream, c.Seq)
		}
	}
	if err != nil && !missing {
		shown.Last = max(status.Last, c.Seq) // as far as was heard
		shown.Lag = uint64(shown.Last - c.Seq)
	}
	switch {
	case missing:
		shown.State = "stream-missing"
	case err != nil:
		shown.State = "unreachable"
	case c.Paused:
		shown.State = "paused"
	case status.Change == cursor.Regressed:
		shown.State = "regressed"
	case d.gated(c.Org):
		shown.State = "gated"
	case shown.Lag > 0 && shown.Age > behindAfter:
		shown.State = "behind"
	case !c.GapAt.IsZero() && time.Since(c.GapAt) < recently:
		shown.State = "gap"
	}
	return shown, nil
}

// age is how long ago the oldest event after seq was stored.
func (d *daemon) age(ctx context.Context, name string, seq stream.Seq) time.Duration {
	msgs, _, err := d.broker.Read(ctx, name, seq+1, 1)
	if err != nil || len(msgs) == 0 {
		return 0
	}
	return max(time.Since(msgs[0].Time), 0)
}

// gated reports whether the org's plan lacks outgoing webhooks.
func (d *daemon) gated(org string) bool {
	if d.cfg.Plans == nil {
		return false
	}
	o, err := d.store.Org(context.Background(), org)
	return err == nil && o.Gated
}

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
