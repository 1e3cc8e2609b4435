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

// PauseCursor needs to tell nobody: fan-out asks the books before each batch.
func (d *daemon) PauseCursor(ctx context.Context, org string, p httpapi.Pausing) (httpapi.Cursor, error) {
	if err := d.store.PauseCursor(d.asked(ctx, nil), org, sqlite.Pause{Reason: p.Reason, Until: p.Until}); err != nil {
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

// endPauses resumes the cursors whose pause has come to its end. It asks every
// second, which costs nothing while there are none.
func (d *daemon) endPauses(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		ended, err := d.store.EndPauses(ctx)
		for _, org := range ended {
			d.log.Info("a paused cursor goes on: its pause has ended", "org", org)
			d.loop.Reload(org)
		}
		if err != nil && ctx.Err() == nil {
			d.log.Warn("pauses did not end; it is tried again", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// ResetCursor foresees a move of the org's position, and makes it if asked to.
// One at a time: it may read a million messages.
func (d *daemon) ResetCursor(ctx context.Context, org string, r httpapi.CursorReset) (httpapi.CursorPlan, error) {
	pos, err := d.store.Position(ctx, org)
	if err != nil {
		return httpapi.CursorPlan{}, answered(err)
	}
	if !d.foreseeing.TryLock() {
		return httpapi.CursorPlan{}, httpapi.ErrBusy
	}
	defer d.foreseeing.Unlock()
	m := fanout.Move{From: pos, Skip: r.AllowSkip, Reason: r.Reason}
	m.To, err = d.destination(ctx, pos, r)
	switch {
	case err == nil && m.To.Seq == pos.Seq && !pos.Created.IsZero(): // asked for twice
		return httpapi.CursorPlan{Org: org, From: pos.Seq, To: pos.Seq, Complete: true, Through: pos.Seq, Already: true}, nil
	case r.Execute && r.Expect != pos.Seq:
		return httpapi.CursorPlan{}, elsewhere(pos, r.Expect)
	case err != nil:
		return httpapi.CursorPlan{}, err
	}
	plan, err := d.foresee(ctx, m, r.Rows)
	if err != nil || !r.Execute {
		return plan, err
	}
	var skip *fanout.SkipError
	switch err := d.store.MoveCursor(d.asked(ctx, nil), org, m); {
	case errors.As(err, &skip):
		return plan, &httpapi.Invalid{Field: "allow_skip", Detail: fmt.Sprintf("%d events (sequences %d to %d) were never read and would be skipped: set it if that is what you want", plan.Skipped, skip.From, skip.To)}
	case errors.Is(err, fanout.ErrMoved):
		if pos, err := d.store.Position(ctx, org); err == nil {
			return plan, elsewhere(pos, r.Expect)
		}
		return plan, fmt.Errorf("the cursor has moved on from %d: %w", r.Expect, httpapi.ErrState)
	case err != nil:
		return plan, answered(err)
	}
	// Crash here: the start reads the position from the books.
	d.loop.Reload(org)
	plan.Executed = true
	return plan, nil
}

func elsewhere(pos cursor.Position, expected stream.Seq) error {
	return fmt.Errorf("the cursor is at %d, not at %d: %w", pos.Seq, expected, httpapi.ErrState)
}

// destination is the position that a reset asks for.
func (d *daemon) destination(ctx context.Context, pos cursor.Position, r httpapi.CursorReset) (cursor.Position, error) {
	st, err := d.broker.State(ctx, pos.Stream)
	if err != nil {
		return pos, err
	}
	far, err := d.store.Furthest(ctx, pos.Org)
	if err != nil {
		return pos, answered(err)
	}
	to := pos
	if pos.Created.IsZero() {
		to.Created, to.Incarnation = st.Created, max(pos.Incarnation, 1)
	} else if !pos.Created.Equal(st.Created) || st.Last < far.Seq {
		return pos, fmt.Errorf("the stream is not the one that the cursor was taken from; wait until it has noticed: %w", httpapi.ErrState)
	}
	if err := d.recognise(ctx, pos.Stream, st, r.Mark); err != nil {
		return pos, err
	}
	before := max(st.First, 1) - 1
	switch {
	case r.Mark != nil:
		to.Seq = max(r.Mark.Seq, before)
	case r.Shift != nil:
		at := pos.Seq
		if r.Execute {
			at = r.Expect // where it was when that was said
		}
		if to.Seq = shifted(at, *r.Shift); to.Seq > st.Last {
			return pos, &httpapi.Invalid{Field: "shift_by", Detail: fmt.Sprintf("%d and %d more is %d, and the stream ends with %d", at, *r.Shift, to.Seq, st.Last)}
		}
		to.Seq = max(to.Seq, before)
	case r.Seq != nil && *r.Seq > st.Last:
		return pos, &httpapi.Invalid{Field: "to_seq", Detail: fmt.Sprintf("the stream ends with %d", st.Last)}
	case r.Seq != nil:
		to.Seq = max(*r.Seq, before) // what is gone cannot be read
	case r.Earliest:
		to.Seq = before
	case r.Latest:
		to.Seq = st.Last
	default:
		at := r.Time
		if r.Ago != nil {
			at = time.Now().Add(-*r.Ago)
		}
		if to.Seq, err = cursor.Before(ctx, d.broker, pos.Stream, st, at); err != nil {
			return pos, err
		}
	}
	to.Anchor, to.Hash = time.Time{}, 0
	if to.Seq == 0 {
		return to, nil
	}
	msgs, _, err := d.broker.Read(ctx, pos.Stream, to.Seq, 1)
	if err != nil {
		return pos, fmt.Errorf("read %s at %d: %w", pos.Stream, to.Seq, err)
	}
	if len(msgs) > 0 && msgs[0].Seq == to.Seq {
		to.StandAt(msgs[0])
	}
	return to, nil
}

// shifted is so many sequences after seq, or before it, but not before the
// first.
func shifted(seq stream.Seq, by int64) stream.Seq {
	if by >= 0 {
		return seq + stream.Seq(by)
	}
	return seq - min(seq, stream.Seq(-by))
}

// recognise holds a position that was written down against the stream. It wraps
// httpapi.ErrState when the stream is another one. A message that the stream has
// dropped since proves nothing, and the time at which the stream was made has to do.
func (d *daemon) recognise(ctx context.Context, name string, st stream.State, m *httpapi.CursorMark) error {
	const advice = "use --to-time or --to-seq if you know where this one is to be read from"
	switch {
	case m == nil:
		return nil
	case !st.Created.Equal(m.Created):
		return fmt.Errorf("%s is another stream: it was made at %s, the position was taken from one made at %s; %s: %w",
			name, moment(st.Created), moment(m.Created), advice, httpapi.ErrState)
	case m.Seq > st.Last:
		return fmt.Errorf("%s ends with %d, before the position %d: it was rolled back since; %s: %w", name, st.Last, m.Seq, advice, httpapi.ErrState)
	case m.Seq < st.First || m.Stored.IsZero():
		return nil
	}
	msgs, _, err := d.broker.Read(ctx, name, m.Seq, 1)
	if err != nil {
		return fmt.Errorf("read %s at %d: %w", name, m.Seq, err)
	}
	if len(msgs) == 0 || msgs[0].Seq != m.Seq {
		return nil
	}
	if !msgs[0].Time.Equal(m.Stored) || m.Hash != 0 && m.Hash != cursor.Hash(msgs[0]) {
		return fmt.Errorf("%s has another message at %d: it was stored %s, that of the position %s (or it says something else); the stream was rolled back since; %s: %w",
			name, m.Seq, msgs[0].Time.UTC().Format(time.RFC3339Nano), m.Stored.UTC().Format(time.RFC3339Nano), advice, httpapi.ErrState)
	}
	return nil
}

// foresee counts what a move would cause, and with rows lists it.
func (d *daemon) foresee(ctx context.Context, m fanout.Move, rows bool) (httpapi.CursorPlan, error) {
	org := m.From.Org
	plan := httpapi.CursorPlan{Org: org, From: m.From.Seq, To: m.To.Seq}
	dec, err := d.decoding(ctx, org)
	if err != nil {
		return plan, err
	}
	o, err := d.store.Org(ctx, org)
	if err != nil {
		return plan, answered(err)
	}
	o.Types = d.strictTypes()
	books, err := d.store.Audit(ctx, org)
	if err != nil {
		return plan, answered(err)
	}
	defer books.Close()
	list := func(r fanout.ForecastRow) {
		if !rows || len(plan.Rows) == httpapi.MaxPlanRows {
			return
		}
		plan.Rows = append(plan.Rows, httpapi.CursorPlanRow{Seq: r.Seq, Event: r.ID, Type: r.Type, Endpoint: d.endpointID(ctx, r.Endpoint), Fate: string(r.Fate)})
	}
	f, err := fanout.ForeseeRows(ctx, d.broker, dec, o, books, m.From, m.To.Seq, list)
	if err != nil {
		return plan, err
	}
	plan.Again, plan.Existing, plan.New, plan.Forgotten, plan.Skipped = f.Again, f.Existing, f.New, f.Forgotten, f.Skipped
	plan.Complete, plan.Through = f.Complete, f.Through
	return plan, nil
}

// endpointID is the id of the endpoint of that row, "" for none, and "removed" for
// one that is no more.
func (d *daemon) endpointID(ctx context.Context, row int64) string {
	if row == 0 {
		return ""
	}
	e, err := d.store.FindEndpointByRow(ctx, row)
	if err != nil {
		return "removed"
	}
	return e.ID
}
