package httpapi

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Token is who may call the API. Its text is nowhere but in the answer that
// made it.
type Token struct {
	ID        string // tok_…
	Org       string // "": an operator's
	Name      string
	Scopes    []Scope
	CreatedAt time.Time
	ExpiresAt time.Time
	UsedAt    time.Time // to about a minute; zero: never
	RevokedAt time.Time // zero: it was not
}

// NewToken is a token that was just made, with its text.
type NewToken struct {
	Token
	Text string // gk_…
}

// ErrNoToken is what Authenticate answers with when the text is no token that
// holds.
var ErrNoToken = errors.New("no such token")

// Tokens is the part of a Service that knows who may call.
type Tokens interface {
	// Authenticate finds the token of that text. It is quick and touches
	// neither disk nor network. It wraps ErrNoToken when the text is unknown, or
	// the token has expired or was revoked.
	Authenticate(ctx context.Context, text string) (Token, error)
	// AddToken makes a token of t's Org, Name, Scopes and ExpiresAt.
	AddToken(ctx context.Context, t Token) (NewToken, error)
	// Tokens lists up to limit tokens of the org ("": of operators), also
	// revoked ones, whose id comes after the given one, ascending.
	Tokens(ctx context.Context, org, after string, limit int) ([]Token, error)
	// RevokeToken ends a token at once: the next request with it is refused.
	RevokeToken(ctx context.Context, org, id string) error
	// NoteRefusals writes to the audit that so many tokens from the address were
	// refused that others are answered with 429 for a while. The request is the last one.
	NoteRefusals(ctx context.Context, address, request string) error
}

const (
	tokenPrefix = "gk_"
	tokenRandom = 32 // bytes
	// DefaultTokenLife and MaxTokenLife bound how long a token holds.
	DefaultTokenLife = 90 * 24 * time.Hour
	MaxTokenLife     = 365 * 24 * time.Hour
)

// NewTokenText makes the text of a token: gk_ and 32 random bytes in URL-safe
// base64 without padding (contract, section 1).
func NewTokenText() string {
	b := make([]byte, tokenRandom)
	rand.Read(b) // never fails; it ends the program rather
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(b)
}

// TokenHash is what is stored of a token's text. ok is false when the text
// cannot be one.
func TokenHash(text string) (hash [sha256.Size]byte, ok bool) {
	rest, found := strings.CutPrefix(text, tokenPrefix)
	if !found || len(rest) != base64.RawURLEncoding.EncodedLen(tokenRandom) {
		return hash, false
	}
	return sha256.Sum256([]byte(text)), true
}

// TokenCreate is the body of POST /orgs/{org}/tokens and of POST /tokens.
type TokenCreate struct {
	Name      string     `json:"name,omitempty" maxLength:"200" example:"dashboard" doc:"For people"`
	Scopes    []Scope    `json:"scopes" nullable:"false" minItems:"1" maxItems:"6" enum:"webhooks:read,webhooks:manage,events:write,cursors:read,cursors:manage,admin" example:"[\"webhooks:read\"]" doc:"What it may do; managing implies reading, admin implies everything"`
	ExpiresAt *time.Time `json:"expires_at,omitempty" nullable:"false" doc:"At most a year from now; 90 days from now when left out"`
}

// TokenBody is a token in an answer.
type TokenBody struct {
	ID         string     `json:"id" example:"tok_01KB2Q3X8V9W0Y1Z2A3B4C5D6H"`
	Org        *string    `json:"org" example:"acme" doc:"null: an operator's, for all organizations"`
	Name       string     `json:"name,omitempty" example:"dashboard"`
	Scopes     []Scope    `json:"scopes" nullable:"false" example:"[\"webhooks:read\"]"`
	CreatedAt  time.Time  `json:"created_at"`
	ExpiresAt  time.Time  `json:"expires_at"`
	LastUsedAt *time.Time `json:"last_used_at" doc:"To about a minute; null: never"`
	RevokedAt  *time.Time `json:"revoked_at,omitempty"`
}

// TokenCreated is the answer that shows a token's text, once.
type TokenCreated struct {
	TokenBody
	Token string `json:"token" example:"gk_bm90LWEtdG9rZW4tYnV0LWFuLWV4YW1wbGUtb2Ytb25l" doc:"Send it as Authorization: Bearer; shown here and never again"`
}

type tokenCreate struct {
	OrgPath
	Write[TokenCreate]
}

type operatorTokenCreate struct{ Write[TokenCreate] }

type tokenPath struct {
	OrgPath
	ID string `path:"id" maxLength:"64" doc:"tok_…"`
}

func (p tokenPath) thing() string { return itemThing("token", p.ID, p.Org) }

type operatorTokenPath struct {
	ID string `path:"id" maxLength:"64" doc:"tok_…"`
}

func (p operatorTokenPath) thing() string { return "operator's token " + p.ID }

func (a *api) tokens() {
	const tag, all, own = "tokens", base + "/orgs/{org}/tokens", base + "/tokens"
	handleNew(a, route{id: "add-token", method: http.MethodPost, path: all, status: http.StatusCreated, tag: tag,
		access: access{scope: Admin}, summary: "Make a token of the organization; the answer shows it, once"},
		func(ctx context.Context, in *tokenCreate) (NewToken, error) { return a.addToken(ctx, in.Org, in.Body) }, tokenCreated)
	handle(a, route{id: "list-tokens", method: http.MethodGet, path: all, tag: tag, access: access{scope: Admin},
		summary: "List the organization's tokens, without their texts"},
		func(ctx context.Context, in *struct {
			OrgPath
			Page
		}) (*answer[List[TokenBody]], error) {
			return a.listTokens(ctx, in.Org, in.Page)
		})
	handle(a, route{id: "revoke-token", method: http.MethodDelete, path: all + "/{id}", status: http.StatusNoContent, tag: tag,
		access: access{scope: Admin}, summary: "Revoke a token at once"},
		func(ctx context.Context, in *tokenPath) (*struct{}, error) {
			return &struct{}{}, a.svc.RevokeToken(ctx, in.Org, in.ID)
		})

	handleNew(a, route{id: "add-operator-token", method: http.MethodPost, path: own, status: http.StatusCreated, tag: tag,
		access: access{scope: Admin, operator: true}, summary: "Make an operator's token, for all organizations; the answer shows it, once"},
		func(ctx context.Context, in *operatorTokenCreate) (NewToken, error) {
			return a.addToken(ctx, "", in.Body)
		}, tokenCreated)
	handle(a, route{id: "list-operator-tokens", method: http.MethodGet, path: own, tag: tag,
		access: access{scope: Admin, operator: true}, summary: "List the operators' tokens, without their texts"},
		func(ctx context.Context, in *struct{ Page }) (*answer[List[TokenBody]], error) {
			return a.listTokens(ctx, "", in.Page)
		})
	handle(a, route{id: "revoke-operator-token", method: http.MethodDelete, path: own + "/{id}", status: http.StatusNoContent, tag: tag,
		access: access{scope: Admin, operator: true}, summary: "Revoke an operator's token at once"},
		func(ctx context.Context, in *operatorTokenPath) (*struct{}, error) {
			return &struct{}{}, a.svc.RevokeToken(ctx, "", in.ID)
		})
}

func (a *api) addToken(ctx context.Context, org string, b TokenCreate) (NewToken, error) {
	now := time.Now()
	t := Token{Org: org, Name: b.Name, Scopes: slices.Compact(slices.Sorted(slices.Values(b.Scopes))), ExpiresAt: now.Add(DefaultTokenLife)}
	if b.ExpiresAt != nil {
		t.ExpiresAt = *b.ExpiresAt
	}
	if !t.ExpiresAt.After(now) {
		return NewToken{}, &Invalid{Field: "expires_at", Detail: "must be in the future"}
	}
	if t.ExpiresAt.After(now.Add(MaxTokenLife)) {
		return NewToken{}, &Invalid{Field: "expires_at", Detail: fmt.Sprintf("must be at most %d days from now: make a new token in time, and revoke this one", MaxTokenLife/(24*time.Hour))}
	}
	return a.svc.AddToken(ctx, t)
}

func (a *api) listTokens(ctx context.Context, org string, p Page) (*answer[List[TokenBody]], error) {
	var after string
	if err := p.after("token", "%s", &after); err != nil {
		return nil, err
	}
	found, err := a.svc.Tokens(ctx, org, after, p.more())
	if err != nil {
		return nil, err
	}
	return listed(found, p.Limit, tokenBody, func(t Token) *string { return cursorAt("token", "%s", t.ID) }), nil
}

func tokenBody(t Token) TokenBody {
	b := TokenBody{
		ID: t.ID, Name: t.Name, Scopes: append([]Scope{}, t.Scopes...), CreatedAt: utc(t.CreatedAt), ExpiresAt: utc(t.ExpiresAt),
		LastUsedAt: optional(t.UsedAt), RevokedAt: optional(t.RevokedAt),
	}
	if t.Org != "" {
		b.Org = &t.Org
	}
	return b
}

func tokenCreated(t NewToken) TokenCreated { return TokenCreated{tokenBody(t.Token), t.Text} }
