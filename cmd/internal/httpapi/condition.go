package httpapi

import (
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
)

// ConditionBody says how the attempts at an endpoint fare, over all its
// deliveries.
type ConditionBody struct {
	Health              string     `json:"health" example:"healthy" doc:"healthy; failing: its deliveries wait until a probe succeeds; paused; or disabled"`
	ConsecutiveFailures int        `json:"consecutive_failures" example:"0" doc:"Attempts that failed one after the other; 5 make it fail"`
	FailingSince        *time.Time `json:"failing_since,omitempty" doc:"When the present run of failures began"`
	NextProbeAt         *time.Time `json:"next_probe_at,omitempty" doc:"While it is failing: when the next attempt may be made"`
	HeldUntil           *time.Time `json:"held_until,omitempty" doc:"Until when it asked by Retry-After to be left alone"`
	DisablesAt          *time.Time `json:"disables_at,omitempty" doc:"While it is failing: when it is disabled unless an attempt succeeds before"`
}

func conditionBody(e *deliver.Endpoint, now time.Time) ConditionBody {
	b := ConditionBody{
		Health:              string(e.Condition()),
		ConsecutiveFailures: e.Failures,
		FailingSince:        optional(e.FailingSince),
	}
	if e.Enabled() && e.HeldUntil.After(now) {
		b.HeldUntil = optional(e.HeldUntil)
	}
	if e.Condition() == deliver.Failing {
		b.NextProbeAt = optional(e.Health.Wait())
		b.DisablesAt = optional(e.DisablesAt(e.DisableAfter))
	}
	return b
}
