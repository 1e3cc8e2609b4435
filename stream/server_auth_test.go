package stream_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/grapnel-hooks/grapnel/stream"
	"github.com/grapnel-hooks/grapnel/stream/streamtest"
)

// tokens are who may publish: token → publisher.
type tokens struct {
	mu    sync.Mutex
	of    map[string]stream.Publisher
	asked atomic.Int64
}

func (k *tokens) signIn(org, token string) (stream.Publisher, error) {
	k.asked.Add(1)
	k.mu.Lock()
	defer k.mu.Unlock()
	p, ok := k.of[token]
	if !ok || p.Org != org || !p.Until.IsZero() && time.Now().After(p.Until) {
		return stream.Publisher{}, stream.ErrSignIn
	}
	return p, nil
}

func (k *tokens) set(token string, p stream.Publisher) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.of[token] = p
}

func (k *tokens) revoke(token string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.of, token)
}

// guarded is a broker whose publishers sign in: acme with acme-secret, globex
// with globex-secret.
type guarded struct {
	*broker
	tokens *tokens
}

func newGuarded(t testing.TB, o stream.ServerOptions) *guarded {
	t.Helper()
	k := &tokens{of: make(map[string]stream.Publisher)}
	for _, org := range []string{"acme", "globex"} {
		k.set(org+"-secret", publisher(org))
	}
	l := &logs{}
	o.Listen, o.RequireSignIn, o.SignIn, o.Log = "127.0.0.1:0", true, k.signIn, l.logger()
	s := serve(t, o)
	g := &guarded{broker: &broker{Client: connect(t, stream.Options{Server: s, Log: l.logger()}), server: s, logs: l}, tokens: k}
	g.create(t, "acme")
	g.create(t, "globex")
	t.Cleanup(func() {
		if strings.Contains(l.String(), "-secret") {
			t.Errorf("a token was logged:\n%s", l)
		}
	})
	return g
}

func publisher(org string) stream.Publisher {
	return stream.Publisher{Org: org, Token: "tok_" + org, Subjects: []string{"events." + org + ".>"}}
}

func (g *guarded) dial(org, token string, options ...nats.Option) (*nats.Conn, error) {
	return nats.Connect("nats://"+g.server.Addr(), append([]nats.Option{
		nats.UserInfo(org, token),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}), // the default one prints
	}, options...)...)
}

// publisher is a signed-in client as a service has it: nats.go without options.
func (g *guarded) publisher(t testing.TB, org string, options ...nats.Option) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	nc, err := g.dial(org, org+"-secret", options...)
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

func TestPublisherSignsIn(t *testing.T) {
	g := newGuarded(t, stream.ServerOptions{})
	nc, js := g.publisher(t, "acme")
	m := nats.NewMsg("events.acme.invoice.paid")
	m.Data = []byte(`{"n":1}`)
	m.Header = nats.Header{
		"Nats-Msg-Id": {"in_1-paid"}, "Grapnel-Workspace": {"berlin"}, "x-Mixed-Case": {"a", "b"}, "Traceparent": {""},
	}
	ack, err := js.PublishMsg(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	if ack.Stream != "EVENTS_acme" || ack.Sequence != 1 || ack.Duplicate {
		t.Errorf("ack %+v", ack)
	}
	if ack, err = js.PublishMsg(t.Context(), m); err != nil || !ack.Duplicate {
		t.Errorf("again: %+v, %v", ack, err)
	}
	if _, err := js.Publish(t.Context(), "events.acme.x", []byte("1"), jetstream.WithExpectLastSequence(7)); err == nil {
		t.Error("a wrong expectation was acknowledged")
	}
	reply, err := nc.Request("events.acme.x", []byte("2"), 5*time.Second)
	if err != nil || !strings.Contains(string(reply.Data), `"seq":2`) {
		t.Errorf("by request: %v, %v", reply, err)
	}
	if err := nc.Publish("events.acme.x", []byte("3")); err != nil {
		t.Error(err)
	}
	const more = 500
	for range more {
		if _, err := js.PublishAsync("events.acme.x", []byte("4")); err != nil {
			t.Fatal(err)
		}
	}
	within(t, "acknowledgements", js.PublishAsyncComplete())

	got := all(t, g.Client, "EVENTS_acme")
	if len(got) != 3+more {
		t.Fatalf("%d messages, want %d", len(got), 3+more)
	}
	want := stream.Header{
		"Nats-Msg-Id": {"in_1-paid"}, "Grapnel-Workspace": {"berlin"}, "x-Mixed-Case": {"a", "b"}, "Traceparent": {""},
	}
	if diff := cmp.Diff(want, got[0].Header); diff != "" {
		t.Errorf("headers: %s", diff)
	}
	if len(got[1].Header) > 0 {
		t.Errorf("headers of a message without: %v", got[1].Header)
	}
	if s := nc.LastError(); s != nil {
		t.Errorf("connection: %v", s)
	}
}

// Nobody answers for a stream that is not there, and the client hears it at once.
func TestPublisherWithoutAStream(t *testing.T) {
	g := newGuarded(t, stream.ServerOptions{})
	g.tokens.set("new-secret", publisher("initech"))
	nc, err := g.dial("initech", "new-secret")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := nc.Request("events.initech.x", []byte("1"), 5*time.Second); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("error %v", err)
	}
	g.create(t, "initech")
	if r, err := nc.Request("events.initech.x", []byte("1"), 5*time.Second); err != nil || !strings.Contains(string(r.Data), `"seq":1`) {
		t.Errorf("once it is there: %v, %v", r, err)
	}
}

func TestSignInRefuses(t *testing.T) {
	g := newGuarded(t, stream.ServerOptions{})
	expired := publisher("acme")
	expired.Until = time.Now().Add(-time.Second)
	g.tokens.set("old-secret", expired)
	strange := publisher("globex")
	strange.Org = "acme"
	url := "nats://" + g.server.Addr()
	cases := map[string][]nats.Option{
		"nobody":                   nil,
		"a wrong token":            {nats.UserInfo("acme", "guess")},
		"no token":                 {nats.UserInfo("acme", "")},
		"another org's token":      {nats.UserInfo("acme", "globex-secret")},
		"a token alone":            {nats.Token("acme-secret")},
		"a token as user":          {nats.UserInfo("acme-secret", "acme-secret")},
		"an expired token":         {nats.UserInfo("acme", "old-secret")},
		"no organization":          {nats.UserInfo("", "acme-secret")},
		"a name that cannot be":    {nats.UserInfo("acme.>", "acme-secret")},
		"the daemon's connection":  {nats.Name("grapnel")},
		"an account of the server": {nats.UserInfo("$G", "acme-secret")},
	}
	for name, options := range cases {
		t.Run(name, func(t *testing.T) {
			nc, err := nats.Connect(url, options...)
			if err == nil {
				nc.Close()
			}
			if !errors.Is(err, nats.ErrAuthorization) {
				t.Errorf("error %v", err)
			}
		})
	}
	if n := strings.Count(g.logs.String(), "publisher was refused"); n != 1 {
		t.Errorf("%d refusals logged, want one a minute:\n%s", n, g.logs)
	}
}

// A fault of our own is an error in the log, and no strike.
func TestSignInFails(t *testing.T) {
	g := newGuarded(t, stream.ServerOptions{})
	other := publisher("globex")
	for range 30 {
		g.tokens.set("mixed-secret", stream.Publisher{Org: "acme", Token: other.Token})
		if nc, err := g.dial("acme", "mixed-secret"); err == nil {
			nc.Close()
			t.Fatal("signed in without a subject")
		}
	}
	if !strings.Contains(g.logs.String(), "publisher could not sign in") {
		t.Errorf("not logged:\n%s", g.logs)
	}
	g.publisher(t, "acme")
}

// Whoever tries tokens that do not hold is logged once, and locks out nobody who
// comes from the same address, such as a balancer's.
func TestSignInGuessing(t *testing.T) {
	g := newGuarded(t, stream.ServerOptions{})
	for range 40 {
		if nc, err := g.dial("acme", "guess"); err == nil {
			nc.Close()
			t.Fatal("signed in")
		}
	}
	g.publisher(t, "acme")
	if n := strings.Count(g.logs.String(), "publisher was refused"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, g.logs)
	}
	if !g.Connected() {
		t.Error("the daemon's own connection has gone")
	}
}

// What one organization's publisher tries against others and the daemon. Each
// is a permission error, and nothing is stored or heard.
// A connection that signs in a second time, as another, keeps nothing of the first.
// Headers that tell a stream what to do cannot harm it.
// An organization's extra subjects are its own.
// A token that is revoked while its bearer is connected: the connection ends,
// and does not come back.
func TestPublisherIsRevoked(t *testing.T) {
	g := newGuarded(t, stream.ServerOptions{})
	closed := make(chan error, 1)
	nc, _ := g.publisher(t, "acme", nats.ReconnectWait(time.Millisecond), nats.ReconnectJitter(0, 0),
		nats.ClosedHandler(func(nc *nats.Conn) { closed <- nc.LastError() }))
	_, other := g.publisher(t, "globex")
	g.tokens.revoke("acme-secret")
	if n := g.server.Disconnect(func(p stream.Publisher) bool { return p.Token == "tok_acme" }); n != 1 {
		t.Errorf("%d disconnected", n)
	}
	if err := within(t, "the end of the connection", closed); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("closed by %v", err)
	}
	if nc.Publish("events.acme.x", nil) == nil {
		t.Error("can still publish")
	}
	if _, err := g.dial("acme", "acme-secret"); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("signs in again: %v", err)
	}
	if _, err := other.Publish(t.Context(), "events.globex.x", []byte(`1`)); err != nil {
		t.Errorf("another publisher: %v", err)
	}
}

// The token is revoked between the look at it and the registration.
func TestPublisherIsRevokedWhileSigningIn(t *testing.T) {
	var g *guarded
	k := &tokens{of: map[string]stream.Publisher{"acme-secret": publisher("acme")}}
	s := serve(t, stream.ServerOptions{Listen: "127.0.0.1:0", RequireSignIn: true, SignIn: func(org, token string) (stream.Publisher, error) {
		p, err := k.signIn(org, token)
		k.revoke("acme-secret")
		g.server.Disconnect(func(stream.Publisher) bool { return true })
		return p, err
	}})
	g = &guarded{broker: &broker{server: s}, tokens: k}
	if _, err := g.dial("acme", "acme-secret"); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("error %v", err)
	}
}

func TestPublisherExpires(t *testing.T) {
	g := newGuarded(t, stream.ServerOptions{})
	p := publisher("acme")
	p.Until = time.Now().Add(300 * time.Millisecond)
	g.tokens.set("acme-secret", p)
	closed := make(chan error, 1)
	nc, js := g.publisher(t, "acme", nats.ReconnectWait(time.Millisecond), nats.ReconnectJitter(0, 0),
		nats.ClosedHandler(func(nc *nats.Conn) { closed <- nc.LastError() }))
	if _, err := js.Publish(t.Context(), "events.acme.x", []byte(`1`)); err != nil {
		t.Error(err)
	}
	if err := within(t, "the end of the connection", closed); !errors.Is(err, nats.ErrAuthorization) && !errors.Is(err, nats.ErrAuthExpired) {
		t.Errorf("closed by %v", err)
	}
	if time.Now().Before(p.Until) {
		t.Error("closed early")
	}
	nc.Close()
}

// Publishers come back by themselves, signing in again.
func TestPublisherOverARestart(t *testing.T) {
	g := newGuarded(t, stream.ServerOptions{})
	back := make(chan bool, 16)
	_, js := g.publisher(t, "acme", nats.ReconnectWait(5*time.Millisecond), nats.ReconnectJitter(0, 0), nats.MaxReconnects(-1),
		nats.ReconnectHandler(func(*nats.Conn) { back <- true }))
	if _, err := js.Publish(t.Context(), "events.acme.x", []byte(`1`)); err != nil {
		t.Fatal(err)
	}
	if err := g.server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	within(t, "return of the publisher", back)
	eventually(t, "an acknowledgement", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := js.Publish(ctx, "events.acme.x", []byte(`2`), jetstream.WithMsgID("second"))
		return err == nil
	})
	if n := g.server.Disconnect(func(stream.Publisher) bool { return true }); n != 1 {
		t.Errorf("%d publishers after the restart", n)
	}
}

// Many connections come and go, and one organization cannot take them all.
func TestPublishersAreMany(t *testing.T) {
	g := newGuarded(t, stream.ServerOptions{})
	for range 1000 {
		nc, err := g.dial("acme", "acme-secret")
		if err != nil {
			t.Fatal(err)
		}
		nc.Close()
	}
	// The server may notice a moment later that the last of them have gone.
	var open []*nats.Conn
	defer func() {
		for _, nc := range open {
			nc.Close()
		}
	}()
	var err error
	for err == nil && len(open) < 1000 {
		var nc *nats.Conn
		if nc, err = g.dial("acme", "acme-secret"); err == nil {
			open = append(open, nc)
		}
	}
	if len(open) > 256 || len(open) < 200 || err == nil {
		t.Errorf("%d connections at once, then %v", len(open), err)
	}
	for range 20 {
		if nc, err := g.dial("acme", "acme-secret"); err == nil {
			open = append(open, nc)
		}
	}
	if n := strings.Count(g.logs.String(), "all the connections that it may have"); n != 1 {
		t.Errorf("logged %d times: who may not connect could fill the log", n)
	}
	g.publisher(t, "globex")
}

func TestPublisherByTLS(t *testing.T) {
	cert, key := streamtest.WriteCertificate(t, t.TempDir(), "server", "server")
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	g := newGuarded(t, stream.ServerOptions{TLS: &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}})
	nc, js := g.publisher(t, "acme", nats.RootCAs(cert))
	if _, err := nc.TLSConnectionState(); err != nil {
		t.Errorf("TLS: %v", err)
	}
	if _, err := js.Publish(t.Context(), "events.acme.x", []byte(`1`)); err != nil {
		t.Error(err)
	}
	if _, err := g.dial("acme", "acme-secret"); err == nil {
		t.Error("connected without the authority")
	}
	r := dialPlain(t, g.server.Addr())
	fmt.Fprint(r, `CONNECT {"user":"acme","pass":"acme-secret","verbose":true}`+"\r\nPING\r\n")
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			break
		}
		if strings.HasPrefix(line, "PONG") || strings.HasPrefix(line, "+OK") {
			t.Fatal("taken without TLS")
		}
	}
	if !g.Connected() {
		t.Errorf("the daemon's own connection: %v", g.Err())
	}
}

// On loopback nobody is asked for a name or for TLS unless that is wanted.
func TestLoopbackTakesPublishersAsTheyCome(t *testing.T) {
	s := serve(t, stream.ServerOptions{Listen: "127.0.0.1:0", SignIn: (&tokens{}).signIn, TLS: &tls.Config{MinVersion: tls.VersionTLS12}})
	nc, err := nats.Connect("nats://" + s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	if nc.AuthRequired() {
		t.Error("clients are told to sign in")
	}
	nc.Close()
	if n := s.Disconnect(func(stream.Publisher) bool { return true }); n != 0 {
		t.Errorf("%d disconnected", n)
	}
}

// What is taken out of a stream by the way leaves a hole that nobody misses: on
// loopback, too, only the daemon does that.
func TestLoopbackErasesNoMessage(t *testing.T) {
	b := newBroker(t)
	b.create(t, "acme")
	b.append(t, "acme", stream.Append{Type: "invoice.paid", Data: []byte(`{}`)})
	nc, js := b.raw(t)
	refused := make(chan error, 1)
	nc.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err })
	if err := errors.Join(nc.PublishRequest("$JS.API.STREAM.MSG.DELETE.EVENTS_acme", "answer", []byte(`{"seq":1}`)), nc.Flush()); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-refused:
		if !errors.Is(err, nats.ErrPermissionViolation) {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Error("it was not refused")
	}
	s, err := js.Stream(t.Context(), "EVENTS_acme")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.GetMsg(t.Context(), 1); err != nil {
		t.Errorf("the message: %v", err)
	}
	if err := b.Erase(t.Context(), "acme", 1); err != nil {
		t.Errorf("the daemon: %v", err)
	}
}
