package stream

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Wake-ups that may wait until the callback has taken them.
const (
	maxWakes     = 1 << 16
	maxWakeBytes = 64 << 20
)

// advisories are what the server says of streams that come and go.
const advisories = "$JS.EVENT.ADVISORY.STREAM."

// Wake is the hint that an organization's stream has something new. It may
// come before the message can be read, twice, or never.
type Wake struct {
	Org  string
	Seq  Seq       // of the new message; a hint, 0 when unknown
	Time time.Time // when it was stored; zero when unknown
}

// OnWake calls f for each message that a stream stores from now on, one at a
// time and from the connection's goroutine: f must be quick. Wake-ups that come
// too fast are dropped, and OnState's functions are called instead.
func (c *Client) OnWake(f func(Wake)) error {
	sub, err := c.nc.Subscribe(c.names.WakeFilter(), func(m *nats.Msg) {
		org, ok := c.names.WakeOrg(m.Subject)
		if !ok {
			return
		}
		w := Wake{Org: org}
		if seq, err := number(m.Header, headerSequence); err == nil {
			w.Seq = Seq(seq)
			c.heard(c.names.Stream(org), w.Seq)
		}
		if t, err := time.Parse(time.RFC3339Nano, last(m.Header, headerTime)); err == nil {
			w.Time = t.UTC()
		}
		f(w)
	})
	if err != nil {
		return fmt.Errorf("subscribe to wake-ups: %w", err)
	}
	if err := sub.SetPendingLimits(maxWakes, maxWakeBytes); err != nil {
		return fmt.Errorf("subscribe to wake-ups: %w", err)
	}
	c.subscribed()
	return nil
}

// subscribed waits until the server knows of a new subscription. While the broker
// is away there is nothing to wait for: subscriptions are made again with
// each connection, before its state is told.
func (c *Client) subscribed() {
	ctx, cancel := c.bounded(context.Background(), requestTimeout)
	defer cancel()
	if c.nc.IsConnected() && c.nc.FlushWithContext(ctx) != nil {
		c.changed()
	}
}

// OnStream calls f when an organization's stream was created, changed or
// deleted, by whomever. Like wake-ups, it is a hint that may get lost.
func (c *Client) OnStream(f func(org string, created bool)) error {
	for _, what := range []string{"CREATED.", "UPDATED.", "DELETED."} {
		_, err := c.nc.Subscribe(advisories+what+"*", func(m *nats.Msg) {
			name, _ := strings.CutPrefix(m.Subject, advisories+what)
			org, ok := c.names.Org(name)
			if !ok {
				return
			}
			if what != "UPDATED." {
				c.forgetNewest(name)
			}
			f(org, what == "CREATED.")
		})
		if err != nil {
			return fmt.Errorf("subscribe to stream advisories: %w", err)
		}
	}
	c.subscribed()
	return nil
}
