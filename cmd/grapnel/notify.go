package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
)

const (
	beatEvery = 10 * time.Second
	// beatLimit is for how long the writer may be away (OPS-05). A full disk answers
	// much sooner; what takes longer is a disk that hangs, or a deadlock.
	beatLimit = time.Minute
	// passLimit is for how long the lanes may not have looked for what is due. They do so
	// each minute when nothing else makes them.
	passLimit = 5 * time.Minute
)

// heart says whether the loops on which everything waits still come round: the
// writer of the books and the lanes. It knows nothing of the broker or of receivers,
// which no restart would bring back.
type heart struct {
	pulse func(context.Context) error // returns when the writer has come round
	pass  func() time.Time            // when the lanes looked for what is due last; zero: they did not begin yet
	told  func()                      // is called after each beat, as long as all is well
	every time.Duration

	beat atomic.Pointer[time.Time]
}

// Run beats until ctx ends.
func (h *heart) Run(ctx context.Context) error {
	h.beaten()
	tick := time.NewTicker(h.every)
	defer tick.Stop()
	for {
		// While the writer is stuck it waits here, and says nothing to anybody.
		if err := h.pulse(ctx); err != nil {
			return nil // stopping
		}
		h.beaten()
		if h.alive() == nil {
			h.told()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (h *heart) beaten() {
	now := time.Now()
	h.beat.Store(&now)
}

// alive is nil while everything comes round, or has not begun.
func (h *heart) alive() error {
	if beat := h.beat.Load(); beat != nil && time.Since(*beat) > beatLimit {
		return fmt.Errorf("the writer of the database has not come round for %v: its disk hangs, or the daemon does", time.Since(*beat).Round(time.Second))
	}
	if pass := h.pass(); !pass.IsZero() && time.Since(pass) > passLimit {
		return fmt.Errorf("the lanes have not looked for what is due for %v", time.Since(pass).Round(time.Second))
	}
	return nil
}

// supervisor is the service manager that started the daemon and wants to hear
// how it is: systemd, or whoever set NOTIFY_SOCKET. Nil is nobody.
type supervisor struct {
	log   *slog.Logger
	every time.Duration // how often it wants a sign of life; 0: it wants none
}

// newSupervisor finds the service manager in the environment, as sd_notify(3) says.
func newSupervisor(log *slog.Logger) *supervisor {
	every, err := systemd.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("the service manager's watchdog cannot be used", "error", err)
	}
	return &supervisor{log: log, every: every}
}

// beats is how often the heart has to beat for it: three times before it would
// give the daemon up.
func (s *supervisor) beats() time.Duration {
	if s == nil || s.every <= 0 {
		return beatEvery
	}
	return min(beatEvery, s.every/3)
}

func (s *supervisor) tell(lines ...string) {
	if s == nil {
		return
	}
	if _, err := systemd.SdNotify(false, strings.Join(lines, "\n")); err != nil {
		s.log.Warn("the service manager cannot be told", "error", err)
	}
}

// ready: the books are open, and the daemon takes work.
func (s *supervisor) ready(status string) { s.tell(systemd.SdNotifyReady, "STATUS="+status) }

// reloading: the configuration is read again; reloaded has to follow.
func (s *supervisor) reloading() {
	s.tell(systemd.SdNotifyReloading, strings.TrimSpace(systemd.SdNotifyMonotonicUsec()), "STATUS=reading the configuration again")
}

// reloaded: it has been, whatever came of it.
func (s *supervisor) reloaded(status string) { s.ready(status) }

// beat: it lives, and this is how it is.
func (s *supervisor) beat(status string) { s.tell(systemd.SdNotifyWatchdog, "STATUS="+status) }

// stopping: requests in flight are let end.
func (s *supervisor) stopping() {
	s.tell(systemd.SdNotifyStopping, "STATUS=stopping: requests in flight are let end")
}

// status is the daemon in one line, for "systemctl status". It costs nothing: the
// numbers are those of the last survey.
func (d *daemon) status() string {
	s := d.metrics.survey
	s.mu.Lock()
	f := s.last
	s.mu.Unlock()
	h := d.Health()
	problems := h.Degraded
	if h.Ready != nil {
		problems = append([]string{h.Ready.Error()}, problems...)
	}
	return statusLine(f, d.lanes.Stats().InFlight, problems)
}

// statusLine says what is wrong first, then what is done.
func statusLine(f findings, inFlight int64, problems []string) string {
	var parts []string
	if len(problems) > 0 {
		parts = append(parts, strings.Join(problems, "; "))
	}
	if !f.at.IsZero() {
		all := 0
		for _, n := range f.states {
			all += n
		}
		orgs := fmt.Sprintf("%d organizations", all)
		for _, state := range slices.Sorted(maps.Keys(f.states)) {
			if n := f.states[state]; n > 0 && state != "live" {
				orgs += fmt.Sprintf(", %d %s", n, state)
			}
		}
		parts = append(parts, orgs, fmt.Sprintf("%d deliveries due", f.due))
	}
	parts = append(parts, fmt.Sprintf("%d requests in flight", inFlight))
	return strings.ReplaceAll(strings.Join(parts, " · "), "\n", " ")
}
