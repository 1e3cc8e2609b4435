package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/deliver"
)

// standingAt is a whole daemon with an organization, acme, that has an endpoint, seven
// events, and a paused cursor that has read three of them.
func standingAt(t *testing.T) (m *moves, grapnel func(line string) (out string, status int)) {
	m = &moves{T: t, Service: wholeDaemon(t).Service, ctx: t.Context()}
	_, err := m.AddOrg(m.ctx, httpapi.Org{ID: "acme", Payload: "data"})
	m.must(err)
	_, err = m.AddEndpoint(m.ctx, httpapi.NewEndpoint{Org: "acme", URL: "http://127.0.0.1:9/", EventTypes: []string{"*"},
		Timeout: deliver.DefaultTimeout, Retry: deliver.DefaultPolicy, Concurrency: 1, Options: deliver.Options{Paused: true}})
	m.must(err)
	m.append(3)
	m.reads(3)
	_, err = m.PauseCursor(m.ctx, "acme", httpapi.Pausing{})
	m.must(err)
	m.append(4)
	dir := pretend(t, m.Service)
	return m, func(line string) (string, int) {
		var out, errs bytes.Buffer
		status := run(t.Context(), append(words(line), "--data", dir), strings.NewReader(""), &out, &errs)
		return out.String() + errs.String(), status
	}
}

// Every demand of a move refuses by itself, says what it wants, and moves nothing.
func TestCursorRefusals(t *testing.T) {
	m, grapnel := standingAt(t)
	export, status := grapnel("cursor export")
	if status != 0 {
		t.Fatal(export)
	}
	var marks cursorMarks
	m.must(json.Unmarshal([]byte(export), &marks))
	file := func(name string, change func(*cursorMark)) string {
		changed := marks
		changed.Cursors = []cursorMark{marks.Cursors[0]}
		change(&changed.Cursors[0])
		text, err := json.Marshal(changed)
		m.must(err)
		path := filepath.Join(t.TempDir(), name)
		m.must(os.WriteFile(path, text, 0o600))
		return path
	}
	made := *marks.Cursors[0].StreamCreated
	later := made.Add(time.Nanosecond)
	otherStream := file("stream.json", func(c *cursorMark) { c.StreamCreated = &later })
	otherTime := file("time.json", func(c *cursorMark) { c.PositionAt = &later })
	otherText := file("text.json", func(c *cursorMark) { c.PositionHash = "0000000000000001" })
	beyond := file("beyond.json", func(c *cursorMark) { c.Position = 99 })
	nobody := file("nobody.json", func(c *cursorMark) { c.Org = "nobody" })

	const sure = " --execute --reason why --expect-position 3"
	for _, c := range []struct {
		line   string
		status int
		says   string
	}{
		{"cursor reset acme --to-seq 1 --execute --expect-position 3", exitUsage, "--execute needs --reason"},
		{"cursor reset acme --to-seq 1 --execute --reason why", exitUsage, "--expect-position"},
		{"cursor reset acme --to-seq 1 --execute --reason why --expect-position 2", exitFailed, "the cursor is at 3, not at 2"},
		{"cursor reset acme --to-latest" + sure, exitFailed, "4 events (sequences 4 to 7) were never read"},
		{"cursor reset acme --shift-by 2" + sure, exitFailed, "2 events (sequences 4 to 5) were never read"},
		{"cursor reset acme --shift-by 5" + sure, exitFailed, "the stream ends with 7"},
		{"cursor reset acme --to-seq 8" + sure, exitFailed, "the stream ends with 7"},
		{"cursor reset acme --to-seq 1 --shift-by -1" + sure, exitUsage, "one of --to-seq"},
		{"cursor reset nobody --to-seq 1" + sure, exitFailed, "no organization nobody"},
		{"cursor reset acme --from-file " + otherStream + sure, exitFailed, "is another stream: it was made at"},
		{"cursor reset acme --from-file " + otherTime + sure, exitFailed, "has another message at 3"},
		{"cursor reset acme --from-file " + otherText + sure, exitFailed, "has another message at 3"},
		{"cursor reset acme --from-file " + beyond + sure, exitFailed, "ends with 7, before the position 99"},
		{"cursor reset acme --from-file " + nobody + sure, exitFailed, "has no cursor of acme"},
		{"cursor import " + otherStream + " --execute --reason why", exitFailed, "is another stream"},
		{"cursor import " + nobody + " --execute --reason why", exitFailed, "no organization nobody"},
		{"cursor import " + otherStream + " --execute", exitUsage, "--execute needs --reason"},
	} {
		out, status := grapnel(c.line)
		if status != c.status || !strings.Contains(out, c.says) {
			t.Errorf("grapnel %s\nexit status %d, want %d with …%s…:\n%s", c.line, status, c.status, c.says, out)
		}
	}
	m.reads(3)
	if entries, err := m.Audit(m.ctx, "acme", 0, 1); err != nil || entries[0].Action != "cursor.pause" {
		t.Errorf("the newest entry of the audit is %+v (%v)", entries, err)
	}
}

// A move that is asked for twice happens once, by whatever it is asked for, and
// its plan can be read row by row.
func TestCursorMovesOnce(t *testing.T) {
	m, grapnel := standingAt(t)
	export, _ := grapnel("cursor export acme")
	marks := filepath.Join(t.TempDir(), "cursors.json")
	m.must(os.WriteFile(marks, []byte(export), 0o600))
	plan := filepath.Join(t.TempDir(), "plan.csv")

	did := func(line, says string) {
		t.Helper()
		out, status := grapnel(line)
		if status != 0 || !strings.Contains(out, says) {
			t.Errorf("grapnel %s\nexit status %d, want …%s…:\n%s", line, status, says, out)
		}
	}
	fates := func() (all []string) {
		t.Helper()
		text, err := os.ReadFile(plan)
		m.must(err)
		for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n")[1:] {
			cells := strings.Split(line, ",")
			if !strings.HasPrefix(cells[1], "evt_") || cells[2] != "a.b" || (cells[3] == "") != (cells[4] == "skipped") {
				t.Errorf("row %s", line)
			}
			all = append(all, cells[0]+" "+cells[4])
		}
		return all
	}

	did("cursor reset acme --shift-by 2 --export "+plan, "events skipped         2")
	if diff := cmp.Diff([]string{"4 skipped", "5 skipped"}, fates()); diff != "" {
		t.Errorf("the rows of moving on (-want +got):\n%s", diff)
	}
	const on = "cursor reset acme --shift-by 2 --execute --expect-position 3 --allow-skip --reason 'not wanted'"
	did(on, "was moved")
	did(on, "is at 5 already")
	m.reads(5)
	did("cursor reset acme --shift-by -4 --export "+plan, "new deliveries")
	if diff := cmp.Diff([]string{"2 exists", "3 exists", "4 new", "5 new"}, fates()); diff != "" {
		t.Errorf("the rows of moving back (-want +got):\n%s", diff)
	}
	const back = "cursor reset acme --shift-by -4 --execute --expect-position 5 --reason 'wanted'"
	did(back, "was moved")
	did(back, "is at 1 already")
	did("cursor import "+marks+" --execute --reason 'as it was'", "1 moved")
	did("cursor import "+marks+" --execute --reason 'as it was'", "1 there already")
	m.reads(3)
	m.proven()

	c, err := m.Cursor(m.ctx, "acme")
	m.must(err)
	var moved []string
	for _, v := range c.Moves {
		moved = append(moved, fmt.Sprintf("%d to %d %s: %s", v.From, v.To, v.Skipped, v.Reason))
	}
	if diff := cmp.Diff([]string{"1 to 3 : as it was", "5 to 1 : wanted", "3 to 5 4-5: not wanted"}, moved); diff != "" {
		t.Errorf("moves (-want +got):\n%s", diff)
	}
	if c.State != "paused" || c.Lag != uint64(c.Last-3) || c.Last < 7 || c.VerifiedAt.IsZero() {
		t.Errorf("the cursor is %s, %d behind, verified at %v", c.State, c.Lag, c.VerifiedAt)
	}
	list, err := m.Cursors(m.ctx, "", 10)
	m.must(err)
	if len(list) != 1 || list[0].Lag != uint64(list[0].Last-3) || list[0].Last < 7 || list[0].State != "paused" || list[0].Moves != nil {
		t.Errorf("the list has %+v", list)
	}
}

// A pause ends by itself.
func TestCursorPauseEnds(t *testing.T) {
	m, _ := standingAt(t)
	_, err := m.PauseCursor(m.ctx, "acme", httpapi.Pausing{Until: time.Now().Add(time.Millisecond)})
	m.must(err)
	m.reads(7)
	if c, err := m.Cursor(m.ctx, "acme"); err != nil || c.Pause != nil {
		t.Errorf("paused by %+v (%v)", c.Pause, err)
	}
}
