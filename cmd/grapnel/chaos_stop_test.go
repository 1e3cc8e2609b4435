//go:build unix

package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/client"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
)

// exitTempFail is what sysexits(3) calls a failure that may pass: somebody else
// holds the data directory.
const exitTempFail = 75

// stage is a daemon that runs, with endpoints in front of it.
type stage struct {
	v *victim
	r *receiver
	p *publisher
}

// setStage starts a daemon, with its own broker unless flags say otherwise.
func setStage(ctx context.Context, t *testing.T, bin string, hooks []*hook) (stage, *life) {
	t.Helper()
	v := newVictim(t, bin)
	v.flags = append(v.flags, "--nats-listen", v.nats)
	r := newReceiver(t, v, 1)
	l := v.run(ctx)
	subscribe(ctx, t, v, r, hooks)
	return stage{v, r, &publisher{js: connect(t, "nats://"+v.nats)}}, l
}

// append publishes one event, to which all hooks of the org are subscribed.
func (s stage) append(ctx context.Context, t *testing.T, org, key string) {
	t.Helper()
	pub := publication{org: org, typ: "invoice.paid", key: key, data: `{"n":1}`, event: true}
	if !s.p.try(ctx, &pub, s.p.message(pub)) {
		t.Fatalf("event %s was not acknowledged", key)
	}
	s.p.note(pub)
}

// check wants everything drained and right.
func (s stage) check(ctx context.Context, t *testing.T, l *life) {
	t.Helper()
	drain(ctx, t, s.v, s.r, s.p)
	fsck(ctx, t, s.v)
	s.v.stop(ctx, l)
	q := inquest{t: t, v: s.v, r: s.r, sent: s.p.publications()}
	q.find(ctx, daemonOptions{})
}

// many are n endpoints of one org that answer as a says.
func many(n int, timeout time.Duration, a func(i int) answer) []*hook {
	hooks := make([]*hook, n)
	for i := range hooks {
		one := a(i)
		hooks[i] = &hook{
			name: fmt.Sprintf("h%02d", i), org: "acme", types: []string{"*"}, attempts: 5, timeout: timeout, always: &one,
		}
	}
	return hooks
}

// testTerminate: SIGTERM with 50 requests in flight of two to three seconds
// each. All are let end and booked, and none is made again (REL-33).
func testTerminate(t *testing.T, bin string) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const n = 50
	s, l := setStage(ctx, t, bin, many(n, 10*time.Second, func(i int) answer {
		return answer{status: 200, after: 2*time.Second + time.Duration(i)*20*time.Millisecond}
	}))
	s.append(ctx, t, "acme", "one")
	eventually(ctx, t, "50 requests in flight", func() bool { return s.r.inFlight() == n })
	l.terminate()
	eventually(ctx, t, "readyz to say that it stops", func() bool {
		status, _ := s.v.get(ctx, "/readyz")
		return status != http.StatusOK
	})
	if s.r.inFlight() == 0 {
		t.Error("it was ready until nothing was in flight any more")
	}
	if code := l.wait(ctx, t); code != 0 {
		t.Errorf("after SIGTERM: %s, want exit status 0", l.cmd.ProcessState)
	}
	s.r.settle(ctx, t)
	s.check(ctx, t, s.v.run(ctx))
	if seen := s.r.seen(); seen != n {
		t.Errorf("%d requests in all, want %d", seen, n)
	}
}

// testTerminateTwice: the second SIGTERM ends at once, although receivers have
// not answered, and loses nothing.
func testTerminateTwice(t *testing.T, bin string) {
	ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second) // less than the endpoints' timeout
	defer cancel()
	const n = 20
	hold := make(chan struct{})
	s, l := setStage(ctx, t, bin, many(n, 30*time.Second, func(int) answer { return answer{status: 200, hold: hold} }))
	s.append(ctx, t, "acme", "one")
	eventually(ctx, t, "20 requests in flight", func() bool { return s.r.inFlight() == n })
	l.terminate()
	eventually(ctx, t, "readyz to say that it stops", func() bool {
		status, _ := s.v.get(ctx, "/readyz")
		return status != http.StatusOK
	})
	l.terminate()
	code := l.wait(ctx, t)
	t.Logf("ended: %s (%d)", l.cmd.ProcessState, code)
	close(hold)
	s.r.settle(ctx, t)
	s.check(ctx, t, s.v.run(ctx))
}

// testSecondDaemon: a directory has one daemon. Another one is refused, and
// told who holds it (REL-36).
func testSecondDaemon(t *testing.T, bin string) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, l := setStage(ctx, t, bin, many(1, 0, func(int) answer { return answer{status: 200} }))
	second := exec.CommandContext(ctx, bin, "serve", "--data", s.v.dir, "--listen", freeAddress(t), "--nats-listen", freeAddress(t))
	out, err := second.CombinedOutput()
	if code := second.ProcessState.ExitCode(); code != exitTempFail {
		t.Errorf("the second daemon ended with %d (%v), want %d", code, err, exitTempFail)
	}
	if pid := strconv.Itoa(l.cmd.Process.Pid); !bytes.Contains(out, []byte(pid)) {
		t.Errorf("the second daemon says %q, want the pid %s in it", out, pid)
	}
	s.append(ctx, t, "acme", "one")
	s.check(ctx, t, l)
}

// testGone: a 410 ends the delivery and disables its endpoint, whenever the
// daemon dies; what somebody asks for after that outlives a crash as well.
func testGone(t *testing.T, bin string) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	hooks := many(1, 0, func(int) answer { return answer{status: http.StatusGone} })
	s, l := setStage(ctx, t, bin, hooks)
	h := hooks[0]
	s.v.stop(ctx, l)

	l = s.v.run(ctx, failpointEnv("record.before", "kill", 1))
	s.append(ctx, t, "acme", "one")
	l.wait(ctx, t)
	s.r.settle(ctx, t)
	l = s.v.start(failpointEnv("record.after", "kill", 1))
	l.wait(ctx, t)
	s.r.settle(ctx, t)
	if seen := s.r.seen(); seen != 2 {
		t.Errorf("%d requests, want one, and one more after the crash", seen)
	}
	s.v.run(ctx)
	ep, err := s.v.client.Endpoint(ctx, h.org, h.id)
	if err != nil {
		t.Fatal(err)
	}
	if !ep.Disabled || ep.DisabledReason != "gone" {
		t.Errorf("after a 410 the endpoint is %+v, want it disabled as gone", ep)
	}
	list, err := s.v.client.Deliveries(ctx, h.org, client.DeliveryQuery{})
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Data) != 1 || list.Data[0].Status != "dead" || list.Data[0].Reason != "gone" {
		t.Fatalf("the deliveries are %+v, want one, dead, gone", list.Data)
	}

	s.r.mu.Lock()
	h.always = &answer{status: http.StatusNoContent, after: 200 * time.Millisecond}
	s.r.mu.Unlock()
	enabled := false
	if _, err := s.v.client.ChangeEndpoint(ctx, h.org, h.id, httpapi.EndpointUpdate{Disabled: &enabled}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.v.client.RetryDelivery(ctx, h.org, list.Data[0].ID); err != nil {
		t.Fatal(err)
	}
	s.v.last().kill()
	s.r.settle(ctx, t)
	l = s.v.run(ctx)
	drain(ctx, t, s.v, s.r, s.p)
	one, err := s.v.client.Delivery(ctx, h.org, list.Data[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	var statuses []string
	for _, a := range one.Attempts {
		statuses = append(statuses, fmt.Sprint(a.StatusCode))
	}
	if got := strings.Join(statuses, " "); one.Status != "delivered" || got != "410 204" {
		t.Errorf("retried by hand: %s after %s, want delivered after 410 204", one.Status, got)
	}
	s.check(ctx, t, l)
}
