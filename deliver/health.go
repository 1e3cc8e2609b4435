package deliver

import (
	"net/http"
	"time"
)

// Rules of an endpoint's health.
const (
	// FailuresToOpen is how many failures in a row open an endpoint's circuit.
	FailuresToOpen = 5
	// MaxProbeInterval is the longest wait between two probes, before jitter,
	// however long the endpoint's own backoff may grow.
	MaxProbeInterval = time.Hour
	// successesToProve is how many successes since its circuit was closed make an
	// endpoint as good as one that never failed. One that fails again before
	// goes on with the probes where it was: who is up for a moment now and then
	// is not probed as often as who fails for the first time.
	successesToProve = 5
	// warnBefore is how long before it is disabled an endpoint is warned; with a
	// DisableAfter of less than twice that, at the half.
	warnBefore = 24 * time.Hour
)

// Health is how the attempts at one endpoint fare, over all its deliveries. The
// zero Health is that of an endpoint whose last outcomes were successes.
//
//	         5 failures in a row              DisableAfter without
//	        ┌──────────────────▶ failing ───▶ one success: disabled
//	healthy │                    circuit
//	        └─── first success ─ open
//
// While the circuit is open one request at a time is made, a probe, at the times
// that the endpoint's own backoff gives; all other deliveries wait and use no
// attempts. It is stored as JSON, see [Record].
type Health struct {
	// FailingSince is when the present run of failures began; zero while the
	// last outcome was a success.
	FailingSince time.Time `json:"failing_since,omitzero"`
	Failures     int       `json:"failures,omitzero"` // in a row, over all deliveries
	Class        Class     `json:"class,omitzero"`    // of the last of them
	Status       int       `json:"status,omitzero"`   // of the last of them; 0: no answer
	// OpenedAt is when the circuit opened; zero: it is closed.
	OpenedAt time.Time `json:"opened_at,omitzero"`
	// Probes is how many failed since the endpoint was last proven.
	Probes int `json:"probes,omitzero"`
	// ProbeAt is when the next probe may be made, while the circuit is open.
	ProbeAt time.Time `json:"probe_at,omitzero"`
	// HeldUntil is until when the receiver asked to be left alone.
	HeldUntil time.Time `json:"held_until,omitzero"`
	// Successes since the circuit was closed, until they prove the endpoint.
	Successes int `json:"successes,omitzero"`
	// Released says that what was held has been made due already since the
	// endpoint was last proven. It is done once: deliveries that fail of their
	// own accord must not come first time and again, and open the circuit for
	// all others each time.
	Released bool `json:"released,omitzero"`
	// Releasing says that what was held is being made due, see [Books].Release.
	Releasing bool `json:"releasing,omitzero"`
	// Warned says that the endpoint's people were told when it will be disabled.
	Warned bool `json:"warned,omitzero"`
	// Step counts the changes, so that of two the later is known.
	Step int64 `json:"step,omitzero"`
}

// Well reports whether nothing is remembered of any failure.
func (h Health) Well() bool { return h == Health{Step: h.Step} }

// Open reports whether the circuit is open.
func (h Health) Open() bool { return !h.OpenedAt.IsZero() }

// Wait is before when nothing is sent; zero: there is no such time. It may have
// passed.
func (h Health) Wait() time.Time {
	if h.Open() && h.ProbeAt.After(h.HeldUntil) {
		return h.ProbeAt
	}
	return h.HeldUntil
}

// Kind is what matters of an attempt to the endpoint's health.
type Kind struct {
	Probe bool // it was begun as a probe
	// Uncounted says that a failure of it is not one more in a row while the
	// circuit is closed.
	Uncounted bool
}

// After is the health of the endpoint ep once outcome o of an attempt came, at
// now.
//
//	circuit  outcome                   after
//	any      our own fault             as it was; after a probe the next one in 1 to 5 s
//	closed   success                   0 failures; with the 5th since it was closed: well
//	open     success                   closed; what is held is released, once until well
//	closed   failure                   one more, if counted; with the 5th in a row: open, the first
//	                                   probe after the backoff's first delay
//	open     failure of a probe        open, the next probe after the next delay,
//	                                   which is 1 h at most
//	open     failure of another,       open; it was under way when the circuit opened
//	         success of another        closed
//	any      429, 503 with             besides: nothing is sent for as long as
//	         Retry-After               Retry-After says, at most 24 h; with a 429
//	                                   that does not say, for the backoff's first delay
//
// The delays are moved by up to ±20 %, as u says, see [Next]. It is pure.
func (h Health) After(ep *Endpoint, o *Outcome, k Kind, now time.Time, u float64) Health {
	u = min(max(u, 0), 1)
	now = now.Truncate(time.Millisecond).UTC() // as it is stored
	was := h
	switch {
	case o.Class == Ours:
		if k.Probe && h.Open() {
			h.ProbeAt = now.Add(oursDelay(u)).Truncate(time.Millisecond)
		}
	case o.Class == OK:
		h = h.succeeded(now)
	default:
		h = h.failed(ep, o, k, now, u)
	}
	if h != was {
		h.Step++
	}
	return h
}

func (h Health) succeeded(now time.Time) Health {
	if h.Open() {
		h.OpenedAt, h.ProbeAt, h.Successes = time.Time{}, time.Time{}, 0
		h.Releasing = h.Releasing || !h.Released
		h.Released = true
	}
	h.FailingSince, h.Failures, h.Class, h.Status, h.Warned = time.Time{}, 0, OK, 0, false
	if h.Released {
		if h.Successes++; h.Successes >= successesToProve {
			h.Successes, h.Probes, h.Released = 0, 0, false
		}
	}
	if !h.HeldUntil.After(now) {
		h.HeldUntil = time.Time{}
	}
	return h
}

func (h Health) failed(ep *Endpoint, o *Outcome, k Kind, now time.Time, u float64) Health {
	if h.Open() || !k.Uncounted {
		h.Failures++
	}
	h.Class, h.Status = o.Class, o.Status
	if h.FailingSince.IsZero() {
		h.FailingSince = now
	}
	switch {
	case h.Open() && k.Probe:
		h.Probes++
	case !h.Open() && h.Failures >= FailuresToOpen:
		h.OpenedAt = now
	}
	if h.Open() && (k.Probe || h.ProbeAt.IsZero()) {
		h.ProbeAt = now.Add(probeDelay(ep.Retry, h.Probes+1, u)).Truncate(time.Millisecond)
	}
	if hold := holdFor(ep.Retry, o, u); hold > 0 {
		if until := now.Add(hold).Truncate(time.Millisecond); until.After(h.HeldUntil) {
			h.HeldUntil = until
		}
	}
	if warn := h.warnAt(ep.DisableAfter); !warn.IsZero() && !now.Before(warn) {
		h.Warned = true
	}
	return h
}

// probeDelay is how long to wait for the n-th probe, n from 1.
func probeDelay(p Policy, n int, u float64) time.Duration {
	return jittered(min(p.Delay(n), MaxProbeInterval), u)
}

// holdFor is for how long the receiver wants no requests at all.
func holdFor(p Policy, o *Outcome, u float64) time.Duration {
	switch {
	case o.Status == http.StatusTooManyRequests && o.RetryAfter <= 0:
		return jittered(p.Delay(1), u)
	case o.Status == http.StatusTooManyRequests, o.Status == http.StatusServiceUnavailable:
		return min(max(o.RetryAfter, 0), MaxRetryAfter)
	}
	return 0
}

// DisablesAt is when an endpoint of that DisableAfter (see [Options]) is disabled
// unless a success comes before; zero: never, or its circuit is closed.
func (h Health) DisablesAt(after time.Duration) time.Time {
	switch {
	case !h.Open() || h.FailingSince.IsZero() || after < 0:
		return time.Time{}
	case after == 0:
		after = DisableAfter
	}
	return h.FailingSince.Add(after)
}

func (h Health) warnAt(after time.Duration) time.Time {
	at := h.DisablesAt(after)
	if at.IsZero() {
		return at
	}
	return at.Add(-min(warnBefore, at.Sub(h.FailingSince)/2))
}

// Judge is what becomes of an endpoint that fails, of that DisableAfter, merely
// because time passes: at some time it is warned, and at another disabled.
func (h Health) Judge(after time.Duration, now time.Time) (next Health, disable bool) {
	at := h.DisablesAt(after)
	if at.IsZero() {
		return h, false
	}
	if !h.Warned && !now.Before(h.warnAt(after)) {
		h.Warned = true
		h.Step++
	}
	return h, !now.Before(at)
}

// Sane is h as it is taken from the books at now: a clock that was ahead when they
// were written must not keep an endpoint waiting for longer than any rule does.
func (h Health) Sane(now time.Time) Health {
	earlier := func(at *time.Time, most time.Duration) {
		if latest := now.Add(most).Truncate(time.Millisecond).UTC(); at.After(latest) {
			*at = latest
		}
	}
	earlier(&h.FailingSince, 0)
	earlier(&h.OpenedAt, 0)
	earlier(&h.ProbeAt, time.Duration(float64(MaxProbeInterval)*(1+jitterFraction)))
	earlier(&h.HeldUntil, MaxRetryAfter)
	return h
}

// Turn is what people want to hear of a change of health.
type Turn int

const (
	NoTurn    Turn = iota
	Opened         // it began to fail
	Recovered      // it fails no more
	Warned         // it will be disabled soon
)

// Turned is what happened between two healths of an endpoint.
func Turned(before, after Health) Turn {
	switch {
	case before.Open() && !after.Open():
		return Recovered
	case after.Open() && after.Warned && !before.Warned:
		return Warned
	case !before.Open() && after.Open():
		return Opened
	}
	return NoTurn
}

// Condition is an endpoint's state in one word.
type Condition string

const (
	Healthy  Condition = "healthy"
	Failing  Condition = "failing" // its circuit is open
	Paused   Condition = "paused"
	Disabled Condition = "disabled"
)

// Condition is the endpoint's.
func (e Endpoint) Condition() Condition { return conditionOf(&e, e.Health) }

func conditionOf(e *Endpoint, h Health) Condition {
	switch {
	case !e.Enabled():
		return Disabled
	case e.Paused:
		return Paused
	case h.Open():
		return Failing
	}
	return Healthy
}

// Renewed is the health of an endpoint that somebody enables, or lets go on
// after a pause: nothing is held against it, and all that it holds is to be
// released. No outcome of before changes it.
func (h Health) Renewed() Health {
	const era = 1 << 32 // more steps than are made in one
	return Health{Releasing: true, Step: (h.Step/era + 1) * era}
}
