package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/client"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cmd/internal/logging"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/spf13/cobra"
)

// fscked is the JSON of "fsck".
type fscked struct {
	httpapi.FsckBody
	Broken  []httpapi.BrokenBody     `json:"broken,omitempty"`  // what is wrong between rows, whoever's they are
	Mended  []httpapi.BrokenBody     `json:"mended,omitempty"`  // rows that led nowhere and were taken out
	Repairs []httpapi.CursorPlanBody `json:"repairs,omitempty"` // how cursors were moved
}

func (a *app) fsckCommand() *cobra.Command {
	var repair bool
	var reason string
	c := &cobra.Command{
		Use:   "fsck [ORG]",
		Short: "Read the streams again and prove the books",
		Long: `Read the stream of an organization, or of all, again and prove the books: every
sequence up to the cursor is, for every endpoint, exactly one of delivered,
pending, dead, cancelled, not subscribed, rejected, gated or in a recorded gap.
What is missing is printed, and the exit status is 1 if anything is. Without ORG
the rows of the database are also held against each other: each delivery has its event
and its endpoint, each attempt its delivery. It changes nothing, holds nobody up, and
may run at any time.

With --repair, attempts and payloads that lead nowhere are taken out, and deliveries that are missing are made: the cursor is moved back to
before the first of them, the daemon reads the stream again from there and leaves
alone what exists, and then the books are proven once more. It is audited with
the reason, and doing it again changes nothing. Of what cannot be repaired so, it
says what to do.`,
		Example: `  grapnel fsck
  grapnel fsck acme --repair --reason 'restored rows'`,
		Args: cobra.MaximumNArgs(1),
	}
	c.Flags().BoolVar(&repair, "repair", false, "make deliveries that are missing")
	c.Flags().StringVar(&reason, "reason", "", "why, for the audit (`text`; default: how many were missing)")
	c.RunE = func(c *cobra.Command, args []string) error {
		org := ""
		if len(args) == 1 {
			org = args[0]
		}
		if reason != "" && !repair {
			return &usageError{errors.New("--reason goes with --repair")}
		}
		all, err := a.prove(c.Context(), org)
		if err != nil {
			return err
		}
		if repair {
			mended, err := a.mend(c.Context(), all.Broken, reason)
			if err != nil {
				return err
			}
			repairs, err := a.repair(c.Context(), all.FsckBody, reason)
			if err != nil {
				return err
			}
			if len(repairs)+len(mended) > 0 {
				if all, err = a.prove(c.Context(), org); err != nil {
					return fmt.Errorf("repaired, but not proven again: %w", err)
				}
			}
			all.Mended, all.Repairs = mended, repairs
		}
		if err := a.show(all, func() { a.printFsck(all) }); err != nil {
			return err
		}
		if !all.Proven {
			return errReported
		}
		return nil
	}
	return c
}

// prove proves the books, and when they are everybody's, holds rows against each other.
func (a *app) prove(ctx context.Context, org string) (all fscked, err error) {
	if all.FsckBody, err = a.fsck(ctx, org); err != nil || org != "" {
		return all, err
	}
	s, err := a.client().Structure(ctx)
	all.Broken, all.Proven = s.Broken, all.Proven && len(s.Broken) == 0
	return all, err
}

// mend takes out rows that lead nowhere. It comes before missing deliveries are made:
// what is left of an earlier one would be taken for its attempts.
func (a *app) mend(ctx context.Context, broken []httpapi.BrokenBody, reason string) ([]httpapi.BrokenBody, error) {
	if !slices.ContainsFunc(broken, func(b httpapi.BrokenBody) bool { return b.Repairable }) {
		return nil, nil
	}
	mended, err := a.client().MendStructure(ctx, cmp.Or(reason, "fsck found rows that lead nowhere"))
	if err != nil {
		return nil, fmt.Errorf("take out rows that lead nowhere: %w", err)
	}
	return mended.Broken, nil
}

// fsck proves the books. On a terminal it goes from organization to organization, to
// say how far it is.
func (a *app) fsck(ctx context.Context, org string) (httpapi.FsckBody, error) {
	api := a.client()
	if org != "" || !logging.Colour(a.err) {
		return api.Fsck(ctx, org)
	}
	all := httpapi.FsckBody{Proven: true}
	began, events := time.Now(), int64(0)
	defer fmt.Fprint(a.err, clearLine)
	for page := (client.Page{Limit: 250}); ; {
		orgs, err := api.Orgs(ctx, page)
		if err != nil {
			return all, err
		}
		for _, o := range orgs.Data {
			fmt.Fprintf(a.err, clearLine+"%d organizations, %d events in %s; now %s", len(all.Orgs), events, time.Since(began).Round(time.Second), o.ID)
			f, err := api.Fsck(ctx, o.ID)
			if err != nil {
				return all, err
			}
			for _, b := range f.Orgs {
				events += b.Events
			}
			all.Orgs, all.Proven = append(all.Orgs, f.Orgs...), all.Proven && f.Proven
		}
		if orgs.NextCursor == nil {
			return all, nil
		}
		page.Cursor = *orgs.NextCursor
	}
}

// clearLine goes back to the beginning of a terminal's line and empties it.
const clearLine = "\r\x1b[K"

// repair makes the missing deliveries of each organization that lacks some.
func (a *app) repair(ctx context.Context, f httpapi.FsckBody, reason string) ([]httpapi.CursorPlanBody, error) {
	var moves []httpapi.CursorPlanBody
	for _, b := range f.Orgs {
		if b.Missing == 0 {
			continue
		}
		plan, err := a.makeMissing(ctx, b, reason)
		if err != nil {
			return moves, fmt.Errorf("repair %s: %w", b.Org, err)
		}
		moves = append(moves, plan)
		if err := a.awaitRead(ctx, plan); err != nil {
			return moves, fmt.Errorf("repair %s: %w", b.Org, err)
		}
	}
	return moves, nil
}

// repairTries is how often a move is tried whose cursor moves by itself meanwhile.
const repairTries = 50

// makeMissing moves the cursor back to before the first delivery that is missing.
// That is safe wherever the cursor is by then, so it is tried again when it moved.
func (a *app) makeMissing(ctx context.Context, b httpapi.BooksBody, reason string) (plan httpapi.CursorPlanBody, err error) {
	if reason == "" {
		reason = fmt.Sprintf("%d deliveries are missing from %d on", b.Missing, b.FirstMissing)
	}
	before := b.FirstMissing - 1
	for range repairTries {
		var at httpapi.CursorBody
		if at, err = a.client().Cursor(ctx, b.Org); err != nil {
			return plan, err
		}
		if at.Position <= before { // somebody did so already
			return httpapi.CursorPlanBody{Org: b.Org, From: at.Position, To: at.Position, Complete: true, CountedThrough: at.Position}, nil
		}
		plan, err = a.client().ResetCursor(ctx, b.Org, httpapi.CursorResetBody{
			ToSeq: &before, Execute: true, ExpectPosition: &at.Position, Reason: reason,
		})
		var refused *httpapi.Problem
		if !errors.As(err, &refused) || refused.Status != statusConflict {
			return plan, err
		}
	}
	return plan, fmt.Errorf("%w: it moves too fast to be moved back: \"grapnel cursor pause %s\" first, and \"cursor resume\" after it", err, b.Org)
}

const (
	statusConflict = 409
	readEvery      = 200 * time.Millisecond // looks at a cursor that is on its way
	readPatience   = time.Minute            // without a step of it
)

// awaitRead waits until the cursor is where it was before the move.
func (a *app) awaitRead(ctx context.Context, plan httpapi.CursorPlanBody) error {
	tick := time.NewTicker(readEvery)
	defer tick.Stop()
	last, since := plan.To, time.Now()
	for {
		at, err := a.client().Cursor(ctx, plan.Org)
		switch {
		case err != nil:
			return err
		case at.Position >= plan.From:
			return nil
		case at.State == "paused":
			return fmt.Errorf("the cursor is paused: the deliveries are made once somebody resumes it (grapnel cursor resume %s)", plan.Org)
		case at.Position != last:
			last, since = at.Position, time.Now()
		case time.Since(since) > readPatience:
			return fmt.Errorf("the cursor was moved back to %d and does not go on from %d: see grapnel cursor show %s", plan.To, at.Position, plan.Org)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (a *app) printFsck(f fscked) {
	for _, p := range f.Repairs {
		a.printf("%s was read again from %d to %d, and what was missing was made.\n", p.Org, p.To, p.From)
	}
	for _, b := range f.Mended {
		a.printf("%d row(s) taken out: %s.\n", b.Rows, b.Breaks)
	}
	if len(f.Repairs)+len(f.Mended) > 0 {
		a.printf("\n")
	}
	printBooks(a.out, a.ink(), f.FsckBody)
	for _, b := range f.Broken {
		a.printf("%s %d row(s), the first at event number %d\n", a.ink().red(b.Breaks+":"), b.Rows, b.Event)
	}
	for _, line := range advice(f) {
		a.printf("%s\n", line)
	}
}

// remedies say what to do about what reading again does not mend.
var remedies = map[fanout.ProblemKind]string{
	fanout.ProblemUnsubscribed: "nothing is lost: the delivery is one too many; cancel it if it is pending (grapnel delivery cancel)",
	fanout.ProblemDoubled:      "nothing is lost: the receiver got the same webhook-id twice; keep a copy of the database and report it",
	fanout.ProblemContradicted: "two records of one sequence; keep a copy of the database and report it",
	fanout.ProblemIdentity:     "the stream holds another event than the one that was booked: was it replaced without being made anew? See grapnel cursor show",
	fanout.ProblemAhead:        "booked beyond the cursor: an older database was put back by hand; use grapnel restore",
	fanout.ProblemForeign:      "a row of another organization; stop the daemon, keep a copy of the database and report it",
	fanout.ProblemAttempts:     "the log of attempts is not whole; deliveries are not affected",
	fanout.ProblemDue:          "send it again: grapnel delivery retry",
	fanout.ProblemPayload:      "as long as the stream has the event, it is sent all the same: grapnel delivery retry; otherwise it dies as payload_lost",
}

// advice says what to do, a line for each kind of problem that is left.
func advice(f fscked) []string {
	var lines []string
	told := map[string]bool{}
	if strays := func(b httpapi.BrokenBody) bool { return b.Repairable }; slices.ContainsFunc(f.Broken, strays) {
		lines = append(lines, "What to do about attempts and payloads that lead nowhere: grapnel fsck --repair")
	}
	if torn := func(b httpapi.BrokenBody) bool { return !b.Repairable }; slices.ContainsFunc(f.Broken, torn) {
		lines = append(lines, "What to do about other rows: the file was changed from outside; stop the daemon, keep a copy of it, and restore a backup")
	}
	for _, b := range f.Orgs {
		for _, p := range b.Problems {
			kind, _, _ := strings.Cut(p, " ")
			what := remedies[fanout.ProblemKind(kind)]
			if kind == string(fanout.ProblemMissing) && b.Missing > 0 {
				what = "grapnel fsck " + b.Org + " --repair"
			}
			if what == "" || told[what] {
				continue
			}
			told[what] = true
			lines = append(lines, "What to do about "+kind+": "+what)
		}
	}
	return lines
}

// printBooks shows what fsck found.
func printBooks(w io.Writer, i ink, f httpapi.FsckBody) {
	if len(f.Orgs) == 0 {
		fmt.Fprintf(w, "No organizations, so there is nothing to prove.\n")
		return
	}
	t := &table{columns: []string{"ORG", ">EVENTS", ">DELIVERED", ">PENDING", ">DEAD", ">CANCELLED", ">REJECTED", ">GATED", ">IN GAPS", "STATE"}}
	for _, b := range f.Orgs {
		state := "proven"
		if !b.Proven {
			state = fmt.Sprintf("WRONG (%d)", max(b.Wrong, int64(len(b.Problems))))
		}
		t.add(b.Org, b.Events, b.Delivered, b.Pending, b.Dead, b.Cancelled, b.Rejected, b.Gated, b.InGaps, state)
	}
	t.print(w, i)
	for _, b := range f.Orgs {
		for _, p := range b.Problems {
			fmt.Fprintf(w, "%s %s\n", i.red(b.Org+":"), p)
		}
		if n := b.Wrong - int64(len(b.Problems)); n > 0 {
			fmt.Fprintf(w, "%s and %d more\n", i.red(b.Org+":"), n)
		}
	}
}
