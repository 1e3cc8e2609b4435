package sqlite

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
)

// One org asks for another's things by their right names: it finds nothing, and
// changes nothing. (SEC-19)
func TestOtherOrgsThingsAreNotFound(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir(), runSize: 4})
	ctx := t.Context()
	a, b := newWalker(t, s, "acme", 1), newWalker(t, s, "b", 1)
	ev := a.commit(a.next(10))
	b.commit(b.next(1))
	awaitRuns(t, s, 2)
	key := deliver.Key{Event: ev[0].Event, Endpoint: a.endpoints[0]}
	a.record(newClock().outcome(key, 1, deliver.Dead))
	p := a.next(0)
	p.To.Seq++
	p.Rejected = append(p.Rejected, rejectedAt(p.To.Seq))
	a.commit(p)
	theirs, err := s.ListEndpoints(ctx, "acme")
	if err != nil {
		t.Fatal(err)
	}
	id := theirs[0].ID
	ds, _, _ := s.ListDeliveries(ctx, "acme", Filter{}, 100, deliver.Key{})
	if len(ds) != 10 {
		t.Fatalf("%d deliveries", len(ds))
	}

	replay, err := s.StartReplay(ctx, "acme", id, ReplayFilter{States: []deliver.State{deliver.Dead}}, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	calls := map[string]func() error{
		"GetEndpoint": func() error { _, err := s.GetEndpoint(ctx, "b", id); return err },
		"SetEndpoint": func() error {
			_, err := s.SetEndpoint(ctx, "b", id, EndpointChange{URL: ptr("https://b.example")})
			return err
		},
		"DisableEndpoint": func() error { _, err := s.DisableEndpoint(ctx, "b", id, "manual"); return err },
		"EnableEndpoint":  func() error { _, err := s.EnableEndpoint(ctx, "b", id); return err },
		"RemoveEndpoint":  func() error { return s.RemoveEndpoint(ctx, "b", id) },
		"GetDelivery":     func() error { _, _, err := s.GetDelivery(ctx, "b", key); return err },
		"RetryDelivery":   func() error { _, err := s.RetryDelivery(ctx, "b", key); return err },
		"CancelDelivery":  func() error { return s.CancelDelivery(ctx, "b", key) },
		"ReplayEvent":     func() error { _, err := s.ReplayEvent(ctx, "b", a.id(1), ""); return err },
		"StartReplay": func() error {
			_, err := s.StartReplay(ctx, "b", id, ReplayFilter{States: []deliver.State{deliver.Dead}}, 0, 100)
			return err
		},
		"CountReplay": func() error {
			_, err := s.CountReplay(ctx, "b", id, ReplayFilter{States: []deliver.State{deliver.Dead}}, Readable{})
			return err
		},
		"GetReplay":    func() error { _, err := s.GetReplay(ctx, "b", replay.ID); return err },
		"PauseReplay":  func() error { _, err := s.PauseReplay(ctx, "b", replay.ID); return err },
		"ResumeReplay": func() error { _, err := s.ResumeReplay(ctx, "b", replay.ID); return err },
		"CancelReplay": func() error { _, err := s.CancelReplay(ctx, "b", replay.ID); return err },
		"GetEvent":     func() error { _, err := s.GetEvent(ctx, "b", a.id(1)); return err },
		"by endpoint": func() error {
			_, _, err := s.ListDeliveries(ctx, "b", Filter{Endpoint: id}, 10, deliver.Key{})
			return err
		},
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	dead := deliver.Dead
	for name, f := range map[string]Filter{"all": {}, "dead": {State: &dead}, "event": {Event: a.id(1)}} {
		for _, after := range []deliver.Key{{}, {Event: ev[9].Event + 1}} {
			ds, _, err := s.ListDeliveries(ctx, "b", f, 100, after)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			for _, d := range ds {
				if d.Org != "b" || d.Key.Endpoint != b.endpoints[0] {
					t.Errorf("%s shows %+v", name, d)
				}
			}
		}
	}
	if list, err := s.ListReplays(ctx, "b", "", 10); err != nil || len(list) > 0 {
		t.Errorf("replays: %+v, %v", list, err)
	}
	if list, err := s.ListRejected(ctx, "b", Place{}, 10); err != nil || len(list) > 0 {
		t.Errorf("rejected: %+v, %v", list, err)
	}
	if c, err := s.Cursor(ctx, "b"); err != nil || c.Rejected != 0 || c.Dead != 0 || c.Pending != 1 {
		t.Errorf("cursor: %+v, %v", c, err)
	}
	again, err := s.ListEndpoints(ctx, "acme")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(theirs[0].URL+theirs[0].DisabledReason, again[0].URL+again[0].DisabledReason); diff != "" || len(again) != 1 {
		t.Errorf("their endpoint was changed: %s", diff)
	}
}

// An org that was removed is gone at once, its name is free, and what is made
// under it anew shares nothing with what was.
func TestRemoveOrg(t *testing.T) {
	o := Options{Dir: t.TempDir(), runSize: 4}
	s := open(t, o)
	ctx := t.Context()
	w := newWalker(t, s, "acme", 1)
	w.commit(w.next(10))
	p := w.next(0)
	p.To.Seq++
	p.Rejected = append(p.Rejected, rejectedAt(p.To.Seq))
	w.commit(p)
	if err := s.RemoveOrg(ctx, "acme"); !errors.Is(err, ErrInUse) {
		t.Errorf("with an endpoint: %v", err)
	}
	list, _ := s.ListEndpoints(ctx, "acme")
	if err := s.RemoveEndpoint(ctx, "acme", list[0].ID); err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveOrg(ctx, "acme"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(ctx, w.next(1)); !errors.Is(err, fanout.ErrNoOrg) {
		t.Errorf("commit: %v", err)
	}
	if orgs, _ := s.Orgs(ctx); len(orgs) != 0 {
		t.Errorf("orgs %+v", orgs)
	}
	shut(t, s)
	s = open(t, o)
	again := newWalker(t, s, "acme", 1)
	if ds, _, err := s.ListDeliveries(ctx, "acme", Filter{}, 10, deliver.Key{}); err != nil || len(ds) > 0 {
		t.Errorf("%d deliveries, %v", len(ds), err)
	}
	if list, err := s.ListRejected(ctx, "acme", Place{}, 10); err != nil || len(list) > 0 {
		t.Errorf("%d rejected, %v", len(list), err)
	}
	for _, ev := range again.commit(again.next(3)) { // the same IDs as before
		if ev.Event == 0 || len(ev.Endpoints) != 1 {
			t.Errorf("%+v", ev)
		}
	}
	c := newClock()
	c.add(3650 * day)
	n, err := s.Retain(ctx, RetainOptions{FinishedBefore: c.read(), DeadBefore: c.read()})
	if err != nil || n.Deliveries != 10 {
		t.Errorf("retention: %+v, %v", n, err)
	}
}
