package stream_test

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/grapnel-hooks/grapnel/stream"
	"github.com/grapnel-hooks/grapnel/stream/streamtest"
)

// A server that wants the client's certificate, under a CA of its own.
func TestConnectByTLS(t *testing.T) {
	dir := t.TempDir()
	serverCert, serverKey := streamtest.WriteCertificate(t, dir, "server", "server")
	clientCert, clientKey := streamtest.WriteCertificate(t, dir, "client", "client")
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
