package stream_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/grapnel-hooks/grapnel/stream"
)

// natsServer runs a NATS server that is not ours.
func natsServer(t *testing.T, o *server.Options) *server.Server {
	t.Helper()
	o.Host, o.NoSigs, o.NoLog = "127.0.0.1", true, true
	if o.Port == 0 {
		o.Port = server.RANDOM_PORT
	}
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("server is not ready")
	}
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s
}

func TestConnectRefuses(t *testing.T) {
	off := natsServer(t, &server.Options{})
	empty := filepath.Join(t.TempDir(), "empty.creds")
	if err := os.WriteFile(empty, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	const away = "nats://127.0.0.1:1"
	cases := []struct {
		name string
		o    stream.Options
		want string
	}{
		{"no broker", stream.Options{}, "URL"},
		{"a bad URL", stream.Options{URL: "nats://%zz"}, "nats://host:port"},
		{"a URL without a host", stream.Options{URL: "nats://"}, "nats://host:port"},
		{"a URL of something else", stream.Options{URL: "http://127.0.0.1:4222"}, `scheme "http"`},
		{"no credentials", stream.Options{URL: away, Creds: empty + "x"}, "credentials file"},
		{"bad credentials", stream.Options{URL: away, Creds: empty}, "no user key"},
		{"no CA", stream.Options{URL: away, TLSCA: empty + "x"}, "TLS CA"},
		{"a bad CA", stream.Options{URL: away, TLSCA: empty}, "no certificate"},
		{"a certificate without a key", stream.Options{URL: away, TLSCert: empty}, "TLS client certificate"},
		{"a bad prefix", stream.Options{URL: away, Names: stream.Names{Prefix: "a.b"}}, "prefix"},
		{"JetStream off", stream.Options{URL: off.ClientURL()}, "JetStream is off"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			client, err := stream.Connect(t.Context(), c.o)
			if err == nil {
				client.Close()
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %q does not say %q", err, c.want)
			}
		})
	}
}

func TestConnectDoesNotTellSecrets(t *testing.T) {
	_, err := stream.Connect(t.Context(), stream.Options{URL: "nats://user:hunter2@ho st:x"})
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error %v", err)
	}
}

// The daemon starts while an external broker is away.
func TestConnectBeforeTheBrokerIsThere(t *testing.T) {
	first := serve(t, stream.ServerOptions{Listen: "127.0.0.1:0"})
	addr := first.Addr()
	first.Close()
	c := connect(t, stream.Options{URL: addr})
	states := make(chan bool, 16)
	c.OnState(func(up bool) { states <- up })
	if within(t, "state", states) || c.Connected() {
		t.Fatal("connected to nothing")
	}
	if !errors.Is(c.Err(), stream.ErrUnavailable) {
		t.Errorf("error %v", c.Err())
	}
	wakes := make(chan stream.Wake, 1)
	if err := c.OnWake(func(w stream.Wake) { wakes <- w }); err != nil {
		t.Fatal(err)
	}
	serve(t, stream.ServerOptions{Listen: addr})
	if !within(t, "connection", states) {
		t.Fatal("not connected")
	}
	if _, err := c.Create(t.Context(), stream.OrgStream{Org: "acme"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Append(t.Context(), "acme", event("x")); err != nil {
		t.Fatal(err)
	}
	within(t, "wake-up", wakes)
}

// A broker that comes without JetStream is not used, and is once it has it.
func TestJetStreamComesLater(t *testing.T) {
	s := natsServer(t, &server.Options{})
	addr := s.Addr().String()
	s.Shutdown()
	s.WaitForShutdown()
	c := connect(t, stream.Options{URL: addr})
	states := make(chan bool, 16)
	c.OnState(func(up bool) { states <- up })
	within(t, "state", states)

	without := natsServer(t, &server.Options{Port: portOf(t, addr)})
	eventually(t, "a word about JetStream", func() bool {
		return c.Err() != nil && strings.Contains(c.Err().Error(), "JetStream is off")
	})
	without.Shutdown()
	without.WaitForShutdown()
	natsServer(t, &server.Options{Port: portOf(t, addr), JetStream: true, StoreDir: t.TempDir()})
	if !within(t, "connection", states) || !c.Connected() || c.Err() != nil {
		t.Errorf("connected %v, error %v", c.Connected(), c.Err())
	}
}

// The same account, seen without JetStream rights: the error names the account.
func TestJetStreamOffForTheAccount(t *testing.T) {
	account := server.NewAccount("A")
	s := natsServer(t, &server.Options{
		JetStream: true, StoreDir: t.TempDir(), Accounts: []*server.Account{account},
		Users: []*server.User{{Username: "u", Password: "p", Account: account}},
	})
	_, err := stream.Connect(t.Context(), stream.Options{URL: "nats://u:p@" + s.Addr().String()})
	if err == nil || !strings.Contains(err.Error(), "account") {
		t.Errorf("error %v", err)
	}
}

func TestCloseEndsWhatIsInProgress(t *testing.T) {
	b := newBroker(t)
	b.create(t, "acme")
	c, err := stream.Connect(context.Background(), stream.Options{Server: b.server})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if _, _, err := c.Read(t.Context(), "EVENTS_acme", 1, 1); !errors.Is(err, stream.ErrUnavailable) {
		t.Errorf("read after close: %v", err)
	}
	if _, err := c.Append(t.Context(), "acme", event("x")); !errors.Is(err, stream.ErrUnavailable) {
		t.Errorf("append after close: %v", err)
	}
}
