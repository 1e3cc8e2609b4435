package client

import (
	"context"
	"net/http"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
)

// Hold says whether the daemon holds still after a restore.
func (c *Client) Hold(ctx context.Context) (httpapi.HoldBody, error) {
	return get[httpapi.HoldBody](ctx, c, base+"/hold", nil)
}

// Resume lets reading and sending begin after a restore.
func (c *Client) Resume(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, base+"/hold/resume", nil, nil, nil)
}
