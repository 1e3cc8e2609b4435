package sqlite

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/fanout/fanouttest"
	"github.com/grapnel-hooks/grapnel/stream"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// suiteStore is a Store with the signatures that the suite asks for.
type suiteStore struct{ *Store }

func (s suiteStore) AddOrg(ctx context.Context, o fanout.Org) error {
	plan := ""
	if o.Gated {
		plan = "gated"
	}
	_, err := s.Store.AddOrg(ctx, Org{ID: o.ID, Plan: plan, Payload: o.Payload, Subjects: o.Subjects})
	return err
}

func (s suiteStore) AddEndpoint(ctx context.Context, e deliver.Endpoint) (deliver.Endpoint, error) {
	return s.Store.AddEndpoint(ctx, e, Start{})
}

func (s suiteStore) AddEndpointFrom(ctx context.Context, e deliver.Endpoint, after stream.Seq) (deliver.Endpoint, error) {
	return s.Store.AddEndpoint(ctx, e, Start{After: &after})
}

func (s suiteStore) SetFilter(ctx context.Context, org, id, filter string) (deliver.Endpoint, error) {
	return s.Store.SetEndpoint(ctx, org, id, EndpointChange{Options: func(o *deliver.Options) { o.Filter = filter }})
}

func (s suiteStore) PauseCursor(ctx context.Context, org string) error {
	return s.Store.PauseCursor(ctx, org, Pause{})
}

func (s suiteStore) Audit(ctx context.Context, org string, f func(fanout.Audited) error) error {
	a, err := s.Store.Audit(ctx, org)
	if err != nil {
		return err
	}
	return errors.Join(f(a), a.Close())
}

func TestBooks(t *testing.T) {
	for name, runSize := range map[string]int{"keys in memory": 0, "keys in runs": 2} {
		t.Run(name, func(t *testing.T) {
			fanouttest.TestBooks(t, func(t *testing.T) (fanouttest.Store, func() fanouttest.Store) {
				o := Options{
					Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler), runSize: runSize, piece: 2, moment: 1,
					Synchronous: "NORMAL", Gated: func(plan string) bool { return plan == "gated" },
				}
				s := open(t, o)
				return suiteStore{s}, func() fanouttest.Store {
					shut(t, s)
					s = open(t, o)
					return suiteStore{s}
				}
			})
		})
	}
}

// open opens a store and closes it when the test ends.
func open(t testing.TB, o Options) *Store {
	t.Helper()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shut(t, s) })
	return s
}

func shut(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}
