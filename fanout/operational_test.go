package fanout

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/stream"
)

// Operational events go to whoever asks for them by webhook. and to nobody else;
// Match and MatchType agree on that.
func TestOperationalEventsAreAskedFor(t *testing.T) {
	patterns := []string{"*", "webhook.*", "webhook.endpoint.*", stream.EndpointDisabled, "webhook.delivery.dead", "webhooks.*", "webhook"}
	var subs []Subscription
	for i, p := range patterns {
		if err := CheckPattern(p); err != nil {
			t.Fatal(err)
		}
		subs = append(subs, Subscription{Endpoint: int64(i + 1), Types: []string{p}})
	}
	set := Compile(1, subs)
	for typ, want := range map[string][]int64{
		stream.EndpointDisabled: {2, 3, 4},
		stream.DeliveryDead:     {2, 5},
		stream.CursorGap:        {2},
		"webhook.of.a.platform": {2},
		"webhooks.x":            {1, 6},
		"webhook":               {1, 7},
		"invoice.paid":          {1},
	} {
		ev := &stream.Event{Type: typ, Seq: 1}
		if diff := cmp.Diff(want, set.Match(ev, 1, nil)); diff != "" {
			t.Errorf("%s: Match (-want +got):\n%s", typ, diff)
		}
		var got []int64
		for i, p := range patterns {
			if MatchType(p, typ) {
				got = append(got, int64(i+1))
			}
		}
		if !Lists("*", typ) || !Lists("", typ) || Lists("invoice.*", typ) != (typ == "invoice.paid") {
			t.Errorf("%s: lists", typ)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: MatchType (-want +got):\n%s", typ, diff)
		}
	}
}
