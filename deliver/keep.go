package deliver

import "time"

// A delivery that is due may wait for two: for grapnel, which has too much to do,
// or for its own endpoint, which is paused, disabled or failing, has asked to be
// left alone, keeps an order or a rate, or has as many requests in flight as it
// may. Only the first is a reason to get up at night, so lanes remember when the
// second was the last time.

// keeps notes that the endpoint itself keeps deliveries waiting until then.
func (n *lane) keeps(until time.Time) { n.own = later(n.own, until) }

// waits is before when the endpoint itself wants no request; it may have passed.
func (n *lane) waits() time.Time {
	at := n.health.Wait()
	if n.ep.RateLimit > 0 {
		at = later(at, n.pace.next())
	}
	return at
}

// full reports whether more waits than the workers take that have just begun, and no
// other worker may begin.
func (n *lane) full() bool {
	return n.workers >= n.window && n.length() > n.begun || n.order != nil && n.order.waiting > 0
}

// kept is until when the endpoint kept deliveries waiting; now, if it does.
func (n *lane) kept(now time.Time) time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.target == nil || n.health.Releasing || n.waits().After(now) || n.full() {
		return now
	}
	return n.own
}

// Kept says of each of the endpoints until when it kept deliveries waiting by
// itself, and not for want of anything of grapnel's: the time given, if it does so
// now; a later one, if it will; the zero time, if it never did since the start.
// One that has no lane is sent nothing, and keeps them.
func (l *Lanes) Kept(rows []int64, now time.Time) map[int64]time.Time {
	until := make(map[int64]time.Time, len(rows))
	for _, row := range rows {
		until[row] = now
		if n := l.lane(row); n != nil {
			until[row] = n.kept(now)
		}
	}
	return until
}
