package client

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
)

// AliveLimit is how long the daemon may take to say that it lives.
const AliveLimit = 5 * time.Second

// Alive asks /healthz, and returns why the daemon is not alive, as far as it says.
func (c *Client) Alive(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, AliveLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/healthz", nil)
	if err != nil {
		return fmt.Errorf("ask for health: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return cmp.Or(c.explain(err), fmt.Errorf("ask for health: %w", err))
	}
	defer resp.Body.Close()
	var b httpapi.HealthBody
	if err := json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&b); err != nil {
		return fmt.Errorf("ask for health: answer %s: %w", resp.Status, err)
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(cmp.Or(b.Detail, "the daemon says "+b.Status))
	}
	return nil
}
