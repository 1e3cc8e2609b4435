package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/client"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/spf13/cobra"
)

func (a *app) deliveryCommand() *cobra.Command {
	return family("delivery", "Look at deliveries, retry and cancel them", `  grapnel delivery list acme --status dead
  grapnel delivery retry acme --status dead --all`,
		a.deliveryList(), a.deliveryShow(), a.deliveryRetry(), a.deliveryCancel())
}

func (a *app) deliveryList() *cobra.Command {
	var (
		l            listFlags
		q            client.DeliveryQuery
		since, until string
	)
	c := &cobra.Command{
		Use:   "list ORG",
		Short: "List an organization's deliveries, those of the newest events first",
		Example: `  grapnel delivery list acme --status dead
  grapnel delivery list acme --endpoint ep_01M7YRRW6G0000000000000001 --since 1h`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) (err error) {
			if q.Since, q.Until, err = period(since, until); err != nil {
				return err
			}
			all, err := collect(c.Context(), l, func(ctx context.Context, p client.Page) (httpapi.List[httpapi.DeliveryBody], error) {
				q.Page = p
				return a.client().Deliveries(ctx, args[0], q)
			})
			if err != nil {
				return err
			}
			t := &table{columns: []string{"DELIVERY", "STATUS", ">TRIES", ">SEQ", "TYPE", "ENDPOINT", "NEXT"}}
			return list(a, all, t, func(d httpapi.DeliveryBody) {
				t.add(d.ID, deliveryState(d), d.AttemptCount, d.Seq, d.Type, d.EndpointID, nextAttempt(d))
			}, fmt.Sprintf("No such deliveries in %s. What was appended: grapnel event list %s", args[0], args[0]))
		},
	}
	l.define(c)
	deliveryFilter(c, &q)
	periodFlags(c, &since, &until)
	return c
}

func deliveryFilter(c *cobra.Command, q *client.DeliveryQuery) {
	c.Flags().StringVar(&q.Status, "status", "", "pending, delivered, dead or cancelled")
	c.Flags().StringVar(&q.Endpoint, "endpoint", "", "endpoint `id`")
	c.Flags().StringVar(&q.Event, "event", "", "event `id`")
	c.Flags().StringVar(&q.Type, "type", "", "event `type`")
}

// deliveryState is a delivery's state in words.
func deliveryState(d httpapi.DeliveryBody) string {
	if d.Reason != "" {
		return d.Status + " (" + d.Reason + ")"
	}
	return d.Status
}

func nextAttempt(d httpapi.DeliveryBody) string {
	switch {
	case d.NextAttemptAt != nil:
		return moment(*d.NextAttemptAt)
	case d.Status == "pending":
		return "at once"
	}
	return ""
}

func (a *app) deliveryShow() *cobra.Command {
	var verbose bool
	var number int
	c := &cobra.Command{
		Use:   "show ORG DELIVERY",
		Short: "Show a delivery and its attempts",
		Long: `Show a delivery and its attempts. With --verbose, or --attempt for one of them,
also each request as it was sent, where its time went, and the answer. What is
secret is shown as [redacted]: signatures, credentials, and the values of the
endpoint's own headers and of its URL's query.`,
		Example: `  grapnel delivery show acme dlv_01M7YRRX5R0000000020000001 --attempt 2
  grapnel delivery show acme dlv_01M7YRRX5R0000000020000001 --json`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			d, err := a.client().Delivery(c.Context(), args[0], args[1])
			if err != nil {
				return err
			}
			if number != 0 {
				d.Attempts = slices.DeleteFunc(d.Attempts, func(at httpapi.AttemptBody) bool { return at.Number != number })
				if len(d.Attempts) == 0 {
					return fmt.Errorf("delivery %s has no attempt %d: it has made %d", d.ID, number, d.AttemptCount)
				}
			}
			return a.show(d, func() { a.printDelivery(d, verbose || number != 0) })
		},
	}
	c.Flags().BoolVar(&verbose, "verbose", false, "each request and answer")
	c.Flags().IntVar(&number, "attempt", 0, "request and answer of the attempt of this `number` alone")
	return c
}

func (a *app) printDelivery(d httpapi.DeliveryDetail, verbose bool) {
	var f facts
	f.add("delivery", d.ID)
	f.add("org", d.Org)
	f.add("status", deliveryState(d.DeliveryBody))
	f.add("next attempt", nextAttempt(d.DeliveryBody))
	f.add("event", fmt.Sprintf("%s (%s, seq %d)", d.EventID, d.Type, d.Seq))
	f.add("endpoint", d.EndpointID)
	f.add("stored", moment(d.StoredAt))
	f.add("fanned out", moment(d.CreatedAt))
	f.print(a.out, a.ink())
	if len(d.Attempts) == 0 {
		a.printf("\nNo attempts yet.\n")
		return
	}
	a.printf("\n")
	t := &table{columns: []string{">#", "TIME", "TRIGGER", "RESULT", ">TOOK", "ERROR"}}
	for _, at := range d.Attempts {
		t.add(at.Number, at.Time.UTC().Format("2006-01-02T15:04:05.000Z"), at.Trigger, result(at), took(at), at.Error)
	}
	t.print(a.out, a.ink())
	if verbose {
		for _, at := range d.Attempts {
			a.printAttempt(at)
		}
		return
	}
	last := d.Attempts[len(d.Attempts)-1]
	a.printAnswer("\nThe last answer:\n", last)
}

// printAnswer shows what a receiver answered, under a title; nothing when no
// answer came.
func (a *app) printAnswer(title string, at httpapi.AttemptBody) {
	if len(at.ResponseHeaders) == 0 && at.ResponseBody == "" {
		return
	}
	a.printf("%s", title)
	for _, name := range slices.Sorted(maps.Keys(at.ResponseHeaders)) {
		a.printf("  %s: %s\n", name, oneLine(at.ResponseHeaders[name]))
	}
	if at.ResponseBody != "" {
		a.printf("\n%s\n", printable(at.ResponseBody))
	}
	if at.ResponseTruncated {
		a.printf("%s\n", a.ink().faint("(there was more)"))
	}
}

// result is what came of an attempt, in a word or two.
func result(at httpapi.AttemptBody) string {
	switch {
	case at.ErrorClass == "":
		return fmt.Sprint(at.StatusCode)
	case at.StatusCode != 0:
		return fmt.Sprintf("%d %s", at.StatusCode, at.ErrorClass)
	}
	return at.ErrorClass
}

func took(at httpapi.AttemptBody) string {
	return time.Duration(at.DurationMS * float64(time.Millisecond)).Round(100 * time.Microsecond).String()
}

// printable is a receiver's text without what could take over a terminal.
func printable(s string) string {
	out := []rune(s)
	for i, r := range out {
		if r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 {
			out[i] = '�'
		}
	}
	return string(out)
}

func (a *app) deliveryRetry() *cobra.Command {
	var (
		q    client.DeliveryQuery
		all  bool
		most int
	)
	c := &cobra.Command{
		Use:   "retry ORG DELIVERY… | retry ORG --status dead --all",
		Short: "Send deliveries again, with a fresh budget of attempts",
		Example: `  grapnel delivery retry acme dlv_01M7YRRX5R0000000020000001
  grapnel delivery retry acme --status dead --all --endpoint ep_01M7YRRW6G0000000000000001`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case all && len(args) > 1:
				return &usageError{errors.New("name deliveries, or use --all, not both")}
			case all && q.Status == "":
				return &usageError{errors.New("--all needs --status, such as --status dead")}
			case all && most < 1:
				return &usageError{fmt.Errorf("--limit %d: want at least 1", most)}
			case !all && len(args) == 1:
				return &usageError{errors.New("name deliveries, or use --status dead --all")}
			case all:
				return a.retryAll(c.Context(), args[0], q, most)
			}
			return a.eachDelivery(args[1:], " again", func(id string) (httpapi.DeliveryBody, error) {
				return a.client().RetryDelivery(c.Context(), args[0], id)
			})
		},
	}
	deliveryFilter(c, &q)
	c.Flags().BoolVar(&all, "all", false, "all that the filters let through")
	c.Flags().IntVar(&most, "limit", 10_000, "with --all: how many at most")
	return c
}

// eachDelivery changes the named deliveries and stops at the first that it
// cannot. What is said of each ends with the text.
func (a *app) eachDelivery(ids []string, end string, change func(id string) (httpapi.DeliveryBody, error)) error {
	done := []httpapi.DeliveryBody{}
	for _, id := range ids {
		d, err := change(id)
		if err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
		done = append(done, d)
		if !a.json {
			a.printf("Delivery %s is %s%s\n", d.ID, a.ink().state(deliveryState(d)), end)
		}
	}
	return a.show(httpapi.List[httpapi.DeliveryBody]{Data: done}, func() {})
}

// retryAll retries page by page. It goes by the list's cursor, so that what it
// has retried does not come again when it has failed again meanwhile.
func (a *app) retryAll(ctx context.Context, org string, q client.DeliveryQuery, most int) error {
	client := a.client()
	q.Limit = 250
	retried, skipped := 0, 0
	for more := true; more && retried < most; {
		page, err := client.Deliveries(ctx, org, q)
		if err != nil {
			return err
		}
		for _, d := range page.Data[:min(len(page.Data), most-retried)] {
			_, err := client.RetryDelivery(ctx, org, d.ID)
			var p *httpapi.Problem
			switch {
			case err == nil:
				retried++
			case errors.As(err, &p) && (p.Status == 404 || p.Status == 409): // gone, or its endpoint is
				skipped++
				fmt.Fprintf(a.err, "%s: %v\n", d.ID, err)
			default:
				return fmt.Errorf("%s, after %d were retried: %w", d.ID, retried, err)
			}
		}
		if more = page.NextCursor != nil; more {
			q.Cursor = *page.NextCursor
		}
	}
	report := struct {
		Retried int `json:"retried"`
		Skipped int `json:"skipped"`
	}{retried, skipped}
	return a.show(report, func() {
		if retried == 0 && skipped == 0 {
			a.printf("No such deliveries in %s; nothing to retry.\n", org)
			return
		}
		a.printf("Pending again: %d\n", retried)
		if skipped > 0 {
			a.printf("Not to be retried: %d\n", skipped)
		}
	})
}
