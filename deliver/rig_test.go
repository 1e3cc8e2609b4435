package deliver

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver/sign"
)

// books is the least that satisfies Books: rows in a map, booked at once or
// when a test says so.
type books struct {
	mu      sync.Mutex
	rows    map[Key]Ticket
	lines   map[Key]Line // where they stand
	done    map[Key]Transition
	booked  func([]Record)
	held    bool // records wait for flush
	waiting []Record
	// snapshot, if set, is called when the books have been read and before the
	// answer is returned.
	snapshot func()
	backlogs func() // the same of Backlogs

	// of and tried are indexes for tests with many rows; nil: none, and rows may
	// be changed by hand.
	of    map[int64][]int64 // events by endpoint
	tried map[Key]Ticket

	health   map[int64]Health
	turns    []Turn
	disabled map[int64]string
}

func newBooks() *books {
	return &books{
		rows: map[Key]Ticket{}, lines: map[Key]Line{}, done: map[Key]Transition{},
		health: map[int64]Health{}, disabled: map[int64]string{},
	}
}

// add commits fresh deliveries and returns their tickets.
func (b *books) add(endpoint int64, events ...int64) []Ticket {
	b.mu.Lock()
	defer b.mu.Unlock()
	var ts []Ticket
	for _, e := range events {
		t := Ticket{Key: Key{Event: e, Endpoint: endpoint}, Payload: &Payload{Event: e, Body: []byte("{}")}}
		stored := t
		stored.Payload = nil
		b.rows[t.Key] = stored
		if b.of != nil {
			b.of[endpoint] = append(b.of[endpoint], e)
		}
		ts = append(ts, t)
	}
	return ts
}

func (b *books) OnBooked(f func([]Record)) { b.booked = f }

func (b *books) Record(_ context.Context, r Record) error {
	b.mu.Lock()
	b.waiting = append(b.waiting, r)
	held := b.held
	b.mu.Unlock()
	if !held {
		b.flush()
	}
	return nil
}

func (b *books) flush() {
	b.mu.Lock()
	rs := b.waiting
	b.waiting = nil
	for _, r := range rs {
		if r.Health != nil {
			b.keep(r.Endpoint, *r.Health)
		}
		if r.Next.Disable != "" {
			b.disabled[r.Endpoint] = r.Next.Disable
		}
		if _, ok := b.rows[r.Key]; !ok {
			continue // cancelled meanwhile
		}
		b.place(&r)
		if r.Held {
			t := b.rows[r.Key]
			t.Due = HeldBack
			b.rows[r.Key] = t
			continue
		}
		if r.Next.State != Pending {
			delete(b.rows, r.Key)
			delete(b.tried, r.Key)
			b.done[r.Key] = r.Next
			continue
		}
		b.put(Ticket{
			Key: r.Key, Due: millis(r.Next.Due), Attempts: r.Attempt.Number, Spent: r.Next.Spent, Trigger: Retry,
		})
	}
	b.mu.Unlock()
	b.booked(rs)
}

func (b *books) sorted() []Ticket { return b.find(nil, func(Place) bool { return true }) }

// find lists what is at some places, of some endpoints (nil: all); b.mu is held.
func (b *books) find(endpoints []int64, at func(Place) bool) []Ticket {
	of := map[int64]bool{}
	for _, e := range endpoints {
		of[e] = true
	}
	var ts []Ticket
	for t := range b.all(endpoints) {
		if at(t.Place()) && (endpoints == nil || of[t.Endpoint]) {
			ts = append(ts, t)
		}
	}
	sortTickets(ts)
	return ts
}

func sortTickets(ts []Ticket) {
	slices.SortFunc(ts, func(x, y Ticket) int {
		return cmp.Or(cmp.Compare(x.Due, y.Due), cmp.Compare(x.Event, y.Event), cmp.Compare(x.Endpoint, y.Endpoint))
	})
}

// all yields at least the rows of the endpoints.
func (b *books) all(endpoints []int64) iter.Seq[Ticket] {
	if b.of == nil || endpoints == nil {
		return maps.Values(b.rows)
	}
	return func(yield func(Ticket) bool) {
		for _, endpoint := range endpoints {
			for _, event := range b.of[endpoint] {
				if t, ok := b.rows[Key{Event: event, Endpoint: endpoint}]; ok && !yield(t) {
					return
				}
			}
		}
	}
}

// retries yields at least the rows that were attempted.
func (b *books) retries() iter.Seq[Ticket] {
	if b.of == nil {
		return maps.Values(b.rows)
	}
	return maps.Values(b.tried)
}

// pending lists all, by place.
func (b *books) pending() []Ticket {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sorted()
}

func (b *books) Pending(_ context.Context, from, to Place, endpoints []int64, limit int) ([]Ticket, error) {
	b.mu.Lock()
	at := func(p Place) bool { return !p.Less(from) && !to.Less(p) }
	var ts []Ticket
	if endpoints == nil && from.Due > 0 {
		for t := range b.retries() {
			if at(t.Place()) {
				ts = append(ts, t)
			}
		}
		sortTickets(ts)
	} else {
		ts = b.find(endpoints, at)
	}
	b.mu.Unlock()
	ts = ts[:min(len(ts), limit)]
	if b.snapshot != nil {
		b.snapshot()
	}
	return ts, nil
}

func (b *books) Backlogs(_ context.Context, endpoints []int64) ([]Backlog, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	found := map[int64]*Backlog{}
	for _, t := range b.find(endpoints, func(Place) bool { return true }) {
		l := found[t.Endpoint]
		if l == nil {
			l = &Backlog{Endpoint: t.Endpoint}
			found[t.Endpoint] = l
		}
		switch {
		case t.Due == 0 && l.Fresh == 0:
			l.Fresh = t.Event
		case t.Due != 0 && l.Due == (Place{}):
			l.Due = t.Place()
		}
	}
	var ls []Backlog
	for _, l := range found {
		ls = append(ls, *l)
	}
	if b.backlogs != nil {
		b.mu.Unlock()
		b.backlogs()
		b.mu.Lock()
	}
	return ls, nil
}

func (b *books) Release(_ context.Context, endpoints []int64, due int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range b.find(endpoints, func(p Place) bool { return p.Due > 0 && p.Due < HeldBack }) {
		t.Due = due
		b.put(t)
	}
	return nil
}

// put stores a row that was attempted; b.mu is held.
func (b *books) put(t Ticket) {
	b.rows[t.Key] = t
	if b.of != nil {
		b.tried[t.Key] = t
	}
}

func (b *books) NoteHealth(_ context.Context, notes []HealthNote) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range notes {
		b.keep(n.Endpoint, n.Health)
		if n.Disable != "" {
			b.disabled[n.Endpoint] = n.Disable
		}
	}
	return nil
}

// healthOf is the health that is booked.
func (b *books) healthOf(endpoint int64) Health {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.health[endpoint]
}

// disabledFor is why the endpoint was disabled.
func (b *books) disabledFor(endpoint int64) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.disabled[endpoint]
}

// told lists the turns that were booked.
func (b *books) told() []Turn {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.turns)
}

// keep books a health, if it is newer; b.mu is held.
func (b *books) keep(endpoint int64, h Health) {
	before := b.health[endpoint]
	if h.Step <= before.Step {
		return
	}
	b.health[endpoint] = h
	if turn := Turned(before, h); turn != NoTurn {
		b.turns = append(b.turns, turn)
	}
}

func (b *books) NextDue(_ context.Context, after int64) (next int64, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for t := range b.retries() {
		if t.Due > after && (next == 0 || t.Due < next) {
			next = t.Due
		}
	}
	return next, nil
}

// source knows every payload, unless a test takes some away.
type source struct {
	mu   sync.Mutex
	away bool
	lost map[int64]bool
	// body makes the bodies; nil: all are {}.
	body func(event int64) []byte
}

func (s *source) payload(event int64) *Payload {
	p := &Payload{Event: event, Body: []byte("{}")}
	if s.body != nil {
		p.Body = s.body(event)
	}
	return p
}

func (s *source) Payloads(_ context.Context, events []int64) (map[int64]*Payload, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return nil, errors.New("the broker is away")
	}
	found := map[int64]*Payload{}
	for _, e := range events {
		if s.lost[e] {
			found[e] = nil
		} else {
			found[e] = s.payload(e)
		}
	}
	return found, nil
}

// rig is lanes with everything around them made up.
type rig struct {
	t     *testing.T
	books *books
	src   *source
	lanes *Lanes
	stop  context.CancelFunc
	ended chan error

	mu   sync.Mutex
	sent []Key
	// answer says what comes of a request; it may block until ctx ends.
	answer func(ctx context.Context, k Key, attempt int) Outcome
}

func ok(context.Context, Key, int) Outcome { return Outcome{Class: OK, Status: 204} }

func newRig(t *testing.T, maxInFlight int) *rig { return newRigOn(t, newBooks(), maxInFlight) }

// newRigOn is what starts after a crash: new lanes on the same books.
func newRigOn(t *testing.T, b *books, maxInFlight int) *rig {
	r := &rig{t: t, books: b, src: &source{lost: map[int64]bool{}}, ended: make(chan error, 1), answer: ok}
	r.lanes = NewLanes(LanesOptions{
		Books: r.books, Source: r.src, MaxInFlight: maxInFlight, MaxPerOrg: maxInFlight, Rand: func() float64 { return 0.5 },
		Send: func(ctx context.Context, _ *Target, _ *Payload, k Key, attempt int, _ time.Time) Outcome {
			r.mu.Lock()
			r.sent = append(r.sent, k)
			answer := r.answer
			r.mu.Unlock()
			return answer(ctx, k, attempt)
		},
	})
	return r
}

func (r *rig) endpoint(row int64, change ...func(*Endpoint)) {
	r.t.Helper()
	ep := Endpoint{
		Row: row, ID: "ep_1", Org: "acme", URL: "http://127.0.0.1:1/", Secrets: []Secret{{Secret: sign.NewSecret()}},
		Timeout: DefaultTimeout, Retry: DefaultPolicy, Concurrency: DefaultConcurrency,
	}
	for _, c := range change {
		c(&ep)
	}
	if err := r.lanes.Set(ep); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) run() {
	ctx, stop := context.WithCancel(r.t.Context())
	r.stop = stop
	go func() { r.ended <- r.lanes.Run(ctx) }()
}

// end stops the lanes and waits for them.
func (r *rig) end() {
	r.t.Helper()
	r.stop()
	if err := <-r.ended; err != nil {
		r.t.Fatalf("Run: %v", err)
	}
}

// times counts how often each event was sent to the endpoint.
func (r *rig) times(endpoint int64) map[int64]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := map[int64]int{}
	for _, k := range r.sent {
		if k.Endpoint == endpoint {
			n[k.Event]++
		}
	}
	return n
}

func (r *rig) wantOnce(endpoint, from, to int64) {
	r.t.Helper()
	n := r.times(endpoint)
	for e := from; e <= to; e++ {
		if n[e] != 1 {
			r.t.Errorf("endpoint %d: event %d sent %d times, want once", endpoint, e, n[e])
			return
		}
	}
}

func upTo(n int64) []int64 {
	es := make([]int64, n)
	for i := range es {
		es[i] = int64(i) + 1
	}
	return es
}

// hang answers when the request's context ends or the timeout of an endpoint
// has passed.
func hang(ctx context.Context, _ Key, _ int) Outcome {
	select {
	case <-time.After(DefaultTimeout):
		return Outcome{Class: Timeout}
	case <-ctx.Done():
		return Outcome{Class: Ours}
	}
}
