package fanouttest

import (
	"context"
	"testing"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
)

// Store is what the suite asks of books: what fan-out and lanes need, and the
// few changes by hand that meet with them.
type Store interface {
	fanout.Books
	fanout.SourceBooks
	deliver.Books

	AddOrg(ctx context.Context, o fanout.Org) error
	// AddEndpoint adds an endpoint that gets events after the org's position,
	// and returns it with its Row and ID.
	AddEndpoint(ctx context.Context, ep deliver.Endpoint) (deliver.Endpoint, error)
	FindEndpointByRow(ctx context.Context, row int64) (deliver.Endpoint, error)
	DisableEndpoint(ctx context.Context, org, id, reason string) (deliver.Endpoint, error)
	EnableEndpoint(ctx context.Context, org, id string) (deliver.Endpoint, error)
	// RemoveEndpoint returns once what was pending is cancelled.
	RemoveEndpoint(ctx context.Context, org, id string) error
	RetryDelivery(ctx context.Context, org string, k deliver.Key) (deliver.Ticket, error)
	GetDelivery(ctx context.Context, org string, k deliver.Key) (deliver.Delivery, []deliver.Attempt, error)
	// Audit calls f with the org's books as they are at one moment.
	Audit(ctx context.Context, org string, f func(fanout.Audited) error) error
}

// TestBooks checks that a store keeps the promises of [fanout.Books],
// [fanout.SourceBooks], [deliver.Books] and [fanout.Audited]. open makes empty
// books; reopen closes them as a process that ends, and opens what is durable.
func TestBooks(t *testing.T, open func(t *testing.T) (s Store, reopen func() Store)) {
	_ = testing.Short
}
