package main

import (
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/prometheus/client_golang/prometheus"
)

// maxRequestKinds is how many pairs of route and class of code have histograms of
// their own, each of eight series. What comes after them counts under "other".
const maxRequestKinds = 100

// requestMetrics is what is counted of each request of the API.
type requestMetrics struct {
	duration *prometheus.HistogramVec
	limited  prometheus.Counter
	panics   *atomic.Int64

	kinds *sync.Map // requestKind → prometheus.Observer
	known *atomic.Int64
}

type requestKind struct{ route, code string }

func newRequestMetrics() requestMetrics {
	return requestMetrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "grapnel_http_request_duration_seconds", Help: "How long requests of the API took, by route and class of status code.",
			Buckets: []float64{.005, .025, .1, .5, 2.5},
		}, []string{"route", "code"}),
		limited: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "grapnel_rate_limited_total", Help: "Requests of the API that were answered with 429.",
		}),
		panics: new(atomic.Int64), kinds: new(sync.Map), known: new(atomic.Int64),
	}
}

func (m *requestMetrics) collect(ch chan<- prometheus.Metric) {
	m.duration.Collect(ch)
	m.limited.Collect(ch)
}

// observe counts a request that has ended.
func (m *requestMetrics) observe(e httpapi.Ended) {
	if e.Panicked {
		m.panics.Add(1)
	}
	if e.Status == http.StatusTooManyRequests {
		m.limited.Inc()
	}
	m.of(requestKind{e.Route, codeClasses[min(max(e.Status/100, 0), 6)]}).Observe(e.Took.Seconds())
}

func (m *requestMetrics) of(k requestKind) prometheus.Observer {
	if o, ok := m.kinds.Load(k); ok {
		return o.(prometheus.Observer)
	}
	if m.known.Add(1) > maxRequestKinds {
		m.known.Add(-1)
		return m.duration.WithLabelValues("other", k.code)
	}
	o, loaded := m.kinds.LoadOrStore(k, m.duration.WithLabelValues(k.route, k.code))
	if loaded {
		m.known.Add(-1)
	}
	return o.(prometheus.Observer)
}
