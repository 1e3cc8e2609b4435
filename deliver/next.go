package deliver

import (
	"net/http"
	"time"
)

const (
	// MaxRetryAfter is the longest that a receiver's Retry-After is obeyed.
	MaxRetryAfter = 24 * time.Hour
	// BlockedAttempts is how many attempts of a budget are made when the
	// endpoint's address is not allowed: an operator who has just widened the
	// allow list, or a name that is being moved, gets a second chance, a scan of
	// internal addresses gets nothing (SEC-09).
	BlockedAttempts = 3
)

// Our own faults are retried soon, between these two.
const (
	minOurs = time.Second
	maxOurs = 5 * time.Second
)

// Next is the state machine of a delivery: what outcome o, at now, does to the
// pending delivery t of an endpoint with policy p.
//
//	outcome                        next state
//	2xx                            delivered
//	410                            dead (gone), endpoint disabled
//	our own fault, shutdown        pending, due in 1 to 5 s, not counted
//	address not allowed            pending with backoff; dead (blocked) once
//	                               3 attempts of the budget are spent
//	any other, attempts left       pending, due after the backoff, or after
//	                               what Retry-After asks for if that is later
//	any other, none left           dead (exhausted)
//
// The backoff is p.Delay moved by up to ±20 %: u, from 0 up to but not including
// 1, says where in between. It is given by the caller so that Next is pure.
func Next(p Policy, t Ticket, o Outcome, now time.Time, u float64) Transition {
	u = min(max(u, 0), 1)
	if o.Class == Ours {
		return Transition{State: Pending, Due: now.Add(oursDelay(u)), Spent: t.Spent}
	}
	spent := t.Spent + 1
	switch {
	case o.Class == OK:
		return Transition{State: Delivered, Spent: spent}
	case o.Status == http.StatusGone:
		return Transition{State: Dead, Reason: Gone, Spent: spent, Disable: DisabledGone}
	case o.Class == BlockedAddress && spent >= min(BlockedAttempts, p.Attempts):
		return Transition{State: Dead, Reason: Blocked, Spent: spent}
	case spent >= p.Attempts:
		return Transition{State: Dead, Reason: Exhausted, Spent: spent}
	}
	wait := jittered(p.Delay(spent), u)
	if o.Status == http.StatusTooManyRequests || o.Status == http.StatusServiceUnavailable {
		wait = max(wait, min(o.RetryAfter, MaxRetryAfter))
	}
	return Transition{State: Pending, Due: now.Add(wait), Spent: spent}
}

func oursDelay(u float64) time.Duration { return minOurs + time.Duration(u*float64(maxOurs-minOurs)) }
