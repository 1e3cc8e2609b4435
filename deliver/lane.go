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
	ep      Endpoint
	target  *Target             // nil: disabled or removed; nothing is sent
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
	window    int   // how many may run; grows with successes, shrinks with silence
	queued    bool  // waits for a slot
	proven    bool  // the last attempt was answered with success
	failing   bool  // the last attempt was not
	moved     time.Time
	paused    *time.Timer // until the payloads can be had again
	turn      uint32      // alternates between the fronts
}

// front is one of a lane's two queues, and how much of it is in memory.
type front struct {
	tickets ring
	behind  bool
	mark    Place // when behind: nothing before it is missing from memory
	refused Place // the earliest that was refused since the pager's pass began; zero: none
}

// refuse notes that the delivery at p is in the books only.
func (f *front) refuse(p Place) {
	if !f.behind || p.Less(f.mark) {
		f.mark = p
	}
	f.behind = true
	if f.refused == (Place{}) || p.Less(f.refused) {
		f.refused = p
	}
}

// caughtUp ends a pass that looked at all before end (zero: at everything).
func (f *front) caughtUp(end Place) {
	next := end
	if f.refused != (Place{}) && (next == (Place{}) || f.refused.Less(next)) {
		next = f.refused
	}
	f.mark, f.refused = next, Place{}
	f.behind = next != Place{}
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
	n.mu.Lock()
	defer n.mu.Unlock()
	was := n.target != nil
	n.ep = ep
	if !ep.Enabled() {
		n.empty()
		return
	}
	n.target = t
	if !was {
		n.ask()
		n.window = 1
		n.failing = !ep.FailingSince.IsZero()
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
	if n.paused != nil {
		n.paused.Stop()
		n.paused = nil
	}
	for _, f := range []*front{&n.fresh, &n.retry} {
		for f.tickets.len() > 0 {
			t := f.tickets.pop()
			n.l.unqueue(&t)
			delete(n.held, t.Event)
		}
		*f = front{}
	}
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
	held := f.tickets.len()
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
	return max(most-f.tickets.len(), 0)
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
	f.tickets.push(t)
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
	return overtaken
}

// kick starts workers while there is work, room in the window and a slot.
func (n *lane) kick() {
	for n.target != nil && n.paused == nil && n.workers < n.window && n.length() > 0 && !n.l.draining.Load() {
		if n.queued || !n.l.slots.take(n) {
			return // a slot that comes free starts the worker
		}
		n.startWorker()
	}
}

func (n *lane) startWorker() {
	n.workers++
	go n.work()
}

func (n *lane) length() int { return n.fresh.tickets.len() + n.retry.tickets.len() }

// take gives the next delivery to a worker, or ends the worker.
func (n *lane) take() (Ticket, *Target, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for n.target != nil && n.paused == nil && n.workers <= n.window && n.length() > 0 && !n.l.draining.Load() {
		if t := n.next(); !n.isDropped(t.Event) {
			return t, n.target, true
		}
	}
	n.workers--
	return Ticket{}, nil, false
}

// next takes the ticket whose turn it is.
func (n *lane) next() Ticket {
	// Retries and fresh ones take turns, so that neither starves.
	f, other := &n.fresh, &n.retry
	if n.turn++; n.turn%2 == 0 {
		f, other = other, f
	}
	if f.tickets.len() == 0 {
		f = other
	}
	t := f.tickets.pop()
	n.l.unqueue(&t)
	length := f.tickets.len()
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
	return n.target != nil && !n.unknown && f.behind && f.tickets.len() < n.low()
}

// pause keeps the lane still for a moment, the ticket put back in front.
func (n *lane) pause(t Ticket) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.target == nil {
		delete(n.held, t.Event)
		return
	}
	f := &n.fresh
	if t.Due != 0 {
		f = &n.retry
	}
	n.l.queue(&t)
	f.tickets.unpop(t)
	if n.paused == nil {
		n.paused = time.AfterFunc(sourceBackoff, func() {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.paused = nil
			n.kick()
		})
	}
}

// learn adjusts the window to what came of an attempt: one more for each
// success, so that a lane opens as fast as its receiver answers; back to one
// when it is silent, so that endpoints that hang cost one request each.
func (n *lane) learn(o *Outcome, now time.Time) {
	was := n.failing
	n.proven = o.Class == OK
	n.failing = o.Class != OK && (o.Class != Ours || was)
	if was && !n.failing && (n.fresh.behind || n.retry.behind) {
		n.l.wakePager() // it may hold more now
	}
	switch o.Class {
	case OK:
		n.moved = now
		n.window = min(n.window+1, n.ep.Concurrency)
		n.ep.FailingSince = time.Time{}
	case Ours:
	case HTTP4xx, HTTP5xx, Redirect:
		// It answers: as many at once as before.
		if n.ep.FailingSince.IsZero() {
			n.ep.FailingSince = now
		}
	default:
		n.window = 1
		if n.ep.FailingSince.IsZero() {
			n.ep.FailingSince = now
		}
	}
}

// ring is a queue of tickets that grows by doubling and gives memory back when
// it is empty.
type ring struct {
	buf  []Ticket
	head int
	n    int
}

func (r *ring) len() int { return r.n }

func (r *ring) grow() {
	if r.n < len(r.buf) {
		return
	}
	b := make([]Ticket, max(2*len(r.buf), 4))
	for i := range r.n {
		b[i] = r.buf[(r.head+i)%len(r.buf)]
	}
	r.buf, r.head = b, 0
}

func (r *ring) push(t Ticket) {
	r.grow()
	r.buf[(r.head+r.n)%len(r.buf)] = t
	r.n++
}

func (r *ring) unpop(t Ticket) {
	r.grow()
	r.head = (r.head - 1 + len(r.buf)) % len(r.buf)
	r.buf[r.head] = t
	r.n++
}

func (r *ring) pop() Ticket {
	t := r.buf[r.head]
	r.buf[r.head] = Ticket{}
	r.head = (r.head + 1) % len(r.buf)
	r.n--
	if r.n == 0 && len(r.buf) > 64 {
		*r = ring{}
	}
	return t
}
