package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/spf13/pflag"
)

// credentialFlags are how an endpoint's requests say who sends them.
type credentialFlags struct {
	auth, username, secret       string
	tokenURL, clientID, audience string
	scopes                       []string
	certificate, key, ca         string
}

// noAuth is the --auth that drops what there is.
const noAuth = "none"

func (cf *credentialFlags) define(f *pflag.FlagSet, fresh bool) {
	none, keep := "", ""
	if !fresh {
		none, keep = ", or none", "; left out, the present one stays"
	}
	f.StringVar(&cf.auth, "auth", "", "how its requests authenticate: basic, bearer or oauth2"+none)
	f.StringVar(&cf.username, "auth-username", "", "`name` for basic")
	f.StringVar(&cf.secret, "auth-secret", "", "password, token or client secret: `@file` or -, which keep it out of ps"+keep)
	f.StringVar(&cf.tokenURL, "auth-token-url", "", "`URL` where tokens are fetched, for oauth2")
	f.StringVar(&cf.clientID, "auth-client-id", "", "client `id`, for oauth2")
	f.StringArrayVar(&cf.scopes, "auth-scope", nil, "`scope` of the token, for oauth2 (repeatable)")
	f.StringVar(&cf.audience, "auth-audience", "", "`audience` of the token, for oauth2 servers that want one")
	f.StringVar(&cf.certificate, "tls-cert", "", "client certificate, its chain after it: `@file` of PEM")
	f.StringVar(&cf.key, "tls-key", "", "its key, without a passphrase: `@file` of PEM")
	f.StringVar(&cf.ca, "tls-ca", "", "authorities of the receiver's certificate, in place of the machine's: `@file` of PEM")
}

// change is what was said of them.
func (cf *credentialFlags) change(said func(flag string) bool, value func(string) (string, error)) (c httpapi.CredentialsChange, err error) {
	if c.Auth, err = cf.authChange(said, value); err != nil {
		return c, err
	}
	if !said("tls-cert") && !said("tls-key") && !said("tls-ca") {
		return c, nil
	}
	var key string
	c.TLS = &httpapi.TLSChange{}
	for _, f := range []struct {
		flag, given string
		to          *string
	}{
		{"tls-cert", cf.certificate, &c.TLS.Certificate}, {"tls-key", cf.key, &key}, {"tls-ca", cf.ca, &c.TLS.CA},
	} {
		if *f.to, err = value(f.given); err != nil {
			return c, fmt.Errorf("--%s: %w", f.flag, err)
		}
	}
	if key != "" {
		c.TLS.Key = &key
	}
	return c, nil
}

func (cf *credentialFlags) authChange(said func(flag string) bool, value func(string) (string, error)) (*httpapi.AuthChange, error) {
	if !said("auth") {
		for _, flag := range []string{"username", "secret", "token-url", "client-id", "scope", "audience"} {
			if said("auth-" + flag) {
				return nil, &usageError{fmt.Errorf("--auth-%s: say how it authenticates, too: --auth basic, bearer or oauth2", flag)}
			}
		}
		return nil, nil
	}
	if cf.auth == noAuth {
		return &httpapi.AuthChange{}, nil
	}
	a := &httpapi.AuthChange{
		Type: cf.auth, Username: cf.username, TokenURL: cf.tokenURL, ClientID: cf.clientID, Scopes: cf.scopes, Audience: cf.audience,
	}
	if !said("auth-secret") {
		return a, nil
	}
	text, err := value(cf.secret)
	if err != nil {
		return nil, fmt.Errorf("--auth-secret: %w", err)
	}
	text = strings.TrimRight(text, "\r\n")
	switch cf.auth {
	case deliver.AuthBasic:
		a.Password = &text
	case deliver.AuthBearer:
		a.Token = &text
	case deliver.AuthOAuth2:
		a.ClientSecret = &text
	default:
		return nil, &usageError{errors.New("--auth: want basic, bearer or oauth2")}
	}
	return a, nil
}

// credentialFacts adds what may be shown.
func credentialFacts(f *facts, c httpapi.CredentialsBody) {
	if a := c.Auth; a != nil {
		text := a.Type
		switch {
		case a.Username != "":
			text += " as " + a.Username
		case a.ClientID != "":
			text += " as " + a.ClientID + ", tokens of " + a.TokenURL
		}
		f.add("auth", text)
		f.add("scopes", strings.Join(a.Scopes, " "))
		f.add("audience", a.Audience)
	}
	if c.TLS == nil {
		return
	}
	if own := c.TLS.Certificate; own != nil {
		f.add("certificate", own.Subject+", until "+moment(own.ExpiresAt))
	}
	for _, ca := range c.TLS.CA {
		f.add("authority", ca.Subject+", until "+moment(ca.ExpiresAt))
	}
}
