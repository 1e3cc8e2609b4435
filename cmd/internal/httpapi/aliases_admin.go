package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
)

// AdminWebhook is an endpoint in the answers of /api/admin/webhooks.
type AdminWebhook struct {
	ID        string    `json:"id" example:"ep_01KB2Q3X8V9W0Y1Z2A3B4C5D6E"`
	Name      string    `json:"name" example:"PSA" doc:"The endpoint's description"`
	URL       string    `json:"url" example:"https://psa.example/webhooks"`
	Events    []string  `json:"events" nullable:"false" example:"[\"ticket.updated\"]"`
	IsActive  bool      `json:"is_active" example:"true" doc:"false: disabled, by hand or after failures"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// AdminWebhookCreated is the answer that shows the secret.
type AdminWebhookCreated struct {
	AdminWebhook
	Secret string `json:"secret" example:"whsec_bm90LWEtc2VjcmV0LWJ1dC1hbi1leGFtcGxlLW9mLW9uZQ==" doc:"Signs every request to the endpoint; shown here and never again"`
}

// AdminWebhookWrite is the body of POST and PUT. PUT gives what is left out its
// default, too.
type AdminWebhookWrite struct {
	Name     string   `json:"name,omitempty" maxLength:"200" example:"PSA" doc:"For people"`
	URL      string   `json:"url" minLength:"1" maxLength:"2048" example:"https://psa.example/webhooks" doc:"Where events are POSTed"`
	Events   []string `json:"events" nullable:"false" minItems:"1" maxItems:"100" example:"[\"ticket.updated\"]" doc:"Exact (ticket.updated), a prefix (ticket.*) or every (*)"`
	IsActive *bool    `json:"is_active,omitempty" nullable:"false" default:"true" example:"true"`
}

// AdminWebhookUpdate is the body of PATCH: what is left out stays.
type AdminWebhookUpdate struct {
	Name     *string   `json:"name,omitempty" nullable:"false" maxLength:"200" example:"PSA"`
	URL      *string   `json:"url,omitempty" nullable:"false" minLength:"1" maxLength:"2048" example:"https://psa.example/webhooks"`
	Events   *[]string `json:"events,omitempty" nullable:"false" minItems:"1" maxItems:"100" example:"[\"ticket.updated\"]"`
	IsActive *bool     `json:"is_active,omitempty" nullable:"false" example:"true" doc:"true enables it, whatever had disabled it"`
}

// SubscriptionPath names an endpoint of the token's organization.
type SubscriptionPath struct {
	ID string `path:"id" maxLength:"64" doc:"ep_…"`
}

func (p SubscriptionPath) thing() string { return "endpoint " + p.ID }

func (p SubscriptionPath) endpoint(ctx context.Context) EndpointPath {
	return EndpointPath{OrgPath: tenant(ctx), ID: p.ID}
}

// vexyl is the format that receivers of VexylCloud's webhooks know.
const vexyl = "vexyl"

// ourNames are ours and then VexylCloud's.
var ourNames = []string{"description", "name", "event_types", "events", "disabled", "is_active"}

func (a *api) adminWebhooks() {
	const all, one = "/api/admin/webhooks", "/api/admin/webhooks/{id}"
	read := access{scope: WebhooksRead, gated: true, tenant: true}
	manage := access{scope: WebhooksManage, gated: true, tenant: true}
	handleNew(a, route{id: "add-admin-webhook", method: http.MethodPost, path: all, status: http.StatusCreated, tag: aliasTag, access: manage,
		summary: "Make an endpoint with the format vexyl, as add-endpoint; the answer shows its secret, once"},
		func(ctx context.Context, in *struct{ Write[AdminWebhookWrite] }) (MadeEndpoint, error) {
			b, format := in.Body, vexyl
			made, err := a.addEndpoint(ctx, &endpointCreate{tenant(ctx), Write[EndpointCreate]{Body: EndpointCreate{
				URL: b.URL, EventTypes: b.Events, Description: Text(b.Name), Disabled: b.IsActive != nil && !*b.IsActive, OptionsChange: OptionsChange{Format: &format},
			}}})
			return made, renamed(err, ourNames...)
		},
		func(m MadeEndpoint) AdminWebhookCreated {
			return AdminWebhookCreated{adminWebhook(endpointBody(m.Endpoint)), m.Secret}
		})
	handle(a, route{id: "list-admin-webhooks", method: http.MethodGet, path: all, tag: aliasTag, access: read, summary: "List the endpoints, as list-endpoints"},
		func(ctx context.Context, in *struct{ Page }) (*answer[List[AdminWebhook]], error) {
			var after string
			if err := in.after("endpoint", "%s", &after); err != nil {
				return nil, err
			}
			found, err := a.svc.Endpoints(ctx, tenant(ctx).Org, after, in.more())
			if err != nil {
				return nil, err
			}
			shape := func(e deliver.Endpoint) AdminWebhook { return adminWebhook(endpointBody(e)) }
			return listed(found, in.Limit, shape, func(e deliver.Endpoint) *string { return cursorAt("endpoint", "%s", e.ID) }), nil
		})
	handle(a, route{id: "get-admin-webhook", method: http.MethodGet, path: one, tag: aliasTag, access: read, summary: "Show an endpoint, as get-endpoint"},
		func(ctx context.Context, in *SubscriptionPath) (*answer[AdminWebhook], error) {
			e, err := a.svc.Endpoint(ctx, tenant(ctx).Org, in.ID)
			if err != nil {
				return nil, err
			}
			return &answer[AdminWebhook]{adminWebhook(endpointBody(e))}, nil
		})
	handle(a, route{id: "replace-admin-webhook", method: http.MethodPut, path: one, tag: aliasTag, access: manage,
		summary: "Change all of an endpoint's fields that these paths have, as change-endpoint"},
		func(ctx context.Context, in *struct {
			SubscriptionPath
			Write[AdminWebhookWrite]
		}) (*answer[AdminWebhook], error) {
			b := in.Body
			active := b.IsActive == nil || *b.IsActive
			return a.changeAdminWebhook(ctx, in.endpoint(ctx), AdminWebhookUpdate{&b.Name, &b.URL, &b.Events, &active})
		})
	handle(a, route{id: "change-admin-webhook", method: http.MethodPatch, path: one, tag: aliasTag, access: manage,
		summary: "Change an endpoint, as change-endpoint"},
		func(ctx context.Context, in *struct {
			SubscriptionPath
			Write[AdminWebhookUpdate]
		}) (*answer[AdminWebhook], error) {
			return a.changeAdminWebhook(ctx, in.endpoint(ctx), in.Body)
		})
	handle(a, route{id: "remove-admin-webhook", method: http.MethodDelete, path: one, status: http.StatusNoContent, tag: aliasTag, access: manage,
		summary: "Remove an endpoint and cancel its pending deliveries, as remove-endpoint"},
		func(ctx context.Context, in *SubscriptionPath) (*struct{}, error) {
			return &struct{}{}, a.svc.RemoveEndpoint(ctx, tenant(ctx).Org, in.ID)
		})
}

func (a *api) changeAdminWebhook(ctx context.Context, at EndpointPath, b AdminWebhookUpdate) (*answer[AdminWebhook], error) {
	u := EndpointUpdate{URL: b.URL, EventTypes: b.Events}
	if b.Name != nil {
		u.Description = Text(*b.Name)
	}
	if b.IsActive != nil {
		disabled := !*b.IsActive
		u.Disabled = &disabled
	}
	e, err := a.changeEndpoint(ctx, &endpointUpdate{EndpointPath: at, Write: Write[EndpointUpdate]{Body: u}})
	if err != nil {
		return nil, renamed(err, ourNames...)
	}
	return &answer[AdminWebhook]{adminWebhook(e.Body)}, nil
}

func adminWebhook(e EndpointBody) AdminWebhook {
	return AdminWebhook{
		ID: e.ID, Name: e.Description, URL: e.URL, Events: e.EventTypes, IsActive: !e.Disabled,
		CreatedAt: e.CreatedAt, UpdatedAt: e.UpdatedAt,
	}
}
