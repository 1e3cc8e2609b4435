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
// A quarter, of all and of each share, is kept for lanes whose last attempt
// succeeded, so that thousands of endpoints that hang cannot keep a healthy one
// waiting.
type slots struct {
	waits  atomic.Bool // a lane waits that its organization's share has room for
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
// slots.mu, but for full.
type share struct {
	org    string
	lanes  int // that have a part in it
	used   int
	others int // of them, for lanes that were not proven
	turn   bool
	proven line
	other  line
	full   atomic.Bool // it is used up, and lanes wait for more
}

// line is the lanes of one organization that wait for a slot.
type line struct {
	lanes  []*lane
	listed bool // the organization takes turns for them
}

func (s *slots) init(n, perOrg int) {
	s.all, s.free, s.reserve, s.pace, s.most = n, n, min(n/4, 1024), paceBurst, min(perOrg, n)
	s.idle = make(chan struct{})
	s.shares = make(map[string]*share)
	s.proven.line = func(o *share) *line { return &o.proven }
	s.other.line = func(o *share) *line { return &o.other }
}

// setMost changes the share of each organization, and lets begin what has room by
// now. Called with no lane locked.
func (s *slots) setMost(perOrg int) {
	s.mu.Lock()
	s.most = min(perOrg, s.all)
	if !s.closed {
		for _, o := range s.shares {
			s.list(o)
		}
	}
	s.mu.Unlock()
	s.grant()
}

// share gives a lane a part in its organization's share.
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
	if o == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.lanes--; o.lanes == 0 {
		delete(s.shares, o.org)
	}
}

// open says whether a lane may have a slot now, its organization's share apart.
// Called with mu held, as are those up to take.
func (s *slots) open(proven bool) bool {
	if proven {
		return !s.closed && s.free > 0
	}
	return !s.closed && s.free > s.reserve && s.pace > 0
}

// may says whether the organization's share has room for one more.
func (s *slots) may(o *share, proven bool) bool {
	return o.used < s.most && (proven || o.others < s.most-s.most/4)
}

// use takes a free slot.
func (s *slots) use(o *share, proven bool) {
	o.used++
	o.turn = !o.turn
	s.free--
	s.scarce.Store(s.free <= s.reserve)
	if !proven {
		o.others++
		s.pace--
		if !s.pacing {
			s.pacing = true
			time.AfterFunc(pacePeriod, s.nextPeriod)
		}
	}
	s.list(o)
}

// list lets the organization take turns for those of its lanes that its share
// has room for. For the last of its slots, those that are proven and the others
// alternate.
func (s *slots) list(o *share) {
	waiting := len(o.proven.lanes)+len(o.other.lanes) > 0
	if !waiting && !o.proven.listed && !o.other.listed {
		o.full.Store(false)
		return
	}
	proven := len(o.proven.lanes) > 0 && s.may(o, true)
	other := len(o.other.lanes) > 0 && s.may(o, false)
	if proven && other && o.used == s.most-1 {
		proven, other = o.turn, !o.turn
	}
	s.proven.list(o, proven)
	s.other.list(o, other)
	// A slot that comes back is theirs who wait: until it is granted, nobody may go
	// on as if none of them did.
	granted := len(o.proven.lanes) > 0 || len(o.other.lanes) > 0 && o.others < s.most-s.most/4
	o.full.Store(waiting && o.used >= s.most || granted && o.full.Load())
	s.waits.Store(len(s.proven.orgs)+len(s.other.orgs) > 0)
}

func (s *slots) nextPeriod() {
	s.mu.Lock()
	s.pace, s.pacing = paceBurst, false
	s.mu.Unlock()
	s.grant()
}

// take gets a slot for the lane, or queues the lane for one. Called with the
// lane locked.
func (s *slots) take(n *lane, proven bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &s.other
	if proven {
		w = &s.proven
	}
	if len(w.orgs) == 0 && s.open(proven) && s.may(n.org, proven) && len(w.line(n.org).lanes) == 0 {
		s.use(n.org, proven)
		return true
	}
	if !s.closed {
		n.queued = true
		l := w.line(n.org)
		l.lanes = append(l.lanes, n)
		s.list(n.org)
	}
	return false
}

// contended reports whether somebody waits because there are too few slots, for
// all or for the organization.
func (s *slots) contended(o *share) bool {
	return s.scarce.Load() && s.waits.Load() || o.full.Load()
}

// give returns a slot and passes free ones on. Called with no lane locked.
func (s *slots) give(o *share, proven bool) {
	s.put(o, proven)
	s.grant()
}

// grant gives free slots to the lanes whose turn it is. Called with no lane
// locked.
func (s *slots) grant() {
	for {
		n, proven := s.next()
		if n == nil {
			return
		}
		n.mu.Lock()
		n.queued = false
		started := n.wants()
		if started {
			n.startWorker(proven)
			if n.ep.RateLimit == 0 {
				n.kick() // and queue for another, if the window allows
			}
		}
		n.mu.Unlock()
		if !started {
			s.put(n.org, proven) // it had no use for it
		}
	}
}

func (s *slots) put(o *share, proven bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o.used--
	if !proven {
		o.others--
	}
	s.free++
	s.scarce.Store(s.free <= s.reserve)
	if !s.closed {
		s.list(o)
	}
	s.checkIdle()
}

// checkIdle is called with mu held.
func (s *slots) checkIdle() {
	if s.closed && s.free == s.all {
		close(s.idle)
	}
}

// next takes a slot for the lane whose turn it is.
func (s *slots) next() (n *lane, proven bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, proven := range []bool{true, false} {
		w := &s.other
		if proven {
			w = &s.proven
		}
		if len(w.orgs) > 0 && s.open(proven) {
			o, n := w.pop()
			s.use(o, proven)
			return n, proven
		}
	}
	return nil, false
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

// turns is a round-robin of organizations, each with a round-robin of lanes.
type turns struct {
	orgs []*share
	line func(*share) *line
}

// list adds the organization, or takes it out.
func (t *turns) list(o *share, in bool) {
	l := t.line(o)
	if l.listed == in {
		return
	}
	if l.listed = in; in {
		t.orgs = append(t.orgs, o)
		return
	}
	t.orgs = slices.DeleteFunc(t.orgs, func(p *share) bool { return p == o })
}

// pop takes the next lane of the organization whose turn it is, which goes to the
// end.
func (t *turns) pop() (*share, *lane) {
	o := t.orgs[0]
	t.orgs = append(t.orgs[1:], o)
	l := t.line(o)
	n := l.lanes[0]
	if l.lanes = l.lanes[1:]; len(l.lanes) == 0 {
		l.lanes = nil
	}
	return o, n
}
