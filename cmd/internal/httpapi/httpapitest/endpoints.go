package httpapitest

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/oklog/ulid/v2"
)

func (s *Service) AddEndpoint(ctx context.Context, e httpapi.NewEndpoint) (out httpapi.MadeEndpoint, err error) {
	leave, err := s.enter(e.Org)
	defer leave()
	if err != nil {
		return out, err
	}
	if !strings.HasPrefix(e.URL, "https://") {
		return out, &httpapi.Invalid{Field: "url", Detail: "must begin with https://"}
	}
	text := cmp.Or(e.Secret, Secret)
	secret, err := secretFor(e.Options.Format, text)
	if err != nil {
		return out, err
	}
	own, err := headers(nil, &e.Headers, false)
	if err != nil {
		return out, err
	}
	if err := checkOptions(e.Options); err != nil {
		return out, err
	}
	at := s.tick()
	granted, err := credentials(nil, e.Credentials, false, at)
	if err != nil {
		return out, err
	}
	row := int64(len(s.endpoints) + 1)
	made := deliver.Endpoint{
		Row: row, ID: "ep_" + numbered(at, row), Org: e.Org, URL: e.URL, Description: e.Description, EventTypes: e.EventTypes,
		Workspace: e.Workspace, Secrets: []deliver.Secret{{Secret: secret, CreatedAt: at}}, Headers: own, Revision: 1, Timeout: e.Timeout, Retry: e.Retry,
		Concurrency: e.Concurrency, Options: e.Options, Credentials: granted, CreatedAt: at, UpdatedAt: at,
	}
	if e.Disabled {
		made.DisabledReason, made.DisabledAt = "manual", at
	}
	startsAt, err := s.fallBehind(made, e.Start)
	if err != nil {
		return out, err
	}
	s.endpoints[made.ID] = made
	s.note(ctx, e.Org, "endpoint.add", made.ID)
	out = httpapi.MadeEndpoint{Endpoint: made, Secret: text, StartsAt: startsAt}
	return out, s.remember(ctx, out)
}

func checkOptions(o deliver.Options) error {
	var bad *deliver.OptionError
	if errors.As(o.Check(), &bad) {
		return &httpapi.Invalid{Field: bad.Field, Detail: bad.Detail}
	}
	return nil
}

func credentials(now *deliver.Credentials, c deliver.CredentialsChange, moved bool, at time.Time) (*deliver.Credentials, error) {
	next, err := c.Apply(now, moved, at)
	var bad *deliver.CredentialsError
	if errors.As(err, &bad) {
		return now, &httpapi.Invalid{Field: bad.Field, Detail: bad.Detail}
	}
	return next, err
}

func numbered(at time.Time, n int64) string {
	u := ulid.ULID{}
	u.SetTime(ulid.Timestamp(at))
	binary.BigEndian.PutUint64(u[8:], uint64(n))
	return u.String()
}

func (s *Service) Endpoints(_ context.Context, org, after string, limit int) ([]deliver.Endpoint, error) {
	leave, err := s.enter(org)
	defer leave()
	if err != nil {
		return nil, err
	}
	own := map[string]deliver.Endpoint{}
	for id, e := range s.endpoints {
		if e.Org == org {
			own[id] = e
		}
	}
	return paged(own, after, limit), nil
}

func (s *Service) endpoint(org, id string) (deliver.Endpoint, error) {
	e, ok := s.endpoints[id]
	if !ok || e.Org != org {
		return deliver.Endpoint{}, httpapi.ErrNotFound
	}
	return e, nil
}

func (s *Service) Endpoint(_ context.Context, org, id string) (deliver.Endpoint, error) {
	leave, err := s.enter(org)
	defer leave()
	if err != nil {
		return deliver.Endpoint{}, err
	}
	return s.endpoint(org, id)
}

func (s *Service) ChangeEndpoint(ctx context.Context, org, id string, c httpapi.EndpointChange) (deliver.Endpoint, error) {
	leave, err := s.enter(org)
	defer leave()
	if err != nil {
		return deliver.Endpoint{}, err
	}
	e, err := s.endpoint(org, id)
	if err != nil {
		return e, err
	}
	if c.Revision != 0 && c.Revision != e.Revision {
		return e, httpapi.ErrRevision
	}
	moved := c.URL != nil && !deliver.SameOrigin(e.URL, *c.URL)
	if e.Headers, err = headers(e.Headers, c.Headers, moved); err != nil {
		return e, err
	}
	if e.Credentials, err = credentials(e.Credentials, c.Credentials, moved, e.UpdatedAt); err != nil {
		return e, err
	}
	if c.Options != nil {
		e.Options = e.Options.Clone()
		c.Options(&e.Options)
		if err := checkOptions(e.Options); err != nil {
			return e, err
		}
	}
	if c.Secret != "" {
		if c.Secret == "new" {
			c.Secret = Secret
		}
		secret, err := secretFor(e.Format, c.Secret)
		if err != nil {
			return e, err
		}
		e.Secrets = []deliver.Secret{{Secret: secret, CreatedAt: s.tick()}}
	}
	if err := (*deliver.Formats)(nil).CheckEndpoint(&e); err != nil {
		var bad *deliver.OptionError
		errors.As(err, &bad)
		return e, &httpapi.Invalid{Field: bad.Field, Detail: bad.Detail}
	}
	e.Revision++
	e.URL = *cmp.Or(c.URL, &e.URL)
	e.Description = *cmp.Or(c.Description, &e.Description)
	e.Workspace = *cmp.Or(c.Workspace, &e.Workspace)
	e.EventTypes = *cmp.Or(c.EventTypes, &e.EventTypes)
	e.Timeout = *cmp.Or(c.Timeout, &e.Timeout)
	e.Retry = *cmp.Or(c.Retry, &e.Retry)
	e.Concurrency = *cmp.Or(c.Concurrency, &e.Concurrency)
	e.UpdatedAt = s.tick()
	if c.Disabled != nil {
		e.DisabledReason, e.DisabledAt = "", time.Time{}
		if *c.Disabled {
			e.DisabledReason, e.DisabledAt = "manual", e.UpdatedAt
		}
	}
	s.endpoints[id] = e
	s.note(ctx, org, "endpoint.change", id)
	return e, nil
}

func (s *Service) RemoveEndpoint(ctx context.Context, org, id string) error {
	leave, err := s.enter(org)
	defer leave()
	if err != nil {
		return err
	}
	if _, err := s.endpoint(org, id); err != nil {
		return err
	}
	delete(s.endpoints, id)
	s.note(ctx, org, "endpoint.remove", id)
	return nil
}
