package sqlite

import (
	"encoding/json"
	"time"

	"github.com/grapnel-hooks/grapnel/stream"
)

// ReplayCounts is what has come of a replay.
type ReplayCounts struct {
	Matched  int64 // the sum of the others
	Replayed int64 // are pending again
	Changed  int64 // had left the states that were asked for, when it was their turn
	Removed  int64 // by retention, when it was their turn
	Withheld int64 // of what is [Missing]: rejected, kept back by the plan, skipped by hand, or perhaps removed by retention
	Lost     int64 // cannot be sent again: neither the stream nor the books have their payload
}

// Skipped is how many were not sent again although they had matched.
func (n ReplayCounts) Skipped() int64 { return n.Changed + n.Removed + n.Withheld }

// ReplayReport is what a replay has done.
type ReplayReport struct {
	ReplayCounts
	ByType map[string]int64 // replayed, by type of their events; see [maxReplayTypes]
	First  stream.ID        // of the events replayed; zero: none, or retention has removed it
	Last   stream.ID
	Ran    time.Duration // how long it was neither paused nor finished
}

// PerSecond is how many deliveries it has made pending in a second, while it was
// not paused.
func (r *ReplayReport) PerSecond() float64 {
	if r.Ran <= 0 {
		return 0
	}
	return float64(r.Replayed) / r.Ran.Seconds()
}

// maxReplayTypes is how many types a report tells apart; the others are counted
// together, as "*".
const maxReplayTypes = 50

// progress is what one step of a replay has done.
type progress struct {
	ReplayCounts
	byType      map[string]int64
	first, last int64 // events replayed; 0: none
}

// replayed counts one more.
func (p *progress) replayed(event int64, typ string) {
	if p.byType == nil {
		p.byType = make(map[string]int64)
	}
	p.Replayed++
	p.byType[typ]++
	if p.first == 0 {
		p.first = event
	}
	p.last = event
}

// added is what byType is together with that of before, as JSON.
func (p *progress) added(before map[string]int64) (string, error) {
	sum := make(map[string]int64, len(before)+len(p.byType))
	for typ, n := range before {
		sum[typ] = n
	}
	for typ, n := range p.byType {
		if _, known := sum[typ]; !known && len(sum) >= maxReplayTypes {
			typ = "*" // no event has this type
		}
		sum[typ] += n
	}
	b, err := json.Marshal(sum)
	return string(b), err
}

// hasRun adds to the time that a running replay has run (?2: now).
const hasRun = "ran=ran+iif(state=0, max(?2-updated_at, 0), 0), updated_at=?2"

// Progress says how much of a replay is done, from 0 to 1, and how long the rest
// takes at the pace of so far; negative numbers say that it cannot be told. Of what is
// [Missing] it goes by sequences, of others by what [Store.CountAhead] has found.
func (r *Replay) Progress(a Ahead) (share float64, left time.Duration) {
	switch {
	case r.State == ReplayDone:
		return 1, 0
	case r.Missing() && r.last > r.start:
		share = float64(r.place-r.start) / float64(r.last-r.start)
	case r.Missing() || !a.Known:
		return -1, -1
	case a.Matched > 0:
		share = float64(r.Matched) / float64(a.Matched)
	}
	share = min(share, 1)
	if r.Replayed == 0 || share == 0 || r.State.Finished() {
		return share, -1
	}
	return share, time.Duration((1 - share) / share * float64(r.Ran))
}
