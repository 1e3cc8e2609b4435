package client

import (
	"context"
	"net/http"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
)

// TryFilter tries a content filter on the newest events of the org's stream.
func (c *Client) TryFilter(ctx context.Context, org string, in httpapi.FilterDryRun) (out httpapi.FilterDryRunBody, err error) {
	err = c.call(ctx, http.MethodPost, orgPath(org, "filters", "dry-run"), nil, in, &out)
	return out, err
}
