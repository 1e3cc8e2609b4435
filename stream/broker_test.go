package stream_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/grapnel-hooks/grapnel/stream"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// Started once by the server's package and shared by all servers of a process.
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.init"),
	)
}

// broker is an embedded server and a client of it, as the daemon has them.
type broker struct {
	*stream.Client
	server *stream.Server
	logs   *logs
}

// serve starts a server that flushes seldom: these tests do not cut the power.
func serve(t testing.TB, o stream.ServerOptions) *stream.Server {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	if o.Listen == "" {
		o.Listen = "off"
	}
	if o.SyncInterval == 0 {
		o.SyncInterval = time.Minute
	}
	o.MinFree = 1
	s, err := stream.StartServer(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func connect(t testing.TB, o stream.Options) *stream.Client {
	t.Helper()
	c, err := stream.Connect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func newBroker(t testing.TB) *broker {
	t.Helper()
	l := &logs{}
	s := serve(t, stream.ServerOptions{Listen: "127.0.0.1:0"})
	return &broker{Client: connect(t, stream.Options{Server: s, Log: l.logger()}), server: s, logs: l}
}

// raw is the JetStream API of an ordinary client, as an operator or a
// publisher has it.
func (b *broker) raw(t testing.TB) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	return dial(t, "nats://"+b.server.Addr())
}

// own is the same as the daemon has it, who may take messages out.
func (b *broker) own(t testing.TB) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	return dial(t, "", nats.InProcessServer(b.server))
}

func dial(t testing.TB, url string, o ...nats.Option) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	nc, err := nats.Connect(url, o...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return nc, js
}

// create makes the stream of an org, which must be possible.
func (b *broker) create(t testing.TB, org string, subjects ...string) stream.State {
	t.Helper()
	st, err := b.Create(t.Context(), stream.OrgStream{Org: org, Subjects: subjects})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func (b *broker) append(t testing.TB, org string, a stream.Append) stream.Ack {
	t.Helper()
	ack, err := b.Append(t.Context(), org, a)
	if err != nil {
		t.Fatal(err)
	}
	return ack
}

// all reads a stream to its end.
func all(t testing.TB, c *stream.Client, name string) []stream.Message {
	t.Helper()
	var got []stream.Message
	for from := stream.Seq(1); ; {
		msgs, _, err := c.Read(t.Context(), name, from, 256)
		if err != nil {
			t.Fatal(err)
		}
		if len(msgs) == 0 {
			return got
		}
		got = append(got, msgs...)
		from = msgs[len(msgs)-1].Seq + 1
	}
}

func seqs(msgs []stream.Message) []stream.Seq {
	var s []stream.Seq
	for _, m := range msgs {
		s = append(s, m.Seq)
	}
	return s
}

// publishRaw stores a message whose header block is what no client library
// would send. It waits for the stream's word.
func (b *broker) publishRaw(t testing.TB, subject, header, data string) {
	t.Helper()
	r := dialRaw(t, b.server.Addr())
	defer r.Close()
	r.publish(t, subject, "raw.reply", header, data)
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatalf("publish raw: %v", err)
		}
		switch {
		case strings.HasPrefix(line, "-ERR"):
			t.Fatalf("publish raw: %s", line)
		case strings.HasPrefix(line, "MSG raw.reply"):
			ack, _ := in.ReadString('\n')
			if !strings.Contains(ack, `"seq"`) || strings.Contains(ack, `"error"`) {
				t.Fatalf("publish raw: %s", ack)
			}
			return
		}
	}
}

// rawConn speaks the protocol without a library.
type rawConn struct{ net.Conn }

func dialRaw(t testing.TB, addr string) rawConn {
	t.Helper()
	conn := dialPlain(t, addr)
	fmt.Fprint(conn, "CONNECT {\"headers\":true,\"no_responders\":true,\"verbose\":false}\r\nSUB raw.reply 1\r\n")
	return conn
}

// dialPlain connects and says nothing.
func dialPlain(t testing.TB, addr string) rawConn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	return rawConn{conn}
}

func (r rawConn) publish(t testing.TB, subject, reply, header, data string) {
	if _, err := fmt.Fprintf(r, "HPUB %s %s %d %d\r\n%s%s\r\n", subject, reply, len(header), len(header)+len(data), header, data); err != nil {
		t.Error(err)
	}
}

// within waits for a value, at most ten seconds.
func within[T any](t testing.TB, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(10 * time.Second):
		t.Fatalf("%s: not within 10 s", what)
		panic("unreachable")
	}
}

// eventually repeats f until it is true, at most ten seconds.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for !f() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}

// logs keeps what was logged.
type logs struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logs) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

var _ io.Writer = (*logs)(nil)

func event(typ string) stream.Append {
	return stream.Append{Type: typ, Data: []byte(`{"n":1}`)}
}

func portOf(t testing.TB, addr string) int {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return a.Port
}
