package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/grapnel-hooks/grapnel/stream"
	"github.com/spf13/cobra"
)

// benchOptions are the flags of "grapnel bench".
type benchOptions struct {
	Events     int     // per round, for one endpoint; a tenth of it for ten
	Rounds     int     // the ratio is the median over rounds
	Size       int     // bytes of an event's data
	Load       float64 // of the measured rate, for the latency
	LatencyFor time.Duration
	Linger     time.Duration // for what is late, where deliveries of others are booked, too
	Keys       bool          // events carry dedupe keys
	Profile    string        // file for a CPU profile of the last walk of each kind, ".N" appended
	JSON       bool
}

// benchCommand is "grapnel bench" with its measurements and the processes that
// these are made of (hidden).
func benchCommand() *cobra.Command {
	o := benchOptions{}
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure this machine: the bare ceiling and the whole walk, in one run",
		Long: `Measures, in one run, what this machine can do at the most (the same signed
requests, sent by a plain loop with the same HTTP client, without stream or
database) and what the whole walk does with all its guarantees on, and prints
the ratio. The receiver is a process of its own. The stream is filled first,
with its cursor held, so that the walk is measured and not the publisher.`,
		Example: `  grapnel bench
  grapnel bench --events 50000 --rounds 1`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o.JSON, _ = c.Flags().GetBool("json")
			return runBenchSpeed(c.Context(), c.OutOrStdout(), o)
		},
	}
	f := c.Flags()
	f.IntVar(&o.Events, "events", 200_000, "deliveries per round")
	f.IntVar(&o.Rounds, "rounds", 3, "rounds; the median ratio is printed")
	f.IntVar(&o.Size, "size", 1024, "bytes of an event's data")
	f.Float64Var(&o.Load, "load", 0.2, "load for the latency, as a part of the measured rate")
	f.DurationVar(&o.LatencyFor, "latency-for", 10*time.Second, "how long to measure the latency; 0: not at all")
	f.BoolVar(&o.Keys, "keys", false, "give each event a dedupe key, whose header the broker has to copy")
	f.StringVar(&o.Profile, "profile", "", "write CPU profiles of the walk to `FILE`.<endpoints>")
	c.AddCommand(benchIsolationCommand(), benchGrowthCommand(), benchListsCommand(), benchDeadCommand(), benchSoakCommand(), benchAppendCommand(), benchSizeCommand())

	part := func(use string, run func(ctx context.Context, in io.Reader, out io.Writer, args []string) error) {
		c.AddCommand(&cobra.Command{
			Use: use, Hidden: true,
			RunE: func(c *cobra.Command, args []string) error {
				return run(c.Context(), c.InOrStdin(), c.OutOrStdout(), args)
			},
		})
	}
	part("receiver", func(_ context.Context, in io.Reader, out io.Writer, _ []string) error {
		return runBenchReceiver(in, out)
	})
	part("bare", func(_ context.Context, _ io.Reader, out io.Writer, args []string) error {
		n := make([]int, 4)
		for i := range n {
			n[i], _ = strconv.Atoi(args[1+i])
		}
		return runBenchBare(out, args[0], n[0], n[1], n[2], n[3])
	})
	part("append-daemon", runBenchAppendDaemon)
	part("walk", func(ctx context.Context, in io.Reader, out io.Writer, args []string) error {
		size, _ := strconv.Atoi(args[1])
		return runBenchWalk(ctx, in, out, args[0], size)
	})
	return c
}

// benchSpeed is what "grapnel bench" found for one number of endpoints.
type benchSpeed struct {
	Endpoints   int
	Concurrency int // per endpoint
	Bare, Walk  []measured
	Ratio       float64 // median over the rounds
	Latency     *benchLatency
}

type benchLatency struct {
	EventsPerSecond float64
	Events          int
	P50, P99, Max   time.Duration
	Lost            int
}

func runBenchSpeed(ctx context.Context, out io.Writer, o benchOptions) error {
	receiver, address, err := startReceiver(ctx)
	if err != nil {
		return err
	}
	defer receiver.close()
	var all []benchSpeed
	for _, shape := range []benchSpeed{{Endpoints: 1, Concurrency: 64}, {Endpoints: 10, Concurrency: 8}} {
		for round := range o.Rounds {
			if !o.JSON {
				fmt.Fprintf(out, "%d endpoint(s), round %d of %d …\r", shape.Endpoints, round+1, o.Rounds)
			}
			if err := shape.round(ctx, receiver, address, o, round == o.Rounds-1 && o.LatencyFor > 0); err != nil {
				return err
			}
		}
		var ratios []float64
		for i := range shape.Walk {
			ratios = append(ratios, shape.Walk[i].rate()/shape.Bare[i].rate())
		}
		shape.Ratio = median(ratios)
		all = append(all, shape)
		if !o.JSON {
			shape.print(out)
		}
	}
	if o.JSON {
		return json.NewEncoder(out).Encode(all)
	}
	return nil
}

// round measures bare, walk and bare again, so that the machine's mood, which
// changes by the minute, weighs on both sides.
func (s *benchSpeed) round(ctx context.Context, receiver *benchProcess, address string, o benchOptions, latency bool) error {
	bare := func() (m measured, err error) {
		p, err := startPart(ctx, &m, "bare", address,
			strconv.Itoa(s.Endpoints), strconv.Itoa(s.Concurrency), strconv.Itoa(o.Events), strconv.Itoa(o.Size))
		if err != nil {
			return m, err
		}
		return m, p.close()
	}
	before, err := bare()
	if err != nil {
		return err
	}
	var ready string
	walk, err := startPart(ctx, &ready, "walk", address, strconv.Itoa(o.Size))
	if err != nil {
		return err
	}
	var ok bool
	if err := walk.ask(&ok, "endpoints %d %d /", s.Endpoints, s.Concurrency); err != nil {
		return err
	}
	fill := "fill"
	if o.Keys {
		fill = "fillkeys"
	}
	if err := walk.ask(&ok, "%s %d", fill, o.Events/s.Endpoints); err != nil {
		return err
	}
	if o.Profile != "" {
		if err := walk.ask(&ok, "profile %s.%d", o.Profile, s.Endpoints); err != nil {
			return err
		}
	}
	var m measured
	if err := walk.ask(&m, "go %d", o.Events/s.Endpoints*s.Endpoints); err != nil {
		return err
	}
	if latency {
		if s.Latency, err = measureLatency(ctx, walk, receiver, s.Endpoints, m.rate()*o.Load/float64(s.Endpoints), o); err != nil {
			return err
		}
	}
	if err := walk.close(); err != nil {
		return err
	}
	after, err := bare()
	if err != nil {
		return err
	}
	both := measured{Deliveries: before.Deliveries + after.Deliveries, Seconds: before.Seconds + after.Seconds, CPU: before.CPU + after.CPU}
	s.Bare, s.Walk = append(s.Bare, both), append(s.Walk, m)
	return nil
}

// measureLatency appends events at a steady rate and compares when each was
// acknowledged with when the receiver had it first. The publisher is this
// process, over TCP. With every append flushed to disk, one publisher alone
// reaches a few thousand a second, so it appends small atomic batches.
func measureLatency(ctx context.Context, walk, receiver *benchProcess, endpoints int, perSecond float64, o benchOptions) (*benchLatency, error) {
	var nats string
	if err := walk.ask(&nats, "nats"); err != nil {
		return nil, err
	}
	client, err := stream.Connect(ctx, stream.Options{URL: "nats://" + nats})
	if err != nil {
		return nil, err
	}
	defer client.Close()
	var ok bool
	if err := receiver.ask(&ok, "record"); err != nil {
		return nil, err
	}
	var before, m measured
	if err := walk.ask(&before, "stats"); err != nil {
		return nil, err
	}
	const tick = 5 * time.Millisecond
	acked := map[int64]int64{}
	n, owed := time.Now().UnixNano(), 0.0 // numbers apart from those of the fill, and of earlier calls
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	start := time.Now()
	last := start
	for time.Since(start) < o.LatencyFor {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		now := time.Now()
		owed += perSecond * now.Sub(last).Seconds()
		last = now
		for owed >= 1 {
			batch := make([]stream.Append, min(int(owed), 256))
			for i := range batch {
				batch[i] = stream.Append{Type: "bench.event", DedupeKey: "late-" + strconv.FormatInt(n+int64(i), 10), Data: benchEvent(n+int64(i), o.Size)}
			}
			if len(batch) == 1 {
				_, err = client.Append(ctx, "bench", batch[0])
			} else {
				_, err = client.AppendBatch(ctx, "bench", batch)
			}
			if err != nil {
				return nil, err
			}
			at := time.Now().UnixNano()
			for range batch {
				acked[n] = at
				n++
			}
			owed -= float64(len(batch))
		}
	}
	took := time.Since(start)
	for range 200 { // until all is booked, or a while has passed
		if err := walk.ask(&m, "stats"); err != nil {
			return nil, err
		}
		if m.Deliveries >= before.Deliveries+int64(len(acked)*endpoints) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(o.Linger)
	var arrivals map[int64]int64
	if err := receiver.ask(&arrivals, "arrivals"); err != nil {
		return nil, err
	}
	var late []time.Duration
	l := &benchLatency{EventsPerSecond: float64(len(acked)) / took.Seconds(), Events: len(acked)}
	for n, at := range acked {
		if arrived, ok := arrivals[n]; ok {
			late = append(late, max(time.Duration(arrived-at), 0))
		} else {
			l.Lost++
		}
	}
	slices.Sort(late)
	if len(late) > 0 {
		l.P50, l.P99, l.Max = late[len(late)/2], late[len(late)*99/100], late[len(late)-1]
	}
	return l, nil
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	v = slices.Clone(v)
	slices.Sort(v)
	return v[len(v)/2]
}

func (s *benchSpeed) print(out io.Writer) {
	of := func(ms []measured, f func(measured) float64) float64 {
		var v []float64
		for _, m := range ms {
			v = append(v, f(m))
		}
		return median(v)
	}
	perThousand := func(m measured) float64 { return m.CPU * 1000 / float64(m.Deliveries) }
	last := s.Walk[len(s.Walk)-1]
	fmt.Fprintf(out, "%d endpoint(s), %d requests at once each, %d deliveries, %d rounds (medians)\n",
		s.Endpoints, s.Concurrency, last.Deliveries, len(s.Walk))
	row := func(name, format string, args ...any) {
		fmt.Fprintf(out, "  %-28s "+format+"\n", append([]any{name}, args...)...)
	}
	row("bare ceiling", "%.0f /s, %.4f s CPU per 1,000", of(s.Bare, measured.rate), of(s.Bare, perThousand))
	row("whole walk", "%.0f /s, %.4f s CPU per 1,000", of(s.Walk, measured.rate), of(s.Walk, perThousand))
	row("ratio", "%.2f", s.Ratio)
	row("rows per commit", "%.0f", of(s.Walk, func(m measured) float64 { return float64(m.Rows) / float64(max(m.Commits, 1)) }))
	row("disk per delivery", "%.0f bytes", of(s.Walk, func(m measured) float64 { return float64(m.Disk) / float64(m.Deliveries) }))
	row("memory idle / during", "%.0f / %.0f MiB", float64(last.Idle)/(1<<20), float64(last.RSS)/(1<<20))
	row("appended before", "%.0f events/s (flushed lazily)", last.FillRate)
	if l := s.Latency; l != nil {
		row("latency, ack to receipt", "p50 %s, p99 %s, max %s at %.0f events/s (%d events, %d lost)",
			l.P50.Round(10*time.Microsecond), l.P99.Round(10*time.Microsecond), l.Max.Round(10*time.Microsecond), l.EventsPerSecond, l.Events, l.Lost)
	}
}
