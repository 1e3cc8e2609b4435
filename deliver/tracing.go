package deliver

import "time"

// Tracer makes a span of each attempt, for those who follow an event through
// several services (W3C Trace Context). It stands in the way of every request, so
// its methods, and its spans', never block and never fail: what cannot be kept
// is lost, and is the Tracer's to count.
//
// Implementations are safe for concurrent use.
type Tracer interface {
	// BeginAttempt is called before an attempt is made. The span must be ended.
	BeginAttempt(Attempting) AttemptSpan
}

// AttemptSpan is the span of one attempt.
type AttemptSpan interface {
	// TraceParent is the span's own context, which its receiver gets: also when the
	// span itself is not kept, with the flag that says so. It does not change.
	TraceParent() string
	// End is told what came of it, once.
	End(*Outcome)
}

// Attempting is an attempt that is about to be made. It holds nothing of the
// endpoint's secrets, nor of what is sent.
type Attempting struct {
	Key
	Payload  *Payload // not to be changed, and its body is nobody's business
	Endpoint string   // ep_…
	Number   int      // from 1
	Host     string   // of the endpoint's URL; with a port, if that has one
	HTTPS    bool
	Began    time.Time
}

// beginSpan begins the span of an attempt.
func (s *Sender) beginSpan(t *Target, p *Payload, k Key, attempt int, now time.Time) AttemptSpan {
	return s.tracer.BeginAttempt(Attempting{
		Key: k, Payload: p, Endpoint: t.id, Number: attempt, Host: t.url.Host, HTTPS: t.url.Scheme == "https", Began: now,
	})
}

// endSpan ends the span of an attempt. It has an outcome of its own, so that the
// outcome of an attempt without a span needs no memory.
func endSpan(span AttemptSpan, o Outcome) Outcome {
	o.TraceParent = span.TraceParent()
	span.End(&o)
	return o
}
