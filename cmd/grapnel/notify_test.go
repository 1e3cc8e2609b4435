package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/cmd/internal/config"
	"github.com/grapnel-hooks/grapnel/cmd/internal/logging"
)

// manager is a service manager that writes down what it is told.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
}

// newManager puts itself into the environment, as systemd does.
func newManager(t *testing.T, watchdog time.Duration) *manager {
	t.Helper()
	path := filepath.Join(shortDir(t), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_PID", "")
	t.Setenv("WATCHDOG_USEC", "")
	if watchdog > 0 {
		t.Setenv("WATCHDOG_USEC", strconv.FormatInt(watchdog.Microseconds(), 10))
	}
	return &manager{t, conn}
}

// next is the next message, without what else the daemon says of itself.
func (s *manager) next() (state, status string) {
	s.t.Helper()
	if err := s.conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		s.t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := s.conn.Read(buf)
	if err != nil {
		s.t.Fatalf("nothing was told: %v", err)
	}
	state, status, _ = strings.Cut(string(buf[:n]), "\n")
	if i := strings.Index(status, "STATUS="); i >= 0 {
		status = status[i+len("STATUS="):]
	}
	return state, status
}

// OPS-05: systemd hears that the daemon is ready, that it lives, and that it stops.
func TestServiceManagerIsTold(t *testing.T) {
	systemd := newManager(t, 300*time.Millisecond)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	cfg := config.Serve{Data: shortDir(t) + "/data", Listen: "off", NATSListen: "off"}
	read := newConfigured(cfg, func() (config.Serve, error) { return cfg, nil })
	go func() { ended <- serve(ctx, cfg, read, logging.Log{Logger: slog.New(slog.DiscardHandler)}, nil) }()
	state, status := systemd.next()
	if state != "READY=1" || !strings.Contains(status, "0 requests in flight") {
		t.Errorf("first %q, %q", state, status)
	}
	for range 3 {
		if state, _ := systemd.next(); state != "WATCHDOG=1" {
			t.Errorf("then %q", state)
		}
	}
	stop()
	for state != "STOPPING=1" {
		if state, _ = systemd.next(); state != "WATCHDOG=1" && state != "STOPPING=1" {
			t.Fatalf("at the end %q", state)
		}
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestReloadIsTold(t *testing.T) {
	systemd := newManager(t, 0)
	s := newSupervisor(slog.New(slog.DiscardHandler))
	s.reloading()
	s.reloaded("3 organizations")
	var got []string
	for range 2 {
		state, status := systemd.next()
		got = append(got, state, status)
	}
	want := []string{"RELOADING=1", "reading the configuration again", "READY=1", "3 organizations"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if s.beats() != beatEvery {
		t.Errorf("without a watchdog it beats every %v", s.beats())
	}
}

// Nobody has to be told: no service manager, or one that went away.
func TestNobodyIsTold(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	newSupervisor(slog.New(slog.DiscardHandler)).ready("")
	(*supervisor)(nil).ready("")
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "gone"))
	newSupervisor(slog.New(slog.DiscardHandler)).ready("")
}

// OPS-05: a writer that is stuck, and only that, keeps the watchdog from being told and
// makes /healthz say so after a minute; it is well again when the writer is.
func TestHeart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			stuck  atomic.Pointer[chan struct{}] // the writer comes round when it is closed
			beats  atomic.Int64
			passed = time.Now()
		)
		h := &heart{
			every: beatEvery,
			told:  func() { beats.Add(1) },
			pass:  func() time.Time { return passed },
			pulse: func(ctx context.Context) error {
				if s := stuck.Load(); s != nil {
					select {
					case <-*s:
					case <-ctx.Done():
						return ctx.Err()
					}
				}
				return ctx.Err()
			},
		}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go h.Run(ctx)
		after := func(d time.Duration) (told int64, alive error) {
			before := beats.Load()
			time.Sleep(d) // of the bubble's clock
			synctest.Wait()
			return beats.Load() - before, h.alive()
		}
		if told, alive := after(35 * time.Second); told != 4 || alive != nil {
			t.Errorf("well: told %d times, %v", told, alive)
		}
		again := make(chan struct{})
		stuck.Store(&again)
		if told, alive := after(55 * time.Second); told != 0 || alive != nil {
			t.Errorf("stuck for less than a minute: told %d times, %v", told, alive)
		}
		if told, alive := after(10 * time.Second); told != 0 || alive == nil || !strings.Contains(alive.Error(), "writer") {
			t.Errorf("stuck for more than a minute: told %d times, %v", told, alive)
		}
		before := beats.Load()
		close(again)
		if _, alive := after(time.Second); alive != nil || beats.Load() == before {
			t.Errorf("well again: told %d times, %v", beats.Load()-before, alive)
		}
		stuck.Store(nil)
		if told, alive := after(6 * time.Minute); alive == nil || !strings.Contains(alive.Error(), "lanes") || told >= 36 {
			t.Errorf("lanes that do not come round: told %d times, %v", told, alive)
		}
	})
}

// A new daemon whose lanes do not run yet, such as a held one, is alive.
func TestHeartBeforeTheLanes(t *testing.T) {
	h := &heart{pass: func() time.Time { return time.Time{} }}
	if err := h.alive(); err != nil {
		t.Error(err)
	}
}

func TestStatusLine(t *testing.T) {
	surveyed := findings{at: time.Unix(1, 0), due: 40, states: map[string]int{"live": 8, "behind": 3, "paused": 1, "gap": 0}}
	for _, c := range []struct {
		name     string
		f        findings
		problems []error
		want     string
	}{
		{"at the start", findings{}, nil, "2 requests in flight"},
		{"as ever", surveyed, nil, "12 organizations, 3 behind, 1 paused · 40 deliveries due · 2 requests in flight"},
		{"in trouble", surveyed, []error{errors.New("store_full"), errors.New("the broker\nis away")},
			"store_full; the broker is away · 12 organizations, 3 behind, 1 paused · 40 deliveries due · 2 requests in flight"},
	} {
		var problems []string
		for _, p := range c.problems {
			problems = append(problems, p.Error())
		}
		if got := statusLine(c.f, 2, problems); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}
