package fanouttest

import (
	"github.com/grapnel-hooks/grapnel/deliver"
)

// simReplay is what the checks know of a replay.
type simReplay struct {
	endpoint int64
	row      int // number in the books
	// wanted were dead when it began, after so many attempts.
	wanted map[deliver.Key]int
	asked  map[deliver.Key]int // how often it made each pending
	over   bool
}

// startReplay begins to send an endpoint again what is dead.
func (s *sim) startReplay() {
	ep, ok := s.some(s.dice)
	if !ok {
		return
	}
	for _, r := range s.replays {
		if r.endpoint == ep.Row && !r.over {
			return // one at a time
		}
	}
	r := &simReplay{endpoint: ep.Row, wanted: map[deliver.Key]int{}, asked: map[deliver.Key]int{}}
	s.disk.mu.Lock()
	s.disk.onReplayed = s.replayed
	for _, e := range s.disk.events {
		if d := e.find(ep.Row); d != nil && d.state == deliver.Dead {
			r.wanted[d.Key] = len(d.attempts)
		}
	}
	s.disk.mu.Unlock()
	number, err := s.life().books.StartReplay(s.ctx, ep.Row)
	if err != nil {
		s.refused(err)
		return
	}
	s.tracef("replay %d of %d deliveries to endpoint %d begins", number, len(r.wanted), ep.Row)
	r.row = number
	s.replays = append(s.replays, r)
}

// replayed is told, with the books locked, what a replay has made pending.
func (s *sim) replayed(number int, k deliver.Key) {
	r := s.replays[number]
	if r.asked[k]++; r.asked[k] > 1 {
		s.violated("replay %d sent %v again %d times", number, k, r.asked[k])
	}
	delete(s.ended, k)
	s.mu.Lock()
	delete(s.cancelled, k)
	s.mu.Unlock()
}

// setReplay pauses, resumes or cancels some replay.
func (s *sim) setReplay() {
	if len(s.replays) == 0 {
		return
	}
	r := s.replays[s.dice.IntN(len(s.replays))]
	to := []ReplayState{ReplayPaused, ReplayPaused, ReplayRunning, ReplayRunning, ReplayCancelled}[s.dice.IntN(5)]
	s.refused(s.life().books.SetReplay(s.ctx, r.row, to))
}

// carryReplays takes a step of each replay, as the daemon does between other
// things.
func (s *sim) carryReplays() {
	for _, r := range s.replays {
		if r.over {
			continue
		}
		d := s.life()
		state, err := d.books.StepReplay(s.ctx, r.row, 1+s.dice.IntN(3))
		d.lanes.Recheck(r.endpoint)
		if err != nil {
			continue // it is tried again
		}
		switch state {
		case ReplayDone:
			r.over = true
			s.leftOut(r)
		case ReplayCancelled:
			r.over = true
		}
	}
}

// leftOut checks that a replay that is done has left nothing out: what was dead
// when it began is not dead without having been sent since.
func (s *sim) leftOut(r *simReplay) {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	if s.disk.endpoint(r.endpoint).removed {
		return
	}
	for k, attempts := range r.wanted {
		_, d := s.disk.delivery(k)
		if r.asked[k] == 0 && d.state == deliver.Dead && len(d.attempts) == attempts {
			s.violated("replay %d is done, and %v is dead as before", r.row, k)
		}
	}
}

// replaysGoOn reports whether a replay still has something to do.
func (s *sim) replaysGoOn() bool {
	for _, r := range s.replays {
		if !r.over {
			return true
		}
	}
	return false
}

// resumeReplays lets all paused replays go on, so that everything can end.
func (s *sim) resumeReplays() {
	for _, r := range s.replays {
		if !r.over {
			s.refused(s.admin.SetReplay(s.ctx, r.row, ReplayRunning))
		}
	}
}
