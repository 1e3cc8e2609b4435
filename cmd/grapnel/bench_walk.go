package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/sign"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/sqlite"
	"github.com/grapnel-hooks/grapnel/stream"
)

// benchEvent is the data of event n: a JSON object of the size given that
// begins with its number and does not compress.
func benchEvent(n int64, size int) []byte {
	b := fmt.Appendf(make([]byte, 0, size), `{"n":%d,"note":"`, n)
	r := rand.New(rand.NewPCG(uint64(n), 1))
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
	for len(b) < size-2 {
		b = append(b, letters[r.IntN(len(letters))])
	}
	return append(b, `"}`...)
}

// measured is one measurement of bare sending or of the walk.
type measured struct {
	Deliveries int64
	Seconds    float64
	CPU        float64 // seconds of the sending process
	Commits    int64   `json:",omitempty"`
	Rows       int64   `json:",omitempty"`
	Disk       int64   `json:",omitempty"` // bytes by which the books grew
	RSS, Peak  int64   `json:",omitempty"`
	Streams    int64   `json:",omitempty"` // bytes of the embedded server
	Idle       int64   `json:",omitempty"` // bytes before anything was appended
	FillRate   float64 `json:",omitempty"` // events per second appended
	Start      float64 `json:",omitempty"` // seconds until ready, after a restart
	Goroutines int     `json:",omitempty"`
}

func (m measured) rate() float64 { return float64(m.Deliveries) / m.Seconds }

// runBenchBare is the process "grapnel bench bare": the same requests, signed,
// sent by a plain loop with the same client: no stream, no books, no lanes.
func runBenchBare(out io.Writer, target string, endpoints, concurrency, deliveries, size int) error {
	sender := deliver.NewSender(deliver.SenderOptions{
		Guard: deliver.NewGuard(deliver.GuardOptions{Allow: loopback}), AllowHTTP: true, UserAgent: "grapnel/bench",
	})
	defer sender.Close()
	ev := stream.Event{
		ID: stream.KeyID("bench", "1"), Org: "bench", Seq: 1, Stored: time.Now(), Time: time.Now(),
		Type: "bench.event", SchemaVersion: "1", DedupeKey: "key-0", Data: benchEvent(1, size),
	}
	payload := &deliver.Payload{
		Event: 1, ID: ev.ID, Org: ev.Org, Type: ev.Type, Stored: ev.Stored,
		Body: stream.AppendStandard(nil, &ev),
	}
	var targets []*deliver.Target
	for i := range endpoints {
		t, err := deliver.NewTarget(deliver.Endpoint{
			Row: int64(i + 1), ID: fmt.Sprintf("ep_%d", i), Org: "bench", URL: fmt.Sprintf("http://%s/%d", target, i),
			Secrets: []deliver.Secret{{Secret: sign.NewSecret()}}, Timeout: deliver.DefaultTimeout, Retry: deliver.DefaultPolicy,
		})
		if err != nil {
			return err
		}
		targets = append(targets, t)
	}
	var left, failed atomic.Int64
	left.Store(int64(deliveries))
	before, start := processUsage(), time.Now()
	var wg sync.WaitGroup
	for i := range endpoints * concurrency {
		t := targets[i%endpoints]
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				o := sender.Send(context.Background(), t, payload, deliver.Key{Event: 1, Endpoint: 1}, 1, time.Now())
				if o.Class != deliver.OK {
					failed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	took, after := time.Since(start), processUsage()
	if n := failed.Load(); n > 0 {
		return fmt.Errorf("bench bare: %d of %d requests failed", n, deliveries)
	}
	return json.NewEncoder(out).Encode(measured{
		Deliveries: int64(deliveries), Seconds: took.Seconds(), CPU: (after.CPU - before.CPU).Seconds(),
	})
}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// benchWalk is the process "grapnel bench walk": a daemon as "serve" runs it,
// with all its guarantees on, whose fan-out is held until the stream is full.
type benchWalk struct {
	d      *daemon
	stop   func() error // ends the daemon and waits
	dir    string
	target string
	size   int
	next   int64 // number of the next event
	made   int   // endpoints
	idle   int64
	fill   float64
	sync   time.Duration // flushing of the embedded server; 0: always
	file   string        // for the CPU profile of the next measurement; "": none
}

// runBenchWalk answers these requests, a line each:
//
//	endpoints N CONCURRENCY PATH   make endpoints at PATH of the receiver
//	hanging N                      make N endpoints of another org that never answer
//	heap FILE                      write a profile of the heap
//	fill N, fillkeys N             append N events to the stream, without and with dedupe keys
//	go N                           let fan-out begin, wait until N deliveries are booked
//	wait N                         wait until N in all are booked
//	finished N                     put N finished deliveries of another org into the books
//	dead N                         put N dead letters of another org into the books
//	replay RATE                    send them again
//	replayed                       how many of them were, and how long the writer was held
//	orgs N                         make N more organizations with streams
//	fanout                         fan out everything without sending anything
//	restart N                      start again on the same books, wait until N are booked
//	profile FILE                   write a CPU profile of the next "go" or "wait"
//	nats                           the address for publishers
//	stats                          usage and counts now
//	sizes                          memory after a garbage collection, books and streams now
//	quit                           end at once, without draining
func runBenchWalk(ctx context.Context, in io.Reader, out io.Writer, target string, size int) error {
	dir, err := os.MkdirTemp("", "grapnel-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	w := &benchWalk{dir: dir, target: target, size: size}
	if err := w.open(ctx, true); err != nil {
		return err
	}
	err = w.serve(ctx, in, out)
	if stopErr := w.stop(); err == nil {
		err = stopErr
	}
	return err
}

// open starts a daemon on the directory, and returns when it is ready.
func (w *benchWalk) open(ctx context.Context, held bool) error {
	d, err := openDaemon(ctx, daemonOptions{
		Data: w.dir, Version: "bench", NATSListen: "127.0.0.1:0", AllowHTTP: true, Allow: loopback,
		NATSSync: w.sync, Held: held, Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	w.d = d
	w.stop = func() error { cancel(); return <-done }
	for !d.ready.Load() {
		select {
		case err := <-done:
			return err
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}

func (w *benchWalk) serve(ctx context.Context, in io.Reader, out io.Writer) error {
	if _, err := w.d.AddOrg(ctx, httpapi.Org{ID: "bench", Payload: "data"}); err != nil {
		return err
	}
	w.idle = processUsage().RSS
	enc := json.NewEncoder(out)
	if err := enc.Encode("ready"); err != nil {
		return err
	}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		number := func(i int) int64 {
			n, _ := strconv.ParseInt(words[i], 10, 64)
			return n
		}
		var answer any = true
		var err error
		switch words[0] {
		case "endpoints":
			err = w.endpoints(ctx, int(number(1)), int(number(2)), words[3])
		case "hanging":
			if _, err = w.d.AddOrg(ctx, httpapi.Org{ID: hangingOrg, Payload: "data"}); err == nil {
				err = w.addEndpoints(ctx, hangingOrg, int(number(1)), 8, "/hang")
			}
		case "heap":
			err = heapProfile(words[1])
		case "fill":
			err = w.append(ctx, number(1), false)
		case "fillkeys":
			err = w.append(ctx, number(1), true)
		case "go":
			answer, err = w.measure(ctx, number(1), w.d.release)
		case "wait":
			answer, err = w.measure(ctx, number(1)-w.booked(), func() {})
		case "finished":
			err = w.finished(ctx, number(1))
		case "dead":
			err = w.dead(ctx, int(number(1)))
		case "replay":
			err = w.replay(ctx, int(number(1)))
		case "replayed":
			answer, err = w.replayed(ctx)
		case "orgs":
			err = w.orgs(ctx, int(number(1)))
		case "fanout":
			err = w.fanOutOnly(ctx)
		case "restart":
			answer, err = w.restart(ctx, number(1))
		case "profile":
			w.file = words[1]
		case "nats":
			answer = w.d.server.Addr()
		case "stats":
			u := processUsage()
			answer = measured{
				Deliveries: w.booked(), CPU: u.CPU.Seconds(), RSS: u.RSS, Peak: u.Peak, Disk: w.disk(), Idle: w.idle,
				Goroutines: runtime.NumGoroutine(),
			}
		case "sizes":
			debug.FreeOSMemory()
			answer = measured{RSS: processUsage().RSS, Disk: w.disk(), Streams: folderSize(filepath.Join(w.dir, "nats"))}
		case "quit":
			os.RemoveAll(w.dir)
			os.Exit(0)
		default:
			err = fmt.Errorf("unknown request %q", lines.Text())
		}
		if err != nil {
			return fmt.Errorf("bench walk: %s: %w", words[0], err)
		}
		if err := enc.Encode(answer); err != nil {
			return err
		}
	}
	return lines.Err()
}

// finished books deliveries of an org without a stream, as if they had been
// sent and answered.
func (w *benchWalk) finished(ctx context.Context, n int64) error {
	const org = "history"
	if _, err := w.d.store.AddOrg(ctx, sqlite.Org{ID: org, Payload: stream.PayloadData}); err != nil {
		return err
	}
	ep, err := w.d.AddEndpoint(ctx, httpapi.NewEndpoint{
		Org: org, URL: "http://" + w.target + "/", EventTypes: []string{"*"},
		Timeout: deliver.DefaultTimeout, Retry: deliver.DefaultPolicy, Concurrency: 8,
	})
	if err != nil {
		return err
	}
	w.d.lanes.Remove(ep.Row) // nothing is sent
	set, err := w.d.store.Subscriptions(ctx, org)
	if err != nil {
		return err
	}
	at, err := w.d.store.Position(ctx, org)
	if err != nil {
		return err
	}
	now := time.Now()
	for done := int64(0); done < n; {
		size := min(n-done, 1024)
		to := at
		to.Created, to.Anchor, to.Incarnation = now, now, 1
		to.Seq += stream.Seq(size)
		plan := fanout.Plan{Org: org, From: at, To: to, Version: set.Version()}
		for i := range size {
			seq := at.Seq + stream.Seq(i) + 1
			plan.Events = append(plan.Events, fanout.Planned{
				Event: stream.Event{
					ID: stream.KeyID(org, strconv.FormatUint(uint64(seq), 10)), Org: org, Seq: seq,
					Stored: now, Time: now, Type: "bench.event", SchemaVersion: "1",
				},
				Endpoints: []int64{ep.Row},
			})
		}
		written, err := w.d.store.Commit(ctx, plan)
		if err != nil {
			return err
		}
		for _, e := range written {
			err := w.d.store.Record(ctx, deliver.Record{
				Key: deliver.Key{Event: e.Event, Endpoint: ep.Row},
				Attempt: deliver.Attempt{Number: 1, Started: now, Outcome: deliver.Outcome{
					Class: deliver.OK, Status: 204, Duration: 12 * time.Millisecond,
				}},
				Next: deliver.Transition{State: deliver.Delivered, Spent: 1},
			})
			if err != nil {
				return err
			}
		}
		at, done = to, done+size
	}
	return w.settle(ctx)
}

// settle waits until every outcome is durable.
func (w *benchWalk) settle(ctx context.Context) error {
	for w.d.store.Stats().Waiting > 0 {
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (w *benchWalk) orgs(ctx context.Context, n int) error {
	var wg sync.WaitGroup
	var next atomic.Int64
	errs := make(chan error, 8)
	for range 8 {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				if _, err := w.d.AddOrg(ctx, httpapi.Org{ID: fmt.Sprintf("org%05d", i), Payload: "data"}); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

// fanOutOnly lets fan-out run without lanes, so that all deliveries stay
// pending in the books.
func (w *benchWalk) fanOutOnly(ctx context.Context) error {
	endpoints, err := w.d.store.AllEndpoints(ctx)
	if err != nil {
		return err
	}
	for _, ep := range endpoints {
		w.d.lanes.Remove(ep.Row)
	}
	w.d.release()
	for {
		pos, err := w.d.store.Position(ctx, "bench")
		if err != nil {
			return err
		}
		if int64(pos.Seq) >= w.next {
			return nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (w *benchWalk) restart(ctx context.Context, n int64) (measured, error) {
	if err := w.stop(); err != nil {
		return measured{}, err
	}
	start := time.Now()
	if err := w.open(ctx, false); err != nil {
		return measured{}, err
	}
	ready := time.Since(start)
	m, err := w.measure(ctx, n-w.booked(), func() {})
	m.Start = ready.Seconds()
	return m, err
}

// hangingOrg is the org whose endpoints never answer.
const hangingOrg = "hanging"

func heapProfile(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	return pprof.Lookup("heap").WriteTo(f, 0)
}

func (w *benchWalk) endpoints(ctx context.Context, n, concurrency int, path string) error {
	return w.addEndpoints(ctx, "bench", n, concurrency, path)
}

func (w *benchWalk) addEndpoints(ctx context.Context, org string, n, concurrency int, path string) error {
	for range n {
		_, err := w.d.AddEndpoint(ctx, httpapi.NewEndpoint{
			Org: org, URL: fmt.Sprintf("http://%s%s/%d", w.target, strings.TrimSuffix(path, "/"), w.made), EventTypes: []string{"*"},
			Timeout: deliver.DefaultTimeout, Retry: deliver.DefaultPolicy, Concurrency: concurrency,
		})
		if err != nil {
			return err
		}
		w.made++
	}
	return nil
}

// append fills the stream with ordinary appends, as a publisher's client makes
// them. So that this does not take minutes, the embedded server flushes lazily
// meanwhile; it runs with all guarantees again when this returns.
func (w *benchWalk) append(ctx context.Context, n int64, keys bool) error {
	if err := w.reopen(ctx, time.Minute); err != nil {
		return err
	}
	start := time.Now()
	var wg sync.WaitGroup
	errs := make(chan error, fillers)
	end := w.next + n
	var next atomic.Int64
	next.Store(w.next)
	for range fillers {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < end; i = next.Add(1) - 1 {
				a := stream.Append{Type: "bench.event", Data: benchEvent(i, w.size)}
				if keys {
					a.DedupeKey = "key-" + strconv.FormatInt(i, 10)
				}
				if _, err := w.d.broker.Append(ctx, "bench", a); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
	}
	w.next = end
	w.fill = float64(n) / time.Since(start).Seconds()
	return w.reopen(ctx, 0)
}

// fillers append at the same time.
const fillers = 16

// reopen ends the daemon and starts it again, held, with another flushing of
// the embedded server.
func (w *benchWalk) reopen(ctx context.Context, sync time.Duration) error {
	if err := w.stop(); err != nil {
		return err
	}
	debug.FreeOSMemory()
	w.sync = sync
	return w.open(ctx, true)
}

// booked counts deliveries whose success is durable.
func (w *benchWalk) booked() int64 {
	return w.d.lanes.Stats().Attempts[deliver.OK] - int64(w.d.store.Stats().Waiting)
}

// measure begins, and waits until n more deliveries are booked.
func (w *benchWalk) measure(ctx context.Context, n int64, begin func()) (measured, error) {
	if w.file != "" {
		f, err := os.Create(w.file)
		if err != nil {
			return measured{}, err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return measured{}, err
		}
		defer pprof.StopCPUProfile()
		w.file = ""
	}
	want := w.booked() + n
	s0, disk0, u0 := w.d.store.Stats(), w.disk(), processUsage()
	start := time.Now()
	begin()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for w.booked() < want {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return measured{}, ctx.Err()
		}
	}
	took, u1, s1 := time.Since(start), processUsage(), w.d.store.Stats()
	return measured{
		Deliveries: n, Seconds: took.Seconds(), CPU: (u1.CPU - u0.CPU).Seconds(),
		Commits: s1.Commits - s0.Commits, Rows: s1.Rows - s0.Rows, Disk: w.disk() - disk0,
		RSS: u1.RSS, Peak: u1.Peak, Idle: w.idle, FillRate: w.fill,
	}, nil
}

// disk is the size of the books, their log included.
func (w *benchWalk) disk() int64 {
	var n int64
	files, _ := filepath.Glob(filepath.Join(w.dir, "grapnel.db*"))
	for _, f := range files {
		if info, err := os.Stat(f); err == nil {
			n += info.Size()
		}
	}
	return n
}
