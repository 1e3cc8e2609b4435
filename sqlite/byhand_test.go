package sqlite

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/deliver"
)

// What is done by hand has an entry that names who did it. (SEC-20)
func TestByHandIsAudited(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	w := newWalker(t, s, "acme", 2)
	ev := w.commit(w.next(1))
	key := deliver.Key{Event: ev[0].Event, Endpoint: w.endpoints[0]}
	ctx := WithCaller(t.Context(), Caller{Actor: "tok_x", Address: "127.0.0.1", Request: "req_1"})
	if err := s.CancelDelivery(ctx, "acme", key); err != nil {
		t.Fatal(err)
	}
	if _, err := s.RetryDelivery(ctx, "acme", key); err != nil {
		t.Fatal(err)
	}
	list, err := s.ListEndpoints(ctx, "acme")
	if err != nil {
		t.Fatal(err)
	}
	for _, endpoint := range []string{"", list[1].ID} {
		if _, err := s.ReplayEvent(ctx, "acme", w.id(1), endpoint); err != nil {
			t.Fatal(err)
		}
	}
	// What was refused leaves none.
	for _, err := range []error{
		s.CancelDelivery(ctx, "acme", deliver.Key{Event: 99, Endpoint: 1}),
		func() error { _, err := s.ReplayEvent(ctx, "acme", w.id(1), "ep_nobody"); return err }(),
	} {
		if !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrState) {
			t.Error(err)
		}
	}
	d, _, err := s.GetDelivery(ctx, "acme", key)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := s.ListAudit(ctx, "acme", 0, 4)
	if err != nil {
		t.Fatal(err)
	}
	for i := range entries {
		entries[i].ID, entries[i].At = 0, time.Time{}
	}
	id := d.ID(d.Stored)
	by := func(action, target string, c Changes) AuditEntry {
		return AuditEntry{Org: "acme", Actor: "tok_x", Action: action, Target: target, Changes: c, Address: "127.0.0.1", Request: "req_1"}
	}
	if diff := cmp.Diff([]AuditEntry{
		by("event.replay", w.id(1).String(), Changes{"endpoint_id": {"", list[1].ID}}),
		by("event.replay", w.id(1).String(), Changes{}),
		by("delivery.retry", id, Changes{}),
		by("delivery.cancel", id, Changes{}),
	}, entries); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if c, err := s.Cursor(ctx, "acme"); err != nil || c.Pending != 2 {
		t.Errorf("%d pending, %v", c.Pending, err)
	}
}
