package httpapitest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/sign"
)

// Secret implements httpapi.Secrets.
func (s *Service) Secret(ctx context.Context, org, id string) (deliver.Endpoint, error) {
	leave, err := s.enter(org)
	defer leave()
	if err != nil {
		return deliver.Endpoint{}, err
	}
	e, err := s.endpoint(org, id)
	if err == nil {
		s.note(ctx, org, "secret.reveal", id)
	}
	return e, err
}

// RotateSecret implements httpapi.Secrets. New secrets are the same in every run.
func (s *Service) RotateSecret(ctx context.Context, org, id string, r httpapi.Rotation) (deliver.Endpoint, error) {
	leave, err := s.enter(org)
	defer leave()
	if err != nil {
		return deliver.Endpoint{}, err
	}
	e, err := s.endpoint(org, id)
	if err != nil {
		return e, err
	}
	at := s.tick()
	if r.Secret == "" {
		r.Secret = fmt.Sprintf("whsec_%s%04d", strings.Repeat("A", 40), len(e.Secrets)) // 33 bytes
	}
	secret, err := secretFor(e.Format, r.Secret)
	if err != nil {
		return e, err
	}
	e.Secrets, err = deliver.RotateSecrets(e.Secrets, secret, at, r.Overlap)
	if err != nil {
		return e, fmt.Errorf("endpoint %s: %w: %w", id, err, httpapi.ErrState)
	}
	e.Revision++
	s.endpoints[id] = e
	s.note(ctx, org, "secret.rotate", id)
	return e, s.remember(ctx, e)
}

// secretFor is a secret for a format that is built in.
func secretFor(format, text string) (sign.Secret, error) {
	scheme := (*deliver.Formats)(nil).Scheme(format)
	if scheme == "" {
		return sign.Secret{}, &httpapi.Invalid{Field: "format", Detail: fmt.Sprintf("there is no format %q", format)}
	}
	secret, err := scheme.ParseSecret(text)
	if err != nil {
		return secret, &httpapi.Invalid{Field: "secret", Detail: err.Error()}
	}
	return secret, nil
}

// headers are those of an endpoint after a change, and what a Service says if they cannot be.
func headers(now []deliver.Header, given *[]deliver.Header, moved bool) ([]deliver.Header, error) {
	next, err := deliver.ChangeHeaders(now, given, moved)
	var wrong *deliver.HeaderError
	switch {
	case errors.As(err, &wrong):
		return nil, &httpapi.Invalid{Field: strings.TrimSuffix("headers."+wrong.Name, "."), Detail: wrong.Detail}
	case err != nil:
		return nil, &httpapi.Invalid{Field: "headers", Detail: err.Error()}
	}
	return next, nil
}

// Keys implements httpapi.Secrets: each rotation leaves one key.
func (s *Service) Keys(context.Context) ([]httpapi.Key, error) {
	leave, err := s.enter("")
	defer leave()
	if err != nil {
		return nil, err
	}
	return []httpapi.Key{s.key()}, nil
}

// key is the key of the secrets. The lock is held.
func (s *Service) key() httpapi.Key {
	return httpapi.Key{ID: fmt.Sprintf("%016x", s.keys), CreatedAt: Epoch, Rows: int64(len(s.endpoints)), Seals: true}
}

// RotateKey implements httpapi.Secrets.
func (s *Service) RotateKey(ctx context.Context) (httpapi.Key, error) {
	leave, err := s.enter("")
	defer leave()
	if err != nil {
		return httpapi.Key{}, err
	}
	s.keys++
	s.note(ctx, "", "key.rotate", s.key().ID)
	return s.key(), nil
}
