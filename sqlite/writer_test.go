package sqlite

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/mattn/go-sqlite3"
)

// holdWriter keeps the writer in an operation until release is called, so that
// what comes meanwhile is one group.
func holdWriter(t *testing.T, s *Store) (release func()) {
	t.Helper()
	entered, leave, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	var once sync.Once
	go func() {
		done <- s.w.do(context.Background(), func(*txn) error {
			once.Do(func() { close(entered) })
			<-leave
			return nil
		})
	}()
	<-entered
	return func() {
		close(leave)
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// One operation of a group fails, between others and beside records: the
// others and the records are written, all by one commit.
func TestGroupOutlivesAFailingOperation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, Options{Dir: t.TempDir(), Synchronous: "NORMAL"})
		w := newWalker(t, s, "acme", 2)
		written := w.commit(w.next(3))

		release := holdWriter(t, s)
		stale := w.next(1)
		stale.Version--
		w.made--
		results := make(chan error, 4)
		start := func(f func() error) {
			go func() { results <- f() }()
			synctest.Wait()
		}
		start(func() error { _, err := s.AddOrg(t.Context(), Org{ID: "before"}); return err })
		start(func() error { _, err := s.Commit(t.Context(), stale); return err })
		start(func() error { _, err := s.AddOrg(t.Context(), Org{ID: "acme"}); return err })
		start(func() error { _, err := s.AddOrg(t.Context(), Org{ID: "after"}); return err })
		n := w.deliverAll(written)
		before := s.Stats()
		release()
		var failed []error
		for range 4 {
			if err := <-results; err != nil {
				failed = append(failed, err)
			}
		}
		if len(failed) != 2 || !errors.Is(errors.Join(failed...), fanout.ErrStale) || !errors.Is(errors.Join(failed...), ErrExists) {
			t.Errorf("errors %v", failed)
		}
		w.flush()
		after := s.Stats()
		if rows := after.Rows - before.Rows; rows != int64(n) {
			t.Errorf("%d records booked, want %d", rows, n)
		}
		// The one that was held, the group, and the flush.
		if commits := after.Commits - before.Commits; commits > 3 {
			t.Errorf("%d commits", commits)
		}
		for _, org := range []string{"before", "after"} {
			if _, err := s.Position(t.Context(), org); err != nil {
				t.Error(err)
			}
		}
		if pos, _ := s.Position(t.Context(), "acme"); pos.Seq != 3 {
			t.Errorf("position %d", pos.Seq)
		}
		if c, _ := s.CountStates(t.Context(), "acme"); c != (Counts{}) {
			t.Errorf("counts %+v", c)
		}
	})
}

// What an operation wrote, counted and planned to do before it failed is undone,
// though its group commits.
func TestFailingOperationLeavesNothing(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	w := newWalker(t, s, "acme", 1)
	release := holdWriter(t, s)
	broken := errors.New("broken")
	results := make(chan error, 2)
	go func() {
		results <- s.w.do(context.Background(), func(x *txn) error {
			o := s.orgs["acme"]
			if _, err := x.commit(o, w.next(5), nil); err != nil {
				return err
			}
			x.after = append(x.after, func() { t.Error("what follows from a failed operation was done") })
			return broken
		})
	}()
	go func() {
		_, err := s.AddOrg(context.Background(), Org{ID: "other"})
		results <- err
	}()
	release()
	if err := errors.Join(<-results, <-results); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	events, err := s.column("SELECT count(*) FROM events UNION ALL SELECT count(*) FROM deliveries UNION ALL SELECT position FROM cursors")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int64{0, 0, 0, 0}, events); diff != "" { // two orgs
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	if c, _ := s.CountStates(t.Context(), "acme"); c != (Counts{}) {
		t.Errorf("counts %+v", c)
	}
	w.refresh()
	w.made = 0
	if ev := w.commit(w.next(1)); ev[0].Event != 1 {
		t.Errorf("event %d", ev[0].Event)
	}
}

// Records alone wait for company, not for ever.
func TestRecordsAloneLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, Options{Dir: t.TempDir(), Synchronous: "NORMAL"})
		w := newWalker(t, s, "acme", 1)
		written := w.commit(w.next(10))
		var booked atomic.Int64
		s.OnBooked(func(rs []deliver.Record) { booked.Add(int64(len(rs))) })
		before := s.Stats().Commits
		w.deliverAll(written)
		time.Sleep(linger - 1)
		synctest.Wait()
		if n := booked.Load(); n != 0 {
			t.Errorf("%d booked at once", n)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if commits := s.Stats().Commits - before; booked.Load() != 10 || commits != 1 {
			t.Errorf("%d booked by %d commits", booked.Load(), commits)
		}
	})
}

// The disk is full: operations fail, outcomes wait in memory, Record blocks, and all of them are durable once there is room again. (REL-04)
func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, Options{Dir: dir, Synchronous: "NORMAL"})
		w := newWalker(t, s, "acme", 100)
		written := w.commit(w.next(100))
		booked := make(map[deliver.Key]int)
		s.OnBooked(func(rs []deliver.Record) {
			for _, r := range rs {
				booked[r.Key]++
			}
		})
		limit(t, s, 1) // no page more than there are

		recorded, blocked := 0, make(chan error, 1)
		go func() {
			for _, ev := range written {
				for _, endpoint := range ev.Endpoints {
					if err := s.Record(t.Context(), delivered(deliver.Key{Event: ev.Event, Endpoint: endpoint})); err != nil {
						blocked <- err
						return
					}
					recorded++
				}
			}
			blocked <- nil
		}()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if !s.Full() || !s.Stats().Full {
			t.Fatal("not full")
		}
		// What was sent already is taken; then whoever sends has to wait.
		taken := recorded
		time.Sleep(time.Minute)
		synctest.Wait()
		if recorded != taken || recorded >= 10_000 {
			t.Errorf("%d, then %d records taken while the disk is full", taken, recorded)
		}
		if _, err := s.Commit(t.Context(), w.next(200)); !errors.Is(err, fanout.ErrFull) {
			t.Errorf("commit: %v", err)
		}
		if _, _, err := s.GetDelivery(t.Context(), "acme", deliver.Key{Event: 1, Endpoint: 1}); err != nil {
			t.Errorf("read: %v", err)
		}

		done := len(booked) // those for which there was room in pages that were there already
		limit(t, s, 1<<30)
		if err := <-blocked; err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if s.Full() {
			t.Error("still full")
		}
		if len(booked) != 10_000 || done == len(booked) {
			t.Errorf("%d booked, %d of them while the disk was full", len(booked), done)
		}
		for k, n := range booked {
			if n != 1 {
				t.Errorf("%v booked %d times", k, n)
			}
		}
		w.made = 100
		if _, err := s.Commit(t.Context(), w.next(200)); err != nil {
			t.Errorf("commit: %v", err)
		}
		if c, _ := s.CountStates(t.Context(), "acme"); c.Pending != 200*100 {
			t.Errorf("counts %+v", c)
		}
	})
}

// limit sets how many pages the database may have; never fewer than it has.
func limit(t *testing.T, s *Store, pages int64) {
	t.Helper()
	for {
		err := s.w.do(t.Context(), func(x *txn) error {
			return x.c.query(func(row) error { return nil }, fmt.Sprintf("PRAGMA max_page_count = %d", pages))
		})
		if err == nil {
			return
		}
		if !errors.Is(err, fanout.ErrFull) {
			t.Fatal(err)
		}
	}
}

// Closing while nothing can be written says how much is lost, and does not
// wait for ever.
func TestCloseOnAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s, err := Open(t.Context(), Options{Dir: dir, Synchronous: "NORMAL", Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		w := newWalker(t, s, "acme", 100)
		written := w.commit(w.next(50))
		limit(t, s, 1)
		const n = 50 * 100
		ended := make(chan error, 1)
		go func() { // blocks once the writer knows that the disk is full
			var err error
			for _, ev := range written {
				for _, endpoint := range ev.Endpoints {
					err = errors.Join(err, s.Record(t.Context(), delivered(deliver.Key{Event: ev.Event, Endpoint: endpoint})))
				}
			}
			ended <- err
		}()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		err = s.Close()
		if err == nil {
			t.Fatal("closed as if all was written")
		}
		if err := <-ended; err != nil && !errors.Is(err, ErrClosed) {
			t.Errorf("record: %v", err)
		}
		s = open(t, Options{Dir: dir})
		if c, _ := s.CountStates(t.Context(), "acme"); c.Pending == 0 || c.Pending > n {
			t.Errorf("counts %+v after %v", c, err)
		}
	})
}

// Close writes what was recorded before it, and refuses what comes after.
func TestCloseFlushes(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	w := newWalker(t, s, "acme", 10)
	n := w.deliverAll(w.commit(w.next(200)))
	shut(t, s)
	if err := s.Record(t.Context(), deliver.Record{}); !errors.Is(err, ErrClosed) {
		t.Errorf("record after close: %v", err)
	}
	if _, err := s.AddOrg(t.Context(), Org{ID: "late"}); !errors.Is(err, ErrClosed) {
		t.Errorf("operation after close: %v", err)
	}
	s = open(t, Options{Dir: dir})
	if c, _ := s.CountStates(t.Context(), "acme"); c != (Counts{}) {
		t.Errorf("counts %+v of %d deliveries", c, n)
	}
}

// Another process holds the lock: operations fail after a bounded time, records
// wait. (REL-06)
func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, Options{Dir: t.TempDir(), busy: 10 * time.Millisecond})
		w := newWalker(t, s, "acme", 1)
		written := w.commit(w.next(5))
		other := openDB(s.path, "rw", 1, nil)
		defer other.Close()
		if _, err := other.Exec("BEGIN IMMEDIATE"); err != nil {
			t.Fatal(err)
		}
		w.deliverAll(written)
		if _, err := s.AddOrg(t.Context(), Org{ID: "late"}); !errors.Is(err, ErrBusy) {
			t.Errorf("operation: %v", err)
		}
		if s.Full() {
			t.Error("busy taken for full")
		}
		if _, err := other.Exec("ROLLBACK"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * retryAfter)
		synctest.Wait()
		if c, _ := s.CountStates(t.Context(), "acme"); c != (Counts{}) {
			t.Errorf("counts %+v", c)
		}
		if _, err := s.AddOrg(t.Context(), Org{ID: "late"}); err != nil {
			t.Error(err)
		}
	})
}

// A record that the database refuses for good is dropped; its group is not.
func TestPoisonedRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, Options{Dir: t.TempDir(), Synchronous: "NORMAL"})
		w := newWalker(t, s, "acme", 1)
		written := w.commit(w.next(5))
		if err := s.w.do(t.Context(), func(x *txn) error {
			_, err := x.c.exec("CREATE TRIGGER poison BEFORE INSERT ON attempts WHEN new.event = 3 BEGIN SELECT raise(ABORT, 'poison'); END")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		w.deliverAll(written)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := s.Stats().Waiting; n != 0 {
			t.Errorf("%d records wait", n)
		}
		if c, _ := s.CountStates(t.Context(), "acme"); c.Pending != 1 {
			t.Errorf("counts %+v", c)
		}
	})
}

func TestFaults(t *testing.T) {
	of := func(code sqlite3.ErrNo, extended sqlite3.ErrNoExtended) error {
		return fmt.Errorf("wrapped: %w", sqlite3.Error{Code: code, ExtendedCode: extended})
	}
	tests := []struct {
		name string
		err  error
		want fault
	}{
		{"none", nil, faultNone},
		{"not SQLite's", errors.New("x"), faultNone},
		{"13 full", of(sqlite3.ErrFull, 13), faultFull},
		{"778 write", of(sqlite3.ErrIoErr, 778), faultFull},
		{"1034 fsync", of(sqlite3.ErrIoErr, 1034), faultFull},
		{"4874 shm size", of(sqlite3.ErrIoErr, 4874), faultFull},
		{"8 read-only", of(sqlite3.ErrReadonly, 8), faultFull},
		{"266 read", of(sqlite3.ErrIoErr, 266), faultCorrupt},
		{"11 corrupt", of(sqlite3.ErrCorrupt, 11), faultCorrupt},
		{"5 busy", of(sqlite3.ErrBusy, 5), faultBusy},
		{"19 constraint", of(sqlite3.ErrConstraint, 1555), faultOp},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := faultOf(test.err); got != test.want {
				t.Errorf("got %d, want %d", got, test.want)
			}
		})
	}
}

// OPS-05: the writer has a pulse with a full disk, and none while it is stuck.
func TestPulse(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	err := s.w.do(t.Context(), func(*txn) error { return sqlite3.Error{Code: sqlite3.ErrFull} })
	if !errors.Is(err, fanout.ErrFull) || !s.Full() {
		t.Fatalf("the disk is not full: %v", err)
	}
	if err := s.Pulse(t.Context()); err != nil {
		t.Errorf("with a full disk: %v", err)
	}
	release := holdWriter(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	came := make(chan error, 1)
	go func() { came <- s.Pulse(ctx) }()
	cancel()
	if err := <-came; !errors.Is(err, context.Canceled) {
		t.Errorf("while it is stuck: %v", err)
	}
	release()
	if err := s.Pulse(t.Context()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	shut(t, s)
	if err := s.Pulse(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
