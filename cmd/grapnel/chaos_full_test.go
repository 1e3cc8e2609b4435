//go:build unix

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/client"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
)

// testDiskFull fills the file system of the books. The daemon stops to take
// work, says why, answers what can be read, and goes on by itself when there is
// room: nothing is lost, and nothing is sent twice (REL-04).
func testDiskFull(t *testing.T, bin string) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	d := smallDisk(ctx, t, 16)
	s, _, options := setStageBeside(ctx, t, bin, d, []*hook{
		{name: "well", org: "acme", types: []string{"*"}, attempts: 50},
		{name: "moody", org: "acme", types: []string{"*"}, attempts: 50, moods: mixed(100, 300, 0, 0)},
	})
	l := s.v.last()
	stop, stopped := context.WithCancel(ctx)
	defer stopped()
	var publishing sync.WaitGroup
	publishing.Go(func() { s.p.publish(ctx, stop) })
	eventually(ctx, t, "deliveries", func() bool { return s.r.accepted() >= 50 })

	ballast := filepath.Join(d.outside, "ballast")
	fill(t, ballast)
	eventually(ctx, t, "readyz to say that the disk is full", func() bool {
		status, _ := s.v.get(ctx, "/readyz")
		return status == http.StatusServiceUnavailable
	})
	if why := s.v.whyNotReady(ctx); !strings.Contains(why, "store_full") {
		t.Errorf("not ready because of %q, want store_full in it", why)
	}
	if status, body := s.v.get(ctx, "/healthz"); status != http.StatusOK {
		t.Errorf("healthz on a full disk: %d %s", status, body)
	}
	if _, err := s.v.client.Endpoints(ctx, "acme", client.Page{}); err != nil {
		t.Errorf("reading on a full disk: %v", err)
	}
	_, err := s.v.client.AddOrg(ctx, httpapi.OrgCreate{ID: "late"})
	var problem *httpapi.Problem
	if !errors.As(err, &problem) || problem.Status != http.StatusInsufficientStorage {
		t.Errorf("writing on a full disk: %v, want status 507", err)
	}
	before := s.r.seen()
	elapse(ctx, 2*time.Second)
	t.Logf("%d requests in two seconds on a full disk", s.r.seen()-before)
	if status, _ := s.v.get(ctx, "/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("readyz on a full disk: %d", status)
	}

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	eventually(ctx, t, "the daemon to go on by itself", func() bool {
		status, _ := s.v.get(ctx, "/readyz")
		return status == http.StatusOK
	})
	t.Logf("ready %v after there was room again", time.Since(began).Round(time.Millisecond))
	more := s.r.accepted() + 50
	eventually(ctx, t, "deliveries", func() bool { return s.r.accepted() >= more })
	stopped()
	publishing.Wait()
	s.r.relent()
	drain(ctx, t, s.v, s.r, s.p)
	fsck(ctx, t, s.v)
	s.v.stop(ctx, l)
	s.v.rescue()
	q := inquest{t: t, v: s.v, r: s.r, sent: s.p.publications()}
	q.find(ctx, options)
}

// disk is a small file system that only the processes of one mount namespace
// have. SQLite resolves the path that leads there from outside to one that does not,
// so the daemon has to run inside.
type disk struct {
	inside  string
	outside string   // through the process that keeps it
	enter   []string // runs a command inside
}

// smallDisk makes one of that many MiB.
func smallDisk(ctx context.Context, t *testing.T, size int) *disk {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux's mount namespaces")
	}
	dir := t.TempDir()
	keeper := exec.CommandContext(ctx, "unshare", "-rm", "sh", "-c",
		fmt.Sprintf(`mount -t tmpfs -o size=%dm,mode=0700 grapnel "$0" && echo mounted && read line`, size), dir)
	stdin, err := keeper.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := keeper.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := keeper.Start(); err != nil {
		t.Skipf("needs unshare: %v", err)
	}
	t.Cleanup(func() {
		stdin.Close()
		keeper.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	pid := strconv.Itoa(keeper.Process.Pid)
	d := &disk{
		inside: dir, outside: "/proc/" + pid + "/root" + dir,
		enter: []string{"nsenter", "--target", pid, "--user", "--mount", "--preserve-credentials"},
	}
	if err == nil {
		err = exec.Command(d.enter[0], append(d.enter[1:], "mkdir", "-m", "0700", dir+"/data")...).Run()
	}
	if err == nil {
		_, err = os.ReadDir(d.outside + "/data")
	}
	if err != nil {
		t.Skipf("no file system of its own is to be had here: %q, %v", line, err)
	}
	return d
}

// fill leaves no byte free.
func fill(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// move puts the data on the disk, before the first start.
func (v *victim) move(d *disk) {
	v.client.Close()
	v.dir, v.inside, v.wrap = d.outside+"/data", d.inside+"/data", d.enter
	v.client = client.New(v.dir)
}

// rescue copies the books of a daemon that has stopped to where everybody can
// read them.
func (v *victim) rescue() {
	v.t.Helper()
	to := filepath.Join(v.t.TempDir(), "rescued")
	copyBooks(v.t, to, v.dir)
	v.dir = to
}

// whyNotReady asks the operator's socket for the detail that the public
// listener keeps to itself.
func (v *victim) whyNotReady(ctx context.Context) string {
	var out httpapi.HealthBody
	v.socket(ctx, "/readyz", &out)
	return out.Detail
}
