package deliver

import "time"

// pace keeps a rate limit: in no second more requests begin than the limit,
// rounded up. They are spaced evenly; one that is begun late, as timers are, is
// made up for by the next within paceSlack, for which all are spaced a little
// wider than the limit (the generic cell rate algorithm, ITU-T I.371). The zero
// pace has seen none.
type pace struct {
	due time.Time // when the next would come if all came evenly
}

const paceSlack = 10 * time.Millisecond

// next is when the next request may begin.
func (p *pace) next() time.Time { return p.due.Add(-paceSlack) }

// begun counts one that begins now, under a limit of so many a second.
func (p *pace) begun(now time.Time, limit float64) {
	interval := time.Duration(float64(time.Second+paceSlack)/limit) + 1 // never a part of a nanosecond too short
	p.due = later(now, p.due).Add(interval)
}
