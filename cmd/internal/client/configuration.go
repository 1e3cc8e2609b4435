package client

import (
	"context"
	"net/http"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
)

// Configuration shows the daemon's settings.
func (c *Client) Configuration(ctx context.Context) (httpapi.ConfigurationBody, error) {
	return get[httpapi.ConfigurationBody](ctx, c, base+"/config", nil)
}

// Reload makes the daemon read its configuration again.
func (c *Client) Reload(ctx context.Context) (out httpapi.ReloadBody, err error) {
	err = c.call(ctx, http.MethodPost, base+"/config/reload", nil, nil, &out)
	return out, err
}
