package httpapi_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

func TestInsightAnswers(t *testing.T) {
	for _, c := range []struct{ name, path string }{
		{"stats", "/orgs/acme/endpoints/{ep}/stats"},
		{"stats-missing", "/orgs/acme/endpoints/ep_1/stats"},
		{"explain", "/orgs/acme/events/{evt}/explain"},
		{"explain-page", "/orgs/acme/events/1/explain?limit=1"},
		{"explain-missing", "/orgs/acme/events/evt_1/explain"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := world(t)
			path := names(t, s).Replace(c.path)
			golden(t, "answers/insight-"+c.name+".txt", fmt.Sprintf("GET %s\n\n%s", path, ask(t, operator(s), "GET", "/api/v1"+path, "")))
		})
	}
}

// Each reason is told in words that say what there is to know of it.
func TestExplainedInWords(t *testing.T) {
	at := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	waits := &deliver.Delivery{Attempts: 2, Due: at}
	for want, a := range map[string]fanout.Answer{
		"delivered at attempt 2":                           {Why: fanout.WhyDelivered, Delivery: waits},
		"failed 2 times; waits until 2026-11-21T10:00:00Z": {Why: fanout.WhyPending, Delivery: waits, Hold: fanout.HoldBackoff},
		"failed 2 times; its next attempt is due":          {Why: fanout.WhyPending, Delivery: waits, Hold: fanout.HoldTurn},
		"waits for its first attempt":                      {Why: fanout.WhyPending, Delivery: &deliver.Delivery{}, Hold: fanout.HoldFirst},
		"waits until the endpoint is enabled: it is disabled (manual)": {Why: fanout.WhyPending, Delivery: waits, Hold: fanout.HoldDisabled,
			Receiver: fanout.Receiver{DisabledReason: "manual"}},
		"waits until the endpoint is resumed: it is paused": {Why: fanout.WhyPending, Delivery: waits, Hold: fanout.HoldPaused},
		"waits for what comes before it in order":           {Why: fanout.WhyPending, Delivery: waits, Hold: fanout.HoldOrder},
		"waits for the endpoint, which fails: it is tried again at 2026-11-21T10:00:00Z": {Why: fanout.WhyPending, Delivery: waits, Hold: fanout.HoldFailing,
			Receiver: fanout.Receiver{Wait: at}},
		"the receiver answered 410 Gone":                                 {Why: fanout.WhyDead, Delivery: &deliver.Delivery{State: deliver.Dead, Reason: deliver.Gone}},
		"cancelled by hand":                                              {Why: fanout.WhyCancelled, Delivery: &deliver.Delivery{State: deliver.Cancelled}},
		"the cursor has not come there yet":                              {Why: fanout.WhyNotReached},
		"it is no event: not JSON":                                       {Why: fanout.WhyRejected, Detail: "not JSON"},
		"the plan lacked outgoing webhooks when the cursor came":         {Why: fanout.WhyGated},
		"the stream no longer had sequences 3 to 5 when the cursor came": {Why: fanout.WhyGap, Span: &fanout.Exception{From: 3, To: 5}},
		"the cursor was moved over sequences 3 to 5 by hand":             {Why: fanout.WhySkipped, Span: &fanout.Exception{From: 3, To: 5}},
		"it was subscribed to lead.*, b":                                 {Why: fanout.WhyType, Types: []string{"lead.*", "b"}},
		"it was subscribed to workspace berlin":                          {Why: fanout.WhyWorkspace, Scope: "berlin"},
		"data.n > 1 is false":                                            {Why: fanout.WhyFiltered, Part: "data.n > 1 is false"},
		"it was made after the event":                                    {Why: fanout.WhyCreatedLater},
		"it was disabled then":                                           {Why: fanout.WhyDisabled},
		"it is disabled (gone) since 2026-11-21T10:00:00Z":               {Why: fanout.WhyDisabled, Since: at, Receiver: fanout.Receiver{DisabledReason: "gone"}},
		"the event at 7 has the same id":                                 {Why: fanout.WhyDuplicate, Earlier: &fanout.EventPlace{Seq: stream.Seq(7)}},
	} {
		if got := httpapi.Because(&a); got != want {
			t.Errorf("%s: %q, want %q", a.Why, got, want)
		}
	}
}
