package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/stream"
)

// runBenchDeadLive compares how late live events arrive without a replay and
// beside one.
func runBenchDeadLive(ctx context.Context, out io.Writer, dead int, load float64, during time.Duration) error {
	receiver, address, err := startReceiver(ctx)
	if err != nil {
		return err
	}
	defer receiver.close()
	walk, err := startWalk(ctx, address)
	if err != nil {
		return err
	}
	var ok bool
	for _, ask := range []string{"endpoints 1 8 /", fmt.Sprintf("dead %d", dead)} {
		if err := walk.ask(&ok, "%s", ask); err != nil {
			return err
		}
	}
	var m measured
	if err := walk.ask(&m, "go 0"); err != nil {
		return err
	}
	measure := func() (*benchLatency, replayedSoFar, error) {
		var before, after replayedSoFar
		if err := walk.ask(&before, "replayed"); err != nil {
			return nil, after, err
		}
		l, err := measureLatency(ctx, walk, receiver, 1, load, benchOptions{Size: 1024, LatencyFor: during, Linger: time.Second})
		if err == nil {
			err = walk.ask(&after, "replayed")
		}
		after.Deliveries -= before.Deliveries
		return l, after, err
	}
	// The first seconds after the books were filled are not measured.
	if _, _, err := measure(); err != nil {
		return err
	}
	alone, quiet, err := measure()
	if err != nil {
		return err
	}
	if err := walk.ask(&ok, "replay %d", httpapi.MaxReplayRate); err != nil {
		return err
	}
	beside, busy, err := measure()
	if err != nil {
		return err
	}
	row := func(name string, l *benchLatency, r replayedSoFar) {
		fmt.Fprintf(out, "  %-26s p50 %s, p99 %s, max %s (%d events, %d lost); the writer was held %s at the most; %d replayed, %d pending\n", name,
			l.P50.Round(10*time.Microsecond), l.P99.Round(10*time.Microsecond), l.Max.Round(10*time.Microsecond), l.Events, l.Lost,
			time.Duration(r.Longest).Round(10*time.Microsecond), r.Deliveries, r.Pending)
	}
	fmt.Fprintf(out, "a daemon with %d dead letters, %.0f live events/s of another organization for %s, from ack to receipt:\n", dead, load, during)
	row("alone", alone, quiet)
	row("beside a replay", beside, busy)
	fmt.Fprintf(out, "  %-26s p50 %.2f, p99 %.2f\n", "ratio", float64(beside.P50)/float64(alone.P50), float64(beside.P99)/float64(alone.P99))
	return walk.kill()
}

// replayedSoFar is what a walk's replay has done, and for how long the writer was
// held at the most since that was asked for last.
type replayedSoFar struct {
	Deliveries, Pending, Longest int64
}

// dead books dead letters of another org, whose endpoint is the receiver's.
func (w *benchWalk) dead(ctx context.Context, n int) error {
	b, err := addDead(ctx, w.d.store, "http://"+w.target+"/again", 1)
	if err != nil {
		return err
	}
	if err := b.fill(ctx, n); err != nil {
		return err
	}
	_, err = w.d.broker.Create(ctx, stream.OrgStream{Org: deadOrg})
	return err
}

// replay begins to send again what is dead.
func (w *benchWalk) replay(ctx context.Context, rate int) error {
	list, err := w.d.store.ListEndpoints(ctx, deadOrg)
	if err != nil {
		return err
	}
	_, err = w.d.StartReplay(ctx, deadOrg, list[0].ID, httpapi.NewReplay{
		ReplayFilter: httpapi.ReplayFilter{Status: httpapi.Statuses{"dead"}}, Rate: rate,
	})
	return err
}

func (w *benchWalk) replayed(ctx context.Context) (r replayedSoFar, err error) {
	r.Longest = int64(w.d.store.LongestCommit())
	list, err := w.d.store.ListReplays(ctx, deadOrg, "", 1)
	if err == nil && len(list) > 0 {
		r.Deliveries, r.Pending = list[0].Replayed, w.d.store.PendingOf(list[0].Row)
	}
	return r, err
}
