//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/client"
)

// readyWithin is how soon a daemon has to take work after its start, whatever
// it died of before (REL-01).
const readyWithin = 5 * time.Second

// victim is one data directory and the real binary that serves it, life after
// life.
type victim struct {
	t       *testing.T
	bin     string
	dir     string // the data directory
	inside  string // the same, as the daemon sees it
	logFile string // of all lives
	listen  string // health and metrics
	nats    string // publishers
	flags   []string
	wrap    []string // what runs the command, if it is not run as it is
	client  *client.Client
	lives   []*life
	present atomic.Int64 // the number of the last life, for those who serve it
}

// life is one process.
type life struct {
	number int // from 1
	cmd    *exec.Cmd
	began  time.Time
	died   time.Time // set before ended
	ended  chan struct{}
	ready  time.Duration
}

// newVictim makes a directory for a daemon with an embedded broker, reachable
// for publishers. The directory is kept when the test fails.
func newVictim(t *testing.T, bin string, flags ...string) *victim {
	t.Helper()
	dir, err := os.MkdirTemp("", "grapnel-chaos-")
	if err != nil {
		t.Fatal(err)
	}
	v := &victim{
		t: t, bin: bin, dir: filepath.Join(dir, "data"), logFile: filepath.Join(dir, "log"),
		listen: freeAddress(t), nats: freeAddress(t),
	}
	v.inside = v.dir
	v.flags = append([]string{
		"--listen", v.listen, "--allow-http", "--allow-network", "127.0.0.0/8", "--log-format", "json",
	}, flags...)
	v.client = client.New(v.dir)
	t.Cleanup(func() {
		v.client.Close()
		if l := v.last(); l != nil {
			l.kill()
		}
		if t.Failed() {
			t.Logf("kept: %s", dir)
			v.tail()
			return
		}
		os.RemoveAll(dir)
	})
	return v
}

// freeAddress is a loopback address that nobody listens on. It is not one of
// those that the system gives to outgoing connections, so that it is still
// free when the daemon is dead for a moment.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 18000+rand.IntN(14000)))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no free port")
	return ""
}

func (v *victim) last() *life {
	if len(v.lives) == 0 {
		return nil
	}
	return v.lives[len(v.lives)-1]
}

// cmd is a command of the binary.
func (v *victim) cmd(name string, args ...string) *exec.Cmd {
	whole := slices.Concat(v.wrap, []string{v.bin, name, "--data", v.inside}, args)
	return exec.Command(whole[0], whole[1:]...)
}

// start runs "grapnel serve". It does not wait until it is ready.
func (v *victim) start(env ...string) *life {
	v.t.Helper()
	log, err := os.OpenFile(v.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		v.t.Fatal(err)
	}
	defer log.Close()
	l := &life{number: len(v.lives) + 1, ended: make(chan struct{}), began: time.Now()}
	l.cmd = v.cmd("serve", v.flags...)
	l.cmd.Stdout, l.cmd.Stderr = log, log
	l.cmd.Env = append(os.Environ(), env...)
	v.present.Store(int64(l.number))
	if err := l.cmd.Start(); err != nil {
		v.t.Fatal(err)
	}
	v.lives = append(v.lives, l)
	go func() {
		l.cmd.Wait()
		l.died = time.Now()
		close(l.ended)
	}()
	return l
}

// awaitReady returns when the daemon takes work, or ended before that.
func (v *victim) awaitReady(ctx context.Context, l *life) (alive bool) {
	v.t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		if status, _ := v.get(ctx, "/readyz"); status == http.StatusOK {
			l.ready = time.Since(l.began)
			return true
		}
		select {
		case <-l.ended:
			return false
		case <-tick.C:
		case <-ctx.Done():
			v.t.Fatalf("life %d is not ready after %v", l.number, time.Since(l.began))
		}
	}
}

// run starts the daemon and waits until it takes work.
func (v *victim) run(ctx context.Context, env ...string) *life {
	v.t.Helper()
	l := v.start(env...)
	if !v.awaitReady(ctx, l) {
		v.t.Fatalf("life %d ended before it was ready: %s", l.number, l.cmd.ProcessState)
	}
	return l
}

// get asks a path of the public listener. The status is 0 if nobody answers.
func (v *victim) get(ctx context.Context, path string) (status int, body string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+v.listen+path, nil)
	if err != nil {
		v.t.Fatal(err)
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, ""
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, ""
	}
	return res.StatusCode, string(b)
}

// socket asks a path of the operator's socket, whatever the status.
func (v *victim) socket(ctx context.Context, path string, out any) {
	v.t.Helper()
	operator := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(v.dir, client.SocketName))
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://grapnel"+path, nil)
	if err != nil {
		v.t.Fatal(err)
	}
	res, err := operator.Do(req)
	if err != nil {
		v.t.Error(err)
		return
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(out); err != nil {
		v.t.Error(err)
	}
}

// kill is SIGKILL, and waits for the end.
func (l *life) kill() {
	l.cmd.Process.Kill() // an error: it has ended already
	<-l.ended
}

// terminate is SIGTERM.
func (l *life) terminate() {
	l.cmd.Process.Signal(syscall.SIGTERM) // an error: it has ended already
}

// wait returns the exit status, -1 after a signal.
func (l *life) wait(ctx context.Context, t *testing.T) int {
	t.Helper()
	select {
	case <-l.ended:
	case <-ctx.Done():
		t.Fatalf("life %d goes on and on", l.number)
	}
	return l.cmd.ProcessState.ExitCode()
}

// stop is SIGTERM; it has to end in exit status 0.
func (v *victim) stop(ctx context.Context, l *life) {
	v.t.Helper()
	l.terminate()
	if code := l.wait(ctx, v.t); code != 0 {
		v.t.Errorf("after SIGTERM: %s, want exit status 0", l.cmd.ProcessState)
	}
}

// command runs another command of the same binary on the data directory.
func (v *victim) command(ctx context.Context, args ...string) (stdout string, code int) {
	v.t.Helper()
	cmd := v.cmd(args[0], args[1:]...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		v.t.Fatal(err)
	}
	stop := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
	defer stop()
	cmd.Wait() // what came of it is in cmd.ProcessState
	if errs.Len() > 0 {
		v.t.Logf("grapnel %s: %s", strings.Join(args, " "), &errs)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

func (v *victim) logs() string {
	b, err := os.ReadFile(v.logFile)
	if err != nil {
		v.t.Fatal(err)
	}
	return string(b)
}

// tail shows the end of the log.
func (v *victim) tail() {
	b, err := os.ReadFile(v.logFile)
	if err != nil {
		return
	}
	lines := bytes.SplitAfter(b, []byte("\n"))
	v.t.Logf("the log ends:\n%s", bytes.Join(lines[max(len(lines)-30, 0):], nil))
}

// crashed reports whether a life that has ended may have left requests without
// an outcome.
func (l *life) crashed() bool { return l.cmd.ProcessState.ExitCode() != 0 }

// eventually polls until ok, or ctx ends.
func eventually(ctx context.Context, t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("in vain waited for: %s", what)
		}
	}
}

// elapse lets time go by, unless ctx ends.
func elapse(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// failpoint is the environment that makes a chaos build act at a place.
func failpointEnv(name, action string, nth int) string {
	what, arg, _ := strings.Cut(action, ":")
	s := "GRAPNEL_FAILPOINT=" + name + ":" + what + "@" + strconv.Itoa(nth)
	if arg != "" {
		s += ":" + arg
	}
	return s
}
