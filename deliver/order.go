package deliver

import (
	"math"
	"slices"
)

// orderBounds is how much order keeps in memory for one lane.
type orderBounds struct {
	waiting int // deliveries that wait for their turn
	each    int // of them, of one line
	lines   int // that are blocked
	rows    int // read from the books at once, of one line
}

// usualBounds are some 1.5 MB.
var usualBounds = orderBounds{waiting: 1024, each: 32, lines: 10_000, rows: 32}

// order says which of a lane's deliveries may be sent, so that those of one
// [Line] go one after the other, by event. A lane whose endpoint is not ordered
// has none. The lane's mutex guards it.
//
// A delivery comes from a front of the lane, is admitted to its line, and then
// either waits in memory for the one before it, or is held back: booked, without
// an attempt, as standing in its line (see [HeldBack]). The first happens behind
// a request that is on its way, the second behind one that failed and waits for
// its retry, which may take hours. So memory is bounded however deep a line
// is, and the fronts, which know nothing of lines, move on.
//
// The invariant: a pending delivery of a line that lies before one that may be
// sent is in memory, or is the blocker of its line, or is one of those that the
// line is behind of.
type order struct {
	rule  rule
	most  orderBounds
	known bool // the lines that are in the books were read
	// more: the books may have lines that are not in memory. The first delivery
	// of such a line makes its lane look.
	more    bool
	begun   int64 // when they were read, in ms
	rest    bool  // among those are some whose first is held back: they are looked for again
	opening bool  // a worker looks for the line of the delivery that it took; nobody takes another
	lines   map[int64]*lineState
	active  []*lineState // those with waiting ones, oldest first
	waiting int          // of all lines
	// blockers are the events of the lines' blockers.
	blockers map[int64]*lineState
	out      []outcast    // to be held back by a worker
	hungry   []*lineState // to be read from the books
	// failing are keys whose deliveries failed since the last success, at most as
	// many as open a circuit.
	failing []int64
	// leaves are the events that were given to the books to be held back, by the
	// key of their line.
	leaves map[int64]int64
	// flights are the events whose request, or its outcome, is on its way to the
	// books, by the key of their line.
	flights map[int64]int64
}

// lineState is one line, as long as anything of it is under way or blocked.
type lineState struct {
	key       int64
	flying    int64    // the event that is in flights; 0: none
	waiting   []Ticket // by event
	blocker   Place    // the first that failed and waits until it is due; zero: none
	elsewhere bool     // the blocker is in memory: in a front, or on its way since before the order came to be
	leaving   int      // to be held back, and not booked yet
	first     int64    // of those, the first event
	behind    bool     // more stand in the books
	mark      int64    // when behind: nothing before it is missing from memory
	listed    bool     // in hungry
}

// outcast is a delivery that is to be held back.
type outcast struct {
	ticket Ticket
	line   Line
}

func newOrder(r rule, most orderBounds) *order {
	return &order{
		rule: r, most: most, lines: map[int64]*lineState{}, blockers: map[int64]*lineState{},
		leaves: map[int64]int64{}, flights: map[int64]int64{},
	}
}

// line finds or makes one. What the books have of one that is made is unknown
// if they have more than memory.
func (o *order) line(key int64) *lineState {
	l := o.lines[key]
	if l == nil {
		l = &lineState{key: key}
		o.lines[key] = l
		if o.more {
			l.fallBehind(0)
			o.hunger(l)
		}
	}
	return l
}

func (l *lineState) fallBehind(event int64) {
	if !l.behind || event < l.mark {
		l.mark = event
	}
	l.behind = true
}

// free reports whether the event may be sent, as far as those of its line go
// that are not in memory.
func (l *lineState) free(event int64) bool {
	return (l.blocker == Place{} || event < l.blocker.Event) && (l.leaving == 0 || event < l.first) && (!l.behind || event < l.mark)
}

// admit takes a delivery that was taken from a front and stands in the line.
func (o *order) admit(t Ticket, key int64) {
	l := o.line(key)
	if l.blocker.Event == t.Event {
		o.blockWith(l, Place{}) // it has come due
	}
	unread := l.behind && l.mark == 0
	full := len(l.waiting) >= o.most.each || o.waiting >= o.most.waiting && len(o.flights) > 0
	if full || !unread && !l.free(t.Event) {
		o.cast(l, t)
		return
	}
	o.wait(l, t)
}

// wait puts the ticket where it belongs among those of its line.
func (o *order) wait(l *lineState, t Ticket) {
	i, _ := slices.BinarySearchFunc(l.waiting, t.Event, func(w Ticket, event int64) int { return int(w.Event - event) })
	if len(l.waiting) == 0 {
		o.active = append(o.active, l)
	}
	l.waiting = slices.Insert(l.waiting, i, t)
	o.waiting++
}

// cast makes the delivery one of those that are to be held back.
func (o *order) cast(l *lineState, t Ticket) {
	l.leave(t.Event)
	o.out = append(o.out, outcast{t, Line{o.rule.id, l.key}})
}

func (l *lineState) leave(event int64) {
	if l.leaving == 0 || event < l.first {
		l.first = event
	}
	l.leaving++
}

// next is the oldest delivery that may be sent, and its line, which is nil when there
// is none. Nothing at or after fresh may go before what has still to be taken
// from the fronts.
func (o *order) next(fresh int64) (i int, l *lineState) {
	for at, candidate := range o.active {
		w := candidate.waiting[0].Event
		if candidate.flying == 0 && w < fresh && candidate.free(w) && (l == nil || w < l.waiting[0].Event) {
			i, l = at, candidate
		}
	}
	return i, l
}

// take lets what next found go.
func (o *order) take(i int, l *lineState) Ticket {
	t := l.waiting[0]
	l.waiting = slices.Delete(l.waiting, 0, 1)
	o.waiting--
	if len(l.waiting) == 0 {
		l.waiting = nil
		o.active = slices.Delete(o.active, i, i+1)
	}
	l.flying = t.Event
	o.flights[t.Event] = l.key
	return t
}

// opens reports whether the fresh one may be taken from its front: if there is
// room for it to wait, or if all others wait for it. When all stand in one line, it
// stays there until its turn comes.
func (o *order) opens(fresh int64) bool {
	if !o.rule.single() {
		return o.waiting < o.most.waiting || len(o.flights) == 0
	}
	l := o.lines[0]
	return l == nil || l.flying == 0 && l.free(fresh) && (len(l.waiting) == 0 || fresh < l.waiting[0].Event)
}

// failed hears that the delivery whose request is on its way is due again at p:
// those of its line that wait behind it are held back.
func (o *order) failed(p Place) {
	l := o.lines[o.flights[p.Event]]
	if l == nil || l.flying != p.Event {
		return
	}
	o.block(l, p)
}

// doubtful hears the same of a delivery that somebody may have cancelled: the books
// are asked whether it is the blocker.
func (o *order) doubtful(event int64) {
	if l := o.lines[o.flights[event]]; l != nil {
		l.fallBehind(event)
	}
}

// block notes that a delivery which waits until it is due lies at p.
func (o *order) block(l *lineState, p Place) {
	switch {
	case l.blocker == Place{} || p.Event == l.blocker.Event:
		o.blockWith(l, p)
	case p.Event < l.blocker.Event:
		l.fallBehind(l.blocker.Event)
		o.blockWith(l, p)
	default:
		l.fallBehind(p.Event)
	}
	o.expel(l, l.blocker.Event)
}

// blockWith sets the blocker; the zero Place: there is none.
func (o *order) blockWith(l *lineState, p Place) {
	if l.blocker != (Place{}) {
		delete(o.blockers, l.blocker.Event)
	}
	l.elsewhere = false
	if l.blocker = p; p != (Place{}) {
		o.blockers[p.Event] = l
	}
}

// expel holds back those of the line that wait and lie after the event.
func (o *order) expel(l *lineState, after int64) {
	i := slices.IndexFunc(l.waiting, func(t Ticket) bool { return t.Event > after })
	if i < 0 {
		return
	}
	for _, t := range l.waiting[i:] {
		o.cast(l, t)
	}
	o.waiting -= len(l.waiting) - i
	clear(l.waiting[i:])
	l.waiting = l.waiting[:i]
	if i == 0 {
		o.active = slices.DeleteFunc(o.active, func(a *lineState) bool { return a == l })
	}
}

// settled hears that there is nothing on its way any more: the outcome of the
// request is durable, or none was made. The next of the line may go.
func (o *order) settled(event int64) {
	key, ok := o.flights[event]
	if !ok {
		return
	}
	delete(o.flights, event)
	if l := o.lines[key]; l != nil && l.flying == event {
		l.flying = 0
		o.tidy(l)
	}
}

// repeats reports whether the outcome is one more failure of a line that has
// failed since the last success. One line that fails time and again must not
// open the circuit for all others.
func (o *order) repeats(event int64, c Class) bool {
	key, ok := o.flights[event]
	switch {
	case o.rule.single() || c == Ours || !ok:
		return false
	case c == OK:
		o.failing = o.failing[:0]
		return false
	case slices.Contains(o.failing, key):
		return true
	}
	if len(o.failing) < FailuresToOpen {
		o.failing = append(o.failing, key)
	}
	return false
}

// back hears that the delivery lies in its front again, unsent.
func (o *order) back(t Ticket) {
	if l := o.lines[o.flights[t.Event]]; l != nil && l.flying == t.Event {
		o.blockWith(l, t.Place()) // there was none before it
	}
	o.settled(t.Event)
}

// left hears that it is durable that a delivery is held back.
// dropped hears that somebody cancelled a delivery, and reports whether that may
// free others of which nothing is in memory.
// adopt hears that it is durable that a delivery is held back, which may have been given to
// the books before o came to be. Unless it is held still, it was released already.
// look reads lines again whose blocker should have come long ago: somebody may
// have ended it. For the same reason all are read again now and then, if not
// all are in memory.
// tidy looks for what a line needs next: to be read, or to be forgotten.
// idle reports whether nothing of the line is in memory.
func (l *lineState) idle() bool { return l.flying == 0 && len(l.waiting) == 0 && l.leaving == 0 }

// released hears that the books can be believed again as to a delivery. When too
// many lines are blocked, one of which the books know all may be forgotten: it is
// found again when its blocker comes due, or another of its deliveries comes.
// hungriest takes the next line that is to be read, and from where. While many
// wait, only lines of which some do are read.
// begin takes in the first of each line that the books have.
// read takes in those of the line that the books have from the event on, at
// most as many as it reads, and returns those that wait now. Those that memory has
// already are in held, and of them those in ended are not pending any more.
// has reports whether the delivery is one that the line knows of.
// forget drops what waits, since the lane stops: it is all in the books. What is on
// its way is remembered.
// noFresh is after every event.
const noFresh = math.MaxInt64
