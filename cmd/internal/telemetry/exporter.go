package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

// tracesPath is where a collector takes traces, below its endpoint (OTLP/HTTP,
// "OTLP/HTTP Request").
const tracesPath = "/v1/traces"

// maxAnswer is how many bytes of a collector's answer are read.
const maxAnswer = 64 << 10

// CheckEndpoint reads the URL of a collector: http or https, a host, and perhaps a
// path. Secrets do not belong into it.
func CheckEndpoint(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return nil, errors.New("want http://host:port or https://host:port, such as http://127.0.0.1:4318")
	case u.User != nil:
		return nil, errors.New("holds a user: give the collector's credentials as headers, in GRAPNEL_OTLP_HEADERS")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("has more than a host, a port and a path")
	}
	return u, nil
}

// exporter sends batches to the collector.
type exporter struct {
	*otlptrace.Exporter
	*transport
}

func newExporter(ctx context.Context, o Options) (*exporter, error) {
	t := &transport{to: o.Client}
	if t.to == nil {
		t.to = &http.Transport{
			DialContext:     (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			MaxConnsPerHost: 2, IdleConnTimeout: 90 * time.Second, TLSHandshakeTimeout: 5 * time.Second, ForceAttemptHTTP2: true,
		}
	}
	headers := map[string]string{}
	for _, h := range o.Headers {
		headers[h.Name] = h.Value.Reveal()
	}
	options := []otlptracehttp.Option{
		otlptracehttp.WithEndpoint(o.Endpoint.Host),
		otlptracehttp.WithURLPath(strings.TrimSuffix(strings.TrimSuffix(o.Endpoint.Path, "/"), tracesPath) + tracesPath),
		otlptracehttp.WithHeaders(headers),
		otlptracehttp.WithCompression(otlptracehttp.GzipCompression),
		otlptracehttp.WithTimeout(exportWithin),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{
			Enabled: true, InitialInterval: time.Second, MaxInterval: 4 * time.Second, MaxElapsedTime: exportWithin - time.Second,
		}),
		otlptracehttp.WithHTTPClient(&http.Client{
			Transport: t, Timeout: exportWithin,
			// Headers are for the collector that was named.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}),
	}
	if o.Endpoint.Scheme == "http" {
		options = append(options, otlptracehttp.WithInsecure())
	}
	e, err := otlptracehttp.New(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("traces to %s: %w", o.Endpoint.Host, err)
	}
	return &exporter{e, t}, nil
}

func (e *exporter) close() {
	if c, ok := e.to.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// transport keeps what a collector says out of errors, and so out of the log: it
// may repeat the headers that it got. What counts is the status, and how many
// spans of a batch it would not have.
type transport struct {
	to       http.RoundTripper
	rejected atomic.Int64
}

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := t.to.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	res.Body.Close()
	if err != nil {
		return nil, errors.New("the collector's answer was cut short")
	}
	if res.StatusCode/100 == 2 {
		t.rejected.Add(rejectedSpans(body))
	}
	res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(nil)), 0
	res.Status = fmt.Sprintf("%d %s", res.StatusCode, http.StatusText(res.StatusCode))
	return res, nil
}

// rejectedSpans is how many spans of a batch that was taken were not.
func rejectedSpans(answer []byte) int64 {
	var a collector.ExportTraceServiceResponse
	if proto.Unmarshal(answer, &a) != nil {
		return 0
	}
	return max(a.GetPartialSuccess().GetRejectedSpans(), 0)
}
