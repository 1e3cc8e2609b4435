package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// identify says who asks, and whether they ask too often.
//
// Tokens that do not hold are counted by address, and soon answered with 429.
// One that holds is let in all the same: others may come from that address, behind
// a proxy that is not trusted all who come at all, and somebody with an old token
// must not lock them out. Tokens are too long to be guessed. A request without
// a token is no guess; how many there may be is inTime's business.
func (a *api) identify(ctx huma.Context, r route) (Caller, huma.StatusError) {
	caller := Caller{Request: requestOf(ctx.Context())}
	if a.socket {
		caller.Scopes = []Scope{Admin}
		return caller, nil
	}
	now, address := time.Now(), addressOf(ctx.Context())
	caller.Address = textOf(address)
	text, ok := bearer(ctx.Header("Authorization"))
	if !ok {
		return caller, unauthorized("send a token: Authorization: Bearer gk_…")
	}
	token, err := a.svc.Authenticate(ctx.Context(), text)
	switch {
	case errors.Is(err, ErrNoToken):
		if wait, ok := a.rates.refused.take(neighbourhood(address), now); !ok {
			return caller, asProblem(tooOften("too many tokens from this address were refused", wait))
		}
		a.noteRefusals(ctx.Context(), caller, now)
		return caller, unauthorized("the token is unknown, expired or revoked")
	case err != nil:
		return caller, asProblem(problemOf(ctx.Context(), a.log, "authenticate", "token", "header", err))
	}
	caller.Token, caller.Org, caller.Scopes = token.ID, token.Org, token.Scopes
	v := a.visitors.Load()
	allowed := v.tokens
	if r.scope == EventsWrite {
		allowed = v.appends
	}
	if wait, ok := allowed.take(token.ID, now); !ok {
		return caller, asProblem(tooOften(fmt.Sprintf("more than %g requests a second with this token", float64(allowed.limit)), wait))
	}
	return caller, nil
}

// noteRefusals writes to the audit that an address has used up its tries: once a
// minute for an address, and not more often than the audit can bear.
func (a *api) noteRefusals(ctx context.Context, c Caller, now time.Time) {
	near := neighbourhood(addressOf(ctx))
	if _, all := a.rates.refused.empty(near, now); !all {
		return
	}
	if _, ok := a.rates.noted.take(near, now); !ok {
		return
	}
	a.log.Warn("tokens are guessed, or an old one is in use: they are answered with 429 for a while", "address", c.Address, "request", c.Request)
	if _, ok := a.rates.notes.take(struct{}{}, now); !ok {
		return
	}
	if err := a.svc.NoteRefusals(ctx, c.Address, c.Request); err != nil {
		a.log.Error("refused tokens could not be noted in the audit", "address", c.Address, "error", err)
	}
}

// inTime lets requests pass that have a token, where that will be looked at and
// metered, and those of probes: a daemon whose probe is refused would be
// restarted. Of others it lets so many pass as one address may make.
func (a *api) inTime(w http.ResponseWriter, r *http.Request) bool {
	if a.socket || r.URL.Path == "/healthz" || r.URL.Path == "/readyz" {
		return true
	}
	if _, ok := bearer(r.Header.Get("Authorization")); ok && a.routed(r) {
		return true
	}
	wait, ok := a.rates.addresses.take(neighbourhood(addressOf(r.Context())), time.Now())
	if ok {
		return true
	}
	p := tooOften("too many requests without a token from this address", wait)
	w.Header().Set("Retry-After", p.value)
	writeProblem(w, p.Problem)
	return false
}

// routed reports whether the request is for an operation of the API. What else
// is served (the documents, metrics) does not ask for a token, so that sending any
// text as one would lift all bounds.
func (a *api) routed(r *http.Request) bool {
	_, pattern := a.mux.Handler(r)
	_, path, _ := strings.Cut(pattern, " ")
	return strings.HasPrefix(path, "/api/")
}

func tooOften(detail string, wait time.Duration) *withHeader {
	n := seconds(wait)
	return later(newProblem(http.StatusTooManyRequests, fmt.Sprintf("%s; try again in %d s", detail, n)), n)
}

func unauthorized(detail string) huma.StatusError {
	return &withHeader{newProblem(http.StatusUnauthorized, detail), "WWW-Authenticate", `Bearer realm="grapnel"`}
}

// bearer reads the token of an Authorization header (RFC 6750, section 2.1).
func bearer(header string) (token string, ok bool) {
	scheme, token, _ := strings.Cut(header, " ")
	token = strings.TrimSpace(token)
	return token, strings.EqualFold(scheme, "Bearer") && token != ""
}
