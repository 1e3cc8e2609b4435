package stream

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOperationalTypes(t *testing.T) {
	if !slices.IsSorted(OperationalTypes) {
		t.Fatal("not in alphabetical order")
	}
	for _, typ := range OperationalTypes {
		if !Operational(typ) || !KnownOperational(typ) || CheckType(typ) != nil {
			t.Errorf("%s is none", typ)
		}
	}
	for typ, want := range map[string]bool{"webhook.x": true, "webhook": false, "webhooks.x": false, "x.webhook.y": false, "": false} {
		if got := Operational(typ); got != want || KnownOperational(typ) {
			t.Errorf("%q: %v", typ, got)
		}
	}
}

func TestOperationalSubjects(t *testing.T) {
	filters := []string{"events.acme.>", "webhook.>", "crm.*.>", "crm.*", "crm.*.hooks.*", "crm"}
	want := []string{"events.acme.webhook.>", "webhook.webhook.>", "crm.webhook.>", "crm.webhook.hooks.*"}
	if diff := cmp.Diff(want, operationalSubjects(filters)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
