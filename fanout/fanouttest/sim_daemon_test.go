package fanouttest

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// daemon is one life of the program: the parts of the walk, wired as in
// production.
type daemon struct {
	s     *sim
	life  int
	books *Books
	lanes *deliver.Lanes
	loop  *fanout.Loop
	later *fanout.CatchupLoop
	ctx   context.Context
	stop  context.CancelFunc
	done  sync.WaitGroup
	dead  atomic.Bool
	calls atomic.Uint64 // to failpoints and commits: makes their dice differ
}

// begin starts a daemon on what is durable.
func (s *sim) begin() {
	d := &daemon{s: s, life: len(s.lives) + 1, books: s.disk.Open()}
	s.lives = append(s.lives, d)
	dice := s.roll("life", d.life)
	d.books.Broken = s.mutant.broken
	d.books.Linger = time.Duration(dice.IntN(20)) * time.Millisecond
	d.books.Room = [...]int{0, 1, 5}[dice.IntN(3)]
	d.books.Fault = d.fault
	books := simBooks{d.books, d}
	jitter := s.roll("jitter", d.life)
	var mu sync.Mutex
	d.lanes = deliver.NewLanes(deliver.LanesOptions{
		Books:       books,
		Source:      &fanout.Source{Books: d.books, Log: s.log},
		Send:        d.watched,
		MaxInFlight: [...]int{0, 2, 8}[dice.IntN(3)],
		MaxPerOrg:   [...]int{0, 1, 3}[dice.IntN(3)],
		MaxTickets:  [...]int{0, 3, 40}[dice.IntN(3)],
		Failpoint:   d.failpoint,
		Log:         s.logger,
		Rand: func() float64 {
			mu.Lock()
			defer mu.Unlock()
			return jitter.Float64()
		},
	})
	d.loop = fanout.NewLoop(fanout.Options{
		Books:     books,
		Log:       s.log,
		Lanes:     d.lanes,
		Batch:     1 + dice.IntN(12),
		Workers:   1 + dice.IntN(3),
		Sweep:     10 * time.Second,
		Failpoint: d.failpoint,
		Logger:    s.logger,
	})
	d.later = s.catchups(d)
	endpoints, err := s.admin.AllEndpoints(s.ctx)
	s.must(err)
	s.watch(d, endpoints)
	for _, ep := range endpoints {
		d.set(ep)
	}
	d.books.OnEndpointChanged(func(ep deliver.Endpoint) {
		if ep.DisabledReason == "removed" {
			d.lanes.Remove(ep.Row)
			return
		}
		s.toldOf(ep)
		d.set(ep)
	})
	d.ctx, d.stop = context.WithCancel(s.ctx)
	for _, run := range []func(context.Context) error{d.lanes.Run, d.loop.Run, d.relay, d.later.Run} {
		d.done.Go(func() {
			if err := run(d.ctx); err != nil {
				d.crash() // as the real one: an error of a part ends all
			}
		})
	}
	s.mu.Lock()
	s.alive = d
	s.mu.Unlock()
}

// crash ends the daemon as SIGKILL does, from any goroutine: nothing that it
// does from here on has an effect, although its goroutines need a moment to end.
func (d *daemon) crash() {
	s := d.s
	s.mu.Lock()
	if d.dead.Load() {
		s.mu.Unlock()
		return
	}
	d.dead.Store(true)
	s.alive = nil
	for _, r := range s.open {
		t := s.ledger[r]
		t.Interrupted++
		s.ledger[r] = t
	}
	clear(s.open)
	s.mu.Unlock()
	d.books.Crash()
	d.lanes.Kill()
	d.stop()
}

// drain ends the daemon as SIGTERM does.
func (d *daemon) drain() {
	d.stop()
	d.done.Wait()
	for d.books.Waiting() > 0 && !d.dead.Load() {
		if !d.books.Book() {
			pass(100 * time.Millisecond)
		}
	}
	s := d.s
	s.mu.Lock()
	lost := len(s.open)
	if !d.dead.Load() && lost > 0 {
		s.violatedLocked("a stop that let everything end lost %d outcomes", lost)
	}
	s.mu.Unlock()
	d.crash() // what is left of it: nothing
}

// failpoint may be the last thing that the daemon comes to. Between a plan and
// its commit, somebody may also change the endpoints.
func (d *daemon) failpoint(name string) {
	if name == "fanout.planned" && d.s.chance("meddle", d.life, d.calls.Add(1), d.s.meddling.Load()) {
		d.s.toggle(d.books, d.s.roll("whom", d.life, d.calls.Add(1)))
	}
	if d.s.chance("failpoint "+name, d.life, d.calls.Add(1), d.s.crashing.Load()) {
		d.s.tracef("life %d crashes at %s", d.life, name)
		d.crash()
	}
}

// fault is asked by the books, with their lock held.
func (d *daemon) fault(c Call) Fault {
	if !d.s.chance("fault", d.life, d.calls.Add(1), d.s.faulty.Load()) {
		return NoFault
	}
	if c == CallRead || d.s.chance("kind of fault", d.life, d.calls.Add(1), 50) {
		return NotApplied
	}
	return Unreported
}

// simBooks are the books as the walk sees them: a commit waits its turn, and
// so does its answer; and it is known which outcomes are durable.
type simBooks struct {
	*Books
	d *daemon
}

func (b simBooks) Commit(ctx context.Context, p fanout.Plan) ([]fanout.Written, error) {
	dice := b.d.s.roll("commit", b.d.life, b.d.calls.Add(1))
	if b.d.s.mutant.offersFirst {
		b.offer(p)
	}
	pass(time.Duration(dice.IntN(30)) * time.Millisecond)
	written, err := b.Books.Commit(ctx, p)
	// Its deliveries can be paged in, sent and booked before they are offered.
	pass(time.Duration([...]int{0, 5, 100}[dice.IntN(3)]) * time.Millisecond)
	return written, err
}

func (b simBooks) OnBooked(f func([]deliver.Record)) {
	b.Books.OnBooked(func(rs []deliver.Record) {
		b.d.s.settled(rs)
		f(rs)
	})
}

// offer is what the mutant does that hands over before the commit.
func (b simBooks) offer(p fanout.Plan) {
	b.disk.mu.Lock()
	next := int64(len(b.disk.events)) + 1
	b.disk.mu.Unlock()
	for i := range p.Events {
		payload := fanout.NewPayload(next+int64(i), &p.Events[i].Event)
		for _, row := range p.Events[i].Endpoints {
			b.d.lanes.Offer([]deliver.Ticket{{Key: deliver.Key{Event: payload.Event, Endpoint: row}, Payload: payload}})
		}
	}
}

// send is one request to a scripted receiver.
func (d *daemon) send(ctx context.Context, _ *deliver.Target, p *deliver.Payload, k deliver.Key, attempt int, now time.Time) deliver.Outcome {
	s := d.s
	ours := deliver.Outcome{Class: deliver.Ours, Error: "interrupted"}
	s.inOrder(d, k)
	a, reached := s.receive(d, p, k, attempt)
	if !reached {
		if a.class == deliver.Ours {
			return ours
		}
		return deliver.Outcome{Class: a.class, Error: "not reached"}
	}
	select {
	case <-time.After(a.after):
	case <-ctx.Done():
		return ours
	}
	if a.panics {
		panic("a bug in the sender")
	}
	return deliver.Outcome{Class: a.class, Status: a.status, RetryAfter: a.again, Duration: a.after}
}

// wake passes on a wake-up, if it is not lost.
func (s *sim) wake(name string, seq stream.Seq, at time.Time) {
	s.mu.Lock()
	d := s.alive
	s.mu.Unlock()
	org, _ := stream.Names{}.Org(name)
	if d != nil && !s.chance("wake "+name, 0, uint64(seq), 30) {
		d.loop.Wake(org, seq, at)
	}
}
