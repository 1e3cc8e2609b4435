package main

import (
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/spf13/cobra"
)

func (a *app) endpointTest() *cobra.Command {
	return &cobra.Command{
		Use:   "test ORG ENDPOINT",
		Short: "Send one signed test request now, and show the answer",
		Long: `Send one signed request of the type webhook.test to an endpoint now, also to a
disabled one, and show the answer. It makes no event and no delivery. The exit
status is 1 if the endpoint did not take it.`,
		Example: `  grapnel endpoint test acme ep_01M7YRRW6G0000000000000001
  grapnel endpoint test acme ep_01M7YRRW6G0000000000000001 --json`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			at, err := a.client().TestEndpoint(c.Context(), args[0], args[1])
			if err != nil {
				return err
			}
			if err := a.show(at, func() { a.printTest(at) }); err != nil {
				return err
			}
			if at.ErrorClass != "" {
				return errReported
			}
			return nil
		},
	}
}

func (a *app) printTest(at httpapi.AttemptBody) {
	var f facts
	f.add("result", result(at))
	f.add("took", took(at))
	f.add("error", at.Error)
	f.print(a.out, a.ink())
	a.printAnswer("\nThe answer:\n", at)
}

func (a *app) deliveryCancel() *cobra.Command {
	return &cobra.Command{
		Use:   "cancel ORG DELIVERY…",
		Short: "Cancel pending deliveries: they are not attempted again",
		Long: `Cancel pending deliveries: they are not attempted again, unless somebody retries
them. A request that is under way goes on, and is kept as an attempt.`,
		Example: `  grapnel delivery cancel acme dlv_01M7YRRX5R0000000020000001
  grapnel delivery cancel acme dlv_01M7YRRX5R0000000020000001 dlv_01M7YRRX5R0000000020000002`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			return a.eachDelivery(args[1:], "", func(id string) (httpapi.DeliveryBody, error) {
				return a.client().CancelDelivery(c.Context(), args[0], id)
			})
		},
	}
}

func (a *app) eventReplay() *cobra.Command {
	var endpoint string
	c := &cobra.Command{
		Use:   "replay ORG EVENT",
		Short: "Send an event again to every endpoint that had it, or to one",
		Long: `Send an event again to every endpoint that had it, or to one. It is the same
delivery, with a fresh budget of attempts, and the receiver sees the same
webhook-id.`,
		Example: `  grapnel event replay acme evt_0NKMVFQM7Z3XEJ2MXWP06B89Q0
  grapnel event replay acme 17 --endpoint ep_01M7YRRW6G0000000000000001`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			all, err := a.client().ReplayEvent(c.Context(), args[0], args[1], endpoint)
			if err != nil {
				return err
			}
			return a.show(all, func() {
				t := &table{columns: []string{"DELIVERY", "STATUS", ">TRIES", "TYPE", "ENDPOINT"}}
				for _, d := range all.Data {
					t.add(d.ID, deliveryState(d), d.AttemptCount, d.Type, d.EndpointID)
				}
				t.print(a.out, a.ink())
				if all.NextCursor != nil {
					a.printf("And others: grapnel delivery list %s --event %s --cursor %s\n", args[0], all.Data[0].EventID, *all.NextCursor)
				}
			})
		},
	}
	c.Flags().StringVar(&endpoint, "endpoint", "", "only to the endpoint of this `id`")
	return c
}
