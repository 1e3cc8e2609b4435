package deliver

import (
	"context"
	"math"
	"time"
)

const (
	pageRows      = 4096 // of one read of the books
	pageLeast     = 1024 // at least so many: more than can lie at one Place
	pageEndpoints = 500  // lanes filled by one read
	maxIdle       = time.Minute
	fullWait      = 20 * time.Millisecond
)

// end is after every place.
func end(due int64) Place { return Place{Due: due, Event: math.MaxInt64} }

// page is the one goroutine that reads pending deliveries from the books:
// where each lane begins (at start, and when an endpoint is enabled), retries
// that have come due, and what did not fit into a lane when it was offered.
//
// The books are read from a snapshot while workers go on, so a delivery that
// the snapshot calls pending may have been sent and booked since. Deliveries
// booked during a pass therefore stay held until it ends.
func (l *Lanes) page(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var scanned Place // retries up to here have been looked at
	for {
		again, err := l.pass(ctx, &scanned)
		now := time.Now()
		l.lastPass.Store(&now)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		wait := maxIdle
		switch {
		case err != nil:
			if leftOut, ok := l.noPending.tell(l.now()); ok {
				l.o.Log.Error("reading pending deliveries failed; trying again", "left_out", leftOut, "error", err)
			}
			wait = time.Second
		case again && !l.full():
			continue
		case again:
			wait = fullWait // lanes have room, memory has not
		default:
			if due := l.nextDue.Load(); due != 0 {
				wait = min(wait, max(time.UnixMilli(due).Sub(l.now()), time.Millisecond))
			}
		}
		timer.Reset(wait)
		if err != nil {
			select {
			case <-timer.C:
			case <-ctx.Done():
				return ctx.Err()
			}
			continue
		}
		select {
		case <-timer.C:
		case <-l.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// LastPass is when the books were looked through last for what is due, which
// happens at least each minute while Run runs; zero: not yet. At the start that
// can take longer.
func (l *Lanes) LastPass() time.Time {
	if at := l.lastPass.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

// pass reads the books once for each purpose. It reports whether there is more
// to read at once.
func (l *Lanes) pass(ctx context.Context, scanned *Place) (again bool, err error) {
	upTo := millis(l.now())
	l.passMu.Lock()
	l.passing = true
	l.watermark = max(l.watermark, upTo)
	upTo = l.watermark
	l.passMu.Unlock()
	defer l.passed()

	if err := l.linedUp(ctx, *scanned == Place{}); err != nil {
		return false, err
	}
	if *scanned == (Place{}) {
		// At start. Backlogs says where each lane begins, and covers all that is due.
		if err := l.begin(ctx, true); err != nil {
			return false, err
		}
		*scanned = end(upTo)
		if err := l.findDue(ctx, upTo); err != nil {
			return false, err
		}
	}
	if err := l.begin(ctx, false); err != nil {
		return false, err
	}
	if next := l.nextDue.Load(); next != 0 && next <= upTo {
		if again, err = l.due(ctx, scanned, upTo); err != nil {
			return false, err
		}
	}
	for _, front := range []func(*lane) *front{
		func(n *lane) *front { return &n.fresh },
		func(n *lane) *front { return &n.retry },
	} {
		more, err := l.refill(ctx, front, upTo)
		if err != nil {
			return false, err
		}
		again = again || more
	}
	return again, nil
}

// passed ends a pass: what was booked meanwhile is let go.
func (l *Lanes) passed() {
	l.passMu.Lock()
	released := l.released
	l.passing, l.released = false, nil
	l.passMu.Unlock()
	for _, k := range released {
		if n := l.lane(k.Endpoint); n != nil {
			n.mu.Lock()
			if n.release(k.Event) {
				l.wakePager()
			}
			n.mu.Unlock()
		}
	}
}

// begin asks the books where the fronts of lanes begin that do not know.
func (l *Lanes) begin(ctx context.Context, all bool) error {
	unknown := map[int64]*lane{}
	asked := map[int64]int{}
	l.mu.RLock()
	for row, n := range l.lanes {
		n.mu.Lock()
		if n.unknown && n.target != nil {
			unknown[row], asked[row] = n, n.asked
		}
		n.mu.Unlock()
	}
	l.mu.RUnlock()
	if len(unknown) == 0 && !all {
		return nil
	}
	var rows []int64 // nil: all
	if !all && len(unknown) <= pageEndpoints {
		for row := range unknown {
			rows = append(rows, row)
		}
	}
	backlogs, err := l.o.Books.Backlogs(ctx, rows)
	if err != nil {
		return err
	}
	for _, b := range backlogs {
		n := unknown[b.Endpoint]
		if n == nil {
			continue
		}
		n.mu.Lock()
		if b.Fresh != 0 {
			n.fresh.refuse(Place{Event: b.Fresh})
		}
		if b.Due != (Place{}) {
			l.passMu.Lock()
			past := b.Due.Due <= l.watermark
			l.passMu.Unlock()
			if past {
				n.retry.refuse(b.Due)
			} else {
				l.noteDue(b.Due.Due)
			}
		}
		n.mu.Unlock()
	}
	for row, n := range unknown {
		n.mu.Lock()
		n.unknown = n.asked != asked[row]
		if n.unknown {
			l.wakePager()
		} else if n.order != nil {
			n.kick()
		}
		n.mu.Unlock()
	}
	return nil
}

// due brings retries that have come due into their lanes.
func (l *Lanes) due(ctx context.Context, scanned *Place, upTo int64) (again bool, err error) {
	l.nextDue.Store(0) // whoever books one from here on notes it again
	ts, err := l.o.Books.Pending(ctx, Place{Due: scanned.Due + 1}, end(upTo), nil, pageRows)
	if err != nil {
		l.noteDue(1)
		return false, err
	}
	l.fill(ctx, ts, func(n *lane) *front { return &n.retry })
	if len(ts) < pageRows {
		*scanned = end(upTo)
		return false, l.findDue(ctx, upTo)
	}
	l.noteDue(1)
	first, last := ts[0].Due, ts[len(ts)-1].Due
	if first < last {
		*scanned = end(last - 1) // the last millisecond may go on: it is read again
		return true, nil
	}
	// More in one millisecond than one read brings, as after a retry of
	// thousands by hand: let each lane find its own.
	*scanned = end(last)
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, n := range l.lanes {
		n.mu.Lock()
		n.ask()
		n.mu.Unlock()
	}
	return true, nil
}

// findDue notes when the next retry after upTo is due.
func (l *Lanes) findDue(ctx context.Context, upTo int64) error {
	next, err := l.o.Books.NextDue(ctx, upTo)
	if err != nil {
		l.noteDue(1)
		return err
	}
	if next != 0 {
		l.noteDue(next)
	}
	return nil
}

// full reports whether memory holds as many deliveries as it may.
func (l *Lanes) full() bool { return l.tickets.Load() >= int64(l.o.MaxTickets) }

// refill brings into the hungry lanes what they lack, oldest first.
func (l *Lanes) refill(ctx context.Context, of func(*lane) *front, upTo int64) (again bool, err error) {
	var rows []int64
	from, room := end(math.MaxInt64), 0
	l.mu.RLock()
	for row, n := range l.lanes {
		n.mu.Lock()
		if f := of(n); n.hungry(f) {
			if len(rows) < pageEndpoints {
				rows = append(rows, row)
				room += n.room(f)
				if f.mark.Less(from) {
					from = f.mark
				}
				f.refused = Place{}
			} else {
				again = true
			}
		}
		n.mu.Unlock()
	}
	l.mu.RUnlock()
	if len(rows) == 0 {
		return false, nil
	}
	to := end(upTo)
	if from.Due == 0 {
		to = end(0)
	}
	limit := min(max(room, pageLeast), pageRows)
	ts, err := l.o.Books.Pending(ctx, from, to, rows, limit)
	if err != nil {
		return false, err
	}
	l.fill(ctx, ts, of)
	var stop Place // where this read ended; zero: it saw all
	if len(ts) == limit {
		stop = ts[len(ts)-1].Place()
	}
	for _, row := range rows {
		n := l.lane(row)
		if n == nil {
			continue
		}
		n.mu.Lock()
		f := of(n)
		if f.behind {
			f.caughtUp(stop)
		}
		again = again || n.hungry(f)
		n.kick()
		n.mu.Unlock()
	}
	return again, nil
}

// fill gives tickets read from the books to their lanes, with their payloads
// where these can be had now.
func (l *Lanes) fill(ctx context.Context, ts []Ticket, of func(*lane) *front) {
	if len(ts) == 0 {
		return
	}
	chosen, events := l.choose(ts, of)
	payloads := l.payloads(ctx, events)
	for i := range ts {
		t := &ts[i]
		n := l.lane(t.Endpoint)
		if n == nil {
			continue
		}
		n.mu.Lock()
		f := of(n)
		if f == &n.fresh {
			n.paged = max(n.paged, t.Event)
		}
		attempts, held := n.held[t.Event]
		switch {
		case n.target == nil:
		case held:
			n.overtaken = n.overtaken || t.Attempts > attempts
		case n.health.Releasing, !chosen[i], f.refused != (Place{}) && f.refused.Less(t.Place()), !n.fits(f, t, laneSoft):
			f.refuse(t.Place()) // and all after it, so that the order stays
		default:
			t.Payload = payloads[t.Event]
			n.push(f, *t)
			n.kick()
		}
		n.mu.Unlock()
	}
}

// choose says for which tickets there is room in their lanes now, and lists
// their events, whose payloads are worth fetching together. What a lane has sent
// when they are here is room for the next read.
func (l *Lanes) choose(ts []Ticket, of func(*lane) *front) (chosen []bool, events []int64) {
	room := map[int64]int{}
	seen := map[int64]bool{}
	chosen = make([]bool, len(ts))
	for i := range ts {
		t := &ts[i]
		left, ok := room[t.Endpoint]
		if !ok {
			if n := l.lane(t.Endpoint); n != nil {
				n.mu.Lock()
				left = n.room(of(n))
				n.mu.Unlock()
			}
		}
		if left > 0 {
			chosen[i] = true
			left--
			if !seen[t.Event] {
				seen[t.Event] = true
				events = append(events, t.Event)
			}
		}
		room[t.Endpoint] = left
	}
	return chosen, events
}

func (l *Lanes) payloads(ctx context.Context, events []int64) map[int64]*Payload {
	if len(events) == 0 || l.payload.Load() >= l.o.MaxPayload {
		return nil
	}
	ps, err := l.o.Source.Payloads(ctx, events)
	if err != nil && ctx.Err() == nil {
		if leftOut, ok := l.noPayload.tell(l.now()); ok {
			l.o.Log.Warn("payloads cannot be fetched now; each is fetched when its turn comes", "events", len(events), "left_out", leftOut, "error", err)
		}
	}
	return ps
}
