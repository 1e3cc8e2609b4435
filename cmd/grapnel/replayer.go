package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/sqlite"
)

// A replay gives way to live traffic: it makes deliveries pending in small steps,
// at its rate, and only while few of its endpoint are.
const (
	replayTick    = 200 * time.Millisecond
	replayStep    = 200                    // deliveries of one step, at most
	replayPending = 1000                   // of the endpoint; then it waits
	replayLook    = 100 * time.Millisecond // at each tick, for one replay
	replayBackoff = 5 * time.Second        // after an error
)

// replayer carries on the replays that run. It remembers nothing that the books
// do not know, but their pace.
type replayer struct {
	running func(ctx context.Context) ([]sqlite.Replay, error)
	step    func(ctx context.Context, r sqlite.Replay, n int) (sqlite.Replay, error) // makes up to n pending
	room    func(ctx context.Context, r sqlite.Replay) (room int, why string)        // for that many; why not
	made    func(row int64)                                                          // is told that an endpoint has new pending ones
	count   func(ctx context.Context, r sqlite.Replay, a sqlite.Ahead) (sqlite.Ahead, error)
	log     *slog.Logger

	wake chan struct{}        // holds one: there may be a replay to carry on
	next map[string]time.Time // when each may go on. Owned by Run

	mu     sync.Mutex
	counts map[string]sqlite.Ahead // of those that run, how many they will have matched
}

func newReplayer(d *daemon) *replayer {
	return &replayer{
		running: d.store.RunningReplays, step: d.stepReplay, room: d.replayRoom, made: d.lanes.Recheck,
		count: d.store.CountAhead, log: d.log,
		wake: make(chan struct{}, 1), next: map[string]time.Time{}, counts: map[string]sqlite.Ahead{},
	}
}

// ahead is how many deliveries a replay will have matched, as far as it is known.
func (p *replayer) ahead(id string) sqlite.Ahead {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts[id]
}

// countOn counts on ahead of a replay, so that people can be told how far it is.
func (p *replayer) countOn(ctx context.Context, r sqlite.Replay) {
	a, err := p.count(ctx, r, p.ahead(r.ID))
	if err != nil {
		if ctx.Err() == nil {
			p.log.Warn("how much a replay has to do cannot be counted; it goes on", "org", r.Org, "replay", r.ID, "error", err)
		}
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts[r.ID] = a
}

// forget drops what is remembered of a replay.
func (p *replayer) forget(id string) {
	delete(p.next, id)
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.counts, id)
}

// again makes the replayer look for replays that run.
func (p *replayer) again() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Run carries replays on until ctx ends. A step that has begun is finished.
func (p *replayer) Run(ctx context.Context) error {
	tick := time.NewTicker(replayTick)
	defer tick.Stop()
	failing := false // the last look did, and that was told
	for {
		running, err := p.running(ctx)
		if err != nil && ctx.Err() == nil && !failing {
			p.log.Warn("replays cannot be looked for; it is tried again", "error", err)
		}
		failing = err != nil
		for _, r := range running {
			p.countOn(ctx, r)
			p.carry(ctx, r)
		}
		if len(running) == 0 && err == nil {
			clear(p.next)
			p.mu.Lock()
			clear(p.counts)
			p.mu.Unlock()
			select {
			case <-p.wake:
				continue
			case <-ctx.Done():
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// carry takes the steps of one replay that its pace allows now.
func (p *replayer) carry(ctx context.Context, r sqlite.Replay) {
	now := time.Now()
	at := p.next[r.ID]
	if late := now.Add(-replayTick); at.Before(late) {
		at = late // what was not used before is not made up for
	}
	if at.After(now) || ctx.Err() != nil {
		return
	}
	room, _ := p.room(ctx, r)
	n := min(room, replayStep, 1+r.Rate*int(now.Sub(at)/time.Millisecond)/1000)
	if n <= 0 {
		return
	}
	made, err := 0, error(nil)
	for err == nil && made < n && r.State == sqlite.ReplayRunning && ctx.Err() == nil {
		was := r
		if r, err = p.step(ctx, r, n-made); err == nil {
			made += int(r.Replayed - was.Replayed)
		}
		if time.Since(now) >= replayLook {
			break
		}
	}
	p.next[r.ID] = at.Add(time.Duration(made) * time.Second / time.Duration(r.Rate))
	if made > 0 {
		p.made(r.Row)
	}
	switch {
	case err != nil && ctx.Err() == nil && !errors.Is(err, sqlite.ErrClosed):
		p.next[r.ID] = now.Add(replayBackoff)
		level := slog.LevelWarn
		if errors.Is(err, fanout.ErrMoved) || errors.Is(err, fanout.ErrStale) {
			level = slog.LevelDebug // somebody changes cursor or endpoints
		}
		p.log.Log(ctx, level, "a replay cannot go on; it is tried again", "org", r.Org, "replay", r.ID, "error", err)
	case r.State.Finished():
		p.forget(r.ID)
		p.log.Info("replay has ended", "org", r.Org, "endpoint", r.Endpoint, "replay", r.ID, "state", r.State.String(),
			"replayed", r.Replayed, "skipped", r.Skipped(), "lost", r.Lost)
	}
}
