package httpapi

import (
	"context"
	"net/http"
	"time"
)

// AuditEntry says who changed what.
type AuditEntry struct {
	ID      int64
	Org     string // "": the installation's
	At      time.Time
	Actor   string // tok_…, operator, or grapnel: the daemon itself
	Action  string
	Target  string
	Changes map[string][2]any // setting → before, after; of a secret only the name
	Address string
	Request string
}

// AuditLog is the part of a Service that says who changed what.
type AuditLog interface {
	// Audit lists up to limit entries of the org ("": of all, and of the
	// installation) before the given id, newest first; 0 is the end.
	Audit(ctx context.Context, org string, before int64, limit int) ([]AuditEntry, error)
}

// AuditBody is an entry of the audit in an answer.
type AuditBody struct {
	ID        int64                 `json:"id" example:"7"`
	Org       *string               `json:"org" example:"acme" doc:"null: the installation's"`
	At        time.Time             `json:"at"`
	Actor     string                `json:"actor" example:"tok_01KB2Q3X8V9W0Y1Z2A3B4C5D6H" doc:"A token's id; operator: at the daemon's socket; grapnel: the daemon itself"`
	Action    string                `json:"action" example:"endpoint.change"`
	Target    string                `json:"target" example:"ep_01KB2Q3X8V9W0Y1Z2A3B4C5D6E" doc:"The id of what was changed"`
	Changes   map[string]ChangeBody `json:"changes,omitempty" example:"{\"concurrency\":{\"old\":8,\"new\":16}}" doc:"Settings that changed; secrets and values of headers are never shown"`
	Address   string                `json:"address,omitempty" example:"192.0.2.7" doc:"Where the request came from"`
	RequestID string                `json:"request_id,omitempty" example:"req_01KB2Q3X8V9W0Y1Z2A3B4C5D6J"`
}

// ChangeBody is what one setting was, and is.
type ChangeBody struct {
	Old any `json:"old,omitempty"`
	New any `json:"new,omitempty"`
}

func (a *api) auditLog() {
	const tag = "audit"
	handle(a, route{id: "list-audit", method: http.MethodGet, path: base + "/orgs/{org}/audit", tag: tag, access: access{scope: Admin},
		summary: "List who changed what in the organization, newest first"},
		func(ctx context.Context, in *struct {
			OrgPath
			Page
		}) (*answer[List[AuditBody]], error) {
			return a.listAudit(ctx, in.Org, in.Page)
		})
	handle(a, route{id: "list-all-audit", method: http.MethodGet, path: base + "/audit", tag: tag, access: access{scope: Admin, operator: true},
		summary: "List who changed what in all organizations and the installation, newest first"},
		func(ctx context.Context, in *struct{ Page }) (*answer[List[AuditBody]], error) {
			return a.listAudit(ctx, "", in.Page)
		})
}

func (a *api) listAudit(ctx context.Context, org string, p Page) (*answer[List[AuditBody]], error) {
	var before int64
	if err := p.after("audit", "%d", &before); err != nil {
		return nil, err
	}
	found, err := a.svc.Audit(ctx, org, before, p.more())
	if err != nil {
		return nil, err
	}
	return listed(found, p.Limit, auditBody, func(e AuditEntry) *string { return cursorAt("audit", "%d", e.ID) }), nil
}

func auditBody(e AuditEntry) AuditBody {
	b := AuditBody{ID: e.ID, At: utc(e.At), Actor: e.Actor, Action: e.Action, Target: e.Target, Address: e.Address, RequestID: e.Request}
	if e.Org != "" {
		b.Org = &e.Org
	}
	for name, c := range e.Changes {
		if b.Changes == nil {
			b.Changes = make(map[string]ChangeBody, len(e.Changes))
		}
		b.Changes[name] = ChangeBody{c[0], c[1]}
	}
	return b
}
