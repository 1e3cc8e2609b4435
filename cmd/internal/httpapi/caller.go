package httpapi

import (
	"context"
	"slices"
	"strings"
)

// Scope is what a token may do (contract, section 6).
type Scope string

// The scopes. Managing implies reading; admin implies all of them.
const (
	WebhooksRead   Scope = "webhooks:read"
	WebhooksManage Scope = "webhooks:manage"
	EventsWrite    Scope = "events:write"
	CursorsRead    Scope = "cursors:read"
	CursorsManage  Scope = "cursors:manage"
	Admin          Scope = "admin"
)

// Scopes are all of them.
var Scopes = []Scope{WebhooksRead, WebhooksManage, EventsWrite, CursorsRead, CursorsManage, Admin}

// Allows reports whether who holds these scopes may do what needs that one.
func Allows(held []Scope, needed Scope) bool {
	resource, verb, _ := strings.Cut(string(needed), ":")
	return slices.Contains(held, needed) || slices.Contains(held, Admin) ||
		verb == "read" && slices.Contains(held, Scope(resource+":manage"))
}

// Caller is who makes a request.
type Caller struct {
	Token   string // tok_…; "": the operator, at the socket
	Org     string // whose token it is; "": an operator's, for all organizations
	Scopes  []Scope
	Address string // IP address of the peer; "" at the socket
	Request string // the request's id, for logs and the audit
}

// Operator reports whether the caller may ask for all organizations.
func (c Caller) Operator() bool { return c.Org == "" }

// Actor names the caller in the audit.
func (c Caller) Actor() string {
	if c.Token == "" {
		return "operator"
	}
	return c.Token
}

type callerKey struct{}

// WithCaller is the context of a request of c.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerOf is who makes the request of that context.
func CallerOf(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}
