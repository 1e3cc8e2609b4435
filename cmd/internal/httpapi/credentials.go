package httpapi

import (
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/grapnel-hooks/grapnel/deliver"
)

// AuthBody is how an endpoint's requests are authenticated, in an answer: without
// password, token and client secret.
type AuthBody struct {
	Type     string   `json:"type" enum:"basic,bearer,oauth2" example:"oauth2"`
	Username string   `json:"username,omitempty" example:"grapnel"`
	TokenURL string   `json:"token_url,omitempty" example:"https://login.example/oauth/token"`
	ClientID string   `json:"client_id,omitempty" example:"grapnel"`
	Scopes   []string `json:"scopes,omitempty" example:"[\"hooks:write\"]"`
	Audience string   `json:"audience,omitempty" example:"https://hooks.example"`
}

// TLSBody is what an endpoint's connections are made with, in an answer.
type TLSBody struct {
	Certificate *CertificateBody  `json:"certificate,omitempty" doc:"The client's"`
	CA          []CertificateBody `json:"ca,omitempty" doc:"The authorities that the receiver's certificate is checked against; absent: the machine's"`
}

// CertificateBody is what is shown of a certificate.
type CertificateBody struct {
	Subject   string    `json:"subject" example:"CN=grapnel"`
	ExpiresAt time.Time `json:"expires_at"`
	SHA256    string    `json:"sha256" example:"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"`
}

// CredentialsBody is the part of an endpoint that says who sends its requests.
type CredentialsBody struct {
	Auth *AuthBody `json:"auth,omitempty" doc:"The header Authorization of its requests; secrets are never shown"`
	TLS  *TLSBody  `json:"tls,omitempty" doc:"What its TLS connections are made with"`
}

// AuthChange is AuthBody in a request. It takes the place of all there is; {} drops
// it.
type AuthChange struct {
	Type         string   `json:"type,omitempty" enum:"basic,bearer,oauth2" doc:"basic: username and password; bearer: a token; oauth2: a token that is fetched for client credentials. {} drops what there is"`
	Username     string   `json:"username,omitempty" maxLength:"4096" doc:"basic"`
	Password     *string  `json:"password,omitempty" nullable:"false" maxLength:"4096" doc:"basic; left out, the present one stays"`
	Token        *string  `json:"token,omitempty" nullable:"false" maxLength:"4096" doc:"bearer; left out, the present one stays"`
	TokenURL     string   `json:"token_url,omitempty" maxLength:"2048" doc:"oauth2: where tokens are fetched"`
	ClientID     string   `json:"client_id,omitempty" maxLength:"4096" doc:"oauth2"`
	ClientSecret *string  `json:"client_secret,omitempty" nullable:"false" maxLength:"4096" doc:"oauth2; left out, the present one stays, unless token_url moves to another origin"`
	Scopes       []string `json:"scopes,omitempty" nullable:"false" maxItems:"50" doc:"oauth2"`
	Audience     string   `json:"audience,omitempty" maxLength:"256" doc:"oauth2: a parameter that some token servers want"`
}

// TransformSchema implements huma.SchemaTransformer: fields that cannot be had
// together make no example.
func (AuthChange) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	s.Examples = []any{map[string]any{"type": deliver.AuthBasic, "username": "grapnel", "password": "of-the-receiver"}}
	return s
}

// TLSChange is what an endpoint's TLS connections are made with, in a request. It
// takes the place of all there is; {} drops it.
type TLSChange struct {
	Certificate string  `json:"certificate,omitempty" maxLength:"65536" doc:"PEM of the client's certificate, its chain after it"`
	Key         *string `json:"key,omitempty" nullable:"false" maxLength:"65536" doc:"PEM of the certificate's key, without a passphrase; kept encrypted and never shown again"`
	CA          string  `json:"ca,omitempty" maxLength:"65536" doc:"PEM of the authorities that the receiver's certificate is checked against, in place of the machine's"`
}

// CredentialsChange is CredentialsBody in a request: what is left out stays.
type CredentialsChange struct {
	Auth *AuthChange `json:"auth,omitempty" doc:"The header Authorization of its requests. Needed when url moves to another origin; {} drops it"`
	TLS  *TLSChange  `json:"tls,omitempty" doc:"A client certificate, and authorities of its own. Needed when url moves to another origin; {} drops it"`
}

// change is what the request says.
func (c CredentialsChange) change() (change deliver.CredentialsChange) {
	if a := c.Auth; a != nil {
		change.Auth = &deliver.Auth{
			Type: a.Type, Username: a.Username, Password: hiddenOf(a.Password), Token: hiddenOf(a.Token),
			TokenURL: a.TokenURL, ClientID: a.ClientID, ClientSecret: hiddenOf(a.ClientSecret),
			Scopes: a.Scopes, Audience: a.Audience,
		}
	}
	if t := c.TLS; t != nil {
		change.TLS = &deliver.Identity{Certificate: t.Certificate, Key: hiddenOf(t.Key), CA: t.CA}
	}
	return change
}

// hiddenOf is none when the text was left out, or is the one that answers show.
func hiddenOf(s *string) (h deliver.Hidden) {
	if s != nil && *s != hiddenValue {
		h = deliver.NewHidden(*s)
	}
	return h
}

func credentialsBody(c *deliver.Credentials) (b CredentialsBody) {
	if c == nil {
		return b
	}
	if a := c.Auth; !a.IsZero() {
		b.Auth = &AuthBody{Type: a.Type, Username: a.Username, TokenURL: a.TokenURL, ClientID: a.ClientID, Scopes: slices.Clone(a.Scopes), Audience: a.Audience}
	}
	if c.TLS.IsZero() {
		return b
	}
	b.TLS = &TLSBody{}
	client, authorities := c.TLS.Facts()
	if client != nil {
		shown := CertificateBody(*client)
		b.TLS.Certificate = &shown
	}
	for _, a := range authorities {
		b.TLS.CA = append(b.TLS.CA, CertificateBody(a))
	}
	return b
}
