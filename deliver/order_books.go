package deliver

import "context"

// LineHead is the first delivery of a line that the books have: where it stands
// among the pending, and in which line.
type LineHead struct {
	Place
	Line Line
}

// LineBooks are the books of lines: of the pending deliveries that stand in one,
// because they failed or are held back (see [Record]). One that is not pending
// any more stands in no line.
type LineBooks interface {
	// Lined lists the rules of the lines in which deliveries stand, by
	// endpoint; of every endpoint.
	Lined(ctx context.Context) (map[int64][]int64, error)
	// Lines lists the first delivery of each of the endpoint's lines, those that are
	// held back first, at most limit.
	Lines(ctx context.Context, endpoint int64, limit int) ([]LineHead, error)
	// Line lists those that stand in the line from the event on, itself included,
	// ascending by event, at most limit.
	Line(ctx context.Context, endpoint int64, line Line, from int64, limit int) ([]Ticket, error)
	// LeaveLines takes deliveries of the endpoint out of lines of other rules than
	// keep, in one transaction at most limit, and makes those that are held back
	// due at that time. It reports whether there may be more. Fresh ones, whose first
	// attempt is still to come, keep that as their trigger.
	LeaveLines(ctx context.Context, endpoint, keep, due int64, limit int) (more bool, err error)
}
