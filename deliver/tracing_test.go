package deliver_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/delivertest"
	"github.com/grapnel-hooks/grapnel/deliver/sign"
)

// notebook is a Tracer that notes what it is told.
type notebook struct {
	mu    sync.Mutex
	began []deliver.Attempting
	ended []deliver.Outcome
}

func (n *notebook) BeginAttempt(a deliver.Attempting) deliver.AttemptSpan {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.began = append(n.began, a)
	return &note{n, fmt.Sprintf("00-4bf92f3577b34da6a3ce929d0e0e4736-%016x-01", len(n.began))}
}

type note struct {
	n           *notebook
	traceParent string
}

func (s *note) TraceParent() string { return s.traceParent }

func (s *note) End(o *deliver.Outcome) {
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	s.n.ended = append(s.n.ended, *o)
}

// A receiver gets the context of its own attempt's span, never that of the
// publisher (OPS-04); one that opted out gets none, and is traced all the same.
func TestOPS04_ReceiverGetsTheAttemptsSpan(t *testing.T) {
	const publishers = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	r := delivertest.NewReceiver()
	r.Script(delivertest.Status(503), delivertest.Status(204), delivertest.Status(204))
	url := r.Start(t)
	tracer := &notebook{}
	o := loopback()
	o.Tracer = tracer
	s := newSender(t, o)
	silent, err := deliver.NewTarget(deliver.Endpoint{
		ID: "ep_2", URL: url, Secrets: []deliver.Secret{{Secret: sign.NewSecret()}}, Options: deliver.Options{TraceParent: deliver.TraceParentOff},
	})
	if err != nil {
		t.Fatal(err)
	}
	p := payload(1, "{}")
	p.TraceParent = publishers
	first := s.Send(t.Context(), target(t, url), p, deliver.Key{Event: 1, Endpoint: 7}, 1, time.Now())
	s.Send(t.Context(), target(t, url), p, deliver.Key{Event: 1, Endpoint: 7}, 2, time.Now())
	s.Send(t.Context(), silent, p, deliver.Key{Event: 1, Endpoint: 8}, 1, time.Now())

	var sent []string
	for _, req := range r.Requests() {
		sent = append(sent, req.Header.Get("Traceparent"))
		for _, name := range []string{"Tracestate", "Baggage"} {
			if req.Header.Get(name) != "" {
				t.Errorf("the request has %s", name)
			}
		}
	}
	spans := []string{"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000001-01", "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000002-01", ""}
	if diff := cmp.Diff(spans, sent); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	if first.TraceParent != spans[0] {
		t.Errorf("the outcome has %q", first.TraceParent)
	}
	var told []string
	for i, a := range tracer.began {
		told = append(told, fmt.Sprint(a.Endpoint, " ", a.Number, " ", strings.HasPrefix(url, "http://"+a.Host), " ", a.HTTPS, " ", tracer.ended[i].Class, " ", tracer.ended[i].Duration > 0))
	}
	want := []string{"ep_1 1 true false http_5xx true", "ep_1 2 true false ok true", "ep_2 1 true false ok true"}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("the tracer was told (-want +got):\n%s", diff)
	}
}

func TestOptOutOfTracesWithoutATracer(t *testing.T) {
	r := delivertest.NewReceiver()
	s := newSender(t, loopback())
	silent, err := deliver.NewTarget(deliver.Endpoint{
		ID: "ep_2", URL: r.Start(t), Secrets: []deliver.Secret{{Secret: sign.NewSecret()}}, Options: deliver.Options{TraceParent: deliver.TraceParentOff},
	})
	if err != nil {
		t.Fatal(err)
	}
	p := payload(1, "{}")
	p.TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	s.Send(t.Context(), silent, p, deliver.Key{Event: 1}, 1, time.Now())
	for _, req := range r.Requests() {
		if got := req.Header.Values("Traceparent"); len(got) > 0 {
			t.Errorf("it was sent %q", got)
		}
	}
}
