package httpapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// access says who may use a route.
type access struct {
	scope    Scope // that the token needs
	operator bool  // only operators' tokens, though an organization's may have the scope
	gated    bool  // part of what a plan without outgoing webhooks lacks
	tenant   bool  // about the organization of the token: there is none in the path
}

// door lets a request in or refuses it, before anything of it is looked at, in
// this order: who is it, and not too often (401, 429), is it about another
// organization (404, as if that did not exist), may only operators do this (403),
// does the token have the scope (403), does the organization's plan have the
// feature (402).
func (a *api) door(r route) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		org := ctx.Param("org")
		caller, p := a.identify(ctx, r)
		v := visitOf(ctx.Context())
		v.caller, v.org = caller, caller.Org
		if r.tenant {
			org = caller.Org
		}
		if p == nil {
			p = a.admit(ctx, r, caller, org)
		}
		if p != nil {
			refuse(ctx, p)
			return
		}
		leave, p := r.flights.enter(ctx, org, min(r.maxBody, maxEventsBody))
		if p != nil {
			refuse(ctx, p)
			return
		}
		defer leave()
		v.org = org
		ctx = huma.WithValue(ctx, callerKey{}, caller)
		if org != "" {
			ctx = huma.WithValue(ctx, orgKey{}, org)
		}
		if r.creates {
			once, p := onceFrom(ctx, org, r.maxBody)
			if p != nil {
				refuse(ctx, p)
				return
			}
			if once != nil {
				ctx = huma.WithValue(ctx, onceKey{}, once)
			}
		}
		next(&statusOverride{humaContext: ctx})
	}
}

// admit says why the caller may not use the route on that organization.
func (a *api) admit(ctx huma.Context, r route, c Caller, org string) huma.StatusError {
	if !c.Operator() && org != "" && org != c.Org {
		return noOrg(org)
	}
	if r.operator && !c.Operator() {
		return newProblem(http.StatusForbidden, "only an operator's token may do this")
	}
	if !Allows(c.Scopes, r.scope) {
		return newProblem(http.StatusForbidden, "the token lacks the scope "+string(r.scope))
	}
	if r.tenant && c.Operator() {
		return noTenant()
	}
	if org == "" {
		org = c.Org
	}
	if !r.gated || org == "" || c.Operator() && (r.method == http.MethodGet || r.method == http.MethodDelete) {
		return nil // an operator can look, and clear away
	}
	gated, err := a.svc.Gated(ctx.Context(), org)
	if err == nil && gated {
		err = ErrGated
	}
	if err != nil {
		c := huma.WithValue(ctx, orgKey{}, org)
		return asProblem(problemOf(c.Context(), a.log, r.id, "organization "+org, "path", err))
	}
	return nil
}

// noTenant is what an operator is told where the organization comes from the token.
func noTenant() *Problem {
	p := newProblem(http.StatusUnprocessableEntity, "this path is about the organization of the token, and an operator has none")
	p.Errors = []FieldError{{Location: "header.Authorization",
		Message: "send a token of an organization, or use the paths below " + base + "/orgs/{org}"}}
	return p
}

func noOrg(org string) *Problem {
	return newProblem(http.StatusNotFound, strings.TrimSpace("there is no organization "+org))
}

// asProblem is err as problemOf returns it.
func asProblem(err error) huma.StatusError {
	var p huma.StatusError
	if errors.As(err, &p) {
		return p
	}
	return newProblem(http.StatusInternalServerError, "an error of grapnel's own; its log says which")
}

// refuse writes a problem in place of an answer.
func refuse(ctx huma.Context, p huma.StatusError) {
	var with huma.HeadersError
	if errors.As(p, &with) {
		for name, values := range with.GetHeaders() {
			ctx.SetHeader(name, values[0])
		}
	}
	var problem *Problem
	errors.As(p, &problem)
	ctx.SetHeader("Content-Type", problemType)
	ctx.SetStatus(p.GetStatus())
	json.NewEncoder(ctx.BodyWriter()).Encode(problem) // the caller is gone if this fails
}

// maxOnceKey is the longest Idempotency-Key.
const maxOnceKey = 200

// onceFrom reads the Idempotency-Key of a request, and what the request is.
func onceFrom(ctx huma.Context, org string, most int64) (*Once, *Problem) {
	key := ctx.Header("Idempotency-Key")
	if key == "" {
		return nil, nil
	}
	for _, c := range []byte(key) {
		if c < ' ' || c > '~' || len(key) > maxOnceKey {
			return nil, badOnce(fmt.Sprintf("must be at most %d printable ASCII characters", maxOnceKey))
		}
	}
	req, _ := humago.Unwrap(ctx)
	body, err := io.ReadAll(http.MaxBytesReader(nil, req.Body, most))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, newProblem(http.StatusRequestEntityTooLarge, "the body is too large")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, newProblem(http.StatusRequestTimeout, "the body took too long")
	case err != nil:
		return nil, newProblem(http.StatusBadRequest, "the body could not be read")
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	h := sha256.New()
	fmt.Fprintf(h, "%s %s\n", req.Method, req.URL.RequestURI())
	h.Write(body)
	return &Once{Org: org, Key: key, Request: [sha256.Size]byte(h.Sum(nil))}, nil
}

func badOnce(message string) *Problem {
	p := newProblem(http.StatusUnprocessableEntity, "the request cannot be accepted")
	p.Errors = []FieldError{{Location: "header.Idempotency-Key", Message: message}}
	return p
}
