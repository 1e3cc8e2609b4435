package client

import (
	"context"
	"net/http"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
)

// EndpointSecret shows the secret of an endpoint; the audit notes that.
func (c *Client) EndpointSecret(ctx context.Context, org, id string) (httpapi.SecretBody, error) {
	return get[httpapi.SecretBody](ctx, c, orgPath(org, "endpoints", id, "secret"), nil)
}

// RotateSecret replaces the secret of an endpoint.
func (c *Client) RotateSecret(ctx context.Context, org, id string, r httpapi.SecretRotate) (out httpapi.SecretBody, err error) {
	err = c.call(ctx, http.MethodPost, orgPath(org, "endpoints", id, "rotate-secret"), nil, r, &out)
	return out, err
}

// Keys lists the keys that encrypt secrets in the database.
func (c *Client) Keys(ctx context.Context) (httpapi.List[httpapi.KeyBody], error) {
	return get[httpapi.List[httpapi.KeyBody]](ctx, c, base+"/keys", nil)
}

// RotateKey replaces the key that encrypts secrets in the database.
func (c *Client) RotateKey(ctx context.Context) (out httpapi.KeyBody, err error) {
	err = c.call(ctx, http.MethodPost, base+"/keys/rotate", nil, nil, &out)
	return out, err
}
