package deliver

import (
	"slices"
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
// No organization has more than its share.
//
// A quarter is kept for lanes whose last attempt succeeded, so that thousands
// of endpoints that hang cannot keep a healthy one waiting.
type slots struct {
	waits  atomic.Bool // a lane waits whose organization has not its share
	scarce atomic.Bool // none is free but for the reserve

	mu      sync.Mutex
	all     int
	most    int // of one organization
	free    int
	reserve int
	closed  bool
	idle    chan struct{} // closed once closed and all are free
	proven  turns
	other   turns
	pace    int  // requests that other may still start in this period
	pacing  bool // a timer begins the next period
	shares  map[string]*share
}

// share is what one organization has of the slots. Its fields are guarded by
// slots.mu.
type share struct {
	org    string
	lanes  int // that have it
	used   int
	proven line
	other  line
	full   atomic.Bool // it has its share, and lanes of its own wait for more
}

// line is the lanes of one organization that wait for a slot.
type line struct {
	lanes  []*lane
	listed bool // its organization is in turns
}

func (s *slots) init(n, perOrg int) {
	s.all, s.free, s.reserve, s.pace, s.most = n, n, min(n/4, 1024), paceBurst, perOrg
	s.idle = make(chan struct{})
	s.shares = make(map[string]*share)
	s.proven.line = func(o *share) *line { return &o.proven }
	s.other.line = func(o *share) *line { return &o.other }
}

// share gives a lane of the organization the share that it has a part in.
func (s *slots) share(org string) *share {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.shares[org]
	if o == nil {
		o = &share{org: org}
		s.shares[org] = o
	}
	o.lanes++
	return o
}

// unshare forgets a lane.
func (s *slots) unshare(o *share) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o == nil {
		return
	}
	if o.lanes--; o.lanes == 0 {
		delete(s.shares, o.org)
	}
}

// open says whether a lane of the organization may have a slot now. Called with
// mu held, as are use and checkIdle.
func (s *slots) open(o *share, proven bool) bool {
	return o.used < s.most && s.opens(proven)
}

func (s *slots) opens(proven bool) bool {
	if proven {
		return !s.closed && s.free > 0
	}
	return !s.closed && s.free > s.reserve && s.pace > 0
}

// use takes a free slot.
func (s *slots) use(o *share, proven bool) {
	o.used++
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
	if len(w.orgs) == 0 && s.open(n.org, n.proven) {
		s.use(n.org, n.proven)
		s.unlist(n.org)
		return true
	}
	if !s.closed {
		n.queued = true
		w.push(n.org, n)
		s.list(n.org)
	}
	return false
}

// list lets the organization take turns again for what its lanes wait for, unless
// it has its share. Called with mu held.
func (s *slots) list(o *share) {
	may := o.used < s.most
	for _, w := range []*turns{&s.proven, &s.other} {
		if l := w.line(o); may && !l.listed && len(l.lanes) > 0 {
			l.listed = true
			w.orgs = append(w.orgs, o)
		}
	}
	o.full.Store(!may && len(o.proven.lanes)+len(o.other.lanes) > 0)
	s.waits.Store(len(s.proven.orgs)+len(s.other.orgs) > 0)
}

// contended reports whether somebody waits because there are too few slots, for
// all or for the organization.
func (s *slots) contended(o *share) bool {
	return s.scarce.Load() && s.waits.Load() || o.full.Load()
}

// give returns a slot and passes free ones on. Called with no lane locked.
func (s *slots) give(o *share) {
	s.put(o)
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
		started := n.wants()
		if started {
			n.startWorker()
			if n.ep.RateLimit == 0 {
				n.kick() // and queue for another, if the window allows
			}
		}
		n.mu.Unlock()
		if !started {
			s.put(n.org) // it had no use for it
		}
	}
}

func (s *slots) put(o *share) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o.used--
	s.free++
	s.scarce.Store(s.free <= s.reserve)
	if !s.closed && len(o.proven.lanes)+len(o.other.lanes) > 0 {
		s.list(o)
	}
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
	for i, w := range []*turns{&s.proven, &s.other} {
		proven := i == 0
		if len(w.orgs) == 0 || !s.opens(proven) {
			continue
		}
		o := w.orgs[0]
		n := w.pop()
		s.use(o, proven)
		s.unlist(o)
		s.list(o)
		return n
	}
	return nil
}

// unlist sets an organization that has its share aside, with all that its lanes
// wait for. Called with mu held.
func (s *slots) unlist(o *share) {
	if o.used < s.most {
		return
	}
	for _, w := range []*turns{&s.proven, &s.other} {
		if l := w.line(o); l.listed {
			l.listed = false
			w.orgs = slices.DeleteFunc(w.orgs, func(p *share) bool { return p == o })
		}
	}
}

// close gives out no more slots, and waits until all have come back.
func (s *slots) close() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		s.proven.orgs, s.other.orgs = nil, nil
		s.waits.Store(false)
		s.checkIdle()
	}
	s.mu.Unlock()
	<-s.idle
}

// turns is a round-robin of organizations, each with a round-robin of lanes. An
// organization is listed at most once, and only while lanes of it wait and it
// has not its share.
type turns struct {
	orgs []*share
	line func(*share) *line
}

func (t *turns) push(o *share, n *lane) {
	l := t.line(o)
	l.lanes = append(l.lanes, n)
}

// pop takes the next lane of the organization whose turn it is, and puts the
// organization at the end.
func (t *turns) pop() *lane {
	o := t.orgs[0]
	l := t.line(o)
	n := l.lanes[0]
	l.lanes = l.lanes[1:]
	t.orgs = t.orgs[1:]
	if len(l.lanes) == 0 {
		l.lanes, l.listed = nil, false
	} else {
		t.orgs = append(t.orgs, o)
	}
	return n
}
