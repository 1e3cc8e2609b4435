package deliver

// front is one of a lane's two queues, and how much of it is in memory.
type front struct {
	tickets ring
	bulk    ring // of retries: those that a replay asked for; they go behind everything
	behind  bool
	mark    Place // when behind: nothing before it is missing from memory
	refused Place // the earliest that was refused since the pager's pass began; zero: none
}

// len is how many tickets are in memory.
func (f *front) len() int { return f.tickets.len() + f.bulk.len() }

// first is the ring whose turn it is when nothing else waits.
func (f *front) first() *ring {
	if f.tickets.len() > 0 {
		return &f.tickets
	}
	return &f.bulk
}

// queue is the ring that the ticket belongs to.
func (f *front) queue(t *Ticket) *ring {
	if t.Trigger == Replay && t.Spent == 0 && t.Due != 0 {
		return &f.bulk
	}
	return &f.tickets
}

// refuse notes that the delivery at p is in the books only.
func (f *front) refuse(p Place) {
	if !f.behind || p.Less(f.mark) {
		f.mark = p
	}
	f.behind = true
	if f.refused == (Place{}) || p.Less(f.refused) {
		f.refused = p
	}
}

// caughtUp ends a pass that looked at all before end (zero: at everything).
func (f *front) caughtUp(end Place) {
	next := end
	if f.refused != (Place{}) && (next == (Place{}) || f.refused.Less(next)) {
		next = f.refused
	}
	f.mark, f.refused = next, Place{}
	f.behind = next != Place{}
}

// ring is a queue of tickets that grows by doubling and gives memory back when
// it is empty.
type ring struct {
	buf  []Ticket
	head int
	n    int
}

func (r *ring) len() int { return r.n }

// first is the ticket that pop would take.
func (r *ring) first() *Ticket { return &r.buf[r.head] }

func (r *ring) grow() {
	if r.n < len(r.buf) {
		return
	}
	b := make([]Ticket, max(2*len(r.buf), 4))
	for i := range r.n {
		b[i] = r.buf[(r.head+i)%len(r.buf)]
	}
	r.buf, r.head = b, 0
}

func (r *ring) push(t Ticket) {
	r.grow()
	r.buf[(r.head+r.n)%len(r.buf)] = t
	r.n++
}

func (r *ring) unpop(t Ticket) {
	r.grow()
	r.head = (r.head - 1 + len(r.buf)) % len(r.buf)
	r.buf[r.head] = t
	r.n++
}

func (r *ring) pop() Ticket {
	t := r.buf[r.head]
	r.buf[r.head] = Ticket{}
	r.head = (r.head + 1) % len(r.buf)
	r.n--
	if r.n == 0 && len(r.buf) > 64 {
		*r = ring{}
	}
	return t
}
