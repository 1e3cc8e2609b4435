package stream_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/grapnel-hooks/grapnel/stream"
)

func TestStartServerRefuses(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name   string
		dir    string
		listen string
		want   []string
	}{
		{"every address", "", "0.0.0.0:4222", []string{"sign in"}},
		{"no host", "", ":4222", []string{"sign in"}},
		{"an address of a network", "", "192.0.2.1:4222", []string{"sign in"}},
		{"a name", "", "example.com:4222", []string{"IP address"}},
		{"no port", "", "127.0.0.1", []string{"host:port"}},
		{"a bad port", "", "127.0.0.1:70000", []string{"0 to 65535"}},
		{"a port in use", "", taken.Addr().String(), []string{taken.Addr().String(), "in use", "--nats-listen"}},
		{"a file as directory", file, "off", []string{file}},
		{"a directory that cannot be", filepath.Join(file, "x"), "off", []string{"not a directory"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := c.dir
			if dir == "" {
				dir = t.TempDir()
			}
			s, err := stream.StartServer(t.Context(), stream.ServerOptions{Dir: dir, Listen: c.listen})
			if err == nil {
				s.Close()
				t.Fatal("no error")
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("error %q does not say %q", err, w)
				}
			}
		})
	}
}

// The port is free again, and the directory usable, once Close has returned.
func TestServerStopsAndStartsAgain(t *testing.T) {
	dir := t.TempDir()
	s, err := stream.StartServer(t.Context(), stream.ServerOptions{Dir: dir, Listen: "127.0.0.1:0", MinFree: 1})
	if err != nil {
		t.Fatal(err)
	}
	addr := s.Addr()
	if err := s.Health(); err != nil {
		t.Errorf("health: %v", err)
	}
	c, err := stream.Connect(t.Context(), stream.Options{URL: "nats://" + addr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	states := make(chan bool, 16)
	c.OnState(func(up bool) { states <- up })
	if !within(t, "state", states) {
		t.Fatal("not connected")
	}
	was, err := c.Create(t.Context(), stream.OrgStream{Org: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := c.Append(t.Context(), "acme", event("x")); err != nil {
			t.Fatal(err)
		}
	}

	s.Close()
	if within(t, "loss of the broker", states) {
		t.Fatal("still connected")
	}
	if c.Connected() || !errors.Is(c.Err(), stream.ErrUnavailable) {
		t.Errorf("connected %v, error %v", c.Connected(), c.Err())
	}
	if err := s.Health(); err == nil {
		t.Error("a stopped server is healthy")
	}
	_, _, err = c.Read(t.Context(), "EVENTS_acme", 1, 10)
	if !errors.Is(err, stream.ErrUnavailable) {
		t.Errorf("read while the broker is away: %v", err)
	}
	if _, err := c.State(t.Context(), "EVENTS_acme"); !errors.Is(err, stream.ErrUnavailable) {
		t.Errorf("state while the broker is away: %v", err)
	}
	if _, err := c.Append(t.Context(), "acme", event("x")); !errors.Is(err, stream.ErrUnavailable) {
		t.Errorf("append while the broker is away: %v", err)
	}

	serve(t, stream.ServerOptions{Dir: dir, Listen: addr})
	if !within(t, "return of the broker", states) {
		t.Fatal("not connected")
	}
	is, err := c.State(t.Context(), "EVENTS_acme")
	if err != nil {
		t.Fatal(err)
	}
	if !is.Created.Equal(was.Created) || is.Last != 3 {
		t.Errorf("after the restart: created %v, was %v; last %d", is.Created, was.Created, is.Last)
	}
	if diff := cmp.Diff([]stream.Seq{1, 2, 3}, seqs(all(t, c, "EVENTS_acme"))); diff != "" {
		t.Error(diff)
	}
}

// In-process clients come back by themselves after Restart.
func TestServerRestart(t *testing.T) {
	b := newBroker(t)
	addr := b.server.Addr()
	b.create(t, "acme")
	b.append(t, "acme", event("x"))
	wakes := make(chan stream.Wake, 16)
	if err := b.OnWake(func(w stream.Wake) { wakes <- w }); err != nil {
		t.Fatal(err)
	}
	states := make(chan bool, 16)
	b.OnState(func(up bool) { states <- up })
	within(t, "state", states)
	if err := b.server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	for !within(t, "return of the broker", states) {
	}
	if b.server.Addr() != addr {
		t.Errorf("address %s, was %s", b.server.Addr(), addr)
	}
	if got := b.append(t, "acme", event("x")); got.Seq != 2 {
		t.Errorf("sequence %d, want 2", got.Seq)
	}
	if w := within(t, "wake-up after the restart", wakes); w.Org != "acme" || w.Seq != 2 {
		t.Errorf("wake-up %+v", w)
	}
}

// A power cut can take acknowledged messages away when appends are not synced,
// and so does a backup that is put back. The stream keeps its creation time.
func TestServerRolledBack(t *testing.T) {
	dir := t.TempDir()
	backup := t.TempDir()
	life := func(f func(c *stream.Client)) {
		s, err := stream.StartServer(t.Context(), stream.ServerOptions{Dir: dir, Listen: "off", MinFree: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		c, err := stream.Connect(t.Context(), stream.Options{Server: s})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		f(c)
	}
	appendN := func(c *stream.Client, n int) {
		for range n {
			if _, err := c.Append(t.Context(), "acme", event("x")); err != nil {
				t.Fatal(err)
			}
		}
	}
	var before, after []stream.Message
	var created time.Time
	life(func(c *stream.Client) {
		st, err := c.Create(t.Context(), stream.OrgStream{Org: "acme"})
		if err != nil {
			t.Fatal(err)
		}
		created = st.Created
		appendN(c, 3)
	})
	if err := os.CopyFS(backup, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	life(func(c *stream.Client) {
		appendN(c, 3)
		before = all(t, c, "EVENTS_acme")
	})
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dir, os.DirFS(backup)); err != nil {
		t.Fatal(err)
	}
	life(func(c *stream.Client) {
		st, err := c.State(t.Context(), "EVENTS_acme")
		if err != nil {
			t.Fatal(err)
		}
		if !st.Created.Equal(created) || st.Last != 3 {
			t.Errorf("rolled back: created %v (was %v), last %d", st.Created, created, st.Last)
		}
		if msgs, _, err := c.Read(t.Context(), "EVENTS_acme", 7, 10); len(msgs) > 0 || err != nil {
			t.Errorf("read after the lost end: %v, %v", msgs, err)
		}
		appendN(c, 3)
		after = all(t, c, "EVENTS_acme")
	})
	if diff := cmp.Diff(before[:3], after[:3]); diff != "" {
		t.Errorf("what was kept: %s", diff)
	}
	if before[5].Seq != after[5].Seq || before[5].Time.Equal(after[5].Time) {
		t.Errorf("another message at %d, but stored at %v and %v", after[5].Seq, before[5].Time, after[5].Time)
	}
}

// Streams may promise more than the disk has; what counts is what they hold.
func TestServerMaxStore(t *testing.T) {
	s := serve(t, stream.ServerOptions{MaxStore: 64 << 10})
	c := connect(t, stream.Options{Server: s, MaxBytes: 1 << 50})
	for i := range 5 {
		if _, err := c.Create(t.Context(), stream.OrgStream{Org: fmt.Sprintf("org%d", i)}); err != nil {
			t.Fatal(err)
		}
	}
	data := fmt.Appendf(nil, `"%s"`, strings.Repeat("x", 16<<10))
	var err error
	eventually(t, "a full store", func() bool {
		_, err = c.Append(t.Context(), "org0", stream.Append{Type: "x", Data: data})
		return err != nil
	})
	if !errors.Is(err, stream.ErrFull) {
		t.Errorf("error %v", err)
	}
	if err := s.Health(); !errors.Is(err, stream.ErrFull) {
		t.Errorf("health %v", err)
	}
	if err := c.Remove(t.Context(), "org0"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "health", func() bool { return s.Health() == nil })
	if _, err := c.Append(t.Context(), "org1", event("x")); err != nil {
		t.Error(err)
	}
}

func TestStartServerHonoursContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s, err := stream.StartServer(ctx, stream.ServerOptions{Dir: t.TempDir(), Listen: "off"})
	if err == nil { // it was ready before anybody looked
		s.Close()
	} else if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
