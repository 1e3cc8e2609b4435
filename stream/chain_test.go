package stream_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/grapnel-hooks/grapnel/stream"
)

// script is a broker that answers as it is told to: what a real one does only
// when replies are lost, replicas lag or files are damaged.
type script struct {
	*stream.Client
	logs  *logs
	last  atomic.Uint64               // what the stream says of itself
	batch atomic.Pointer[func(reply)] // answers a Direct Get
	asked atomic.Int64                // Direct Gets so far
}

// reply sends one reply to a Direct Get: a header block as it is on the wire.
type reply func(block string)

// message is the reply with the message at seq, which names the one before it.
func (r reply) message(seq, before int) {
	r(fmt.Sprintf("NATS/1.0\r\nNats-Stream: EVENTS_acme\r\nNats-Subject: events.acme.x\r\nNats-Sequence: %d\r\n"+
		"Nats-Time-Stamp: 2026-01-02T03:04:05Z\r\nNats-Num-Pending: 0\r\nNats-Last-Sequence: %d\r\n\r\n", seq, before))
}

// end is the reply that ends a batch.
func (r reply) end(last, pending int) {
	r(fmt.Sprintf("NATS/1.0 204 EOB\r\nNats-Num-Pending: %d\r\nNats-Last-Sequence: %d\r\n\r\n", pending, last))
}

func (r reply) nothing() { r("NATS/1.0 404 Message Not Found\r\n\r\n") }

func newScript(t *testing.T) *script {
	t.Helper()
	ns := natsServer(t, &server.Options{})
	nc, err := nats.Connect(ns.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	out := dialRaw(t, ns.Addr().String())
	s := &script{logs: &logs{}}
	answer := func(subject string, f func(m *nats.Msg) string) {
		if _, err := nc.Subscribe(subject, func(m *nats.Msg) { m.Respond([]byte(f(m))) }); err != nil {
			t.Fatal(err)
		}
	}
	answer("$JS.API.INFO", func(*nats.Msg) string { return `{}` })
	answer("$JS.API.STREAM.INFO.EVENTS_acme", func(*nats.Msg) string {
		return fmt.Sprintf(`{"config":{"name":"EVENTS_acme","allow_direct":true},"created":"2026-01-01T00:00:00Z",
			"state":{"messages":%d,"first_seq":1,"last_seq":%d,"last_ts":"2026-01-02T03:04:05Z"}}`, s.last.Load(), s.last.Load())
	})
	answer("$JS.API.STREAM.MSG.GET.EVENTS_acme", func(m *nats.Msg) string {
		var in struct{ Seq int }
		if err := json.Unmarshal(m.Data, &in); err != nil {
			t.Error(err)
		}
		header := base64.StdEncoding.EncodeToString([]byte("NATS/1.0\r\nX-Single: 1\r\n\r\n"))
		return fmt.Sprintf(`{"message":{"subject":"events.acme.x","seq":%d,"hdrs":"%s","time":"2026-01-02T03:04:05Z"}}`, in.Seq, header)
	})
	if _, err := nc.Subscribe("$JS.API.DIRECT.GET.EVENTS_acme", func(m *nats.Msg) {
		s.asked.Add(1)
		if f := s.batch.Load(); f != nil {
			(*f)(func(block string) { out.publish(t, m.Reply, "", block, "") })
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	s.Client = connect(t, stream.Options{URL: ns.ClientURL(), Log: s.logs.logger()})
	return s
}

func (s *script) on(f func(r reply)) {
	g := func(r reply) { f(r) }
	s.batch.Store(&g)
}

func TestReadVerifiesTheChain(t *testing.T) {
	cases := []struct {
		name   string
		answer func(r reply)
		want   []stream.Seq
		alone  bool // the first was asked for alone
	}{
		{"whole", func(r reply) { r.message(5, 0); r.message(6, 5); r.message(9, 6); r.end(9, 0) }, []stream.Seq{5, 6, 9}, false},
		{"the first is lost", func(r reply) { r.message(6, 5); r.end(6, 0) }, []stream.Seq{5}, true},
		{"one inside is lost", func(r reply) { r.message(5, 0); r.message(7, 6); r.end(7, 0) }, []stream.Seq{5}, false},
		{"the last is lost", func(r reply) { r.message(5, 0); r.end(6, 0) }, []stream.Seq{5}, false},
		{"all are lost", func(r reply) { r.end(6, 0) }, []stream.Seq{5}, true},
		{"before what was asked", func(r reply) { r.message(4, 0); r.end(4, 0) }, []stream.Seq{5}, true},
		{"twice the same", func(r reply) { r.message(5, 0); r.message(5, 5); r.end(5, 0) }, []stream.Seq{5}, false},
		{"backwards", func(r reply) { r.message(7, 0); r.message(6, 7); r.end(6, 0) }, []stream.Seq{7}, false},
		{"a sequence that is none", func(r reply) {
			r("NATS/1.0\r\nNats-Stream: S\r\nNats-Sequence: x\r\nNats-Last-Sequence: 0\r\n\r\n")
			r.end(5, 0)
		}, []stream.Seq{5}, true},
		{"an end that says nothing", func(r reply) { r.message(5, 0); r("NATS/1.0 204\r\n\r\n") }, []stream.Seq{5}, false},
		{"an error at the end", func(r reply) { r.message(5, 0); r("NATS/1.0 408\r\n\r\n") }, []stream.Seq{5}, false},
		{"nothing", func(r reply) { r.nothing() }, nil, false},
	}
	s := newScript(t)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s.on(c.answer)
			msgs, _, err := s.Read(t.Context(), "EVENTS_acme", 5, 3)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, seqs(msgs)); diff != "" {
				t.Error(diff)
			}
			if alone := len(msgs) == 1 && msgs[0].Header.Get("X-Single") != ""; alone != c.alone {
				t.Errorf("asked for alone: %v, want %v", alone, c.alone)
			}
			s.on(func(r reply) { r.nothing() }) // forget what was heard
			s.last.Store(0)
			if _, _, err := s.Read(t.Context(), "EVENTS_acme", 1, 1); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestReadErrors(t *testing.T) {
	s := newScript(t)
	t.Run("no answer", func(t *testing.T) {
		s.on(func(r reply) {})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if _, _, err := s.Read(ctx, "EVENTS_acme", 1, 3); !errors.Is(err, stream.ErrUnavailable) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("no end", func(t *testing.T) {
		s.on(func(r reply) { r.message(1, 0) })
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if msgs, _, err := s.Read(ctx, "EVENTS_acme", 1, 3); len(msgs) > 0 || !errors.Is(err, stream.ErrUnavailable) {
			t.Errorf("%d messages, error %v", len(msgs), err)
		}
	})
	t.Run("a bad request", func(t *testing.T) {
		s.on(func(r reply) { r("NATS/1.0 408 Bad Request\r\n\r\n") })
		if _, _, err := s.Read(t.Context(), "EVENTS_acme", 1, 3); !errors.Is(err, stream.ErrUnavailable) || !strings.Contains(err.Error(), "Bad Request") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("the connection is lost", func(t *testing.T) {
		asked := make(chan struct{}, 1)
		s.on(func(r reply) { asked <- struct{}{} })
		failed := make(chan error, 1)
		go func() {
			_, _, err := s.Read(context.Background(), "EVENTS_acme", 1, 3)
			failed <- err
		}()
		within(t, "read", asked)
		s.Close()
		if err := within(t, "error", failed); !errors.Is(err, stream.ErrUnavailable) {
			t.Errorf("error %v", err)
		}
	})
}

// A wake-up or the stream's own state can be ahead of the replica that answers.
func TestReadThatComesTooEarly(t *testing.T) {
	s := newScript(t)
	s.last.Store(3)
	if _, err := s.State(t.Context(), "EVENTS_acme"); err != nil {
		t.Fatal(err)
	}
	s.on(func(r reply) {
		if s.asked.Load() < 4 {
			r.nothing()
			return
		}
		r.message(3, 0)
		r.end(3, 0)
	})
	msgs, last, err := s.Read(t.Context(), "EVENTS_acme", 3, 10)
	if err != nil || last != 3 || len(msgs) != 1 {
		t.Errorf("%d messages, last %d, error %v", len(msgs), last, err)
	}
}

// What a stream says that it holds and never returns is an error, not its end.
func TestReadThatMakesNoProgress(t *testing.T) {
	s := newScript(t)
	s.last.Store(9)
	s.on(func(r reply) { r.message(1, 0); r.end(1, 8) })
	msgs, last, err := s.Read(t.Context(), "EVENTS_acme", 1, 10)
	if err != nil || last != 9 || len(msgs) != 1 {
		t.Fatalf("%d messages, last %d, error %v", len(msgs), last, err)
	}
	if !strings.Contains(s.logs.String(), "less than it has") {
		t.Error("no word about the early end")
	}
	s.on(func(r reply) { r.nothing() })
	_, _, err = s.Read(t.Context(), "EVENTS_acme", 2, 10)
	if !errors.Is(err, stream.ErrUnavailable) || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("error %v", err)
	}
	s.last.Store(1) // the stream was rolled back: this is its end
	if msgs, _, err := s.Read(t.Context(), "EVENTS_acme", 2, 10); len(msgs) > 0 || err != nil {
		t.Errorf("%d messages, error %v", len(msgs), err)
	}
}

// A server that is too old is refused by name.
func TestConnectToAnOldServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	served := make(chan struct{})
	go func() {
		defer close(served)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprintf(conn, "INFO {\"server_id\":\"x\",\"version\":\"2.12.5\",\"headers\":true,\"max_payload\":1048576,\"proto\":1}\r\n")
		r := bufio.NewReader(conn)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			if strings.HasPrefix(line, "PING") {
				fmt.Fprint(conn, "PONG\r\n")
			}
		}
	}()
	_, err = stream.Connect(t.Context(), stream.Options{URL: l.Addr().String()})
	if err == nil || !strings.Contains(err.Error(), "2.12.5") || !strings.Contains(err.Error(), "2.12.6") {
		t.Errorf("error %v", err)
	}
	within(t, "end of the connection", served)
}
