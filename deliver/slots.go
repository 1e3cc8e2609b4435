package deliver

import (
	"sync"
	"sync/atomic"
)

// slots bounds the requests in flight over all lanes, and shares them fairly
// when they are short: the organizations take turns, and within each its lanes.
//
// A quarter is kept for lanes whose last attempt succeeded, so that thousands
// of endpoints that hang cannot keep a healthy one waiting.
type slots struct {
	waiting atomic.Int32 // lanes in proven and other

	mu      sync.Mutex
	all     int
	free    int
	reserve int
	closed  bool
	idle    chan struct{} // closed once closed and all are free
	proven  turns
	other   turns
}

func (s *slots) init(n int) {
	s.all, s.free, s.reserve = n, n, min(n/4, 1024)
	s.idle = make(chan struct{})
}

func (s *slots) open(proven bool) bool {
	return !s.closed && (s.free > s.reserve || proven && s.free > 0)
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
		s.free--
		return true
	}
	if !s.closed {
		n.queued = true
		w.push(n.ep.Org, n)
		s.waiting.Add(1)
	}
	return false
}

// contended reports whether somebody waits for a slot.
func (s *slots) contended() bool { return s.waiting.Load() > 0 }

// give returns a slot and passes free ones on. Called with no lane locked.
func (s *slots) give() {
	s.put()
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
		if started {
			return
		}
		s.put() // it had no use for it
	}
}

func (s *slots) put() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free++
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
			s.free--
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
