//go:build unix

package main

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/stream"
)

// broker is a NATS server of its own, that the daemon is told to use.
type broker struct {
	options stream.ServerOptions
	server  *stream.Server
}

func (b *broker) start(ctx context.Context, t *testing.T) {
	t.Helper()
	var err error
	if b.server, err = stream.StartServer(ctx, b.options); err != nil {
		t.Fatal(err)
	}
}

func (b *broker) stop() {
	if b.server != nil {
		b.server.Close()
		b.server = nil
	}
}

// setStageBeside starts a broker, and a daemon that uses it. The daemon's data
// is on the disk, if there is one, else in a directory of its own.
func setStageBeside(ctx context.Context, t *testing.T, bin string, d *disk, hooks []*hook) (stage, *broker, daemonOptions) {
	t.Helper()
	v := newVictim(t, bin)
	if d != nil {
		v.move(d)
	}
	b := &broker{options: stream.ServerOptions{
		Dir: filepath.Join(t.TempDir(), "nats"), Listen: v.nats, Log: slog.New(slog.DiscardHandler),
	}}
	b.start(ctx, t)
	t.Cleanup(b.stop)
	v.flags = append(v.flags, "--nats-url", "nats://"+v.nats)
	r := newReceiver(t, v, 1)
	v.run(ctx)
	subscribe(ctx, t, v, r, hooks)
	p := &publisher{
		js: connect(t, "nats://"+v.nats), rnd: rand.New(rand.NewPCG(1, 2)), every: 5 * time.Millisecond,
		orgs: []string{"acme"},
	}
	return stage{v, r, p}, b, daemonOptions{Broker: stream.Options{URL: "nats://" + v.nats}}
}

// testBrokerAway: while the broker is away, what is in the books is sent, also
// by a daemon that starts without it. When it is back, fan-out goes on where it
// was, and nothing is lost or doubled (REL-10).
func testBrokerAway(t *testing.T, bin string) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	s, b, options := setStageBeside(ctx, t, bin, nil, []*hook{
		{name: "well", org: "acme", types: []string{"*"}, attempts: 50},
		{name: "moody", org: "acme", types: []string{"*"}, attempts: 50, moods: mixed(100, 300, 0, 0)},
		{name: "down", org: "acme", types: []string{"*"}, attempts: 50, moods: mixed(0, 1000, 0, 0)},
	})

	// Before: everything is fanned out, and one endpoint has taken nothing.
	first, enough := context.WithCancel(ctx)
	var publishing sync.WaitGroup
	publishing.Go(func() { s.p.publish(ctx, first) })
	eventually(ctx, t, "events", func() bool { return s.p.acked() >= 60 })
	enough()
	publishing.Wait()
	eventually(ctx, t, "each event to be tried at each endpoint", func() bool {
		c, err := s.v.client.Cursor(ctx, "acme")
		return err == nil && c.Lag == 0 && s.tried(t) == 0
	})
	before := s.p.publications()

	b.stop()
	second, enough := context.WithCancel(ctx)
	defer enough()
	publishing.Go(func() { s.p.publish(ctx, second) })
	seen := s.r.seen()
	eventually(ctx, t, "retries while the broker is away", func() bool { return s.r.seen() > seen+20 })
	if status, body := s.v.get(ctx, "/readyz"); status != http.StatusOK {
		t.Errorf("readyz while the broker is away: %d %s", status, body)
	}
	s.v.last().kill()
	s.r.settle(ctx, t)
	l := s.v.run(ctx)
	s.r.relent()
	eventually(ctx, t, "all that was in the books to be delivered without the broker", func() bool {
		return s.r.accepted() == s.r.pairs()
	})
	if got := s.p.acked(); got != certain(before) {
		t.Errorf("%d events were acknowledged by a broker that is away", got-certain(before))
	}

	b.start(ctx, t)
	want := certain(before) + 40
	eventually(ctx, t, "events of the time after", func() bool { return s.p.acked() >= want })
	enough()
	publishing.Wait()
	drain(ctx, t, s.v, s.r, s.p)
	fsck(ctx, t, s.v)
	s.v.stop(ctx, l)
	q := inquest{t: t, v: s.v, r: s.r, sent: s.p.publications()}
	q.find(ctx, options)
}

// certain counts what was acknowledged.
func certain(pubs []publication) (n int) {
	for _, p := range pubs {
		if p.acked {
			n++
		}
	}
	return n
}

// tried is how many pairs of an acknowledged event with a key and an endpoint
// have seen no request yet.
func (s stage) tried(t *testing.T) (missing int) {
	t.Helper()
	seen := map[pair]bool{}
	for _, c := range s.r.calls() {
		seen[pair{c.hook.name, c.id}] = true
	}
	for _, pub := range s.p.publications() {
		if !pub.acked || !pub.event || pub.key == "" {
			continue
		}
		for _, h := range s.r.hooks {
			if h.wants(&pub) && !seen[pair{h.name, stream.KeyID(pub.org, pub.key).String()}] {
				missing++
			}
		}
	}
	return missing
}

// pairs counts the deliveries that the receiver has heard of, accepted those
// that it has accepted.
func (r *receiver) pairs() int { return r.distinct(func(call) bool { return true }) }

func (r *receiver) accepted() int {
	return r.distinct(func(c call) bool { return c.status/100 == 2 })
}

func (r *receiver) distinct(which func(call) bool) int {
	seen := map[pair]bool{}
	for _, c := range r.calls() {
		if which(c) {
			seen[pair{c.hook.name, c.id}] = true
		}
	}
	return len(seen)
}
