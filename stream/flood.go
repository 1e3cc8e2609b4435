package stream

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// Flood publishes n messages of one type to the organization's stream as a plain
// NATS publisher does, one by one, with up to inFlight of them unanswered, and
// returns when all are acknowledged. Nothing is checked and nothing is
// published again: it is the measure for the other ways to append. The first
// message that is not acknowledged makes the error.
func (c *Client) Flood(ctx context.Context, org, typ string, n, inFlight int, data func(i int) []byte) error {
	var failed atomic.Pointer[error]
	js, err := c.nc.JetStream(nats.PublishAsyncMaxPending(inFlight), nats.PublishAsyncTimeout(appendTimeout),
		nats.PublishAsyncErrHandler(func(_ nats.JetStream, _ *nats.Msg, err error) { failed.CompareAndSwap(nil, &err) }))
	if err != nil {
		return fmt.Errorf("flood %s: %w", org, err)
	}
	defer js.CleanupPublisher()
	subject := c.names.Subject(org, typ)
	for i := range n {
		// A stall of the publisher is a full window: it is what limits the rate.
		if _, err := js.PublishAsync(subject, data(i), nats.StallWait(appendTimeout)); err != nil {
			return fmt.Errorf("flood %s: message %d: %w", org, i, err)
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(appendTimeout):
		return fmt.Errorf("flood %s: %w", org, errors.Join(ErrUnavailable, ctx.Err()))
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := failed.Load(); err != nil {
		return fmt.Errorf("flood %s: %w", org, *err)
	}
	return nil
}
