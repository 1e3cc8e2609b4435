package sqlite

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
)

// credentialsText is what is sealed of an endpoint's credentials.
type credentialsText struct {
	Type         string   `json:"type,omitempty"`
	Username     string   `json:"username,omitempty"`
	Password     *string  `json:"password,omitempty"`
	Token        *string  `json:"token,omitempty"`
	TokenURL     string   `json:"token_url,omitempty"`
	ClientID     string   `json:"client_id,omitempty"`
	ClientSecret *string  `json:"client_secret,omitempty"`
	Scopes       []string `json:"scopes,omitempty"`
	Audience     string   `json:"audience,omitempty"`
	Certificate  string   `json:"certificate,omitempty"`
	Key          *string  `json:"key,omitempty"`
	CA           string   `json:"ca,omitempty"`
}

func credentialsAAD(org, endpoint int64) string {
	return fmt.Sprintf("credentials|%d|%d", org, endpoint)
}

// changeCredentials makes the change of the endpoint's credentials, before its URL
// is changed. It fails with a [*deliver.CredentialsError].
func (c EndpointChange) changeCredentials(e *deliver.Endpoint, now time.Time) (err error) {
	moved := c.URL != nil && !deliver.SameOrigin(e.URL, *c.URL)
	e.Credentials, err = c.Credentials.Apply(e.Credentials, moved, now)
	return err
}

// checkTogether checks what the endpoint has beside its credentials.
func checkTogether(e *deliver.Endpoint) error {
	if e.Credentials == nil {
		return nil
	}
	return e.Credentials.CheckTogether(e.URL, e.Headers)
}

// writeCredentials stores e's credentials.
func (t *txn) writeCredentials(o *orgState, e *deliver.Endpoint) error {
	if e.Credentials == nil {
		_, err := t.c.exec("UPDATE endpoints SET credentials=NULL WHERE id=? AND credentials IS NOT NULL", e.Row)
		return err
	}
	a, i := e.Credentials.Auth, e.Credentials.TLS
	text, err := json.Marshal(credentialsText{
		Type: a.Type, Username: a.Username, Password: revealed(a.Password), Token: revealed(a.Token),
		TokenURL: a.TokenURL, ClientID: a.ClientID, ClientSecret: revealed(a.ClientSecret), Scopes: a.Scopes, Audience: a.Audience,
		Certificate: i.Certificate, Key: revealed(i.Key), CA: i.CA,
	})
	if err != nil {
		return err
	}
	sealed, err := t.s.hide(credentialsAAD(o.row, e.Row), text)
	if err != nil {
		return err
	}
	_, err = t.c.exec("UPDATE endpoints SET credentials=? WHERE id=?", sealed, e.Row)
	return err
}

func revealed(h deliver.Hidden) *string {
	if h.IsZero() {
		return nil
	}
	s := h.Reveal()
	return &s
}

func hidden(s *string) (h deliver.Hidden) {
	if s != nil {
		h = deliver.NewHidden(*s)
	}
	return h
}

// openCredentials reads what writeCredentials stored.
func (s *Store) openCredentials(org, endpoint int64, sealed []byte) (*deliver.Credentials, error) {
	if sealed == nil {
		return nil, nil
	}
	text, err := s.reveal(credentialsAAD(org, endpoint), sealed)
	if err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	var c credentialsText
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, errors.New("credentials cannot be read") // err could quote one
	}
	return &deliver.Credentials{
		Auth: deliver.Auth{
			Type: c.Type, Username: c.Username, Password: hidden(c.Password), Token: hidden(c.Token),
			TokenURL: c.TokenURL, ClientID: c.ClientID, ClientSecret: hidden(c.ClientSecret), Scopes: c.Scopes, Audience: c.Audience,
		},
		TLS: deliver.Identity{Certificate: c.Certificate, Key: hidden(c.Key), CA: c.CA},
	}, nil
}

// credentialsChanges says by names which credentials differ.
func credentialsChanges(c Changes, before, after *deliver.Credentials) {
	var was, is deliver.Credentials
	if before != nil {
		was = *before
	}
	if after != nil {
		is = *after
	}
	if !was.Auth.Equal(is.Auth) {
		c["auth"] = [2]any{was.Auth.Type, is.Auth.Type}
	}
	if !was.TLS.Equal(is.TLS) {
		c["tls"] = [2]any{identityNames(was.TLS), identityNames(is.TLS)}
	}
}

func identityNames(i deliver.Identity) []string {
	names := []string{}
	if i.Certificate != "" {
		names = append(names, "certificate")
	}
	if i.CA != "" {
		names = append(names, "ca")
	}
	return names
}
