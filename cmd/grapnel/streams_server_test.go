//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/client"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/stream"
	"github.com/nats-io/nats.go/jetstream"
)

// buildServer builds the NATS server of the version that go.mod pins.
func buildServer(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "nats-server")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "github.com/nats-io/nats-server/v2").CombinedOutput()
	if err != nil {
		t.Fatalf("go build nats-server: %v\n%s", err, out)
	}
	return bin
}

// natsServer is a NATS server as a process of its own, life after life on the
// same address and the same directory.
type natsServer struct {
	t      *testing.T
	bin    string
	dir    string // configuration, log, and what it stores
	listen string
	extra  string // of its configuration
	cmd    *exec.Cmd
	ended  chan struct{}
}

func newNATSServer(t *testing.T, bin string) *natsServer {
	t.Helper()
	s := &natsServer{t: t, bin: bin, dir: t.TempDir(), listen: freeAddress(t)}
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			t.Logf("the log of nats-server %s ends:\n%s", s.listen, log[max(len(log)-2000, 0):])
		}
		s.kill()
	})
	return s
}

func (s *natsServer) url() string { return "nats://" + s.listen }

func (s *natsServer) store() string { return filepath.Join(s.dir, "jetstream") }

// start returns when the server takes connections and has its streams.
func (s *natsServer) start(ctx context.Context) {
	s.t.Helper()
	s.launch()
	eventually(ctx, s.t, "nats-server to listen", func() bool {
		conn, err := net.Dial("tcp", s.listen)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

func (s *natsServer) launch() {
	s.t.Helper()
	config := filepath.Join(s.dir, "nats-server.conf")
	text := fmt.Sprintf("listen: %q\nlog_file: %q\njetstream { store_dir: %q, sync_interval: always }\n%s", s.listen, filepath.Join(s.dir, "log"), s.dir, s.extra)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.cmd, s.ended = exec.Command(s.bin, "-c", config), make(chan struct{})
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func(cmd *exec.Cmd, ended chan struct{}) {
		cmd.Wait()
		close(ended)
	}(s.cmd, s.ended)
}

func (s *natsServer) signal(sig syscall.Signal) {
	if s.cmd != nil {
		s.cmd.Process.Signal(sig) // an error: it has ended already
	}
}

// kill is SIGKILL, and waits for the end.
func (s *natsServer) kill() {
	if s.cmd == nil {
		return
	}
	s.signal(syscall.SIGKILL)
	<-s.ended
	s.cmd = nil
}

// freeze makes the server stand still with its connections open, as behind a
// link that swallows everything.
func (s *natsServer) freeze() { s.signal(syscall.SIGSTOP) }
func (s *natsServer) thaw()   { s.signal(syscall.SIGCONT) }

// save copies what a dead server has stored; restore puts the copy back: all
// that was acknowledged since is gone, and no stream says so.
func (s *natsServer) save() (saved string) {
	s.t.Helper()
	saved = filepath.Join(s.t.TempDir(), "saved")
	if err := os.CopyFS(saved, os.DirFS(s.store())); err != nil {
		s.t.Fatal(err)
	}
	return saved
}

func (s *natsServer) restore(saved string) {
	s.t.Helper()
	if err := os.RemoveAll(s.store()); err != nil {
		s.t.Fatal(err)
	}
	if err := os.CopyFS(s.store(), os.DirFS(saved)); err != nil {
		s.t.Fatal(err)
	}
}

// beach is a daemon that uses a NATS server of its own, a receiver, and a
// publisher that knows what it has appended.
type beach struct {
	t    *testing.T
	ctx  context.Context
	s    *natsServer
	v    *victim
	r    *receiver
	js   jetstream.JetStream
	sent map[string]stream.Seq // by dedupe key
	lost map[string]bool       // keys of events that nobody needs to deliver
}

const beachStream = "EVENTS_acme"

// newBeach starts server and daemon, with the org acme and one endpoint that
// gets everything. The stream is grapnel's own, unless foreign says otherwise.
func newBeach(t *testing.T, bin, server string, foreign *jetstream.StreamConfig, flags ...string) *beach {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	b := &beach{t: t, ctx: ctx, s: newNATSServer(t, server), sent: map[string]stream.Seq{}, lost: map[string]bool{}}
	b.s.start(ctx)
	b.js = connect(t, b.s.url())
	if foreign != nil {
		foreign.Name, foreign.Subjects = beachStream, []string{"events.acme.>"}
		if _, err := b.js.CreateStream(ctx, *foreign); err != nil {
			t.Fatal(err)
		}
	}
	b.v = newVictim(t, bin, append([]string{"--nats-url", b.s.url()}, flags...)...)
	b.r = newReceiver(t, b.v, 1)
	b.v.run(ctx)
	if foreign != nil { // it may have found the stream before we come
		eventually(ctx, t, "the stream to be adopted", func() bool {
			_, err := b.v.client.Org(ctx, "acme")
			return err == nil
		})
		if err := addHook(ctx, b.v, b.r, b.hook()); err != nil {
			t.Fatal(err)
		}
		return b
	}
	subscribe(ctx, t, b.v, b.r, []*hook{b.hook()})
	return b
}

func (b *beach) hook() *hook {
	return &hook{name: "all", org: "acme", types: []string{"*"}, attempts: 50}
}

// append appends events with these keys.
func (b *beach) append(keys ...string) {
	b.t.Helper()
	for _, key := range keys {
		b.publish("events.acme.invoice.paid", key)
	}
}

func (b *beach) publish(subject, key string) {
	b.t.Helper()
	var ack *jetstream.PubAck
	eventually(b.ctx, b.t, "an acknowledgement", func() bool {
		short, cancel := context.WithTimeout(b.ctx, time.Second)
		defer cancel()
		var err error
		ack, err = b.js.Publish(short, subject, fmt.Appendf(nil, `{"key":%q}`, key), jetstream.WithMsgID(key))
		return err == nil
	})
	b.sent[key] = stream.Seq(ack.Sequence)
}

// keys are prefix-from to prefix-to.
func keys(prefix string, from, to int) (list []string) {
	for n := from; n <= to; n++ {
		list = append(list, fmt.Sprintf("%s-%d", prefix, n))
	}
	return list
}

// forget says that events of these keys need not be delivered.
func (b *beach) forget(keys ...string) {
	for _, key := range keys {
		b.lost[key] = true
	}
}

// delivered counts by webhook-id what the receiver has accepted.
func (b *beach) delivered() map[string]int {
	got := map[string]int{}
	for _, c := range b.r.calls() {
		if c.status/100 == 2 {
			got[c.id]++
		}
	}
	return got
}

// settle waits until all that was appended is delivered, and says what was
// delivered twice, or was not to be.
func (b *beach) settle(what string) {
	b.t.Helper()
	var missing []string
	defer func() {
		if b.t.Failed() && len(missing) > 0 {
			slices.Sort(missing)
			b.t.Logf("%s: missing %d: %s", what, len(missing), strings.Join(missing[:min(len(missing), 20)], " "))
		}
	}()
	eventually(b.ctx, b.t, what, func() bool {
		got := b.delivered()
		missing = missing[:0]
		for key := range b.sent {
			if !b.lost[key] && got[stream.KeyID("acme", key).String()] == 0 {
				missing = append(missing, key)
			}
		}
		return len(missing) == 0
	})
	for id, n := range b.delivered() {
		if n > 1 {
			b.t.Errorf("%s: %s was delivered %d times", what, id, n)
		}
	}
}

// cursor waits until the org's cursor is as it should be.
func (b *beach) cursor(what string, ok func(httpapi.CursorBody) bool) httpapi.CursorBody {
	b.t.Helper()
	return b.cursorOf(b.v.client, what, ok)
}

func (b *beach) cursorOf(c *client.Client, what string, ok func(httpapi.CursorBody) bool) (last httpapi.CursorBody) {
	b.t.Helper()
	defer func() {
		if b.t.Failed() {
			text, _ := json.Marshal(last)
			b.t.Logf("%s: the cursor is %s", what, text)
		}
	}()
	eventually(b.ctx, b.t, what, func() bool {
		now, err := c.Cursor(b.ctx, "acme")
		if err == nil {
			last = now
		}
		return err == nil && ok(now)
	})
	return last
}

// state waits for a state of the cursor.
func (b *beach) state(want string) httpapi.CursorBody {
	b.t.Helper()
	return b.cursor("state "+want, func(c httpapi.CursorBody) bool { return c.State == want })
}

// read waits until the cursor has read everything.
func (b *beach) read() httpapi.CursorBody {
	b.t.Helper()
	return b.cursor("all to be read", func(c httpapi.CursorBody) bool { return c.Lag == 0 && c.Position == c.LastSeq })
}

// metric waits for a line of the metrics.
func (b *beach) metric(line string) {
	b.t.Helper()
	eventually(b.ctx, b.t, "metric "+line, func() bool {
		_, body := b.v.get(b.ctx, "/metrics")
		return strings.Contains(body, "\n"+line+"\n")
	})
}

// degraded waits until a daemon is ready all the same, and says to the operator
// what is wrong.
func (b *beach) degraded(v *victim, with string) {
	b.t.Helper()
	eventually(b.ctx, b.t, "readyz to say "+with, func() bool {
		status, body := v.get(b.ctx, "/readyz")
		var told httpapi.HealthBody
		v.socket(b.ctx, "/readyz", &told)
		return status == http.StatusOK && strings.Contains(body, "degraded") && strings.Contains(strings.Join(told.Degraded, " "), with)
	})
}

// end proves the books and stops the daemon.
func (b *beach) end() {
	b.t.Helper()
	fsck(b.ctx, b.t, b.v)
	b.v.stop(b.ctx, b.v.last())
}
