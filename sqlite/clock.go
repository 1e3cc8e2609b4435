package sqlite

import (
	"fmt"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
)

// longestWait is the latest that a delivery can be due by any rule: the longest
// interval, moved by its jitter, or the longest Retry-After (REL-22).
const longestWait = max(deliver.MaxInterval*6/5, deliver.MaxRetryAfter)

// clampStep is how many rows one statement of soonEnough changes.
const clampStep = 5000

// soonEnough brings forward what no rule can have put off for so long: it was
// booked while the clock was ahead. Nobody else is there yet.
func (s *Store) soonEnough() error {
	latest := toMillis(s.now().Add(longestWait))
	var all int64
	for {
		n, err := s.w.c.exec(`UPDATE deliveries SET due=?1 WHERE (event, endpoint) IN (SELECT event, endpoint FROM deliveries INDEXED BY deliveries_pending
			WHERE state=0 AND due>?1 AND due<?2 LIMIT ?3)`, latest, int64(deliver.HeldBack), int64(clampStep))
		if err != nil {
			return fmt.Errorf("bring forward what is due too late: %w", err)
		}
		if all += n; n < clampStep {
			break
		}
	}
	if all > 0 {
		s.log.Warn("deliveries were due later than any rule allows: the clock must have been ahead; they are due earlier now",
			"deliveries", all, "due", time.UnixMilli(latest).UTC())
	}
	return nil
}
