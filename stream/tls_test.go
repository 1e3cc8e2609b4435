package stream_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/grapnel-hooks/grapnel/stream"
)

// selfSigned writes a certificate that is its own CA, and its key.
func selfSigned(t *testing.T, dir, name string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	for file, block := range map[string]*pem.Block{
		cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// A server that wants the client's certificate, under a CA of its own.
func TestConnectByTLS(t *testing.T) {
	dir := t.TempDir()
	serverCert, serverKey := selfSigned(t, dir, "server")
	clientCert, clientKey := selfSigned(t, dir, "client")
	pair, err := tls.LoadX509KeyPair(serverCert, serverKey)
	if err != nil {
		t.Fatal(err)
	}
	clients := x509.NewCertPool()
	b, err := os.ReadFile(clientCert)
	if err != nil || !clients.AppendCertsFromPEM(b) {
		t.Fatal("no client certificate", err)
	}
	s := natsServer(t, &server.Options{
		JetStream: true, StoreDir: dir, TLSTimeout: 5,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients},
	})
	c := connect(t, stream.Options{URL: s.ClientURL(), TLSCA: serverCert, TLSCert: clientCert, TLSKey: clientKey})
	if !c.Connected() {
		t.Fatal(c.Err())
	}
	if _, err := c.Create(t.Context(), stream.OrgStream{Org: "acme"}); err != nil {
		t.Error(err)
	}

	for name, o := range map[string]stream.Options{
		"without a certificate": {URL: s.ClientURL(), TLSCA: serverCert},
		"with another CA":       {URL: s.ClientURL(), TLSCA: clientCert, TLSCert: clientCert, TLSKey: clientKey},
	} {
		t.Run(name, func(t *testing.T) {
			if c := connect(t, o); c.Connected() {
				t.Error("connected")
			}
		})
	}
}
