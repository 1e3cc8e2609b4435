package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cmd/internal/logging"
	"github.com/grapnel-hooks/grapnel/cmd/internal/telemetry"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/fanout/catalogue"
	"github.com/grapnel-hooks/grapnel/sqlite"
	"github.com/grapnel-hooks/grapnel/sqlite/seal"
	"github.com/grapnel-hooks/grapnel/stream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// featureOutgoing is the feature that an org's plan must have (contract, section 3).
const featureOutgoing = "outgoing_webhooks"

// daemonOptions is what a daemon is made from. It says nothing of how its API
// is served.
type daemonOptions struct {
	Data    string // the directory of everything; the caller holds its lock
	Prefix  string // of subjects and streams; "": events
	Version string

	NATSListen string         // embedded server: host:port for publishers, or "off"
	NATSSignIn bool           // embedded server: publishers sign in on loopback, too
	NATSSync   time.Duration  // embedded server: 0 flushes each append before its ack
	TLS        *tls.Config    // embedded server: what publishers who sign in connect by; nil: without
	Broker     stream.Options // external server when its URL is set; Names and Log are filled in

	AllowHTTP bool
	Allow     []netip.Prefix
	Ports     []uint16 // of endpoints' URLs, beside the usual ones
	Proxy     *url.URL // by which receivers are reached; nil: none
	NAT64     []netip.Prefix
	Listening []string // where the process listens by itself; host:port
	KeyFile   string   // of the secrets; "": in Data
	Keys      []seal.Key
	Plans     map[string][]string // plan → features; nil: every org has every feature
	MaxData   int                 // bytes of an event's data; 0: 256 KiB
	Strict    bool                // events must keep to the catalogue
	Formats   []deliver.Format    // beside the built-in ones; each is sound
	// EventTypes are put into the catalogue at the start.
	EventTypes []catalogue.Type

	KeepFinished time.Duration // delivered and cancelled deliveries; 0: 30 days
	KeepDead     time.Duration // dead ones; 0: 90 days
	KeepBytes    int64         // of the database, beyond which finished ones go sooner; 0: any number

	MaxPending int64 // deliveries of one organization, beyond which it is not fanned out; 0: any number
	MinFree    int64 // bytes of the disk, below which nothing is; -1: by the size of the disk, 0: any
	MaxStore   int64 // bytes of the database, beyond which nothing is; 0: any number
	Ballast    int64 // bytes; 0: none

	ParkAfter   int64  // pending deliveries of one endpoint; 0: any number
	OnMissing   string // what becomes of streams that are marked as another database's: see missingFail
	Replicated  bool   // another program copies the database's log
	MaxInFlight int
	MaxPerOrg   int // of them; 0: a quarter
	Sweep       time.Duration
	Held        bool // fan-out does not begin by itself; see daemon.release
	Synchronous string
	Failpoint   func(name string)
	Tracing     telemetry.Options // its Endpoint nil: nothing is traced
	Log         *slog.Logger
	// Supervisor is told how the daemon is; nil: nobody is.
	Supervisor *supervisor
	Level      *logging.Level  // of Log; nil: one that changes nothing
	Recent     *logging.Recent // the last lines of Log; nil: there are none

	Configured *configured // where all of this comes from; nil: from nowhere that could be read again
}

func (o daemonOptions) withDefaults() daemonOptions {
	if o.KeepFinished == 0 {
		o.KeepFinished = 30 * 24 * time.Hour
	}
	if o.KeepDead == 0 {
		o.KeepDead = 90 * 24 * time.Hour
	}
	if o.MaxData == 0 {
		o.MaxData = stream.DefaultMaxData
	}
	if o.MaxInFlight == 0 {
		o.MaxInFlight = requestLimit()
	}
	if o.Level == nil {
		o.Level = logging.NewLevel(slog.LevelInfo)
	}
	return o
}

// daemon is the whole walk, wired. Its goroutines all begin in Run.
type daemon struct {
	cfg   daemonOptions                 // as it was opened
	live  atomic.Pointer[daemonOptions] // as a reload has left it; it does not change, another takes its place
	log   *slog.Logger
	names stream.Names

	store    *sqlite.Store
	server   *stream.Server // nil with an external broker
	broker   *stream.Client
	formats  *deliver.Formats
	guard    *deliver.Guard
	sender   *deliver.Sender
	tracing  *telemetry.Tracing // nil: nothing is traced
	source   *fanout.Source     // of payloads
	tests    *tests
	replayer *replayer
	lanes    *deliver.Lanes
	loop     *fanout.Loop
	streams  *seenStreams
	catchups *fanout.CatchupLoop
	making   sync.Mutex // held from an organization's stream to its row: until then the stream looks like somebody else's

	placing sync.Mutex // held while lanes get the settings of their endpoints

	foreseeing sync.Mutex // held while a move of a cursor is counted, which is much work

	registry *prometheus.Registry
	perOrg   *prometheus.Registry // names organizations
	metrics  *metrics
	heart    *heart
	space    *space
	started  time.Time
	disabled sync.Map // row of an endpoint → why it was disabled when it was last looked at
	ready    atomic.Bool
	up       chan struct{} // closed when ready
	draining atomic.Bool
	released chan struct{} // closed when fan-out may begin
	resumed  chan struct{} // closed when the books are not held
	resume   func()
	release  func()
}

// openDaemon opens the books and reaches the broker, in the order in which
// each is needed. Nothing is read or sent before Run.
func openDaemon(ctx context.Context, o daemonOptions) (_ *daemon, err error) {
	o = o.withDefaults()
	d := &daemon{
		cfg: o, log: o.Log, names: stream.Names{Prefix: o.Prefix},
		tests: newTests(), registry: prometheus.NewRegistry(), space: newSpace(), started: time.Now(), released: make(chan struct{}), up: make(chan struct{}),
	}
	d.live.Store(&o)
	d.resumed = make(chan struct{})
	d.resume = sync.OnceFunc(func() { close(d.resumed) })
	d.release = sync.OnceFunc(func() { close(d.released) })
	if !o.Held {
		d.release()
	}
	if err := d.names.Check(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	d.store, err = sqlite.Open(ctx, sqlite.Options{
		Dir: o.Data, Log: o.Log, Names: d.names, Gated: d.planGated, Failpoint: o.Failpoint, Synchronous: o.Synchronous,
		KeyFile: o.KeyFile, Keys: o.Keys, ParkAfter: o.ParkAfter, Replicated: o.Replicated,
	})
	if err != nil {
		return nil, err
	}
	if _, held := d.store.Held(); !held {
		d.resume()
	}
	if err := d.importConfigured(ctx, &o); err != nil {
		return nil, err
	}
	broker := o.Broker
	broker.Names, broker.Log, broker.MaxData, broker.Installation = d.names, o.Log, o.MaxData, d.store.Installation()
	if broker.URL == "" {
		d.server, err = stream.StartServer(ctx, stream.ServerOptions{
			Dir: o.Data + "/nats", Listen: o.NATSListen, SyncInterval: o.NATSSync, Log: o.Log,
			SignIn: d.signIn, RequireSignIn: o.NATSSignIn, TLS: o.TLS,
		})
		if err != nil {
			return nil, err
		}
		broker.Server = d.server
		d.store.OnTokenRevoked(d.tokenRevoked)
	}
	if d.broker, err = stream.Connect(ctx, broker); err != nil {
		return nil, err
	}

	if d.formats, err = deliver.NewFormats(o.Formats); err != nil {
		return nil, err
	}
	if _, err := net.InterfaceAddrs(); err != nil {
		o.Log.Warn("the addresses of this machine cannot be found out, so endpoints that lead to its public ones are not refused; a sandbox has to allow netlink sockets", "error", err)
	}
	d.guard = deliver.NewGuard(d.guardOptions(&o))
	if o.Proxy != nil {
		o.Log.Warn("receivers are reached by an egress proxy, which resolves their names: it must refuse private addresses, since grapnel sees only what is named by address and port",
			"proxy", o.Proxy.Host)
	}
	if err := d.makeTracing(ctx); err != nil {
		return nil, err
	}
	d.sender = deliver.NewSender(deliver.SenderOptions{
		Proxy: o.Proxy,
		Guard: d.guard, AllowHTTP: o.AllowHTTP, UserAgent: "grapnel/" + o.Version,
		Tracer: d.attemptTracer(),
	})
	d.metrics = newMetrics(d)
	d.source = &fanout.Source{Books: d.store, Log: d.broker, Names: d.names, MaxData: d.maxData}
	d.lanes = deliver.NewLanes(deliver.LanesOptions{
		Books:       d.store,
		Source:      d.source,
		Send:        d.sender.Send,
		MaxInFlight: o.MaxInFlight,
		MaxPerOrg:   o.MaxPerOrg,
		Observe:     d.observe,
		Failpoint:   o.Failpoint,
		Formats:     d.formats,
		Log:         o.Log,
	})
	d.heart = &heart{
		pulse: d.store.Pulse, pass: d.lanes.LastPass, every: o.Supervisor.beats(),
		told: func() { o.Supervisor.beat(d.status()) },
	}
	d.replayer = newReplayer(d)
	d.catchups = fanout.NewCatchupLoop(fanout.CatchupOptions{
		Books: d.store, Log: d.broker, Lanes: d.lanes, Names: d.names, MaxData: d.maxData,
		Below: func(int64) int64 { return d.catchupBelow() }, Logger: o.Log,
	})
	d.streams = newSeenStreams(d.broker)
	d.loop = fanout.NewLoop(fanout.Options{
		Books: d.store, Log: d.streams, Lanes: d.lanes, Names: d.names, MaxData: d.maxData,
		Catalogue: d.strictTypes, Room: d.room, Sweep: o.Sweep, Installation: d.store.Installation(), Failpoint: o.Failpoint, Logger: o.Log,
		Tracer: d.eventTracer(),
	})
	d.perOrg = prometheus.NewRegistry()
	d.perOrg.MustRegister(newOrgMetrics(d.metrics.survey))
	d.registry.MustRegister(d.metrics, spaceMetrics{d}, o.Configured.metric(), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return d, nil
}

// listening is where this process listens, so that no endpoint leads back to it.
func (d *daemon) listening() (own []netip.AddrPort) {
	all := d.cfg.Listening
	if d.server != nil {
		all = append(slices.Clone(all), d.server.Addr())
	}
	for _, address := range all {
		if ap, err := netip.ParseAddrPort(address); err == nil {
			own = append(own, ap)
		}
	}
	return own
}

// close undoes openDaemon. Safe on a daemon that was opened in part.
func (d *daemon) close() {
	d.tests.end()
	if d.broker != nil {
		d.broker.Close()
	}
	if d.server != nil {
		d.server.Close()
	}
	if d.sender != nil {
		d.sender.Close()
	}
	if d.store != nil {
		if err := d.store.Close(); err != nil {
			d.log.Error("closing the books failed", "error", err)
		}
	}
}

// Run walks until ctx ends, then drains: fan-out stops at a batch's end,
// requests in flight are let end and booked. Everything is closed when it
// returns.
//
// All goroutines of the walk begin here.
func (d *daemon) Run(ctx context.Context) error {
	defer d.close()
	defer d.trace(ctx)()
	endpoints, err := d.store.AllEndpoints(ctx)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	for _, ep := range endpoints {
		if err := d.setLane(ep); err != nil {
			d.unusable(&ep, err)
		}
	}
	d.store.OnEndpointChanged(d.endpointChanged)

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var failed error
	var once sync.Once
	var wg sync.WaitGroup
	start := func(name string, run func(context.Context) error) {
		wg.Go(func() {
			if err := run(ctx); err != nil && !errors.Is(err, context.Canceled) {
				once.Do(func() { failed = fmt.Errorf("%s: %w", name, err) })
				stop()
			}
		})
	}
	d.sayHeld()
	start("lanes", d.whenResumed(d.lanes.Run))
	start("fan-out", d.whenResumed(d.fanOut))
	start("streams", d.findStreams)
	start("retention", d.retain)
	start("space", d.watchSpace)
	start("replays", d.whenResumed(d.replayer.Run))
	start("catch-up", d.whenResumed(d.catchUp))
	start("tokens", d.noteTokens)
	start("signals", d.heedSignals)
	start("pauses", d.endPauses)
	start("survey", d.metrics.survey.Run)
	start("census", d.metrics.survey.census)
	start("operational events", d.whenResumed(newRelay(d).Run))
	if d.server != nil {
		start("broker", d.watchServer)
	}
	d.ready.Store(true)
	close(d.up)
	d.cfg.Supervisor.ready(d.status())
	start("heartbeat", d.heart.Run)
	<-ctx.Done()
	d.draining.Store(true)
	d.cfg.Supervisor.stopping()
	if n := d.lanes.Stats().InFlight; n > 0 {
		d.log.Info("stopping: requests in flight are let end", "in_flight", n)
	}
	wg.Wait()
	return failed
}

func (d *daemon) fanOut(ctx context.Context) error {
	select {
	case <-d.released:
	case <-ctx.Done():
		return nil
	}
	d.broker.OnWake(func(w stream.Wake) { d.loop.Wake(w.Org, w.Seq, w.Time) })
	d.broker.OnState(func(connected bool) {
		if connected {
			d.loop.SweepAll()
		}
	})
	return d.loop.Run(ctx)
}

// endpointChanged keeps the lanes in step with the books.
func (d *daemon) endpointChanged(ep deliver.Endpoint) {
	d.placing.Lock()
	defer d.placing.Unlock()
	if ep.DisabledReason == deliver.DisabledRemoved {
		d.lanes.Remove(ep.Row)
		return
	}
	if err := d.setLane(ep); err != nil {
		d.unusable(&ep, err)
	}
	was, _ := d.disabled.Swap(ep.Row, ep.DisabledReason)
	if !ep.Enabled() && was != ep.DisabledReason {
		d.log.Warn("endpoint is disabled; its deliveries wait", "org", ep.Org, "endpoint", ep.ID, "reason", ep.DisabledReason)
	}
}

// observe is told of each attempt by the goroutine that made it.
func (d *daemon) observe(ep *deliver.Endpoint, t *deliver.Ticket, a *deliver.Attempt, next *deliver.Transition) {
	d.metrics.observe(t, a, next)
	ctx := context.Background()
	switch {
	case next.State == deliver.Dead:
		d.log.LogAttrs(ctx, slog.LevelError, "delivery is dead", attemptAttrs(ep, t, a, next)...)
	case next.State == deliver.Pending:
		d.log.LogAttrs(ctx, slog.LevelWarn, "attempt failed; it is tried again", attemptAttrs(ep, t, a, next)...)
	case d.log.Enabled(ctx, slog.LevelDebug): // else the attributes are not made
		d.log.LogAttrs(ctx, slog.LevelDebug, "delivered", attemptAttrs(ep, t, a, next)...)
	}
}

func attemptAttrs(ep *deliver.Endpoint, t *deliver.Ticket, a *deliver.Attempt, next *deliver.Transition) []slog.Attr {
	attrs := []slog.Attr{slog.String("org", ep.Org), slog.String("endpoint", ep.ID)}
	if p := t.Payload; p != nil {
		attrs = append(attrs,
			slog.String("event", p.ID.String()), slog.String("type", p.Type),
			slog.String("delivery", t.Key.ID(p.Stored)))
	}
	attrs = append(attrs, slog.Int("attempt", a.Number), slog.String("class", a.Class.String()))
	if a.Status != 0 {
		attrs = append(attrs, slog.Int("status", a.Status))
	}
	attrs = append(attrs, slog.Duration("duration", a.Duration.Round(time.Microsecond)))
	if a.Error != "" {
		attrs = append(attrs, slog.String("error", a.Error))
	}
	if id := traceID(a.TraceParent); id != "" {
		attrs = append(attrs, slog.String("trace_id", id))
	}
	switch next.State {
	case deliver.Pending:
		attrs = append(attrs, slog.Time("next", next.Due))
	case deliver.Dead:
		attrs = append(attrs, slog.String("reason", next.Reason.String()))
	}
	return attrs
}

// limitMemory makes the garbage collector work harder before the process grows
// beyond what its organizations and endpoints account for: a burst of requests
// that hang would else double it. GOMEMLIMIT overrides it.
func limitMemory(orgs, endpoints int) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryFor(orgs, endpoints))
	}
}

// memoryFor is the bytes that so many organizations and endpoints account for.
func memoryFor(orgs, endpoints int) int64 {
	const base, perOrg, perEndpoint = 400 << 20, 160 << 10, 2 << 10
	return int64(base + perOrg*orgs + perEndpoint*endpoints)
}

// leastKept is how long finished deliveries stay, however large the database is:
// as long as an event has one, its key is known.
const leastKept = time.Hour

// retention is what may go by now.
func (d *daemon) retention(now time.Time) sqlite.RetainOptions {
	live := d.live.Load()
	return sqlite.RetainOptions{
		FinishedBefore: now.Add(-live.KeepFinished), DeadBefore: now.Add(-live.KeepDead),
		MaxBytes: live.KeepBytes, LeastKept: leastKept,
	}
}

// retain removes what is old, in small steps beside the traffic.
func (d *daemon) retain(ctx context.Context) error {
	tooLarge := false
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		removed, err := d.store.Retain(ctx, d.retention(time.Now()))
		d.metrics.removed(removed)
		if removed.TooLarge && !tooLarge {
			d.log.Warn("the database is larger than retention's max_size, and nothing that is finished can go: the rest is pending, dead, or not an hour old", "max_size", d.live.Load().KeepBytes)
		}
		tooLarge = removed.TooLarge
		if err != nil && ctx.Err() == nil {
			d.log.Warn("retention stopped; it goes on in a minute", "error", err)
		}
	}
}

// watchServer starts the embedded server again when one of its streams is
// frozen: a failed write (a full disk, no descriptors left) stays until then,
// even when its cause is gone.
func (d *daemon) watchServer(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	var again time.Time // not before
	sick := 0
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		err := d.server.Health()
		if sick++; err == nil {
			sick = 0
		}
		if sick < 2 || time.Now().Before(again) {
			continue
		}
		again = time.Now().Add(time.Minute)
		d.log.Error("the embedded broker cannot write; it is started again", "error", err)
		if err := d.server.Restart(ctx); err != nil && ctx.Err() == nil {
			d.log.Error("the embedded broker did not start; it is tried again in a minute", "error", err)
		}
	}
}

// requestLimit is how many requests may be in flight: so many that thousands
// of endpoints that hang cost the others nothing, but never all descriptors.
func requestLimit() int {
	const most = 12288
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return most
	}
	return int(max(min(files.Cur*3/4, most), 64))
}

// planGated reports whether the plan lacks outgoing webhooks.
func (d *daemon) planGated(plan string) bool {
	plans := d.live.Load().Plans
	return plans != nil && plan != "" && !slices.Contains(plans[plan], featureOutgoing)
}

func (d *daemon) planNames() []string { return slices.Sorted(maps.Keys(d.live.Load().Plans)) }

func (d *daemon) maxData() int { return d.live.Load().MaxData }

// Health is how the daemon is, for probes and people.
func (d *daemon) Health() httpapi.Health {
	h := httpapi.Health{Version: d.cfg.Version, PID: os.Getpid(), Started: d.started}
	switch {
	case d.draining.Load():
		h.Ready = errors.New("stopping")
	case !d.ready.Load():
		h.Ready = errors.New("starting")
	case d.store.Full():
		h.Ready = errors.New("store_full: the disk is full; nothing new is sent until there is room")
	}
	if !d.draining.Load() { // what has ended by then is not missed
		h.Alive = d.heart.alive()
	}
	if why := d.space.lacks.Load(); why != nil {
		h.Degraded = append(h.Degraded, *why+"; nothing is fanned out until there is room")
	}
	if at, held := d.store.Held(); held {
		h.Degraded = append(h.Degraded, "held: the database is a backup of "+at.UTC().Format(time.RFC3339)+"; see grapnel resume")
	}
	if !d.broker.Connected() {
		h.Degraded = append(h.Degraded, fmt.Sprintf("the broker cannot be used: %v", d.broker.Err()))
	}
	if n := d.loop.Stats().Unclaimed; n > 0 {
		h.Degraded = append(h.Degraded, fmt.Sprintf("%d streams are read by another database, and are left alone: see grapnel cursor claim", n))
	}
	for _, f := range d.broker.Findings() {
		if !f.Hint {
			h.Degraded = append(h.Degraded, f.String())
		}
	}
	if d.server != nil {
		if err := d.server.Health(); err != nil {
			h.Degraded = append(h.Degraded, fmt.Sprintf("the embedded broker: %v", err))
		}
	}
	return h
}
