package deliver

import (
	"crypto/x509"
	"os"
	"strings"
	"testing"
	"time"
)

// What is accepted can be used.
func FuzzIdentity(f *testing.F) {
	ca, err := os.ReadFile("../testdata/credentials/authority.pem")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(ca), "", "")
	f.Add("", "", string(ca))
	f.Add(string(ca), "-----BEGIN PRIVATE KEY-----\naGVsbG8=\n-----END PRIVATE KEY-----\n", string(ca)+string(ca))
	f.Fuzz(func(t *testing.T, certificate, key, ca string) {
		i := Identity{Certificate: certificate, CA: ca}
		if key != "" {
			i.Key = NewHidden(key)
		}
		_, err := CheckCredentials(Credentials{TLS: i}, time.Unix(0, 0))
		client, authorities := i.Facts()
		if err != nil {
			return
		}
		config, err := i.config(x509.NewCertPool())
		if err != nil {
			t.Fatalf("it is accepted, and then: %v", err)
		}
		if (client != nil) != (len(config.Certificates) == 1) || (ca != "") != (len(authorities) > 0) {
			t.Fatalf("facts %v, %v of %q", client, authorities, i)
		}
	})
}

// Whatever a token server answers, what is taken for a token fits a header.
func FuzzGranted(f *testing.F) {
	f.Add(`{"access_token":"abc","token_type":"bearer","expires_in":3600}`)
	f.Add(`{"access_token":"abc","expires_in":"60"}`)
	f.Add(`{"access_token":"a\r\nX: y"}`)
	f.Add(`{"access_token":"a","expires_in":1e308}`)
	f.Fuzz(func(t *testing.T, body string) {
		token, lifetime, err := granted([]byte(body))
		if err != nil {
			return
		}
		if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Errorf("token %q", token)
		}
		if lifetime < time.Second || lifetime > tokenLongest {
			t.Errorf("lifetime %v", lifetime)
		}
	})
}
