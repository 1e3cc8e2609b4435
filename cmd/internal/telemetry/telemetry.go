// Package telemetry makes the daemon's traces and sends them to a collector, by
// OpenTelemetry's protocol over HTTP (OTLP).
//
// # The model
//
// An event has one span of fan-out, and each attempt at one of its deliveries has
// one span of a client. Their names are derived, so that nothing about traces is
// stored, and an attempt that is made after a restart, from the books or from the
// stream, finds its place in the trace all the same (see [traceOf]):
//
//	trace    the event's traceparent; without one the event's ID is the trace's
//	fan-out  child of the traceparent's span; its span ID is half of the event's ID
//	attempt  child of the fan-out, with an ID of its own; when it begins more than a
//	         minute later, it is the root of a new trace and linked to the fan-out
//
// Who is sampled is decided once for an event, by its publisher's flag, or
// without a traceparent by the trace's ID and a ratio: so a trace is whole. What
// is not sampled costs the names of its spans, which receivers get with the flag
// 00.
//
// A span never holds a payload, a header, or more of a URL than its host.
//
// # A collector that is ill
//
// Spans wait in a queue of [maxQueue]. When that is full, or the collector does
// not take them, they are lost, and counted. Nothing waits for a collector but
// the goroutine that sends to it.
package telemetry

import (
	"context"
	"encoding/binary"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// DefaultSample is the part of the events without a sampled publisher that is
// traced, unless somebody says otherwise.
const DefaultSample = 0.1

// childWithin is how long after the fan-out an attempt is still part of its trace:
// collectors hold a trace together for about so long.
const childWithin = time.Minute

// Options is what a Tracing is made from. Endpoint and Log are required.
type Options struct {
	Endpoint *url.URL          // of the collector, as [CheckEndpoint] returns it
	Headers  []deliver.Header  // of each request to it; secret
	Sample   float64           // of the events without a traceparent, 0 to 1
	Version  string            // of grapnel
	Client   http.RoundTripper // how the collector is reached; nil: by a connection of its own, without proxies
	Log      *slog.Logger
}

// Tracing makes spans and sends them. It is a [deliver.Tracer] and a
// [fanout.Tracer].
type Tracing struct {
	sample float64
	queue  *queue
	tracer trace.Tracer
}

var (
	_ deliver.Tracer = (*Tracing)(nil)
	_ fanout.Tracer  = (*Tracing)(nil)
)

// New makes a Tracing. Nothing is sent before Run.
func New(ctx context.Context, o Options) (*Tracing, error) {
	exporter, err := newExporter(ctx, o)
	if err != nil {
		return nil, err
	}
	about, err := resource.New(ctx, resource.WithHost(), resource.WithFromEnv(), // OTEL_RESOURCE_ATTRIBUTES
		resource.WithAttributes(attribute.String("service.name", "grapnel"), attribute.String("service.version", o.Version)))
	if err != nil {
		o.Log.Warn("what traces say of this service is not complete", "error", err)
	}
	q := newQueue(exporter, o.Log)
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithResource(about), sdktrace.WithIDGenerator(wanted{}), sdktrace.WithSampler(sdktrace.AlwaysSample()), sdktrace.WithSpanProcessor(q),
	)
	return &Tracing{sample: o.Sample, queue: q, tracer: provider.Tracer("github.com/grapnel-hooks/grapnel", trace.WithInstrumentationVersion(o.Version))}, nil
}

// Run sends what is traced until ctx ends, and then what still waits, for two
// seconds at the most.
func (t *Tracing) Run(ctx context.Context) error {
	t.queue.run(ctx)
	return nil
}

// FannedOut implements [fanout.Tracer].
func (t *Tracing) FannedOut(ev *stream.Event, deliveries int, began, committed time.Time) {
	of := traceOf(ev.TraceParent, ev.ID, t.sample)
	if !of.sampled {
		return
	}
	_, span := t.tracer.Start(named(of.parent, of.trace, of.fanOut), "fan out",
		trace.WithSpanKind(trace.SpanKindConsumer), trace.WithTimestamp(began), trace.WithAttributes(
			attribute.String("grapnel.org", ev.Org),
			attribute.String("grapnel.event", ev.ID.String()),
			attribute.String("grapnel.event_type", ev.Type),
			attribute.Int64("grapnel.sequence", int64(ev.Seq)),
			attribute.Int("grapnel.deliveries", deliveries),
		))
	span.End(trace.WithTimestamp(committed))
}

// BeginAttempt implements [deliver.Tracer].
func (t *Tracing) BeginAttempt(a deliver.Attempting) deliver.AttemptSpan {
	p := a.Payload
	of := traceOf(p.TraceParent, p.ID, t.sample)
	since := p.FannedOut
	if since.IsZero() {
		since = p.Stored // it comes from the books or the stream; fan-out was not long after
	}
	fanOut := trace.NewSpanContext(trace.SpanContextConfig{TraceID: of.trace, SpanID: of.fanOut, TraceFlags: of.flags(), Remote: true})
	options := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(a.Began)}
	parent, in := fanOut, of.trace
	switch {
	case a.Event == 0: // a test of the endpoint: nothing was fanned out
		parent = trace.SpanContext{}
	case a.Began.Sub(since) > childWithin:
		parent, in = trace.SpanContext{}, trace.TraceID(randomID(16))
		options = append(options, trace.WithLinks(trace.Link{SpanContext: fanOut}))
	}
	id := trace.SpanID(randomID(8))
	s := &attemptSpan{traceParent: "00-" + in.String() + "-" + id.String() + "-" + of.flags().String()}
	if of.sampled {
		options = append(options, trace.WithAttributes(attemptAttributes(&a)...))
		_, s.span = t.tracer.Start(named(parent, in, id), http.MethodPost, options...)
	}
	return s
}

// attemptAttributes are what is known of an attempt before it is made, as
// OpenTelemetry's conventions for HTTP clients name it.
func attemptAttributes(a *deliver.Attempting) []attribute.KeyValue {
	host, port := a.Host, 80
	if a.HTTPS {
		port = 443
	}
	if h, p, err := net.SplitHostPort(a.Host); err == nil {
		host = h
		if n, err := strconv.Atoi(p); err == nil {
			port = n
		}
	}
	return []attribute.KeyValue{
		attribute.String("http.request.method", http.MethodPost),
		attribute.String("server.address", host),
		attribute.Int("server.port", port),
		attribute.String("grapnel.org", a.Payload.Org),
		attribute.String("grapnel.endpoint", a.Endpoint),
		attribute.String("grapnel.event", a.Payload.ID.String()),
		attribute.String("grapnel.event_type", a.Payload.Type),
		attribute.String("grapnel.delivery", a.Key.ID(a.Payload.Stored)),
		attribute.Int("grapnel.attempt", a.Number),
	}
}

// attemptSpan is a [deliver.AttemptSpan].
type attemptSpan struct {
	traceParent string
	span        trace.Span // nil: not sampled
}

func (s *attemptSpan) TraceParent() string { return s.traceParent }

func (s *attemptSpan) End(o *deliver.Outcome) {
	if s.span == nil {
		return
	}
	if o.Status != 0 {
		s.span.SetAttributes(attribute.Int("http.response.status_code", o.Status))
	}
	if o.Class != deliver.OK {
		s.span.SetAttributes(attribute.String("error.type", o.Class.String()))
		s.span.SetStatus(codes.Error, o.Error)
	}
	s.span.End()
}

// randomID is an ID of 8 or 16 bytes, not zero.
func randomID(n int) []byte {
	id := make([]byte, 0, 16)
	for len(id) < n {
		id = binary.BigEndian.AppendUint64(id, max(rand.Uint64(), 1))
	}
	return id
}
