package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/client"
	"github.com/grapnel-hooks/grapnel/cmd/internal/config"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/sqlite"
	"github.com/spf13/pflag"
)

// Bounds of a bundle.
const (
	mostOfPart      = 64 << 20 // bytes
	mostBundled     = 10_000   // endpoints, files
	perBundledPart  = 30 * time.Second
	deepestBundled  = 3 // directories below the data directory
	bundledPageSize = 250
)

// part is one file of a bundle, and how it is made.
type part struct {
	name, what string
	make       func(context.Context) ([]byte, error)
}

// bundleParts are those that can be had, the quick ones first: the recording and
// the proof take their time.
func (a *app) bundleParts(o bundleOptions, daemon bool) []part {
	own := []part{
		{"command.json", "this command: version and limits", asJSON(func(context.Context) (any, error) { return processOf(time.Now()), nil })},
		{"files.json", "the data directory: names and sizes", asJSON(func(context.Context) (any, error) { return filesBelow(a.data) })},
	}
	if !daemon {
		return append(own, a.offlineParts(o)...)
	}
	api := client.New(a.data)
	raw := func(path string) func(context.Context) ([]byte, error) {
		return func(ctx context.Context) ([]byte, error) { return api.Raw(ctx, path, mostOfPart) }
	}
	parts := append(own,
		part{"health.json", "how the daemon is", raw("/readyz")},
		part{"process.json", "the daemon: version, memory, limits", raw("/debug/process")},
		part{"config.json", "settings, and where each was said", raw("/api/v1/config")},
		part{"log.txt", "the last 1,000 lines of the log", raw("/debug/log")},
		part{"metrics.txt", "the metrics", raw("/metrics")},
		part{"goroutines.txt", "what each goroutine does", raw("/debug/pprof/goroutine?debug=2")},
		part{"heap.pprof", "what holds memory", raw("/debug/pprof/heap")},
		part{"doctor.json", "what doctor finds", raw("/api/v1/doctor")},
		part{"cursors.json", "all cursors", asJSON(func(ctx context.Context) (any, error) {
			return allCursors(ctx, api)
		})},
		part{"endpoints.json", "health of all endpoints", asJSON(func(ctx context.Context) (any, error) { return endpointHealth(ctx, api) })},
	)
	if o.flight > 0 {
		parts = append(parts, part{"flight.trace", "what the process did for some seconds", raw(fmt.Sprintf("/debug/flight?seconds=%d", int(o.flight.Seconds())))})
	}
	if o.fsck > 0 {
		parts = append(parts, part{"fsck.json", "whether the books are proven", asJSON(func(ctx context.Context) (any, error) {
			limited, cancel := context.WithTimeout(ctx, o.fsck)
			defer cancel()
			proof, err := api.Fsck(limited, "")
			if limited.Err() != nil && ctx.Err() == nil {
				return nil, fmt.Errorf("not proven within %v: see --fsck", o.fsck)
			}
			return proof, err
		})})
	}
	for i, p := range parts {
		if p.name != "fsck.json" && p.name != "flight.trace" {
			parts[i].make = within(perBundledPart, p.make)
		}
	}
	return parts
}

// offlineParts are what can be had without a daemon.
func (a *app) offlineParts(o bundleOptions) []part {
	cfg, wrong := a.configuredOffline(o.config)
	dir, err := filepath.Abs(a.data)
	if err != nil {
		dir = a.data // it is said of each part that cannot be had
	}
	return []part{
		{"config.json", "settings of the file and the environment, and where each was said", asJSON(func(context.Context) (any, error) {
			return cfg.Effective(), wrong
		})},
		{"doctor.json", "what doctor finds", asJSON(func(ctx context.Context) (any, error) {
			cfg := cfg
			cfg.Data = dir
			return examineOffline(ctx, cfg, httpapi.Examination{}), nil
		})},
		{"database.json", "the database: schema and size", asJSON(func(ctx context.Context) (any, error) {
			g, err := sqlite.Look(ctx, sqlite.Options{Dir: dir, KeyFile: cfg.SecretsKeyFile, Keys: cfg.SecretsKeys})
			if err != nil {
				return nil, err
			}
			key := ""
			if g.Key != nil {
				key = g.Key.Error()
			}
			return map[string]any{"schema": g.Schema, "known_schema": g.Known, "orgs": g.Orgs, "endpoints": g.Endpoints,
				"bytes": g.Bytes, "wal_bytes": g.WALByte, "key": key, "held_since": g.HeldSince}, nil
		})},
		{"cursors.json", "all cursors, as far as the database knows", asJSON(func(ctx context.Context) (any, error) {
			return (&cursorSource{db: a.data}).readCursors(ctx)
		})},
	}
}

// configuredOffline is the configuration that a daemon would start with.
func (a *app) configuredOffline(file string) (config.Serve, error) {
	f := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	config.Flags(f)
	args := []string{"--data", a.data}
	if file != "" {
		args = append(args, "--config", file)
	}
	if err := f.Parse(args); err != nil {
		return config.Serve{}, err
	}
	return config.Load(f, os.LookupEnv)
}

// asJSON makes a file of what get returns.
func asJSON(get func(context.Context) (any, error)) func(context.Context) ([]byte, error) {
	return func(ctx context.Context) ([]byte, error) {
		v, err := get(ctx)
		if err != nil {
			return nil, err
		}
		text, err := json.MarshalIndent(v, "", "  ")
		return append(text, '\n'), err
	}
}

// within bounds how long a part may take.
func within(d time.Duration, get func(context.Context) ([]byte, error)) func(context.Context) ([]byte, error) {
	return func(ctx context.Context) ([]byte, error) {
		limited, cancel := context.WithTimeout(ctx, d)
		defer cancel()
		text, err := get(limited)
		if limited.Err() != nil && ctx.Err() == nil {
			return nil, fmt.Errorf("not there within %v", d)
		}
		return text, err
	}
}

// endpointInBundle is how an endpoint is, with nothing of where it leads but the
// host.
type endpointInBundle struct {
	Org            string     `json:"org"`
	ID             string     `json:"id"`
	Host           string     `json:"host"`
	EventTypes     []string   `json:"event_types"`
	Format         string     `json:"format"`
	Ordered        bool       `json:"ordered,omitempty"`
	Concurrency    int        `json:"concurrency"`
	RateLimit      float64    `json:"rate_limit,omitempty"`
	TimeoutMS      int        `json:"timeout_ms"`
	Health         string     `json:"health"`
	Failures       int        `json:"consecutive_failures,omitempty"`
	FailingSince   *time.Time `json:"failing_since,omitempty"`
	NextProbeAt    *time.Time `json:"next_probe_at,omitempty"`
	HeldUntil      *time.Time `json:"held_until,omitempty"`
	DisabledReason string     `json:"disabled_reason,omitempty"`
	CatchingUp     bool       `json:"catching_up,omitempty"`
}

// endpointHealth is that of all endpoints, up to mostBundled.
func endpointHealth(ctx context.Context, api *client.Client) (any, error) {
	all := []endpointInBundle{}
	truncated := false
	err := eachPage(func(p client.Page) (*string, error) {
		orgs, err := api.Orgs(ctx, p)
		if err != nil {
			return nil, err
		}
		for _, o := range orgs.Data {
			err := eachPage(func(p client.Page) (*string, error) {
				list, err := api.Endpoints(ctx, o.ID, p)
				for _, e := range list.Data {
					all = append(all, bundled(e))
				}
				return list.NextCursor, err
			})
			if err != nil {
				return nil, err
			}
			if truncated = len(all) >= mostBundled; truncated {
				return nil, nil
			}
		}
		return orgs.NextCursor, nil
	})
	return map[string]any{"data": all, "truncated": truncated}, err
}

func bundled(e httpapi.EndpointBody) endpointInBundle {
	host := "unknown"
	if u, err := url.Parse(e.URL); err == nil {
		host = u.Scheme + "://" + u.Host
	}
	return endpointInBundle{
		Org: e.Org, ID: e.ID, Host: host, EventTypes: e.EventTypes, Format: e.Format, Ordered: e.Ordered || e.OrderedBy != "",
		Concurrency: e.Concurrency, RateLimit: e.RateLimit, TimeoutMS: e.TimeoutMS,
		Health: e.Health, Failures: e.ConsecutiveFailures, FailingSince: e.FailingSince, NextProbeAt: e.NextProbeAt, HeldUntil: e.HeldUntil,
		DisabledReason: e.DisabledReason, CatchingUp: e.CatchingUp != nil,
	}
}

// allCursors are those that a daemon has.
func allCursors(ctx context.Context, api *client.Client) (all []httpapi.CursorBody, err error) {
	err = eachPage(func(p client.Page) (*string, error) {
		list, err := api.Cursors(ctx, p)
		all = append(all, list.Data...)
		return list.NextCursor, err
	})
	return all, err
}

// eachPage gets one page after the other.
func eachPage(get func(client.Page) (next *string, err error)) error {
	p := client.Page{Limit: bundledPageSize}
	for {
		next, err := get(p)
		if err != nil || next == nil {
			return err
		}
		p.Cursor = *next
	}
}

// fileInBundle is one file of the data directory.
type fileInBundle struct {
	Name    string    `json:"name"` // below the directory
	Mode    string    `json:"mode"`
	Bytes   int64     `json:"bytes"`
	Changed time.Time `json:"changed"`
}

// filesBelow lists the files of a directory, without reading them.
func filesBelow(dir string) (any, error) {
	files := []fileInBundle{}
	total, truncated := int64(0), false
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if path == dir || !errors.Is(err, fs.ErrNotExist) { // else it went away meanwhile
				return err
			}
			return nil
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return nil // it went away meanwhile
		}
		if !d.IsDir() {
			total += info.Size()
		}
		if truncated = truncated || len(files) >= mostBundled; !truncated && depth(name) <= deepestBundled {
			files = append(files, fileInBundle{name, info.Mode().String(), info.Size(), info.ModTime().UTC()})
		}
		return nil
	})
	return map[string]any{"directory": cmp.Or(dir, "."), "bytes": total, "files": files, "truncated": truncated, "system": runtime.GOOS}, err
}

// depth is how many directories a path goes down.
func depth(path string) (n int) {
	for _, c := range path {
		if c == filepath.Separator {
			n++
		}
	}
	return n
}
