package main

import (
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
)

// healthFacts says how an endpoint fares, as far as there is something to say.
func healthFacts(f *facts, c httpapi.ConditionBody) {
	if c.ConsecutiveFailures > 0 {
		f.add("failures in a row", c.ConsecutiveFailures)
	}
	f.add("failing since", momentOf(c.FailingSince))
	f.add("next probe", momentOf(c.NextProbeAt))
	f.add("left alone until", momentOf(c.HeldUntil))
	f.add("is disabled at", momentOf(c.DisablesAt))
}
