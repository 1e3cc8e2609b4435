package stream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

const (
	minVersion  = "2.12.6"
	goodVersion = "2.14.3"

	requestTimeout = 5 * time.Second
	recheckEvery   = 5 * time.Second
)

// Options says which broker to use and how streams are made on it. Exactly one
// of Server and URL is set.
type Options struct {
	Server *Server // embedded: connected in-process
	URL    string  // external: nats://host:port, tls://…; several with commas between

	Creds                  string // file of NATS user credentials, or ""
	TLSCA, TLSCert, TLSKey string // PEM files, or ""
	Names                  Names
	Log                    *slog.Logger // nil: discard

	// Installation is the id of the books that the streams are read for, which
	// their metadata names; "": streams are not marked, and no mark is minded.
	Installation string

	// What streams that we make get. Zero values take the defaults.
	Duplicates time.Duration // how long a dedupe key is remembered by the stream: 10 min
	MaxBytes   int64         // quota of one stream; appends beyond it fail with ErrFull: 4 GiB
	MaxAge     time.Duration // how long events stay in the stream: 30 days
	Replicas   int           // 1

	MaxData int // largest payload that Append takes, in bytes: 256 KiB; see Client.SetMaxData
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Duplicates == 0 {
		o.Duplicates = 10 * time.Minute
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 4 << 30
	}
	if o.MaxAge == 0 {
		o.MaxAge = 30 * 24 * time.Hour
	}
	if o.Replicas == 0 {
		o.Replicas = 1
	}
	if o.MaxData == 0 {
		o.MaxData = 256 << 10
	}
	return o
}

// SetMaxData changes the largest payload that Append takes.
func (c *Client) SetMaxData(bytes int) { c.maxData.Store(int64(bytes)) }

// Client is one connection to the broker. It is safe for concurrent use, and
// reconnects for ever.
type Client struct {
	options Options
	names   Names
	log     *slog.Logger
	nc      *nats.Conn
	reader  *reader
	batches chan struct{} // slots for atomic batches
	maxData atomic.Int64  // bytes of an event's data

	stop  context.CancelFunc
	done  sync.WaitGroup
	kick  chan struct{} // wakes watch
	epoch atomic.Uint64 // counts connections, and losses of wake-ups

	state atomic.Pointer[state]
	link  atomic.Pointer[link]

	doctor   chan struct{} // wakes examine
	findings atomic.Pointer[[]Finding]

	notify  sync.Mutex // callbacks are called one at a time, in order
	onState []func(bool)

	newest sync.Map // stream name → *atomic.Uint64: the newest sequence heard of

	changing [64]sync.Mutex // by hash of a stream's name: who changes its configuration
}

// state is what watch last found out.
type state struct {
	usable bool
	epoch  uint64
	why    error     // when not usable
	since  time.Time // when usable became what it is
}

// link is one life of the connection. Requests that were sent on it get no
// answer on the next, so they end with it.
type link struct {
	ctx  context.Context
	lost context.CancelCauseFunc
}

func newLink() *link {
	l := new(link)
	l.ctx, l.lost = context.WithCancelCause(context.Background())
	return l
}

var (
	errAway   = fmt.Errorf("broker is away: %w", ErrUnavailable)
	errLost   = fmt.Errorf("connection was lost: %w", ErrUnavailable)
	errClosed = fmt.Errorf("connection was closed: %w", ErrUnavailable)
)

// Connect connects to the broker. The embedded server must be running. An
// external broker may be away: then Connect succeeds and the client goes on
// trying; a broker that is there but cannot be used (too old, JetStream off)
// and options that can never work (a bad URL, an unreadable file) are errors.
func Connect(ctx context.Context, o Options) (*Client, error) {
	o = o.withDefaults()
	if err := o.Names.Check(); err != nil {
		return nil, fmt.Errorf("connect to the broker: %w", err)
	}
	c := &Client{
		options: o,
		names:   o.Names,
		log:     o.Log,
		batches: make(chan struct{}, maxBatchesInFlight),
		kick:    make(chan struct{}, 1),
		doctor:  make(chan struct{}, 1),
	}
	c.maxData.Store(int64(o.MaxData))
	c.state.Store(&state{why: errAway, since: time.Now()})
	c.link.Store(newLink())
	c.reader = newReader(c.api)
	no, err := c.natsOptions()
	if err != nil {
		return nil, fmt.Errorf("connect to the broker: %w", err)
	}
	c.nc, err = no.Connect()
	if err != nil {
		return nil, fmt.Errorf("connect to the broker: %w", err)
	}
	if err := c.reader.subscribe(c.nc); err != nil {
		c.nc.Close()
		return nil, fmt.Errorf("connect to the broker: %w", err)
	}
	if c.nc.IsConnected() {
		if err := c.check(ctx); err != nil && !errors.Is(err, ErrUnavailable) {
			c.nc.Close()
			return nil, fmt.Errorf("connect to the broker: %w", err)
		}
	} else {
		c.log.Warn("broker is away: trying again until it is there")
	}
	watching, stop := context.WithCancel(context.Background())
	c.stop = stop
	c.settle(ctx)
	c.done.Go(func() { c.watch(watching) })
	if o.Server == nil {
		c.done.Go(func() { c.examine(watching) })
	}
	return c, nil
}

// Close ends the connection. Calls in progress fail with ErrUnavailable.
func (c *Client) Close() {
	c.stop()
	c.nc.Close()
	c.lost(errClosed)
	c.done.Wait()
}

// lost ends everything that waits for an answer on the present connection.
func (c *Client) lost(err error) {
	c.link.Swap(newLink()).lost(err)
	c.reader.fail(err)
}

// bounded is ctx for one request: it ends after the timeout, and with the
// connection.
func (c *Client) bounded(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	ctx, lost := context.WithCancelCause(ctx)
	l := c.link.Load()
	unlink := context.AfterFunc(l.ctx, func() { lost(context.Cause(l.ctx)) })
	ctx, cancel := context.WithTimeout(ctx, timeout)
	return ctx, func() {
		unlink()
		cancel()
		lost(nil)
	}
}

// Connected reports whether the broker is there and can be used.
func (c *Client) Connected() bool { return c.state.Load().usable }

// Err is nil while Connected, and otherwise says why not.
func (c *Client) Err() error { return c.state.Load().why }

// AwaySince is since when the broker cannot be used; zero while Connected.
func (c *Client) AwaySince() time.Time {
	if s := c.state.Load(); !s.usable {
		return s.since
	}
	return time.Time{}
}

// OnState calls f at once with the present state, and then with each change.
// f(true) also comes alone, whenever wake-ups may have been missed: after it,
// every stream is to be looked at. f must be quick and must not call OnState.
func (c *Client) OnState(f func(connected bool)) {
	c.notify.Lock()
	defer c.notify.Unlock()
	c.onState = append(c.onState, f)
	f(c.state.Load().usable)
}

// changed says that the connection is another, or that wake-ups were lost.
func (c *Client) changed() {
	c.epoch.Add(1)
	for _, waker := range []chan struct{}{c.kick, c.doctor} {
		select {
		case waker <- struct{}{}:
		default:
		}
	}
}

// watch finds out whether the broker can be used each time the connection
// changes, and again every few seconds while it cannot.
func (c *Client) watch(ctx context.Context) {
	for {
		var again <-chan time.Time
		if c.nc.IsConnected() && !c.Connected() {
			again = time.After(recheckEvery)
		}
		select {
		case <-ctx.Done():
			return
		case <-c.kick:
		case <-again:
		}
		c.settle(ctx)
	}
}

// settle brings the state up to date and tells those who want to know.
func (c *Client) settle(ctx context.Context) {
	was := c.state.Load()
	now := &state{epoch: c.epoch.Load()}
	if !c.nc.IsConnected() {
		now.why = errAway
	} else if now.why = c.check(ctx); now.why == nil {
		now.usable = true
	}
	c.notify.Lock()
	defer c.notify.Unlock()
	if now.since = was.since; now.usable != was.usable {
		now.since = time.Now()
	}
	c.state.Store(now)
	switch {
	case now.usable && !was.usable:
		c.log.Info("broker is there", "address", c.address(), "version", c.nc.ConnectedServerVersion())
	case !now.usable && (was.usable || was.why.Error() != now.why.Error()) && ctx.Err() == nil:
		c.log.Error("broker cannot be used", "error", now.why)
	}
	missed := now.usable && now.epoch != was.epoch // a short break, or wake-ups that were dropped
	if now.usable != was.usable || missed {
		for _, f := range c.onState {
			f(now.usable)
		}
	}
}

func (c *Client) address() string {
	if c.options.Server != nil {
		return "in-process"
	}
	return c.nc.ConnectedAddr()
}

// check proves that the connected server is new enough and has JetStream.
func (c *Client) check(ctx context.Context) error {
	if v := c.nc.ConnectedServerVersion(); olderThan(v, minVersion) {
		return fmt.Errorf("NATS server is version %s, at least %s is needed (%s or newer is advised)", v, minVersion, goodVersion)
	}
	err := c.api(ctx, "INFO", nil, nil)
	var ae *apiError
	switch {
	case errors.Is(err, nats.ErrNoResponders), errors.As(err, &ae) && ae.ErrCode == codeNotEnabled:
		return errors.New("JetStream is off on the NATS server: start it with -js, or with jetstream {} in its configuration")
	case errors.As(err, &ae) && ae.ErrCode == codeNotEnabledForAccount:
		return errors.New("JetStream is off for this account of the NATS server: enable it for the account in the server's configuration (or its JWT)")
	case err != nil:
		return fmt.Errorf("ask for JetStream: %w", err)
	}
	return nil
}

// natsOptions are the options of the connection.
func (c *Client) natsOptions() (nats.Options, error) {
	o := nats.GetDefaultOptions()
	o.Name = "grapnel"
	o.MaxReconnect = -1
	o.ReconnectWait = 500 * time.Millisecond
	o.ReconnectJitter, o.ReconnectJitterTLS = 500*time.Millisecond, time.Second
	o.ReconnectBufSize = -1 // an append fails at once while the broker is away
	o.IgnoreAuthErrorAbort = true
	o.PingInterval, o.MaxPingsOut = 5*time.Second, 2 // a dead peer is noticed within 15 s
	o.Timeout = 5 * time.Second
	o.AsyncErrorCB = c.asyncError
	o.ConnectedCB = func(*nats.Conn) { c.changed() }
	o.ReconnectedCB = func(*nats.Conn) { c.changed() }
	o.DisconnectedErrCB = func(_ *nats.Conn, err error) {
		c.lost(errLost)
		c.log.Debug("connection to the broker was lost", "error", err)
		c.changed()
	}
	switch {
	case (c.options.Server == nil) == (c.options.URL == ""):
		return o, errors.New("either an embedded server or a URL is needed")
	case c.options.Server != nil:
		o.InProcessServer = c.options.Server
		o.ReconnectWait, o.ReconnectJitter = 50*time.Millisecond, 50*time.Millisecond
		return o, nil
	}
	o.RetryOnFailedConnect = true
	var err error
	if o.Servers, err = brokerURLs(c.options.URL); err != nil {
		return o, err
	}
	if f := c.options.Creds; f != "" {
		if err := checkCreds(f); err != nil {
			return o, err
		}
		if err := nats.UserCredentials(f)(&o); err != nil {
			return o, fmt.Errorf("credentials file %s: %w", f, err)
		}
	}
	o.TLSConfig, err = c.tlsConfig()
	o.Secure = o.TLSConfig != nil
	return o, err
}

func (c *Client) tlsConfig() (*tls.Config, error) {
	o := c.options
	if o.TLSCA == "" && o.TLSCert == "" && o.TLSKey == "" {
		return nil, nil
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.TLSCA != "" {
		pem, err := os.ReadFile(o.TLSCA)
		if err != nil {
			return nil, fmt.Errorf("TLS CA: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("TLS CA: no certificate in %s", o.TLSCA)
		}
	}
	if o.TLSCert != "" || o.TLSKey != "" {
		pair, err := tls.LoadX509KeyPair(o.TLSCert, o.TLSKey)
		if err != nil {
			return nil, fmt.Errorf("TLS client certificate: %w", err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}

// brokerURLs splits and checks the URL option. Its errors do not repeat the
// URL, which may hold a password.
func brokerURLs(s string) ([]string, error) {
	var urls []string
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		if !strings.Contains(part, "://") {
			part = "nats://" + part
		}
		u, err := url.Parse(part)
		if err != nil || u.Hostname() == "" {
			return nil, errors.New("NATS URL: want nats://host:port")
		}
		switch u.Scheme {
		case "nats", "tls", "ws", "wss":
		default:
			return nil, fmt.Errorf("NATS URL: scheme %q: want nats, tls, ws or wss", u.Scheme)
		}
		urls = append(urls, part)
	}
	return urls, nil
}

// checkCreds proves that the file holds credentials, as nats.go will read it
// on each connect.
func checkCreds(file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("credentials file: %w", err)
	}
	defer clear(b)
	if _, err := nkeys.ParseDecoratedJWT(b); err != nil {
		return fmt.Errorf("credentials file %s: no user JWT in it", file)
	}
	key, err := nkeys.ParseDecoratedUserNKey(b)
	if err != nil {
		return fmt.Errorf("credentials file %s: no user key in it", file)
	}
	key.Wipe()
	return nil
}

// asyncError hears of what went wrong outside of any call.
func (c *Client) asyncError(nc *nats.Conn, sub *nats.Subscription, err error) {
	switch {
	case errors.Is(err, nats.ErrSlowConsumer):
		c.log.Warn("wake-ups were dropped: looking at every stream instead")
		c.changed()
	case errors.Is(err, nats.ErrBadHeaderMsg):
		// The reader gets such a message in another way; a wake-up needs no headers.
		c.log.Debug("message with malformed headers", "error", err)
	case sub != nil:
		c.log.Warn("NATS connection", "error", err, "subscription", sub.Subject)
	case nc.IsConnected():
		c.log.Warn("NATS connection", "error", err)
	}
}

// olderThan compares versions such as "2.14.3" and "2.12.0-beta.1"; what cannot
// be read is not older.
func olderThan(version, than string) bool {
	var a, b [3]int
	v, _, _ := strings.Cut(version, "-")
	if n, _ := fmt.Sscanf(v, "%d.%d.%d", &a[0], &a[1], &a[2]); n != 3 {
		return false
	}
	fmt.Sscanf(than, "%d.%d.%d", &b[0], &b[1], &b[2])
	for i := range a {
		if a[i] != b[i] {
			return a[i] < b[i]
		}
	}
	return false
}
