package client

import (
	"context"
	"net/http"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
)

// TestEndpoint sends an endpoint one signed request now and returns what came of
// it.
func (c *Client) TestEndpoint(ctx context.Context, org, id string) (out httpapi.AttemptBody, err error) {
	err = c.call(ctx, http.MethodPost, orgPath(org, "endpoints", id, "test"), nil, nil, &out)
	return out, err
}

// CancelDelivery ends a pending delivery.
func (c *Client) CancelDelivery(ctx context.Context, org, id string) (out httpapi.DeliveryBody, err error) {
	err = c.call(ctx, http.MethodPost, orgPath(org, "deliveries", id, "cancel"), nil, nil, &out)
	return out, err
}

// ExpungeEvent takes the content of an event, by its id or sequence, out for ever, if
// e says so. It may take some seconds.
func (c *Client) ExpungeEvent(ctx context.Context, org, id string, e httpapi.ExpungeBody) (out httpapi.ExpungedBody, err error) {
	err = c.patiently(ctx, http.MethodPost, orgPath(org, "events", id, "expunge"), nil, e, &out)
	return out, err
}

// ReplayEvent sends an event again, by its id or sequence: to every endpoint
// that had it, or to the one given.
func (c *Client) ReplayEvent(ctx context.Context, org, id, endpoint string) (out httpapi.List[httpapi.DeliveryBody], err error) {
	err = c.call(ctx, http.MethodPost, orgPath(org, "events", id, "replay"), nil, httpapi.EventReplay{EndpointID: endpoint}, &out)
	return out, err
}
