package httpapi

import (
	"context"
	"fmt"
	"net/http"
)

type orgCreate struct{ Write[OrgCreate] }

func (in *orgCreate) thing() string { return "organization " + in.Body.ID }

type orgUpdate struct {
	OrgPath
	Write[OrgUpdate]
}

func (a *api) orgs() {
	const tag, one = "orgs", base + "/orgs/{org}"
	handleNew(a, route{id: "add-org", method: http.MethodPost, path: base + "/orgs", status: http.StatusCreated, tag: tag,
		access:  access{scope: Admin, operator: true},
		summary: "Make an organization and its stream"},
		func(ctx context.Context, in *orgCreate) (Org, error) {
			b := in.Body
			return a.svc.AddOrg(ctx, Org{ID: b.ID, Name: b.Name, Plan: b.Plan, Payload: b.Payload, Subjects: b.Subjects})
		}, orgBody)
	handle(a, route{id: "list-orgs", method: http.MethodGet, path: base + "/orgs", tag: tag, access: access{scope: Admin, operator: true},
		summary: "List the organizations by id"},
		func(ctx context.Context, in *struct{ Page }) (*answer[List[OrgBody]], error) {
			var after string
			if err := in.after("org", "%s", &after); err != nil {
				return nil, err
			}
			all, err := a.svc.Orgs(ctx, after, in.more())
			if err != nil {
				return nil, err
			}
			return listed(all, in.Limit, orgBody, func(o Org) *string { return cursorAt("org", "%s", o.ID) }), nil
		})
	handle(a, route{id: "get-org", method: http.MethodGet, path: one, tag: tag, access: access{scope: Admin}, summary: "Show an organization"},
		func(ctx context.Context, in *OrgPath) (*answer[OrgBody], error) {
			o, err := a.svc.Org(ctx, in.Org)
			if err != nil {
				return nil, err
			}
			return &answer[OrgBody]{orgBody(o)}, nil
		})
	handle(a, route{id: "change-org", method: http.MethodPatch, path: one, tag: tag, access: access{scope: Admin, operator: true}, summary: "Change an organization"},
		func(ctx context.Context, in *orgUpdate) (*answer[OrgBody], error) {
			o, err := a.svc.ChangeOrg(ctx, in.Org, OrgChange(in.Body))
			if err != nil {
				return nil, err
			}
			return &answer[OrgBody]{orgBody(o)}, nil
		})
	handle(a, route{id: "remove-org", method: http.MethodDelete, path: one, status: http.StatusNoContent, tag: tag, access: access{scope: Admin, operator: true},
		summary: "Remove an organization that has no endpoints, and its stream"},
		func(ctx context.Context, in *OrgPath) (*struct{}, error) {
			return &struct{}{}, a.svc.RemoveOrg(ctx, in.Org)
		})
}

func orgBody(o Org) OrgBody {
	return OrgBody{
		ID: o.ID, Name: o.Name, Plan: o.Plan, Payload: o.Payload,
		Subjects: append([]string{}, o.Subjects...), CreatedAt: utc(o.CreatedAt),
	}
}

// itemThing names one thing of an organization.
func itemThing(noun, id, org string) string {
	return fmt.Sprintf("%s %s in organization %s", noun, id, org)
}
