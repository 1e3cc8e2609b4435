package main

import (
	"fmt"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
)

// catchupFacts are what there is to say of an endpoint that is behind.
func catchupFacts(f *facts, e httpapi.EndpointBody) {
	if c := e.CatchingUp; c != nil {
		f.add("catching up", fmt.Sprintf("%s since %s, from %d, now at %d, %d behind", c.Reason, moment(c.Since), c.From+1, c.Place, c.Behind))
		f.add("waits", c.Waiting)
		if c.AtRisk {
			f.add("at risk", "the stream is about to lose what was not read for it")
		}
	}
	for _, g := range e.Gaps {
		f.add("lost", fmt.Sprintf("%d to %d, which the stream had no more on %s", g.From, g.To, moment(g.At)))
	}
}

// catchupState is the state of an endpoint that is behind, and works.
func catchupState(e httpapi.EndpointBody) string {
	if e.CatchingUp.Reason == "parked" {
		return "parked"
	}
	return "catching up"
}
