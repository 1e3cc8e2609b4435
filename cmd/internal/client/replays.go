package client

import (
	"context"
	"net/http"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
)

// StartReplay sends an endpoint again what matches, as a job; with DryRun it only
// counts.
func (c *Client) StartReplay(ctx context.Context, org, endpoint string, r httpapi.ReplayCreate) (out httpapi.ReplayBody, err error) {
	err = c.call(ctx, http.MethodPost, orgPath(org, "endpoints", endpoint, "replay"), nil, r, &out)
	return out, err
}

// Replays lists an organization's replays, newest first.
func (c *Client) Replays(ctx context.Context, org string, p Page) (httpapi.List[httpapi.ReplayBody], error) {
	return get[httpapi.List[httpapi.ReplayBody]](ctx, c, orgPath(org, "replays"), p.query())
}

// Replay shows how far a replay has come.
func (c *Client) Replay(ctx context.Context, org, id string) (httpapi.ReplayBody, error) {
	return get[httpapi.ReplayBody](ctx, c, orgPath(org, "replays", id), nil)
}

// PauseReplay stops a replay until it is resumed.
func (c *Client) PauseReplay(ctx context.Context, org, id string) (httpapi.ReplayBody, error) {
	return c.setReplay(ctx, org, id, "pause")
}

// ResumeReplay lets a paused replay go on.
func (c *Client) ResumeReplay(ctx context.Context, org, id string) (httpapi.ReplayBody, error) {
	return c.setReplay(ctx, org, id, "resume")
}

// CancelReplay ends a replay; what it has made pending is sent.
func (c *Client) CancelReplay(ctx context.Context, org, id string) (httpapi.ReplayBody, error) {
	return c.setReplay(ctx, org, id, "cancel")
}

func (c *Client) setReplay(ctx context.Context, org, id, verb string) (out httpapi.ReplayBody, err error) {
	err = c.call(ctx, http.MethodPost, orgPath(org, "replays", id, verb), nil, nil, &out)
	return out, err
}
