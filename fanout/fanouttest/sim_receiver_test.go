package fanouttest

import (
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
)

// mood is how a receiver behaves at present.
type mood int

const (
	healthy  mood = iota
	failing       // 500
	flaky         // one or the other
	hanging       // never answers, but may have acted
	refusing      // cannot be connected to
	late          // answers shortly before the timeout
	goneAway      // 410
	busy          // 429, for a while
	moods
)

// answer is what one request meets.
type answer struct {
	class  deliver.Class
	status int
	after  time.Duration
	panics bool // not the receiver: the sender
	again  time.Duration
}

var answers = [moods]answer{
	healthy:  {deliver.OK, 204, 20 * time.Millisecond, false, 0},
	failing:  {deliver.HTTP5xx, 500, 5 * time.Millisecond, false, 0},
	hanging:  {deliver.Timeout, 0, deliver.DefaultTimeout, false, 0},
	refusing: {deliver.Connect, 0, 0, false, 0},
	late:     {deliver.OK, 200, deliver.DefaultTimeout - time.Second, false, 0},
	goneAway: {deliver.HTTP4xx, 410, time.Millisecond, false, 0},
	busy:     {deliver.HTTP4xx, 429, time.Millisecond, false, 15 * time.Second},
}

// receive takes in a request, if it comes through, and decides its answer.
func (s *sim) receive(d *daemon, p *deliver.Payload, k deliver.Key, attempt int) (a answer, reached bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.dead.Load() {
		return answer{class: deliver.Ours}, false
	}
	r := s.receivers[k.Endpoint]
	if p.Event != k.Event || p.Org != r.org {
		s.violatedLocked("endpoint %d of %s was sent event %d of %s for delivery %v", k.Endpoint, r.org, p.Event, p.Org, k)
	}
	s.heard(p, k)
	if n, ok := s.cancelled[k]; ok {
		// One may have been on its way.
		if s.cancelled[k] = n + 1; n > 0 {
			s.violatedLocked("delivery %v was cancelled, and sent %d times since", k, n+1)
		}
	}
	dice := s.roll("request", k.Endpoint, p.ID, attempt)
	now := r.mood
	if now == flaky {
		now = [...]mood{healthy, failing, hanging, refusing}[dice.IntN(4)]
	}
	a = answers[now]
	a.after += time.Duration(dice.IntN(30)) * time.Millisecond
	if now == hanging || now == late {
		a.after = min(a.after, deliver.DefaultTimeout)
	}
	a.panics = s.faulty.Load() > 0 && dice.IntN(200) == 0
	if now == refusing {
		return a, false
	}
	receipt := fanout.Receipt{Endpoint: k.Endpoint, ID: p.ID}
	t := s.ledger[receipt]
	t.Requests++
	if a.class == deliver.OK || now == hanging && dice.IntN(2) == 0 {
		t.Succeeded++
	}
	s.ledger[receipt] = t
	s.open[k] = receipt
	s.tracef("life %d: request %d for %v", d.life, attempt, k)
	return a, true
}

// settled hears which outcomes are durable.
func (s *sim) settled(rs []deliver.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.judged(rs)
	for _, r := range rs {
		s.tracef("booked: attempt %d of %v: %v, %v", r.Attempt.Number, r.Key, r.Attempt.Class, r.Next.State)
		delete(s.open, r.Key)
	}
	s.remember(rs)
}
