package main

import (
	"context"
	"errors"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/sqlite"
)

// asked is the context of what the caller of ctx asks the books to change: for
// the audit, and for the answer to a request with an Idempotency-Key. shape
// turns what the store made into what the method returns; nil when nothing is
// made.
func (d *daemon) asked(ctx context.Context, shape func(made any) any) context.Context {
	c := httpapi.CallerOf(ctx)
	by := sqlite.Caller{Actor: c.Actor(), Address: c.Address, Request: c.Request}
	if once := httpapi.OnceOf(ctx); once != nil && shape != nil {
		by.Once = &sqlite.Once{Org: once.Org, Key: once.Key, Request: once.Request, Answer: func(made any) ([]byte, error) {
			return once.Answer(shape(made))
		}}
	}
	return sqlite.WithCaller(ctx, by)
}

func (d *daemon) Recall(ctx context.Context, org, key string) (httpapi.Answered, bool, error) {
	a, found, err := d.store.Recall(ctx, org, key)
	return httpapi.Answered(a), found, answered(err)
}

func (d *daemon) Authenticate(_ context.Context, text string) (httpapi.Token, error) {
	if hash, ok := httpapi.TokenHash(text); ok {
		if t, ok := d.store.Authenticate(hash); ok {
			return tokenAnswer(t), nil
		}
	}
	return httpapi.Token{}, httpapi.ErrNoToken
}

func (d *daemon) AddToken(ctx context.Context, t httpapi.Token) (httpapi.NewToken, error) {
	text := httpapi.NewTokenText()
	hash, _ := httpapi.TokenHash(text)
	scopes := make([]string, len(t.Scopes))
	for i, s := range t.Scopes {
		scopes[i] = string(s)
	}
	shape := func(made any) any { return httpapi.NewToken{Token: tokenAnswer(made.(sqlite.Token)), Text: text} }
	made, err := d.store.AddToken(d.asked(ctx, shape), sqlite.Token{Org: t.Org, Name: t.Name, Scopes: scopes, ExpiresAt: t.ExpiresAt}, hash)
	if err != nil {
		return httpapi.NewToken{}, inState(err)
	}
	return shape(made).(httpapi.NewToken), nil
}

func (d *daemon) Tokens(ctx context.Context, org, after string, limit int) ([]httpapi.Token, error) {
	found, err := d.store.ListTokens(ctx, org, after, limit)
	if err != nil {
		return nil, answered(err)
	}
	tokens := make([]httpapi.Token, len(found))
	for i, t := range found {
		tokens[i] = tokenAnswer(t)
	}
	return tokens, nil
}

func (d *daemon) RevokeToken(ctx context.Context, org, id string) error {
	return answered(d.store.RevokeToken(d.asked(ctx, nil), org, id))
}

// NoteRefusals is the daemon's own observation: whoever sent the tokens is
// nobody that the books know.
func (d *daemon) NoteRefusals(ctx context.Context, address, request string) error {
	ctx = sqlite.WithCaller(ctx, sqlite.Caller{Actor: "grapnel", Address: address, Request: request})
	return d.store.Audited(ctx, "", "auth.refused", address)
}

func tokenAnswer(t sqlite.Token) httpapi.Token {
	scopes := make([]httpapi.Scope, len(t.Scopes))
	for i, s := range t.Scopes {
		scopes[i] = httpapi.Scope(s)
	}
	return httpapi.Token{
		ID: t.ID, Org: t.Org, Name: t.Name, Scopes: scopes,
		CreatedAt: t.CreatedAt, ExpiresAt: t.ExpiresAt, UsedAt: t.UsedAt, RevokedAt: t.RevokedAt,
	}
}

// Audit lists who changed what.
func (d *daemon) Audit(ctx context.Context, org string, before int64, limit int) ([]httpapi.AuditEntry, error) {
	found, err := d.store.ListAudit(ctx, org, before, limit)
	if err != nil {
		return nil, answered(err)
	}
	entries := make([]httpapi.AuditEntry, len(found))
	for i, e := range found {
		entries[i] = httpapi.AuditEntry{
			ID: e.ID, Org: e.Org, At: e.At, Actor: e.Actor, Action: e.Action, Target: e.Target,
			Changes: e.Changes, Address: e.Address, Request: e.Request,
		}
	}
	return entries, nil
}

// Gated reports whether the org's plan lacks outgoing webhooks.
func (d *daemon) Gated(ctx context.Context, org string) (bool, error) {
	o, err := d.store.Org(ctx, org)
	return o.Gated, answered(err)
}

// noteTokens writes once a minute when tokens were last used.
func (d *daemon) noteTokens(ctx context.Context) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			if err := d.store.FlushTokens(last); err != nil && !errors.Is(err, sqlite.ErrClosed) {
				d.log.Warn("when tokens were last used could not be written", "error", err)
			}
			return nil
		}
		if err := d.store.FlushTokens(ctx); err != nil && ctx.Err() == nil {
			d.log.Warn("when tokens were last used could not be written; it is tried again in a minute", "error", err)
		}
	}
}
