package fanout_test

import (
	"testing"
	"testing/synctest"
	"time"
)

// A paused organization is not read, whatever wakes it; another one is.
func TestPaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, true, "acme", "globex")
		defer w.stop()
		w.append("acme", 3)
		w.want("acme", 1, 3, 3)
		must(t, w.books.PauseCursor(t.Context(), "acme"))
		w.append("acme", 2)
		w.append("globex", 1)
		w.loop.SweepAll()
		w.loop.Reload("acme")
		time.Sleep(2 * time.Minute) // sweeps
		w.want("acme", 1, 3, 4)
		w.want("globex", 1, 1, 4)
		if s, ok := w.loop.Status("acme"); !ok || s.Err != "" {
			t.Errorf("status while paused: %+v", s)
		}
		must(t, w.books.ResumeCursor(t.Context(), "acme"))
		w.loop.Reload("acme")
		w.want("acme", 1, 5, 6)
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
