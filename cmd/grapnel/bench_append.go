package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/stream"
	"github.com/spf13/cobra"
)

// appendOptions are the flags of "grapnel bench append".
type appendOptions struct {
	Events  int // per measurement
	Rounds  int
	Clients int // HTTP connections, each with one request at a time
	Batch   int // events per request
	Size    int // bytes of an event's data
	Sync    time.Duration
	Keys    bool // events carry dedupe keys
	Profile string
	JSON    bool
}

func benchAppendCommand() *cobra.Command {
	o := appendOptions{}
	c := &cobra.Command{
		Use:   "append",
		Short: "Compare appending over HTTP with a native NATS publisher",
		Long: `Appends the same events twice, to the same daemon in one run, over TCP on
loopback: with HTTP clients that send batches, and with a NATS publisher that has
as many messages unacknowledged as all the clients together. Prints the ratio,
and the rate of single events over HTTP besides.`,
		Example: `  grapnel bench append
  grapnel bench append --nats-sync 1s --clients 1`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o.JSON, _ = c.Flags().GetBool("json")
			return runBenchAppend(c.Context(), c.OutOrStdout(), o)
		},
	}
	f := c.Flags()
	f.IntVar(&o.Events, "events", 50_000, "events per measurement")
	f.IntVar(&o.Rounds, "rounds", 3, "rounds; the median ratio is printed")
	f.IntVar(&o.Clients, "clients", 4, "HTTP clients, each with one request at a time")
	f.IntVar(&o.Batch, "batch", 100, "events per request")
	f.IntVar(&o.Size, "size", 1024, "bytes of an event's data")
	f.DurationVar(&o.Sync, "nats-sync", 0, "when the embedded server flushes; 0: before each acknowledgement")
	f.BoolVar(&o.Keys, "keys", false, "give each event over HTTP a dedupe key")
	f.StringVar(&o.Profile, "profile", "", "write a CPU profile of the daemon to `FILE`")
	return c
}

// appendDaemon is where the process "grapnel bench append-daemon" can be reached.
type appendDaemon struct {
	HTTP, NATS, Token string
}

// runBenchAppendDaemon is that process: a daemon with the organization "bench",
// whose fan-out is held, and its API on loopback. It ends with its input. Its
// arguments are when the broker flushes, and a file for a CPU profile or "".
func runBenchAppendDaemon(ctx context.Context, in io.Reader, out io.Writer, args []string) error {
	sync, err := time.ParseDuration(args[0])
	if err != nil {
		return err
	}
	profile := args[1]
	dir, err := os.MkdirTemp("", "grapnel-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	w := &benchWalk{dir: dir, sync: sync}
	if err := w.open(ctx, true); err != nil {
		return err
	}
	defer w.stop()
	if _, err := w.d.AddOrg(ctx, httpapi.Org{ID: "bench", Payload: "data"}); err != nil {
		return err
	}
	token, err := w.d.AddToken(ctx, httpapi.Token{Org: "bench", Scopes: []httpapi.Scope{httpapi.EventsWrite}, ExpiresAt: time.Now().Add(24 * time.Hour)})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	served := make(chan error, 1)
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	go func() {
		served <- httpapi.Serve(ctx, l, httpapi.Public(httpapi.Options{Service: w.d, Metrics: http.NotFoundHandler(), Log: log, Version: "bench"}), log)
	}()
	defer func() {
		stop()
		<-served
	}()
	if profile != "" {
		f, err := os.Create(profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	if err := json.NewEncoder(out).Encode(appendDaemon{HTTP: l.Addr().String(), NATS: w.d.server.Addr(), Token: token.Text}); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, in)
	return err
}

// benchAppend is what "grapnel bench append" found: events per second.
type benchAppend struct {
	Clients, Batch, Size int
	Batches              []float64 // over HTTP
	Native               []float64 // by NATS
	Single               []float64 // over HTTP, an event per request
	Ratio                float64   // median of Batches over Native
}

func runBenchAppend(ctx context.Context, out io.Writer, o appendOptions) error {
	var at appendDaemon
	daemon, err := startPart(ctx, &at, "append-daemon", o.Sync.String(), o.Profile)
	if err != nil {
		return err
	}
	defer daemon.close()
	client, err := stream.Connect(ctx, stream.Options{URL: "nats://" + at.NATS})
	if err != nil {
		return err
	}
	defer client.Close()
	events := make([][]byte, 512) // made before the clock runs
	for i := range events {
		events[i] = benchEvent(int64(i), o.Size)
	}
	r := benchAppend{Clients: o.Clients, Batch: o.Batch, Size: o.Size}
	native := func() error {
		return client.Flood(ctx, "bench", "bench.event", o.Events, o.Clients*o.Batch, func(i int) []byte { return events[i%len(events)] })
	}
	var ratios []float64
	for round := range o.Rounds {
		if !o.JSON {
			fmt.Fprintf(out, "round %d of %d …\r", round+1, o.Rounds)
		}
		for _, m := range []struct {
			rates *[]float64
			n     int
			run   func() error
		}{
			{&r.Batches, o.Events, func() error { return at.post(ctx, o, o.Batch, o.Events, events) }},
			{&r.Native, o.Events, native},
			{&r.Single, o.Events / 10, func() error { return at.post(ctx, o, 1, o.Events/10, events) }},
		} {
			start := time.Now()
			if err := m.run(); err != nil {
				return err
			}
			*m.rates = append(*m.rates, float64(m.n)/time.Since(start).Seconds())
		}
		ratios = append(ratios, r.Batches[round]/r.Native[round])
	}
	r.Ratio = median(ratios)
	if o.JSON {
		return json.NewEncoder(out).Encode(r)
	}
	fmt.Fprintf(out, "%d clients, batches of %d, %d bytes of data, %d rounds (medians)\n", r.Clients, r.Batch, r.Size, o.Rounds)
	for _, row := range []struct {
		name  string
		rates []float64
	}{{"over HTTP", r.Batches}, {"native NATS publisher", r.Native}, {"single events over HTTP", r.Single}} {
		fmt.Fprintf(out, "  %-28s %.0f events/s\n", row.name, median(row.rates))
	}
	_, err = fmt.Fprintf(out, "  %-28s %.2f\n", "ratio", r.Ratio)
	return err
}

var benchKey atomic.Int64

// post appends n events over HTTP in batches.
func (d appendDaemon) post(ctx context.Context, o appendOptions, batch, n int, events [][]byte) error {
	transport := &http.Transport{MaxIdleConnsPerHost: o.Clients}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	var left atomic.Int64
	left.Store(int64(n))
	errs := make(chan error, o.Clients)
	var wg sync.WaitGroup
	for range o.Clients {
		wg.Go(func() {
			var body bytes.Buffer
			for {
				have := left.Add(-int64(batch)) + int64(batch)
				if have <= 0 {
					return
				}
				appendBody(&body, int(min(have, int64(batch))), batch > 1, o.Keys, events)
				if err := d.send(ctx, client, body.Bytes()); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs
}

func appendBody(body *bytes.Buffer, n int, many, keys bool, events [][]byte) {
	body.Reset()
	for i := range n {
		if many {
			body.WriteByte("[,"[min(i, 1)])
		}
		body.WriteString(`{"type":"bench.event",`)
		if keys {
			fmt.Fprintf(body, `"dedupe_key":"http-%d",`, benchKey.Add(1))
		}
		body.WriteString(`"data":`)
		body.Write(events[i%len(events)])
		body.WriteByte('}')
	}
	if many {
		body.WriteByte(']')
	}
}

func (d appendDaemon) send(ctx context.Context, client *http.Client, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+d.HTTP+"/api/v1/orgs/bench/events", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+d.Token)
	req.Header.Set("Content-Type", "application/json")
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusCreated {
		return fmt.Errorf("append over HTTP: %s: %.500s", res.Status, strings.TrimSpace(string(text)))
	}
	return err
}
