package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/stream/streamtest"
	"github.com/nats-io/nats.go"
)

// guardedDaemon is a daemon whose publishers sign in, with the orgs acme and
// globex.
func guardedDaemon(t *testing.T, t12 *tls.Config) *daemon {
	t.Helper()
	d, err := openDaemon(t.Context(), daemonOptions{
		Data: shortDir(t), NATSListen: "127.0.0.1:0", NATSSignIn: true, NATSSync: time.Minute, TLS: t12, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.close)
	for _, org := range []string{"acme", "globex"} {
		if _, err := d.AddOrg(t.Context(), httpapi.Org{ID: org, Payload: "data"}); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func addToken(t *testing.T, d *daemon, org string, life time.Duration, scopes ...httpapi.Scope) httpapi.NewToken {
	t.Helper()
	made, err := d.AddToken(t.Context(), httpapi.Token{Org: org, Scopes: scopes, ExpiresAt: time.Now().Add(life)})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func signInAs(t *testing.T, d *daemon, org, token string, options ...nats.Option) (*nats.Conn, error) {
	t.Helper()
	nc, err := nats.Connect("nats://"+d.server.Addr(), append(options, nats.UserInfo(org, token))...)
	if err == nil {
		t.Cleanup(nc.Close)
	}
	return nc, err
}

func TestPublishersSignInByToken(t *testing.T) {
	d := guardedDaemon(t, nil)
	for _, c := range []struct {
		name  string
		org   string
		token httpapi.NewToken
		taken bool
	}{
		{"its own", "acme", addToken(t, d, "acme", time.Hour, httpapi.EventsWrite), true},
		{"with more scopes", "acme", addToken(t, d, "acme", time.Hour, httpapi.WebhooksRead, httpapi.EventsWrite), true},
		{"admin of the org", "acme", addToken(t, d, "acme", time.Hour, httpapi.Admin), true},
		{"an operator's", "globex", addToken(t, d, "", time.Hour, httpapi.EventsWrite), true},
		{"an operator's, for nobody", "initech", addToken(t, d, "", time.Hour, httpapi.EventsWrite), false},
		{"without the scope", "acme", addToken(t, d, "acme", time.Hour, httpapi.WebhooksManage, httpapi.CursorsManage), false},
		{"another org's", "globex", addToken(t, d, "acme", time.Hour, httpapi.EventsWrite), false},
		{"expired", "acme", addToken(t, d, "acme", -time.Second, httpapi.EventsWrite), false},
		{"unknown", "acme", httpapi.NewToken{Text: httpapi.NewTokenText()}, false},
		{"of no form", "acme", httpapi.NewToken{Text: "hunter2"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			nc, err := signInAs(t, d, c.org, c.token.Text)
			if !c.taken {
				if !errors.Is(err, nats.ErrAuthorization) {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := nc.Request("events."+c.org+".x", []byte(`1`), 5*time.Second); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestPublisherOfARevokedToken(t *testing.T) {
	d := guardedDaemon(t, nil)
	token := addToken(t, d, "acme", time.Hour, httpapi.EventsWrite)
	other := addToken(t, d, "acme", time.Hour, httpapi.EventsWrite)
	closed := make(chan struct{})
	options := []nats.Option{nats.ReconnectWait(time.Millisecond), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}),
		nats.ClosedHandler(func(*nats.Conn) { close(closed) })}
	if _, err := signInAs(t, d, "acme", token.Text, options...); err != nil {
		t.Fatal(err)
	}
	stays, err := signInAs(t, d, "acme", other.Text, nats.NoReconnect())
	if err != nil {
		t.Fatal(err)
	}
	if err := d.RevokeToken(t.Context(), "acme", token.ID); err != nil {
		t.Fatal(err)
	}
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Fatal("still connected")
	}
	if _, err := stays.Request("events.acme.x", []byte(`1`), 5*time.Second); err != nil {
		t.Errorf("another token's publisher: %v", err)
	}
}

// Subjects that are bound to an org's stream can be published to from then on.
func TestPublisherOfNewSubjects(t *testing.T) {
	d := guardedDaemon(t, nil)
	token := addToken(t, d, "acme", time.Hour, httpapi.EventsWrite)
	back := make(chan struct{}, 4)
	nc, err := signInAs(t, d, "acme", token.Text, nats.ReconnectWait(time.Millisecond), nats.ReconnectJitter(0, 0),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}), nats.ReconnectHandler(func(*nats.Conn) { back <- struct{}{} }))
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := nc.RequestWithContext(short, "webhook.x", []byte(`1`)); err == nil {
		t.Fatal("taken before it was bound")
	}
	if _, err := d.ChangeOrg(t.Context(), "acme", httpapi.OrgChange{Subjects: &[]string{"webhook.>"}}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-back:
	case <-time.After(10 * time.Second):
		t.Fatal("not asked to sign in again")
	}
	if _, err := nc.Request("webhook.x", []byte(`1`), 5*time.Second); err != nil {
		t.Error(err)
	}
}

func TestPublishersByTLS(t *testing.T) {
	cert, key := streamtest.WriteCertificate(t, shortDir(t), "tls", "first")
	served, err := serverTLS(cert, key, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	d := guardedDaemon(t, served)
	token := addToken(t, d, "acme", time.Hour, httpapi.EventsWrite)
	if _, err := signInAs(t, d, "acme", token.Text, nats.RootCAs(cert)); err != nil {
		t.Error(err)
	}
	var unknown x509.UnknownAuthorityError
	if _, err := signInAs(t, d, "acme", token.Text); !errors.As(err, &unknown) {
		t.Errorf("without the authority: %v", err)
	}
}
