package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// writeCertificate writes one that is its own authority, and its key.
func writeCertificate(t *testing.T, dir, name string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "tls.pem"), filepath.Join(dir, "tls.key")
	for file, block := range map[string]*pem.Block{
		cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		os.Remove(file) // a renewed one is another file
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// A renewed certificate is used without a restart, and a broken one never.
func TestCertificateIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		cert, key := writeCertificate(t, dir, "first")
		c, err := serverTLS(cert, key, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		expect := func(when, want string) {
			t.Helper()
			pair, err := c.GetCertificate(&tls.ClientHelloInfo{})
			if err != nil || pair.Leaf.Subject.CommonName != want {
				t.Errorf("%s: %v, want %s; %v", when, pair.Leaf.Subject, want, err)
			}
		}
		expect("at the start", "first")
		writeCertificate(t, dir, "second")
		expect("at once", "first")
		time.Sleep(certificateEvery)
		expect("after a minute", "second")
		if err := os.WriteFile(key, []byte("half of"), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(certificateEvery)
		expect("with a broken key", "second")
		os.Remove(cert)
		time.Sleep(certificateEvery)
		expect("without a file", "second")
		writeCertificate(t, dir, "third")
		time.Sleep(certificateEvery)
		expect("when it is whole again", "third")
	})
}

func TestServerTLSRefuses(t *testing.T) {
	cert, key := writeCertificate(t, t.TempDir(), "one")
	if c, err := serverTLS("", "", nil); c != nil || err != nil {
		t.Errorf("without files: %v, %v", c, err)
	}
	for name, pair := range map[string][2]string{
		"no certificate": {cert + "x", key}, "no key": {cert, key + "x"}, "the wrong way round": {key, cert},
	} {
		if _, err := serverTLS(pair[0], pair[1], nil); err == nil || !strings.Contains(err.Error(), "--tls-cert") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
