package main

import (
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// otlp is a collector that keeps what it gets.
type otlp struct {
	mu     sync.Mutex
	spans  []*tracepb.Span
	raw    []byte
	header http.Header
}

func (c *otlp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	zipped, err := gzip.NewReader(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	body, err := io.ReadAll(zipped)
	var req collector.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(body, &req)
	}
	if err != nil || r.URL.Path != "/v1/traces" {
		http.Error(w, fmt.Sprint(r.URL.Path, err), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.raw, c.header = append(c.raw, body...), r.Header.Clone()
	for _, rs := range req.ResourceSpans {
		for _, ss := range rs.ScopeSpans {
			c.spans = append(c.spans, ss.Spans...)
		}
	}
}

// An event that comes with a traceparent is followed through fan-out into each
// attempt, and its receiver goes on from the attempt. Nothing of what is sent, no
// secret and no header is in a span. (OPS-04, SEC-23)
func TestOPS04_FromPublisherToReceiver(t *testing.T) {
	const trace, publisher = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	var mu sync.Mutex
	var received []string
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		received = append(received, r.Header.Get("Traceparent")+r.Header.Get("Tracestate"))
		if len(received) == 1 {
			parrot(w, r)
		}
	}))
	defer receiver.Close()
	collected := &otlp{}
	to := httptest.NewServer(collected)
	defer to.Close()
	c := canaries{}
	t.Setenv("GRAPNEL_OTLP_HEADERS", "X-Collector-Key="+c.add("the collector's key", "hunter-canary-of-the-collector"))
	d := serveNow(t, "--otlp-endpoint", to.URL, "--log-level", "debug")

	d.run("org", "add", "acme")
	var made struct{ ID, Secret string }
	if err := json.Unmarshal([]byte(d.run("endpoint", "add", "acme", receiver.URL+"/hunter-canary-path?key=hunter-canary-query", "--retry-initial", "1s",
		"--header", "Authorization: Bearer hunter-canary-of-the-receiver", "--json")), &made); err != nil {
		t.Fatal(err)
	}
	c.add("the endpoint's secret", made.Secret)
	c.add("the endpoint's header", "hunter-canary-of-the-receiver")
	conn, err := nats.Connect(d.nats)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	m := nats.NewMsg("events.acme.invoice.paid")
	m.Header.Set("traceparent", "00-"+trace+"-"+publisher+"-01")
	m.Header.Set("tracestate", "vendor=hunter-canary-state")
	m.Data = []byte(`{"card":"hunter-canary-payload"}`)
	if _, err := conn.RequestMsg(m, 10e9); err != nil {
		t.Fatal(err)
	}
	await(t, "the second attempt", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(received) == 2
	})
	d.stop()

	if len(collected.spans) != 3 {
		t.Fatalf("%d spans", len(collected.spans))
	}
	fanOut := hex.EncodeToString(collected.spans[0].SpanId)
	var got []string
	for i, s := range collected.spans {
		got = append(got, fmt.Sprint(s.Name, " ", hex.EncodeToString(s.TraceId), " in ", hex.EncodeToString(s.ParentSpanId), " ", s.Status.GetCode()))
		if i > 0 {
			if want := "00-" + trace + "-" + hex.EncodeToString(s.SpanId) + "-01"; received[i-1] != want {
				t.Errorf("attempt %d came with %q, its span is %q", i, received[i-1], want)
			}
		}
	}
	want := []string{
		"fan out " + trace + " in " + publisher + " STATUS_CODE_UNSET",
		"POST " + trace + " in " + fanOut + " STATUS_CODE_ERROR",
		"POST " + trace + " in " + fanOut + " STATUS_CODE_UNSET",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("spans (-want +got):\n%s", diff)
	}
	if collected.header.Get("X-Collector-Key") == "" {
		t.Error("the collector did not get its header")
	}
	if n := strings.Count(d.log.String(), `"trace_id":"`+trace+`"`); n != 2 {
		t.Errorf("%d lines of the log name the trace, want one for each attempt", n)
	}
	c.absent(t, "the log", []byte(d.log.String()))
	c.add("the path of the URL", "hunter-canary-path")
	c.add("the query of the URL", "hunter-canary-query")
	c.add("the event's data", "hunter-canary-payload")
	c.add("the trace state", "hunter-canary-state")
	c.absent(t, "what the collector got", collected.raw)
}
