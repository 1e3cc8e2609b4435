package catalogue

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/stream"
)

// A strict catalogue knows operational events without being told of them, and
// no others that look like them.
func TestOperationalEventsAreKnown(t *testing.T) {
	c, err := Compile([]Type{{Name: "invoice.paid"}})
	if err != nil {
		t.Fatal(err)
	}
	for typ, known := range map[string]bool{stream.EndpointFailing: true, stream.CursorGap: true, "webhook.other": false, "invoice.paid": true} {
		m := c.Judge(&stream.Event{Type: typ, SchemaVersion: DefaultVersion, Data: []byte(`{}`)})
		if (m == nil) != known {
			t.Errorf("%s: %v", typ, m)
		}
	}
	got := c.CheckSubscription([]string{stream.DeliveryDead, "webhook.*", "webhook.other", "invoice.paid"})
	if diff := cmp.Diff([]string{"webhook.other"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
