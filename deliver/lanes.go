package deliver

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of what lanes hold in memory. A ticket is about 100 bytes; payloads
// are counted apart, once per event.
const (
	laneSoft = 4096 // a lane this long asks fan-out to wait, if it moves
	laneHard = 8192 // a lane this long takes no more; the rest stays in the books
	laneLow  = 2048 // a lane this short and behind is paged in
	// A lane that fails sends little, and thousands may fail at once: it holds
	// just enough not to be idle, and however full memory is, so much is free
	// to every lane.
	laneFailing   = 16
	movingFor     = 2 * time.Second
	poisonPanics  = 3
	sourceBackoff = time.Second
)

// LanesOptions is what lanes need. Books, Source and Send are required.
type LanesOptions struct {
	Books  Books
	Source Source
	// Send makes one request and says what came of it. It returns soon after
	// ctx ends, with an outcome of class Ours, and otherwise within the
	// target's timeout.
	Send func(ctx context.Context, t *Target, p *Payload, k Key, attempt int, now time.Time) Outcome

	MaxInFlight int   // requests at once, over all lanes; default 12,288
	MaxPerOrg   int   // of them, for the lanes of one organization; default a quarter of MaxInFlight, at least 1
	MaxTickets  int   // deliveries in memory, over all lanes; default 262,144
	MaxPayload  int64 // bytes of payloads held for queued deliveries; default 64 MiB

	// Observe, if set, is told of each outcome, by the goroutine that sent.
	Observe func(ep *Endpoint, t *Ticket, a *Attempt, next *Transition)
	// Failpoint, if set, is called at "send.before", before the dial, and at
	// "send.after", when the outcome is known to nobody else yet.
	Failpoint func(name string)
	Formats   *Formats // nil: the built-in ones
	Log       *slog.Logger
	Now       func() time.Time // default time.Now
	Rand      func() float64   // jitter, in [0,1); default math/rand/v2

	order orderBounds // default usualBounds
}

// Lanes holds one lane for each endpoint and moves deliveries through them.
//
// Set, Remove, Offer, Recheck, Drop, Wait and Stats may be called by any goroutine, before
// and during Run.
type Lanes struct {
	o       LanesOptions
	slots   slots
	start   time.Time
	ctx     context.Context // of requests; ended by Kill only
	kill    context.CancelFunc
	booking context.Context // of records; ended when draining: then nobody has to be kept from sending
	drain   context.CancelFunc

	tickets atomic.Int64 // in memory: queued
	payload atomic.Int64 // bytes held by queued tickets
	flying  atomic.Int64 // requests in flight
	counts  [Ours + 1]atomic.Int64
	caught  atomic.Int64 // panics

	wake     chan struct{} // to the pager; holds one
	nextDue  atomic.Int64  // when the earliest known retry is due; 0: unknown or none
	lastPass atomic.Pointer[time.Time]
	draining atomic.Bool

	// Locks are taken in this order: mu, then a lane's, then one of the others.
	mu    sync.RWMutex
	lanes map[int64]*lane

	passMu    sync.Mutex
	passing   bool  // the pager reads from a snapshot of the books
	watermark int64 // every retry due up to here is in a lane, or after the mark of its front
	released  []Key // booked during a pass

	roomMu  sync.Mutex
	room    chan struct{} // closed when a lane that somebody waits for has room again
	waiting int

	lining lineWork

	noPayload, noPending, noLines, noHealth calm // faults that go on

	panicMu sync.Mutex
	panics  map[Key]int

	tendMu    sync.Mutex
	releasing []int64       // endpoints whose held deliveries are to be made due
	tendWake  chan struct{} // holds one
}

// NewLanes makes an empty set of lanes.
func NewLanes(o LanesOptions) *Lanes {
	if o.MaxInFlight == 0 {
		o.MaxInFlight = 12288
	}
	if o.MaxPerOrg == 0 {
		o.MaxPerOrg = defaultShare(o.MaxInFlight)
	}
	if o.MaxTickets == 0 {
		o.MaxTickets = 1 << 18
	}
	if o.MaxPayload == 0 {
		o.MaxPayload = 64 << 20
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Float64
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.order == (orderBounds{}) {
		o.order = usualBounds
	}
	if o.Failpoint == nil {
		o.Failpoint = func(string) {}
	}
	l := &Lanes{
		o:      o,
		start:  o.Now(),
		wake:   make(chan struct{}, 1),
		lanes:  map[int64]*lane{},
		room:   make(chan struct{}),
		panics: map[Key]int{},

		tendWake: make(chan struct{}, 1),
	}
	l.ctx, l.kill = context.WithCancel(context.Background())
	l.booking, l.drain = context.WithCancel(l.ctx)
	l.slots.init(o.MaxInFlight, o.MaxPerOrg)
	o.Books.OnBooked(l.booked)
	return l
}

// now is the time on a clock that does not jump: a step of the system's clock
// must not make retries due a day early or late (REL-22).
func (l *Lanes) now() time.Time {
	return l.start.Add(l.o.Now().Sub(l.start)) // both carry the monotonic reading
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return max(t.UnixMilli(), 1) // 0 means fresh
}

// Set adds the endpoint's lane, or gives it new settings. A disabled or paused
// endpoint keeps its deliveries in the books and sends nothing; when it is
// enabled or goes on, they are released. Its health is that of the books then;
// otherwise the lane knows better.
// One that cannot be prepared ([Formats.Target]) loses its lane: its deliveries
// stay in the books until Set succeeds.
func (l *Lanes) Set(ep Endpoint) error {
	t, err := l.o.Formats.Target(ep)
	if err != nil {
		l.Remove(ep.Row)
		return err
	}
	l.mu.Lock()
	n := l.lanes[ep.Row]
	if n == nil {
		n = newLane(l, ep.Row)
		l.lanes[ep.Row] = n
	}
	l.mu.Unlock()
	n.set(ep, t)
	l.wakePager()
	return nil
}

// Remove ends the endpoint's lane. Requests in flight end by themselves.
func (l *Lanes) Remove(row int64) {
	l.mu.Lock()
	n := l.lanes[row]
	delete(l.lanes, row)
	l.mu.Unlock()
	if n != nil {
		n.stop()
		l.slots.unshare(n.org)
	}
}

// Offer hands over deliveries that were just committed, fresh ones, in the
// order of their events. What does not fit is left in the books, to be paged
// in later.
func (l *Lanes) Offer(ts []Ticket) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for i := 0; i < len(ts); {
		n := l.lanes[ts[i].Endpoint]
		j := i + 1
		for j < len(ts) && ts[j].Endpoint == ts[i].Endpoint {
			j++
		}
		if n != nil {
			n.offer(ts[i:j])
		}
		i = j
	}
}

// ProbeNow does the same, and does not let the endpoint's next probe wait for its
// time: for somebody who asks for one delivery, and not for a job.
func (l *Lanes) ProbeNow(row int64) {
	if n := l.lane(row); n != nil {
		n.mu.Lock()
		n.probeNow()
		n.mu.Unlock()
	}
	l.Recheck(row)
}

// Recheck makes the lane of the endpoint look into the books again, after
// somebody made one of its deliveries due by hand.
func (l *Lanes) Recheck(row int64) {
	if n := l.lane(row); n != nil {
		n.mu.Lock()
		n.ask()
		n.mu.Unlock()
		l.wakePager()
	}
}

// Drop makes the lane not send a delivery that it may hold in memory, after
// somebody cancelled it in the books. A request that is under way goes on.
func (l *Lanes) Drop(k Key) {
	if n := l.lane(k.Endpoint); n != nil {
		n.drop(k.Event, l.now())
	}
}

func (l *Lanes) lane(row int64) *lane {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.lanes[row]
}

// Wait blocks fan-out while every one of the lanes is long and at least one of
// them moves, at most for the time given: a receiver that is merely slower
// than the stream should find its events in memory, one that hangs must not
// hold back the others.
func (l *Lanes) Wait(ctx context.Context, rows []int64, atMost time.Duration) {
	if l.hasRoom(rows) {
		return
	}
	timeout := time.NewTimer(atMost)
	defer timeout.Stop()
	l.roomMu.Lock()
	l.waiting++
	room := l.room
	l.roomMu.Unlock()
	defer func() {
		l.roomMu.Lock()
		l.waiting--
		l.roomMu.Unlock()
	}()
	for !l.hasRoom(rows) {
		select {
		case <-room:
		case <-timeout.C:
			return
		case <-ctx.Done():
			return
		}
		l.roomMu.Lock()
		room = l.room
		l.roomMu.Unlock()
	}
}

func (l *Lanes) hasRoom(rows []int64) bool {
	moving := false
	now := l.now()
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, r := range rows {
		n := l.lanes[r]
		if n == nil {
			continue
		}
		long, moves := n.pressure(now)
		if !long {
			return true
		}
		moving = moving || moves
	}
	return !moving
}

// roomMade wakes whoever waits for a lane.
func (l *Lanes) roomMade() {
	l.roomMu.Lock()
	if l.waiting > 0 {
		close(l.room)
		l.room = make(chan struct{})
	}
	l.roomMu.Unlock()
}

func (l *Lanes) wakePager() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// SetMaxPerOrg changes how many requests may be in flight for the lanes of one
// organization; 0 means a quarter of all. Those in flight beyond it end as they
// would.
func (l *Lanes) SetMaxPerOrg(n int) {
	if n == 0 {
		n = defaultShare(l.o.MaxInFlight)
	}
	l.slots.setMost(n)
}

// defaultShare is one organization's of so many requests.
func defaultShare(all int) int { return max(all/4, 1) }

// Run moves deliveries until ctx ends. Then it takes no new work, lets the
// requests in flight end (each at most its endpoint's timeout) and returns
// once their outcomes are with the books.
func (l *Lanes) Run(ctx context.Context) error {
	var tending sync.WaitGroup
	tending.Go(func() { l.tend(ctx) })
	err := l.page(ctx)
	tending.Wait()
	l.draining.Store(true)
	l.drain()
	l.slots.close()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// Kill ends the requests in flight at once. Their outcomes are our own fault
// and cost the deliveries no attempt.
func (l *Lanes) Kill() { l.kill() }

// booked is told by the books which records are durable: from now on their
// deliveries may be found there again.
func (l *Lanes) booked(rs []Record) {
	hungry := false
	l.passMu.Lock()
	passing := l.passing
	mark := l.watermark
	if passing {
		// The pager reads from a snapshot in which these may still be due.
		for i := range rs {
			l.released = append(l.released, rs[i].Key)
		}
	}
	l.passMu.Unlock()
	for i := range rs {
		r := &rs[i]
		n := l.lane(r.Endpoint)
		if n == nil {
			continue
		}
		due := millis(r.Next.Due)
		again := r.Next.State == Pending
		n.mu.Lock()
		if n.order != nil || r.Held {
			n.bookedOrdered(r)
		}
		if !passing {
			hungry = n.release(r.Event) || hungry
		}
		if again && due <= mark {
			// Booked so late that its time has passed already.
			n.retry.refuse(Place{Due: due, Event: r.Event})
			hungry = true
		}
		n.mu.Unlock()
		if again && due > mark {
			hungry = l.noteDue(due) || hungry
		}
	}
	if hungry {
		l.wakePager()
	}
}

// noteDue remembers the earliest retry and reports whether it became earlier.
func (l *Lanes) noteDue(due int64) bool {
	for {
		old := l.nextDue.Load()
		if old != 0 && old <= due {
			return false
		}
		if l.nextDue.CompareAndSwap(old, due) {
			return true
		}
	}
}

// LanesStats is a picture of the lanes for metrics and readiness.
type LanesStats struct {
	Lanes    int
	Are      map[Condition]int // how many endpoints are in which condition
	InFlight int64
	Queued   int64 // deliveries in memory that wait
	Payload  int64 // bytes
	Behind   int   // lanes with deliveries that are in the books only
	Attempts [Ours + 1]int64
	Panics   int64 // while sending, each an attempt of class Ours
}

// Stats counts.
func (l *Lanes) Stats() LanesStats {
	s := LanesStats{Are: map[Condition]int{}, InFlight: l.flying.Load(), Queued: l.tickets.Load(), Payload: l.payload.Load(), Panics: l.caught.Load()}
	for c := range l.counts {
		s.Attempts[c] = l.counts[c].Load()
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	s.Lanes = len(l.lanes)
	for _, n := range l.lanes {
		n.mu.Lock()
		if n.fresh.behind || n.retry.behind {
			s.Behind++
		}
		if n.ep != nil {
			s.Are[n.condition()]++
		}
		n.mu.Unlock()
	}
	return s
}
