package client

import (
	"context"
	"net/http"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
)

// tokensPath is where an organization's tokens are, or the operators' when org
// is empty.
func tokensPath(org string) string {
	if org == "" {
		return base + "/tokens"
	}
	return orgPath(org, "tokens")
}

// AddToken makes a token of the organization, or an operator's when org is empty;
// only its answer has the text.
func (c *Client) AddToken(ctx context.Context, org string, t httpapi.TokenCreate) (out httpapi.TokenCreated, err error) {
	err = c.call(ctx, http.MethodPost, tokensPath(org), nil, t, &out)
	return out, err
}

// Tokens lists an organization's tokens, or the operators' when org is empty,
// oldest first.
func (c *Client) Tokens(ctx context.Context, org string, p Page) (httpapi.List[httpapi.TokenBody], error) {
	return get[httpapi.List[httpapi.TokenBody]](ctx, c, tokensPath(org), p.query())
}

// RevokeToken ends a token of the organization, or an operator's when org is
// empty.
func (c *Client) RevokeToken(ctx context.Context, org, id string) error {
	return c.call(ctx, http.MethodDelete, idPath(tokensPath(org), id), nil, nil, nil)
}

// Audit lists who changed what in an organization, or in all and the
// installation when org is empty, newest first.
func (c *Client) Audit(ctx context.Context, org string, p Page) (httpapi.List[httpapi.AuditBody], error) {
	path := base + "/audit"
	if org != "" {
		path = orgPath(org, "audit")
	}
	return get[httpapi.List[httpapi.AuditBody]](ctx, c, path, p.query())
}
