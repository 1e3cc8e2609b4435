package deliver_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/delivertest"
	"github.com/grapnel-hooks/grapnel/deliver/sign"
)

func TestConnectionsAreUsedAgain(t *testing.T) {
	for _, tc := range []struct {
		name   string
		answer delivertest.Answer
		dials  int
	}{
		{"no body", delivertest.Status(204), 1},
		{"small body", delivertest.Reply(200, "ok"), 1},
		{"body of 15 KiB", delivertest.Reply(500, strings.Repeat("x", 15<<10)), 1},
		{"body of 64 KiB", delivertest.Reply(200, strings.Repeat("x", 64<<10)), 10},
		{"connection: close", delivertest.Reply(200, "ok", "Connection", "close"), 10},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := delivertest.NewNetwork()
				r := delivertest.NewReceiver()
				r.Otherwise(tc.answer)
				delivertest.Serve(t, n.Listen("93.184.215.14:80"), r)
				s, to := newSender(t, inMemory(n)), target(t, "http://93.184.215.14/")
				for i := range 10 {
					if o := send(t, s, to, int64(i)); o.Status == 0 {
						t.Fatalf("outcome %+v", o)
					}
				}
				if got := len(n.Dialed()); got != tc.dials {
					t.Errorf("%d connections, want %d", got, tc.dials)
				}
				if got := len(r.Requests()); got != 10 {
					t.Errorf("%d requests", got)
				}
			})
		})
	}
}

func TestIdleConnectionsAreClosedSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := delivertest.NewNetwork()
		r := delivertest.NewReceiver()
		delivertest.Serve(t, n.Listen("93.184.215.14:80"), r)
		s, to := newSender(t, inMemory(n)), target(t, "http://93.184.215.14/")
		for i, pause := range []time.Duration{3 * time.Second, 5 * time.Second, 0} {
			send(t, s, to, int64(i))
			time.Sleep(pause)
		}
		if got := len(n.Dialed()); got != 2 {
			t.Errorf("%d connections, want 2", got)
		}
	})
}

// A receiver that breaks a kept connection on its second request sees that
// request once: the transport must not send it again.
func TestREL27_NothingIsSentAgain(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var onWire atomic.Int64
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				for i := range 2 {
					b := make([]byte, 8192)
					if k, _ := c.Read(b); k == 0 {
						return
					}
					onWire.Add(1)
					if i == 0 {
						io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
					}
				}
			})
		}
	})
	s, to := newSender(t, loopback()), target(t, "http://"+ln.Addr().String()+"/")
	const attempts = 100
	classes := map[deliver.Class]int{}
	for i := range int64(attempts) {
		classes[send(t, s, to, i).Class]++
	}
	want := map[deliver.Class]int{deliver.OK: attempts / 2, deliver.Reset: attempts / 2}
	if diff := cmp.Diff(want, classes); diff != "" {
		t.Errorf("classes: -want +got:\n%s", diff)
	}
	s.Close()
	ln.Close()
	conns.Wait()
	if n := onWire.Load(); n != attempts {
		t.Errorf("%d requests on the wire for %d attempts", n, attempts)
	}
}

// Connections that the receiver closes while they are idle cost at most the
// attempt that meets the close, and never a second request.
func TestREL27_DeadIdleConnections(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var onWire atomic.Int64
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				b := make([]byte, 8192)
				if k, _ := c.Read(b); k > 0 {
					onWire.Add(1)
					io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
				}
				c.(*net.TCPConn).SetLinger(0)
				c.Close() // a RST on what the client takes for an idle connection
			})
		}
	})
	s, to := newSender(t, loopback()), target(t, "http://"+ln.Addr().String()+"/")
	const attempts = 200
	answered := 0
	for i := range int64(attempts) {
		switch o := send(t, s, to, i); o.Class {
		case deliver.OK:
			answered++
		case deliver.Reset:
		default:
			t.Errorf("outcome %+v", o)
		}
	}
	s.Close()
	ln.Close()
	conns.Wait()
	if n := onWire.Load(); n > attempts || n < int64(answered) {
		t.Errorf("%d requests on the wire, %d answered, of %d", n, answered, attempts)
	}
}

func TestDeadlineAndShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := delivertest.NewNetwork()
		r := delivertest.NewReceiver()
		r.Otherwise(delivertest.Hang())
		delivertest.Serve(t, n.Listen("93.184.215.14:80"), r)
		s, to := newSender(t, inMemory(n)), target(t, "http://93.184.215.14/")

		start := time.Now()
		o := send(t, s, to, 1)
		if o.Class != deliver.Timeout || o.Duration != 10*time.Second || time.Since(start) != 10*time.Second {
			t.Errorf("deadline: %+v", o)
		}
		if o.Error != "no answer within 10s" {
			t.Errorf("text %q", o.Error)
		}

		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(3*time.Second, cancel)
		o = s.Send(ctx, to, payload(2, "{}"), deliver.Key{Event: 2}, 1, time.Now())
		if o.Class != deliver.Ours || o.Duration != 3*time.Second {
			t.Errorf("shutdown: %+v", o)
		}
		o = s.Send(ctx, to, payload(3, "{}"), deliver.Key{Event: 3}, 1, time.Now())
		if o.Class != deliver.Ours || o.Duration != 0 {
			t.Errorf("after shutdown: %+v", o)
		}
		if got := len(r.Requests()); got != 2 {
			t.Errorf("%d requests, want 2", got)
		}

		// What was left by a success under one context serves no other.
		r.Otherwise(delivertest.Status(204))
		if o := send(t, s, to, 4); o.Class != deliver.OK {
			t.Errorf("afterwards: %+v", o)
		}
		r.Otherwise(delivertest.Hang())
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(3*time.Second, cancel)
		o = s.Send(ctx, to, payload(5, "{}"), deliver.Key{Event: 5}, 1, time.Now())
		if o.Class != deliver.Ours || o.Duration != 3*time.Second {
			t.Errorf("shutdown after a success: %+v", o)
		}
	})
}

func TestTheAnswerJustBeforeTheDeadlineCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := delivertest.NewNetwork()
		r := delivertest.NewReceiver()
		delivertest.Serve(t, n.Listen("93.184.215.14:80"), r)
		s, to := newSender(t, inMemory(n)), target(t, "http://93.184.215.14/")
		for i := range int64(20) { // the same exchange, its deadline moved each time
			r.Script(delivertest.After(10*time.Second-1, delivertest.Reply(200, "late")))
			if o := send(t, s, to, i); o.Class != deliver.OK || string(o.Body) != "late" || o.Truncated {
				t.Fatalf("attempt %d: %+v", i, o)
			}
		}
	})
}

// Attempts in flight at the same time do not mix their headers, bodies or
// deadlines, also when receivers answer before they have read the request.
func TestAttemptsDoNotMix(t *testing.T) {
	early, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := early.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				for b := bufio.NewReader(c); ; {
					req, err := http.ReadRequest(b)
					if err != nil {
						return
					}
					io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
					io.Copy(io.Discard, req.Body)
				}
			})
		}
	})
	secret := sign.NewSecret()
	r := delivertest.NewReceiver(secret)
	s := newSender(t, loopback())
	good, bad := target(t, r.Start(t), secret), target(t, "http://"+early.Addr().String()+"/", secret)
	const workers, each = 8, 50
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				n := int64(w*each + i)
				body := fmt.Sprintf(`{"n":%d,"pad":"%s"}`, n, strings.Repeat(fmt.Sprint(w), 1000*(i%3*i)))
				p := payload(n, body)
				k := deliver.Key{Event: n, Endpoint: int64(w)}
				if i%2 == 0 {
					s.Send(t.Context(), bad, p, k, i, time.Now())
				}
				if o := s.Send(t.Context(), good, p, k, i, time.Now()); o.Class != deliver.OK {
					t.Errorf("outcome %+v", o)
				}
			}
		})
	}
	wg.Wait()
	s.Close()
	early.Close()
	conns.Wait()
	ledger := r.Requests()
	if len(ledger) != workers*each {
		t.Errorf("%d requests, want %d", len(ledger), workers*each)
	}
	for _, req := range ledger {
		var n int64
		fmt.Sscanf(string(req.Body), `{"n":%d`, &n)
		k := deliver.Key{Event: n, Endpoint: n / each}
		p := payload(n, "")
		if req.Invalid != nil || req.ID() != p.ID.String() || req.Delivery() != k.ID(p.Stored) || req.Attempt() != int(n%each) {
			t.Errorf("event %d: %v, headers %v", n, req.Invalid, req.Header)
		}
	}
}

// A receiver that answers before it reads leaves the transport writing. Under
// the race detector: what it still reads must not be prepared for the next
// attempt meanwhile.
func TestAnswerBeforeTheRequestIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := delivertest.NewNetwork()
		r := delivertest.NewReceiver()
		delivertest.Serve(t, n.Listen("93.184.215.14:80"), r)
		ln := n.Listen("93.184.215.15:80")
		defer ln.Close()
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					http.ReadRequest(bufio.NewReader(c))
					io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
					time.Sleep(time.Second) // a pipe takes nothing that is not read
				}()
			}
		}()
		s := newSender(t, inMemory(n))
		good, early := target(t, "http://93.184.215.14/"), target(t, "http://93.184.215.15/")
		for i := range int64(20) {
			o := s.Send(t.Context(), early, payload(i, strings.Repeat("x", 64<<10)), deliver.Key{Event: i}, 1, time.Now())
			if o.Class != deliver.OK {
				t.Errorf("outcome %+v", o)
			}
			if o := send(t, s, good, i); o.Class != deliver.OK {
				t.Errorf("outcome %+v", o)
			}
		}
		time.Sleep(time.Minute)
	})
}

func TestOneEventsTraceIsNotTheNexts(t *testing.T) {
	const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	r := delivertest.NewReceiver()
	s := newSender(t, loopback())
	to := target(t, r.Start(t))
	for i, trace := range []string{"", traceparent, "", strings.Replace(traceparent, "00-", "01-", 1)} {
		p := payload(int64(i), "{}")
		p.TraceParent = trace
		s.Send(t.Context(), to, p, deliver.Key{Event: int64(i)}, 1, time.Now())
	}
	var got []string
	for _, req := range r.Requests() {
		got = append(got, req.Header.Get("Traceparent"))
	}
	if diff := cmp.Diff([]string{"", traceparent, "", ""}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// A receiver that speaks HTTP/2 and refuses a request, or goes away, says that it
// has not looked at it. Still it is sent once.
func TestREL27_HTTP2SendsNothingAgain(t *testing.T) {
	for name, refuse := range map[string]func(h *delivertest.HTTP2Conn, stream uint32) error{
		"refuses":   func(h *delivertest.HTTP2Conn, stream uint32) error { return h.Refuse(stream) },
		"goes away": func(h *delivertest.HTTP2Conn, _ uint32) error { return h.GoAway() },
		"goes away and closes": func(h *delivertest.HTTP2Conn, _ uint32) error {
			return errors.Join(h.GoAway(), h.Close())
		},
		"closes": func(h *delivertest.HTTP2Conn, _ uint32) error { return h.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ca := delivertest.NewAuthority(t)
				config := &tls.Config{Certificates: []tls.Certificate{ca.Certificate("receiver.example", time.Now().Add(time.Hour))}}
				n := delivertest.NewNetwork()
				n.Buffer()
				n.Name("receiver.example", "93.184.215.14")
				ln := n.Listen("93.184.215.14:443")
				defer ln.Close()
				var onWire, refused atomic.Int64
				go serve(ln, delivertest.Hostile{Serve: func(c net.Conn) {
					h, err := delivertest.HTTP2(c, config)
					if err != nil {
						return
					}
					defer h.Close()
					for {
						stream, err := h.Request()
						if err != nil {
							return
						}
						if onWire.Add(1)%2 == 1 {
							err = h.Answer(stream, "204")
						} else {
							refused.Add(1)
							err = refuse(h, stream)
						}
						if err != nil {
							return
						}
					}
				}})
				options := inMemory(n)
				options.RootCAs = ca.Pool()
				s, to := newSender(t, options), target(t, "https://receiver.example/")
				const attempts = 20
				answered := 0
				for i := range int64(attempts) {
					switch o := send(t, s, to, i); {
					case o.Class == deliver.OK:
						answered++
					case o.Class != deliver.Reset:
						t.Errorf("%+v", o)
					}
				}
				if onWire.Load() != attempts || int64(answered)+refused.Load() != attempts {
					t.Errorf("%d requests on the wire for %d attempts, %d answered, %d refused", onWire.Load(), attempts, answered, refused.Load())
				}
				s.Close()
				time.Sleep(time.Minute)
			})
		})
	}
}
