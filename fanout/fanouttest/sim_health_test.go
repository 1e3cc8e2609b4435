package fanouttest

import (
	"context"
	"math"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
)

// pulse is what a naive observer knows of the requests at one endpoint during
// one life of the daemon. Of what happens in the same moment the order is not
// known; there it takes what allows more.
type pulse struct {
	row       int       // failures one after the other
	succeeded time.Time // last
	epoch     int       // of the window: it begins anew when the circuit closes
	wide      int       // how many may be in flight of this epoch
	flying    int       // of this epoch
	begun     []time.Time

	open     bool
	opened   time.Time
	probes   int       // failed
	probing  int       // in flight
	earliest time.Time // of the next probe

	held, heldSince time.Time
	paused          time.Time // zero: it is not
	off             bool      // paused or disabled
}

// flight is one request under way.
type flight struct {
	endpoint int64
	epoch    int
	probe    bool
}

// epochs never repeat, so that a flight of before belongs to none.
func (s *sim) newPulse() *pulse {
	s.epochs++
	return &pulse{epoch: s.epochs, wide: 1}
}

// watch begins to observe the endpoints of a new life, with the health that its
// books have.
func (s *sim) watch(d *daemon, endpoints []deliver.Endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pulses = map[int64]*pulse{}
	for _, ep := range endpoints {
		s.keyed[ep.Row] = ep.OrderedBy != ""
		if known := s.durable[ep.Row]; ep.Step < known.Step {
			s.violatedLocked("life %d begins with health %+v of endpoint %d, and %+v was durable", d.life, ep.Health, ep.Row, known)
		}
		p := s.newPulse()
		s.pulses[ep.Row] = p
		if ep.Open() {
			p.open, p.opened, p.probes, p.earliest = true, time.Now().Add(-1), ep.Probes, ep.ProbeAt
		}
		p.held, p.heldSince = ep.HeldUntil, time.Now().Add(-1)
		p.off = !ep.Enabled() || ep.Paused
		if ep.Paused {
			p.paused = time.Now().Add(-1)
		}
	}
}

// toldOf hears of a change before the lanes do.
func (s *sim) toldOf(ep deliver.Endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keyed[ep.Row] = ep.OrderedBy != ""
	p := s.pulses[ep.Row]
	off := !ep.Enabled() || ep.Paused
	switch {
	case off && p != nil && p.off:
	case off || p == nil || p.off:
		p = s.newPulse() // it begins anew, when it does
		p.off = off
		if ep.Paused {
			p.paused = time.Now()
		}
		s.pulses[ep.Row] = p
	default:
		p.earliest = time.Now() // whatever was wrong may have been changed
	}
}

// departs checks that a request may begin.
func (s *sim) departs(d *daemon, k deliver.Key) flight {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := flight{endpoint: k.Endpoint}
	p := s.pulses[k.Endpoint]
	if p == nil || d.dead.Load() {
		return f
	}
	now, ep := time.Now(), &s.disk.endpoints[k.Endpoint-1].Endpoint
	f.epoch = p.epoch
	p.flying++
	switch {
	case !p.paused.IsZero() && now.After(p.paused):
		s.violatedLocked("endpoint %d is paused, and gets %v", k.Endpoint, k)
	case now.Before(p.held) && now.After(p.heldSince):
		s.violatedLocked("endpoint %d asked to be left alone until %v, and gets %v", k.Endpoint, p.held, k)
	case p.open && now.After(p.opened):
		f.probe = true
		if p.probing++; p.probing > 1 {
			s.violatedLocked("endpoint %d is failing, and gets %d requests at once", k.Endpoint, p.probing)
		}
		if now.Before(p.earliest) {
			s.violatedLocked("endpoint %d is failing, and is probed %v too early", k.Endpoint, p.earliest.Sub(now))
		}
	case p.flying > p.wide:
		s.violatedLocked("endpoint %d gets %d requests at once, %d are due to its successes", k.Endpoint, p.flying, p.wide)
	}
	if limit := ep.RateLimit; limit > 0 {
		p.begun = append(p.begun, now)
		for now.Sub(p.begun[0]) >= time.Second {
			p.begun = p.begun[1:]
		}
		if len(p.begun) > int(math.Ceil(limit)) {
			s.violatedLocked("endpoint %d gets %d requests within a second, its limit is %v", k.Endpoint, len(p.begun), limit)
		}
	}
	return f
}

// arrives learns what came of a request.
func (s *sim) arrives(d *daemon, f flight, o *deliver.Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pulses[f.endpoint]
	if p == nil || d.dead.Load() {
		return
	}
	now := time.Now()
	own := f.epoch == p.epoch
	if own {
		p.flying--
		if f.probe {
			p.probing--
		}
	}
	switch o.Class {
	case deliver.Ours:
		if own && f.probe {
			p.earliest = now.Add(time.Second)
		}
		return
	case deliver.OK:
		p.row, p.succeeded = 0, now
		p.wide++
		if p.open {
			s.epochs++
			p.open, p.probes, p.probing = false, 0, 0
			p.epoch, p.flying, p.wide = s.epochs, 0, 1
		}
		return
	}
	if o.Status == 429 && now.Add(o.RetryAfter).After(p.held) {
		p.held, p.heldSince = now.Add(o.RetryAfter).Truncate(time.Millisecond), now
	}
	if !p.succeeded.IsZero() && p.succeeded.Equal(now) {
		return
	}
	if s.keyed[f.endpoint] && !p.open {
		return // failures of one key count once: it opens later than others, if at all
	}
	p.row++
	switch {
	case p.open && own && f.probe:
		p.probes++
	case !p.open && p.row >= deliver.FailuresToOpen:
		p.open, p.opened, p.probes, p.probing = true, now, 0, 0
	default:
		return
	}
	p.earliest = now.Add(simPolicy.Delay(p.probes+1) * 8 / 10).Truncate(time.Millisecond)
}

// watched is send, observed, and broken as the mutant says.
func (d *daemon) watched(ctx context.Context, t *deliver.Target, p *deliver.Payload, k deliver.Key, attempt int, now time.Time) (o deliver.Outcome) {
	f := d.s.departs(d, k)
	defer func() {
		bug := recover()
		if bug != nil {
			o = deliver.Outcome{Class: deliver.Ours}
		}
		d.s.arrives(d, f, &o)
		if bug != nil {
			panic(bug)
		}
		if d.s.mutant.ignoresHolds {
			o.RetryAfter = 0
			if o.Status == 429 {
				o.Status = 500
			}
		}
		if d.s.mutant.neverOpens && o.Class != deliver.OK {
			if ep, err := d.s.admin.FindEndpointByRow(ctx, k.Endpoint); err == nil && ep.Enabled() && !ep.Paused {
				ep.Health = deliver.Health{}
				well := ep
				ep.DisabledReason = deliver.DisabledManual
				d.s.must(d.lanes.Set(ep))
				d.s.must(d.lanes.Set(well))
			}
		}
	}()
	return d.send(ctx, t, p, k, attempt, now)
}

// remember keeps the healths that are durable.
func (s *sim) remember(rs []deliver.Record) {
	for i := range rs {
		if h := rs[i].Health; h != nil && h.Step > s.durable[rs[i].Endpoint].Step {
			s.durable[rs[i].Endpoint] = *h
		}
	}
}

// outage takes a receiver down for so long that its circuit opens.
func (s *sim) outage() {
	s.mu.Lock()
	row := 1 + s.dice.Int64N(int64(len(s.receivers)))
	r := s.receivers[row]
	r.mood = [...]mood{failing, refusing, hanging, busy}[s.dice.IntN(4)]
	s.tracef("receiver %d is down: %d", row, r.mood)
	s.mu.Unlock()
	for range 2 + s.dice.IntN(4) {
		s.append()
		pass(time.Duration(s.dice.Int64N(int64(20 * time.Second))))
	}
	s.mu.Lock()
	if s.dice.IntN(2) == 0 {
		r.mood = healthy
		s.tracef("receiver %d is up", row)
	}
	s.mu.Unlock()
}

// hold pauses an endpoint, or lets it go on.
func (s *sim) hold() {
	if ep, ok := s.some(s.dice); ok {
		s.tracef("endpoint %d is paused: %v", ep.Row, !ep.Paused)
		_, err := s.life().books.SetPaused(s.ctx, ep.Org, ep.ID, !ep.Paused)
		s.refused(err)
	}
}

// goOn ends all pauses.
func (s *sim) goOn() {
	all, err := s.admin.AllEndpoints(s.ctx)
	s.must(err)
	for _, ep := range all {
		if ep.Paused {
			_, err := s.life().books.SetPaused(s.ctx, ep.Org, ep.ID, false)
			s.must(err)
		}
	}
}
