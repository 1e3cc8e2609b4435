package telemetry

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/stream"
	"pgregory.net/rapid"
)

func TestTraceOf(t *testing.T) {
	id := stream.ID{1, 2, 3, 4, 5, 6, 7, 8, 0x7f, 0, 0, 0, 0, 0, 0, 0} // in the middle of all IDs
	type place struct {
		Trace, FanOut, Parent string
		Sampled               bool
	}
	const own, fanOut = "01020304050607087f00000000000000", "0102030405060708"
	const theirs, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	for _, c := range []struct {
		name, traceParent string
		id                stream.ID
		sample            float64
		want              place
	}{
		{"sampled by its publisher", "00-" + theirs + "-" + span + "-01", id, 0, place{theirs, fanOut, span, true}},
		{"not sampled by its publisher", "00-" + theirs + "-" + span + "-00", id, 1, place{theirs, fanOut, span, false}},
		{"other flags", "00-" + theirs + "-" + span + "-03", id, 0, place{theirs, fanOut, span, true}},
		{"none, all are sampled", "", id, 1, place{own, fanOut, "0000000000000000", true}},
		{"none, none is sampled", "", id, 0, place{own, fanOut, "0000000000000000", false}},
		{"none, above the ratio", "", id, 0.4, place{own, fanOut, "0000000000000000", false}},
		{"none, below the ratio", "", id, 0.5, place{own, fanOut, "0000000000000000", true}},
		{"no traceparent", "00-" + theirs, id, 1, place{own, fanOut, "0000000000000000", true}},
		{"capitals", "00-4BF92F3577B34DA6A3CE929D0E0E4736-" + span + "-01", id, 1, place{own, fanOut, "0000000000000000", true}},
		{"another version", "01-" + theirs + "-" + span + "-01", id, 1, place{own, fanOut, "0000000000000000", true}},
		{"a trace of zeros", "00-00000000000000000000000000000000-" + span + "-01", id, 1, place{own, fanOut, "0000000000000000", true}},
		{"an ID of zeros", "", stream.ID{}, 1, place{"00000000000000000000000000000001", "0000000000000001", "0000000000000000", true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := traceOf(c.traceParent, c.id, c.sample)
			got := place{p.trace.String(), p.fanOut.String(), p.parent.SpanID().String(), p.sampled}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// So many are sampled as the ratio says.
func TestRatio(t *testing.T) {
	const all, ratio = 20_000, 0.1
	n := 0
	for i := range all {
		if traceOf("", stream.SeqID("acme", stream.Seq(i), time.Unix(1, 0)), ratio).sampled {
			n++
		}
	}
	if n < all*ratio*0.9 || n > all*ratio*1.1 {
		t.Errorf("%d of %d were sampled, want about a tenth", n, all)
	}
}

// Whatever a publisher writes: what we make of it is valid, and what we send
// on can be read back.
func FuzzTraceParent(f *testing.F) {
	f.Add("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", []byte("0123456789abcdef"))
	f.Add("", []byte{})
	f.Add("00-00000000000000000000000000000000-0000000000000000-ff", []byte("0123456789abcdef"))
	f.Fuzz(func(t *testing.T, traceParent string, name []byte) {
		var id stream.ID
		copy(id[:], name)
		p := traceOf(traceParent, id, 0.5)
		if !p.trace.IsValid() || !p.fanOut.IsValid() {
			t.Fatalf("%q: trace %s, fan-out %s", traceParent, p.trace, p.fanOut)
		}
		if p.parent.IsValid() && p.parent.TraceID() != p.trace {
			t.Fatalf("%q: the parent is in trace %s, the fan-out in %s", traceParent, p.parent.TraceID(), p.trace)
		}
		sent := "00-" + p.trace.String() + "-" + p.fanOut.String() + "-" + p.flags().String()
		if back, ok := parse(sent); !ok || back.TraceID() != p.trace || back.SpanID() != p.fanOut || back.IsSampled() != p.sampled {
			t.Fatalf("%q becomes %q, which is read as %v, %t", traceParent, sent, back, ok)
		}
	})
}

func TestRandomIDs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.SampledFrom([]int{8, 16}).Draw(t, "bytes")
		if id := randomID(n); len(id) != n || strings.Trim(hex.EncodeToString(id), "0") == "" {
			t.Fatalf("%x", id)
		}
	})
}
