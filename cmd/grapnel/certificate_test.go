package main

import (
	"crypto/tls"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grapnel-hooks/grapnel/stream/streamtest"
)

// A renewed certificate is used without a restart, and a broken one never.
func TestCertificateIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		cert, key := streamtest.WriteCertificate(t, dir, "tls", "first")
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
		streamtest.WriteCertificate(t, dir, "tls", "second")
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
		streamtest.WriteCertificate(t, dir, "tls", "third")
		time.Sleep(certificateEvery)
		expect("when it is whole again", "third")
	})
}

func TestServerTLSRefuses(t *testing.T) {
	cert, key := streamtest.WriteCertificate(t, t.TempDir(), "tls", "one")
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
