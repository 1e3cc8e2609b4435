package main

import (
	"strings"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/deliver"
)

// checkTokenURL checks where an endpoint's tokens are fetched as its own URL is
// checked.
func (d *daemon) checkTokenURL(c *deliver.Credentials) error {
	if c == nil || c.Auth.TokenURL == "" {
		return nil
	}
	if _, err := d.guard.CheckURL(c.Auth.TokenURL, d.live.Load().AllowHTTP); err != nil {
		return &httpapi.Invalid{Field: "auth.token_url", Detail: strings.TrimPrefix(err.Error(), "url: ")}
	}
	return nil
}
