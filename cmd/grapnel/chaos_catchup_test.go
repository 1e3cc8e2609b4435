//go:build unix

package main

import (
	"context"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"
)

// testCatchUp kills the daemon while it reads the stream for endpoints that are
// behind: one that was parked, and one that begins in the past; and at the moment
// at which they are subscribed.
func testCatchUp(t *testing.T, bin string) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	v := newVictim(t, bin, "--park-after", "200")
	v.flags = append(v.flags, "--nats-listen", v.nats)
	r := newReceiver(t, v, 1)
	down := &hook{name: "acme-down", org: "acme", types: []string{"*"}, attempts: 100, moods: func(*rand.Rand) answer {
		return answer{status: http.StatusServiceUnavailable}
	}}
	late := &hook{name: "acme-late", org: "acme", types: []string{"*"}, attempts: 17, start: "beginning"}
	behind := func(h *hook) bool {
		e, err := v.client.Endpoint(ctx, h.org, h.id)
		if err != nil {
			t.Fatal(err)
		}
		return e.CatchingUp != nil
	}

	l := v.run(ctx)
	subscribe(ctx, t, v, r, []*hook{down, {name: "acme-all", org: "acme", types: []string{"*"}, attempts: 17}})
	pub := &publisher{
		js: connect(t, "nats://"+v.nats), rnd: rand.New(rand.NewPCG(1, 1)), every: 2 * time.Millisecond, orgs: []string{"acme"},
	}
	var work sync.WaitGroup
	defer work.Wait()
	stop, stopped := context.WithCancel(ctx)
	defer stopped()
	work.Go(func() { pub.publish(ctx, stop) })
	eventually(ctx, t, "more than the endpoint may have", func() bool { return pub.acked() > 1500 && behind(down) })
	if err := addHook(ctx, v, r, late); err != nil {
		t.Fatal(err)
	}
	if !behind(late) {
		t.Error("the endpoint that begins in the past is not behind")
	}
	v.stop(ctx, l)
	r.relent()

	for _, b := range []blow{
		{where: "catchup.step", nth: 2},
		{where: "commit.after", nth: 3},
		{where: "catchup.step", nth: 5},
		{where: "record.before", nth: 4},
		{where: "commit.before", nth: 6},
		{where: "catchup.open", nth: 1},
		{where: atAnyMoment, delay: 300 * time.Millisecond},
	} {
		l := strike(ctx, t, v, r, b)
		t.Logf("%s, %d events acknowledged", describe(l, b), pub.acked())
	}
	l = v.run(ctx)
	stopped()
	work.Wait()
	eventually(ctx, t, "nobody to be behind", func() bool { return !behind(down) && !behind(late) })
	drain(ctx, t, v, r, pub)
	fsck(ctx, t, v)
	v.stop(ctx, l)
	q := inquest{t: t, v: v, r: r, sent: pub.publications(), again: true}
	q.find(ctx, daemonOptions{})
}
