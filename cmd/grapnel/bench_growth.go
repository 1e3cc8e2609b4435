package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/grapnel-hooks/grapnel/stream"
	"github.com/spf13/cobra"
)

func benchIsolationCommand() *cobra.Command {
	var events int
	var many int
	c := &cobra.Command{
		Use:   "isolation",
		Short: "Measure what endpoints that hang cost the others",
		Example: `  grapnel bench isolation
  grapnel bench isolation --many 1000`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := runBenchNine(c.Context(), c.OutOrStdout(), events); err != nil {
				return err
			}
			return runBenchMany(c.Context(), c.OutOrStdout(), many)
		},
	}
	c.Flags().IntVar(&events, "events", 20_000, "events for ten endpoints")
	c.Flags().IntVar(&many, "many", 10_000, "endpoints, of which all but one hang")
	return c
}

// runBenchNine compares nine endpoints alone with the same nine beside a tenth
// that hangs until its timeout.
func runBenchNine(ctx context.Context, out io.Writer, events int) error {
	receiver, address, err := startReceiver(ctx)
	if err != nil {
		return err
	}
	defer receiver.close()
	run := func(hang bool) (m measured, err error) {
		walk, err := startWalk(ctx, address)
		if err != nil {
			return m, err
		}
		var ok bool
		if err := walk.ask(&ok, "endpoints 9 8 /"); err != nil {
			return m, err
		}
		if hang {
			if err := walk.ask(&ok, "endpoints 1 8 /hang"); err != nil {
				return m, err
			}
		}
		if err := walk.ask(&ok, "fill %d", events); err != nil {
			return m, err
		}
		if err := walk.ask(&m, "go %d", events*9); err != nil {
			return m, err
		}
		return m, walk.kill()
	}
	var ratios []float64
	var alone, beside measured
	for range 3 {
		if alone, err = run(false); err != nil {
			return err
		}
		if beside, err = run(true); err != nil {
			return err
		}
		ratios = append(ratios, beside.rate()/alone.rate())
	}
	fmt.Fprintf(out, "nine endpoints alone            %.0f deliveries/s\n", alone.rate())
	fmt.Fprintf(out, "the nine beside one that hangs  %.0f deliveries/s\n", beside.rate())
	fmt.Fprintf(out, "ratio (median of 3)             %.2f\n", median(ratios))
	return nil
}

// runBenchMany makes many endpoints of which one answers. The others are of
// another org, and each gets an event a second, which it never answers. It
// measures how late the one gets its ten events a second.
func runBenchMany(ctx context.Context, out io.Writer, many int) error {
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
	if err := walk.ask(&ok, "hanging %d", many-1); err != nil {
		return err
	}
	if err := walk.ask(&ok, "endpoints 1 8 /"); err != nil {
		return err
	}
	var m measured
	if err := walk.ask(&m, "go 0"); err != nil {
		return err
	}
	stop, err := appendSlowly(ctx, walk)
	if err != nil {
		return err
	}
	defer stop()
	l, err := measureLatency(ctx, walk, receiver, 1, 10, benchOptions{Size: 1024, LatencyFor: 30 * time.Second})
	if err != nil {
		return err
	}
	if err := walk.ask(&m, "stats"); err != nil {
		return err
	}
	fmt.Fprintf(out, "%d of %d endpoints hang, at an event a second each; the other one, at 10 events/s for 30 s:\n", many-1, many)
	fmt.Fprintf(out, "  ack to receipt  p50 %s, p99 %s, max %s (%d events, %d lost)\n", l.P50, l.P99, l.Max, l.Events, l.Lost)
	fmt.Fprintf(out, "  memory          %.0f MiB now, %.0f MiB at most\n", float64(m.RSS)/(1<<20), float64(m.Peak)/(1<<20))
	return walk.kill()
}

// appendSlowly appends an event a second to the org whose endpoints hang, until
// it is stopped.
func appendSlowly(ctx context.Context, walk *benchProcess) (stop func(), err error) {
	var nats string
	if err := walk.ask(&nats, "nats"); err != nil {
		return nil, err
	}
	client, err := stream.Connect(ctx, stream.Options{URL: "nats://" + nats})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for n := int64(0); ; n++ {
			if _, err := client.Append(ctx, hangingOrg, stream.Append{Type: "bench.event", Data: benchEvent(n, 1024)}); err != nil {
				return
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	return func() { cancel(); done.Wait(); client.Close() }, nil
}

func benchGrowthCommand() *cobra.Command {
	var finished, orgs, pending, events int
	c := &cobra.Command{
		Use:   "growth",
		Short: "Measure the walk with full books, many organizations and a backlog at start",
		Example: `  grapnel bench growth
  grapnel bench growth --finished 1000000 --orgs 1000 --pending 100000`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return runBenchGrowth(c.Context(), c.OutOrStdout(), finished, orgs, pending, events)
		},
	}
	f := c.Flags()
	f.IntVar(&finished, "finished", 10_000_000, "finished deliveries in the books")
	f.IntVar(&orgs, "orgs", 10_000, "organizations besides the one that is measured")
	f.IntVar(&pending, "pending", 1_000_000, "pending deliveries at start")
	f.IntVar(&events, "events", 300_000, "deliveries per measurement, of which the second half counts")
	return c
}

func runBenchGrowth(ctx context.Context, out io.Writer, finished, orgs, pending, events int) error {
	receiver, address, err := startReceiver(ctx)
	if err != nil {
		return err
	}
	defer receiver.close()
	run := func(prepare ...string) (m measured, err error) {
		walk, err := startWalk(ctx, address)
		if err != nil {
			return m, err
		}
		var ok bool
		for _, p := range append(prepare, "endpoints 1 64 /", "fill "+strconv.Itoa(events)) {
			if err := walk.ask(&ok, "%s", p); err != nil {
				return m, err
			}
		}
		// The first half is not measured: after a start every organization is
		// looked at once.
		if err := walk.ask(&m, "go %d", events/2); err != nil {
			return m, err
		}
		if err := walk.ask(&m, "wait %d", events); err != nil {
			return m, err
		}
		return m, walk.kill()
	}
	for _, c := range []struct{ name, prepare string }{
		{fmt.Sprintf("%d finished deliveries", finished), "finished " + strconv.Itoa(finished)},
		{fmt.Sprintf("%d organizations", orgs), "orgs " + strconv.Itoa(orgs)},
	} {
		empty, err := run()
		if err != nil {
			return err
		}
		full, err := run(c.prepare)
		if err != nil {
			return err
		}
		again, err := run()
		if err != nil {
			return err
		}
		base := (empty.rate() + again.rate()) / 2
		fmt.Fprintf(out, "%-32s %.0f /s against %.0f /s with empty books: ratio %.2f\n", c.name, full.rate(), base, full.rate()/base)
	}
	var m measured
	if m, err = runBenchBacklog(ctx, address, pending); err != nil {
		return err
	}
	fmt.Fprintf(out, "%-32s ready after %.2f s, then %.0f /s\n", fmt.Sprintf("%d pending at start", pending), m.Start, m.rate())
	return nil
}

// runBenchBacklog fans out while nothing can be sent, ends the daemon, starts
// it again on the same books and measures how soon it is ready and how fast
// the backlog drains.
func runBenchBacklog(ctx context.Context, address string, pending int) (m measured, err error) {
	walk, err := startWalk(ctx, address)
	if err != nil {
		return m, err
	}
	var ok bool
	if err := walk.ask(&ok, "endpoints 1 64 /"); err != nil {
		return m, err
	}
	if err := walk.ask(&ok, "fill %d", pending); err != nil {
		return m, err
	}
	if err := walk.ask(&ok, "fanout"); err != nil {
		return m, err
	}
	if err := walk.ask(&m, "restart %d", pending); err != nil {
		return m, err
	}
	return m, walk.kill()
}

func benchSoakCommand() *cobra.Command {
	var length time.Duration
	var rate float64
	c := &cobra.Command{
		Use:   "soak",
		Short: "Run the walk at a steady load and print memory and goroutines as it goes",
		Example: `  grapnel bench soak
  grapnel bench soak --for 1h --rate 500`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return runBenchSoak(c.Context(), c.OutOrStdout(), length, rate)
		},
	}
	c.Flags().DurationVar(&length, "for", 10*time.Minute, "how long")
	c.Flags().Float64Var(&rate, "rate", 2000, "events per second")
	return c
}

func runBenchSoak(ctx context.Context, out io.Writer, length time.Duration, rate float64) error {
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
	if err := walk.ask(&ok, "endpoints 2 8 /"); err != nil {
		return err
	}
	var m measured
	if err := walk.ask(&m, "go 0"); err != nil {
		return err
	}
	step := min(length, 30*time.Second)
	fmt.Fprintf(out, "%8s %12s %10s %12s %10s %10s\n", "after", "deliveries", "p99", "memory MiB", "goroutines", "books MiB")
	for start := time.Now(); time.Since(start) < length; {
		l, err := measureLatency(ctx, walk, receiver, 2, rate, benchOptions{Size: 1024, LatencyFor: step})
		if err != nil {
			return err
		}
		if err := walk.ask(&m, "stats"); err != nil {
			return err
		}
		fmt.Fprintf(out, "%8s %12d %10s %12.0f %10d %10.0f\n", time.Since(start).Round(time.Second), m.Deliveries,
			l.P99.Round(10*time.Microsecond), float64(m.RSS)/(1<<20), m.Goroutines, float64(m.Disk)/(1<<20))
	}
	return walk.close()
}
