package deliver

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Bounds of an endpoint's credentials.
const (
	MaxCredential   = 4 << 10  // bytes of a user name, password, token, client id or client secret
	MaxScopes       = 50       // of a token
	MaxScope        = 256      // bytes of a scope, or of an audience
	MaxPEM          = 64 << 10 // bytes of a certificate with its chain, of a key, or of authorities
	MaxCertificates = 20       // in one PEM text
	minRSA          = 2048     // bits
)

// How an endpoint's requests are authenticated.
const (
	AuthBasic  = "basic"  // a user name and a password (RFC 7617)
	AuthBearer = "bearer" // a token (RFC 6750)
	AuthOAuth2 = "oauth2" // a token that is fetched for client credentials (RFC 6749, section 4.4)
)

// Credentials are how an endpoint's requests say who sends them, in the way that
// its receiver asks for, beside their signature.
type Credentials struct {
	Auth Auth     // the header Authorization; the zero Auth: none
	TLS  Identity // the zero Identity: none, and the machine's authorities
}

// IsZero reports whether there are none.
func (c Credentials) IsZero() bool { return c.Auth.IsZero() && c.TLS.IsZero() }

// Equal reports whether both are the same.
func (c Credentials) Equal(d Credentials) bool { return c.Auth.Equal(d.Auth) && c.TLS.Equal(d.TLS) }

// Auth is what the header Authorization is made from. Fields that its Type does
// not have are empty.
type Auth struct {
	Type     string
	Username string // basic: without ":"
	Password Hidden // basic
	Token    Hidden // bearer

	TokenURL     string // oauth2: where the token is fetched; canonical, see CheckURL
	ClientID     string
	ClientSecret Hidden
	Scopes       []string
	Audience     string // "": none is asked for
}

// IsZero reports whether there is none.
func (a Auth) IsZero() bool { return a.Type == "" }

// Equal reports whether both are the same.
func (a Auth) Equal(b Auth) bool {
	return a.Type == b.Type && a.Username == b.Username && a.Password.Equal(b.Password) && a.Token.Equal(b.Token) &&
		a.TokenURL == b.TokenURL && a.ClientID == b.ClientID && a.ClientSecret.Equal(b.ClientSecret) &&
		slices.Equal(a.Scopes, b.Scopes) && a.Audience == b.Audience
}

// Identity is what an endpoint's TLS connections are made with.
type Identity struct {
	Certificate string // of the client, PEM, its chain after it; "": none
	Key         Hidden // of Certificate, PEM
	CA          string // the authorities that the receiver's certificate is checked against, PEM; "": the machine's
}

// IsZero reports whether there is none.
func (i Identity) IsZero() bool { return i.Certificate == "" && i.Key.IsZero() && i.CA == "" }

// Equal reports whether both are the same.
func (i Identity) Equal(j Identity) bool {
	return i.Certificate == j.Certificate && i.Key.Equal(j.Key) && i.CA == j.CA
}

// fingerprint tells identities apart.
func (i Identity) fingerprint() [sha256.Size]byte {
	return fingerprint(i.Certificate, i.Key.Reveal(), i.CA)
}

// fingerprint tells those apart whose tokens differ.
func (a Auth) fingerprint() [sha256.Size]byte {
	return fingerprint(a.TokenURL, a.ClientID, a.ClientSecret.Reveal(), strings.Join(a.Scopes, " "), a.Audience)
}

func fingerprint(texts ...string) [sha256.Size]byte {
	h := sha256.New()
	for _, s := range texts {
		fmt.Fprintf(h, "%d\n%s", len(s), s)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// CredentialsError says which part of credentials cannot be used, by its name in
// the API ("auth.token_url"), and what would be right. It holds no secret.
type CredentialsError struct{ Field, Detail string }

func (e *CredentialsError) Error() string { return e.Field + ": " + e.Detail }

func badCredentials(field, format string, args ...any) error {
	return &CredentialsError{field, fmt.Sprintf(format, args...)}
}

// CheckCredentials checks credentials that were just given, as of now, and
// returns them with the URL in its canonical form. Whether the token's URL leads
// to an allowed address is for [Guard.CheckURL] to say. The error is a
// [*CredentialsError].
func CheckCredentials(c Credentials, now time.Time) (Credentials, error) {
	var err error
	if c.Auth, err = c.Auth.check(); err != nil {
		return c, err
	}
	return c, c.TLS.check(now)
}

// CheckTogether checks what an endpoint's settings must not say at the same time.
// The error is a [*CredentialsError].
func (c Credentials) CheckTogether(url string, headers []Header) error {
	if !c.Auth.IsZero() && slices.ContainsFunc(headers, func(h Header) bool { return strings.EqualFold(h.Name, headerAuthorization) }) {
		return badCredentials("auth", "the endpoint has a header Authorization of its own already: leave out one of them")
	}
	if !c.TLS.IsZero() && !strings.HasPrefix(strings.ToLower(url), "https:") {
		return badCredentials("tls", "is for https URLs only")
	}
	return nil
}

const headerAuthorization = "Authorization"

func (a Auth) check() (Auth, error) {
	for _, f := range []struct {
		name, text string
		given      bool
		types      string
	}{
		{"username", a.Username, a.Username != "", AuthBasic},
		{"password", a.Password.Reveal(), !a.Password.IsZero(), AuthBasic},
		{"token", a.Token.Reveal(), !a.Token.IsZero(), AuthBearer},
		{"token_url", a.TokenURL, a.TokenURL != "", AuthOAuth2},
		{"client_id", a.ClientID, a.ClientID != "", AuthOAuth2},
		{"client_secret", a.ClientSecret.Reveal(), !a.ClientSecret.IsZero(), AuthOAuth2},
		{"scopes", "", len(a.Scopes) > 0, AuthOAuth2},
		{"audience", a.Audience, a.Audience != "", AuthOAuth2},
	} {
		switch {
		case f.given && f.types != a.Type:
			return a, badCredentials("auth."+f.name, "is for the type %s", f.types)
		case f.types == a.Type && !f.given && f.name != "scopes" && f.name != "audience":
			return a, badCredentials("auth."+f.name, "is missing: the type %s needs it", a.Type)
		case len(f.text) > MaxCredential:
			return a, badCredentials("auth."+f.name, "has %d bytes, at most %d may be", len(f.text), MaxCredential)
		case strings.ContainsFunc(f.text, func(r rune) bool { return r < ' ' || r == 0x7f }):
			return a, badCredentials("auth."+f.name, "holds a control character")
		}
	}
	switch a.Type {
	case "":
	case AuthBasic:
		if strings.Contains(a.Username, ":") {
			return a, badCredentials("auth.username", "holds ':', which would end it")
		}
	case AuthBearer:
		if !isToken(a.Token.Reveal()) {
			return a, badCredentials("auth.token", "want letters, digits and - . _ ~ + / =, without Bearer before it")
		}
	case AuthOAuth2:
		return a.checkOAuth2()
	default:
		return a, badCredentials("auth.type", "want %s, %s or %s", AuthBasic, AuthBearer, AuthOAuth2)
	}
	return a, nil
}

func (a Auth) checkOAuth2() (Auth, error) {
	canonical, err := CheckURL(a.TokenURL, true) // whether http is allowed is for Guard.CheckURL
	if err != nil {
		return a, badCredentials("auth.token_url", "%s", strings.TrimPrefix(err.Error(), "url: "))
	}
	a.TokenURL = canonical
	if len(a.Scopes) > MaxScopes {
		return a, badCredentials("auth.scopes", "%d are given, at most %d may be", len(a.Scopes), MaxScopes)
	}
	for i, s := range a.Scopes {
		// RFC 6749, section 3.3
		if s == "" || len(s) > MaxScope || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }) {
			return a, badCredentials(fmt.Sprintf("auth.scopes[%d]", i), "want 1 to %d visible characters, without space, \" and \\", MaxScope)
		}
	}
	if len(a.Audience) > MaxScope {
		return a, badCredentials("auth.audience", "has %d bytes, at most %d may be", len(a.Audience), MaxScope)
	}
	return a, nil
}

// isToken reports whether s is a b64token of RFC 6750, section 2.1.
func isToken(s string) bool {
	body := strings.TrimRight(s, "=")
	return body != "" && !strings.ContainsFunc(body, func(r rune) bool {
		return !('0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || strings.ContainsRune("-._~+/", r))
	})
}

func (i Identity) check(now time.Time) error {
	if (i.Certificate == "") != i.Key.IsZero() {
		missing, there := "key", "certificate"
		if i.Certificate == "" {
			missing, there = there, missing
		}
		return badCredentials("tls."+missing, "is missing: the %s needs it", there)
	}
	if i.Certificate != "" {
		if err := i.checkPair(now); err != nil {
			return err
		}
	}
	if i.CA == "" {
		return nil
	}
	authorities, err := certificates("tls.ca", i.CA)
	if err != nil {
		return err
	}
	for _, c := range authorities {
		if now.After(c.NotAfter) {
			return badCredentials("tls.ca", "%s has expired on %s", subjectOf(c), c.NotAfter.UTC().Format(time.DateOnly))
		}
	}
	return nil
}

func (i Identity) checkPair(now time.Time) error {
	chain, err := certificates("tls.certificate", i.Certificate)
	if err != nil {
		return err
	}
	leaf := chain[0]
	if now.After(leaf.NotAfter) {
		return badCredentials("tls.certificate", "has expired on %s", leaf.NotAfter.UTC().Format(time.DateOnly))
	}
	key := i.Key.Reveal()
	if len(key) > MaxPEM {
		return badCredentials("tls.key", "has %d bytes, at most %d may be", len(key), MaxPEM)
	}
	for rest := []byte(key); ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		if b.Type == "ENCRYPTED PRIVATE KEY" || b.Headers["DEK-Info"] != "" {
			return badCredentials("tls.key", "is protected by a passphrase: give it without one, it is kept encrypted")
		}
	}
	pair, err := i.pair()
	if err != nil {
		return badCredentials("tls.key", "is no PEM of a private key that fits the first certificate")
	}
	switch k := pair.PrivateKey.(type) {
	case *rsa.PrivateKey:
		if k.N.BitLen() < minRSA {
			return badCredentials("tls.key", "is RSA of %d bits, want at least %d", k.N.BitLen(), minRSA)
		}
	case *ecdsa.PrivateKey, ed25519.PrivateKey:
	default:
		return badCredentials("tls.key", "want RSA, ECDSA or Ed25519")
	}
	return nil
}

var errPair = errors.New("the client's certificate and key cannot be used")

func (i Identity) pair() (tls.Certificate, error) {
	pair, err := tls.X509KeyPair([]byte(i.Certificate), []byte(i.Key.Reveal()))
	if err != nil {
		return pair, errPair // whose text may quote what was given
	}
	return pair, nil
}

// certificates reads a PEM text that has certificates and nothing else.
func certificates(field, text string) (list []*x509.Certificate, err error) {
	if len(text) > MaxPEM {
		return nil, badCredentials(field, "has %d bytes, at most %d may be", len(text), MaxPEM)
	}
	rest := []byte(text)
	for len(bytes.TrimSpace(rest)) > 0 {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			return nil, badCredentials(field, "is no PEM: want -----BEGIN CERTIFICATE-----")
		}
		if b.Type != "CERTIFICATE" {
			return nil, badCredentials(field, "holds something else than certificates; a key belongs into tls.key")
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, badCredentials(field, "certificate %d cannot be read", len(list)+1)
		}
		if list = append(list, c); len(list) > MaxCertificates {
			return nil, badCredentials(field, "holds more than %d certificates", MaxCertificates)
		}
	}
	if len(list) == 0 {
		return nil, badCredentials(field, "holds no certificate")
	}
	return list, nil
}

// Certificate is what may be shown of one.
type Certificate struct {
	Subject   string
	ExpiresAt time.Time
	SHA256    string // hex, of all of it
}

// Facts are what may be shown of an identity: the client's certificate, nil if
// there is none, and the authorities.
func (i Identity) Facts() (client *Certificate, authorities []Certificate) {
	if list, err := certificates("", i.Certificate); err == nil {
		c := factsOf(list[0])
		client = &c
	}
	list, err := certificates("", i.CA)
	if err != nil {
		return client, nil
	}
	for _, c := range list {
		authorities = append(authorities, factsOf(c))
	}
	return client, authorities
}

func factsOf(c *x509.Certificate) Certificate {
	sum := sha256.Sum256(c.Raw)
	return Certificate{Subject: subjectOf(c), ExpiresAt: c.NotAfter.UTC(), SHA256: hex.EncodeToString(sum[:])}
}

// subjectOf is the subject, or the first name that the certificate is for.
func subjectOf(c *x509.Certificate) string {
	if s := c.Subject.String(); s != "" {
		return s
	}
	if len(c.DNSNames) > 0 {
		return c.DNSNames[0]
	}
	return "a certificate without a subject"
}

// CredentialsChange is what is to become of an endpoint's credentials: nil stays,
// the zero value is dropped, and anything else takes the place of what there is.
// An Auth without its password, token or client secret keeps the one that there is.
type CredentialsChange struct {
	Auth *Auth
	TLS  *Identity
}

// Apply is what the endpoint's credentials become; nil is none. moved says that the
// endpoint moves to another origin at the same time, where nothing may be kept
// (SEC-21). Nor does a client secret follow the token's URL to another origin. What
// is given is checked as [CheckCredentials] does. The error is a
// [*CredentialsError].
func (c CredentialsChange) Apply(present *Credentials, moved bool, now time.Time) (*Credentials, error) {
	const again = "the URL moves to another origin, which must not learn what it was not given for: give it again, or drop it"
	var next Credentials
	if present != nil {
		next = *present
	}
	switch {
	case c.Auth != nil:
		kept := next.Auth
		next.Auth = *c.Auth
		next.Auth.Scopes = slices.Clone(c.Auth.Scopes)
		if err := next.Auth.keep(kept, moved); err != nil {
			return nil, err
		}
	case moved && !next.Auth.IsZero():
		return nil, badCredentials("auth", again)
	}
	switch {
	case c.TLS != nil:
		next.TLS = *c.TLS
	case moved && !next.TLS.IsZero():
		return nil, badCredentials("tls", again)
	}
	if present != nil && next.Equal(*present) {
		return present, nil // however old it is
	}
	checked, err := CheckCredentials(next, now)
	if err != nil || checked.IsZero() {
		return nil, err
	}
	return &checked, nil
}

// keep takes over the secret of the present Auth, if a has none of its own.
func (a *Auth) keep(now Auth, moved bool) error {
	var (
		field     string
		to, from  *Hidden
		elsewhere bool
	)
	switch a.Type {
	case AuthBasic:
		field, to, from = "auth.password", &a.Password, &now.Password
	case AuthBearer:
		field, to, from = "auth.token", &a.Token, &now.Token
	case AuthOAuth2:
		field, to, from = "auth.client_secret", &a.ClientSecret, &now.ClientSecret
		elsewhere = !SameOrigin(a.TokenURL, now.TokenURL)
	}
	if to == nil || !to.IsZero() || from.IsZero() {
		return nil
	}
	if moved || elsewhere {
		return badCredentials(field, "the URL moves to another origin: give it again")
	}
	*to = *from
	return nil
}
