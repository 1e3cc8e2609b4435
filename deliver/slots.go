package deliver

import (
	"sync"
	"sync/atomic"
	"time"
)

// Lanes whose last attempt did not succeed start at most so many requests in
// so much time: when thousands of endpoints hang together, they would else all
// dial in the same moment, and again when they all time out.
const (
	paceBurst  = 100
	pacePeriod = 20 * time.Millisecond
)

// slots bounds the requests in flight over all lanes, and shares them fairly
// when they are short: the organizations take turns, and within each its lanes.
//
// A quarter is kept for lanes whose last attempt succeeded, so that thousands
// of endpoints that hang cannot keep a healthy one waiting.
type slots struct {
	waiting atomic.Int32 // lanes in proven and other
	scarce  atomic.Bool  // none is free but for the reserve

	mu      sync.Mutex
	all     int
	free    int
	reserve int
	closed  bool
	idle    chan struct{} // closed once closed and all are free
	proven  turns
	other   turns
	pace    int  // requests that other may still start in this period
	pacing  bool // a timer begins the next period
}

func (s *slots) init(n int) {
	s.all, s.free, s.reserve, s.pace = n, n, min(n/4, 1024), paceBurst
	s.idle = make(chan struct{})
}

// open says whether a lane may have a slot now. Called with mu held, as are
// use and checkIdle.
func (s *slots) open(proven bool) bool {
	if proven {
		return !s.closed && s.free > 0
	}
	return !s.closed && s.free > s.reserve && s.pace > 0
}

// use takes a free slot.
func (s *slots) use(proven bool) {
	s.free--
	s.scarce.Store(s.free <= s.reserve)
	if proven {
		return
	}
	s.pace--
	if !s.pacing {
		s.pacing = true
		time.AfterFunc(pacePeriod, s.nextPeriod)
	}
}

func (s *slots) nextPeriod() {
	s.mu.Lock()
	s.pace, s.pacing = paceBurst, false
	s.mu.Unlock()
	s.grant()
}

// take gets a slot for the lane, or queues the lane for one. Called with the
// lane locked.
func (s *slots) take(n *lane) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &s.other
	if n.proven {
		w = &s.proven
	}
	if w.n == 0 && s.open(n.proven) {
		s.use(n.proven)
		return true
	}
	if !s.closed {
		n.queued = true
		w.push(n.ep.Org, n)
		s.waiting.Add(1)
	}
	return false
}

// contended reports whether somebody waits because there are too few slots.
func (s *slots) contended() bool { return s.scarce.Load() && s.waiting.Load() > 0 }

// give returns a slot and passes free ones on. Called with no lane locked.
func (s *slots) give() {
	s.put()
	s.grant()
}

// grant gives free slots to the lanes whose turn it is. Called with no lane
// locked.
func (s *slots) grant() {
	for {
		n := s.next()
		if n == nil {
			return
		}
		n.mu.Lock()
		n.queued = false
		started := n.target != nil && n.paused == nil && n.workers < n.window && n.length() > 0 && !n.l.draining.Load()
		if started {
			n.startWorker()
			n.kick() // and queue for another, if the window allows
		}
		n.mu.Unlock()
		if !started {
			s.put() // it had no use for it
		}
	}
}

func (s *slots) put() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free++
	s.scarce.Store(s.free <= s.reserve)
	s.checkIdle()
}

func (s *slots) checkIdle() {
	if s.closed && s.free == s.all {
		close(s.idle)
	}
}

// next takes a slot for the lane whose turn it is.
func (s *slots) next() *lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range []struct {
		t      *turns
		proven bool
	}{{&s.proven, true}, {&s.other, false}} {
		if w.t.n > 0 && s.open(w.proven) {
			s.use(w.proven)
			s.waiting.Add(-1)
			return w.t.pop()
		}
	}
	return nil
}

// close gives out no more slots, and waits until all have come back.
func (s *slots) close() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		s.proven, s.other = turns{}, turns{}
		s.waiting.Store(0)
		s.checkIdle()
	}
	s.mu.Unlock()
	<-s.idle
}

// turns is a round-robin of organizations, each with a round-robin of lanes.
type turns struct {
	n    int
	orgs []string
	of   map[string][]*lane
}

func (t *turns) push(org string, n *lane) {
	if t.of == nil {
		t.of = map[string][]*lane{}
	}
	if len(t.of[org]) == 0 {
		t.orgs = append(t.orgs, org)
	}
	t.of[org] = append(t.of[org], n)
	t.n++
}

func (t *turns) pop() *lane {
	org := t.orgs[0]
	t.orgs = t.orgs[1:]
	lanes := t.of[org]
	n := lanes[0]
	if len(lanes) == 1 {
		delete(t.of, org)
	} else {
		t.of[org] = lanes[1:]
		t.orgs = append(t.orgs, org)
	}
	t.n--
	return n
}
