package deliver

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"
)

// fits reports whether the ticket may be held in memory.
func (l *Lanes) fits(t *Ticket) bool {
	return l.tickets.Load() < int64(l.o.MaxTickets) && (t.Payload == nil || l.payload.Load() < l.o.MaxPayload)
}

// queue counts a ticket that begins to wait in memory, and its payload once
// however many deliveries share it.
func (l *Lanes) queue(t *Ticket) {
	l.tickets.Add(1)
	if t.Payload != nil && t.Payload.queued.Add(1) == 1 {
		l.payload.Add(int64(len(t.Payload.Body)))
	}
}

func (l *Lanes) unqueue(t *Ticket) {
	l.tickets.Add(-1)
	if t.Payload != nil && t.Payload.queued.Add(-1) == 0 {
		l.payload.Add(-int64(len(t.Payload.Body)))
	}
}

// work sends the lane's deliveries, one after the other, until there are none
// left for this worker. It holds a slot while it runs.
func (n *lane) work(proven bool) {
	l := n.l
	defer l.slots.give(n.org, proven)
	for first := true; ; first = false {
		j, ok := n.take(first)
		if !ok {
			return
		}
		l.attempt(n, j)
		if l.slots.contended(n.org) {
			n.mu.Lock()
			n.workers--
			n.kick() // queues for a slot behind those that wait already
			n.mu.Unlock()
			return
		}
	}
}

// attempt is one delivery's way from the lane to the books:
// payload, request, outcome, next state, record.
func (l *Lanes) attempt(n *lane, j job) {
	t := j.Ticket
	if t.Payload == nil {
		p, lost, err := l.fetch(t.Event)
		if err != nil {
			l.tellNoPayload(n, t.Event, err)
			n.pause(t)
			return
		}
		if lost {
			l.lost(n, t)
			return
		}
		t.Payload = p
	}
	l.o.Failpoint("send.before")
	// Crash here: nothing happened; the delivery is pending.
	a := Attempt{Number: t.Attempts + 1, Trigger: t.Trigger, Started: l.now(), Revision: j.target.revision}
	l.flying.Add(1)
	a.Outcome = l.send(&t, j.target, a.Number)
	l.flying.Add(-1)
	l.o.Failpoint("send.after")
	// Crash here, or until the record is committed: the request is made again.
	l.counts[a.Class].Add(1)

	ended := l.now()
	n.mu.Lock()
	before := n.health
	kind := Kind{Probe: j.probe, Uncounted: n.order != nil && n.order.repeats(t.Event, a.Class)}
	health := n.learn(&a.Outcome, kind, ended)
	ep := n.ep
	next := Next(ep.Retry, t, a.Outcome, ended, l.o.Rand())
	if a.Class == Ours && l.poisoned(t.Key, a.Error) {
		next = Transition{State: Dead, Reason: Poison, Spent: t.Spent}
	}
	if health != nil {
		if _, disable := health.Judge(ep.DisableAfter, ended); disable && next.Disable == "" && n.target != nil {
			next.Disable = DisabledFailing
		}
	}
	line := n.ended(&t, &next)
	if next.Disable != "" {
		n.disable(next.Disable)
	}
	n.mu.Unlock()
	if health != nil {
		l.tell(ep, Turned(before, *health), *health)
	}
	l.record(n, t, Record{Key: t.Key, Attempt: a, Next: next, Health: health, Line: line}, ep)
}

func (l *Lanes) record(n *lane, t Ticket, r Record, ep *Endpoint) {
	if r.Next.State == Pending || r.Next.State == Dead {
		r.Payload = t.Payload
	}
	if l.o.Observe != nil {
		l.o.Observe(ep, &t, &r.Attempt, &r.Next)
	}
	// Waits while the books cannot be written: then no new attempt may start.
	err := l.o.Books.Record(l.booking, r)
	if err != nil && l.ctx.Err() == nil {
		// Draining, and the books are short of room: no outcome is given up for that.
		err = l.o.Books.Record(l.ctx, r)
	}
	if err != nil {
		l.o.Log.Warn("an outcome was not booked; the delivery will be repeated", "org", ep.Org, "endpoint", ep.ID, "event_number", t.Event, "error", err)
		n.mu.Lock()
		delete(n.held, t.Event)
		if n.order != nil {
			n.order.settled(t.Event)
		}
		n.mu.Unlock()
	}
}

// send makes the request. A panic on the way is our own fault and must not take
// the other deliveries with it.
func (l *Lanes) send(t *Ticket, target *Target, number int) (o Outcome) {
	defer func() {
		if p := recover(); p != nil {
			l.caught.Add(1)
			l.o.Log.Error("panic while sending", "delivery", t.Key, "panic", p, "stack", string(debug.Stack()))
			o = Outcome{Class: Ours, Error: fmt.Sprintf("%s: %v", panicked, p)}
		}
	}()
	return l.o.Send(l.ctx, target, t.Payload, t.Key, number, l.now())
}

const panicked = "internal error"

// poisoned counts panics; after some, the delivery is given up (REL-02).
func (l *Lanes) poisoned(k Key, text string) bool {
	if len(text) < len(panicked) || text[:len(panicked)] != panicked {
		return false
	}
	l.panicMu.Lock()
	defer l.panicMu.Unlock()
	l.panics[k]++
	if l.panics[k] < poisonPanics {
		return false
	}
	delete(l.panics, k)
	return true
}

// tellNoPayload logs that a lane waits for a payload: one in a minute of them all,
// for when the broker is away every lane does.
func (l *Lanes) tellNoPayload(n *lane, event int64, err error) {
	leftOut, ok := l.noPayload.tell(l.now())
	if !ok {
		return
	}
	n.mu.Lock()
	ep := n.ep
	n.mu.Unlock()
	l.o.Log.Warn("payload cannot be fetched now; the endpoint waits",
		"org", ep.Org, "endpoint", ep.ID, "event_number", event, "left_out", leftOut, "error", err)
}

// fetch gets one payload when its turn comes.
func (l *Lanes) fetch(event int64) (p *Payload, lost bool, err error) {
	ctx, cancel := context.WithTimeout(l.ctx, 5*time.Second)
	defer cancel()
	ps, err := l.o.Source.Payloads(ctx, []int64{event})
	if p, ok := ps[event]; ok {
		return p, p == nil, nil
	}
	if err == nil {
		err = fmt.Errorf("payload of event %d is not to be had now", event)
	}
	return nil, false, err
}

// lost books that a delivery cannot be made any more: the stream dropped its
// event before the first attempt.
func (l *Lanes) lost(n *lane, t Ticket) {
	a := Attempt{
		Number: t.Attempts + 1, Trigger: t.Trigger, Started: l.now(),
		Outcome: Outcome{Class: Ours, Error: "the stream no longer holds this event: its retention passed before the first attempt"},
	}
	next := Transition{State: Dead, Reason: PayloadLost, Spent: t.Spent}
	n.mu.Lock()
	ep, line := n.ep, n.ended(&t, &next)
	n.mu.Unlock()
	l.record(n, t, Record{Key: t.Key, Attempt: a, Next: next, Line: line}, ep)
}
