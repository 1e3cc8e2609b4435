package fanout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout/catalogue"
	"github.com/grapnel-hooks/grapnel/stream"
)

const (
	defaultBatch   = 1024
	defaultWorkers = 8
	defaultSweep   = 30 * time.Second
	// waitForLanes bounds how long a batch waits for receivers that are merely
	// slower than the stream; after it the deliveries wait in the books.
	waitForLanes = 2 * time.Second
	// A wake-up can come before its message can be read: it is tried again
	// between these two, then left to the sweep. Errors are tried again for
	// ever, at most errorBackoff apart.
	firstBackoff = 5 * time.Millisecond
	lastBackoff  = time.Second
	errorBackoff = 5 * time.Second
)

// Lanes is where fresh deliveries go once they are committed.
type Lanes interface {
	// Offer takes deliveries in the order of their events, for each endpoint;
	// what it does not take stays pending in the books.
	Offer([]deliver.Ticket)
	// Wait blocks while all of these endpoints have enough to do, at most for
	// the time given.
	Wait(ctx context.Context, rows []int64, atMost time.Duration)
	// Recheck makes the endpoint's lane look into the books for deliveries
	// that were not offered.
	Recheck(row int64)
}

// ErrNoRoom: the books are not to grow for now, see [Options].
var ErrNoRoom = errors.New("the store has no room")

// errPaused: somebody said that the organization is not to be read for now.
var errPaused = errors.New("the cursor is paused")

// Options is what a Loop needs. Books, Log and Lanes are required.
type Options struct {
	Books   Books
	Log     cursor.Log
	Lanes   Lanes
	Names   stream.Names
	MaxData func() int    // bytes of an event's data, from now on; nil or 0: 256 KiB
	Batch   int           // messages per batch; default 1,024
	Workers int           // organizations read at once; default 8
	Sweep   time.Duration // each organization is read at least this often; default 30 s

	// Installation is whose the Books are: a stream that is marked as read for
	// another one is not read. "": no mark is minded.
	Installation string

	// Catalogue, if set, is asked before each plan for the event types that
	// all events must keep to (strict). Nil, or the answer nil, means any.
	Catalogue func() *catalogue.Catalogue

	// Tracer, if set, is told of each event that got deliveries.
	Tracer Tracer

	// Room, if set, is asked before each batch of an organization. While its answer
	// wraps [ErrNoRoom], nothing of that organization is read: its events stay in the
	// stream, and it is asked again every few seconds.
	Room func(org string) error

	// Failpoint, if set, is called at "fanout.planned", before the commit, and
	// at "fanout.committed", before the hand-over.
	Failpoint func(name string)
	Logger    *slog.Logger
	Now       func() time.Time // default time.Now
}

// limit is what the function says, 0 without one.
func limit(of func() int) int {
	if of == nil {
		return 0
	}
	return of()
}

// Loop is the walk of all organizations: it reads what is new, plans it,
// commits it and hands it over.
//
// Wake-ups make it quick, the sweep makes it sure: every organization is read
// at least once per Sweep, with its stream's identity checked.
//
// Wake, Sweep, Add, Forget and Status may be called by any goroutine.
type Loop struct {
	o Options

	mu    sync.Mutex
	orgs  map[string]*orgState
	queue []string      // orgs to read, each at most once
	ready chan struct{} // holds one: the queue is not empty

	panics atomic.Int64
}

// orgState is what the loop remembers of one organization; all of it can be
// had again from the books. Guarded by Loop.mu, but for pos, which belongs to
// the worker that reads the organization.
type orgState struct {
	queued  bool
	busy    bool // a worker reads it
	again   bool // woken while busy
	verify  bool // check the stream's identity with the next read
	hint    stream.Seq
	backoff time.Duration
	timer   *time.Timer
	status  Status

	reload bool // pos is to be read from the books again

	pos    cursor.Position
	far    cursor.Position // the furthest; pos, unless that was moved back
	loaded bool            // both are what the books hold
	ahead  chan readAhead  // the batch after pos, being read; nil: it is not
}

// readAhead is a batch that was read while the one before it was committed.
type readAhead struct {
	batch cursor.Batch
	err   error
}

// NewLoop makes a Loop.
func NewLoop(o Options) *Loop {
	if o.Batch == 0 {
		o.Batch = defaultBatch
	}
	if o.Workers == 0 {
		o.Workers = defaultWorkers
	}
	if o.Sweep == 0 {
		o.Sweep = defaultSweep
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Failpoint == nil {
		o.Failpoint = func(string) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Loop{o: o, orgs: map[string]*orgState{}, ready: make(chan struct{}, 1)}
}

// Add makes the loop walk an organization, beginning now.
func (l *Loop) Add(org string) { l.wake(org, true, 0, true) }

// Forget ends the walk of an organization.
func (l *Loop) Forget(org string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.orgs[org]; s != nil && s.timer != nil {
		s.timer.Stop()
	}
	delete(l.orgs, org)
}

// Wake says that the organization's stream stored a message: a hint, never
// relied upon. Organizations that were not added are ignored.
func (l *Loop) Wake(org string, seq stream.Seq, stored time.Time) {
	l.mu.Lock()
	s := l.orgs[org]
	// Stored later, yet with a number that we have passed: another stream.
	verify := s != nil && !s.busy && s.loaded && seq <= s.pos.Seq && stored.After(s.pos.Anchor)
	l.mu.Unlock()
	l.wake(org, false, seq, verify)
}

// SweepAll reads every organization soon and checks its stream's identity, as
// after a reconnect.
func (l *Loop) SweepAll() {
	l.mu.Lock()
	orgs := make([]string, 0, len(l.orgs))
	for org := range l.orgs {
		orgs = append(orgs, org)
	}
	l.mu.Unlock()
	for _, org := range orgs {
		l.wake(org, false, 0, true)
	}
}

// Status tells how the walk of an organization stands.
func (l *Loop) Status(org string) (Status, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.orgs[org]
	if s == nil {
		return Status{}, false
	}
	return s.status, true
}

// Reload makes the next read take the position from the books, after
// somebody else has moved it, or has resumed a cursor that was paused.
func (l *Loop) Reload(org string) {
	l.mu.Lock()
	if s := l.orgs[org]; s != nil {
		s.reload = true
	}
	l.mu.Unlock()
	l.wake(org, false, 0, true)
}

func (l *Loop) wake(org string, add bool, hint stream.Seq, verify bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.orgs[org]
	if s == nil {
		if !add {
			return
		}
		s = &orgState{}
		l.orgs[org] = s
	}
	s.hint = max(s.hint, hint)
	s.verify = s.verify || verify
	l.enqueue(org, s)
}

// enqueue is called with mu held.
func (l *Loop) enqueue(org string, s *orgState) {
	switch {
	case s.busy:
		s.again = true
	case !s.queued:
		s.queued = true
		l.queue = append(l.queue, org)
		l.signal()
	}
}

func (l *Loop) signal() {
	select {
	case l.ready <- struct{}{}:
	default:
	}
}

// Run walks until ctx ends. A batch whose commit has begun is finished and
// handed over first.
func (l *Loop) Run(ctx context.Context) error {
	orgs, err := l.o.Books.Orgs(ctx)
	if err != nil {
		return fmt.Errorf("walk: %w", err)
	}
	for _, o := range orgs {
		l.Add(o.ID)
	}
	var wg sync.WaitGroup
	for range l.o.Workers {
		wg.Go(func() { l.work(ctx) })
	}
	l.sweep(ctx)
	wg.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.orgs {
		if s.timer != nil {
			s.timer.Stop()
		}
	}
	return nil
}

// sweep wakes each organization once per Sweep, spread over it.
func (l *Loop) sweep(ctx context.Context) {
	const steps = 30
	tick := time.NewTicker(max(l.o.Sweep/steps, time.Millisecond))
	defer tick.Stop()
	var due []string
	for step := 0; ; step = (step + 1) % steps {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if step == 0 {
			l.mu.Lock()
			due = slices.AppendSeq(due[:0], maps.Keys(l.orgs))
			l.mu.Unlock()
		}
		n := len(due) / (steps - step)
		for _, org := range due[:n] {
			l.wake(org, false, 0, true)
		}
		due = due[n:]
	}
}

func (l *Loop) work(ctx context.Context) {
	for {
		select {
		case <-l.ready:
		case <-ctx.Done():
			return
		}
		for ctx.Err() == nil {
			org, s, verify, hint := l.next()
			if s == nil {
				break
			}
			more, err := l.step(ctx, org, s, verify)
			l.done(ctx, org, s, hint, more, err)
		}
	}
}

// next takes the organization whose turn it is.
func (l *Loop) next() (org string, s *orgState, verify bool, hint stream.Seq) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.queue) > 0 {
		org = l.queue[0]
		l.queue = l.queue[1:]
		if s = l.orgs[org]; s == nil {
			continue // forgotten
		}
		s.queued, s.busy, s.again = false, true, false
		if s.reload {
			s.reload, s.loaded = false, false
		}
		verify, hint = s.verify, s.hint
		s.verify, s.hint = false, 0
		if len(l.queue) > 0 {
			l.signal() // another worker may take the next
		}
		return org, s, verify, hint
	}
	return "", nil, false, 0
}

// done decides when the organization is read again.
func (l *Loop) done(ctx context.Context, org string, s *orgState, hint stream.Seq, more bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.busy = false
	if l.orgs[org] != s || ctx.Err() != nil {
		return
	}
	if errors.Is(err, errPaused) {
		s.backoff = 0 // whoever resumes it wakes it
		if s.again {
			l.enqueue(org, s)
		}
		return
	}
	before := s.status
	s.status.Missing, s.status.Unclaimed, s.status.Err = errors.Is(err, stream.ErrNoStream), "", ""
	if err != nil {
		s.status.Err = err.Error()
	}
	var foreign *stream.ForeignError
	if errors.As(err, &foreign) {
		s.status.Unclaimed, s.loaded = foreign.Installation, false // whoever reads it again looks at the mark first
	}
	if errors.Is(err, ErrMoved) || errors.Is(err, ErrStale) {
		s.status.Err = before.Err
	}
	s.status.NoRoom = errors.Is(err, ErrNoRoom)
	s.status.StoppedAt = s.status.stoppedSince(before, l.o.Now())
	l.turned(org, before, s.status)
	early := err == nil && !more && hint > s.pos.Seq // the wake-up came before the data could be read
	if more {
		s.hint = max(s.hint, hint)
	}
	switch {
	case errors.Is(err, ErrMoved), errors.Is(err, ErrStale):
		l.enqueue(org, s) // somebody changed the books between plan and commit: plan anew
	case s.status.Missing, s.status.Unclaimed != "":
		s.backoff = 0 // the sweep, or a change of the stream, wakes it
	case err != nil, early:
		if early && s.backoff >= lastBackoff {
			s.backoff = 0 // a hint is no promise: the sweep is
			break
		}
		most := lastBackoff
		if early {
			s.hint = max(s.hint, hint)
		} else {
			s.verify = true
			most = errorBackoff
		}
		s.backoff = min(max(2*s.backoff, firstBackoff), most)
		wait := s.backoff
		s.timer = time.AfterFunc(wait, func() { l.wake(org, false, 0, false) })
	default:
		s.backoff = 0
	}
	if more || s.again {
		l.enqueue(org, s)
	}
}

// step takes one batch of one organization through the walk. It reports
// whether there is more to read at once.
func (l *Loop) step(ctx context.Context, org string, s *orgState, verify bool) (more bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			l.panics.Add(1)
			l.o.Logger.Error("panic in fan-out", "org", org, "panic", p, "stack", string(debug.Stack()))
			s.loaded = false
			err = fmt.Errorf("fan out %s: internal error: %v", org, p)
		}
	}()
	if paused, err := l.paused(ctx, org); err != nil || paused {
		s.loaded, s.ahead = false, nil
		return false, cmp.Or(err, errPaused)
	}
	if l.o.Room != nil {
		if err := l.o.Room(org); err != nil {
			s.ahead = nil
			return false, err
		}
	}
	if !s.loaded {
		if s.pos, err = l.o.Books.Position(ctx, org); err != nil {
			return false, fmt.Errorf("fan out %s: %w", org, err)
		}
		if s.far, err = l.o.Books.Furthest(ctx, org); err != nil {
			return false, fmt.Errorf("fan out %s: %w", org, err)
		}
		s.loaded, verify = true, true
	}
	// Crash here: nothing happened.
	batch, err := l.read(ctx, s, verify)
	if err != nil {
		return false, fmt.Errorf("read %s after %d: %w", s.pos.Stream, s.pos.Seq, err)
	}
	l.mu.Lock()
	s.status.Last = max(batch.Last, batch.To.Seq)
	if verify {
		s.status.CheckedAt = l.o.Now()
	}
	if batch.Change != cursor.Same {
		s.status.Change = batch.Change
	}
	l.mu.Unlock()
	if batch.Empty() {
		return batch.More, nil
	}
	l.report(org, batch)
	if err := l.fanOut(ctx, org, s, batch); err != nil {
		return false, err
	}
	return batch.More, nil
}

// paused reports whether the organization is not to be read for now.
func (l *Loop) paused(ctx context.Context, org string) (bool, error) {
	o, err := l.o.Books.Org(ctx, org)
	if err != nil {
		return false, fmt.Errorf("fan out %s: %w", org, err)
	}
	return o.Paused, nil
}

// read returns the batch after the position. When there is more behind it, that
// is read meanwhile: reading changes nothing, so what turns out not to follow
// is thrown away.
func (l *Loop) read(ctx context.Context, s *orgState, verify bool) (batch cursor.Batch, err error) {
	far := s.far
	next := func(at cursor.Position, verify bool) (cursor.Batch, error) {
		return cursor.Next(ctx, l.o.Log, at, cursor.Options{Max: l.o.Batch, Verify: verify, Furthest: far, Installation: l.o.Installation})
	}
	var ahead readAhead
	if s.ahead != nil {
		ahead = <-s.ahead
		s.ahead = nil
	}
	if ahead.err == nil && ahead.batch.From == s.pos && !ahead.batch.Empty() && !verify {
		batch = ahead.batch
	} else if batch, err = next(s.pos, verify); err != nil {
		return batch, err
	}
	if batch.More && !batch.Empty() {
		ch := make(chan readAhead, 1)
		s.ahead = ch
		go func() {
			b, err := next(batch.To, false)
			ch <- readAhead{b, err}
		}()
	}
	return batch, nil
}

// fanOut plans a batch, commits it with the position, and hands the fresh
// deliveries over.
func (l *Loop) fanOut(ctx context.Context, org string, s *orgState, batch cursor.Batch) error {
	began := l.o.Now()
	// The subscriptions first: their version also tells whether the
	// organization has changed since, so that a plan is never of two minds.
	set, err := l.o.Books.Subscriptions(ctx, org)
	if err != nil {
		return fmt.Errorf("fan out %s: %w", org, err)
	}
	o, err := l.o.Books.Org(ctx, org)
	if err != nil {
		return fmt.Errorf("fan out %s: %w", org, err)
	}
	if o.Paused {
		s.loaded = false
		return errPaused
	}
	dec := stream.Decoding{Org: org, Payload: o.Payload, Names: l.o.Names, Subjects: o.Subjects, MaxData: limit(l.o.MaxData)}
	if l.o.Catalogue != nil {
		o.Types = l.o.Catalogue()
	}
	plan := Make(o, batch, set, dec)
	if rows := receivers(plan.Events); len(rows) > 0 {
		l.o.Lanes.Wait(ctx, rows, waitForLanes)
	}
	l.o.Failpoint("fanout.planned")
	// Crash here: nothing happened; the batch is read again.
	//
	// The commit is not given up half-way when the daemon stops: whoever does
	// not know whether it happened would have to read it again.
	written, err := l.o.Books.Commit(context.WithoutCancel(ctx), plan)
	if err != nil {
		s.loaded = false
		// It may have happened all the same: then its deliveries are in the
		// books, and nobody will hand them over.
		for _, row := range receivers(plan.Events) {
			l.o.Lanes.Recheck(row)
		}
		return fmt.Errorf("commit %s to %d: %w", org, plan.To.Seq, err)
	}
	s.pos = plan.To
	if !plan.Again {
		s.far = plan.To
	}
	if n := len(plan.Rejected); n > 0 {
		r := plan.Rejected[0] // its Detail quotes the message, and stays in the books
		l.o.Logger.Warn("messages rejected: they are no events, or not such as the catalogue allows",
			"org", org, "count", n, "first_sequence", r.Seq, "code", r.Code)
	}
	l.o.Failpoint("fanout.committed")
	// Crash here: the deliveries are pending in the books, and the lanes page
	// them in when they start.
	committed := l.o.Now()
	if l.o.Tracer != nil {
		traceEvents(l.o.Tracer, plan.Events, written, began, committed)
	}
	handOver(l.o.Lanes, plan.Events, written, committed)
	return nil
}
