package sqlite

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
	"github.com/grapnel-hooks/grapnel/stream/streamtest"
)

// busyBooks are an org's books that change all the time, as a daemon changes them.
type busyBooks struct {
	t     *testing.T
	s     *Store
	log   *streamtest.Log
	clock *clock
	rng   *rand.Rand
	sent  []deliver.Ticket // booked and not delivered
}

var busyDecoding = stream.Decoding{Org: "acme"}

// step appends some messages, or lets one of the things happen that change what was
// booked before.
func (b *busyBooks) step(ctx context.Context) error {
	b.clock.add(time.Minute)
	switch b.rng.IntN(8) {
	case 0:
		_, err := b.s.Retain(ctx, RetainOptions{FinishedBefore: b.clock.read().Add(-20 * time.Minute), DeadBefore: b.clock.read().Add(-time.Hour), Step: 7})
		return err
	case 1:
		pos, err := b.s.Position(ctx, "acme")
		if err != nil {
			return err
		}
		m := fanout.Move{From: pos, To: pos, Reason: "a test"}
		m.To.Seq = stream.Seq(b.rng.IntN(int(pos.Seq) + 1))
		if m.To.Anchor, m.To.Hash = (time.Time{}), 0; m.To.Seq == pos.Seq {
			return nil
		}
		return b.s.MoveCursor(ctx, "acme", m)
	case 2:
		after := stream.Seq(b.rng.IntN(20))
		_, err := b.s.AddEndpoint(ctx, deliver.Endpoint{
			Org: "acme", URL: "https://example.com/", EventTypes: []string{"*"}, Timeout: time.Second, Retry: deliver.DefaultPolicy, Concurrency: 1,
		}, Start{After: &after})
		return err
	case 3:
		for _, ticket := range b.sent {
			if err := b.s.Record(ctx, b.clock.outcome(ticket.Key, 1, deliver.Delivered)); err != nil {
				return err
			}
		}
		b.sent = nil
		return nil
	}
	for range 1 + b.rng.IntN(9) {
		data, h := "{}", stream.Header{}
		switch b.rng.IntN(5) {
		case 0:
			data = "no JSON"
		case 1:
			h["Nats-Msg-Id"] = []string{fmt.Sprint(b.rng.IntN(30))}
		}
		b.log.Append("events.acme.a", h, []byte(data))
	}
	return b.walk(ctx)
}

// walk fans out what is new.
func (b *busyBooks) walk(ctx context.Context) error {
	for {
		pos, err := b.s.Position(ctx, "acme")
		if err != nil {
			return err
		}
		far, err := b.s.Furthest(ctx, "acme")
		if err != nil {
			return err
		}
		batch, err := cursor.Next(ctx, b.log, pos, cursor.Options{Max: 5, Verify: true, Furthest: far})
		if err != nil || batch.Empty() {
			return err
		}
		set, err := b.s.Subscriptions(ctx, "acme")
		if err != nil {
			return err
		}
		plan := fanout.Make(fanout.Org{ID: "acme"}, batch, set, busyDecoding)
		written, err := b.s.Commit(ctx, plan)
		if err != nil {
			return err
		}
		for _, w := range written {
			for _, endpoint := range w.Endpoints {
				b.sent = append(b.sent, deliver.Ticket{Key: deliver.Key{Event: w.Event, Endpoint: endpoint}})
			}
		}
	}
}

// The books are proven while they change: each piece is of one moment.
func TestCheckWhileTheBooksChange(t *testing.T) {
	c := newClock()
	b := &busyBooks{t: t, clock: c, log: &streamtest.Log{Now: c.read}, rng: rand.New(rand.NewPCG(1, 2))}
	b.s = open(t, Options{Dir: t.TempDir(), Clock: c.read, Synchronous: "NORMAL", runSize: 16, segment: 8, piece: 3, moment: 1})
	newWalker(t, b.s, "acme", 2)
	b.log.Create("EVENTS_acme")
	ctx, stop := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	writing.Go(func() {
		defer stop()
		for range 400 {
			if err := b.step(context.WithoutCancel(ctx)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	checks, read := 0, uint64(0)
	for ; ctx.Err() == nil || checks < 3; checks++ {
		read += b.check(context.WithoutCancel(ctx)).Messages
	}
	writing.Wait()
	b.check(t.Context())
	t.Logf("%d checks of %d messages", checks, read)
}

func (b *busyBooks) check(ctx context.Context) fanout.Report {
	a, err := b.s.Audit(ctx, "acme")
	if err != nil {
		b.t.Fatal(err)
	}
	r, err := fanout.Check(ctx, b.log, busyDecoding, a, nil)
	if err := errors.Join(err, a.Close()); err != nil {
		b.t.Fatal(err)
	}
	if r.Found > 0 {
		b.t.Fatalf("%d problems, the first: %v", r.Found, r.Problems[0])
	}
	return r
}
