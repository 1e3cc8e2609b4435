package client

import (
	"context"
	"net/http"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
)

// ClaimCursor takes the organization's stream over from another database.
func (c *Client) ClaimCursor(ctx context.Context, org string, b httpapi.CursorClaimBody) (out httpapi.CursorClaimedBody, err error) {
	err = c.call(ctx, http.MethodPost, orgPath(org, "cursor", "claim"), nil, b, &out)
	return out, err
}
