package fanout

import (
	"time"

	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/stream"
)

// Status is how the walk of one organization stands.
type Status struct {
	Missing   bool          // its stream does not exist
	Unclaimed string        // the installation that its stream is marked as read for, when that is another one: it is not read
	Change    cursor.Change // the last change of its stream's identity
	Last      stream.Seq    // the newest sequence seen
	Err       string        // why the last read or commit failed, ""
	NoRoom    bool          // Err is that the books are not to grow
	CheckedAt time.Time     // the last time the stream's identity was found right
	StoppedAt time.Time     // since when reading is stopped by what it is stopped by now; zero: it is not
}

// stoppedSince is the time of what stops the reading now, after before: the same as
// before while it is the same, else now.
func (st Status) stoppedSince(before Status, now time.Time) time.Time {
	switch {
	case !st.Missing && st.Unclaimed == "" && st.Err == "":
		return time.Time{}
	case before.StoppedAt.IsZero() || st.Missing != before.Missing || st.Unclaimed != before.Unclaimed:
		return now
	}
	return before.StoppedAt
}

// Panics is how often reading or planning has panicked, since the start.
func (l *Loop) Panics() int64 { return l.panics.Load() }

// Stats is how many walks stand how.
type Stats struct {
	Orgs      int
	Missing   int // their stream does not exist
	Unclaimed int // their stream is read for another installation
	Failing   int // the last read or commit failed, for another reason
}

// Stats counts how the walks stand.
func (l *Loop) Stats() (st Stats) {
	l.mu.Lock()
	defer l.mu.Unlock()
	st.Orgs = len(l.orgs)
	for _, s := range l.orgs {
		switch {
		case s.status.Missing:
			st.Missing++
		case s.status.Unclaimed != "":
			st.Unclaimed++
		case s.status.Err != "":
			st.Failing++
		}
	}
	return st
}

// turned logs how an organization's walk stands now, when that is another way.
func (l *Loop) turned(org string, before, now Status) {
	switch {
	case now.Err == before.Err, now.Missing && before.Missing, now.Unclaimed != "" && now.Unclaimed == before.Unclaimed:
	case now.NoRoom, now.Err == "" && before.NoRoom: // whoever says so tells of it, once for all organizations
	case now.Err == "":
		l.o.Logger.Info("reading goes on", "org", org)
	case now.Missing:
		l.o.Logger.Error("the stream is missing: the cursor keeps its place and waits", "org", org, "error", now.Err)
	case now.Unclaimed != "":
		l.o.Logger.Error("the stream is another database's: nothing of it is read", "org", org, "installation", now.Unclaimed, "error", now.Err)
	default:
		l.o.Logger.Warn("reading stopped; it is tried again", "org", org, "error", now.Err)
	}
}

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
