package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/sign"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/sqlite"
	"github.com/grapnel-hooks/grapnel/stream"
	"github.com/spf13/cobra"
)

func benchDeadCommand() *cobra.Command {
	var dead, endpoints, rounds int
	var load float64
	var during time.Duration
	c := &cobra.Command{
		Use:   "dead",
		Short: "Measure lists, dry runs and bulk replays with a million dead letters",
		Long: `Fills books twice: with so many dead letters of one endpoint, and with as many
of a thousand endpoints. Asks for pages with every filter, counts what replays
would do, and replays all of the one endpoint as fast as the books can, while
what comes of it is booked, too; then prints for how long the writer was held at
the most.

At last a daemon with such books delivers live events of another organization:
first alone, then while a replay runs at its highest rate, and prints how late
they arrive in both cases.`,
		Example: `  grapnel bench dead
  grapnel bench dead --dead 100000 --for 5s`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			for _, n := range []int{1, endpoints} {
				if err := runBenchDead(c.Context(), c.OutOrStdout(), dead, n, rounds); err != nil {
					return err
				}
			}
			return runBenchDeadLive(c.Context(), c.OutOrStdout(), dead, load, during)
		},
	}
	f := c.Flags()
	f.IntVar(&dead, "dead", 1_000_000, "dead letters in the books")
	f.IntVar(&endpoints, "endpoints", 1000, "how many they are of, the second time")
	f.IntVar(&rounds, "rounds", 20, "pages per filter")
	f.Float64Var(&load, "load", 500, "live events a second")
	f.DurationVar(&during, "for", 20*time.Second, "how long live events are measured, each time")
	return c
}

const (
	deadOrg   = "dead"
	deadTypes = 10
	deadSpan  = 24 * time.Hour // the outage of which they died
	deadBytes = 512            // of a payload
)

// deadBooks are books that are filled with dead letters.
type deadBooks struct {
	store     *sqlite.Store
	endpoints []deliver.Endpoint
	pos       cursor.Position
	version   int64
	made      int
}

// addDead makes an org with endpoints that get everything.
func addDead(ctx context.Context, s *sqlite.Store, url string, endpoints int) (*deadBooks, error) {
	if _, err := s.AddOrg(ctx, sqlite.Org{ID: deadOrg, Payload: stream.PayloadData}); err != nil {
		return nil, err
	}
	b := &deadBooks{store: s}
	for range endpoints {
		e, err := s.AddEndpoint(ctx, deliver.Endpoint{
			Org: deadOrg, URL: url, EventTypes: []string{"*"}, Secrets: []deliver.Secret{{Secret: sign.NewSecret()}},
			Timeout: deliver.DefaultTimeout, Retry: deliver.DefaultPolicy, Concurrency: 8,
		}, sqlite.Start{})
		if err != nil {
			return nil, err
		}
		b.endpoints = append(b.endpoints, e)
	}
	set, err := s.Subscriptions(ctx, deadOrg)
	if err != nil {
		return nil, err
	}
	b.version = set.Version()
	b.pos, err = s.Position(ctx, deadOrg)
	return b, err
}

// fill books so many dead letters, as an outage leaves them: each after its last
// attempt, its payload kept.
func (b *deadBooks) fill(ctx context.Context, n int) error {
	rows := make([]int64, len(b.endpoints))
	for i, e := range b.endpoints {
		rows[i] = e.Row
	}
	size := max(1024/len(rows), 1) // events of a plan
	end, body := time.Now(), make([]byte, deadBytes)
	for i := range body {
		body[i] = ' '
	}
	body[0], body[deadBytes-1] = '{', '}'
	for b.made < n {
		now := end.Add(-time.Duration(float64(deadSpan) * float64(n-b.made) / float64(n)))
		to := b.pos
		to.Created, to.Anchor, to.Incarnation = now, now, 1
		to.Seq += stream.Seq(size)
		plan := fanout.Plan{Org: deadOrg, From: b.pos, To: to, Version: b.version}
		for seq := b.pos.Seq + 1; seq <= to.Seq; seq++ {
			plan.Events = append(plan.Events, fanout.Planned{
				Event: stream.Event{
					ID: stream.KeyID(deadOrg, strconv.FormatUint(uint64(seq), 10)), Org: deadOrg, Seq: seq,
					Stored: now, Time: now, Type: "kind.of.event" + strconv.Itoa(int(seq)%deadTypes), SchemaVersion: "1",
				},
				Endpoints: rows,
			})
		}
		written, err := b.store.Commit(ctx, plan)
		if err != nil {
			return err
		}
		b.pos = to
		for i, ev := range written {
			p := &deliver.Payload{
				Event: ev.Event, ID: plan.Events[i].ID, Org: deadOrg, Type: plan.Events[i].Type, Stored: now, Body: body,
			}
			for _, endpoint := range ev.Endpoints {
				b.made++
				if err := b.store.Record(ctx, deadRecord(deliver.Key{Event: ev.Event, Endpoint: endpoint}, p, now)); err != nil {
					return err
				}
			}
		}
	}
	return settled(ctx, b.store)
}

func deadRecord(k deliver.Key, p *deliver.Payload, now time.Time) deliver.Record {
	return deliver.Record{
		Key: k, Payload: p,
		Attempt: deliver.Attempt{Number: 1, Started: now, Outcome: deliver.Outcome{Class: deliver.HTTP5xx, Status: 503, Duration: 12 * time.Millisecond}},
		Next:    deliver.Transition{State: deliver.Dead, Reason: deliver.Exhausted, Spent: 1},
	}
}

// settled waits until every outcome is durable.
func settled(ctx context.Context, s *sqlite.Store) error {
	for s.Stats().Waiting > 0 {
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// runBenchDead measures the books by themselves.
func runBenchDead(ctx context.Context, out io.Writer, dead, endpoints, rounds int) error {
	dir, err := os.MkdirTemp("", "grapnel-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s, err := sqlite.Open(ctx, sqlite.Options{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer s.Close()
	began := time.Now()
	b, err := addDead(ctx, s, "http://127.0.0.1/", endpoints)
	if err == nil {
		err = b.fill(ctx, dead)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d dead letters of %d endpoint(s), filled in %s; the books have %d MiB\n",
		b.made, endpoints, time.Since(began).Round(time.Second), s.Stats().DatabaseBytes>>20)
	if err := b.lists(ctx, out, rounds); err != nil {
		return err
	}
	if err := b.dryRuns(ctx, out); err != nil {
		return err
	}
	return b.replay(ctx, out)
}

// lists asks for pages of what is dead, with every filter.
func (b *deadBooks) lists(ctx context.Context, out io.Writer, rounds int) error {
	state, now := deliver.Dead, time.Now()
	var all []time.Duration
	var slowest string
	for _, endpoint := range []string{"", b.endpoints[0].ID} {
		for _, typ := range []string{"", "kind.*", "kind.of.event3", "nothing"} {
			for _, when := range [][2]time.Time{{}, {now.Add(-deadSpan / 2)}, {1: now.Add(-deadSpan / 2)}, {now.Add(-deadSpan * 3 / 4), now.Add(-deadSpan / 2)}} {
				f := sqlite.Filter{Endpoint: endpoint, Type: typ, State: &state, Since: when[0], Until: when[1]}
				after := deliver.Key{}
				for i := range rounds {
					if i%2 == 1 { // deep in the list
						after = deliver.Key{Event: 1 + rand.Int64N(int64(b.pos.Seq)), Endpoint: math.MaxInt64}
					}
					began := time.Now()
					if _, _, err := b.store.ListDeliveries(ctx, deadOrg, f, 50, after); err != nil {
						return err
					}
					took := time.Since(began)
					if len(all) == 0 || took > slices.Max(all) {
						slowest = fmt.Sprintf("endpoint %q, type %q, %d bounds of time", endpoint, typ, btoi(!when[0].IsZero())+btoi(!when[1].IsZero()))
					}
					all = append(all, took)
				}
			}
		}
	}
	slices.Sort(all)
	fmt.Fprintf(out, "  %-26s p50 %s, p99 %s, max %s (%s)\n", fmt.Sprintf("%d pages", len(all)), rank(all, 0.5), rank(all, 0.99),
		all[len(all)-1].Round(10*time.Microsecond), slowest)
	return nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// dryRuns counts what replays would do.
func (b *deadBooks) dryRuns(ctx context.Context, out io.Writer) error {
	half := time.Now().Add(-deadSpan / 2)
	for _, c := range []struct {
		name string
		f    sqlite.ReplayFilter
	}{
		{"all", sqlite.ReplayFilter{States: []deliver.State{deliver.Dead}}},
		{"one type in ten", sqlite.ReplayFilter{States: []deliver.State{deliver.Dead}, Types: []string{"kind.of.event3"}}},
		{"of the second half", sqlite.ReplayFilter{States: []deliver.State{deliver.Dead}, Since: half}},
		{"a range of sequences", sqlite.ReplayFilter{States: []deliver.State{deliver.Dead}, From: b.pos.Seq / 2, To: b.pos.Seq * 3 / 4}},
		{"delivered (none is)", sqlite.ReplayFilter{States: []deliver.State{deliver.Delivered}}},
	} {
		began := time.Now()
		n, err := b.store.CountReplay(ctx, deadOrg, b.endpoints[0].ID, c.f, sqlite.Readable{Incarnation: 1, First: 1})
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "  %-26s %d in %s\n", "dry run, "+c.name, n.Matched, time.Since(began).Round(time.Millisecond))
	}
	return nil
}

// replay makes all of one endpoint pending, step by step without a pause, and
// books that they are delivered, as it would come of it.
func (b *deadBooks) replay(ctx context.Context, out io.Writer) error {
	s, e := b.store, b.endpoints[0]
	r, err := s.StartReplay(ctx, deadOrg, e.ID, sqlite.ReplayFilter{States: []deliver.State{deliver.Dead}}, 0, httpapi.MaxReplayRate)
	if err != nil {
		return err
	}
	s.LongestCommit()
	began, steps := time.Now(), 0
	var longestStep time.Duration
	for ; r.State == sqlite.ReplayRunning; steps++ {
		stepped := time.Now()
		if r, err = s.StepReplay(ctx, r, sqlite.Readable{Incarnation: 1, First: 1}, replayStep); err != nil {
			return err
		}
		longestStep = max(longestStep, time.Since(stepped))
		if err := b.delivered(ctx, e.Row); err != nil {
			return err
		}
	}
	took := time.Since(began)
	fmt.Fprintf(out, "  %-26s %d in %s: %.0f /s, %d steps, the longest %s\n", "replay", r.Replayed, took.Round(time.Millisecond),
		float64(r.Replayed)/took.Seconds(), steps, longestStep.Round(10*time.Microsecond))
	fmt.Fprintf(out, "  %-26s %s at the most\n\n", "the writer was held", s.LongestCommit().Round(10*time.Microsecond))
	return nil
}

// delivered books the success of what is pending of an endpoint.
func (b *deadBooks) delivered(ctx context.Context, row int64) error {
	ts, err := b.store.Pending(ctx, deliver.Place{}, deliver.Place{Due: math.MaxInt64, Event: math.MaxInt64}, []int64{row}, 2*replayStep)
	if err != nil {
		return err
	}
	for _, t := range ts {
		err := b.store.Record(ctx, deliver.Record{
			Key: t.Key,
			Attempt: deliver.Attempt{Number: t.Attempts + 1, Trigger: t.Trigger, Started: time.Now(),
				Outcome: deliver.Outcome{Class: deliver.OK, Status: 204, Duration: 12 * time.Millisecond}},
			Next: deliver.Transition{State: deliver.Delivered, Spent: 1},
		})
		if err != nil {
			return err
		}
	}
	return nil
}
