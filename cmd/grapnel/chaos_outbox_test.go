//go:build unix

package main

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/client"
	"github.com/grapnel-hooks/grapnel/stream"
)

// testTold: what is told of a transition is told once, whenever the daemon dies:
// before the transition is committed, after it, and between the append and the
// moment from which the outbox knows of that.
func testTold(t *testing.T, bin string) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	hooks := many(2, 0, func(i int) answer {
		return answer{status: []int{http.StatusGone, http.StatusNoContent}[i]}
	})
	hooks[1].types = []string{"webhook.*"}
	s, l := setStage(ctx, t, bin, hooks)
	s.v.stop(ctx, l)

	l = s.v.run(ctx, failpointEnv("record.before", "kill", 1))
	s.append(ctx, t, "acme", "one")
	l.wait(ctx, t)
	s.v.start(failpointEnv("record.after", "kill", 1)).wait(ctx, t)
	for range 2 {
		s.v.start(failpointEnv("announce.appended", "kill", 1)).wait(ctx, t)
	}
	l = s.v.run(ctx)
	eventually(ctx, t, "both to be told", func() bool {
		list, err := s.v.client.Deliveries(ctx, "acme", client.DeliveryQuery{Endpoint: hooks[1].id, Status: "delivered"})
		return err == nil && len(list.Data) == 2
	})
	events, err := s.v.client.Events(ctx, "acme", client.EventQuery{Type: "webhook.*"})
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]int{}
	for _, e := range events.Data {
		told[e.Type]++
	}
	if len(events.Data) != 2 || told[stream.DeliveryDead] != 1 || told[stream.EndpointDisabled] != 1 {
		t.Errorf("the stream has %v, want each once", told)
	}
	fsck(ctx, t, s.v)
	s.v.stop(ctx, l)
}
