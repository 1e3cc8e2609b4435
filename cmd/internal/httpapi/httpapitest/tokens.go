package httpapitest

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
)

// held is a token and what there is of it.
type held struct {
	httpapi.Token
	n int64
}

// Authenticate implements httpapi.Tokens. A token holds until its ExpiresAt is
// before the real time.
func (s *Service) Authenticate(_ context.Context, text string) (httpapi.Token, error) {
	leave, err := s.enter("")
	defer leave()
	if err != nil {
		return httpapi.Token{}, err
	}
	t, ok := s.tokens[text]
	if !ok || !t.RevokedAt.IsZero() || !time.Now().Before(t.ExpiresAt) {
		return httpapi.Token{}, httpapi.ErrNoToken
	}
	return t.Token, nil
}

// AddToken implements httpapi.Tokens. The texts are the same in every run.
func (s *Service) AddToken(ctx context.Context, t httpapi.Token) (httpapi.NewToken, error) {
	leave, err := s.enter(t.Org)
	defer leave()
	if err != nil {
		return httpapi.NewToken{}, err
	}
	t.CreatedAt = s.tick()
	n := int64(len(s.tokens) + 1)
	t.ID = "tok_" + numbered(t.CreatedAt, n)
	sum := sha256.Sum256(fmt.Append(nil, n))
	made := httpapi.NewToken{Token: t, Text: "gk_" + base64.RawURLEncoding.EncodeToString(sum[:])}
	s.tokens[made.Text] = held{t, n}
	s.note(ctx, t.Org, "token.add", t.ID)
	return made, s.remember(ctx, made)
}

// Tokens implements httpapi.Tokens.
func (s *Service) Tokens(_ context.Context, org, after string, limit int) ([]httpapi.Token, error) {
	leave, err := s.enter(org)
	defer leave()
	if err != nil {
		return nil, err
	}
	own := map[string]httpapi.Token{}
	for _, t := range s.tokens {
		if t.Org == org {
			own[t.ID] = t.Token
		}
	}
	return paged(own, after, limit), nil
}

// RevokeToken implements httpapi.Tokens.
func (s *Service) RevokeToken(ctx context.Context, org, id string) error {
	leave, err := s.enter(org)
	defer leave()
	if err != nil {
		return err
	}
	for text, t := range s.tokens {
		if t.Org == org && t.ID == id {
			if t.RevokedAt.IsZero() {
				t.RevokedAt = s.tick()
				s.note(ctx, org, "token.revoke", id)
			}
			s.tokens[text] = t
			return nil
		}
	}
	return httpapi.ErrNotFound
}

// Gated implements httpapi.Service.
func (s *Service) Gated(_ context.Context, org string) (bool, error) {
	leave, err := s.enter(org)
	defer leave()
	return s.NoPlan[org], err
}

// Audit implements httpapi.AuditLog.
func (s *Service) Audit(_ context.Context, org string, before int64, limit int) ([]httpapi.AuditEntry, error) {
	leave, err := s.enter(org)
	defer leave()
	if err != nil {
		return nil, err
	}
	var out []httpapi.AuditEntry
	for _, e := range slices.Backward(s.entries) {
		if (org == "" || e.Org == org) && (before == 0 || e.ID < before) && len(out) < limit {
			out = append(out, e)
		}
	}
	return out, nil
}

// at is the present time. The lock is held.
func (s *Service) at() time.Time { return Epoch.Add(time.Duration(s.ticks) * time.Second) }

// note writes an entry of the audit. The lock is held.
func (s *Service) note(ctx context.Context, org, action, target string) {
	c := httpapi.CallerOf(ctx)
	s.entries = append(s.entries, httpapi.AuditEntry{
		ID: int64(len(s.entries) + 1), Org: org, At: s.at(),
		Actor: c.Actor(), Action: action, Target: target, Address: c.Address, Request: c.Request,
	})
}

// Recall implements httpapi.Memory.
func (s *Service) Recall(_ context.Context, org, key string) (httpapi.Answered, bool, error) {
	leave, err := s.enter(org)
	defer leave()
	a, ok := s.answers[org+"|"+key]
	return a, ok, err
}

// remember keeps the answer to a request with an Idempotency-Key. The lock is
// held.
func (s *Service) remember(ctx context.Context, made any) error {
	once := httpapi.OnceOf(ctx)
	if once == nil {
		return nil
	}
	body, err := once.Answer(made)
	s.answers[once.Org+"|"+once.Key] = httpapi.Answered{Request: once.Request, Body: body}
	return err
}

// NoteRefusals implements httpapi.Tokens.
func (s *Service) NoteRefusals(_ context.Context, address, request string) error {
	leave, err := s.enter("")
	defer leave()
	s.entries = append(s.entries, httpapi.AuditEntry{
		ID: int64(len(s.entries) + 1), At: s.tick(), Actor: "grapnel", Action: "auth.refused", Target: address, Address: address, Request: request,
	})
	return err
}
