package main

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/sqlite"
)

// alter changes the books behind the back of the program, which is not running.
func alter(t *testing.T, dir string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite3", filepath.Join(dir, sqlite.FileName))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, s := range statements {
		r, err := db.ExecContext(t.Context(), s)
		if err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		if n, err := r.RowsAffected(); err != nil || n == 0 {
			t.Fatalf("%s: %d rows, %v", s, n, err)
		}
	}
}

// fsck proves acme's books from outside and returns them with the exit status.
func (s *liveDaemon) fsck(args ...string) (fscked, int) {
	s.t.Helper()
	out, status := s.try(append([]string{"fsck", "--json"}, args...)...)
	var f fscked
	if err := json.Unmarshal([]byte(out), &f); err != nil {
		s.t.Fatalf("fsck: %v\n%s", err, out)
	}
	return f, status
}

// Deliveries that were lost from the books are found, made once more and sent once;
// the books are proven again, and a second repair changes nothing.
func TestFsckRepairs(t *testing.T) {
	for _, c := range []struct {
		name   string
		breaks []string
		lost   []int // events, from 1, that nobody knows any more to have been sent
	}{
		{"deliveries", []string{"DELETE FROM deliveries WHERE event IN (2, 5, 6)", "DELETE FROM attempts WHERE event IN (2, 5, 6)"}, []int{2, 5, 6}},
		{"deliveries, not their attempts", []string{"DELETE FROM deliveries WHERE event=4"}, []int{4}},
		{"events too", []string{"DELETE FROM events WHERE id=3", "DELETE FROM deliveries WHERE event=3", "DELETE FROM attempts WHERE event=3"}, []int{3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newFickle(t)
			r.healed.Store(true)
			s := serveNow(t)
			s.run("org", "add", "acme")
			s.run("endpoint", "add", "acme", r.URL)
			want := map[string]int{}
			for i := range 8 {
				var e httpapi.AppendedBody
				if err := json.Unmarshal([]byte(s.run("event", "append", "acme", "invoice.paid", fmt.Sprint(i), "--json")), &e); err != nil {
					t.Fatal(err)
				}
				want[e.ID] = 1
				for _, n := range c.lost {
					if n == i+1 {
						want[e.ID] = 2
					}
				}
			}
			delivered := func() bool { f, _ := s.fsck(); return f.Orgs[0].Delivered == 8 }
			await(t, "the delivery of all", delivered)
			s.stop()
			alter(t, s.dir, c.breaks...)

			s = serveIn(t, s.dir)
			f, status := s.fsck()
			if status != exitFailed || f.Proven || f.Orgs[0].Missing != int64(len(c.lost)) {
				t.Errorf("before: status %d, %+v", status, f)
			}
			strays := strings.Contains(c.name, "not their attempts")
			if (len(f.Broken) > 0) != strays {
				t.Errorf("between rows: %+v", f.Broken)
			}
			f, status = s.fsck("--repair", "--reason", "rows were deleted")
			if status != 0 || !f.Proven || len(f.Repairs) != 1 || (len(f.Mended) > 0) != strays {
				t.Errorf("repair: status %d, %+v", status, f)
			}
			await(t, "the delivery of what was missing", delivered)
			if f, status = s.fsck("--repair"); status != 0 || len(f.Repairs)+len(f.Mended) != 0 {
				t.Errorf("again: status %d, %+v", status, f)
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			if diff := cmp.Diff(want, r.took); diff != "" {
				t.Errorf("the receiver got (-want +got):\n%s", diff)
			}
			if audit := s.run("audit", "acme", "--json"); strings.Count(audit, "rows were deleted") != 1 {
				t.Errorf("audit:\n%s", audit)
			}
		})
	}
}
