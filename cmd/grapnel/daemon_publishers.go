package main

import (
	"context"
	"errors"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// signIn says what the bearer of a token may publish for an organization: its
// event subjects and those that are bound to its stream beside them.
func (d *daemon) signIn(org, text string) (stream.Publisher, error) {
	ctx := context.Background() // it asks memory only
	token, err := d.Authenticate(ctx, text)
	switch {
	case errors.Is(err, httpapi.ErrNoToken):
		return stream.Publisher{}, stream.ErrSignIn
	case err != nil:
		return stream.Publisher{}, err
	case token.Org != "" && token.Org != org, !httpapi.Allows(token.Scopes, httpapi.EventsWrite):
		return stream.Publisher{}, stream.ErrSignIn
	}
	o, err := d.store.GetOrg(ctx, org)
	switch {
	case errors.Is(err, fanout.ErrNoOrg):
		return stream.Publisher{}, stream.ErrSignIn
	case err != nil:
		return stream.Publisher{}, err
	}
	return stream.Publisher{
		Org: org, Token: token.ID, Until: token.ExpiresAt, Subjects: append(d.names.Subjects(org), o.Subjects...),
	}, nil
}

// tokenRevoked ends what the token has open. The books' writer calls it.
func (d *daemon) tokenRevoked(id string) {
	d.server.Disconnect(func(p stream.Publisher) bool { return p.Token == id })
}

// signInAgain lets the organization's publishers come again, when what they may
// publish has changed.
func (d *daemon) signInAgain(org string) {
	if d.server != nil {
		d.server.Disconnect(func(p stream.Publisher) bool { return p.Org == org })
	}
}
