package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/spf13/cobra"
)

func benchSizeCommand() *cobra.Command {
	o := benchSizes{}
	c := &cobra.Command{
		Use:   "size",
		Short: "Measure the memory and disk that organizations, endpoints and deliveries take",
		Example: `  grapnel bench size
  grapnel bench size --orgs 100 --endpoints 1000 --deliveries 10000`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return runBenchSize(c.Context(), c.OutOrStdout(), o)
		},
	}
	f := c.Flags()
	f.IntVar(&o.Orgs, "orgs", 1_000, "organizations, each with a stream")
	f.IntVar(&o.Endpoints, "endpoints", 10_000, "endpoints of one organization")
	f.IntVar(&o.Deliveries, "deliveries", 200_000, "deliveries of each state, and events of 1,024 bytes")
	return c
}

// benchSizes are how many of each thing "grapnel bench size" makes.
type benchSizes struct{ Orgs, Endpoints, Deliveries int }

// runBenchSize makes one kind of thing after the other, and prints by how much
// memory (after a garbage collection), books and streams grew for each.
func runBenchSize(ctx context.Context, out io.Writer, o benchSizes) error {
	receiver, address, err := startReceiver(ctx)
	if err != nil {
		return err
	}
	defer receiver.close()
	row := func(name string, n int, before, after measured) {
		each := func(a, b int64) float64 { return float64(a-b) / float64(n) }
		fmt.Fprintf(out, "%-34s %9d %10.0f %10.0f %10.0f\n", name, n,
			each(after.RSS, before.RSS), each(after.Disk, before.Disk), each(after.Streams, before.Streams))
	}
	fmt.Fprintf(out, "%-34s %9s %10s %10s %10s   bytes each\n", "", "NUMBER", "MEMORY", "DATABASE", "STREAMS")
	for _, steps := range [][]sizeStep{
		{{"organizations", "orgs %d", o.Orgs}},
		{{"endpoints", "endpoints %d 8 /", o.Endpoints}},
		{{"deliveries that are delivered", "finished %d", o.Deliveries}},
		{{fmt.Sprintf("dead letters with %d bytes", deadBytes), "dead %d", o.Deliveries}},
		{{"", "endpoints %d 8 /", 1}, {"events with 1,024 bytes", "fill %d", o.Deliveries}, {"deliveries that are pending", "fanout", o.Deliveries}},
	} {
		if err := measureSizes(ctx, address, steps, row); err != nil {
			return err
		}
	}
	return nil
}

// sizeStep is a request to the walk that makes a number of things.
type sizeStep struct {
	name string // "": not worth a row
	ask  string
	n    int
}

// measureSizes takes the steps with a daemon of its own.
func measureSizes(ctx context.Context, address string, steps []sizeStep, row func(string, int, measured, measured)) error {
	walk, err := startWalk(ctx, address)
	if err != nil {
		return err
	}
	var before, after measured
	if err := walk.ask(&before, "sizes"); err != nil {
		return err
	}
	for _, s := range steps {
		ask := s.ask
		if s.ask != "fanout" {
			ask = fmt.Sprintf(s.ask, s.n)
		}
		var ok bool
		if err := walk.ask(&ok, "%s", ask); err != nil {
			return err
		}
		if err := walk.ask(&after, "sizes"); err != nil {
			return err
		}
		if s.name != "" {
			row(s.name, s.n, before, after)
		}
		before = after
	}
	return walk.kill()
}

// folderSize is the size of all files below the directory.
func folderSize(dir string) (n int64) {
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if info, err := d.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil
	})
	return n
}
