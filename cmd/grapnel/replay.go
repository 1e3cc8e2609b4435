package main

import (
	"context"
	"fmt"
	"strings"

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
	f.StringVar(&in.Status, "status", "dead", "deliveries in this `state`: dead, delivered or cancelled; or missing")
	f.StringArrayVar(&in.EventTypes, "type", nil, "event `type`: exact, a prefix such as 'invoice.*', or '*' (repeatable; default all)")
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
				a.printf("Replay %s has begun. See how far it is: grapnel replay show %s %s\n", r.ID, r.Org, r.ID)
				return
			}
			a.printf("Would be sent again: %d\n", r.Replayed)
			if r.Lost > 0 {
				a.printf("Cannot be sent again, nobody has their payload any more: %d\n", r.Lost)
			}
		})
	}
	return c
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
				t.add(r.ID, replayState(r), r.Status, r.EndpointID, r.Replayed, r.Skipped, r.Lost, momentOf(r.CreatedAt))
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
	return &cobra.Command{
		Use:   "show ORG REPLAY",
		Short: "Show how far a replay has come, and what came of it",
		Example: `  grapnel replay show acme rpl_01M7YRRX5R0000000000000001
  grapnel replay show acme rpl_01M7YRRX5R0000000000000001 --json`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			r, err := a.client().Replay(c.Context(), args[0], args[1])
			if err != nil {
				return err
			}
			return a.show(r, func() { a.printReplay(r) })
		},
	}
}

func (a *app) printReplay(r httpapi.ReplayBody) {
	var f facts
	f.add("replay", r.ID)
	f.add("org", r.Org)
	f.add("endpoint", r.EndpointID)
	f.add("state", replayState(r))
	f.add("sends", "what is "+r.Status)
	f.add("types", strings.Join(r.EventTypes, ", "))
	f.add("since", momentOf(r.Since))
	f.add("until", momentOf(r.Until))
	f.add("rate", fmt.Sprintf("%d a second at most", r.Rate))
	f.add("matched", r.Matched)
	f.add("replayed", r.Replayed)
	f.add("skipped", r.Skipped)
	f.add("lost", r.Lost)
	f.add("started by", r.StartedBy)
	f.add("started", momentOf(r.CreatedAt))
	f.add("updated", momentOf(r.UpdatedAt))
	f.add("finished", momentOf(r.FinishedAt))
	f.print(a.out, a.ink())
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
