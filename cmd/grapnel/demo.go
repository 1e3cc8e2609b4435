package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/client"
	"github.com/grapnel-hooks/grapnel/cmd/internal/config"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cmd/internal/logging"
	"github.com/grapnel-hooks/grapnel/deliver/sign"
	"github.com/grapnel-hooks/grapnel/stream"
	"github.com/grapnel-hooks/grapnel/testdata"
	"github.com/spf13/cobra"
)

// demoLimit is how long the demonstration may take before it gives up.
const demoLimit = time.Minute

func (a *app) demoCommand() *cobra.Command {
	keep := false
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show all of it on this machine, in a few seconds",
		Long: `Show all of it on this machine, in a few seconds: a daemon with its own NATS
server in a temporary directory, two organizations, a receiver that fails the
first time, a dozen real events, and what becomes of them. Needs nothing, uses
only the loopback address, and leaves nothing behind.`,
		Example: `  grapnel demo
  grapnel demo --keep`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), demoLimit)
			defer cancel()
			d := &demo{app: a, ink: a.ink(), began: time.Now()}
			err := d.run(ctx, keep)
			if err != nil && d.log.Len() > 0 {
				fmt.Fprintf(a.err, "The daemon's log:\n%s", d.log.String())
			}
			return err
		},
	}
	c.Flags().BoolVar(&keep, "keep", false, "leave the data directory, to look at it afterwards")
	return c
}

// demo is one demonstration.
type demo struct {
	app   *app
	ink   ink
	began time.Time

	dir      string
	nats     string // address of the embedded server
	api      *client.Client
	receiver *demoReceiver
	expected int          // deliveries
	sample   arrival      // one that was delivered
	log      bytes.Buffer // of the daemon; read after it has ended
}

// demoEndpoint is an endpoint to be made.
type demoEndpoint struct {
	org, path, workspace string
	types                []string
	gets                 string // in words
}

var demoEndpoints = []demoEndpoint{
	{org: "acme", path: "acme", gets: "every event of acme"},
	{org: "clinic", path: "clinic", gets: "every event of clinic, and of all its workspaces"},
	{org: "clinic", path: "clinic/berlin", workspace: "berlin", types: []string{"patient.admitted", "inventory.*"},
		gets: "only patients and stock of workspace berlin"},
}

func (d *demo) run(ctx context.Context, keep bool) (err error) {
	if d.dir, err = os.MkdirTemp("", "grapnel-demo-"); err != nil {
		return err
	}
	if !keep {
		defer os.RemoveAll(d.dir)
	}
	stopDaemon, err := d.startDaemon(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopDaemon()) }()
	d.api = client.New(d.dir)
	defer d.api.Close()
	if d.receiver, err = startDemoReceiver(); err != nil {
		return err
	}
	defer d.receiver.close()

	for _, step := range []func(context.Context) error{d.makeOrgs, d.makeEndpoints, d.publish, d.watch, d.showSample, d.prove} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	d.conclude(keep)
	return nil
}

// step prints a heading, and the command that does it by hand.
func (d *demo) step(title string, commands ...string) {
	if d.app.json {
		return
	}
	d.app.printf("\n%s\n", d.ink.bold(title))
	for _, c := range commands {
		d.app.printf("  %s %s\n", d.ink.faint("$"), c)
	}
}

func (d *demo) say(format string, args ...any) {
	if !d.app.json {
		d.app.printf("  "+format+"\n", args...)
	}
}

// startDaemon runs what "grapnel serve" runs.
func (d *demo) startDaemon(ctx context.Context) (stop func() error, err error) {
	cfg := config.Serve{
		Data: d.dir, Listen: "off", NATSListen: "127.0.0.1:0",
		AllowHTTP: true, AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	}
	d.step("A daemon, with a NATS server inside",
		"export GRAPNEL_DATA="+d.dir,
		"grapnel serve --nats-listen 127.0.0.1:0 --allow-http --allow-network 127.0.0.0/8")
	log := slog.New(slog.NewTextHandler(&d.log, &slog.HandlerOptions{Level: slog.LevelInfo}))
	running, cancel := context.WithCancel(ctx)
	ready, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- serve(running, cfg, newConfigured(cfg, nil), logging.Log{Logger: log}, func(nats string) { ready <- nats })
	}()
	stop = func() error {
		cancel()
		return <-ended
	}
	select {
	case d.nats = <-ready:
		d.say("It was ready after %s; publishers connect to nats://%s", time.Since(d.began).Round(time.Millisecond), d.nats)
		return stop, nil
	case err := <-ended:
		cancel()
		return nil, fmt.Errorf("the daemon did not start: %w", err)
	}
}

func (d *demo) makeOrgs(ctx context.Context) error {
	d.step("Two organizations, each with a stream of its own", "grapnel org add acme", "grapnel org add clinic")
	for _, org := range []string{"acme", "clinic"} {
		if _, err := d.api.AddOrg(ctx, httpapi.OrgCreate{ID: org}); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) makeEndpoints(ctx context.Context) error {
	d.step("Three endpoints: where they want their events")
	for _, e := range demoEndpoints {
		url := "http://" + d.receiver.address + "/" + e.path
		words := []string{"grapnel endpoint add", e.org, url}
		in := httpapi.EndpointCreate{URL: url, EventTypes: e.types, Retry: demoRetry()}
		for _, t := range e.types {
			words = append(words, "--type '"+t+"'")
		}
		if e.workspace != "" {
			in.WorkspaceID = httpapi.Text(e.workspace)
			words = append(words, "--workspace", e.workspace)
		}
		words = append(words, "--retry-initial 500ms")
		made, err := d.api.AddEndpoint(ctx, e.org, in)
		if err != nil {
			return err
		}
		if err := d.receiver.expect(e.path, made.Secret); err != nil {
			return err
		}
		if !d.app.json {
			d.app.printf("  %s %s\n", d.ink.faint("$"), wrapped(words, 92, "      "))
		}
		d.say("%s gets %s", made.ID, e.gets)
	}
	return nil
}

// demoRetry comes back soon, so that one sees it.
func demoRetry() *httpapi.Retry {
	initial := httpapi.Duration(500 * time.Millisecond)
	return &httpapi.Retry{Initial: &initial}
}

// wrapped joins words, with a backslash and a new line where they would be
// wider than width.
func wrapped(words []string, width int, indent string) string {
	var b strings.Builder
	at := 0
	for i, w := range words {
		switch {
		case i == 0:
		case at+1+len(w) > width:
			b.WriteString(" \\\n" + indent)
			at = len(indent)
		default:
			b.WriteString(" ")
			at++
		}
		b.WriteString(w)
		at += len(w)
	}
	return b.String()
}

// publish appends the sample events as a service would: with a NATS client,
// over TCP.
func (d *demo) publish(ctx context.Context) error {
	events, err := testdata.Events()
	if err != nil {
		return err
	}
	d.step(fmt.Sprintf("Services publish %d events, with any NATS client", len(events)),
		`nats pub events.acme.invoice.paid '{"invoice":"in_1042",…}' -H Nats-Msg-Id:in_1042-paid`,
		`nats pub events.clinic.inventory.low '{"sku":"GLV-NITRIL-M",…}' -H Grapnel-Workspace:berlin …`)
	publisher, err := stream.Connect(ctx, stream.Options{URL: "nats://" + d.nats})
	if err != nil {
		return err
	}
	defer publisher.Close()
	began := time.Now()
	for _, e := range events {
		var data bytes.Buffer
		if err := json.Compact(&data, e.Data); err != nil {
			return fmt.Errorf("%s: %w", e.File, err)
		}
		_, err := publisher.Append(ctx, e.Org, stream.Append{
			Type: e.Type, Data: data.Bytes(), DedupeKey: e.DedupeKey, Workspace: e.WorkspaceID, Source: e.Source,
		})
		if err != nil {
			return fmt.Errorf("publish %s: %w", e.File, err)
		}
		for _, to := range demoEndpoints {
			if to.wants(e) {
				d.expected++
			}
		}
	}
	d.say("Each was acknowledged when it was on the disk: %s in all.", time.Since(began).Round(time.Millisecond))
	return nil
}

// wants is what the daemon is expected to find, said in another way.
func (e demoEndpoint) wants(ev testdata.Event) bool {
	if e.org != ev.Org || e.workspace != "" && e.workspace != ev.WorkspaceID {
		return false
	}
	for _, t := range e.types {
		if prefix, ok := strings.CutSuffix(t, "*"); ok && strings.HasPrefix(ev.Type, prefix) || t == ev.Type {
			return true
		}
	}
	return len(e.types) == 0
}

// watch shows requests as they arrive, until every delivery has had its 2xx
// and the daemon has booked it.
func (d *demo) watch(ctx context.Context) error {
	d.step("Deliveries, as they arrive; the receiver answers the first of each endpoint with 503")
	d.say("%s", d.ink.faint("  AFTER  ENDPOINT       TYPE                     ATTEMPT  ANSWER  SIGNATURE"))
	delivered := map[string]bool{}
	for len(delivered) < d.expected {
		select {
		case r := <-d.receiver.arrived:
			if !r.Verified {
				return fmt.Errorf("the signature of %s at %s did not verify: %s", r.Event, r.Endpoint, r.Error)
			}
			if r.Status < 300 {
				delivered[r.Endpoint+" "+r.Event] = true
				if r.Type == "inventory.low" {
					d.sample = r
				}
			}
			d.showArrival(r)
		case <-ctx.Done():
			return fmt.Errorf("%d of %d deliveries arrived: %w", len(delivered), d.expected, context.Cause(ctx))
		}
	}
	return d.settle(ctx)
}

func (d *demo) showArrival(r arrival) {
	if d.app.json {
		json.NewEncoder(d.app.out).Encode(r)
		return
	}
	status, note := d.ink.green(fmt.Sprint(r.Status)), ""
	switch {
	case r.Status >= 300:
		status, note = d.ink.red(fmt.Sprint(r.Status)), d.ink.faint("   again in about 500ms")
	case r.Attempt != "1":
		note = d.ink.faint("   same webhook-id")
	}
	d.app.printf("  %s  %-13s  %-23s  %7s     %s  %s%s\n",
		d.ink.faint(fmt.Sprintf("%6.3fs", r.at.Sub(d.began).Seconds())), r.Endpoint, r.Type, r.Attempt, status, d.ink.green("verified"), note)
}

// showSample shows one request whole.
func (d *demo) showSample(context.Context) error {
	d.step("One of them, as its receiver got it")
	d.say("POST /%s", d.sample.Endpoint)
	for _, name := range []string{"content-type", sign.HeaderID, sign.HeaderTimestamp, sign.HeaderSignature, "grapnel-delivery", "grapnel-attempt"} {
		d.say("%s: %s", strings.ToLower(name), d.sample.header.Get(name))
	}
	if !d.app.json {
		d.app.printf("\n%s\n", indentLines(indented(d.sample.body), "  "))
	}
	return nil
}

// settle waits until the daemon has booked the last outcomes.
func (d *demo) settle(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		all, err := d.api.Cursors(ctx, client.Page{})
		if err != nil {
			return err
		}
		left := int64(0)
		for _, c := range all.Data {
			left += c.Pending + int64(c.Lag)
		}
		if left == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%d deliveries are still pending: %w", left, context.Cause(ctx))
		}
	}
}

// prove shows the cursors, and reads the streams again.
func (d *demo) prove(ctx context.Context) error {
	d.step("How far each stream is fanned out", "grapnel cursor list")
	all, err := d.api.Cursors(ctx, client.Page{})
	if err != nil {
		return err
	}
	d.table(cursorRows(all.Data, false, false))
	d.step("And the books, proven from the streams", "grapnel fsck")
	books, err := d.api.Fsck(ctx, "")
	if err != nil {
		return err
	}
	if !d.app.json {
		var out bytes.Buffer
		printBooks(&out, d.ink, books)
		d.app.printf("%s", indentLines(out.String(), "  "))
	}
	if !books.Proven {
		return errors.New("the books are wrong")
	}
	return nil
}

func (d *demo) table(t *table) {
	if d.app.json {
		return
	}
	var out bytes.Buffer
	t.print(&out, d.ink)
	d.app.printf("%s", indentLines(out.String(), "  "))
}

func indentLines(s, by string) string {
	var b strings.Builder
	for l := range strings.Lines(s) {
		b.WriteString(by + l)
	}
	return b.String()
}

func (d *demo) conclude(keep bool) {
	took := time.Since(d.began)
	if d.app.json {
		json.NewEncoder(d.app.out).Encode(struct {
			Deliveries int     `json:"deliveries"`
			Requests   int     `json:"requests"`
			Seconds    float64 `json:"seconds"`
		}{d.expected, d.receiver.requests(), took.Seconds()})
		return
	}
	d.app.printf("\n%s\n", d.ink.green(fmt.Sprintf("%d deliveries in %d requests, all delivered, in %.1f seconds.",
		d.expected, d.receiver.requests(), took.Seconds())))
	if keep {
		d.app.printf("The data is in %s: grapnel serve --data %s\n", d.dir, d.dir)
	}
	d.app.printf("Next: grapnel serve, and grapnel listen for a receiver of your own.\n")
}
