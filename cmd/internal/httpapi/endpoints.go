package httpapi

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/grapnel-hooks/grapnel/deliver"
)

type EndpointPath struct {
	OrgPath
	ID string `path:"id" maxLength:"64" doc:"ep_…"`
}

func (p EndpointPath) thing() string { return itemThing("endpoint", p.ID, p.Org) }

type endpointCreate struct {
	OrgPath
	Write[EndpointCreate]
}

type endpointUpdate struct {
	EndpointPath
	IfMatch string `header:"If-Match" maxLength:"100" example:"*" doc:"The ETag of what was read: the change is made only if nobody has changed the endpoint since"`
	Write[EndpointUpdate]
}

func (a *api) endpoints() {
	const tag, all, one = "endpoints", base + "/orgs/{org}/endpoints", base + "/orgs/{org}/endpoints/{id}"
	handleNew(a, route{id: "add-endpoint", method: http.MethodPost, path: all, status: http.StatusCreated, tag: tag, access: access{scope: WebhooksManage, gated: true},
		summary: "Make an endpoint; the answer shows its secret, once"}, a.addEndpoint, endpointCreated)
	handle(a, route{id: "list-endpoints", method: http.MethodGet, path: all, tag: tag, access: access{scope: WebhooksRead, gated: true},
		summary: "List the endpoints, oldest first"},
		func(ctx context.Context, in *struct {
			OrgPath
			Page
		}) (*answer[List[EndpointBody]], error) {
			var after string
			if err := in.after("endpoint", "%s", &after); err != nil {
				return nil, err
			}
			found, err := a.svc.Endpoints(ctx, in.Org, after, in.more())
			if err != nil {
				return nil, err
			}
			body, err := a.behind(ctx, in.Org, found)
			if err != nil {
				return nil, err
			}
			return listed(found, in.Limit, body, func(e deliver.Endpoint) *string {
				return cursorAt("endpoint", "%s", e.ID)
			}), nil
		})
	handle(a, route{id: "get-endpoint", method: http.MethodGet, path: one, tag: tag, access: access{scope: WebhooksRead, gated: true}, summary: "Show an endpoint"},
		func(ctx context.Context, in *EndpointPath) (*endpointAnswer, error) {
			e, err := a.svc.Endpoint(ctx, in.Org, in.ID)
			if err != nil {
				return nil, err
			}
			return a.answered(ctx, e)
		})
	handle(a, route{id: "change-endpoint", method: http.MethodPatch, path: one, tag: tag, access: access{scope: WebhooksManage, gated: true},
		summary:  "Change, enable or disable an endpoint",
		describe: func(op *huma.Operation) { op.Errors = append(op.Errors, http.StatusPreconditionFailed) }}, a.changeEndpoint)
	handle(a, route{id: "remove-endpoint", method: http.MethodDelete, path: one, status: http.StatusNoContent, tag: tag, access: access{scope: WebhooksManage, gated: true},
		summary: "Remove an endpoint and cancel its pending deliveries"},
		func(ctx context.Context, in *EndpointPath) (*struct{}, error) {
			return &struct{}{}, a.svc.RemoveEndpoint(ctx, in.Org, in.ID)
		})
}

func (a *api) addEndpoint(ctx context.Context, in *endpointCreate) (MadeEndpoint, error) {
	b := in.Body
	e := NewEndpoint{
		Org: in.Org, URL: b.URL, Description: b.Description.Text, EventTypes: b.EventTypes,
		Workspace: b.WorkspaceID.Text, Secret: b.Secret, Headers: headersOf(b.Headers), Credentials: b.CredentialsChange.change(), Disabled: b.Disabled,
		Timeout: deliver.DefaultTimeout, Retry: deliver.DefaultPolicy, Concurrency: deliver.DefaultConcurrency,
	}
	if len(e.EventTypes) == 0 {
		e.EventTypes = []string{"*"}
	}
	if b.TimeoutMS != nil {
		e.Timeout = time.Duration(*b.TimeoutMS) * time.Millisecond
	}
	if b.Concurrency != nil {
		e.Concurrency = *b.Concurrency
	}
	e.Retry = b.Retry.over(e.Retry)
	change, err := b.OptionsChange.apply()
	if err != nil {
		return MadeEndpoint{}, err
	}
	if change != nil {
		change(&e.Options)
	}
	if e.Start, err = ParseStart(string(b.Start)); err != nil {
		return MadeEndpoint{}, err
	}
	return a.svc.AddEndpoint(ctx, e)
}

func endpointCreated(m MadeEndpoint) EndpointCreated {
	created := EndpointCreated{EndpointBody: endpointBody(m.Endpoint), Secret: m.Secret, StartsAt: uint64(m.StartsAt)}
	if len(m.Endpoint.Secrets) > 0 {
		created.PublicKey = m.Endpoint.Secrets[0].Public().String()
	}
	return created
}

func (a *api) changeEndpoint(ctx context.Context, in *endpointUpdate) (*endpointAnswer, error) {
	b := in.Body
	c := EndpointChange{
		URL: b.URL, Description: b.Description.pointer(), Workspace: b.WorkspaceID.pointer(),
		EventTypes: b.EventTypes, Concurrency: b.Concurrency, Credentials: b.CredentialsChange.change(), Secret: b.Secret, Disabled: b.Disabled,
	}
	var err error
	if c.Options, err = b.OptionsChange.apply(); err != nil {
		return nil, err
	}
	if b.TimeoutMS != nil {
		d := time.Duration(*b.TimeoutMS) * time.Millisecond
		c.Timeout = &d
	}
	if in.IfMatch != "" && in.IfMatch != "*" {
		if c.Revision, err = strconv.ParseInt(strings.Trim(in.IfMatch, `"`), 10, 64); err != nil || c.Revision <= 0 {
			return nil, ErrRevision // no ETag of ours: it matches nothing
		}
	}
	if b.Headers != nil {
		headers := headersOf(*b.Headers)
		c.Headers = &headers
	}
	if b.Retry != nil {
		// What the schedule's change leaves out stays as it is, so it must be read first.
		now, err := a.svc.Endpoint(ctx, in.Org, in.ID)
		if err != nil {
			return nil, err
		}
		p := b.Retry.over(now.Retry)
		c.Retry = &p
	}
	e, err := a.svc.ChangeEndpoint(ctx, in.Org, in.ID, c)
	if err != nil {
		return nil, err
	}
	return a.answered(ctx, e)
}

// endpointAnswer is an endpoint and the ETag that a change may ask for.
type endpointAnswer struct {
	ETag string `header:"ETag"`
	Body EndpointBody
}

// over is p with the fields that r has.
func (r *Retry) over(p deliver.Policy) deliver.Policy {
	if r == nil {
		return p
	}
	if r.Initial != nil {
		p.Initial = time.Duration(*r.Initial)
	}
	if r.Multiplier != nil {
		p.Multiplier = *r.Multiplier
	}
	if r.MaxInterval != nil {
		p.MaxInterval = time.Duration(*r.MaxInterval)
	}
	if r.Attempts != nil {
		p.Attempts = *r.Attempts
	}
	return p
}

func endpointBody(e deliver.Endpoint) EndpointBody {
	initial, longest := Duration(e.Retry.Initial), Duration(e.Retry.MaxInterval)
	b := EndpointBody{
		ID: e.ID, Org: e.Org, URL: e.URL, Description: e.Description,
		EventTypes:  append([]string{}, e.EventTypes...),
		Headers:     hiddenHeaders(e.Headers),
		TimeoutMS:   int(e.Timeout / time.Millisecond),
		Retry:       Retry{Initial: &initial, Multiplier: &e.Retry.Multiplier, MaxInterval: &longest, Attempts: &e.Retry.Attempts},
		Concurrency: e.Concurrency, CredentialsBody: credentialsBody(e.Credentials), OptionsBody: optionsBody(e.Options), Disabled: !e.Enabled(), DisabledReason: e.DisabledReason,
		ConditionBody: conditionBody(&e, time.Now()), CreatedAt: utc(e.CreatedAt), UpdatedAt: utc(e.UpdatedAt),
		revision: e.Revision,
	}
	if e.Workspace != "" {
		b.WorkspaceID = &e.Workspace
	}
	if !e.Enabled() {
		b.DisabledAt = optional(e.DisabledAt)
	}
	return b
}
