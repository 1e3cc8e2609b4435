package client

import (
	"context"
	"net/http"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
)

// LogLevel says what the daemon logs.
func (c *Client) LogLevel(ctx context.Context) (httpapi.LogLevelBody, error) {
	return get[httpapi.LogLevelBody](ctx, c, base+"/log-level", nil)
}

// SetLogLevel changes it, and returns what it is then.
func (c *Client) SetLogLevel(ctx context.Context, l httpapi.LogLevelChange) (out httpapi.LogLevelBody, err error) {
	err = c.call(ctx, http.MethodPut, base+"/log-level", nil, l, &out)
	return out, err
}
