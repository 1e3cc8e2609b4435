package telemetry

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"strings"

	"github.com/grapnel-hooks/grapnel/stream"
	"go.opentelemetry.io/otel/trace"
)

// place is where an event stands among traces.
type place struct {
	parent  trace.SpanContext // of the span of fan-out; not valid: that is the root
	trace   trace.TraceID
	fanOut  trace.SpanID
	sampled bool
}

func (p place) flags() trace.TraceFlags { return trace.TraceFlags(0).WithSampled(p.sampled) }

// traceOf is the place of the event with that traceparent, "" if it has none. It
// is pure: whoever asks, and whenever, gets the same.
func traceOf(traceParent string, id stream.ID, sample float64) place {
	p := place{fanOut: trace.SpanID(id[:8])}
	if p.fanOut == (trace.SpanID{}) {
		p.fanOut[7] = 1
	}
	if parent, ok := parse(traceParent); ok {
		p.parent, p.trace, p.sampled = parent, parent.TraceID(), parent.IsSampled()
		return p
	}
	if p.trace = trace.TraceID(id); !p.trace.IsValid() {
		p.trace[15] = 1
	}
	// An ID is half of a hash, so its bits are as good as random ones.
	p.sampled = float64(binary.BigEndian.Uint64(id[8:])>>11) < sample*(1<<53)
	return p
}

// parse reads a traceparent of version 00 (W3C Trace Context, section 3.2).
func parse(s string) (trace.SpanContext, bool) {
	var c trace.SpanContextConfig
	var flags [1]byte
	if len(s) != 55 || s[:3] != "00-" || s[35] != '-' || s[52] != '-' || strings.ToLower(s) != s {
		return trace.SpanContext{}, false
	}
	for _, part := range []struct {
		to   []byte
		text string
	}{{c.TraceID[:], s[3:35]}, {c.SpanID[:], s[36:52]}, {flags[:], s[53:]}} {
		if _, err := hex.Decode(part.to, []byte(part.text)); err != nil {
			return trace.SpanContext{}, false
		}
	}
	c.TraceFlags, c.Remote = trace.TraceFlags(flags[0])&trace.FlagsSampled, true
	sc := trace.NewSpanContext(c)
	return sc, sc.IsValid()
}

// wanted is the generator of IDs that are wanted already: those of [named].
type wanted struct{}

type wantedKey struct{}

type wantedIDs struct {
	trace trace.TraceID
	span  trace.SpanID
}

// named is the context in which a span gets that parent, if it is valid, and
// those IDs.
func named(parent trace.SpanContext, in trace.TraceID, id trace.SpanID) context.Context {
	ctx := context.WithValue(context.Background(), wantedKey{}, wantedIDs{in, id})
	return trace.ContextWithRemoteSpanContext(ctx, parent)
}

// NewIDs implements sdktrace.IDGenerator.
func (wanted) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	ids, _ := ctx.Value(wantedKey{}).(wantedIDs)
	return ids.trace, ids.span
}

// NewSpanID implements sdktrace.IDGenerator.
func (wanted) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	ids, _ := ctx.Value(wantedKey{}).(wantedIDs)
	return ids.span
}
