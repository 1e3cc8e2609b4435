//go:build unix

package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/client"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/stream"
	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

var (
	chaosKills = flag.Int("chaos.kills", 20, "how often TestKill kills the daemon, over all walks")
	chaosSeed  = flag.Uint64("chaos.seed", 0, "repeat the walks of this seed; 0: a new one")
	chaosRace  = flag.Bool("chaos.race", false, "build the daemon with the race detector")
)

// TestKill runs the real binary and takes everything from it that a machine
// can take: its life at each durable step and at any moment, its disk, its
// broker, its power. Afterwards stream, books and the receiver's own ledger
// must agree (architecture's invariants; REL-01, 03, 04, 10, 33, 36).
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("starts and kills daemons for half a minute")
	}
	bin := buildChaos(t)
	seed := *chaosSeed
	if seed == 0 {
		seed = rand.Uint64N(1_000_000) + 1
	}
	blows := schedule(seed, *chaosKills)
	for i, b := range blows {
		t.Run(fmt.Sprintf("walk%02d", i+1), func(t *testing.T) {
			t.Parallel()
			defer func() {
				if t.Failed() {
					t.Logf("to repeat: go test ./cmd/grapnel -run '%s$' -chaos.kills=%d -chaos.seed=%d", t.Name(), *chaosKills, seed)
				}
			}()
			walk(t, bin, seed+uint64(i), b)
		})
	}
	for _, c := range []struct {
		name string
		run  func(*testing.T, string)
	}{
		{"gone", testGone},
		{"told", testTold},
		{"terminate", testTerminate},
		{"terminate twice", testTerminateTwice},
		{"second daemon", testSecondDaemon},
		{"power cut", testPowerCut},
		{"broker away", testBrokerAway},
		{"disk full", testDiskFull},
		{"endpoints that are behind", testCatchUp},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t, bin)
		})
	}
}

// buildChaos builds the daemon that dies at its failpoints.
func buildChaos(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "grapnel")
	args := []string{"build", "-tags", "chaos", "-o", bin}
	if *chaosRace {
		args = append(args, "-race")
	}
	if out, err := exec.CommandContext(t.Context(), "go", append(args, ".")...).CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return bin
}

// blow is one way to kill a daemon.
type blow struct {
	where string // a failpoint, or a moment: see the consts below
	nth   int    // the passing of the failpoint
	delay time.Duration
	pause string // at any moment: a failpoint at which the daemon stands still for a while
}

const (
	atAnyMoment = "any moment" // some time after it was ready
	atStart     = "start"      // before it is ready
	atStop      = "stop"       // some time after SIGTERM
)

// durable are the steps at which a crash could lose or double something, and
// how often each is passed at most until the daemon dies there.
var durable = []struct {
	name string
	nth  int
}{
	{"fanout.planned", 4}, {"commit.before", 4}, {"commit.after", 4}, {"fanout.committed", 4},
	{"send.before", 40}, {"send.after", 40}, {"record.before", 12}, {"record.after", 12},
}

// schedule deals the kills out to walks of ten: each begins with a death
// during the first migration, then failpoints and moments take turns.
func schedule(seed uint64, kills int) [][]blow {
	rnd := rand.New(rand.NewPCG(seed, 0))
	points := rnd.Perm(len(durable))
	next := 0
	var walks [][]blow
	for left := kills; left > 0; {
		n := min(left, 10)
		left -= n
		walk := []blow{{where: "migrate.step", nth: 1}}
		for i := 1; i < n; i++ {
			if i%2 == 1 {
				p := durable[points[next%len(points)]]
				next++
				walk = append(walk, blow{where: p.name, nth: 1 + rnd.IntN(p.nth)})
				continue
			}
			b := blow{where: atAnyMoment, delay: time.Duration(rnd.IntN(2000)) * time.Millisecond}
			switch rnd.IntN(6) {
			case 0:
				b.where, b.delay = atStart, b.delay/4
			case 1:
				b.where, b.delay = atStop, b.delay/2
			case 2, 3:
				b.pause = durable[rnd.IntN(len(durable))].name
				b.nth = 1 + rnd.IntN(4)
			}
			walk = append(walk, b)
		}
		walks = append(walks, walk)
	}
	return walks
}

// cast are the endpoints of a walk. Between them they answer well, late, with
// errors, never, by cutting the connection, and always wrongly.
func cast() []*hook {
	return []*hook{
		{name: "acme-all", org: "acme", types: []string{"*"}, attempts: 17, moods: mixed(50, 50, 5, 20)},
		{name: "acme-invoices", org: "acme", types: []string{"invoice.*"}, attempts: 17, moods: mixed(500, 20, 0, 0)},
		{name: "acme-paid", org: "acme", types: []string{"invoice.paid", "crm.deal_won"}, attempts: 17, moods: mixed(0, 100, 60, 0)},
		{name: "acme-berlin", org: "acme", types: []string{"*"}, workspace: "berlin", attempts: 17, moods: mixed(0, 300, 0, 100)},
		{name: "acme-refuses", org: "acme", types: []string{"user.*"}, attempts: 2, always: &answer{status: http.StatusTeapot}},
		{name: "acme-flaps", org: "acme", types: []string{"*"}, attempts: 17, moods: mixed(100, 50, 0, 0)},
		{name: "beta-all", org: "beta", types: []string{"*"}, attempts: 17, moods: mixed(20, 20, 2, 2)},
		{name: "beta-oslo", org: "beta", types: []string{"invoice.*", "crm.*"}, workspace: "oslo", attempts: 17},
	}
}

// subscribe makes the orgs and endpoints by the API.
func subscribe(ctx context.Context, t *testing.T, v *victim, r *receiver, hooks []*hook) {
	t.Helper()
	made := map[string]bool{}
	for _, h := range hooks {
		if !made[h.org] {
			made[h.org] = true
			if _, err := v.client.AddOrg(ctx, httpapi.OrgCreate{ID: h.org}); err != nil {
				t.Fatal(err)
			}
		}
		if err := addHook(ctx, v, r, h); err != nil {
			t.Fatal(err)
		}
	}
}

func addHook(ctx context.Context, v *victim, r *receiver, h *hook) error {
	// A circuit that is open is probed ten times a second: what is refused for ever
	// has to die while the test waits.
	timeout, initial, longest, multiplier := 1000, httpapi.Duration(deliver.MinInitial), httpapi.Duration(deliver.MinInitial), 1.0
	create := httpapi.EndpointCreate{
		URL: r.url + h.name, EventTypes: h.types, TimeoutMS: &timeout,
		Retry: &httpapi.Retry{Initial: &initial, MaxInterval: &longest, Multiplier: &multiplier, Attempts: &h.attempts},
	}
	create.Start = httpapi.StartText(h.start)
	if h.workspace != "" {
		create.WorkspaceID = httpapi.Text(h.workspace)
	}
	if h.timeout != 0 {
		*create.TimeoutMS = int(h.timeout.Milliseconds())
	}
	made, err := v.client.AddEndpoint(ctx, h.org, create)
	if err != nil {
		return err
	}
	h.id, h.secret = made.ID, made.Secret
	if h.verifier, err = webhooks.NewWebhook(made.Secret); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hooks[h.name] = h
	return nil
}

// walk kills one daemon again and again while events are published and
// delivered, then lets it live and checks everything.
func walk(t *testing.T, bin string, seed uint64, blows []blow) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	v := newVictim(t, bin)
	v.flags = append(v.flags, "--nats-listen", v.nats)
	r := newReceiver(t, v, seed)

	set := false
	var pub *publisher
	var work sync.WaitGroup
	defer work.Wait()
	stop, stopped := context.WithCancel(ctx)
	defer stopped()
	for i, b := range blows {
		if !set && b.where != "migrate.step" {
			l := v.run(ctx)
			subscribe(ctx, t, v, r, cast())
			v.stop(ctx, l)
			set = true
			pub = &publisher{
				js: connect(t, "nats://"+v.nats), rnd: rand.New(rand.NewPCG(seed, 1)), every: 5 * time.Millisecond,
				orgs: []string{"acme", "beta"},
			}
			work.Go(func() { pub.publish(ctx, stop) })
			work.Go(func() { flap(stop, v, r.hooks["acme-flaps"]) })
			work.Go(func() { nudge(stop, v, "acme") })
		}
		l := strike(ctx, t, v, r, b)
		t.Logf("kill %2d of %d: %s, %d requests in flight, ready after %v, %d events acknowledged",
			i+1, len(blows), describe(l, b), r.cutOff(l), l.ready.Round(time.Millisecond), pub.acked())
		if l.ready > readyWithin {
			t.Errorf("life %d was ready after %v, want %v", l.number, l.ready, readyWithin)
		}
	}
	if !set {
		t.Skip("a single kill leaves nothing to walk")
	}

	// The last life first goes on like those before, but is let live: what it
	// books must be exactly what it sent.
	l := v.run(ctx)
	elapse(ctx, 1500*time.Millisecond)
	fsck(ctx, t, v)
	stopped()
	work.Wait()
	r.relent()
	drain(ctx, t, v, r, pub)
	fsck(ctx, t, v)
	v.stop(ctx, l)
	q := inquest{t: t, v: v, r: r, sent: pub.publications(), fuzzy: map[string]bool{"acme-flaps": true}}
	q.find(ctx, daemonOptions{})
}

// flap disables and enables an endpoint all the time, also while there is
// nobody to ask, and leaves it enabled... as far as it knows.
func flap(ctx context.Context, v *victim, h *hook) {
	for disabled := true; ctx.Err() == nil; disabled = !disabled {
		short, cancel := context.WithTimeout(ctx, time.Second)
		v.client.ChangeEndpoint(short, h.org, h.id, httpapi.EndpointUpdate{Disabled: &disabled})
		cancel()
		elapse(ctx, 150*time.Millisecond)
	}
}

// nudge asks again and again for pending deliveries to be sent now, which makes
// the lanes look for them in the books although they may have them already.
func nudge(ctx context.Context, v *victim, org string) {
	for ; ctx.Err() == nil; elapse(ctx, 100*time.Millisecond) {
		short, cancel := context.WithTimeout(ctx, time.Second)
		page, err := v.client.Deliveries(short, org, client.DeliveryQuery{Status: "pending", Page: client.Page{Limit: 5}})
		if err == nil {
			for _, d := range page.Data {
				v.client.RetryDelivery(short, org, d.ID)
			}
		}
		cancel()
	}
}

// strike starts the daemon and kills it as the blow says.
func strike(ctx context.Context, t *testing.T, v *victim, r *receiver, b blow) *life {
	t.Helper()
	var l *life
	switch b.where {
	case atAnyMoment, atStop:
		var env []string
		if b.pause != "" {
			env = append(env, failpointEnv(b.pause, "pause:400ms", b.nth))
		}
		l = v.run(ctx, env...)
		elapse(ctx, b.delay)
		if b.where == atStop {
			l.terminate()
			elapse(ctx, b.delay/4)
		}
	case atStart:
		l = v.start()
		elapse(ctx, b.delay)
	default:
		l = v.start(failpointEnv(b.where, "kill", b.nth))
		if v.awaitReady(ctx, l) {
			select {
			case <-l.ended:
			case <-time.After(10 * time.Second):
				t.Errorf("life %d did not come to %s for the %d. time within 10 s", l.number, b.where, b.nth)
			}
		}
	}
	l.kill()
	r.settle(ctx, t)
	return l
}

// describe says where a life ended.
func describe(l *life, b blow) string {
	s := b.where
	switch {
	case b.nth > 0 && b.pause == "":
		s = fmt.Sprintf("%s, passing %d", s, b.nth)
	case b.pause != "":
		s = fmt.Sprintf("%s, with a pause at %s, passing %d", s, b.pause, b.nth)
	}
	if !strings.Contains(l.cmd.ProcessState.String(), "killed") {
		s += " (came too late: " + l.cmd.ProcessState.String() + ")"
	}
	return fmt.Sprintf("%s after %v", s, l.died.Sub(l.began).Round(time.Millisecond))
}

// drain waits until everything that was appended is delivered or dead.
func drain(ctx context.Context, t *testing.T, v *victim, r *receiver, p *publisher) {
	t.Helper()
	began := time.Now()
	enabled := false
	for _, h := range r.hooks {
		if _, err := v.client.ChangeEndpoint(ctx, h.org, h.id, httpapi.EndpointUpdate{Disabled: &enabled}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var last string
	defer func() {
		if t.Failed() {
			t.Logf("the cursors: %s", last)
		}
	}()
	eventually(ctx, t, "everything due to drain", func() bool {
		status, _ := v.get(ctx, "/readyz")
		if status != http.StatusOK {
			return false
		}
		for _, org := range orgsOf(r) {
			c, err := v.client.Cursor(ctx, org)
			if err != nil {
				t.Fatal(err)
			}
			text, _ := json.Marshal(c)
			last = string(text)
			if stream.Seq(c.Position) < p.newest(org) || c.Lag > 0 || c.Pending > 0 {
				return false
			}
		}
		return true
	})
	t.Logf("drained after %v; %d requests in all", time.Since(began).Round(time.Millisecond), r.seen())
}

func orgsOf(r *receiver) []string {
	seen := map[string]bool{}
	var orgs []string
	for _, h := range r.hooks {
		if !seen[h.org] {
			seen[h.org] = true
			orgs = append(orgs, h.org)
		}
	}
	return orgs
}

// fsck asks the binary itself.
func fsck(ctx context.Context, t *testing.T, v *victim) {
	t.Helper()
	out, code := v.command(ctx, "fsck", "--json")
	var books httpapi.FsckBody
	if err := json.Unmarshal([]byte(out), &books); err != nil || code != 0 || !books.Proven || len(books.Orgs) == 0 {
		t.Errorf("grapnel fsck --json: exit status %d, %s (%v)", code, out, err)
	}
}
