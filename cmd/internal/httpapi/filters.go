package httpapi

import (
	"context"
	"net/http"

	"github.com/grapnel-hooks/grapnel/fanout"
)

// DefaultTrial is how many events a filter is tried on unless somebody says so.
const DefaultTrial = 100

// Filters is the part of a Service that tries content filters.
type Filters interface {
	// TryFilter asks the newest events of the org's stream whether a subscription
	// would want them. Nothing is saved. What is wrong with it is an [Invalid].
	TryFilter(ctx context.Context, org string, t FilterTrial) (FilterTried, error)
}

// FilterTrial is a filter that somebody wants to try.
type FilterTrial struct {
	Filter     string
	EventTypes []string
	Workspace  string
	Last       int // how many events
}

// FilterTried is what came of it.
type FilterTried struct {
	*fanout.Trial
	All bool // these are all events that the stream has, or as many as were asked for
}

// FilterDryRun is the body of POST /orgs/{org}/filters/dry-run.
type FilterDryRun struct {
	Filter      string   `json:"filter" minLength:"1" maxLength:"2048" example:"data.amount >= 1000" doc:"See docs/filters.md"`
	EventTypes  []string `json:"event_types,omitempty" nullable:"false" minItems:"1" maxItems:"100" example:"[\"invoice.*\"]" doc:"Those of the endpoint; default every (*)"`
	WorkspaceID string   `json:"workspace_id,omitempty" maxLength:"64" example:"berlin"`
	Last        int      `json:"last,omitempty" minimum:"1" maximum:"1000" default:"100" example:"100" doc:"How many of the newest events"`
}

// FilterDryRunBody is the answer to it.
type FilterDryRunBody struct {
	Events   int                `json:"events" example:"100" doc:"That were looked at"`
	Complete bool               `json:"complete" doc:"False: there are more, and they were too large to be looked at for one request"`
	Matched  int                `json:"matched" example:"12" doc:"That the endpoint would get"`
	Unjudged int                `json:"unjudged" example:"0" doc:"Of these, those that take more work than a filter may do, and pass"`
	Reasons  []FilterReasonBody `json:"reasons" nullable:"false" doc:"Why the others do not match, the most frequent first, at most 20"`
	Samples  []FilterSampleBody `json:"samples" nullable:"false" doc:"The newest of the others, at most 20"`
}

// FilterReasonBody is why events do not match.
type FilterReasonBody struct {
	Reason string `json:"reason" enum:"type_not_subscribed,other_workspace,filtered" example:"filtered"`
	Detail string `json:"detail" example:"data.amount >= 1000 is false" doc:"For people. Of the event's data it says at most what sort of value there is"`
	Events int    `json:"events" example:"88"`
}

// FilterSampleBody is an event that does not match.
type FilterSampleBody struct {
	EventID string `json:"event_id" example:"evt_0NKMVFQM7Z3XEJ2MXWP06B89Q0"`
	Seq     uint64 `json:"seq" example:"17"`
	Type    string `json:"type" example:"invoice.paid"`
	Reason  string `json:"reason" enum:"type_not_subscribed,other_workspace,filtered" example:"filtered"`
	Detail  string `json:"detail" example:"data.amount >= 1000 is false"`
}

type filterDryRun struct {
	OrgPath
	Write[FilterDryRun]
}

func (a *api) filters() {
	handle(a, route{id: "try-filter", method: http.MethodPost, path: base + "/orgs/{org}/filters/dry-run", tag: "endpoints",
		access: access{scope: WebhooksRead, gated: true}, flights: a.searches,
		summary: "Try a content filter on the newest events: how many match, and why the others do not"},
		func(ctx context.Context, in *filterDryRun) (*answer[FilterDryRunBody], error) {
			t := FilterTrial{Filter: in.Body.Filter, EventTypes: in.Body.EventTypes, Workspace: in.Body.WorkspaceID, Last: in.Body.Last}
			if t.EventTypes == nil {
				t.EventTypes = []string{"*"}
			}
			if t.Last == 0 {
				t.Last = DefaultTrial
			}
			tried, err := a.svc.TryFilter(ctx, in.Org, t)
			if err != nil {
				return nil, err
			}
			return &answer[FilterDryRunBody]{filterDryRunBody(tried)}, nil
		})
}

func filterDryRunBody(t FilterTried) FilterDryRunBody {
	b := FilterDryRunBody{
		Events: t.Events, Complete: t.All, Matched: t.Matched, Unjudged: t.Unjudged,
		Reasons: []FilterReasonBody{}, Samples: []FilterSampleBody{},
	}
	for _, r := range t.Reasons() {
		b.Reasons = append(b.Reasons, FilterReasonBody{string(r.Why), unwanted(r.TrialReason), r.Events})
	}
	for _, s := range t.Samples {
		b.Samples = append(b.Samples, FilterSampleBody{s.ID.String(), uint64(s.Seq), s.Type, string(s.Why), unwanted(s.TrialReason)})
	}
	return b
}

// unwanted says in words why an event is not wanted.
func unwanted(r fanout.TrialReason) string {
	switch r.Why {
	case fanout.WhyType:
		return "its type is not among the event types"
	case fanout.WhyWorkspace:
		return "it is another workspace's, or the whole organization's"
	}
	return r.Part
}
