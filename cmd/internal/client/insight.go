package client

import (
	"context"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
)

// EndpointStats shows how an endpoint fares.
func (c *Client) EndpointStats(ctx context.Context, org, id string) (httpapi.StatsBody, error) {
	return get[httpapi.StatsBody](ctx, c, orgPath(org, "endpoints", id, "stats"), nil)
}

// Explain says why endpoints did or did not get an event, given by its id or its
// sequence: a page of endpoints.
func (c *Client) Explain(ctx context.Context, org, event string, p Page) (httpapi.ExplainBody, error) {
	return get[httpapi.ExplainBody](ctx, c, orgPath(org, "events", event, "explain"), p.query())
}
