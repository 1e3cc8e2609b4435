package fanout

import (
	"time"

	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/stream"
)

// Status is how the walk of one organization stands.
type Status struct {
	Missing   bool          // its stream does not exist
	Change    cursor.Change // the last change of its stream's identity
	Last      stream.Seq    // the newest sequence seen
	Err       string        // why the last read or commit failed, ""
	CheckedAt time.Time     // the last time the stream's identity was found right
}

// Panics is how often reading or planning has panicked, since the start.
func (l *Loop) Panics() int64 { return l.panics.Load() }

// report logs what an operator wants to know of a batch.
func (l *Loop) report(org string, b cursor.Batch) {
	switch b.Change {
	case cursor.Recreated:
		l.o.Logger.Error("the stream was deleted and made anew: reading from its first sequence",
			"org", org, "stream", b.To.Stream, "position", b.From.Seq, "was_created", b.From.Created, "created", b.To.Created, "incarnation", b.To.Incarnation)
	case cursor.Regressed:
		l.o.Logger.Error("the stream lost messages that were fanned out already (rolled back): reading what is there",
			"org", org, "stream", b.To.Stream, "position", b.From.Seq, "goes_on_at", b.To.Seq, "incarnation", b.To.Incarnation)
	}
	if b.Again {
		return // what is gone by now was read once
	}
	for _, g := range b.Gaps {
		l.o.Logger.Error("events were gone from the stream before they were fanned out",
			"org", org, "stream", b.To.Stream, "from", g.From, "to", g.To, "count", g.Count())
	}
}
