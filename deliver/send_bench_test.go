package deliver

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver/sign"
	"github.com/grapnel-hooks/grapnel/stream"
)

// rawReceiver answers every request with the same bytes, having looked for
// nothing but its length: the cheapest receiver there is.
func rawReceiver(b *testing.B, response string) net.Addr {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := bufio.NewReaderSize(c, 8192)
				for {
					n := 0
					for {
						line, err := r.ReadSlice('\n')
						if err != nil {
							return
						}
						if len(line) <= 2 {
							break
						}
						if rest, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
							n, _ = strconv.Atoi(string(bytes.TrimSpace(rest)))
						}
					}
					if _, err := r.Discard(n); err != nil {
						return
					}
					if _, err := io.WriteString(c, response); err != nil {
						return
					}
				}
			}()
		}
	}()
	return ln.Addr()
}

const (
	answer204 = "HTTP/1.1 204 No Content\r\n\r\n"
	answer200 = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Sat, 21 Nov 2026 10:00:00 GMT\r\nContent-Length: 15\r\n\r\n{\"status\":\"ok\"}"
)

func benchSetup(b *testing.B, response string) (*Sender, *Target, *Payload) {
	addr := rawReceiver(b, response)
	s := NewSender(SenderOptions{
		Guard:     NewGuard(GuardOptions{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}),
		AllowHTTP: true,
		UserAgent: "grapnel/bench",
	})
	b.Cleanup(s.Close)
	t, err := NewTarget(Endpoint{ID: "ep_1", URL: "http://" + addr.String() + "/hook", Secrets: []Secret{{Secret: sign.NewSecret()}}, Timeout: 10 * time.Second})
	if err != nil {
		b.Fatal(err)
	}
	return s, t, &Payload{Event: 1, ID: stream.KeyID("acme", "1"), Stored: time.Now(), Body: bytes.Repeat([]byte("x"), 1024)}
}

// BenchmarkSend is one attempt, in-process receiver included, at 16 and 64 in
// flight; BenchmarkRoundTrip is the same request by a plain loop with the same
// Transport, which is the ceiling.
func BenchmarkSend(b *testing.B) {
	for _, bc := range []struct{ name, response string }{{"204", answer204}, {"200", answer200}} {
		b.Run(bc.name, func(b *testing.B) {
			s, t, p := benchSetup(b, bc.response)
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			inFlight(b, 16, func(i int) {
				if o := s.Send(ctx, t, p, Key{Event: int64(i), Endpoint: 1}, 1, time.Now()); o.Class != OK {
					b.Error(o)
				}
			})
		})
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	for _, bc := range []struct{ name, response string }{{"204", answer204}, {"200", answer200}} {
		b.Run(bc.name, func(b *testing.B) {
			s, t, p := benchSetup(b, bc.response)
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			inFlight(b, 16, func(i int) {
				if err := bareRoundTrip(ctx, s, t, p, Key{Event: int64(i), Endpoint: 1}); err != nil {
					b.Error(err)
				}
			})
		})
	}
}

func bareRoundTrip(ctx context.Context, s *Sender, t *Target, p *Payload, k Key) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	now := time.Now()
	id := p.ID.String()
	req := (&http.Request{
		Method: http.MethodPost, URL: t.url,
		Body: io.NopCloser(bytes.NewReader(p.Body)), ContentLength: int64(len(p.Body)),
		Header: http.Header{
			"Content-Type":       contentTypeJSON,
			"User-Agent":         {"grapnel/bench"},
			sign.HeaderID:        {id},
			sign.HeaderTimestamp: {strconv.FormatInt(now.Unix(), 10)},
			sign.HeaderSignature: {sign.Sign(t.secrets, id, now, p.Body)},
			"Grapnel-Delivery":   {k.ID(p.Stored)},
			"Grapnel-Attempt":    {"1"},
		},
	}).WithContext(ctx)
	res, err := s.transports.open.Load().RoundTrip(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, res.Body)
	res.Body.Close()
	return err
}

// inFlight runs do b.N times, n at a time.
func inFlight(b *testing.B, n int, do func(i int)) {
	b.ReportAllocs()
	var wg sync.WaitGroup
	work := make(chan int, n)
	for range n {
		wg.Go(func() {
			for i := range work {
				do(i)
			}
		})
	}
	b.ResetTimer()
	before := cpuTime()
	for i := range b.N {
		work <- i
	}
	close(work)
	wg.Wait()
	// CPU time, unlike the rate, is the same however busy the machine is.
	b.ReportMetric(float64((cpuTime()-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
}

// cpuTime is what this process has used so far, user and system.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
