package main

import (
	"cmp"
	"fmt"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cursor"
)

const (
	// recently is how long a gap or a change of a stream's identity shows in a cursor's state.
	recently = 24 * time.Hour
	// behindAfter is how old the oldest unread event may be while the cursor
	// still counts as live.
	behindAfter = 10 * time.Second
)

// standing is all that decides how a cursor stands. It is judged in one place,
// so that a list, a single cursor and a metric never say two things.
type standing struct {
	now time.Time
	org string

	missing     bool      // the broker has no such stream
	unreachable string    // why the broker cannot be asked; "": it was
	unclaimed   string    // the installation that the stream is marked as read for, when that is another one
	stoppedAt   time.Time // since when one of these holds, as far as is known
	held        time.Time
	full        bool
	noRoom      string // why it is not read, although it could be; "": it is
	pause       *httpapi.CursorPause
	change      cursor.Change // how the present incarnation began
	changedAt   time.Time     // and when
	gated       bool
	lastError   string // of the walk

	lag      uint64
	age      time.Duration // of the oldest unread event
	rate     float64       // events a second, now
	gapAt    time.Time
	gapCount uint64
}

// verdict is a state, and in plain words why it is that one and what ends it.
type verdict struct {
	state string
	why   string    // "": there is nothing to say
	since time.Time // zero: it is not known
}

// judge says how the cursor stands. What stops it comes before what merely
// happened to it.
func (s standing) judge() verdict {
	behind := s.lag > 0 && s.age > behindAfter
	oldest := time.Time{}
	if s.lag > 0 && s.age > 0 {
		oldest = s.now.Add(-s.age)
	}
	switch {
	case s.missing:
		return verdict{"stream-missing", "the broker has no stream of that name: nothing can be read until it is there again", s.stoppedAt}
	case s.unreachable != "":
		return verdict{"unreachable", "the broker does not answer (" + s.unreachable + "): reading goes on by itself when it does", s.stoppedAt}
	case s.unclaimed != "":
		return verdict{"unclaimed", "another database reads the stream (installation " + s.unclaimed +
			"), and nothing of it is read here: restore that database's backup, or take the stream over by grapnel cursor claim " + s.org, s.stoppedAt}
	case s.pause != nil:
		return verdict{"paused", s.pausedWhy(), s.pause.At}
	case s.change == cursor.Regressed && s.now.Sub(s.changedAt) < recently:
		return verdict{"regressed", "the stream was rolled back: its newest events were gone, and reading went on from what is there", s.changedAt}
	case s.gated:
		return verdict{"gated", "the organization's plan lacks outgoing webhooks: events are counted and make no deliveries", time.Time{}}
	case behind:
		return verdict{"behind", s.behindWhy(), oldest}
	case !s.gapAt.IsZero() && s.now.Sub(s.gapAt) < recently:
		return verdict{"gap", fmt.Sprintf("events were gone from the stream before they were read (%d since ever): see grapnel cursor gaps %s",
			s.gapCount, s.org), s.gapAt}
	}
	v := verdict{state: "live"}
	switch {
	case !s.held.IsZero():
		v.why = s.behindWhy()
	case s.change == cursor.Recreated && s.now.Sub(s.changedAt) < recently:
		v.why, v.since = "the stream was deleted and made anew: it is read from its first event", s.changedAt
	}
	return v
}

func (s standing) pausedWhy() string {
	why := "paused by " + cmp.Or(s.pause.By, "somebody")
	if s.pause.Reason != "" {
		why += ": " + s.pause.Reason
	}
	if s.pause.Until.IsZero() {
		return why + "; goes on with grapnel cursor resume " + s.org
	}
	return why + "; goes on by itself at " + moment(s.pause.Until)
}

// behindWhy is why nothing, or not enough, is read.
func (s standing) behindWhy() string {
	switch {
	case !s.held.IsZero():
		return "the database is a backup, or was put here from elsewhere (as of " + moment(s.held) + "): nothing is read until grapnel resume --confirm"
	case s.full:
		return "the disk is full: nothing is read until there is room"
	case s.noRoom != "":
		return s.noRoom
	case s.lastError != "":
		return "reading fails, and is tried again: " + s.lastError
	}
	if left := untilRead(s.lag, s.rate); left > 0 {
		return fmt.Sprintf("reading %.1f events/s: done in about %s if none are added", s.rate, span(left))
	}
	return "it was not read for a minute: the daemon's log says more"
}

// untilRead is how long lag events take at that rate; 0 when there is no telling.
func untilRead(lag uint64, rate float64) time.Duration {
	const least = 0.05 // events/s: what is left in the meter of a cursor that stands
	if lag == 0 || rate < least {
		return 0
	}
	seconds := min(float64(lag)/rate, 365*24*3600)
	return max(time.Duration(seconds*float64(time.Second)), time.Second)
}
