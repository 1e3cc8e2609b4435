package telemetry

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/stream"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

const canary = "hunter-canary-of-the-collector"

// fake is a collector, reached without a network.
type fake struct {
	answer func(*http.Request) (*http.Response, error) // nil: takes everything

	mu      sync.Mutex
	spans   []*tracepb.Span
	about   map[string]string // of the service
	headers http.Header
	path    string
}

func (f *fake) RoundTrip(r *http.Request) (*http.Response, error) {
	if f.answer != nil {
		return f.answer(r)
	}
	zipped, err := gzip.NewReader(r.Body)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(zipped)
	if err != nil {
		return nil, err
	}
	var req collector.ExportTraceServiceRequest
	if err := proto.Unmarshal(body, &req); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.headers, f.path, f.about = r.Header.Clone(), r.URL.String(), map[string]string{}
	for _, rs := range req.ResourceSpans {
		for _, a := range rs.Resource.Attributes {
			f.about[a.Key] = a.Value.GetStringValue()
		}
		for _, ss := range rs.ScopeSpans {
			f.spans = append(f.spans, ss.Spans...)
		}
	}
	return status(200, nil), nil
}

func status(code int, body []byte) *http.Response {
	return &http.Response{StatusCode: code, Status: fmt.Sprint(code, " ", canary), Header: http.Header{"Content-Type": {"application/x-protobuf"}}, Body: io.NopCloser(bytes.NewReader(body))}
}

// begin runs a Tracing; end stops it and returns how long that took.
func begin(t *testing.T, f *fake, sample float64, log *slog.Logger) (tracing *Tracing, end func() time.Duration) {
	t.Helper()
	u, err := CheckEndpoint("http://collector.test:4318")
	if err != nil {
		t.Fatal(err)
	}
	tracing, err = New(t.Context(), Options{
		Endpoint: u, Headers: []deliver.Header{{Name: "X-Api-Key", Value: deliver.NewHeaderValue(canary)}},
		Sample: sample, Version: "1.2.3", Client: f, Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- tracing.Run(ctx) }()
	return tracing, func() time.Duration {
		began := time.Now()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		return time.Since(began)
	}
}

var event = stream.Event{
	ID: stream.ID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, Org: "acme", Type: "invoice.paid", Seq: 7,
	Data: []byte(`{"canary":"` + canary + `"}`),
}

func attempting(number int, p *deliver.Payload, at time.Time) deliver.Attempting {
	return deliver.Attempting{
		Key: deliver.Key{Event: 3, Endpoint: 2}, Payload: p, Endpoint: "ep_1", Number: number, Host: "hooks.test:8443", HTTPS: true, Began: at,
	}
}

// An event, one attempt that fails, one within the minute, and one after it.
func TestOPS04_Spans(t *testing.T) {
	const theirs, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		tracing, end := begin(t, f, 0, slog.New(slog.DiscardHandler))
		ev := event
		ev.TraceParent = "00-" + theirs + "-" + span + "-01"
		now := time.Now()
		tracing.FannedOut(&ev, 2, now, now.Add(time.Millisecond))
		p := &deliver.Payload{ID: ev.ID, Org: ev.Org, Type: ev.Type, TraceParent: ev.TraceParent, Stored: now.Add(-time.Hour), FannedOut: now, Body: ev.Data}
		sent := make([]string, 3)
		for i, at := range []time.Duration{0, time.Minute, time.Minute + 1} {
			o := deliver.Outcome{Class: deliver.OK, Status: 204}
			if i == 0 {
				o = deliver.Outcome{Class: deliver.Timeout, Error: "no answer within 10s"}
			}
			s := tracing.BeginAttempt(attempting(i+1, p, now.Add(at)))
			sent[i] = s.TraceParent()
			s.End(&o)
		}
		if took := end(); took > stopWithin {
			t.Errorf("stopping took %v", took)
		}

		if len(f.spans) != 4 {
			t.Fatalf("%d spans", len(f.spans))
		}
		fanOut := f.spans[0]
		got := []string{describe(fanOut)}
		for i, s := range f.spans[1:] {
			if want := "00-" + hex.EncodeToString(s.TraceId) + "-" + hex.EncodeToString(s.SpanId) + "-01"; sent[i] != want {
				t.Errorf("the receiver of attempt %d gets %q, its span is %q", i+1, sent[i], want)
			}
			switch {
			case i < 2 && hex.EncodeToString(s.TraceId) != theirs:
				t.Errorf("attempt %d is in another trace", i+1)
			case i == 2 && (hex.EncodeToString(s.TraceId) == theirs || len(s.ParentSpanId) > 0):
				t.Errorf("attempt %d is in the old trace", i+1)
			}
			got = append(got, describe(s))
		}
		fanned := hex.EncodeToString(fanOut.SpanId)
		const about = " grapnel.event=evt_01081G81860W40J2GB1G6GW3RG grapnel.event_type=invoice.paid grapnel.org=acme"
		attempt := " grapnel.delivery=" + deliver.Key{Event: 3, Endpoint: 2}.ID(p.Stored) + " grapnel.endpoint=ep_1" + about
		want := []string{
			"fan out CONSUMER in " + span + " links [] grapnel.deliveries=2" + about + " grapnel.sequence=7",
			"POST CLIENT in " + fanned + " links [] error.type=timeout grapnel.attempt=1" + attempt + " http.request.method=POST server.address=hooks.test server.port=8443 status=no answer within 10s",
			"POST CLIENT in " + fanned + " links [] grapnel.attempt=2" + attempt + " http.request.method=POST http.response.status_code=204 server.address=hooks.test server.port=8443",
			"POST CLIENT in  links [" + theirs + "/" + fanned + "] grapnel.attempt=3" + attempt + " http.request.method=POST http.response.status_code=204 server.address=hooks.test server.port=8443",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("spans (-want +got):\n%s", diff)
		}
		if f.about["service.name"] != "grapnel" || f.about["service.version"] != "1.2.3" || f.path != "http://collector.test:4318/v1/traces" {
			t.Errorf("sent to %s about %v", f.path, f.about)
		}
		if f.headers.Get("X-Api-Key") != canary {
			t.Error("the collector did not get its header")
		}
		if text := fmt.Sprint(f.spans, f.about); strings.Contains(text, canary) {
			t.Error("a span holds a secret, or data of the event")
		}
		if s := tracing.Stats(); s != (Stats{Sent: 4}) {
			t.Errorf("stats %+v", s)
		}
	})
}

// describe is a span in one line, its attributes in order.
func describe(s *tracepb.Span) string {
	var parts, links []string
	for _, a := range s.Attributes {
		value := a.Value.GetStringValue()
		if value == "" {
			value = fmt.Sprint(a.Value.GetIntValue())
		}
		parts = append(parts, a.Key+"="+value)
	}
	slices.Sort(parts)
	if s.Status.GetMessage() != "" {
		parts = append(parts, "status="+s.Status.GetMessage())
	}
	for _, l := range s.Links {
		links = append(links, hex.EncodeToString(l.TraceId)+"/"+hex.EncodeToString(l.SpanId))
	}
	kind := strings.TrimPrefix(s.Kind.String(), "SPAN_KIND_")
	return fmt.Sprint(s.Name, " ", kind, " in ", hex.EncodeToString(s.ParentSpanId), " links ", links, " ", strings.Join(parts, " "))
}

// A test of an endpoint comes from no event.
func TestTestsAreRoots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		tracing, end := begin(t, f, 1, slog.New(slog.DiscardHandler))
		a := attempting(1, &deliver.Payload{ID: event.ID, Org: "acme", Stored: time.Now()}, time.Now())
		a.Key.Event = 0
		tracing.BeginAttempt(a).End(&deliver.Outcome{})
		end()
		if len(f.spans) != 1 || len(f.spans[0].ParentSpanId) > 0 || len(f.spans[0].Links) > 0 {
			t.Errorf("spans %v", f.spans)
		}
	})
}

// What is not sampled is not sent, and its receivers are told so.
func TestNotSampled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		tracing, end := begin(t, f, 0, slog.New(slog.DiscardHandler))
		ev := event
		tracing.FannedOut(&ev, 1, time.Now(), time.Now())
		s := tracing.BeginAttempt(attempting(1, &deliver.Payload{ID: ev.ID, Org: "acme", FannedOut: time.Now()}, time.Now()))
		s.End(&deliver.Outcome{})
		end()
		if got := s.TraceParent(); !strings.HasPrefix(got, "00-0102030405060708090a0b0c0d0e0f10-") || !strings.HasSuffix(got, "-00") {
			t.Errorf("the receiver gets %q", got)
		}
		if len(f.spans) != 0 {
			t.Errorf("%d spans were sent", len(f.spans))
		}
	})
}

// However ill the collector is, spans cost their makers no time, memory stays
// bounded, all that is lost is counted, and the end is not held up. (OPS-04)
func TestOPS04_IllCollectors(t *testing.T) {
	const spans = 9_000
	partial, err := proto.Marshal(&collector.ExportTraceServiceResponse{PartialSuccess: &collector.ExportTracePartialSuccess{RejectedSpans: 12, ErrorMessage: canary}})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		answer func(*http.Request) (*http.Response, error)
		sent   bool
	}{
		"hangs": {answer: func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}},
		"refuses":         {answer: func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }},
		"answers 500":     {answer: func(*http.Request) (*http.Response, error) { return status(500, []byte(canary)), nil }},
		"answers 503":     {answer: func(*http.Request) (*http.Response, error) { return status(503, []byte(canary)), nil }},
		"redirects":       {answer: func(*http.Request) (*http.Response, error) { return redirect(), nil }},
		"takes all but":   {answer: func(*http.Request) (*http.Response, error) { return status(200, partial), nil }, sent: true},
		"answers rubbish": {answer: func(*http.Request) (*http.Response, error) { return status(200, []byte(canary)), nil }, sent: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				tracing, end := begin(t, &fake{answer: c.answer}, 1, slog.New(slog.NewTextHandler(&log, nil)))
				p := &deliver.Payload{ID: event.ID, Org: "acme", FannedOut: time.Now()}
				for range 3 {
					began := time.Now()
					for range spans / 3 {
						tracing.BeginAttempt(attempting(1, p, began)).End(&deliver.Outcome{Status: 200})
						if n := len(tracing.queue.spans); n > maxQueue {
							t.Fatalf("%d spans wait", n)
						}
					}
					if took := time.Since(began); took > 0 { // on a clock that stands still while anybody works
						t.Fatalf("spans took %v", took)
					}
					time.Sleep(7 * time.Second)
				}
				if took := end(); took > stopWithin {
					t.Errorf("stopping took %v", took)
				}
				s := tracing.Stats()
				if s.Sent+s.Dropped+s.Refused != spans || (s.Sent > 0) != c.sent {
					t.Errorf("%+v: %d of %d spans are accounted for", s, s.Sent+s.Dropped+s.Refused, spans)
				}
				if lines := strings.Count(log.String(), "\n"); lines > 2 || !c.sent && lines == 0 {
					t.Errorf("%d lines in the log:\n%s", lines, &log)
				}
				if strings.Contains(log.String(), canary) {
					t.Errorf("the log repeats what the collector said:\n%s", &log)
				}
			})
		})
	}
}

func redirect() *http.Response {
	r := status(307, nil)
	r.Header.Set("Location", "http://elsewhere.test/v1/traces")
	return r
}

// The log says when the collector is well again, and what is lost.
func TestCollectorRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var well atomic.Bool
		f := &fake{answer: func(*http.Request) (*http.Response, error) {
			if well.Load() {
				return status(200, nil), nil
			}
			return nil, errors.New("connection refused")
		}}
		tracing, end := begin(t, f, 1, slog.New(slog.NewTextHandler(&log, nil)))
		ev := event
		for i := range 6 {
			well.Store(i >= 3)
			tracing.FannedOut(&ev, 1, time.Now(), time.Now())
			time.Sleep(time.Minute)
		}
		end()
		var lines []string
		for line := range strings.Lines(log.String()) {
			_, line, _ = strings.Cut(strings.TrimSpace(line), " ")
			lines = append(lines, line)
		}
		want := []string{
			`level=WARN msg="the collector does not take traces; spans are lost until it does" lost_spans=1 error="connection refused"`,
			`level=INFO msg="the collector takes traces again" lost_spans=3`,
		}
		if diff := cmp.Diff(want, lines); diff != "" {
			t.Errorf("log (-want +got):\n%s", diff)
		}
	})
}

func TestCheckEndpoint(t *testing.T) {
	for text, want := range map[string]string{
		"http://127.0.0.1:4318":          "",
		"https://otlp.example/tenant/x":  "",
		"127.0.0.1:4318":                 "want http://host:port",
		"grpc://127.0.0.1:4317":          "want http://host:port",
		"https://":                       "want http://host:port",
		"https://user:pass@otlp.example": "holds a user",
		"https://otlp.example/?key=1":    "has more than",
	} {
		t.Run(text, func(t *testing.T) {
			var u *url.URL
			u, err := CheckEndpoint(text)
			if (err == nil) != (want == "") || err != nil && !strings.HasPrefix(err.Error(), want) || err == nil && u.String() != text {
				t.Errorf("%v, %v; want %q", u, err, want)
			}
		})
	}
}
