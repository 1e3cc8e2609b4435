package deliver

import "time"

// adopt takes over the health that the books have.
func (n *lane) adopt(h Health, now time.Time) {
	step := max(n.health.Step, h.Step)
	n.health = h.Sane(now)
	n.health.Step = step
	n.well = n.health.Well()
	n.until = n.health.Wait()
	n.failing = !n.health.FailingSince.IsZero()
	n.proven = n.proven && !n.failing
}

// learn adjusts window and health to what came of an attempt, and returns the
// health if it is another one now.
//
// The window opens by one for each success, so that a lane opens as fast as its
// receiver answers: 1, 2, 4, 8 requests in successive rounds. It goes back to one
// when the receiver is silent, so that endpoints that hang cost one request
// each, when it asks to be left alone, and when the circuit opens.
func (n *lane) learn(o *Outcome, k Kind, now time.Time) *Health {
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
	case Ours, HTTP4xx, HTTP5xx, Redirect:
		// It answers: as many at once as before.
	default:
		n.window = 1
	}
	// Of a disabled endpoint nothing more is to be told: enabling it begins anew.
	if n.well && n.proven || !n.ep.Enabled() {
		return nil
	}
	before := n.health
	next := before.After(n.ep, o, k, now, n.l.o.Rand())
	if next == before {
		return nil
	}
	n.health, n.well = next, next.Well()
	if n.target == nil {
		return &next
	}
	n.until = next.Wait()
	switch turn := Turned(before, next); {
	case turn == Recovered:
		n.keeps(now)
		n.window = 1
		n.recovering = true
		if next.Releasing {
			n.freeHeld()
		}
	case next.Open() || next.HeldUntil.After(before.HeldUntil):
		n.window = 1
		n.recovering = n.recovering && !next.Open()
	}
	return &next
}

// freeHeld has everything that the endpoint has pending made due now. Until then
// nothing is sent, and what memory holds of its retries is read again, since
// their order is another one then.
func (n *lane) freeHeld() {
	n.recovering = true
	n.forget(&n.retry)
	n.retry.refuse(Place{Due: 1})
	n.l.tendTo(n.row)
}

// released goes on after that, and returns the health now; nil if the lane has
// no use for it any more.
func (n *lane) released() *Health {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.target == nil || !n.health.Releasing {
		return nil
	}
	n.keeps(n.l.now())
	n.health.Releasing = false
	n.health.Step++
	n.well = n.health.Well()
	n.l.wakePager()
	n.kick()
	h := n.health
	return &h
}

// older is the front whose first ticket has the older event. It is nil while
// the pager is still to bring the first of either.
func (n *lane) older() *front {
	f, r := &n.fresh, &n.retry
	if f.behind && f.tickets.len() == 0 || r.behind && r.tickets.len() == 0 {
		n.l.wakePager()
		return nil
	}
	if !f.behind && !r.behind && f.tickets.len()+r.tickets.len() == 1 {
		n.recovering = false // with this one
	}
	if f.tickets.len() == 0 || r.tickets.len() > 0 && r.tickets.first().Event < f.tickets.first().Event {
		return r
	}
	return f
}

// opens reports whether a request may begin now: nobody asked to be left alone,
// the next probe may be made, and the rate limit allows it. If not, a timer kicks
// the lane when it may.
func (n *lane) opens() bool {
	limit := n.ep.RateLimit
	if n.until.IsZero() && limit == 0 {
		return true
	}
	now, at := n.l.now(), n.until
	if limit > 0 {
		at = later(at, n.pace.next())
	}
	if !at.After(now) {
		n.until = time.Time{}
		return true
	}
	if own := n.waits(); own.After(now) {
		n.keeps(own)
	}
	n.wakeAt(at, now)
	return false
}

func later(t, u time.Time) time.Time {
	if u.After(t) {
		return u
	}
	return t
}

func (n *lane) wakeAt(at, now time.Time) {
	if !n.alarm.IsZero() && !n.alarm.After(at) {
		return // and looks again then
	}
	n.alarm = at
	if n.timer != nil {
		n.timer.Reset(at.Sub(now))
		return
	}
	n.timer = time.AfterFunc(at.Sub(now), func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.alarm = time.Time{}
		n.kick()
	})
}

// probeNow lets the next probe be made at once, if the circuit is open.
func (n *lane) probeNow() {
	if n.health.Open() {
		n.until = n.health.HeldUntil
		n.kick()
	}
}

// judge says what the lane's endpoint has come to because time passed: then it
// returns a note for the books.
func (n *lane) judge(now time.Time) (note HealthNote, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.target == nil || n.well {
		return note, false
	}
	next, disable := n.health.Judge(n.ep.DisableAfter, now)
	if next == n.health && !disable {
		return note, false
	}
	n.l.tell(n.ep, Turned(n.health, next), next)
	n.health = next
	note = HealthNote{Endpoint: n.row, Health: next}
	if disable {
		note.Disable = DisabledFailing
		n.disable(DisabledFailing)
	}
	return note, true
}

// condition is the endpoint's, as the lane knows it.
func (n *lane) condition() Condition {
	return conditionOf(n.ep, n.health)
}

// disable ends the lane's traffic, ahead of the books.
func (n *lane) disable(reason string) {
	ep := *n.ep
	ep.DisabledReason = reason
	n.ep = &ep
	n.empty()
}
