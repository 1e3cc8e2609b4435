package client

import (
	"context"
	"net/http"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
)

// PauseCursor stops the reading of the organization's stream; deliveries that
// exist go on.
func (c *Client) PauseCursor(ctx context.Context, org string, p httpapi.CursorPauseBody) (out httpapi.CursorBody, err error) {
	err = c.call(ctx, http.MethodPost, orgPath(org, "cursor", "pause"), nil, p, &out)
	return out, err
}

// ResumeCursor reads the organization's stream again.
func (c *Client) ResumeCursor(ctx context.Context, org string) (out httpapi.CursorBody, err error) {
	err = c.call(ctx, http.MethodPost, orgPath(org, "cursor", "resume"), nil, nil, &out)
	return out, err
}

// ResetCursor foresees a move of the organization's cursor, and makes it when
// r says so. It may take a minute.
func (c *Client) ResetCursor(ctx context.Context, org string, r httpapi.CursorResetBody) (out httpapi.CursorPlanBody, err error) {
	err = c.patiently(ctx, http.MethodPost, orgPath(org, "cursor", "reset"), nil, r, &out)
	return out, err
}
