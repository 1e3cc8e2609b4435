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
	disk := smallDisk(ctx, t, 16)
	s, _, options := setStageBeside(ctx, t, bin, filepath.Join(disk, "data"), []*hook{
		{name: "well", org: "acme", types: []string{"*"}, attempts: 50},
		{name: "moody", org: "acme", types: []string{"*"}, attempts: 50, moods: mixed(100, 300, 0, 0)},
	})
	l := s.v.last()
	stop, stopped := context.WithCancel(ctx)
	defer stopped()
	var publishing sync.WaitGroup
	publishing.Go(func() { s.p.publish(ctx, stop) })
	eventually(ctx, t, "deliveries", func() bool { return s.r.accepted() >= 50 })

	ballast := filepath.Join(disk, "ballast")
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
	drain(ctx, t, s.v, s.r)
	fsck(ctx, t, s.v)
	s.v.stop(ctx, l)
	q := inquest{t: t, v: s.v, r: s.r, sent: s.p.publications()}
	q.find(ctx, options)
}

// smallDisk mounts a tmpfs of that many MiB in a mount namespace of its own and
// returns its path, which leads through the process that keeps it.
func smallDisk(ctx context.Context, t *testing.T, size int) string {
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
	disk := fmt.Sprintf("/proc/%d/root%s", keeper.Process.Pid, dir)
	if err == nil {
		_, err = os.ReadDir(disk)
	}
	if err != nil {
		t.Skipf("no file system of its own is to be had here: %q, %v", line, err)
	}
	return disk
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

// move puts the data elsewhere, before the first start.
func (v *victim) move(dir string) {
	v.client.Close()
	v.dir, v.client = dir, client.New(dir)
}

// whyNotReady asks the operator's socket for the detail that the public
// listener keeps to itself.
func (v *victim) whyNotReady(ctx context.Context) string {
	var out httpapi.HealthBody
	v.socket(ctx, "/readyz", &out)
	return out.Detail
}
