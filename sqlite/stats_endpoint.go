package sqlite

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
)

// How endpoints fare is counted in slots of five minutes, by when an outcome
// became durable. The slot that is filled is in memory, and stored once a minute:
// a crash forgets a minute of it. What is older than a day goes.
const (
	slotLength  = 5 * time.Minute
	hourSlots   = int64(time.Hour / slotLength)
	daySlots    = int64(24 * time.Hour / slotLength)
	slotsKept   = daySlots + hourSlots // in the table
	slotsEvery  = time.Minute
	slotsStep   = 500    // rows of one transaction
	maxFinished = 20_000 // finished slots that wait to be stored
)

// fares counts outcomes. A slot takes 0.7 KiB while its endpoint is busy.
type fares struct {
	swept int64 // the slot in which old rows were removed last; of the task

	mu       sync.Mutex
	open     map[int64]*fare // by endpoint
	finished []stored        // whose time is over, and that are not stored yet
}

// fare is how one endpoint fared in one slot.
type fare struct {
	slot  int64 // its time since 1970, in slots
	dirty bool  // has counted since it was stored
	deliver.Window
}

// stored is a fare on its way to the table.
type stored struct {
	endpoint int64
	fare
}

func slotAt(t time.Time) int64 { return t.UnixNano() / int64(slotLength) }

// count counts durable outcomes.
func (f *fares) count(records []deliver.Record, slot int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var last *fare
	lastEndpoint := int64(-1)
	for i := range records {
		r := &records[i]
		if r.Endpoint != lastEndpoint {
			last, lastEndpoint = f.slot(r.Endpoint, slot), r.Endpoint
		}
		last.Count(&r.Attempt.Outcome)
		last.dirty = true
	}
}

// slot is the endpoint's open fare; f.mu is held.
func (f *fares) slot(endpoint, slot int64) *fare {
	o := f.open[endpoint]
	switch {
	case o == nil:
		o = &fare{slot: slot}
		f.open[endpoint] = o
	case o.slot < slot:
		if o.dirty && len(f.finished) < maxFinished {
			f.finished = append(f.finished, stored{endpoint, *o})
		}
		*o = fare{slot: slot}
	}
	return o
}

// take returns what has to be stored, and forgets slots whose time is over.
func (f *fares) take(now int64) []stored {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := f.finished
	f.finished = nil
	for endpoint, o := range f.open {
		if o.dirty {
			list = append(list, stored{endpoint, *o})
			o.dirty = false
		}
		if o.slot < now {
			delete(f.open, endpoint)
		}
	}
	slices.SortFunc(list, func(a, b stored) int { return cmp.Or(cmp.Compare(a.slot, b.slot), cmp.Compare(a.endpoint, b.endpoint)) })
	return list
}

// back returns what could not be stored, for another time.
func (f *fares) back(list []stored) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range list {
		if o := f.open[s.endpoint]; o != nil && o.slot == s.slot {
			o.dirty = true
		} else if len(f.finished) < maxFinished {
			f.finished = append(f.finished, s)
		}
	}
}

// unstored calls add with what memory has of an endpoint. Each replaces what is
// stored of its slot.
func (f *fares) unstored(endpoint int64, add func(*fare)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.finished {
		if f.finished[i].endpoint == endpoint {
			add(&f.finished[i].fare)
		}
	}
	if o := f.open[endpoint]; o != nil {
		add(o)
	}
}

// loadFares takes up the slot that the last run was filling.
func (s *Store) loadFares() error {
	s.fares.open = make(map[int64]*fare)
	slot := slotAt(s.now())
	return s.w.c.query(func(r row) error {
		o := &fare{slot: slot}
		o.Succeeded, o.Failed = r.int(1), r.int(2)
		s.fares.open[r.int(0)] = o
		return o.Latencies.Parse(r.blob(3))
	}, "SELECT endpoint, succeeded, failed, latencies FROM endpoint_slots WHERE slot=?", slot)
}

// storeFares is a task of the store: once a minute, and at the end, it stores
// what was counted.
func (s *Store) storeFares() {
	tick := time.NewTicker(slotsEvery)
	defer tick.Stop()
	for open := true; open; {
		select {
		case <-tick.C:
		case <-s.stopped.Done():
			open = false
		}
		if err := s.flushFares(); err != nil && open {
			s.log.Warn("storing endpoint stats failed; they are stored in a minute", "error", err)
		}
	}
}

// flushFares stores what was counted, in small transactions, and removes what
// is a day old.
func (s *Store) flushFares() error {
	now := slotAt(s.now())
	list := s.fares.take(now)
	for len(list) > 0 {
		some := list[:min(len(list), slotsStep)]
		err := s.w.do(context.Background(), func(t *txn) error {
			for i := range some {
				v := &some[i]
				_, err := t.c.exec("INSERT OR REPLACE INTO endpoint_slots(slot, endpoint, succeeded, failed, latencies) VALUES(?,?,?,?,?)",
					v.slot, v.endpoint, v.Succeeded, v.Failed, v.Latencies.Append([]byte{}))
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			s.fares.back(list)
			return err
		}
		list = list[len(some):]
	}
	for more := s.fares.swept != now; more; {
		err := s.w.do(context.Background(), func(t *txn) error {
			n, err := t.c.exec("DELETE FROM endpoint_slots WHERE (slot, endpoint) IN (SELECT slot, endpoint FROM endpoint_slots WHERE slot<? LIMIT ?)", now-slotsKept, int64(slotsStep))
			more = n == slotsStep
			return err
		})
		if err != nil {
			return err
		}
	}
	s.fares.swept = now
	return nil
}

// EndpointStats says how an endpoint of the org fares. The hour and the day
// end now and begin with a slot of five minutes, so they can be shorter by that
// much. It wraps [ErrNotFound].
func (s *Store) EndpointStats(ctx context.Context, org, id string) (deliver.EndpointStats, error) {
	e, err := s.GetEndpoint(ctx, org, id)
	if err != nil {
		return deliver.EndpointStats{}, err
	}
	st := deliver.EndpointStats{Condition: e.Condition(), FailingSince: e.FailingSince}
	st.Pending, st.Dead = s.endpointCounts(e.Row)
	now := slotAt(s.now())
	slots := make(map[int64]*fare)
	err = s.read(func(scan func(...any) error) error {
		var v fare
		var latencies []byte
		if err := scan(&v.slot, &v.Succeeded, &v.Failed, &latencies); err != nil {
			return err
		}
		slots[v.slot] = &v
		return v.Latencies.Parse(latencies)
	}, `WITH RECURSIVE slots(slot) AS (SELECT ?1 UNION ALL SELECT slot+1 FROM slots WHERE slot<?2)
		SELECT v.slot, v.succeeded, v.failed, v.latencies FROM slots CROSS JOIN endpoint_slots v ON v.slot=slots.slot AND v.endpoint=?3`,
		now-daySlots+1, now, e.Row)
	if err != nil {
		return st, fmt.Errorf("stats of endpoint %s: %w", id, err)
	}
	s.fares.unstored(e.Row, func(f *fare) {
		v := *f
		slots[v.slot] = &v
	})
	for slot, v := range slots {
		if slot > now-daySlots && slot <= now {
			st.Day.Add(&v.Window)
		}
		if slot > now-hourSlots && slot <= now {
			st.Hour.Add(&v.Window)
		}
	}
	return st, nil
}

// endpointCounts is how many deliveries of an endpoint are pending and dead.
func (s *Store) endpointCounts(row int64) (pending, dead int64) {
	s.standing.mu.Lock()
	defer s.standing.mu.Unlock()
	c := s.standing.of[row]
	return c.pending, c.dead
}

// Backlogged is what one endpoint has to do, or cannot do any more.
type Backlogged struct {
	Endpoint      string // ep_…
	Pending, Dead int64
}

// Backlogged lists up to limit endpoints of the org that have pending or dead
// deliveries: those with the most pending ones first, then those with the most dead
// ones. It touches no disk.
func (s *Store) Backlogged(_ context.Context, org string, limit int) ([]Backlogged, error) {
	o, err := s.find(org)
	if err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	var list []Backlogged
	s.standing.mu.Lock()
	for _, row := range o.endpoints {
		if c, e := s.standing.of[row], s.endpoints[row]; c != (change{}) && e != nil {
			list = append(list, Backlogged{e.ID, c.pending, c.dead})
		}
	}
	s.standing.mu.Unlock()
	slices.SortFunc(list, func(a, b Backlogged) int {
		return cmp.Or(cmp.Compare(b.Pending, a.Pending), cmp.Compare(b.Dead, a.Dead), cmp.Compare(a.Endpoint, b.Endpoint))
	})
	return list[:min(len(list), limit)], nil
}

// standing counts the pending and dead deliveries of each endpoint that has
// some.
type standing struct {
	mu sync.Mutex
	of map[int64]change // by endpoint
}

// add brings the counts up to date.
func (c *standing) add(counts map[int64]change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for endpoint, more := range counts {
		have := c.of[endpoint]
		have.pending += more.pending
		have.dead += more.dead
		if have == (change{}) {
			delete(c.of, endpoint)
		} else {
			c.of[endpoint] = have
		}
	}
}
