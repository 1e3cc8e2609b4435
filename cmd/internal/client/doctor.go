package client

import (
	"context"
	"net/url"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
)

// Examine makes the daemon look whether all is well.
func (c *Client) Examine(ctx context.Context, e httpapi.Examination) (httpapi.List[httpapi.FindingBody], error) {
	query := url.Values{}
	if e.Resolve != "" {
		query.Set("resolve", e.Resolve)
	}
	if e.Egress != "" {
		query.Set("egress", e.Egress)
	}
	return get[httpapi.List[httpapi.FindingBody]](ctx, c, base+"/doctor", query)
}
