package sqlite

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
)

// copyStore copies database, log and key file, not the shared memory, as a
// power cut leaves them.
func copyStore(t *testing.T, from, to string) {
	t.Helper()
	for _, name := range []string{FileName, FileName + "-wal", KeyFileName} {
		data, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// At every failpoint the files are copied while the writer stands still. Each
// copy opens, and holds whole transactions only: every event up to the position
// with all its deliveries, and an attempt for each delivery that is not pending. (REL-03)
func TestCrashAtEveryFailpoint(t *testing.T) {
	dir := t.TempDir()
	var mu sync.Mutex
	copies, seen := map[string]string{}, map[string]int{}
	s := open(t, Options{Dir: dir, runSize: 64, Synchronous: "NORMAL", Failpoint: func(name string) {
		mu.Lock()
		defer mu.Unlock()
		n := seen[name]
		seen[name]++
		if strings.HasPrefix(name, "migrate.") || n%9 != 3 {
			return
		}
		to := t.TempDir()
		copyStore(t, dir, to)
		copies[fmt.Sprintf("%s %d", name, n)] = to
	}})
	w := newWalker(t, s, "acme", 3)
	doomed := addEndpoint(t, s, "acme")
	w.endpoints = append(w.endpoints, doomed.Row)
	w.refresh()
	for i := range 40 {
		written := w.commit(w.next(17))
		for _, ev := range written[:10] {
			for _, endpoint := range w.endpoints[:3] {
				r := delivered(deliver.Key{Event: ev.Event, Endpoint: endpoint})
				if ev.Event%3 == 0 {
					r.Next = deliver.Transition{State: deliver.Dead, Reason: deliver.Exhausted, Spent: 1}
					r.Attempt.Class = deliver.HTTP5xx
				}
				if err := s.Record(t.Context(), r); err != nil {
					t.Fatal(err)
				}
			}
		}
		if i%10 == 9 {
			if _, err := s.Retain(t.Context(), RetainOptions{FinishedBefore: time.Now().Add(time.Hour), Step: 20}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.RemoveEndpoint(t.Context(), "acme", doomed.ID); err != nil {
		t.Fatal(err)
	}
	w.flush()
	mu.Lock()
	defer mu.Unlock()
	if len(copies) < 20 {
		t.Fatalf("only %d copies were made: %v", len(copies), seen)
	}
	for name, dir := range copies {
		t.Run(name, func(t *testing.T) { checkCopy(t, dir) })
	}
}

func checkCopy(t *testing.T, dir string) {
	s := open(t, Options{Dir: dir, runSize: 64})
	counts := func(query string) int64 {
		t.Helper()
		list, err := s.column(query)
		if err != nil {
			t.Fatal(err)
		}
		return list[0]
	}
	c, err := s.Cursor(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	if c.Events != uint64(c.Seq) || c.Seq%17 != 0 {
		t.Errorf("position %d, %d events", c.Seq, c.Events)
	}
	if n := counts("SELECT count(*) FROM events e WHERE NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.event=e.id)"); n != 0 {
		t.Errorf("%d events without deliveries", n)
	}
	// Retention removes delivered ones only; the events it has not come to have all four.
	if n := counts("SELECT count(*) FROM events e WHERE id > (SELECT event FROM retention) AND (SELECT count(*) FROM deliveries d WHERE d.event=e.id) <> 4"); n != 0 {
		t.Errorf("%d events with some of their deliveries", n)
	}
	if n := counts("SELECT count(*) FROM deliveries d WHERE (state IN (1, 2)) <> EXISTS (SELECT 1 FROM attempts a WHERE a.event=d.event AND a.endpoint=d.endpoint)"); n != 0 {
		t.Errorf("%d deliveries do not match their attempts", n)
	}
	if n := counts("SELECT max(id) FROM events"); n != int64(c.Seq) {
		t.Errorf("last event %d at position %d", n, c.Seq)
	}
	// What memory counts is what the rows say.
	if n := counts("SELECT count(*) FROM deliveries WHERE state=2"); n != c.Dead {
		t.Errorf("%d dead, counted %d", n, c.Dead)
	}
	// A removal that was interrupted is finished.
	if err := s.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := counts("SELECT count(*) FROM deliveries d JOIN endpoints p ON p.id=d.endpoint WHERE p.removed_at IS NOT NULL AND d.state=0"); n != 0 {
		t.Errorf("%d pending deliveries of a removed endpoint", n)
	}
	pending, err := s.CountStates(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	if n := counts("SELECT count(*) FROM deliveries WHERE state=0"); n != pending.Pending {
		t.Errorf("%d pending, counted %d", n, pending.Pending)
	}
}
