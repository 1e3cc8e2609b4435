package main

import (
	"context"
	"strings"

	"github.com/grapnel-hooks/grapnel/cmd/internal/telemetry"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/prometheus/client_golang/prometheus"
)

// makeTracing makes what traces, if somebody wants it.
func (d *daemon) makeTracing(ctx context.Context) (err error) {
	if d.cfg.Tracing.Endpoint != nil {
		o := d.cfg.Tracing
		o.Version, o.Log = d.cfg.Version, d.log
		if d.tracing, err = telemetry.New(ctx, o); err != nil {
			return err
		}
	}
	d.registry.MustRegister(traceMetrics{d.tracing})
	return nil
}

// attemptTracer is what the sender is told: nil when nothing is traced.
func (d *daemon) attemptTracer() deliver.Tracer {
	if d.tracing == nil {
		return nil
	}
	return d.tracing
}

// eventTracer is what fan-out is told: nil when nothing is traced.
func (d *daemon) eventTracer() fanout.Tracer {
	if d.tracing == nil {
		return nil
	}
	return d.tracing
}

// trace sends spans until the function that it returns is called, which waits for
// the last ones: to be called when nothing is sent to receivers any more.
func (d *daemon) trace(ctx context.Context) (end func()) {
	if d.tracing == nil {
		return func() {}
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- d.tracing.Run(ctx) }()
	return func() {
		stop()
		<-ended
	}
}

// traceMetrics counts spans; tracing is nil when nothing is traced.
type traceMetrics struct{ tracing *telemetry.Tracing }

var (
	traceSpans = prometheus.NewDesc("grapnel_trace_spans_total",
		"Spans by what came of them: sent, dropped (too many waited) or refused (by the collector).", []string{"result"}, nil)
	traceSpansDropped = prometheus.NewDesc("grapnel_trace_spans_dropped_total",
		"Spans that the collector does not have: too many waited, or it did not take them.", nil, nil)
)

// Describe implements prometheus.Collector.
func (m traceMetrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements prometheus.Collector.
func (m traceMetrics) Collect(ch chan<- prometheus.Metric) {
	var s telemetry.Stats
	if m.tracing != nil {
		s = m.tracing.Stats()
	}
	for _, c := range []struct {
		result string
		n      int64
	}{{"sent", s.Sent}, {"dropped", s.Dropped}, {"refused", s.Refused}} {
		ch <- prometheus.MustNewConstMetric(traceSpans, prometheus.CounterValue, float64(c.n), c.result)
	}
	ch <- prometheus.MustNewConstMetric(traceSpansDropped, prometheus.CounterValue, float64(s.Dropped+s.Refused))
}

// traceID is the trace of a traceparent, "" if there is none.
func traceID(traceParent string) string {
	_, rest, _ := strings.Cut(traceParent, "-")
	id, _, _ := strings.Cut(rest, "-")
	return id
}
