package deliver

import (
	"encoding/base64"
	"net/url"
	"slices"
)

// authorize adds the header Authorization that the target's credentials make,
// unless a token is to be fetched for it. It returns what is not kept of an
// answer.
func (t *Target) authorize() (hidden []string) {
	t.identity, t.auth = t.credentials.TLS.fingerprint(), t.credentials.Auth.fingerprint()
	switch a := t.credentials.Auth; a.Type {
	case AuthBasic:
		pair := a.Username + ":" + a.Password.Reveal()
		return []string{t.setAuthorization("Basic " + base64.StdEncoding.EncodeToString([]byte(pair))), pair, a.Password.Reveal()}
	case AuthBearer:
		return []string{t.setAuthorization("Bearer " + a.Token.Reveal())}
	case AuthOAuth2:
		// The token server may be the receiver: what it got, in both ways.
		id, secret := url.QueryEscape(a.ClientID), url.QueryEscape(a.ClientSecret.Reveal())
		return []string{a.ClientSecret.Reveal(), secret, base64.StdEncoding.EncodeToString([]byte(id + ":" + secret))}
	}
	return nil
}

func (t *Target) setAuthorization(value string) string {
	t.headers = append(slices.Clip(t.headers), targetHeader{headerAuthorization, []string{value}})
	return value
}

// needsToken reports whether a token has to be fetched before each attempt, or
// taken from what was fetched.
func (t *Target) needsToken() bool {
	return t.credentials != nil && t.credentials.Auth.Type == AuthOAuth2
}

// bearing is t with a token.
func (t *Target) bearing(token string) *Target {
	with := *t
	with.token = token
	value := with.setAuthorization("Bearer " + token)
	with.masked = longestFirst(slices.Concat(t.masked, masked([]string{value})))
	return &with
}
