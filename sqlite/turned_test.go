package sqlite

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/stream"
)

// Each turn of an endpoint's health is told once, in whatever order the records
// come, unless an attempt at an operational event caused it.
func TestTurnsAreTold(t *testing.T) {
	c := newClock()
	s := open(t, Options{Dir: t.TempDir(), Clock: c.read})
	w := newWalker(t, s, "acme", 1)
	row := w.endpoints[0]
	step := int64(0)
	opened := func() *deliver.Health {
		step++
		return at(c, step, deliver.FailuresToOpen)
	}
	closed := func() *deliver.Health {
		step++
		return &deliver.Health{Step: step}
	}
	record := func(typ string, h *deliver.Health) {
		t.Helper()
		p := w.next(1)
		p.Events[0].Type = typ
		ev := w.commit(p)
		r := c.outcome(deliver.Key{Event: ev[0].Event, Endpoint: row}, 1, deliver.Pending)
		r.Payload.Type, r.Health = typ, h
		w.record(r)
	}
	check := func(when string, want ...string) {
		t.Helper()
		var got []string
		for _, a := range announced(t, s) {
			got = append(got, a.Type+" "+volatile.ReplaceAllString(string(a.Data), "${1}_…"))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
		c.add(time.Hour)
	}
	const paid, told = "invoice.paid", stream.EndpointDisabled

	step++
	record(paid, at(c, step, 1))
	check("a failure")
	record(paid, opened())
	check("open", `webhook.endpoint.failing {"endpoint_id":"ep_…","url":"https://example.com/hook","since":"2026-11-01T01:00:00Z","failures":5,"last_error_class":"http_5xx","last_status_code":503,"disables_at":"2026-11-06T01:00:00Z"}`)
	e, err := s.FindEndpointByRow(t.Context(), row)
	if err != nil {
		t.Fatal(err)
	}
	warned := e.Health
	step++
	warned.Step, warned.Warned = step, true
	for range 2 {
		if err := s.NoteHealth(t.Context(), []deliver.HealthNote{{Endpoint: row, Health: warned}}); err != nil {
			t.Fatal(err)
		}
	}
	check("warned", `webhook.endpoint.failing {"endpoint_id":"ep_…","url":"https://example.com/hook","since":"2026-11-01T01:00:00Z","failures":5,"last_error_class":"http_5xx","last_status_code":503,"disables_at":"2026-11-06T01:00:00Z","warning":true}`)
	late := e.Health
	record(paid, closed())
	record(paid, &late) // of an attempt that ended before
	check("closed", `webhook.endpoint.recovered {"endpoint_id":"ep_…","url":"https://example.com/hook","since":"2026-11-01T01:00:00Z"}`)
	record(told, opened())
	check("opened by an operational event")
	record(told, closed())
	check("closed by an operational event")
	record(paid, opened())
	if _, err := s.DisableEndpoint(t.Context(), "acme", e.ID, deliver.DisabledManual); err != nil {
		t.Fatal(err)
	}
	check("open, and disabled",
		`webhook.endpoint.failing {"endpoint_id":"ep_…","url":"https://example.com/hook","since":"2026-11-01T06:00:00Z","failures":5,"last_error_class":"http_5xx","last_status_code":503,"disables_at":"2026-11-06T06:00:00Z"}`,
		`webhook.endpoint.disabled {"endpoint_id":"ep_…","url":"https://example.com/hook","since":"2026-11-01T06:00:00Z","reason":"manual","by":"grapnel"}`)
}
