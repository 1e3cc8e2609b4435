package stream_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/grapnel-hooks/grapnel/stream"
)

// BenchmarkPublishers compares a publisher that has signed in with one on
// loopback that was not asked: 1 KiB, async with acknowledgements. "ratio" is
// signed-in over anonymous in the same run.
func BenchmarkPublishers(b *testing.B) {
	for _, sync := range []struct {
		name  string
		every time.Duration
	}{{"synced", 0}, {"after a minute", time.Minute}} {
		b.Run(sync.name, func(b *testing.B) {
			anonymous := benchServer(b, sync.every, nil)
			k := &tokens{of: map[string]stream.Publisher{"acme-secret": publisher("acme")}}
			signedIn := benchServer(b, sync.every, k.signIn)
			var rates [2]float64
			for i, s := range []*stream.Server{anonymous, signedIn} {
				nc, err := nats.Connect("nats://"+s.Addr(), nats.UserInfo("acme", "acme-secret"))
				if err != nil {
					b.Fatal(err)
				}
				defer nc.Close()
				rates[i] = publishRate(b, nc)
			}
			b.ReportMetric(rates[0], "anonymous/s")
			b.ReportMetric(rates[1], "signed-in/s")
			b.ReportMetric(rates[1]/rates[0], "ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func benchServer(b *testing.B, every time.Duration, ask stream.SignIn) *stream.Server {
	b.Helper()
	s, err := stream.StartServer(b.Context(), stream.ServerOptions{
		Dir: b.TempDir(), Listen: "127.0.0.1:0", SyncInterval: every, MinFree: 1, SignIn: ask, RequireSignIn: ask != nil,
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Close)
	c := connect(b, stream.Options{Server: s})
	if _, err := c.Create(b.Context(), stream.OrgStream{Org: "acme"}); err != nil {
		b.Fatal(err)
	}
	return s
}

func publishRate(b *testing.B, nc *nats.Conn) float64 {
	b.Helper()
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(256))
	if err != nil {
		b.Fatal(err)
	}
	data := make([]byte, 1<<10)
	began := time.Now()
	for range b.N {
		if _, err := js.PublishAsync("events.acme.x", data, jetstream.WithStallWait(time.Minute)); err != nil {
			b.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	return float64(b.N) / time.Since(began).Seconds()
}

// BenchmarkSignIn10k is what an organization's first sign-in costs, and how much
// memory its account takes.
func BenchmarkSignIn10k(b *testing.B) {
	k := &tokens{of: make(map[string]stream.Publisher)}
	s, err := stream.StartServer(b.Context(), stream.ServerOptions{
		Dir: b.TempDir(), Listen: "127.0.0.1:0", SyncInterval: time.Minute, MinFree: 1, SignIn: k.signIn, RequireSignIn: true,
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Close)
	const orgs = 10_000
	for b.Loop() {
		before := heap()
		began := time.Now()
		for i := range orgs {
			org := fmt.Sprintf("org%d", i)
			k.set("secret", publisher(org))
			nc, err := nats.Connect("nats://"+s.Addr(), nats.UserInfo(org, "secret"))
			if err != nil {
				b.Fatal(err)
			}
			nc.Close()
		}
		b.ReportMetric(float64(time.Since(began).Microseconds())/orgs, "µs/sign-in")
		b.ReportMetric(float64(heap()-before)/orgs, "B/org")
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
