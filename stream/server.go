package stream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	// MaxPayload is the largest message that the embedded server takes, headers
	// included. It is NATS's own default.
	MaxPayload = 1 << 20

	// defaultMinFree is how much of the disk the embedded server leaves free.
	defaultMinFree = 512 << 20

	progressEvery    = 3 * time.Second
	handshakeTimeout = 5 * time.Second
	spaceEvery       = 2 * time.Second

	// reservable is what the server may promise to streams in all. Quotas of
	// streams are reservations to it, and it refuses to create a stream that would
	// exceed them; 10,000 organizations with a quota of some GiB each are normal
	// and fill no disk. What is really used is watched by spaceGuard instead.
	reservable = 1 << 60
)

// ServerOptions says how to run the embedded NATS server.
type ServerOptions struct {
	// Dir is the directory of the streams; it is created if missing. Nothing
	// stops two servers on one directory from ruining it, so the caller holds a
	// lock on it.
	Dir string
	// Listen is where publishers connect, "host:port" (port 0: any free one; no
	// host: every address of the machine), or "off" for none. The daemon itself
	// connects in-process ([Options.Server]) and needs no listener.
	Listen string
	// SignIn decides who may publish, and where. It is asked when Listen is not a
	// loopback address, and on loopback when RequireSignIn is set; otherwise
	// every program of this machine may do everything.
	SignIn        SignIn
	RequireSignIn bool
	// TLS, when set, is demanded of publishers that are to sign in.
	TLS *tls.Config
	// SyncInterval 0 flushes each append to the disk before it is acknowledged.
	// Otherwise a power cut can lose what was acknowledged in the last interval.
	SyncInterval time.Duration
	// MaxStore bounds the bytes of all streams together; 0: by the disk only.
	MaxStore int64
	// MinFree is how many bytes of the disk stay free: appends are refused
	// ([ErrFull]) below it, until there is space again. 0: 512 MiB. A disk that is really
	// full would freeze streams until the server is restarted.
	MinFree int64
	Log     *slog.Logger // nil: discard
	// Progress, when set, is told every few seconds how far the recovery of the
	// streams has come, while StartServer waits for it.
	Progress func(Recovery)
}

// Recovery is how far the start of an embedded server has come.
type Recovery struct {
	Restored int // streams that were read so far
	Streams  int // streams on the disk
	Elapsed  time.Duration
}

// Server is an embedded NATS server with JetStream on the disk.
type Server struct {
	options ServerOptions
	log     *slog.Logger
	host    string
	port    int      // as given; after the first start the one that was chosen
	asks    bool     // who publishers are
	strikes *strikes // of refused publishers, over restarts

	stop   context.CancelFunc // of the space guard
	guards sync.WaitGroup

	lifecycle sync.Mutex // one start or stop at a time

	mu      sync.RWMutex // held for writing while the server is replaced
	running *running     // nil: stopped
	full    atomic.Pointer[string]
}

// running is one life of the NATS server.
type running struct {
	ns      *server.Server
	door    *door // nil: publishers are not asked who they are
	adapter *logAdapter
	started chan struct{} // closed when ns.Start has returned
}

// StartServer starts the embedded server and waits until it has recovered its
// streams and is ready, however long that takes: ctx is the only limit. It
// fails at once when the address is taken, when publishers are to sign in and
// SignIn is missing, and when the directory cannot be written.
func StartServer(ctx context.Context, o ServerOptions) (*Server, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.MinFree == 0 {
		o.MinFree = defaultMinFree
	}
	s := &Server{options: o, log: o.Log, strikes: newStrikes()}
	if o.Listen != "off" {
		var local bool
		var err error
		if s.host, s.port, local, err = listenAddress(o.Listen); err != nil {
			return nil, err
		}
		s.asks = o.RequireSignIn || !local
		if s.asks && o.SignIn == nil {
			return nil, fmt.Errorf("nats listen address %q: publishers would have to sign in, and nothing here knows them", o.Listen)
		}
		if !local && o.TLS == nil {
			s.log.Warn("publishers connect without TLS: whoever can see the network between can read their tokens and events; "+
				"set --tls-cert and --tls-key", "listen", o.Listen)
		}
	}
	if err := writable(o.Dir); err != nil {
		return nil, err
	}
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	guard, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.guards.Go(func() { s.guardSpace(guard) })
	return s, nil
}

// Restart stops the server and starts it again on the same address; clients
// reconnect by themselves. It is the only cure for a stream that was frozen by a failed
// write (see [Server.Health]).
func (s *Server) Restart(ctx context.Context) error {
	s.lifecycle.Lock()
	defer s.lifecycle.Unlock()
	s.shutdown()
	return s.start(ctx)
}

// Close stops the server and waits until it has stopped.
func (s *Server) Close() {
	s.stop()
	s.guards.Wait()
	s.lifecycle.Lock()
	defer s.lifecycle.Unlock()
	s.shutdown()
}

// Addr is where publishers connect, "127.0.0.1:4222", or "" when the listener
// is off.
func (s *Server) Addr() string {
	if s.options.Listen == "off" {
		return ""
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return net.JoinHostPort(s.host, strconv.Itoa(s.port))
}

// Health is nil while every stream can be written. A failed write (disk full,
// out of file descriptors) freezes its stream until [Server.Restart], even
// when the cause is gone.
func (s *Server) Health() error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.running == nil {
		return errors.New("embedded server: not running")
	}
	h := s.running.ns.Healthz(&server.HealthzOptions{Details: true})
	if why := s.sick(h); why != "" {
		return fmt.Errorf("embedded server: %s", why)
	}
	if why := s.full.Load(); why != nil {
		return fmt.Errorf("embedded server: %w: %s", ErrFull, *why)
	}
	return nil
}

// sick says what is wrong with a server, or "". A stream that is being deleted
// at this moment has files without a stream and is not a fault.
func (s *Server) sick(h *server.HealthStatus) string {
	if h.Status == "ok" {
		return ""
	}
	var why []string
	for _, e := range h.Errors {
		if e.Stream != "" {
			_, err := os.Stat(filepath.Join(s.options.Dir, server.JetStreamStoreDir, e.Account, "streams", e.Stream))
			if strings.HasPrefix(e.Stream, ".") || errors.Is(err, fs.ErrNotExist) {
				continue
			}
		}
		why = append(why, e.Error)
	}
	const shown = 3
	if n := len(why); n > shown {
		why = append(why[:shown], fmt.Sprintf("and %d more", n-shown))
	}
	if len(why) == 0 && len(h.Errors) == 0 {
		return h.Status + " " + h.Error
	}
	return strings.Join(why, "; ")
}

// InProcessConn implements nats.InProcessConnProvider over restarts.
func (s *Server) InProcessConn() (net.Conn, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.running == nil {
		return nil, errors.New("embedded server: not running")
	}
	return s.running.ns.InProcessConn()
}

// start runs a NATS server until it is ready.
func (s *Server) start(ctx context.Context) error {
	if s.options.Listen != "off" {
		if err := free(s.host, s.port); err != nil {
			return err
		}
	}
	o := &server.Options{
		ServerName:             "grapnel",
		Host:                   s.host,
		Port:                   s.port,
		DontListen:             s.options.Listen == "off",
		NoSigs:                 true, // signals are the daemon's
		JetStream:              true,
		StoreDir:               s.options.Dir,
		JetStreamMaxStore:      reservable,
		SyncAlways:             s.options.SyncInterval == 0,
		SyncInterval:           s.options.SyncInterval,
		MaxPayload:             MaxPayload,
		DisableJetStreamBanner: true,
	}
	if o.Port == 0 {
		o.Port = server.RANDOM_PORT
	}
	var d *door
	if s.asks {
		if s.options.TLS != nil {
			o.TLSConfig, o.TLSTimeout = s.options.TLS.Clone(), handshakeTimeout.Seconds()
		}
		d = newDoor(s.options.SignIn, s.strikes, s.log)
		o.CustomClientAuthentication = d
		o.MaxConn, o.MaxSubs = maxConnections, maxSubscriptions
	} else {
		o.CustomClientAuthentication = openDoor{}
		// Only with a user of that name are clients told that they need not sign in.
		o.Users, o.NoAuthUser = []*server.User{{Username: anybody}}, anybody
	}
	mendStreams(s.options.Dir, s.log)
	ns, err := server.NewServer(o)
	if err != nil {
		return fmt.Errorf("embedded server: %w", err)
	}
	if d != nil {
		d.ns = ns
	}
	r := &running{ns: ns, door: d, adapter: newLogAdapter(s.log), started: make(chan struct{})}
	ns.SetLoggerV2(r.adapter, false, false, false)
	go func() {
		defer close(r.started)
		ns.Start()
	}()
	if err := s.await(ctx, r); err != nil {
		r.close()
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if a, ok := ns.Addr().(*net.TCPAddr); ok {
		s.port = a.Port
	}
	s.running = r
	s.full.Store(nil) // the limit of the life before is gone
	return nil
}

// await waits for a starting server and tells how far it has come.
func (s *Server) await(ctx context.Context, r *running) error {
	began := time.Now()
	total := -1
	for next := began.Add(progressEvery); ; {
		if r.ns.ReadyForConnections(100 * time.Millisecond) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("embedded server: still recovering its streams after %s: %w",
				time.Since(began).Round(time.Second), context.Cause(ctx))
		case why := <-r.adapter.fatal:
			return fmt.Errorf("embedded server: %s", why)
		default:
		}
		if now := time.Now(); now.After(next) {
			next = now.Add(progressEvery)
			if total < 0 {
				total = countStreams(s.options.Dir)
			}
			p := Recovery{Restored: int(r.adapter.restored.Load()), Streams: total, Elapsed: now.Sub(began)}
			s.log.Info("recovering event streams", "restored", p.Restored, "of", p.Streams,
				"elapsed", p.Elapsed.Round(time.Second))
			if s.options.Progress != nil {
				s.options.Progress(p)
			}
		}
	}
}

// shutdown stops the running server, if there is one.
func (s *Server) shutdown() {
	s.mu.Lock()
	r := s.running
	s.running = nil
	s.mu.Unlock()
	if r != nil {
		r.close()
	}
}

func (r *running) close() {
	r.ns.Shutdown()
	r.ns.WaitForShutdown()
	<-r.started
}

// listenAddress splits a listen address, and says whether only programs of this
// machine can reach it.
func listenAddress(addr string) (host string, port int, local bool, err error) {
	host, p, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, false, fmt.Errorf("nats listen address %q: want host:port or off", addr)
	}
	port, err = strconv.Atoi(p)
	if err != nil || port < 0 || port > 65535 {
		return "", 0, false, fmt.Errorf("nats listen address %q: the port is not a number from 0 to 65535", addr)
	}
	switch host {
	case "localhost":
		host = "127.0.0.1"
	case "":
		host = "0.0.0.0"
	}
	ip := net.ParseIP(host)
	if ip == nil {
		return "", 0, false, fmt.Errorf("nats listen address %q: want an IP address of this machine, 0.0.0.0 for all of them, or localhost", addr)
	}
	return host, port, ip.IsLoopback(), nil
}

// free reports whether the address can be listened on. The server would say so
// too, but only after it has recovered all streams, and less clearly.
func free(host string, port int) error {
	addr := net.JoinHostPort(host, strconv.Itoa(port))
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listen for publishers on %s: %w; choose another address with --nats-listen, or --nats-listen off", addr, err)
	}
	return l.Close()
}

// writable makes the directory and proves that files can be made in it.
func writable(dir string) error {
	if dir == "" {
		return errors.New("embedded server: no directory given")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("embedded server: %w", err)
	}
	f, err := os.CreateTemp(dir, ".writable-*")
	if err != nil {
		return fmt.Errorf("embedded server: directory cannot be written: %w", err)
	}
	f.Close()
	return os.Remove(f.Name())
}

// countStreams is how many streams lie in the directory of a server.
func countStreams(dir string) int {
	accounts, _ := os.ReadDir(filepath.Join(dir, server.JetStreamStoreDir))
	n := 0
	for _, a := range accounts {
		streams, err := os.ReadDir(filepath.Join(dir, server.JetStreamStoreDir, a.Name(), "streams"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		n += len(streams)
	}
	return n
}
