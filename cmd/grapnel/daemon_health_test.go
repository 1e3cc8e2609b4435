package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/delivertest"
)

// A receiver is down: five attempts, and no more, across a restart. When it is
// up again and somebody asks for one delivery, all of them go, the oldest first.
func TestOutage(t *testing.T) {
	r, told := delivertest.NewReceiver(), delivertest.NewReceiver()
	r.Otherwise(delivertest.Status(503))
	told.Otherwise(delivertest.Status(204))
	dir := shortDir(t)
	l := live(t, dir)
	l.addOrg(t, httpapi.Org{ID: "acme", Payload: "data"})
	ep := l.endpoint(t, r.Start(t), func(e *httpapi.NewEndpoint) {
		e.EventTypes = []string{"a"}
		e.Retry = deliver.Policy{Initial: time.Hour, Multiplier: 2, MaxInterval: 8 * time.Hour, Attempts: 10}
	})
	l.endpoint(t, told.Start(t), func(e *httpapi.NewEndpoint) { e.EventTypes = []string{"webhook.*"} })
	const events = 40
	for i := range events {
		if status := l.ask(t, "POST", "/api/v1/orgs/acme/events", fmt.Sprintf(`{"type":"a","data":{"n":%d}}`, i), "", nil); status != 201 {
			t.Fatalf("event %d: %d", i, status)
		}
	}
	shown := func() (e httpapi.EndpointBody) {
		t.Helper()
		if status := l.ask(t, "GET", "/api/v1/orgs/acme/endpoints/"+ep.ID, "", "", &e); status != 200 {
			t.Fatalf("endpoint: %d", status)
		}
		return e
	}
	failing := func(when string) {
		t.Helper()
		until(t, when+": failing", func() bool { return shown().Health == "failing" })
		e := shown()
		if e.ConsecutiveFailures != deliver.FailuresToOpen || e.FailingSince == nil || e.NextProbeAt == nil || e.DisablesAt == nil {
			t.Fatalf("%s: %+v", when, e.ConditionBody)
		}
		if wait := time.Until(*e.NextProbeAt); wait < 45*time.Minute || wait > 75*time.Minute {
			t.Errorf("%s: the next probe comes in %v, want an hour", when, wait)
		}
		if lasts := e.DisablesAt.Sub(*e.FailingSince); lasts != deliver.DisableAfter {
			t.Errorf("%s: it is disabled after %v", when, lasts)
		}
	}
	failing("before")
	l.end()
	l = live(t, dir)
	failing("after a restart")
	until(t, "all are pending", func() bool {
		st, err := l.EndpointStats(t.Context(), "acme", ep.ID)
		return err == nil && st.Pending == events && st.Condition == deliver.Failing
	})
	if n := len(r.Requests()); n != deliver.FailuresToOpen {
		t.Errorf("%d requests at a receiver that is down, want %d", n, deliver.FailuresToOpen)
	}

	r.Otherwise(delivertest.Status(204))
	pending := deliver.Pending
	ds, _, err := l.Deliveries(t.Context(), "acme", httpapi.DeliveryFilter{State: &pending}, deliver.Key{}, 250)
	ds = slices.DeleteFunc(ds, func(d deliver.Delivery) bool { return d.Endpoint != ep.ID }) // the other is still being told
	if err != nil || len(ds) != events {
		t.Fatalf("deliveries: %v, %v", ds, err)
	}
	if status := l.ask(t, "POST", path("acme", "deliveries", ds[0].ID(ds[0].Stored), "retry"), "", "", nil); status != 200 && status != 202 {
		t.Fatalf("retry: %d", status)
	}
	until(t, "healthy", func() bool {
		e := shown()
		return e.Health == "healthy" && e.ConsecutiveFailures == 0 && e.FailingSince == nil
	})
	until(t, "none is pending", func() bool {
		st, err := l.EndpointStats(t.Context(), "acme", ep.ID)
		return err == nil && st.Pending == 0 && st.Dead == 0
	})
	var order []int
	for _, q := range r.Requests()[deliver.FailuresToOpen+1:] {
		var body struct{ Data struct{ N int } }
		if err := json.Unmarshal(q.Body, &body); err != nil {
			t.Fatal(err)
		}
		order = append(order, body.Data.N)
	}
	if len(order) != events-1 || !slices.IsSorted(order) {
		t.Errorf("after the probe: %v, want the other %d, the oldest first", order, events-1)
	}
	until(t, "somebody was told", func() bool { return len(told.Requests()) >= 2 })
	var types []string
	for _, q := range told.Requests() {
		var body struct{ Type string }
		if err := json.Unmarshal(q.Body, &body); err != nil {
			t.Fatal(err)
		}
		types = append(types, body.Type)
	}
	if want := []string{"webhook.endpoint.failing", "webhook.endpoint.recovered"}; !slices.Equal(types, want) {
		t.Errorf("operational events %v, want %v", types, want)
	}
	l.proven(t)
}
