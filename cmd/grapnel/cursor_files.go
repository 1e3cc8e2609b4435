package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/spf13/cobra"
)

// marksFormat names the files of "cursor export", and the version of their form.
const marksFormat = "grapnel-cursors-1"

// cursorMarks is such a file: where the cursors stood, and by what their streams
// are recognised. It has nothing of deliveries.
type cursorMarks struct {
	Format     string       `json:"format"`
	ExportedAt time.Time    `json:"exported_at"`
	Cursors    []cursorMark `json:"cursors"`
}

type cursorMark struct {
	Org           string     `json:"org"`
	Stream        string     `json:"stream"`
	StreamCreated *time.Time `json:"stream_created"` // null: it was never read
	Incarnation   int        `json:"incarnation"`
	Position      uint64     `json:"position"`
	PositionAt    *time.Time `json:"position_at"`
	PositionHash  string     `json:"position_hash,omitempty"`
	UpdatedAt     *time.Time `json:"updated_at"`
}

func (m cursorMark) mark() *httpapi.CursorMarkBody {
	b := &httpapi.CursorMarkBody{Position: m.Position, PositionAt: m.PositionAt, PositionHash: m.PositionHash}
	if m.StreamCreated != nil {
		b.StreamCreated = *m.StreamCreated
	}
	return b
}

func (m *cursorMarks) of(org string) (cursorMark, bool) {
	i := slices.IndexFunc(m.Cursors, func(c cursorMark) bool { return c.Org == org })
	if i < 0 {
		return cursorMark{}, false
	}
	return m.Cursors[i], true
}

func (a *app) cursorExport() *cobra.Command {
	var from cursorSource
	c := &cobra.Command{
		Use:   "export [ORG]",
		Short: "Write down where cursors stand, to set them again after a disaster",
		Long: `Write down where the cursors of all organizations stand, or that of one, with what
their streams are recognised by: JSON for "grapnel cursor import". It is small, and
worth having beside the backups: with it a lost database need not read its streams
from their beginning. It has nothing of deliveries; a backup has.`,
		Example: `  grapnel cursor export > cursors.json
  grapnel cursor export acme`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			all, err := from.picked(c.Context(), a, args)
			if err != nil {
				return err
			}
			out := cursorMarks{Format: marksFormat, ExportedAt: time.Now().UTC().Truncate(time.Second), Cursors: []cursorMark{}}
			for _, b := range all {
				out.Cursors = append(out.Cursors, cursorMark{
					Org: b.Org, Stream: b.Stream, StreamCreated: b.StreamCreated, Incarnation: b.Incarnation,
					Position: b.Position, PositionAt: b.PositionAt, PositionHash: b.PositionHash, UpdatedAt: b.UpdatedAt,
				})
			}
			return writeJSON(a.out, out)
		},
	}
	from.define(c.Flags())
	return c
}

// maxMarks is the largest file of marks that is read: a hundred thousand cursors.
const maxMarks = 64 << 20

// readMarks reads a file of "cursor export".
func readMarks(name string) (cursorMarks, error) {
	var m cursorMarks
	f, err := os.Open(name)
	if err != nil {
		return m, fmt.Errorf("read cursors: %w", err)
	}
	defer f.Close()
	d := json.NewDecoder(io.LimitReader(f, maxMarks))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return m, fmt.Errorf("read cursors from %s: %w", name, err)
	}
	if m.Format != marksFormat {
		return m, fmt.Errorf("read cursors from %s: its format is %q, want %q: is it a file of \"grapnel cursor export\"?", name, m.Format, marksFormat)
	}
	return m, nil
}

// imported is what came of one cursor of a file.
type imported struct {
	Org    string                  `json:"org"`
	Result string                  `json:"result"` // moves, moved, already, never-read, refused
	Why    string                  `json:"why,omitempty"`
	Plan   *httpapi.CursorPlanBody `json:"plan,omitempty"`
}

func (a *app) cursorImport() *cobra.Command {
	var (
		execute, skip, claim bool
		reason, only         string
	)
	c := &cobra.Command{
		Use:   "import FILE",
		Short: "Set cursors to where they stood in an export, or see what that would do",
		Long: `Set the cursors of a file of "grapnel cursor export" to where they stood. Without
--execute only the plan is shown.

A cursor is set only if its stream is the one that the export was made of: made at
the same moment, with the same message at the position. Others are refused, with
what differs; move those by hand with "grapnel cursor reset". Each cursor is moved
from where this command found it: one that moves meanwhile is refused. Pause them
first. To set a cursor on over events that these books never read needs
--allow-skip: their deliveries were made by the database that is lost. A stream
that is still marked as that one's (state "unclaimed") is read once it is claimed
as well: by --claim, or by "grapnel cursor claim".

The exit status is 1 if a cursor was refused.`,
		Example: `  grapnel cursor import cursors.json
  grapnel cursor import cursors.json --execute --allow-skip --reason 'the database was lost'`,
		Args: cobra.ExactArgs(1),
	}
	f := c.Flags()
	f.BoolVar(&execute, "execute", false, "set them; without, only the plan is shown")
	f.StringVar(&reason, "reason", "", "why, for the audit; needed with --execute")
	f.BoolVar(&skip, "allow-skip", false, "events that were never read may be skipped")
	f.BoolVar(&claim, "claim", false, "take over streams that are marked as another database's")
	f.StringVar(&only, "org", "", "only this organization")
	c.RunE = func(c *cobra.Command, args []string) error {
		if execute && reason == "" {
			return &usageError{errors.New("--execute needs --reason")}
		}
		marks, err := readMarks(args[0])
		if err != nil {
			return err
		}
		if only != "" {
			m, ok := marks.of(only)
			if !ok {
				return fmt.Errorf("%s has no cursor of %s", args[0], only)
			}
			marks.Cursors = []cursorMark{m}
		}
		results := []imported{}
		for _, m := range marks.Cursors {
			r := a.importCursor(c, m, httpapi.CursorResetBody{Execute: execute, Reason: reason, AllowSkip: skip}, claim)
			if err := c.Context().Err(); err != nil {
				return err
			}
			results = append(results, r)
		}
		if err := a.show(results, func() { a.printImport(results, execute) }); err != nil {
			return err
		}
		if slices.ContainsFunc(results, func(r imported) bool { return r.Result == "refused" }) {
			return errReported
		}
		return nil
	}
	return c
}

// importCursor sets one cursor from where it is now, and then claims its stream
// if that is another database's: whatever stops it in between, nothing is read
// from the wrong place.
func (a *app) importCursor(c *cobra.Command, m cursorMark, r httpapi.CursorResetBody, claim bool) imported {
	out := imported{Org: m.Org, Result: "refused"}
	if m.StreamCreated == nil {
		out.Result, out.Why = "never-read", "its stream was never read"
		return out
	}
	now, err := a.client().Cursor(c.Context(), m.Org)
	if err != nil {
		out.Why = err.Error()
		return out
	}
	r.ToMark, r.ExpectPosition = m.mark(), &now.Position
	p, err := a.client().ResetCursor(c.Context(), m.Org, r)
	switch {
	case err != nil:
		out.Why = err.Error()
		return out
	case p.Already:
		out.Result = "already"
	case p.Executed:
		out.Result = "moved"
	default:
		out.Result = "moves"
	}
	out.Plan = &p
	switch {
	case now.State != "unclaimed":
	case !claim:
		out.Why = "its stream is marked as another database's, and is not read: add --claim"
	case !r.Execute:
		out.Why = "its stream is then taken over from another database"
	default:
		if _, err := a.client().ClaimCursor(c.Context(), m.Org, httpapi.CursorClaimBody{From: "position", Reason: r.Reason}); err != nil {
			out.Result, out.Why = "refused", "it was set, but its stream not claimed: "+err.Error()
			return out
		}
		out.Why = "its stream was taken over from another database"
	}
	return out
}

var importWords = map[string]string{
	"moves": "would be moved", "moved": "moved", "already": "there already", "never-read": "never read", "refused": "refused",
}

func (a *app) printImport(results []imported, executed bool) {
	t := &table{columns: []string{"ORG", ">FROM", ">TO", ">READ AGAIN", ">NEW", ">SKIPPED", "RESULT"}}
	count, skipped := map[string]int{}, uint64(0)
	for _, r := range results {
		count[r.Result]++
		said := importWords[r.Result]
		if r.Why != "" && r.Result != "never-read" {
			said += ": " + r.Why
		}
		if p := r.Plan; p != nil {
			skipped += p.EventsSkipped
			t.add(r.Org, p.From, p.To, p.EventsAgain, p.DeliveriesNew, p.EventsSkipped, said)
		} else {
			t.add(r.Org, "", "", "", "", "", said)
		}
	}
	if len(results) > 0 {
		t.print(a.out, a.ink())
		a.printf("\n")
	}
	var parts []string
	for _, r := range []string{"moves", "moved", "already", "never-read", "refused"} {
		if n := count[r]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, importWords[r]))
		}
	}
	a.printf("%s: %s\n", plural(len(results), "cursor"), strings.Join(parts, ", "))
	if !executed && count["moves"] > 0 {
		allow := ""
		if skipped > 0 {
			allow = " --allow-skip"
		}
		a.printf("Nothing was moved. To do it, add: --execute%s --reason '…'\n", allow)
	}
}
