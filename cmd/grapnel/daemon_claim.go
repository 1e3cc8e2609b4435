package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/sqlite"
	"github.com/grapnel-hooks/grapnel/stream"
)

// A stream carries the mark of the database that it is read for, since the
// cursor is nowhere but there. What a database does that meets the mark of another one:
// it reads nothing of that stream, until the other database is restored or somebody
// claims the stream. An operator who knows better beforehand (a new database on
// purpose) says so by --on-missing-cursor, which claims streams that have no
// cursor here as they are found.

// Values of --on-missing-cursor: where a cursor begins whose stream is marked as
// another database's.
const (
	missingFail = "fail" // nowhere
	missingNew  = "new"  // at the stream's end
	missingAll  = "all"  // at its beginning
)

// ClaimCursor takes the org's stream over from another database.
func (d *daemon) ClaimCursor(ctx context.Context, org string, c httpapi.CursorClaim) (httpapi.CursorClaimed, error) {
	pos, err := d.store.Position(ctx, org)
	if err != nil {
		return httpapi.CursorClaimed{}, answered(err)
	}
	claimed := httpapi.CursorClaimed{Org: org, Position: pos.Seq}
	st, err := d.broker.State(ctx, pos.Stream)
	if err != nil {
		return claimed, err
	}
	var foreign *stream.ForeignError
	if !errors.As(st.Foreign(d.store.Installation()), &foreign) {
		return claimed, nil
	}
	never := pos.Created.IsZero()
	switch {
	case c.Stay && never:
		return claimed, &httpapi.Invalid{Field: "from", Detail: "the stream was never read for this database: say beginning, end or a sequence"}
	case !c.Stay && !never && !pos.Created.Equal(st.Created):
		return claimed, &httpapi.Invalid{Field: "from", Detail: "the stream is not the one that the cursor was taken from: say position, and it is read from where that has to go on"}
	case !c.Stay && !(never && c.Earliest):
		m := fanout.Move{From: pos, Skip: true, Reason: c.Reason}
		if m.To, err = d.destination(ctx, pos, httpapi.CursorReset{Seq: c.Seq, Earliest: c.Earliest, Latest: c.Latest}); err != nil {
			return claimed, err
		}
		if err := d.store.MoveCursor(d.asked(ctx, nil), org, m); err != nil {
			return claimed, answered(err)
		}
		claimed.Position = m.To.Seq
	}
	// Crash here: the stream is the other database's still, and nothing is read.
	// The mark comes last, since with it reading begins wherever the cursor is.
	if err := d.store.Claim(d.asked(ctx, nil), org, foreign.Installation, c.Reason); err != nil {
		return claimed, answered(err)
	}
	if err := d.broker.Claim(ctx, org); err != nil {
		return claimed, err
	}
	d.log.Warn("stream taken over from another database", "org", org, "stream", pos.Stream, "position", claimed.Position, "installation_was", foreign.Installation)
	d.loop.Reload(org)
	claimed.Claimed, claimed.Was = true, foreign.Installation
	return claimed, nil
}

// meet is called for each stream of an org that was found: one without a mark
// gets ours, one with another's is claimed if that was asked for. It reports
// whether the stream is another's afterwards.
func (d *daemon) meet(ctx context.Context, o sqlite.Org, st stream.State) (foreign bool, err error) {
	switch {
	case st.Installation == "":
		return false, d.broker.Mark(ctx, o.ID)
	case st.Foreign(d.store.Installation()) == nil:
		return false, nil
	}
	policy := httpapi.CursorClaim{Reason: "--on-missing-cursor " + d.cfg.OnMissing}
	switch d.cfg.OnMissing {
	case missingNew:
		policy.Latest = true
	case missingAll:
		policy.Earliest = true
	default:
		return true, nil
	}
	if _, held := d.store.Held(); held {
		return true, nil
	}
	pos, err := d.store.Position(ctx, o.ID)
	if err != nil || !pos.Created.IsZero() {
		return true, err // it has a cursor: somebody took the stream over on purpose
	}
	if _, err := d.ClaimCursor(ctx, o.ID, policy); err != nil {
		return true, fmt.Errorf("claim %s: %w", st.Name, err)
	}
	return false, nil
}

// census says in one line what the marks of all streams came to, when that is
// news.
type census struct {
	marked, foreign int
	unmarkable      error // why the first of them could not be marked
}

func (d *daemon) news(was, is census) {
	if is.marked > 0 {
		d.log.Info("streams marked as read by this database", "streams", is.marked, "installation", d.store.Installation())
	}
	if is.unmarkable != nil && was.unmarkable == nil {
		d.log.Warn("streams cannot be marked as read by this database (is updating streams not permitted?): another database would not notice that they are",
			"error", is.unmarkable)
	}
	switch {
	case is.foreign == was.foreign:
	case is.foreign == 0:
		d.log.Info("no stream is another database's any more")
	default:
		d.log.Error("streams are read by another database, and are left alone: restore its backup, or see 'grapnel cursor claim'",
			"streams", is.foreign, "installation", d.store.Installation())
	}
}
