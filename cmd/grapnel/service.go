package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/sqlite"
	"github.com/grapnel-hooks/grapnel/stream"
)

// The daemon is the API's Service: each method is one change of the books,
// followed by telling lanes, fan-out or broker of it. A crash in between is
// mended by the start, which tells them all of everything.
var _ httpapi.Service = (*daemon)(nil)

// answered turns the store's errors into those that the API knows.
func answered(err error) error {
	if invalid := headersAnswer(err); invalid != nil {
		return invalid
	}
	if bad := new(deliver.OptionError); errors.As(err, &bad) {
		return &httpapi.Invalid{Field: bad.Field, Detail: bad.Detail}
	}
	switch {
	case errors.Is(err, sqlite.ErrNotFound):
		return fmt.Errorf("%w (%w)", httpapi.ErrNotFound, err)
	case errors.Is(err, sqlite.ErrExists):
		return fmt.Errorf("%w (%w)", httpapi.ErrExists, err)
	case errors.Is(err, sqlite.ErrRevision):
		return fmt.Errorf("%w (%w)", httpapi.ErrRevision, err)
	case errors.Is(err, sqlite.ErrAnswers):
		return fmt.Errorf("%w (%w)", httpapi.ErrBusy, err)
	case errors.Is(err, sqlite.ErrAnswered):
		return fmt.Errorf("%w (%w)", httpapi.ErrAnswered, err)
	case errors.Is(err, sqlite.ErrInUse), errors.Is(err, sqlite.ErrState):
		return fmt.Errorf("%w (%w)", httpapi.ErrState, err)
	}
	return err
}

// AddOrg makes the stream first: an organization in the books whose stream
// could not be made would look as if it worked.
func (d *daemon) AddOrg(ctx context.Context, o httpapi.Org) (httpapi.Org, error) {
	if err := d.checkPlan(o.Plan); err != nil {
		return httpapi.Org{}, err
	}
	d.making.Lock()
	defer d.making.Unlock()
	if _, err := d.store.GetOrg(ctx, o.ID); err == nil {
		return httpapi.Org{}, fmt.Errorf("organization %s: %w", o.ID, httpapi.ErrExists)
	}
	if err := d.checkSubjects(o.ID, o.Subjects); err != nil {
		return httpapi.Org{}, err
	}
	if _, err := d.broker.Create(ctx, stream.OrgStream{Org: o.ID, Subjects: o.Subjects}); err != nil {
		return httpapi.Org{}, brokerAnswer("subjects", err)
	}
	made, err := d.store.AddOrg(d.asked(ctx, func(made any) any { return orgAnswer(made.(sqlite.Org)) }), sqlite.Org{
		ID: o.ID, Name: o.Name, Plan: o.Plan, Payload: stream.Payload(o.Payload), Subjects: o.Subjects,
	})
	if err != nil {
		return httpapi.Org{}, answered(err)
	}
	d.loop.Add(made.ID)
	return orgAnswer(made), nil
}

func orgAnswer(o sqlite.Org) httpapi.Org {
	return httpapi.Org{
		ID: o.ID, Name: o.Name, Plan: o.Plan, Payload: string(o.Payload), Subjects: o.Subjects, CreatedAt: o.CreatedAt,
	}
}

// brokerAnswer turns a conflict of subjects into an answer about the field.
func brokerAnswer(field string, err error) error {
	if errors.Is(err, stream.ErrConflict) {
		return &httpapi.Invalid{Field: field, Detail: err.Error()}
	}
	if foreign := new(stream.ForeignError); errors.As(err, &foreign) {
		return fmt.Errorf("%w: %w", foreign, httpapi.ErrState)
	}
	return err
}

func (d *daemon) checkPlan(plan string) error {
	plans := d.live.Load().Plans
	if plan == "" || plans == nil {
		return nil
	}
	if _, ok := plans[plan]; !ok {
		return &httpapi.Invalid{Field: "plan", Detail: fmt.Sprintf("there is no plan %q in the configuration: use one of %s", plan, strings.Join(d.planNames(), ", "))}
	}
	return nil
}

func (d *daemon) checkSubjects(org string, subjects []string) error {
	for i, s := range subjects {
		if err := d.names.CheckBinding(s); err != nil {
			return &httpapi.Invalid{Field: fmt.Sprintf("subjects[%d]", i), Detail: err.Error()}
		}
	}
	return nil
}

func (d *daemon) Orgs(ctx context.Context, after string, limit int) ([]httpapi.Org, error) {
	all, err := d.store.ListOrgs(ctx)
	if err != nil {
		return nil, err
	}
	var page []httpapi.Org
	for _, o := range all {
		if o.ID > after && len(page) < limit {
			page = append(page, orgAnswer(o))
		}
	}
	return page, nil
}

func (d *daemon) Org(ctx context.Context, org string) (httpapi.Org, error) {
	o, err := d.store.GetOrg(ctx, org)
	if err != nil {
		return httpapi.Org{}, answered(err)
	}
	return orgAnswer(o), nil
}

func (d *daemon) ChangeOrg(ctx context.Context, org string, c httpapi.OrgChange) (httpapi.Org, error) {
	o, err := d.store.GetOrg(ctx, org)
	if err != nil {
		return httpapi.Org{}, answered(err)
	}
	if c.Name != nil {
		o.Name = *c.Name
	}
	if c.Plan != nil {
		if err := d.checkPlan(*c.Plan); err != nil {
			return httpapi.Org{}, err
		}
		o.Plan = *c.Plan
	}
	if c.Payload != nil {
		o.Payload = stream.Payload(*c.Payload)
	}
	if c.Subjects != nil {
		if err := d.checkSubjects(org, *c.Subjects); err != nil {
			return httpapi.Org{}, err
		}
		o.Subjects = *c.Subjects
		if _, err := d.broker.Create(ctx, stream.OrgStream{Org: org, Subjects: o.Subjects}); err != nil {
			return httpapi.Org{}, brokerAnswer("subjects", err)
		}
	}
	changed, err := d.store.SetOrg(d.asked(ctx, nil), o)
	if err != nil {
		return httpapi.Org{}, answered(err)
	}
	if c.Subjects != nil {
		d.signInAgain(org)
	}
	d.loop.Reload(org)
	return orgAnswer(changed), nil
}

func (d *daemon) RemoveOrg(ctx context.Context, org string) error {
	endpoints, err := d.store.ListEndpoints(ctx, org)
	if err != nil {
		return answered(err)
	}
	if len(endpoints) > 0 {
		return fmt.Errorf("organization %s has %d endpoints; remove them first: %w", org, len(endpoints), httpapi.ErrState)
	}
	if st, err := d.broker.State(ctx, d.names.Stream(org)); err == nil && st.Foreign(d.store.Installation()) != nil {
		return brokerAnswer("org", st.Foreign(d.store.Installation()))
	}
	d.loop.Forget(org)
	if err := d.store.RemoveOrg(d.asked(ctx, nil), org); err != nil {
		d.loop.Add(org)
		return answered(err)
	}
	d.streams.forget(d.names.Stream(org))
	// A stream that stayed would be found again, and adopted as a new org.
	if err := d.broker.Remove(ctx, org); err != nil && !errors.Is(err, stream.ErrNoStream) {
		return fmt.Errorf("organization %s was removed, but not its stream: %w", org, err)
	}
	return nil
}

func (d *daemon) AddEndpoint(ctx context.Context, e httpapi.NewEndpoint) (out httpapi.MadeEndpoint, err error) {
	if _, err := d.store.GetOrg(ctx, e.Org); err != nil {
		return out, answered(err)
	}
	secret, err := d.secretFor(e.Options.Format, e.Secret)
	if err != nil {
		return out, err
	}
	ep := deliver.Endpoint{
		Org: e.Org, URL: e.URL, Description: e.Description, EventTypes: e.EventTypes, Workspace: e.Workspace,
		Secrets: []deliver.Secret{{Secret: secret}}, Headers: e.Headers, Timeout: e.Timeout, Retry: e.Retry, Concurrency: e.Concurrency,
		Options: e.Options,
	}
	if ep.Credentials, err = e.Credentials.Apply(nil, false, time.Now()); err != nil {
		return out, answered(err)
	}
	if e.Disabled {
		ep.DisabledReason = deliver.DisabledManual
	}
	if err := d.checkEndpoint(&ep); err != nil {
		return out, err
	}
	if err := d.checkFormat(&ep); err != nil {
		return out, err
	}
	if err := checkFilter(ep.Filter); err != nil {
		return out, err
	}
	if err := d.checkTypes(ep.EventTypes); err != nil {
		return httpapi.MadeEndpoint{}, err
	}
	start, startsAt, err := d.start(ctx, e.Org, e.Start)
	if err != nil {
		return out, err
	}
	shape := func(made any) any {
		return httpapi.MadeEndpoint{StartsAt: startsAt, Endpoint: made.(deliver.Endpoint), Secret: secret.Reveal()}
	}
	made, err := d.store.AddEndpoint(d.asked(ctx, shape), ep, start)
	if err != nil {
		return out, inState(err)
	}
	return shape(made).(httpapi.MadeEndpoint), nil
}

// checkEndpoint checks what only the daemon knows, and makes the URL canonical.
func (d *daemon) checkEndpoint(ep *deliver.Endpoint) error {
	canonical, err := d.guard.CheckURL(ep.URL, d.live.Load().AllowHTTP)
	if err != nil {
		detail := strings.TrimPrefix(err.Error(), "url: ")
		if errors.Is(err, deliver.ErrBlocked) {
			detail += ": an operator can allow a network with --allow-network"
		}
		if errors.Is(err, deliver.ErrPort) {
			detail += ": an operator can allow others with --allow-port"
		}
		return &httpapi.Invalid{Field: "url", Detail: detail}
	}
	ep.URL = canonical
	if err := d.checkTokenURL(ep.Credentials); err != nil {
		return err
	}
	for i, p := range ep.EventTypes {
		if err := fanout.CheckPattern(p); err != nil {
			return &httpapi.Invalid{Field: fmt.Sprintf("event_types[%d]", i), Detail: err.Error()}
		}
	}
	if ep.Workspace != "" {
		if err := stream.CheckWorkspace(ep.Workspace); err != nil {
			return &httpapi.Invalid{Field: "workspace_id", Detail: err.Error()}
		}
	}
	if err := ep.Retry.Check(); err != nil {
		return &httpapi.Invalid{Field: "retry", Detail: err.Error()}
	}
	if err := checkRedactions(ep.Redact); err != nil {
		return err
	}
	return answered(ep.Options.Check())
}

func (d *daemon) Endpoints(ctx context.Context, org, after string, limit int) ([]deliver.Endpoint, error) {
	all, err := d.store.ListEndpoints(ctx, org)
	if err != nil {
		return nil, answered(err)
	}
	slices.SortFunc(all, func(a, b deliver.Endpoint) int { return strings.Compare(a.ID, b.ID) })
	all = slices.DeleteFunc(all, func(e deliver.Endpoint) bool { return e.ID <= after })
	return all[:min(len(all), limit)], nil
}

func (d *daemon) Endpoint(ctx context.Context, org, id string) (deliver.Endpoint, error) {
	e, err := d.store.GetEndpoint(ctx, org, id)
	return e, answered(err)
}

func (d *daemon) ChangeEndpoint(ctx context.Context, org, id string, c httpapi.EndpointChange) (deliver.Endpoint, error) {
	e, err := d.store.GetEndpoint(ctx, org, id)
	if err != nil {
		return e, answered(err)
	}
	change := sqlite.EndpointChange{
		URL: c.URL, Description: c.Description, Workspace: c.Workspace,
		Timeout: c.Timeout, Retry: c.Retry, Concurrency: c.Concurrency,
		Headers: c.Headers, Credentials: c.Credentials, Options: c.Options, Disabled: c.Disabled, Revision: c.Revision,
	}
	next := e
	if a := c.Credentials.Auth; a != nil {
		next.Credentials = &deliver.Credentials{Auth: *a}
	}
	if c.Options != nil {
		next.Options = e.Options.Clone()
		c.Options(&next.Options)
	}
	if c.URL != nil {
		next.URL = *c.URL
	}
	if c.Workspace != nil {
		next.Workspace = *c.Workspace
	}
	if c.EventTypes != nil {
		next.EventTypes, change.EventTypes = *c.EventTypes, *c.EventTypes
	}
	if c.Retry != nil {
		next.Retry = *c.Retry
	}
	if c.Secret != "" {
		if change.Secret, err = d.secretFor(next.Format, c.Secret); err != nil {
			return e, err
		}
		next.Secrets = []deliver.Secret{{Secret: change.Secret}}
	}
	if err := d.checkEndpoint(&next); err != nil {
		return e, err
	}
	if c.Headers != nil {
		next.Headers = *c.Headers
	}
	// An endpoint whose format is gone can still be disabled, or moved.
	if next.Format != e.Format || c.Headers != nil || c.Secret != "" {
		if err := d.checkFormat(&next); err != nil {
			return e, err
		}
	}
	if next.Filter != e.Filter { // the old one may stay, even if it cannot be read any more
		if err := checkFilter(next.Filter); err != nil {
			return e, err
		}
	}
	if c.EventTypes != nil {
		if err := d.checkTypes(next.EventTypes); err != nil {
			return e, err
		}
	}
	if c.URL != nil {
		change.URL = &next.URL
	}
	e, err = d.store.SetEndpoint(d.asked(ctx, nil), org, id, change)
	return e, inState(err)
}

func (d *daemon) RemoveEndpoint(ctx context.Context, org, id string) error {
	return answered(d.store.RemoveEndpoint(d.asked(ctx, nil), org, id))
}

func (d *daemon) Deliveries(ctx context.Context, org string, f httpapi.DeliveryFilter, after deliver.Key, limit int) ([]deliver.Delivery, deliver.Key, error) {
	if f.Type != "" {
		if err := fanout.CheckPattern(f.Type); err != nil {
			return nil, deliver.Key{}, &httpapi.Invalid{Field: "type", Detail: err.Error()}
		}
	}
	filter := sqlite.Filter{Endpoint: f.Endpoint, Type: f.Type, State: f.State, Since: f.Since, Until: f.Until}
	if f.Event != nil {
		filter.Event = *f.Event
	}
	ds, next, err := d.store.ListDeliveries(ctx, org, filter, limit, after)
	if f.Endpoint != "" && errors.Is(err, sqlite.ErrNotFound) {
		return nil, deliver.Key{}, nil // nobody's endpoint has no deliveries
	}
	return ds, next, answered(err)
}

func (d *daemon) Delivery(ctx context.Context, org string, key deliver.Key) (deliver.Delivery, []deliver.Attempt, error) {
	dl, as, err := d.store.GetDelivery(ctx, org, key)
	return dl, as, answered(err)
}
