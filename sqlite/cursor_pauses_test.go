package sqlite

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/fanout"
)

// Who paused a cursor, why and until when stays over a restart; the pause ends
// when its time has come, and not before.
func TestPauses(t *testing.T) {
	c := newClock()
	o := Options{Dir: t.TempDir(), Clock: c.read}
	s := open(t, o)
	ctx := t.Context()
	by := func(actor string) Caller { return Caller{Actor: actor} }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, org := range []string{"acme", "crm", "gone"} {
		_, err := s.AddOrg(ctx, Org{ID: org})
		must(err)
	}
	paused := func(org string, want *Pause) {
		t.Helper()
		got, err := s.Cursor(ctx, org)
		must(err)
		if diff := cmp.Diff(want, got.Pause); diff != "" {
			t.Errorf("the pause of %s (-want +got):\n%s", org, diff)
		}
		o, err := s.Org(ctx, org)
		must(err)
		if o.Paused != (want != nil) {
			t.Errorf("fan-out hears of %s: paused %v", org, o.Paused)
		}
	}
	ends := func(want ...string) {
		t.Helper()
		got, err := s.EndPauses(ctx)
		must(err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("pauses that end (-want +got):\n%s", diff)
		}
	}

	first, end := c.read(), c.read().Add(time.Hour)
	must(s.PauseCursor(WithCaller(ctx, by("operator")), "acme", Pause{Reason: "a move", Until: end}))
	must(s.PauseCursor(WithCaller(ctx, by("operator")), "crm", Pause{}))
	must(s.PauseCursor(WithCaller(ctx, by("operator")), "gone", Pause{Until: end}))
	paused("acme", &Pause{By: "operator", Reason: "a move", At: first, Until: end})
	c.add(time.Minute)
	must(s.PauseCursor(WithCaller(ctx, by("tok_1")), "acme", Pause{}))
	must(s.PauseCursor(WithCaller(ctx, by("tok_1")), "acme", Pause{Reason: "a move", Until: end}))
	paused("acme", &Pause{By: "operator", Reason: "a move", At: first, Until: end}) // nothing new was said
	must(s.PauseCursor(WithCaller(ctx, by("tok_1")), "crm", Pause{Reason: "theirs"}))
	paused("crm", &Pause{By: "tok_1", Reason: "theirs", At: c.read()})
	must(s.PauseCursor(WithCaller(ctx, by("tok_1")), "crm", Pause{Until: end.Add(time.Hour * 48)}))
	paused("crm", &Pause{By: "tok_1", Reason: "theirs", At: c.read(), Until: end.Add(time.Hour * 48)}) // for longer, and why is as it was
	must(s.RemoveOrg(ctx, "gone"))
	ends()

	shut(t, s)
	s = open(t, o)
	paused("acme", &Pause{By: "operator", Reason: "a move", At: first, Until: end})
	c.add(59*time.Minute - time.Millisecond)
	ends()
	c.add(time.Millisecond)
	ends("acme")
	ends()
	paused("acme", nil)
	c.add(24 * time.Hour)
	ends()
	entries, err := s.ListAudit(ctx, "acme", 0, 1)
	must(err)
	if e := entries[0]; e.Actor != itself || e.Action != "cursor.resume" {
		t.Errorf("the entry of its end: %+v", e)
	}
	must(s.ResumeCursor(ctx, "crm"))
	must(s.ResumeCursor(ctx, "crm"))
	paused("crm", nil)
	for _, err := range []error{s.PauseCursor(ctx, "nobody", Pause{}), s.ResumeCursor(ctx, "nobody")} {
		if !errors.Is(err, fanout.ErrNoOrg) {
			t.Errorf("%v, of an organization that is not there", err)
		}
	}
}
