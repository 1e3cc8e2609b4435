package fanouttest

import "github.com/grapnel-hooks/grapnel/deliver"

// choose picks one delivery of those that an endpoint is left for.
func (s *sim) choose(fits func(*delivery) bool) (k deliver.Key, org string, ok bool) {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	var keys []deliver.Key
	for _, e := range s.disk.events {
		for _, d := range e.deliveries {
			if !s.disk.endpoint(d.Endpoint).removed && fits(d) {
				keys = append(keys, d.Key)
			}
		}
	}
	if len(keys) == 0 {
		return k, "", false
	}
	k = keys[s.dice.IntN(len(keys))]
	return k, s.disk.events[k.Event-1].org.ID, true
}

// retry asks for a delivery again, by hand.
func (s *sim) retry() {
	k, org, ok := s.choose(func(*delivery) bool { return true })
	if !ok {
		return
	}
	d := s.life()
	delete(s.ended, k)
	s.mu.Lock()
	delete(s.cancelled, k)
	s.mu.Unlock()
	_, err := d.books.RetryDelivery(s.ctx, org, k)
	s.refused(err)
	if err == nil {
		s.tracef("delivery %v is retried", k)
		d.lanes.Recheck(k.Endpoint)
	}
}

// cancel ends a pending delivery by hand.
func (s *sim) cancel() {
	k, org, ok := s.choose(func(d *delivery) bool { return d.state == deliver.Pending })
	if !ok {
		return
	}
	d := s.life()
	err := d.books.CancelDelivery(s.ctx, org, k)
	s.refused(err)
	if err == nil {
		s.tracef("delivery %v is cancelled", k)
		d.lanes.Drop(k)
		s.mu.Lock()
		s.cancelled[k] = 0
		s.mu.Unlock()
	}
}
