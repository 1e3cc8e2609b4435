package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
)

// Aliases are paths that integrations of earlier platforms call (contract,
// section 6, last lines). Each maps its fields to those of one of our operations,
// calls that, and maps its answer back: access, plan gate, checks, errors and audit
// are that operation's. What differs is that the organization is the token's, so
// that operators, who have none, cannot use them.
//
// The manufacturing platform calls an endpoint a subscription and a delivery an
// entry of the webhooks' log; VexylCloud (aliases_admin.go) calls an endpoint a
// webhook. Those nouns live here and nowhere else.
func (a *api) aliases() {
	a.subscriptions()
	a.integrations()
	a.adminWebhooks()
}

const aliasTag = "earlier platforms"

// tenant is the organization of the caller's token. The door has seen to it that
// there is one.
func tenant(ctx context.Context) OrgPath { return OrgPath{CallerOf(ctx).Org} }

// renamed is err with the fields of our operation under the alias's names, which
// follow ours in turn.
func renamed(err error, names ...string) error {
	var invalid *Invalid
	if !errors.As(err, &invalid) {
		return err
	}
	for i := 0; i < len(names); i += 2 {
		if rest, ok := strings.CutPrefix(invalid.Field, names[i]); ok && (rest == "" || strings.ContainsAny(rest[:1], ".[")) {
			return &Invalid{Field: names[i+1] + rest, Detail: invalid.Detail}
		}
	}
	return err
}

// Subscribe is the body of POST /portal/webhooks/subscribe.
type Subscribe struct {
	URL         string    `json:"url" minLength:"1" maxLength:"2048" example:"https://mes.example/webhooks" doc:"Where events are POSTed"`
	EventTypes  []string  `json:"event_types,omitempty" nullable:"false" minItems:"1" maxItems:"100" example:"[\"order.*\"]" doc:"Exact (invoice.paid), a prefix (invoice.*) or every (*), which is the default"`
	Events      []string  `json:"events,omitempty" nullable:"false" minItems:"1" maxItems:"100" example:"[\"order.released\"]" doc:"Another name of event_types; what both have counts"`
	WorkspaceID Clearable `json:"workspace_id,omitzero" example:"line-4" doc:"Only this workspace's events; without it, or null, those of the whole organization"`
	Description Clearable `json:"description,omitzero" example:"Orders to the shop floor" doc:"For people"`
	Secret      string    `json:"secret,omitempty" maxLength:"128" doc:"whsec_ and base64 of 24 to 64 bytes; made when left out"`
}

// Subscribed is the answer to it, which shows the secret.
type Subscribed struct {
	SubscriptionID string    `json:"subscription_id" example:"ep_01KB2Q3X8V9W0Y1Z2A3B4C5D6E" doc:"The endpoint's id: ep_…"`
	Status         string    `json:"status" enum:"active"`
	URL            string    `json:"url" example:"https://mes.example/webhooks"`
	EventTypes     []string  `json:"event_types" nullable:"false" example:"[\"order.*\"]"`
	WorkspaceID    *string   `json:"workspace_id" example:"line-4" doc:"null: the whole organization's events"`
	Description    string    `json:"description,omitempty" example:"Orders to the shop floor"`
	CreatedAt      time.Time `json:"created_at"`
	Secret         string    `json:"secret" example:"whsec_bm90LWEtc2VjcmV0LWJ1dC1hbi1leGFtcGxlLW9mLW9uZQ==" doc:"Signs every request to the endpoint; shown here and never again"`
}

// RotatedSecret is the answer of POST /portal/webhooks/{id}/rotate-secret.
type RotatedSecret struct {
	SubscriptionID    string     `json:"subscription_id" example:"ep_01KB2Q3X8V9W0Y1Z2A3B4C5D6E"`
	Secret            string     `json:"secret" example:"whsec_bm90LWEtc2VjcmV0LWJ1dC1hbi1leGFtcGxlLW9mLW9uZQ==" doc:"The new one, which signs from now on"`
	PreviousExpiresAt *time.Time `json:"previous_expires_at" doc:"Until then the older ones sign, too; null: they do not"`
}

type subscriptionRotate struct {
	SubscriptionPath
	Write[SecretRotate]
}

func (a *api) subscriptions() {
	handleNew(a, route{id: "subscribe", method: http.MethodPost, path: base + "/portal/webhooks/subscribe", status: http.StatusCreated, tag: aliasTag,
		access:  access{scope: WebhooksManage, gated: true, tenant: true},
		summary: "Make an endpoint, as add-endpoint; the answer shows its secret, once"},
		func(ctx context.Context, in *struct{ Write[Subscribe] }) (MadeEndpoint, error) {
			b, types := in.Body, "event_types"
			if len(b.EventTypes) == 0 {
				types = "events"
			}
			made, err := a.addEndpoint(ctx, &endpointCreate{tenant(ctx), Write[EndpointCreate]{Body: EndpointCreate{
				URL: b.URL, EventTypes: append(b.EventTypes, b.Events...), WorkspaceID: b.WorkspaceID, Description: b.Description, Secret: b.Secret,
			}}})
			return made, renamed(err, "event_types", types)
		},
		func(m MadeEndpoint) Subscribed {
			e := endpointBody(m.Endpoint)
			return Subscribed{
				SubscriptionID: e.ID, Status: "active", URL: e.URL, EventTypes: e.EventTypes, WorkspaceID: e.WorkspaceID,
				Description: e.Description, CreatedAt: e.CreatedAt, Secret: m.Secret,
			}
		})
	handleNew(a, route{id: "rotate-subscription-secret", method: http.MethodPost, path: base + "/portal/webhooks/{id}/rotate-secret", status: http.StatusCreated, tag: aliasTag,
		access: access{scope: WebhooksManage, gated: true, tenant: true}, bodyless: true,
		summary: "Replace the secret of an endpoint, as rotate-endpoint-secret"},
		func(ctx context.Context, in *subscriptionRotate) (deliver.Endpoint, error) {
			return a.rotateSecret(ctx, in.endpoint(ctx), in.Body)
		},
		func(e deliver.Endpoint) RotatedSecret {
			b := secretBody(e)
			r := RotatedSecret{SubscriptionID: e.ID, Secret: b.Secret}
			for _, p := range b.Previous {
				if r.PreviousExpiresAt == nil || p.ExpiresAt.After(*r.PreviousExpiresAt) {
					r.PreviousExpiresAt = &p.ExpiresAt
				}
			}
			return r
		})
}
