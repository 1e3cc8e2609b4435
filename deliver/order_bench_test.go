package deliver

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkOrder sends deliveries through one lane whose receiver answers at once.
// Compare: an endpoint that is not ordered, one that is ordered by a key that is
// different each time, by one of 64, and by nothing else than the events.
func BenchmarkOrder(b *testing.B) {
	for _, bb := range []struct {
		name string
		o    Options
		keys int
	}{
		{"none", Options{}, 64},
		{"by-key-of-its-own", Options{OrderedBy: "/data/k"}, 1 << 30},
		{"by-one-of-64-keys", Options{OrderedBy: "/data/k"}, 64},
		{"all", Options{Ordered: true}, 64},
	} {
		b.Run(bb.name, func(b *testing.B) {
			books := newBooks()
			done := make(chan struct{})
			var sent atomic.Int64
			lanes := NewLanes(LanesOptions{
				Books: books, Source: &source{},
				Send: func(context.Context, *Target, *Payload, Key, int, time.Time) Outcome {
					if sent.Add(1) == int64(b.N) {
						close(done)
					}
					return Outcome{Class: OK, Status: 204}
				},
			})
			r := &rig{t: &testing.T{}, books: books, lanes: lanes, ended: make(chan error, 1)}
			r.endpoint(1, func(e *Endpoint) { e.Options, e.Concurrency = bb.o, 64 })
			ctx, stop := context.WithCancel(b.Context())
			go func() { r.ended <- lanes.Run(ctx) }()
			bodies := make([][]byte, 64)
			b.ReportAllocs()
			for from := 0; from < b.N; {
				n := min(b.N-from, 1000)
				events := make([]int64, n)
				for i := range events {
					events[i] = int64(from + i + 1)
				}
				ts := books.add(1, events...)
				for i := range ts {
					k := (from + i) % bb.keys
					if bodies[k%64] == nil || bb.keys > 64 {
						bodies[k%64] = fmt.Appendf(nil, `{"id":"evt_0","type":"invoice.paid","timestamp":"2026-11-21T10:00:00Z","data":{"amount":1200,"currency":"EUR","k":%d}}`, k)
					}
					ts[i].Payload = &Payload{Event: ts[i].Event, Body: bodies[k%64]}
				}
				lanes.Wait(ctx, []int64{1}, time.Second)
				lanes.Offer(ts)
				from += n
			}
			<-done
			b.StopTimer()
			stop()
			<-r.ended
		})
	}
}
