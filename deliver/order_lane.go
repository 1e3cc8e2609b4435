package deliver

import (
	"context"
	"sync"
	"time"
)

// lineWork are the lanes that want something of the books of lines.
type lineWork struct {
	mu     sync.Mutex
	lanes  map[*lane]struct{}
	lookAt time.Time // of the pager: when overdue blockers are looked for again
}

const (
	leaveRows    = 1000             // out of lines of an old rule, in one transaction
	overdueAfter = time.Minute      // a blocker that did not come is looked for
	lookEvery    = 30 * time.Second // for those
	beginAgain   = 10 * time.Minute // all lines are looked for, if memory has not all
)

// needLines makes the pager look after the lane.
func (l *Lanes) needLines(n *lane) {
	l.lining.mu.Lock()
	if l.lining.lanes == nil {
		l.lining.lanes = map[*lane]struct{}{}
	}
	l.lining.lanes[n] = struct{}{}
	l.lining.mu.Unlock()
	l.wakePager()
}

// ruleID is 0 if the lane is not ordered.
func (n *lane) ruleID() int64 {
	if n.order == nil {
		return 0
	}
	return n.order.rule.id
}

// reorder gives the lane the order that the endpoint asks for. When that changed,
// what stands in lines of the old rule leaves them before anything is sent.
func (n *lane) reorder(o *Options) {
	if n.order == nil && !o.Ordered && o.OrderedBy == "" {
		return
	}
	r := ruleOf(o)
	if r.id == n.ruleID() {
		return
	}
	n.forgetLines()
	n.order = nil
	if r.id != 0 {
		n.order = newOrder(r, n.l.o.order)
	}
	n.leave = true
	n.ask()
	n.l.needLines(n)
}

// forgetLines drops what waits in lines; it is all in the books.
func (n *lane) forgetLines() {
	if n.order == nil {
		return
	}
	for _, t := range n.order.forget() {
		n.l.unqueue(&t)
		delete(n.held, t.Event)
	}
}

// hasWork reports whether there is something to be sent, or to be done before.
func (n *lane) hasWork() bool {
	if n.order == nil {
		return n.length() > 0
	}
	o := n.order
	if !o.known || n.leave || o.opening || n.unknown || n.retry.behind && n.retry.len() == 0 {
		return false // the books may tell of one that comes first
	}
	if len(o.out) > 0 || n.retry.len() > 0 || n.opensFresh() {
		return true
	}
	_, l := o.next(n.firstFresh())
	return l != nil
}

// firstFresh is the first event that was never attempted and is still to be taken
// from its front.
func (n *lane) firstFresh() int64 {
	switch f := &n.fresh; {
	case f.tickets.len() > 0:
		return f.tickets.first().Event
	case n.unknown:
		return 0
	case f.behind:
		return f.mark.Event
	}
	return noFresh
}

// opensFresh reports whether the next fresh one may be taken from its front.
func (n *lane) opensFresh() bool {
	return n.fresh.tickets.len() > 0 && n.order.opens(n.fresh.tickets.first().Event)
}

// pickOrdered is [lane.pick] of an ordered lane. It may let go of the lock for a
// while.
func (n *lane) pickOrdered() (Ticket, bool) {
	n.recovering = false // each line has an order of its own
	for n.order != nil && n.sends() && n.hasWork() && n.opens() {
		o := n.order
		if len(o.out) > 0 {
			n.holdBack()
			continue
		}
		n.turn++
		opens := n.opensFresh()
		i, l := o.next(n.firstFresh())
		f, r := &n.fresh, &n.fresh.tickets
		switch due := n.retry.len() > 0; {
		case due && (l == nil || o.waiting < o.most.waiting):
			f, r = &n.retry, n.retry.first() // one that was asked for by hand may come before all that wait
		case l != nil && (n.turn%2 == 0 || !opens):
			t := o.take(i, l)
			n.l.unqueue(&t)
			n.wantLines()
			if n.isDropped(t.Event) {
				l.fallBehind(t.Event) // it may stand there still
				o.settled(t.Event)
				n.wantLines()
				continue
			}
			return t, true
		}
		t := n.pop(f, r)
		switch {
		case n.isDropped(t.Event):
			if t.Due == HeldBack {
				o.known = false // it may stand in its line still
				n.l.needLines(n)
			}
		case t.Payload == nil:
			n.open(t)
		default:
			if n.lineUp(t) {
				return t, true
			}
		}
	}
	return Ticket{}, false
}

// lineUp gives a delivery that was taken from its front its place in its line. It
// reports whether there is none, so that the delivery may go.
func (n *lane) lineUp(t Ticket) (free bool) {
	line := n.order.rule.line(t.Payload.Body)
	if line == (Line{}) {
		return true
	}
	n.l.queue(&t)
	n.order.admit(t, line.Key)
	n.wantLines()
	return false
}

// open fetches the payload of a delivery whose line is to be found. Meanwhile the
// lane is not locked, and takes no other one from its fronts.
func (n *lane) open(t Ticket) {
	o := n.order
	o.opening = true
	n.mu.Unlock()
	p, lost, err := n.l.fetch(t.Event)
	switch {
	case err != nil:
		n.l.tellNoPayload(n, t.Event, err)
		n.pause(t)
	case lost:
		n.l.lost(n, t)
	}
	n.mu.Lock()
	o.opening = false
	switch {
	case err != nil:
	case lost:
		o.dropped(t.Event)
		n.wantLines()
	case n.target == nil:
		delete(n.held, t.Event) // when there is one again, the books are asked
	default:
		t.Payload = p
		n.unpop(t)
	}
	n.kick()
}

// holdBack books that a delivery is held back. Meanwhile the lane is not locked.
func (n *lane) holdBack() {
	o := n.order
	c := o.out[0]
	o.out = o.out[1:]
	n.l.unqueue(&c.ticket)
	o.leaves[c.ticket.Event] = c.line.Key
	n.mu.Unlock()
	n.l.hold(n, c)
	n.mu.Lock()
}

func (l *Lanes) hold(n *lane, c outcast) {
	t := &c.ticket
	r := Record{
		Key: t.Key, Held: true, Line: c.line,
		Attempt: Attempt{Number: t.Attempts, Trigger: t.Trigger, Outcome: Outcome{Class: Ours}},
		Next:    Transition{State: Pending, Due: time.UnixMilli(HeldBack), Spent: t.Spent},
	}
	err := l.o.Books.Record(l.booking, r)
	if err != nil {
		l.o.Log.Debug("a delivery was not held back", "delivery", t.Key, "error", err) // the lanes are ending
	}
}

// wantLines asks for what the order lacks.
func (n *lane) wantLines() {
	if len(n.order.hungry) > 0 {
		n.l.needLines(n)
	}
}

// ended hears what came of an attempt, and says where the delivery stands from
// now on. It is called before that is given to the books.
func (n *lane) ended(t *Ticket, next *Transition) Line {
	o := n.order
	if o == nil {
		return Line{}
	}
	key, ok := o.flights[t.Event]
	switch {
	case !ok, next.State != Pending && t.Due == 0:
		return Line{}
	case next.State == Pending && n.mayBeDropped(t.Event):
		o.doubtful(t.Event)
	case next.State == Pending:
		o.failed(Place{Due: millis(next.Due), Event: t.Event})
	}
	return Line{o.rule.id, key}
}

func (n *lane) mayBeDropped(event int64) bool {
	_, ok := n.dropped[event]
	return ok
}

// bookedOrdered hears that a record is durable.
func (n *lane) bookedOrdered(r *Record) {
	o := n.order
	switch {
	case r.Held && r.Line.Rule != n.ruleID():
		n.leave = true // held back by a rule that holds no more
		n.l.needLines(n)
		return
	case r.Held:
		_, held := n.held[r.Event]
		o.adopt(r.Line.Key, r.Event, held)
		n.wantLines()
		return
	}
	o.settled(r.Event)
	n.wantLines()
	n.kick()
}

// releasedOrdered hears that the books can be believed again as to the delivery.
func (n *lane) releasedOrdered(event int64) {
	n.order.released(event, n.held)
	n.wantLines()
	n.kick()
}

// droppedOrdered hears that somebody cancelled a delivery.
func (n *lane) droppedOrdered(event int64) {
	if n.order.dropped(event) {
		n.order.known = false
	}
	n.l.needLines(n)
	n.kick()
}

// linedUp looks after the lanes that want something of the books of lines, at the
// start after all.
func (l *Lanes) linedUp(ctx context.Context, start bool) error {
	if start {
		if err := l.rulesAtStart(ctx); err != nil {
			return err
		}
	}
	if now := l.now(); !now.Before(l.lining.lookAt) {
		l.lining.lookAt = now.Add(lookEvery)
		l.lookForOverdue(millis(now))
	}
	l.lining.mu.Lock()
	lanes := l.lining.lanes
	l.lining.lanes = nil
	l.lining.mu.Unlock()
	for n := range lanes {
		if err := l.linesOf(ctx, n); err != nil && ctx.Err() == nil {
			if leftOut, ok := l.noLines.tell(l.now()); ok {
				l.o.Log.Warn("the lines of an endpoint cannot be had now; trying again", "endpoint_number", n.row, "left_out", leftOut, "error", err)
			}
			time.AfterFunc(sourceBackoff, func() { l.needLines(n) })
		}
	}
	return nil
}

// rulesAtStart finds the lanes whose endpoints have been ordered by something else.
func (l *Lanes) rulesAtStart(ctx context.Context) error {
	rules, err := l.o.Books.Lined(ctx)
	if err != nil {
		return err
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	for row, n := range l.lanes {
		n.mu.Lock()
		n.leave = false
		for _, rule := range rules[row] {
			n.leave = n.leave || rule != n.ruleID()
		}
		if n.leave {
			l.needLines(n)
		}
		n.mu.Unlock()
	}
	return nil
}

func (l *Lanes) lookForOverdue(now int64) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, n := range l.lanes {
		n.mu.Lock()
		if n.order != nil && n.target != nil {
			n.order.look(now, n.held)
			if !n.order.known {
				l.needLines(n)
			}
			n.wantLines()
		}
		n.mu.Unlock()
	}
}

// linesOf brings the lane what it lacks of its lines.
func (l *Lanes) linesOf(ctx context.Context, n *lane) error {
	n.mu.Lock()
	rule, leave := n.ruleID(), n.leave && n.target != nil
	n.mu.Unlock()
	for leave {
		more, err := l.o.Books.LeaveLines(ctx, n.row, rule, millis(l.now()), leaveRows)
		if err != nil {
			return err
		}
		if more {
			continue
		}
		n.mu.Lock()
		leave = rule != n.ruleID() // changed once more
		rule, n.leave = n.ruleID(), leave
		n.ask() // those that were held back are due
		n.mu.Unlock()
	}
	n.mu.Lock()
	o := n.order
	unknown := o != nil && !o.known && n.target != nil
	n.mu.Unlock()
	if o == nil {
		return nil
	}
	if unknown {
		heads, err := l.o.Books.Lines(ctx, n.row, o.most.lines+1)
		if err != nil {
			return err
		}
		n.mu.Lock()
		if n.order == o && n.target != nil {
			o.begin(heads, n.held, millis(l.now()))
			n.kick()
		}
		n.mu.Unlock()
	}
	for {
		more, err := l.readLine(ctx, n, o)
		if err != nil || !more {
			return err
		}
	}
}

// endedIn are the events of the endpoint whose outcomes became durable since the
// pager's pass began: it may find them pending still.
func (l *Lanes) endedIn(row int64) map[int64]bool {
	l.passMu.Lock()
	defer l.passMu.Unlock()
	ended := map[int64]bool{}
	for _, k := range l.released {
		if k.Endpoint == row {
			ended[k.Event] = true
		}
	}
	return ended
}

// readLine brings the next of a line that wants them.
func (l *Lanes) readLine(ctx context.Context, n *lane, o *order) (more bool, err error) {
	n.mu.Lock()
	line, from := o.hungriest()
	if n.order != o || n.target == nil || !o.known || line == nil {
		n.mu.Unlock()
		return false, nil
	}
	key := Line{o.rule.id, line.key}
	n.mu.Unlock()

	rows, err := l.o.Books.Line(ctx, n.row, key, from, o.most.rows)
	if err != nil {
		n.mu.Lock()
		o.hunger(line)
		n.mu.Unlock()
		return false, err
	}
	var events []int64
	for i := range rows {
		events = append(events, rows[i].Event)
	}
	payloads := l.payloads(ctx, events)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.order != o || n.target == nil || o.lines[line.key] != line {
		return true, nil
	}
	for i := range rows {
		rows[i].Payload = payloads[rows[i].Event]
	}
	for _, t := range o.read(line, from, rows, n.held, l.endedIn(n.row), millis(l.now())) {
		n.held[t.Event] = t.Attempts
		l.queue(&t)
	}
	n.kick()
	return true, nil
}
