package deliver

import (
	"maps"
	"sync"
	"time"
)

// lane is one endpoint's queue. Pending deliveries are either held in memory
// (queued, in flight, or sent and not booked yet) or only in the books.
//
// The invariant that loses nothing: a delivery of this endpoint that is due,
// and that is not held, lies at or after the mark of its front.
type lane struct {
	l   *Lanes
	row int64

	mu      sync.Mutex
	ep      *Endpoint           // never changed in place
	org     *share              // of the slots
	target  *Target             // nil: disabled, paused or removed; nothing is sent
	unknown bool                // the books must be asked where the fronts begin
	asked   int                 // how often that became so
	fresh   front               // never attempted
	retry   front               // due again
	held    map[int64]int       // event → attempts its ticket knows of
	dropped map[int64]time.Time // events that are not to be sent without asking the books, since when
	// overtaken: the books were seen to be ahead of a held ticket, whose outcome
	// they had not reported yet. They are asked again once they have.
	overtaken bool
	paged     int64 // the newest fresh event that was read from the books
	workers   int   // running, each with a slot
	begun     int   // of them, those that have taken nothing yet
	window    int   // how many may run; grows with successes, shrinks with silence
	queued    bool  // waits for a slot
	proven    bool  // the last attempt was answered with success
	failing   bool  // the last attempt was not
	moved     time.Time
	turn      uint32 // alternates between the fronts

	health     Health
	well       bool        // health.Well()
	recovering bool        // what was held is sent, the oldest event first
	until      time.Time   // nothing is begun before; zero: it can be
	pace       pace        // of the rate limit
	timer      *time.Timer // looks again, at alarm
	alarm      time.Time   // zero: not set
	own        time.Time   // see keeps

	order *order // nil: not ordered
	leave bool   // the books may have lines of another rule
}

func newLane(l *Lanes, row int64) *lane {
	return &lane{l: l, row: row, window: 1, held: map[int64]int{}, unknown: true}
}

// ask makes the pager ask the books where the fronts begin, once more if it does
// so just now: what it reads may be older than the reason to ask.
func (n *lane) ask() {
	n.unknown = true
	n.asked++
}

func (n *lane) set(ep Endpoint, t *Target) {
	now := n.l.now()
	n.mu.Lock()
	defer n.mu.Unlock()
	was, before := n.target != nil, n.ep
	n.ep = &ep
	if n.org == nil {
		n.org = n.l.slots.share(ep.Org)
	}
	n.reorder(&ep.Options)
	if !ep.Enabled() || ep.Paused {
		n.empty()
		n.adopt(ep.Health, now)
		return
	}
	n.target = t
	switch {
	case !was:
		n.ask()
		if n.order != nil || n.leave {
			n.l.needLines(n)
		}
		n.window = 1
		n.adopt(ep.Health, now)
		if before != nil {
			n.keeps(now)
		}
		if n.health.Releasing {
			n.freeHeld()
		}
	case before.Revision != ep.Revision:
		n.probeNow() // perhaps what was wrong has been changed
	}
	n.window = min(n.window, ep.Concurrency)
	n.kick()
}

func (n *lane) stop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.empty()
}

// empty drops what waits in memory; it is all in the books.
func (n *lane) empty() {
	n.target = nil
	if n.timer != nil {
		n.timer.Stop()
		n.alarm = time.Time{}
	}
	n.until, n.recovering = time.Time{}, false
	n.forget(&n.fresh)
	n.forget(&n.retry)
	n.forgetLines()
}

// forget drops what a front has in memory.
func (n *lane) forget(f *front) {
	for _, r := range []*ring{&f.tickets, &f.bulk} {
		for r.len() > 0 {
			t := r.pop()
			n.l.unqueue(&t)
			delete(n.held, t.Event)
		}
	}
	*f = front{}
}

// offer takes fresh deliveries, or leaves them in the books.
func (n *lane) offer(ts []Ticket) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.target == nil {
		return // when it is enabled, the books are asked
	}
	for i := range ts {
		late := ts[i].Event <= n.paged
		if late {
			// As a rule it was found in the books between its commit and now. It may
			// even be sent and booked already, which only the books can tell.
			if _, held := n.held[ts[i].Event]; held {
				continue
			}
		}
		if late || n.unknown || n.fresh.behind || !n.fits(&n.fresh, &ts[i], laneHard) {
			n.fresh.refuse(ts[i].Place())
			continue
		}
		n.push(&n.fresh, ts[i])
	}
	if n.fresh.behind && n.fresh.tickets.len() == 0 {
		n.l.wakePager() // no worker will
	}
	n.kick()
}

// fits reports whether the front may hold the ticket in memory, if it holds at
// most so many.
func (n *lane) fits(f *front, t *Ticket, most int) bool {
	held := f.len()
	if held < laneFailing {
		return t.Payload == nil || n.l.payload.Load() < n.l.o.MaxPayload
	}
	return !n.failing && held < most && n.l.fits(t)
}

// room is how many more tickets the pager may bring.
func (n *lane) room(f *front) int {
	most := laneSoft
	if n.failing {
		most = laneFailing
	}
	if n.target == nil {
		most = 0
	}
	return max(most-f.len(), 0)
}

// low is how short a front that is behind must be to be paged in.
func (n *lane) low() int {
	if n.failing {
		return laneFailing / 2
	}
	return laneLow
}

func (n *lane) push(f *front, t Ticket) {
	n.held[t.Event] = t.Attempts
	n.l.queue(&t)
	f.queue(&t).push(t)
}

// release lets go of a delivery whose outcome is durable, and reports whether the
// books are to be asked again where the fronts begin.
func (n *lane) release(event int64) bool {
	delete(n.held, event)
	overtaken := n.overtaken
	if overtaken {
		n.ask()
	}
	n.overtaken = false
	if n.order != nil {
		n.releasedOrdered(event)
	}
	return overtaken
}

// wants reports whether the lane has use for one more worker now. If it has none
// until some time, a timer will ask again.
func (n *lane) wants() bool {
	return n.sends() && n.workers < n.window && n.hasWork() && n.opens()
}

// sends reports whether anything can be sent, sooner or later.
func (n *lane) sends() bool {
	return n.target != nil && !n.health.Releasing && !n.l.draining.Load()
}

// kick starts workers while there is work, room in the window and a slot.
func (n *lane) kick() {
	for n.wants() {
		proven := n.proven
		if n.queued || !n.l.slots.take(n, proven) {
			return // a slot that comes free starts the worker
		}
		n.startWorker(proven)
		if n.ep.RateLimit > 0 {
			return // this one kicks again when it has begun
		}
	}
	if n.target != nil && n.full() {
		n.keeps(n.l.now())
	}
}

// startWorker starts a worker with a slot that was taken for a lane that is
// proven, or not.
func (n *lane) startWorker(proven bool) {
	n.workers++
	n.begun++
	go n.work(proven)
}

func (n *lane) length() int { return n.fresh.len() + n.retry.len() }

// job is one delivery on its way to its attempt.
type job struct {
	Ticket
	target *Target
	probe  bool // the circuit is open
}

// take gives the next delivery to a worker, or ends the worker. It may be the first
// that the worker takes.
func (n *lane) take(first bool) (j job, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if first {
		n.begun--
	}
	for n.sends() && n.workers <= n.window && n.hasWork() && n.opens() {
		t, ok := n.pick()
		if !ok {
			break
		}
		if n.isDropped(t.Event) {
			continue
		}
		if n.ep.RateLimit > 0 {
			n.pace.begun(n.l.now(), n.ep.RateLimit)
		}
		if n.workers < n.window {
			n.kick() // it may have grown
		}
		t.Kept = millis(n.own)
		return job{t, n.target, n.health.Open()}, true
	}
	n.workers--
	return job{}, false
}

// pick takes the ticket whose turn it is; false if none may go now.
func (n *lane) pick() (Ticket, bool) {
	if n.order != nil {
		return n.pickOrdered()
	}
	idle := n.fresh.tickets.len() == 0 && n.retry.tickets.len() == 0
	if n.recovering && idle && !n.fresh.behind && !n.retry.behind {
		n.recovering = false
	}
	if n.recovering {
		f := n.older()
		if f == nil {
			return n.popBulk()
		}
		return n.pop(f, &f.tickets), true
	}
	// Retries and fresh ones take turns, so that neither starves; what a replay
	// asked for waits for both, but for one turn in so many.
	n.turn++
	if idle || n.turn%bulkEvery == 0 && n.retry.bulk.len() > 0 {
		return n.popBulk()
	}
	// A probe is made with a fresh one: it has all its attempts left, and is not
	// refused for a reason of its own that is known already.
	f, other := &n.fresh, &n.retry
	if n.turn%2 == 0 && !n.health.Open() {
		f, other = other, f
	}
	if f.tickets.len() == 0 {
		f = other
	}
	return n.pop(f, &f.tickets), true
}

// bulkEvery: one in so many deliveries is one that a replay asked for, however
// many others wait.
const bulkEvery = 8

// popBulk takes the first ticket that a replay asked for, if there is one.
func (n *lane) popBulk() (Ticket, bool) {
	if n.retry.bulk.len() == 0 {
		return Ticket{}, false
	}
	return n.pop(&n.retry, &n.retry.bulk), true
}

// pop takes the first ticket of one of a front's rings that has one.
func (n *lane) pop(f *front, r *ring) Ticket {
	t := r.pop()
	n.l.unqueue(&t)
	length := f.len()
	if f.behind && (length == n.low()-1 || length == 0) {
		n.l.wakePager()
	}
	if length == laneSoft-1 {
		n.l.roomMade()
	}
	return t
}

// dropFor is how long a delivery that is not in memory is remembered as dropped:
// longer than one that was just committed, or read from the books before it was
// cancelled, takes to come here.
const dropFor = time.Minute

// drop remembers that the books must be asked before the delivery is sent.
func (n *lane) drop(event int64, now time.Time) {
	const sweepEvery = 256
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.dropped == nil {
		n.dropped = map[int64]time.Time{}
	}
	n.dropped[event] = now
	if n.order != nil {
		n.droppedOrdered(event)
	}
	if len(n.dropped)%sweepEvery != 0 {
		return
	}
	maps.DeleteFunc(n.dropped, func(event int64, since time.Time) bool {
		_, held := n.held[event]
		return !held && now.Sub(since) > dropFor
	})
}

// isDropped reports whether the delivery whose turn it is must not be sent. Then
// the lane lets go of it and looks into the books again: somebody may have
// asked for it anew since it was cancelled.
func (n *lane) isDropped(event int64) bool {
	if _, ok := n.dropped[event]; !ok {
		return false
	}
	delete(n.dropped, event)
	delete(n.held, event)
	n.ask()
	n.l.wakePager()
	return true
}

// pressure reports whether the lane is long, and whether it moves.
func (n *lane) pressure(now time.Time) (long, moves bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.target != nil && n.fresh.tickets.len() >= laneSoft, now.Sub(n.moved) < movingFor
}

// hungry reports whether the front should be paged in.
func (n *lane) hungry(f *front) bool {
	return n.target != nil && !n.unknown && !n.health.Releasing && f.behind && f.len() < n.low()
}

// pause keeps the lane still for a moment, the ticket put back in front.
func (n *lane) pause(t Ticket) {
	until := n.l.now().Add(sourceBackoff)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.order != nil {
		n.order.back(t)
	}
	if n.target == nil {
		delete(n.held, t.Event)
		return
	}
	n.unpop(t)
	if until.After(n.until) {
		n.until = until
	}
}

// unpop puts a ticket back in front.
func (n *lane) unpop(t Ticket) {
	f := &n.fresh
	if t.Due != 0 {
		f = &n.retry
	}
	n.l.queue(&t)
	f.queue(&t).unpop(t)
}
