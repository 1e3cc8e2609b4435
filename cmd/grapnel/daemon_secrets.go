package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/deliver"
)

// Secret is in the audit before it is told.
func (d *daemon) Secret(ctx context.Context, org, id string) (deliver.Endpoint, error) {
	e, err := d.store.GetEndpoint(ctx, org, id)
	if err != nil {
		return deliver.Endpoint{}, answered(err)
	}
	if err := d.store.Audited(d.asked(ctx, nil), org, "secret.reveal", id); err != nil {
		return deliver.Endpoint{}, answered(err)
	}
	return signing(e), nil
}

// signing is e with those of its secrets that sign now.
func signing(e deliver.Endpoint) deliver.Endpoint {
	now := time.Now()
	e.Secrets = slices.DeleteFunc(slices.Clone(e.Secrets), func(s deliver.Secret) bool { return !s.Live(now) })
	return e
}

func (d *daemon) RotateSecret(ctx context.Context, org, id string, r httpapi.Rotation) (deliver.Endpoint, error) {
	ep, err := d.store.GetEndpoint(ctx, org, id)
	if err != nil {
		return deliver.Endpoint{}, answered(err)
	}
	secret, err := d.secretFor(ep.Format, r.Secret)
	if err != nil {
		return deliver.Endpoint{}, err
	}
	shape := func(made any) any { return signing(made.(deliver.Endpoint)) }
	e, err := d.store.RotateSecret(d.asked(ctx, shape), org, id, secret, r.Overlap)
	var full *deliver.SecretsError
	if errors.As(err, &full) {
		return deliver.Endpoint{}, fmt.Errorf("endpoint %s: %w: %w", id, full, httpapi.ErrState)
	}
	if err != nil {
		return deliver.Endpoint{}, answered(err)
	}
	return signing(e), nil
}

// headersAnswer turns what is wrong with headers into an answer about the field.
func headersAnswer(err error) error {
	var wrong *deliver.HeaderError
	var credentials *deliver.CredentialsError
	switch {
	case errors.As(err, &credentials):
		return &httpapi.Invalid{Field: credentials.Field, Detail: credentials.Detail}
	case errors.As(err, &wrong) && wrong.Name != "":
		return &httpapi.Invalid{Field: "headers." + wrong.Name, Detail: wrong.Detail}
	case wrong != nil:
		return &httpapi.Invalid{Field: "headers", Detail: wrong.Detail}
	case errors.Is(err, deliver.ErrOrigin):
		return &httpapi.Invalid{Field: "headers", Detail: deliver.ErrOrigin.Error()}
	}
	return nil
}

func (d *daemon) Keys(ctx context.Context) ([]httpapi.Key, error) {
	found, err := d.store.Keys(ctx)
	if err != nil {
		return nil, answered(err)
	}
	keys := make([]httpapi.Key, len(found))
	for i, k := range found {
		keys[i] = httpapi.Key(k)
	}
	return keys, nil
}

func (d *daemon) RotateKey(ctx context.Context) (httpapi.Key, error) {
	k, err := d.store.RotateKey(d.asked(ctx, nil))
	return httpapi.Key(k), answered(err)
}
