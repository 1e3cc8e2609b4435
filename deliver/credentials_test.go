package deliver_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/delivertest"
	"github.com/grapnel-hooks/grapnel/deliver/sign"
)

func hide(s string) deliver.Hidden { return deliver.NewHidden(s) }

func basicAuth() deliver.Auth {
	return deliver.Auth{Type: deliver.AuthBasic, Username: "grapnel", Password: hide("of-the-receiver")}
}

func clientCredentials() deliver.Auth {
	return deliver.Auth{Type: deliver.AuthOAuth2, TokenURL: "https://login.example/token", ClientID: "grapnel", ClientSecret: hide("of-the-client")}
}

func TestCheckCredentials(t *testing.T) {
	now := time.Now()
	ca, later := delivertest.NewAuthority(t), time.Now().Add(time.Hour)
	certificate, key := ca.Client("grapnel", later)
	_, otherKey := ca.Client("other", later)
	old, oldKey := ca.Client("old", now.Add(-time.Minute))
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: weak.N, NotAfter: later}, &x509.Certificate{}, &weak.PublicKey, weak)
	if err != nil {
		t.Fatal(err)
	}
	weakCertificate := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	weakKey := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(weak)}))
	locked := strings.ReplaceAll(key, "PRIVATE KEY", "ENCRYPTED PRIVATE KEY")

	auth := func(a deliver.Auth, change func(*deliver.Auth)) deliver.Credentials {
		if change != nil {
			change(&a)
		}
		return deliver.Credentials{Auth: a}
	}
	pair := func(certificate, key, ca string) deliver.Credentials {
		i := deliver.Identity{Certificate: certificate, CA: ca}
		if key != "" {
			i.Key = hide(key)
		}
		return deliver.Credentials{TLS: i}
	}
	for _, tc := range []struct {
		name  string
		given deliver.Credentials
		want  string
	}{
		{"none", deliver.Credentials{}, ""},
		{"basic", auth(basicAuth(), nil), ""},
		{"basic, an empty password", auth(basicAuth(), func(a *deliver.Auth) { a.Password = hide("") }), ""},
		{"basic, a name with a colon", auth(basicAuth(), func(a *deliver.Auth) { a.Username = "a:b" }), "auth.username: holds ':', which would end it"},
		{"basic, no password", auth(basicAuth(), func(a *deliver.Auth) { a.Password = deliver.Hidden{} }), "auth.password: is missing: the type basic needs it"},
		{"basic, a line break", auth(basicAuth(), func(a *deliver.Auth) { a.Password = hide("a\r\nX-Forged: 1") }), "auth.password: holds a control character"},
		{"basic, a token", auth(basicAuth(), func(a *deliver.Auth) { a.Token = hide("x") }), "auth.token: is for the type bearer"},
		{"no type", auth(deliver.Auth{Username: "grapnel"}, nil), "auth.username: is for the type basic"},
		{"unknown type", auth(deliver.Auth{Type: "digest"}, nil), "auth.type: want basic, bearer or oauth2"},
		{"bearer", auth(deliver.Auth{Type: deliver.AuthBearer, Token: hide("abc-._~+/12==")}, nil), ""},
		{"bearer twice", auth(deliver.Auth{Type: deliver.AuthBearer, Token: hide("Bearer abc")}, nil), "auth.token: want letters, digits and - . _ ~ + / =, without Bearer before it"},
		{"bearer, long", auth(deliver.Auth{Type: deliver.AuthBearer, Token: hide(strings.Repeat("x", 4097))}, nil), "auth.token: has 4097 bytes, at most 4096 may be"},
		{"oauth2", auth(clientCredentials(), func(a *deliver.Auth) { a.Scopes, a.Audience = []string{"a:b", "c"}, "hooks" }), ""},
		{"oauth2, no client", auth(clientCredentials(), func(a *deliver.Auth) { a.ClientID = "" }), "auth.client_id: is missing: the type oauth2 needs it"},
		{"oauth2, a bad URL", auth(clientCredentials(), func(a *deliver.Auth) { a.TokenURL = "https://user:pw@login.example/" }),
			"auth.token_url: holds user information (user:password@), which is not sent"},
		{"oauth2, a scope of two", auth(clientCredentials(), func(a *deliver.Auth) { a.Scopes = []string{"a", "b c"} }),
			`auth.scopes[1]: want 1 to 256 visible characters, without space, " and \`},
		{"oauth2, many scopes", auth(clientCredentials(), func(a *deliver.Auth) { a.Scopes = make([]string, 51) }), "auth.scopes: 51 are given, at most 50 may be"},
		{"oauth2, a long audience", auth(clientCredentials(), func(a *deliver.Auth) { a.Audience = strings.Repeat("x", 257) }), "auth.audience: has 257 bytes, at most 256 may be"},
		{"certificate and authority", pair(certificate, key, ca.PEM()), ""},
		{"with its chain", pair(certificate+ca.PEM(), key, ""), ""},
		{"authority only", pair("", "", ca.PEM()+ca.PEM()), ""},
		{"no key", pair(certificate, "", ""), "tls.key: is missing: the certificate needs it"},
		{"no certificate", pair("", key, ""), "tls.certificate: is missing: the key needs it"},
		{"another's key", pair(certificate, otherKey, ""), "tls.key: is no PEM of a private key that fits the first certificate"},
		{"expired", pair(old, oldKey, ""), "tls.certificate: has expired on " + now.Add(-time.Minute).UTC().Format(time.DateOnly)},
		{"weak", pair(weakCertificate, weakKey, ""), "tls.key: is RSA of 1024 bits, want at least 2048"},
		{"a locked key", pair(certificate, locked, ""), "tls.key: is protected by a passphrase: give it without one, it is kept encrypted"},
		{"key in the certificate", pair(certificate+key, key, ""), "tls.certificate: holds something else than certificates; a key belongs into tls.key"},
		{"no PEM", pair("hunter2", key, ""), "tls.certificate: is no PEM: want -----BEGIN CERTIFICATE-----"},
		{"no authority", pair("", "", " \n"), "tls.ca: holds no certificate"},
		{"an authority that is none", pair("", "", "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n"), "tls.ca: certificate 1 cannot be read"},
		{"an expired authority", pair("", "", old), "tls.ca: CN=old has expired on " + now.Add(-time.Minute).UTC().Format(time.DateOnly)},
		{"many authorities", pair("", "", strings.Repeat(ca.PEM(), 21)), "tls.ca: holds more than 20 certificates"},
		{"large", pair("", "", strings.Repeat(" ", 65<<10)), "tls.ca: has 66560 bytes, at most 65536 may be"},
	} {
		_, err := deliver.CheckCredentials(tc.given, now)
		got := ""
		if err != nil {
			got = err.Error()
			if !errors.As(err, new(*deliver.CredentialsError)) {
				t.Errorf("%s: %T", tc.name, err)
			}
		}
		if got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
	}
}

func TestSEC21_CredentialsDoNotMove(t *testing.T) {
	now := time.Now()
	ca := delivertest.NewAuthority(t)
	basic, oauth := basicAuth(), clientCredentials()
	identity := deliver.Identity{CA: ca.PEM()}
	without := func(a deliver.Auth, change func(*deliver.Auth)) *deliver.Auth {
		a.Password, a.ClientSecret = deliver.Hidden{}, deliver.Hidden{}
		if change != nil {
			change(&a)
		}
		return &a
	}
	for _, tc := range []struct {
		name    string
		present deliver.Credentials
		change  deliver.CredentialsChange
		moved   bool
		want    deliver.Credentials
		err     string
	}{
		{"nothing", deliver.Credentials{Auth: basic, TLS: identity}, deliver.CredentialsChange{}, false, deliver.Credentials{Auth: basic, TLS: identity}, ""},
		{"nothing, moved", deliver.Credentials{Auth: basic}, deliver.CredentialsChange{}, true, deliver.Credentials{}, "auth"},
		{"nothing, moved with an identity", deliver.Credentials{TLS: identity}, deliver.CredentialsChange{}, true, deliver.Credentials{}, "tls"},
		{"moved, dropped", deliver.Credentials{Auth: basic, TLS: identity}, deliver.CredentialsChange{Auth: &deliver.Auth{}, TLS: &deliver.Identity{}}, true, deliver.Credentials{}, ""},
		{"moved, given again", deliver.Credentials{Auth: basic}, deliver.CredentialsChange{Auth: &basic}, true, deliver.Credentials{Auth: basic}, ""},
		{"moved, without the password", deliver.Credentials{Auth: basic}, deliver.CredentialsChange{Auth: without(basic, nil)}, true, deliver.Credentials{}, "auth.password"},
		{"the password stays", deliver.Credentials{Auth: basic}, deliver.CredentialsChange{Auth: without(basic, nil)}, false, deliver.Credentials{Auth: basic}, ""},
		{"another type needs its own", deliver.Credentials{Auth: basic}, deliver.CredentialsChange{Auth: without(oauth, nil)}, false, deliver.Credentials{}, "auth.client_secret"},
		{"the client's secret stays", deliver.Credentials{Auth: oauth},
			deliver.CredentialsChange{Auth: without(oauth, func(a *deliver.Auth) { a.TokenURL = "https://LOGIN.example:443/token" })}, false, deliver.Credentials{Auth: oauth}, ""},
		{"the client's secret does not follow the token's URL", deliver.Credentials{Auth: oauth},
			deliver.CredentialsChange{Auth: without(oauth, func(a *deliver.Auth) { a.TokenURL = "https://evil.example/token" })}, false, deliver.Credentials{}, "auth.client_secret"},
	} {
		present := tc.present
		got, err := tc.change.Apply(&present, tc.moved, now)
		var bad *deliver.CredentialsError
		if errors.As(err, &bad); tc.err != "" {
			if bad == nil || bad.Field != tc.err {
				t.Errorf("%s: %v, want an error of %s", tc.name, err, tc.err)
			}
			continue
		}
		switch {
		case err != nil:
			t.Errorf("%s: %v", tc.name, err)
		case got == nil && !tc.want.IsZero(), got != nil && !got.Equal(tc.want):
			t.Errorf("%s: got %+v", tc.name, got)
		}
	}
	// What is there is not checked again: an endpoint whose certificate has expired
	// can be disabled.
	old, key := ca.Client("old", now.Add(time.Minute))
	present := &deliver.Credentials{TLS: deliver.Identity{Certificate: old, Key: hide(key)}}
	if _, err := (deliver.CredentialsChange{}).Apply(present, false, now.Add(time.Hour)); err != nil {
		t.Error(err)
	}
}

func TestCredentialsTogether(t *testing.T) {
	c := deliver.Credentials{Auth: basicAuth()}
	for url, identity := range map[string]bool{"https://receiver.example/": true, "http://receiver.example/": false} {
		i := deliver.Credentials{TLS: deliver.Identity{CA: "x"}}
		if err := i.CheckTogether(url, nil); (err == nil) != identity {
			t.Errorf("an identity at %s: %v", url, err)
		}
		if err := c.CheckTogether(url, headers("x-tenant", "7")); err != nil {
			t.Error(err)
		}
		if err := c.CheckTogether(url, headers("authorization", "Bearer x")); err == nil {
			t.Error("both a header Authorization and credentials are accepted")
		}
	}
}

func TestSEC13_CredentialsArePrintedWithoutSecrets(t *testing.T) {
	certificate, key := delivertest.NewAuthority(t).Client("grapnel", time.Now().Add(time.Hour))
	c := deliver.Credentials{
		Auth: deliver.Auth{Type: "basic", Password: hide("canary-1"), Token: hide("canary-2"), ClientSecret: hide("canary-3")},
		TLS:  deliver.Identity{Certificate: certificate, Key: hide(key)},
	}
	asJSON, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{fmt.Sprintf("%v %+v %#v %s %q %x", c, c, c, c.Auth.Password, c.Auth.Token, c.TLS.Key), string(asJSON)} {
		for _, secret := range []string{"canary", "PRIVATE", key[40:80]} {
			if strings.Contains(text, secret) {
				t.Errorf("%q is in %s", secret, text)
			}
		}
	}
	client, authorities := c.TLS.Facts()
	if client == nil || client.Subject != "CN=grapnel" || len(client.SHA256) != 64 || len(authorities) != 0 {
		t.Errorf("facts %+v, %+v", client, authorities)
	}
}

// The header is sent, and not kept if the receiver shows it.
func TestAuthorization(t *testing.T) {
	for _, tc := range []struct {
		name string
		auth deliver.Auth
		want string
	}{
		{"basic", basicAuth(), "Basic Z3JhcG5lbDpvZi10aGUtcmVjZWl2ZXI="}, // printf grapnel:of-the-receiver | base64
		{"bearer", deliver.Auth{Type: deliver.AuthBearer, Token: hide("of-the-receiver")}, "Bearer of-the-receiver"},
	} {
		r := delivertest.NewReceiver()
		r.Script(delivertest.Reply(400, `{"authorization":"`+tc.want+`","password":"of-the-receiver"}`, "Server", tc.want))
		to := targetOf(t, r.Start(t), deliver.Credentials{Auth: tc.auth})
		o := send(t, newSender(t, loopback()), to, 1)
		if got := r.Requests()[0].Header.Get("Authorization"); got != tc.want {
			t.Errorf("%s: %q", tc.name, got)
		}
		want := `{"authorization":"[redacted]","password":"[redacted]"}`
		if diff := cmp.Diff(want, string(o.Body)); diff != "" || o.Header.Get("Server") != "[redacted]" {
			t.Errorf("%s: kept %s, %v", tc.name, o.Body, o.Header)
		}
		shown, err := to.Request(payload(1, "{}"), deliver.Key{}, 1, time.Now(), "grapnel/test")
		if err != nil || shown.Header.Get("Authorization") != "[redacted]" {
			t.Errorf("%s: shown %v, %v", tc.name, shown.Header, err)
		}
	}
}

// targetOf is a target with credentials.
func targetOf(t testing.TB, url string, c deliver.Credentials) *deliver.Target {
	t.Helper()
	to, err := deliver.NewTarget(deliver.Endpoint{ID: "ep_1", URL: url, Secrets: []deliver.Secret{{Secret: sign.NewSecret()}}, Credentials: &c})
	if err != nil {
		t.Fatal(err)
	}
	return to
}
