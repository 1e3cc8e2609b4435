package cursor

import (
	"context"
	"fmt"
	"time"

	"github.com/grapnel-hooks/grapnel/stream"
)

// Before finds the sequence after which the messages begin that were stored at t
// or later: the first of them is the next one that a position there reads. It
// is the stream's last sequence when there are none, and never lies before its
// first message. s is what the stream said of itself a moment ago. The times in
// a stream ascend, so this takes some 20 reads of one message each.
func Before(ctx context.Context, log Log, name string, s stream.State, t time.Time) (stream.Seq, error) {
	before := max(s.First, 1) - 1 // known to be older than t, or not there
	for end := s.Last + 1; before+1 < end; {
		mid := before + 1 + (end-before-1)/2
		msgs, _, err := log.Read(ctx, name, mid, 1)
		if err != nil {
			return 0, fmt.Errorf("find %s in %s: %w", t.Format(time.RFC3339), name, err)
		}
		if len(msgs) > 0 && msgs[0].Time.Before(t) {
			before = min(msgs[0].Seq, s.Last)
		} else {
			end = mid
		}
	}
	return before, nil
}
