package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// Raw gets what a path answers, as it is: metrics, and what is below /debug/ on
// the socket. It fails if that has more than most bytes. It waits as long as ctx.
func (c *Client) Raw(ctx context.Context, path string, most int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		return nil, fmt.Errorf("GET %s: %w", path, err)
	}
	c.authorize(req)
	resp, err := c.http.Do(req)
	if err != nil {
		if why := c.explain(err); why != nil {
			return nil, why
		}
		return nil, fmt.Errorf("GET %s: %w", path, errors.Unwrap(err)) // its text has the whole URL
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, most+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("GET %s: read the answer: %w", path, err)
	case resp.StatusCode >= 300:
		return nil, refusal(http.MethodGet, path, resp, raw)
	case int64(len(raw)) > most:
		return nil, fmt.Errorf("GET %s: the answer has more than %d bytes", path, most)
	}
	return raw, nil
}
