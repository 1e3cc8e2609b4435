package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	stdlog "log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/client"
	"github.com/grapnel-hooks/grapnel/cmd/internal/config"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cmd/internal/logging"
	"github.com/grapnel-hooks/grapnel/cmd/internal/telemetry"
	"github.com/grapnel-hooks/grapnel/stream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"
)

func (a *app) serveCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the daemon",
		Long: `Run the daemon: read the streams, deliver, and answer the other commands over
the socket in the data directory.

Each flag can also be set by the variable in its description, or in a YAML file
(--config) under its name with _ for -. Flags win over the environment, the
environment over the file. The file may also have:

  plans:      {trial: [], enterprise: [outgoing_webhooks]}
  event_types: types.yaml   # or a list; docs/event-types.md
  retention:  {finished: 30d, dead: 90d}

SIGHUP reads the file again, as "grapnel reload" does: docs/configuration.md says
which settings can change while the daemon runs.

SIGTERM or SIGINT stops taking new work, lets requests in flight end, and exits
with 0. A second signal ends at once, and loses nothing either.`,
		Example: `  grapnel serve
  grapnel serve --data /var/lib/grapnel --nats-url nats://nats.internal:4222 --nats-creds grapnel.creds`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := config.Load(c.Flags(), os.LookupEnv)
			if err != nil {
				return err
			}
			told := newConfigured(cfg, func() (config.Serve, error) { return config.Load(c.Flags(), os.LookupEnv) })
			log, err := logging.Open(a.err, cfg.LogFormat, told.level)
			if err != nil {
				return err
			}
			for _, v := range config.UnknownVariables(os.Environ()) {
				log.Warn("a variable of the environment is no setting", "variable", v.Name, "did_you_mean", v.Nearest)
			}
			return serve(c.Context(), cfg, told, log, nil)
		},
	}
	config.Flags(c.Flags())
	return c
}

// serve runs the daemon until ctx ends: the walk, and the doors to it. When it
// is ready it calls the function, if there is one, with the address of the
// embedded NATS server ("" if it has none).
//
// The order of the end: the API closes first, so that no call meets closed
// books; then the walk drains; health and metrics are served to the last.
func serve(ctx context.Context, cfg config.Serve, told *configured, logs logging.Log, ready func(nats string)) error {
	log := logs.Logger
	began := time.Now()
	hangups := told.hangups()
	defer signal.Stop(hangups)
	held, err := lock(cfg.Data)
	if err != nil {
		return err
	}
	defer held.Close()
	if err := private(cfg.Data); err != nil {
		return err
	}
	// net/http tells the standard logger what it finds odd in a receiver's bytes.
	stdlog.SetFlags(0)
	stdlog.SetOutput(oddities{log})
	log.Info("grapnel is starting", "version", buildVersion(), "data", cfg.Data, "pid", os.Getpid())
	public, err := listenOn("--listen", cfg.Listen)
	if err != nil {
		return err
	}
	admin, err := listenOn("--admin-listen", cmp.Or(cfg.Admin, "off"))
	if err != nil {
		closeListeners(public)
		return err
	}
	options := daemonFrom(cfg, log)
	options.Supervisor = newSupervisor(log)
	options.Configured, options.Level, options.Recent = told, told.level, logs.Recent
	for _, l := range []net.Listener{public, admin} {
		if l != nil {
			options.Listening = append(options.Listening, l.Addr().String())
		}
	}
	if options.TLS, err = serverTLS(cfg.TLSCert, cfg.TLSKey, log); err != nil {
		closeListeners(public, admin)
		return err
	}
	if public != nil && options.TLS != nil {
		public = tls.NewListener(public, options.TLS)
	}
	if options.Failpoint, err = failpoints(); err != nil {
		closeListeners(public, admin)
		return err
	}
	d, err := openDaemon(ctx, options)
	if err != nil {
		closeListeners(public, admin)
		return err
	}
	socket, err := httpapi.ListenSocket(filepath.Join(cfg.Data, client.SocketName))
	if err != nil {
		closeListeners(public, admin)
		d.close()
		return err
	}

	doors := httpapi.Options{
		Service: d, Log: log, Version: buildVersion(),
		Metrics: scraped(d.registry, d.perOrg), Observe: d.metrics.perRequest.observe,
		Rates: httpapi.UsualRates(cfg.RateLimit), Proxies: cfg.TrustedProxies, Tuning: told.tuning, Apart: admin != nil,
		Debug: (&debugging{recent: logs.Recent, started: began}).handler(),
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	context.AfterFunc(ctx, func() { log.Info("stopping; a second signal ends at once") })
	walking, stopWalk := context.WithCancel(context.WithoutCancel(ctx))
	healthy, stopHealth := context.WithCancel(context.WithoutCancel(ctx))
	errs := make(chan error, 4)
	var running sync.WaitGroup
	start := func(run func() error) {
		running.Go(func() {
			if err := run(); err != nil {
				errs <- err
			}
			stop()
		})
	}
	start(func() error {
		defer stopWalk()
		return httpapi.Serve(ctx, socket, httpapi.Operator(doors), log)
	})
	start(func() error {
		defer stopHealth()
		return d.Run(walking)
	})
	if public != nil {
		open := doors
		if !isLoopback(public.Addr()) {
			open.Metrics = scraped(d.registry) // to strangers no organization is named
		}
		start(func() error { return httpapi.Serve(healthy, public, httpapi.Public(open), log) })
	}

	start(func() error { return d.reloadOn(ctx, hangups) })
	if admin != nil {
		start(func() error { return httpapi.Serve(healthy, admin, httpapi.Probes(doors), log) })
	}

	select {
	case <-d.up:
	case <-ctx.Done():
	}
	nats := ""
	if d.server != nil {
		nats = d.server.Addr()
	}
	if d.ready.Load() {
		announce(log, cfg, public, admin, nats, time.Since(began))
	}
	if ready != nil {
		ready(nats)
	}
	running.Wait()
	close(errs)
	var all []error
	for err := range errs {
		all = append(all, err)
	}
	if err := errors.Join(all...); err != nil {
		return err
	}
	log.Info("stopped", "ran", time.Since(began))
	return nil
}

// scraped serves what the registries have, to a few scrapers at once.
func scraped(all ...prometheus.Gatherer) http.Handler {
	return promhttp.HandlerFor(prometheus.Gatherers(all), promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}

// isLoopback reports whether only this machine can reach the address.
func isLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// announce says in one line where the daemon can be reached.
func announce(log *slog.Logger, cfg config.Serve, public, admin net.Listener, nats string, took time.Duration) {
	where := []any{"took", took, "socket", filepath.Join(cfg.Data, client.SocketName)}
	switch {
	case cfg.NATSURL != "":
		where = append(where, "broker", "external")
	case nats != "":
		where = append(where, "publish_to", "nats://"+nats)
	}
	scheme := "http"
	if cfg.TLSCert != "" {
		scheme = "https"
	}
	switch {
	case admin != nil && public != nil:
		where = append(where, "api", scheme+"://"+public.Addr().String(), "health", "http://"+admin.Addr().String()+"/healthz")
	case admin != nil:
		where = append(where, "health", "http://"+admin.Addr().String()+"/healthz")
	case public != nil:
		where = append(where, "health", scheme+"://"+public.Addr().String()+"/healthz")
	}
	log.Info("ready", where...)
}

// listenOn opens the address that a flag gave, nil for "off".
func listenOn(flag, address string) (net.Listener, error) {
	if address == "off" {
		return nil, nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", flag, address, err)
	}
	return l, nil
}

func closeListeners(all ...net.Listener) {
	for _, l := range all {
		if l != nil {
			l.Close()
		}
	}
}

// daemonFrom is the daemon that the configuration asks for.
func daemonFrom(cfg config.Serve, log *slog.Logger) daemonOptions {
	return daemonOptions{
		Data: cfg.Data, Version: buildVersion(), NATSListen: cfg.NATSListen, NATSSignIn: cfg.NATSSignIn, NATSSync: cfg.NATSSync,
		Broker: stream.Options{
			URL: cfg.NATSURL, Creds: cfg.NATSCreds, TLSCA: cfg.NATSTLSCA, TLSCert: cfg.NATSTLSCert, TLSKey: cfg.NATSTLSKey,
		},
		Prefix: cfg.SubjectPrefix, MaxData: cfg.MaxEventSize,
		AllowHTTP: cfg.AllowHTTP, Allow: cfg.AllowNetworks, Plans: cfg.Plans, Strict: cfg.Strict, EventTypes: cfg.EventTypes,
		MaxPerOrg: cfg.MaxPerOrg, Formats: cfg.Formats, Ports: cfg.AllowPorts, Proxy: cfg.EgressProxy, NAT64: cfg.NAT64, KeyFile: cfg.SecretsKeyFile, Keys: cfg.SecretsKeys,
		Replicated: cfg.Replicated, ParkAfter: cfg.ParkAfter, OnMissing: cfg.OnMissing, KeepFinished: cfg.KeepFinished, KeepDead: cfg.KeepDead, KeepBytes: cfg.KeepBytes, Log: log,
		MaxPending: cfg.MaxPending, MinFree: cfg.MinFree, MaxStore: cfg.MaxStore, Ballast: cfg.Ballast,
		Tracing: telemetry.Options{Endpoint: cfg.OTLPEndpoint, Headers: cfg.OTLPHeaders, Sample: cfg.TraceSample},
	}
}

// oddities logs what net/http says to the standard logger, without the bytes that it
// quotes: a receiver's answer may repeat what it was sent.
type oddities struct{ log *slog.Logger }

func (o oddities) Write(line []byte) (int, error) {
	what, _, _ := strings.Cut(strings.TrimSpace(string(line)), " starting with ")
	o.log.Debug("net/http finds a connection odd", "what", what)
	return len(line), nil
}
