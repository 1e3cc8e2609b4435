package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/config"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cmd/internal/logging"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
)

// A reload reads the configuration again, flags and environment included, which
// cannot have changed: so what was said on the command line stays in force. All
// of it is checked before the first setting changes. When anything is wrong, or
// cannot be stored, nothing changes at all; afterwards there is nothing that could
// fail. What cannot change while the daemon runs stays as it is, and is told.

// configured is where the daemon's settings come from.
type configured struct {
	load   func() (config.Serve, error) // again; nil: they were not read from anywhere
	level  *logging.Level               // of the log
	tuning *httpapi.Tuning              // of the doors

	good atomic.Bool // the last reload was taken

	mu     sync.Mutex // held during a reload
	cfg    config.Serve
	readAt time.Time
}

// newConfigured is for settings that have just been read, by load.
func newConfigured(cfg config.Serve, load func() (config.Serve, error)) *configured {
	c := &configured{load: load, level: logging.NewLevel(cfg.LogLevel), tuning: new(httpapi.Tuning), cfg: cfg, readAt: time.Now()}
	c.good.Store(true)
	return c
}

// hangups are the SIGHUPs from now on, none when there is nothing to read again.
func (c *configured) hangups() chan os.Signal {
	signals := make(chan os.Signal, 1)
	if c.load != nil {
		signal.Notify(signals, syscall.SIGHUP)
	}
	return signals
}

// metric says whether the last reload was taken.
func (c *configured) metric() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "grapnel_config_last_reload_successful", Help: "1 if the configuration could be used when it was read last, 0 if the one before is in force still.",
	}, func() float64 {
		if c == nil || c.good.Load() {
			return 1
		}
		return 0
	})
}

// reloadOn reloads at each signal, until ctx ends.
func (d *daemon) reloadOn(ctx context.Context, hangups <-chan os.Signal) error {
	for {
		select {
		case <-hangups:
			if _, err := d.Reload(ctx); err != nil && !errors.Is(err, httpapi.ErrState) {
				d.log.Error("configuration cannot be read again; the one before stays in force", "error", err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// errNotRead: a daemon that was not started by "grapnel serve".
var errNotRead = fmt.Errorf("this daemon's settings were not read from anywhere: %w", httpapi.ErrState)

// Reload implements httpapi.Configurations.
func (d *daemon) Reload(ctx context.Context) (httpapi.Reloaded, error) {
	c := d.cfg.Configured
	if c == nil || c.load == nil {
		return httpapi.Reloaded{}, errNotRead
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	d.cfg.Supervisor.reloading()
	defer func() { d.cfg.Supervisor.reloaded(d.status()) }()
	next, err := c.load()
	var taken config.Serve
	if err == nil {
		taken, err = c.cfg.Take(next)
	}
	if err == nil {
		err = d.apply(ctx, &c.cfg, &taken)
	}
	if err != nil {
		c.good.Store(false)
		d.log.Error("configuration is refused; the one before stays in force", "error", err)
		return httpapi.Reloaded{}, fmt.Errorf("the configuration is refused, the one before stays in force: %w: %w", err, httpapi.ErrState)
	}
	var out httpapi.Reloaded
	for _, change := range c.cfg.Changes(next) {
		shown := httpapi.SettingChange(change)
		attrs := []any{"setting", change.Key, "from", strings.Join(change.From, ", "), "to", strings.Join(change.To, ", "), "where", change.Where}
		if change.Reload {
			out.Changed = append(out.Changed, shown)
			d.log.Info("setting is changed", attrs...)
		} else {
			out.Restart = append(out.Restart, shown)
			d.log.Warn("setting is changed in the configuration, and holds after a restart only", attrs...)
		}
	}
	c.cfg, c.readAt = taken, time.Now()
	c.good.Store(true)
	d.log.Info("configuration is read again", "file", taken.File, "changed", len(out.Changed), "need_restart", len(out.Restart))
	if err := d.store.Audited(d.asked(ctx, nil), "", "config.reload", changedKeys(out.Changed)); err != nil {
		d.log.Error("the reload could not be noted in the audit", "error", err) // a full disk must not keep anybody from shortening the retention
	}
	return out, nil
}

// changedKeys names the settings that a reload has changed, for the audit.
func changedKeys(changed []httpapi.SettingChange) string {
	if len(changed) == 0 {
		return "nothing"
	}
	keys := make([]string, len(changed))
	for i, c := range changed {
		keys[i] = c.Key
	}
	return strings.Join(keys, ",")
}

// apply puts those settings in force that can change while the daemon runs. What
// can fail comes first, and only when it is needed.
func (d *daemon) apply(ctx context.Context, was, is *config.Serve) error {
	next := d.with(is)
	sameFormats := reflect.DeepEqual(was.Formats, is.Formats)
	if !sameFormats {
		if _, err := deliver.NewFormats(next.Formats); err != nil {
			return err
		}
	}
	if !reflect.DeepEqual(was.EventTypes, is.EventTypes) {
		if err := d.importConfigured(ctx, next); err != nil {
			return err
		}
	}

	d.live.Store(next)
	c := d.cfg.Configured
	c.level.Configure(is.LogLevel)
	c.tuning.Set(httpapi.UsualRates(is.RateLimit), is.TrustedProxies)
	d.store.SetParkAfter(next.ParkAfter)
	d.broker.SetMaxData(next.MaxData)
	d.lanes.SetMaxPerOrg(next.MaxPerOrg)
	if !sameEgress(was, is) {
		d.guard.Set(d.guardOptions(next)) // before connections are dialed anew
		d.sender.Renew(next.AllowHTTP)
	}
	if !sameFormats {
		d.changeFormats(ctx, next.Formats)
	}
	return nil
}

// sameEgress reports whether both let requests go to the same places.
func sameEgress(a, b *config.Serve) bool {
	return a.AllowHTTP == b.AllowHTTP && slices.Equal(a.AllowNetworks, b.AllowNetworks) && slices.Equal(a.AllowPorts, b.AllowPorts) && slices.Equal(a.NAT64, b.NAT64)
}

// with is what the daemon goes by once a reload has taken cfg.
func (d *daemon) with(cfg *config.Serve) *daemonOptions {
	next, fresh := *d.live.Load(), daemonFrom(*cfg, d.log).withDefaults()
	next.AllowHTTP, next.Allow, next.Ports, next.NAT64 = fresh.AllowHTTP, fresh.Allow, fresh.Ports, fresh.NAT64
	next.Plans, next.Strict, next.EventTypes, next.Formats = fresh.Plans, fresh.Strict, fresh.EventTypes, fresh.Formats
	next.MaxData, next.MaxPerOrg, next.ParkAfter = fresh.MaxData, fresh.MaxPerOrg, fresh.ParkAfter
	next.KeepFinished, next.KeepDead, next.KeepBytes = fresh.KeepFinished, fresh.KeepDead, fresh.KeepBytes
	next.MaxPending, next.MinFree, next.MaxStore, next.Ballast = fresh.MaxPending, fresh.MinFree, fresh.MaxStore, fresh.Ballast
	return &next
}

func (d *daemon) guardOptions(o *daemonOptions) deliver.GuardOptions {
	return deliver.GuardOptions{
		Allow: o.Allow, AllowHTTP: o.AllowHTTP, Ports: o.Ports, NAT64: o.NAT64, Listening: d.listening(), Local: deliver.LocalAddrs,
	}
}

// changeFormats prepares every endpoint again: those whose format is there by now
// go on, those whose format is gone are held. The formats have been checked.
func (d *daemon) changeFormats(ctx context.Context, all []deliver.Format) {
	d.placing.Lock()
	defer d.placing.Unlock()
	err := d.formats.Set(all)
	var endpoints []deliver.Endpoint
	if err == nil {
		endpoints, err = d.store.AllEndpoints(ctx)
	}
	if err != nil {
		d.log.Error("the formats of endpoints change only when these are changed, or after a restart", "error", err)
	}
	for _, ep := range endpoints {
		if err := d.setLane(ep); err != nil {
			d.unusable(&ep, err)
		}
	}
}

// Configuration implements httpapi.Configurations. It reads what is said by now,
// and changes nothing.
func (d *daemon) Configuration(context.Context) (httpapi.Configuration, error) {
	c := d.cfg.Configured
	if c == nil {
		return httpapi.Configuration{ReadAt: d.started}, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	out := httpapi.Configuration{File: c.cfg.File, ReadAt: c.readAt}
	for _, v := range c.cfg.Effective() {
		out.Settings = append(out.Settings, httpapi.Setting{Key: v.Key, Value: v.Values, Source: string(v.Source), Where: v.Where, Reload: v.Reload})
	}
	if c.load == nil {
		return out, nil
	}
	next, err := c.load()
	if err != nil {
		out.Problem = err.Error()
		return out, nil
	}
	for _, change := range c.cfg.Changes(next) {
		out.Differs = append(out.Differs, httpapi.SettingChange(change))
	}
	return out, nil
}

func (a *app) reloadCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Make the daemon read its configuration again",
		Long: `Make the running daemon read its configuration file again, and take what can be
taken while it runs, all of it or nothing: a file that has a mistake changes
nothing, and the exit status is 1. Settings that hold after a restart only are
named. SIGHUP does the same, and says so in the log.

Flags and variables of the daemon stay as they were when it started, and win over
the file as always.`,
		Example: `  grapnel reload
  grapnel reload --data /var/lib/grapnel --json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := a.client().Reload(c.Context())
			if err != nil {
				return err
			}
			return a.show(r, func() {
				if len(r.Changed)+len(r.Restart) == 0 {
					a.printf("Read again: nothing is different.\n")
					return
				}
				t := &table{columns: []string{"SETTING", "FROM", "TO", "HOLDS"}}
				for _, v := range r.Changed {
					t.add(v.Key, strings.Join(v.From, ", "), changedTo(v), "now")
				}
				for _, v := range r.Restart {
					t.add(v.Key, strings.Join(v.From, ", "), changedTo(v), "after a restart")
				}
				t.print(a.out, a.ink())
			})
		},
	}
}
