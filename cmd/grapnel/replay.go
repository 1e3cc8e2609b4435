package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/client"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/spf13/cobra"
)

func (a *app) endpointReplay() *cobra.Command {
	var (
		in           httpapi.ReplayCreate
		since, until string
	)
	c := &cobra.Command{
		Use:   "replay ORG ENDPOINT",
		Short: "Send an endpoint again what matches, as a job",
		Long: `Send an endpoint again what matches: the deliveries that are dead, or with
--status those that are delivered or cancelled. They become pending with a fresh
budget of attempts and their history kept, the oldest event first. With
--status missing the endpoint gets what it would get now and never had, such as
what came before it was made.

It is a job of the daemon's: it goes on by itself, also after a restart, and gives
way to live traffic. What is fanned out later is not part of it. With --dry-run
it is only counted.`,
		Example: `  grapnel endpoint replay acme ep_01M7YRRW6G0000000000000001 --dry-run
  grapnel endpoint replay acme ep_01M7YRRW6G0000000000000001 --status delivered --type 'invoice.*' --since 6h --until 2h --rate 20`,
		Args: cobra.ExactArgs(2),
	}
	f := c.Flags()
	f.StringSliceVar((*[]string)(&in.Status), "status", []string{"dead"}, "deliveries in this `state`: dead, delivered or cancelled, or several of them; or missing")
	f.StringArrayVar(&in.EventTypes, "type", nil, "event `type`: exact, a prefix such as 'invoice.*', or '*' (repeatable; default all)")
	f.Uint64Var(&in.FromSeq, "from-seq", 0, "only events from this `sequence` on")
	f.Uint64Var(&in.ToSeq, "to-seq", 0, "only events up to this `sequence`")
	f.IntVar(&in.Rate, "rate", httpapi.DefaultReplayRate, "deliveries a second at most, 1 to 1000")
	f.BoolVar(&in.DryRun, "dry-run", false, "only count")
	periodFlags(c, &since, &until)
	c.RunE = func(c *cobra.Command, args []string) error {
		from, to, err := period(since, until)
		if err != nil {
			return err
		}
		if in.Rate < 1 { // which the API would take for the default
			return &usageError{fmt.Errorf("--rate %d: want 1 to 1000", in.Rate)}
		}
		if !from.IsZero() {
			in.Since = &from
		}
		if !to.IsZero() {
			in.Until = &to
		}
		r, err := a.client().StartReplay(c.Context(), args[0], args[1], in)
		if err != nil {
			return err
		}
		return a.show(r, func() {
			if !in.DryRun {
				a.hasBegun(r)
				return
			}
			a.printf("Would be sent again: %d\n", r.Replayed)
			if r.Skipped > 0 {
				a.printf("Would be left out, since they were rejected, kept back or skipped: %d\n", r.Skipped)
			}
			if r.Lost > 0 {
				a.printf("Cannot be sent again, nobody has their payload any more: %d\n", r.Lost)
			}
		})
	}
	return c
}

func (a *app) endpointRecover() *cobra.Command {
	var since string
	rate := httpapi.DefaultReplayRate
	c := &cobra.Command{
		Use:   "recover ORG ENDPOINT",
		Short: "Send an endpoint again all that has died since an outage began",
		Long: `Send an endpoint again all that is dead of what was stored since an outage began.
It is "endpoint replay --status dead --since TIME", in a word.`,
		Example: `  grapnel endpoint recover acme ep_01M7YRRW6G0000000000000001 --since 6h
  grapnel endpoint recover acme ep_01M7YRRW6G0000000000000001 --since 2026-11-20T00:00:00Z --rate 500`,
		Args: cobra.ExactArgs(2),
	}
	c.Flags().StringVar(&since, "since", "", "when the outage began: an RFC 3339 `time`, or how long ago (6h)")
	c.Flags().IntVar(&rate, "rate", rate, "deliveries a second at most, 1 to 1000")
	c.RunE = func(c *cobra.Command, args []string) error {
		from, _, err := period(since, "")
		switch {
		case err != nil:
			return err
		case from.IsZero():
			return &usageError{errors.New("--since: say when the outage began")}
		case rate < 1:
			return &usageError{fmt.Errorf("--rate %d: want 1 to 1000", rate)}
		}
		r, err := a.client().StartReplay(c.Context(), args[0], args[1], httpapi.ReplayCreate{Status: httpapi.Statuses{"dead"}, Since: &from, Rate: rate})
		if err != nil {
			return err
		}
		return a.show(r, func() { a.hasBegun(r) })
	}
	return c
}

func (a *app) hasBegun(r httpapi.ReplayBody) {
	a.printf("Replay %s has begun. See how far it is: grapnel replay show %s %s --watch\n", r.ID, r.Org, r.ID)
}

func (a *app) replayCommand() *cobra.Command {
	return family("replay", "Watch and stop jobs that send again", `  grapnel replay list acme
  grapnel replay show acme rpl_01M7YRRX5R0000000000000001`,
		a.replayList(), a.replayShow(),
		a.replaySwitch("pause", "Pause a replay; what it has made pending is sent", (*client.Client).PauseReplay),
		a.replaySwitch("resume", "Let a paused replay go on", (*client.Client).ResumeReplay),
		a.replaySwitch("cancel", "End a replay; what it has made pending is sent", (*client.Client).CancelReplay))
}

func (a *app) replayList() *cobra.Command {
	var l listFlags
	c := &cobra.Command{
		Use:   "list ORG",
		Short: "List an organization's replays, newest first",
		Example: `  grapnel replay list acme
  grapnel replay list acme --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			all, err := collect(c.Context(), l, func(ctx context.Context, p client.Page) (httpapi.List[httpapi.ReplayBody], error) {
				return a.client().Replays(ctx, args[0], p)
			})
			if err != nil {
				return err
			}
			t := &table{columns: []string{"REPLAY", "STATE", "OF", "ENDPOINT", ">REPLAYED", ">SKIPPED", ">LOST", "STARTED"}}
			return list(a, all, t, func(r httpapi.ReplayBody) {
				t.add(r.ID, replayState(r), strings.Join(r.Status, ","), r.EndpointID, r.Replayed, r.Skipped, r.Lost, momentOf(r.CreatedAt))
			}, fmt.Sprintf("%s has no replays. Begin one: grapnel endpoint replay %s ENDPOINT", args[0], args[0]))
		},
	}
	l.define(c)
	return c
}

// replayState is a replay's state in words.
func replayState(r httpapi.ReplayBody) string {
	if why := r.Waiting + r.Why; why != "" {
		return r.State + " (" + why + ")"
	}
	return r.State
}

func (a *app) replayShow() *cobra.Command {
	var watch bool
	c := &cobra.Command{
		Use:   "show ORG REPLAY",
		Short: "Show how far a replay has come, and what came of it",
		Long: `Show how far a replay has come, and what came of it. With --watch a line is
printed each second until it is finished, and then the whole.`,
		Example: `  grapnel replay show acme rpl_01M7YRRX5R0000000000000001
  grapnel replay show acme rpl_01M7YRRX5R0000000000000001 --watch`,
		Args: cobra.ExactArgs(2),
	}
	c.Flags().BoolVar(&watch, "watch", false, "print its progress until it is finished")
	c.RunE = func(c *cobra.Command, args []string) error {
		api, ctx := a.client(), c.Context()
		r, err := api.Replay(ctx, args[0], args[1])
		for ; err == nil && watch && r.FinishedAt == nil; r, err = api.Replay(ctx, args[0], args[1]) {
			if err := a.show(r, func() { a.printf("%s\n", replayLine(r)) }); err != nil {
				return err
			}
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
				return nil // whoever watches has seen enough
			}
		}
		if err != nil {
			return err
		}
		return a.show(r, func() { a.printReplay(r) })
	}
	return c
}

// replayLine is how far a replay is, in a line.
func replayLine(r httpapi.ReplayBody) string {
	line := fmt.Sprintf("%s: %d replayed", replayState(r), r.Replayed)
	if r.Skipped+r.Lost > 0 {
		line += fmt.Sprintf(", %d skipped, %d lost", r.Skipped, r.Lost)
	}
	if r.PerSecond > 0 {
		line += fmt.Sprintf(", %.1f a second", r.PerSecond)
	}
	if p := replayProgress(r); p != "" {
		line += ", " + p
	}
	return line
}

// replayProgress is the part that is done and what the rest takes, "" when nobody
// knows.
func replayProgress(r httpapi.ReplayBody) string {
	if r.Progress == nil || r.FinishedAt != nil {
		return ""
	}
	text := fmt.Sprintf("%.1f %%", *r.Progress*100)
	if r.Expected != nil {
		text += fmt.Sprintf(" of %d", *r.Expected)
	}
	if r.ETASeconds != nil {
		text += ", " + span(time.Duration(*r.ETASeconds*float64(time.Second))) + " left"
	}
	return text
}

func (a *app) printReplay(r httpapi.ReplayBody) {
	var f facts
	f.add("replay", r.ID)
	f.add("org", r.Org)
	f.add("endpoint", r.EndpointID)
	f.add("state", replayState(r))
	f.add("progress", replayProgress(r))
	f.add("sends", "what is "+strings.Join(r.Status, " or "))
	f.add("types", strings.Join(r.EventTypes, ", "))
	f.add("since", momentOf(r.Since))
	f.add("until", momentOf(r.Until))
	f.add("sequences", sequences(r.FromSeq, r.ToSeq))
	f.add("rate", fmt.Sprintf("%d a second at most", r.Rate))
	f.add("reached", reachedRate(r))
	f.add("matched", r.Matched)
	f.add("replayed", r.Replayed)
	f.add("skipped", skipped(r))
	f.add("lost", r.Lost)
	for i, typ := range slices.SortedFunc(maps.Keys(r.ByType), func(a, b string) int {
		return cmp.Or(cmp.Compare(r.ByType[b], r.ByType[a]), strings.Compare(a, b))
	}) {
		const most = 10
		if i == most {
			f.add("", fmt.Sprintf("and %d further types", len(r.ByType)-most))
			break
		}
		f.add("of type "+typ, r.ByType[typ])
	}
	f.add("first event", r.FirstEventID)
	f.add("last event", r.LastEventID)
	f.add("started by", r.StartedBy)
	f.add("started", momentOf(r.CreatedAt))
	f.add("updated", momentOf(r.UpdatedAt))
	f.add("finished", momentOf(r.FinishedAt))
	f.print(a.out, a.ink())
}

// sequences is a range of them in words, "" for all.
func sequences(from, to uint64) string {
	switch {
	case from == 0 && to == 0:
		return ""
	case to == 0:
		return fmt.Sprintf("from %d on", from)
	case from == 0:
		return fmt.Sprintf("up to %d", to)
	}
	return fmt.Sprintf("%d to %d", from, to)
}

func reachedRate(r httpapi.ReplayBody) string {
	if r.PerSecond == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f a second", r.PerSecond)
}

// skipped is how many were left out, and why.
func skipped(r httpapi.ReplayBody) string {
	if r.Skips == nil {
		return fmt.Sprint(r.Skipped)
	}
	var why []string
	for text, n := range map[string]int64{
		"in another state by then": r.Skips.Changed, "removed by retention": r.Skips.Removed, "withheld": r.Skips.Withheld,
	} {
		if n > 0 {
			why = append(why, fmt.Sprintf("%d %s", n, text))
		}
	}
	slices.Sort(why)
	return fmt.Sprintf("%d (%s)", r.Skipped, strings.Join(why, ", "))
}

func (a *app) replaySwitch(verb, short string, do func(_ *client.Client, ctx context.Context, org, id string) (httpapi.ReplayBody, error)) *cobra.Command {
	return &cobra.Command{
		Use:   verb + " ORG REPLAY",
		Short: short,
		Example: fmt.Sprintf(`  grapnel replay %[1]s acme rpl_01M7YRRX5R0000000000000001
  grapnel replay %[1]s acme rpl_01M7YRRX5R0000000000000001 --json`, verb),
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			r, err := do(a.client(), c.Context(), args[0], args[1])
			if err != nil {
				return err
			}
			return a.show(r, func() { a.printf("Replay %s is %s; replayed so far: %d\n", r.ID, replayState(r), r.Replayed) })
		},
	}
}
