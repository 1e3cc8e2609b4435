package deliver

import (
	"sync/atomic"
	"time"
)

// calmFor is how long a fault is not told of again that goes on, and that many
// lanes may meet.
const calmFor = time.Minute

// calm lets one line of a fault into the log, and then none for calmFor.
type calm struct {
	next    atomic.Int64 // unix nanoseconds: not before
	leftOut atomic.Int64 // since the last line
}

// tell reports whether the log gets a line now, and how many it did not get before.
func (c *calm) tell(now time.Time) (leftOut int64, ok bool) {
	at := now.UnixNano()
	next := c.next.Load()
	if at < next || !c.next.CompareAndSwap(next, at+int64(calmFor)) {
		c.leftOut.Add(1)
		return 0, false
	}
	return c.leftOut.Swap(0), true
}
