package main

import (
	"sync"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/prometheus/client_golang/prometheus"
)

// inTime is how soon after an event was stored its first attempt has to begin
// (OPS-03). It is a bound of the histogram, so that the share of those that did
// can be told exactly.
const inTime = time.Second

// attemptMetrics is what is counted of each attempt.
type attemptMetrics struct {
	attempts  *prometheus.CounterVec
	duration  prometheus.Histogram
	first     [2]prometheus.Observer // of those that grapnel was to begin in time, and of the others
	firstVec  *prometheus.HistogramVec
	succeeded prometheus.Histogram
	deaths    *prometheus.CounterVec
	replays   *prometheus.CounterVec

	// catching holds, for endpoints that were behind when one of their first attempts
	// was made, the last time that this was so.
	catching *sync.Map
}

func newAttemptMetrics() attemptMetrics {
	m := attemptMetrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "grapnel_attempts_total", Help: "Attempts by outcome and class of status code.",
		}, []string{"outcome", "code_class"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "grapnel_attempt_duration_seconds", Help: "How long attempts took, everything included.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}),
		firstVec: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "grapnel_time_to_first_attempt_seconds",
			Help:    "From the moment the stream stored an event to the start of a delivery's first attempt; held: more than a second of it passed because of the delivery's own endpoint.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, inTime.Seconds(), 2.5, 5, 10, 30, 60, 300, 3600},
		}, []string{"held"}),
		succeeded: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "grapnel_time_to_success_seconds", Help: "From the moment the stream stored an event to the end of the attempt that delivered it.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 36000, 259200},
		}),
		deaths: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "grapnel_dead_letters_total", Help: "Deliveries that died, by reason.",
		}, []string{"reason"}),
		replays: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "grapnel_replays_total", Help: "Deliveries that were sent again because somebody asked, by what they asked with.",
		}, []string{"trigger"}),
		catching: new(sync.Map),
	}
	m.first[0], m.first[1] = m.firstVec.WithLabelValues("no"), m.firstVec.WithLabelValues("yes")
	// Those that alerts compare are there from the start: a rate needs a zero.
	for _, outcome := range []string{"success", "infra", "blocked"} {
		m.attempts.WithLabelValues(outcome, codeClasses[0])
	}
	m.attempts.WithLabelValues("success", "2xx")
	m.attempts.DeleteLabelValues("success", codeClasses[0])
	for _, r := range []deliver.Reason{deliver.Exhausted, deliver.Gone, deliver.PayloadLost, deliver.Poison, deliver.Blocked} {
		m.deaths.WithLabelValues(r.String())
	}
	for _, t := range []deliver.Trigger{deliver.Manual, deliver.Replay} {
		m.replays.WithLabelValues(t.String())
	}
	return m
}

func (m *attemptMetrics) collect(ch chan<- prometheus.Metric) {
	for _, c := range []prometheus.Collector{m.attempts, m.duration, m.firstVec, m.succeeded, m.deaths, m.replays} {
		c.Collect(ch)
	}
}

// observe counts an attempt, by the goroutine that made it.
func (m *metrics) observe(t *deliver.Ticket, a *deliver.Attempt, next *deliver.Transition) {
	p := &m.perAttempt
	if next.State == deliver.Dead {
		p.deaths.WithLabelValues(next.Reason.String()).Inc()
	}
	if a.Revision == 0 {
		return // there was no request: its event is gone
	}
	class := codeClasses[min(max(a.Status/100, 0), 6)]
	p.attempts.WithLabelValues(outcomeOf(a.Class, m.d.draining.Load()), class).Inc()
	p.duration.Observe(a.Duration.Seconds())
	if a.Trigger == deliver.Manual || a.Trigger == deliver.Replay {
		p.replays.WithLabelValues(a.Trigger.String()).Inc()
	}
	if t.Payload == nil {
		return
	}
	if a.Number == 1 && a.Trigger == deliver.First {
		wait := max(a.Started.Sub(t.Payload.Stored), 0)
		which := 0
		if wait > inTime && m.heldBack(t, a.Started) {
			which = 1
		}
		p.first[which].Observe(wait.Seconds())
	}
	if next.State == deliver.Delivered && (a.Trigger == deliver.First || a.Trigger == deliver.Retry) {
		p.succeeded.Observe(max(a.Started.Add(a.Duration).Sub(t.Payload.Stored), 0).Seconds())
	}
}

// outcomeOf is the outcome's name for metrics, coarser than its class: the code's
// class stands beside it.
func outcomeOf(c deliver.Class, stopping bool) string {
	switch c {
	case deliver.OK:
		return "success"
	case deliver.HTTP4xx, deliver.HTTP5xx, deliver.Redirect:
		return "http"
	case deliver.Ours:
		if stopping {
			return "interrupted"
		}
		return "infra"
	}
	return c.String()
}

// held reports whether a first attempt that came late waited for its own endpoint,
// and fan-out had done its part in time.
func (m *metrics) heldBack(t *deliver.Ticket, now time.Time) bool {
	p := t.Payload
	if m.d.store.CatchingUp(t.Endpoint) {
		m.perAttempt.catching.Store(t.Endpoint, now)
		return true
	}
	// The last of what an endpoint caught up with is sent when it is behind no more.
	if at, ok := m.perAttempt.catching.Load(t.Endpoint); ok {
		if p.Stored.Before(at.(time.Time)) {
			return true
		}
		m.perAttempt.catching.Delete(t.Endpoint)
	}
	return heldBack(p.Stored, p.FannedOut, t.Kept)
}

// heldBack reports whether an endpoint kept a delivery waiting of an event that was
// stored and fanned out then (zero: nobody knows when, as after a start).
func heldBack(stored, fanned time.Time, kept int64) bool {
	if fanned.Sub(stored) > inTime {
		return false // it would have been late without the endpoint, too
	}
	return kept > 0 && time.UnixMilli(kept).After(stored)
}

// codeClasses is indexed by a status code's first digit; 0: there was no answer.
var codeClasses = [...]string{"none", "1xx", "2xx", "3xx", "4xx", "5xx", "other"}
