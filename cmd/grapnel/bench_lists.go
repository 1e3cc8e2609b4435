package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/sign"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/sqlite"
	"github.com/grapnel-hooks/grapnel/stream"
	"github.com/spf13/cobra"
)

func benchListsCommand() *cobra.Command {
	var deliveries, rounds int
	var each bool
	c := &cobra.Command{
		Use:   "lists",
		Short: "Measure how long the pages of lists of deliveries take with full books",
		Long: `Fills the books with deliveries of a hundred organizations over a week, one of
which has most of them; a hundredth is pending, a hundredth dead. Then asks for
pages with every combination of filters, at the beginning of the list and deep
in it, for the largest organization and for small ones, and counts the pages
until a narrow filter has its first hit. At last it asks for explanations of
events and for the stats of endpoints.`,
		Example: `  grapnel bench lists
  grapnel bench lists --deliveries 1000000 --each`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return runBenchLists(c.Context(), c.OutOrStdout(), deliveries, rounds, each)
		},
	}
	f := c.Flags()
	f.IntVar(&deliveries, "deliveries", 10_000_000, "deliveries in the books")
	f.IntVar(&rounds, "rounds", 10, "pages per combination, place and organization")
	f.BoolVar(&each, "each", false, "print each combination of filters, not only the slowest")
	return c
}

// What the books of "bench lists" hold.
const (
	listOrgs      = 100
	listEndpoints = 4         // of each org, which get everything; one more gets only the rare type
	listBatch     = 256       // events of a plan
	listRare      = 100_000   // one in so many events has the rare type
	listTypes     = 12        // common types
	listFailed    = 100       // one in so many deliveries is dead, and one pending
	rareType      = "odd.one" // see listRare
	listWeek      = 7 * 24 * time.Hour
)

// listBooks is a store being filled.
type listBooks struct {
	store *sqlite.Store
	now   atomic.Int64 // ns; the clock of the books
	rng   *rand.Rand
	orgs  []*listOrg
	made  int64 // deliveries
	seen  int64 // events
}

type listOrg struct {
	id      string
	all     []int64 // rows of the endpoints that get everything
	rare    int64
	busy    string // the id of one of all
	odd     string // the id of rare
	pos     cursor.Position
	version int64
}

func runBenchLists(ctx context.Context, out io.Writer, deliveries, rounds int, each bool) error {
	dir, err := os.MkdirTemp("", "grapnel-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &listBooks{rng: rand.New(rand.NewPCG(1, 1))}
	end := time.Now()
	b.now.Store(end.Add(-listWeek).UnixNano())
	open := func() error {
		b.store, err = sqlite.Open(ctx, sqlite.Options{
			Dir: dir, Log: slog.New(slog.DiscardHandler), Synchronous: "NORMAL",
			Clock: func() time.Time { return time.Unix(0, b.now.Load()) },
		})
		return err
	}
	if err := open(); err != nil {
		return err
	}
	began := time.Now()
	err = b.fill(ctx, int64(deliveries))
	if closeErr := b.store.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d deliveries of %d events and %d organizations, filled in %s\n", b.made, b.seen, listOrgs, time.Since(began).Round(time.Second))
	if err := open(); err != nil {
		return err
	}
	defer b.store.Close()
	if err := b.measure(ctx, out, rounds, each, end); err != nil {
		return err
	}
	return b.single(ctx, out)
}

// fill books a week of events, the finished ones as if they had been sent.
func (b *listBooks) fill(ctx context.Context, deliveries int64) error {
	for i := range listOrgs {
		o, err := b.addOrg(ctx, fmt.Sprintf("org%02d", i))
		if err != nil {
			return err
		}
		b.orgs = append(b.orgs, o)
	}
	step := int64(listWeek) / max(deliveries/(listBatch*listEndpoints), 1)
	for b.made < deliveries {
		o := b.orgs[0] // it has six of ten; the others fewer and fewer
		if b.rng.IntN(10) >= 6 {
			o = b.orgs[1+int(float64(listOrgs-1)*b.rng.Float64()*b.rng.Float64()*b.rng.Float64())]
		}
		if err := b.commit(ctx, o); err != nil {
			return err
		}
		b.now.Add(step)
	}
	for b.store.Stats().Waiting > 0 {
		time.Sleep(time.Millisecond)
	}
	return nil
}

func (b *listBooks) addOrg(ctx context.Context, id string) (*listOrg, error) {
	if _, err := b.store.AddOrg(ctx, sqlite.Org{ID: id, Payload: stream.PayloadData}); err != nil {
		return nil, err
	}
	o := &listOrg{id: id}
	for i := range listEndpoints + 1 {
		types := []string{"*"}
		if i == listEndpoints {
			types = []string{rareType}
		}
		e, err := b.store.AddEndpoint(ctx, deliver.Endpoint{
			Org: id, URL: "http://127.0.0.1/", EventTypes: types, Secrets: []deliver.Secret{{Secret: sign.NewSecret()}},
			Timeout: deliver.DefaultTimeout, Retry: deliver.DefaultPolicy, Concurrency: 8,
		}, sqlite.Start{})
		if err != nil {
			return nil, err
		}
		if i < listEndpoints {
			o.all, o.busy = append(o.all, e.Row), e.ID
		} else {
			o.rare, o.odd = e.Row, e.ID
		}
	}
	set, err := b.store.Subscriptions(ctx, id)
	if err != nil {
		return nil, err
	}
	o.version = set.Version()
	o.pos, err = b.store.Position(ctx, id)
	return o, err
}

func (b *listBooks) commit(ctx context.Context, o *listOrg) error {
	now := time.Unix(0, b.now.Load())
	to := o.pos
	to.Created, to.Anchor, to.Incarnation = now, now, 1
	to.Seq += listBatch
	plan := fanout.Plan{Org: o.id, From: o.pos, To: to, Version: o.version}
	for seq := o.pos.Seq + 1; seq <= to.Seq; seq++ {
		b.seen++
		ev := fanout.Planned{
			Event: stream.Event{
				ID: stream.KeyID(o.id, strconv.FormatUint(uint64(seq), 10)), Org: o.id, Seq: seq,
				Stored: now, Time: now, Type: "kind.of.event" + strconv.Itoa(b.rng.IntN(listTypes)), SchemaVersion: "1",
			},
			Endpoints: o.all,
		}
		if b.rng.IntN(listRare) == 0 {
			ev.Type, ev.Endpoints = rareType, append(slices.Clone(o.all), o.rare)
		}
		plan.Events = append(plan.Events, ev)
	}
	written, err := b.store.Commit(ctx, plan)
	if err != nil {
		return err
	}
	o.pos = to
	for _, ev := range written {
		for _, endpoint := range ev.Endpoints {
			b.made++
			if r, ok := b.outcome(deliver.Key{Event: ev.Event, Endpoint: endpoint}, now); ok {
				if err := b.store.Record(ctx, r); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// outcome is what came of a delivery; of half of the pending ones nothing yet.
func (b *listBooks) outcome(k deliver.Key, now time.Time) (deliver.Record, bool) {
	r := deliver.Record{
		Key:     k,
		Attempt: deliver.Attempt{Number: 1, Started: now, Outcome: deliver.Outcome{Class: deliver.OK, Status: 204, Duration: 12 * time.Millisecond}},
		Next:    deliver.Transition{State: deliver.Delivered, Spent: 1},
	}
	switch b.rng.IntN(2 * listFailed) {
	case 0:
		return r, false
	case 1:
		r.Next = deliver.Transition{State: deliver.Pending, Spent: 1, Due: now.Add(8 * time.Hour)}
	case 2, 3:
		r.Next = deliver.Transition{State: deliver.Dead, Reason: deliver.Exhausted, Spent: 1}
	}
	if r.Next.State != deliver.Delivered {
		r.Attempt.Class, r.Attempt.Status = deliver.HTTP5xx, 503
	}
	return r, true
}

// single measures what is asked about one event and one endpoint.
func (b *listBooks) single(ctx context.Context, out io.Writer) error {
	const times = 500
	explain, stats := make([]time.Duration, times), make([]time.Duration, times)
	for i := range times {
		o := b.orgs[b.rng.IntN(listOrgs)]
		if o.pos.Seq == 0 {
			o = b.orgs[0] // of few deliveries, some organizations have none
		}
		id := stream.KeyID(o.id, strconv.FormatInt(1+b.rng.Int64N(int64(o.pos.Seq)), 10))
		began := time.Now()
		if _, err := b.store.Explain(ctx, o.id, sqlite.Subject{ID: id}); err != nil {
			return err
		}
		explain[i] = time.Since(began)
		began = time.Now()
		if _, err := b.store.EndpointStats(ctx, o.id, o.busy); err != nil {
			return err
		}
		stats[i] = time.Since(began)
	}
	for name, took := range map[string][]time.Duration{"explain": explain, "stats": stats} {
		slices.Sort(took)
		fmt.Fprintf(out, "%-8s p50 %s, p99 %s, max %s\n", name, rank(took, 0.5), rank(took, 0.99), took[times-1].Round(10*time.Microsecond))
	}
	return nil
}

// listCase is one combination of filters for one org.
type listCase struct {
	name  string
	org   *listOrg
	f     sqlite.Filter
	took  []time.Duration // of each page
	pages int             // until the first hit, or the end
}

func (b *listBooks) cases(end time.Time) (cases []*listCase) {
	states := map[string]*deliver.State{"": nil}
	for s := deliver.Pending; s <= deliver.Cancelled; s++ {
		states[" status="+s.String()] = &s
	}
	hour, days := end.Add(-time.Hour), [2]time.Time{end.Add(-5 * 24 * time.Hour), end.Add(-4 * 24 * time.Hour)}
	for _, o := range []*listOrg{b.orgs[0], b.orgs[listOrgs/2], b.orgs[listOrgs-1]} {
		for endpoint, id := range map[string]string{"": "", " endpoint=busy": o.busy, " endpoint=odd": o.odd} {
			for _, typ := range []string{"", "kind.of.event3", "kind.*", rareType} {
				for state, s := range states {
					for when, times := range map[string][2]time.Time{"": {}, " since=1h": {hour}, " day=3": days, " until=day3": {1: days[0]}} {
						name := o.id + endpoint
						if typ != "" {
							name += " type=" + typ
						}
						cases = append(cases, &listCase{name: name + state + when, org: o,
							f: sqlite.Filter{Endpoint: id, Type: typ, State: s, Since: times[0], Until: times[1]}})
					}
				}
			}
		}
	}
	slices.SortFunc(cases, func(a, b *listCase) int { return strings.Compare(a.name, b.name) })
	return cases
}

func (b *listBooks) measure(ctx context.Context, out io.Writer, rounds int, each bool, end time.Time) error {
	cases := b.cases(end)
	var all []time.Duration
	for _, c := range cases {
		if err := b.run(ctx, c, rounds); err != nil {
			return err
		}
		slices.Sort(c.took)
		all = append(all, c.took...)
	}
	slices.Sort(all)
	fmt.Fprintf(out, "%d pages of %d combinations: p50 %s, p99 %s, max %s\n\n", len(all), len(cases), rank(all, 0.5), rank(all, 0.99), all[len(all)-1])
	if !each {
		slices.SortFunc(cases, func(a, b *listCase) int { return int(rank(b.took, 0.99) - rank(a.took, 0.99)) })
		printLists(out, "the slowest", cases[:20])
		slices.SortFunc(cases, func(a, b *listCase) int { return b.pages - a.pages })
		printLists(out, "the most pages until the first hit", cases[:20])
		return nil
	}
	printLists(out, "all", cases)
	return nil
}

func printLists(out io.Writer, title string, cases []*listCase) {
	fmt.Fprintf(out, "%-84s %10s %10s %10s %6s\n", title, "p50", "p99", "max", "pages")
	for _, c := range cases {
		fmt.Fprintf(out, "  %-82s %10s %10s %10s %6d\n", c.name, rank(c.took, 0.5), rank(c.took, 0.99), c.took[len(c.took)-1].Round(10*time.Microsecond), c.pages)
	}
	fmt.Fprintln(out)
}

// rank is the smallest of sorted that is not below the part q of them.
func rank(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)].Round(10 * time.Microsecond)
}

// somewhere is a place deep in the list of an org.
func (b *listBooks) somewhere(ctx context.Context, o *listOrg) (deliver.Key, error) {
	until := time.Unix(0, b.now.Load()).Add(-time.Duration(b.rng.Int64N(int64(listWeek))))
	_, next, err := b.store.ListDeliveries(ctx, o.id, sqlite.Filter{Until: until}, 1, deliver.Key{})
	return next, err
}

// run asks for the first page, for pages deep in the list, and follows the
// cursors from the first page to the first hit.
func (b *listBooks) run(ctx context.Context, c *listCase, rounds int) error {
	page := func(after deliver.Key) (int, deliver.Key, error) {
		began := time.Now()
		found, next, err := b.store.ListDeliveries(ctx, c.org.id, c.f, 50, after)
		c.took = append(c.took, time.Since(began))
		return len(found), next, err
	}
	for i := range rounds {
		after := deliver.Key{}
		if i%2 == 1 {
			var err error
			if after, err = b.somewhere(ctx, c.org); err != nil {
				return err
			}
		}
		if _, _, err := page(after); err != nil {
			return err
		}
	}
	for after := (deliver.Key{}); ; {
		found, next, err := page(after)
		if err != nil {
			return err
		}
		if c.pages++; found > 0 || next == (deliver.Key{}) {
			return nil
		}
		after = next
	}
}
