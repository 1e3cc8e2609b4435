//go:build unix

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/sqlite"
	"github.com/grapnel-hooks/grapnel/stream"
)

// testPowerCut takes pictures of the database in the middle of work, as a
// power cut would leave it: each opens, is whole, agrees with the stream up to
// its position, and has all that the API had acknowledged (REL-03).
//
// The files are copied while the process stands still, without the shared
// memory beside them, which would not survive. Pages that the kernel holds are
// in the picture although a power cut could lose them; that nothing is
// acknowledged before it is synced is what synchronous=FULL is for.
func testPowerCut(t *testing.T, bin string) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	s, l := setStage(ctx, t, bin, cast())
	s.p.rnd, s.p.every, s.p.orgs = rand.New(rand.NewPCG(1, 2)), 2*time.Millisecond, []string{"acme", "beta"}
	stop, stopped := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer stopped()
	work.Go(func() { s.p.publish(ctx, stop) })
	clerk := &clerk{s: s}
	work.Go(func() { clerk.work(stop, t) })
	broker, err := stream.Connect(ctx, stream.Options{URL: "nats://" + s.v.nats})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()

	rnd := rand.New(rand.NewPCG(3, 4))
	for i := range max(*chaosKills/4, 4) {
		elapse(ctx, time.Duration(100+rnd.IntN(150))*time.Millisecond)
		acked := clerk.acked()
		dir := filepath.Join(t.TempDir(), fmt.Sprint(i))
		l.freeze(t)
		copyBooks(t, dir, s.v.dir)
		l.thaw(t)
		picture(ctx, t, dir, acked, broker)
	}
	stopped()
	work.Wait()
	s.r.relent()
	s.check(ctx, t, l)
}

// clerk makes endpoints all the time and remembers which were acknowledged.
type clerk struct {
	s    stage
	mu   sync.Mutex
	made []string
}

func (c *clerk) work(stop context.Context, t *testing.T) {
	for n := 0; stop.Err() == nil; n++ {
		h := &hook{name: fmt.Sprintf("nobody%d", n), org: "beta", types: []string{"no.such"}, attempts: 3}
		if err := addHook(t.Context(), c.s.v, c.s.r, h); err != nil {
			t.Error(err)
			return
		}
		c.mu.Lock()
		c.made = append(c.made, h.id)
		c.mu.Unlock()
		elapse(stop, 10*time.Millisecond)
	}
}

func (c *clerk) acked() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string{}, c.made...)
}

// freeze stops all threads of the process, and returns when they stand.
func (l *life) freeze(t *testing.T) {
	t.Helper()
	if err := l.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var status syscall.WaitStatus
	for {
		_, err := syscall.Wait4(l.cmd.Process.Pid, &status, syscall.WUNTRACED, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || !status.Stopped() {
			t.Fatalf("the daemon did not stop: %v, %v", status, err)
		}
		return
	}
}

func (l *life) thaw(t *testing.T) {
	t.Helper()
	if err := l.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

func copyBooks(t *testing.T, to, from string) {
	t.Helper()
	if err := os.Mkdir(to, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{sqlite.FileName, sqlite.FileName + "-wal", sqlite.KeyFileName} {
		in, err := os.Open(filepath.Join(from, name))
		if errors.Is(err, fs.ErrNotExist) && name == sqlite.FileName+"-wal" {
			continue // the log is folded in
		}
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		out, err := os.OpenFile(filepath.Join(to, name), os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(out, in); err != nil {
			t.Fatal(err)
		}
		if err := out.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// picture examines one copy.
func picture(ctx context.Context, t *testing.T, dir string, acked []string, broker *stream.Client) {
	t.Helper()
	store, err := sqlite.Open(ctx, sqlite.Options{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Errorf("open the picture: %v", err)
		return
	}
	defer store.Close()
	have := map[string]bool{}
	endpoints, err := store.AllEndpoints(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, ep := range endpoints {
		have[ep.ID] = true
	}
	missing := 0
	for _, id := range acked {
		if !have[id] {
			missing++
		}
	}
	if missing > 0 {
		t.Errorf("%d of %d endpoints that were acknowledged are missing", missing, len(acked))
	}
	for _, org := range []string{"acme", "beta"} {
		books, err := store.Audit(ctx, org)
		if err != nil {
			t.Fatal(err)
		}
		report, err := fanout.Check(ctx, broker, stream.Decoding{Org: org, Payload: stream.PayloadData}, books, nil)
		books.Close()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range report.Problems {
			t.Errorf("%s: %s", org, p)
		}
		t.Logf("%s at %d: %d endpoints acknowledged, %d deliveries, %d pending", org, report.Position.Seq,
			len(acked), report.Delivered+report.Pending+report.Dead, report.Pending)
	}
	db, err := sql.Open("sqlite3", filepath.Join(dir, sqlite.FileName))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var integrity string
	if err := db.QueryRowContext(ctx, "PRAGMA integrity_check").Scan(&integrity); err != nil || integrity != "ok" {
		t.Errorf("integrity check: %q, %v", integrity, err)
	}
}
