package deliver_test

import (
	"crypto/tls"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/delivertest"
)

// secured is a receiver on a network in memory, over TLS, and what it saw of
// connections.
type secured struct {
	n  *delivertest.Network
	ca *delivertest.Authority

	mu   sync.Mutex
	seen []string // of each request: protocol and the client's name
}

// secure serves it. It works in a bubble.
func secure(t *testing.T, change func(*tls.Config)) *secured {
	r := &secured{n: delivertest.NewNetwork(), ca: delivertest.NewAuthority(t)}
	r.n.Buffer()
	r.n.Name("receiver.example", "93.184.215.14")
	config := &tls.Config{
		Certificates: []tls.Certificate{r.ca.Certificate("receiver.example", time.Now().Add(time.Hour))},
		ClientCAs:    r.ca.Pool(),
		ClientAuth:   tls.VerifyClientCertIfGiven,
	}
	if change != nil {
		change(config)
	}
	delivertest.ServeTLS(t, r.n.Listen("93.184.215.14:443"), r, config)
	return r
}

func (r *secured) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	line := req.Proto
	for _, c := range req.TLS.PeerCertificates[:min(1, len(req.TLS.PeerCertificates))] {
		line += " " + c.Subject.CommonName
	}
	if req.TLS.DidResume {
		line += " resumed"
	}
	r.mu.Lock()
	r.seen = append(r.seen, line)
	r.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

func (r *secured) lines() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string{}, r.seen...)
}

func (r *secured) options() deliver.SenderOptions {
	o := inMemory(r.n)
	o.RootCAs = r.ca.Pool()
	return o
}

func (r *secured) client(name string) deliver.Identity {
	certificate, key := r.ca.Client(name, time.Now().Add(time.Hour))
	return deliver.Identity{Certificate: certificate, Key: deliver.NewHidden(key)}
}

func TestHTTP2(t *testing.T) {
	for _, tc := range []struct {
		name   string
		protos []string
		want   string
	}{
		{"offered", []string{"h2", "http/1.1"}, "HTTP/2.0"},
		{"nothing else", []string{"h2"}, "HTTP/2.0"},
		{"not offered", []string{"http/1.1"}, "HTTP/1.1"},
		{"no ALPN", nil, "HTTP/1.1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := secure(t, func(c *tls.Config) { c.NextProtos = tc.protos })
				s, to := newSender(t, r.options()), target(t, "https://receiver.example/")
				for i := range int64(10) {
					if o := send(t, s, to, i); o.Class != deliver.OK || o.Timings.Reused != (i > 0) || o.Address != "93.184.215.14:443" {
						t.Errorf("request %d: %+v", i, o)
					}
				}
				var wg sync.WaitGroup // streams of one connection, if there are any
				for i := range int64(20) {
					wg.Go(func() {
						if o := send(t, s, to, 100+i); o.Class != deliver.OK {
							t.Errorf("%+v", o)
						}
					})
				}
				wg.Wait()
				if dials := len(r.n.Dialed()); tc.want == "HTTP/2.0" && dials != 1 {
					t.Errorf("%d connections", dials)
				}
				for _, line := range r.lines() {
					if strings.TrimSuffix(line, " resumed") != tc.want {
						t.Errorf("%s, want %s", line, tc.want)
					}
				}
				time.Sleep(5 * time.Second)
				if o := send(t, s, to, 200); o.Class != deliver.OK || o.Timings.Reused {
					t.Errorf("an idle connection is kept: %+v", o)
				}
			})
		})
	}
}

func TestClientCertificates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := secure(t, func(c *tls.Config) {
			c.ClientAuth = tls.RequireAndVerifyClientCert
			c.MaxVersion = tls.VersionTLS12 // where the handshake says so at once
		})
		stranger := delivertest.NewAuthority(t)
		certificate, key := stranger.Client("stranger", time.Now().Add(time.Hour))
		s := newSender(t, r.options())
		for _, tc := range []struct {
			name  string
			to    *deliver.Target
			class deliver.Class
			text  string
		}{
			{"its own", targetOf(t, "https://receiver.example/", deliver.Credentials{TLS: r.client("grapnel")}), deliver.OK, ""},
			{"none", target(t, "https://receiver.example/"), deliver.TLS, "the TLS handshake was refused: tls: handshake failure"},
			{"one of another authority", targetOf(t, "https://receiver.example/", deliver.Credentials{TLS: deliver.Identity{Certificate: certificate, Key: deliver.NewHidden(key)}}),
				deliver.TLS, ""},
		} {
			o := send(t, s, tc.to, 1)
			if o.Class != tc.class || tc.text != "" && o.Error != tc.text {
				t.Errorf("%s: %+v", tc.name, o)
			}
		}
		if diff := cmp.Diff([]string{"HTTP/1.1 grapnel"}, r.lines()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}

func TestOwnAuthorities(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := secure(t, nil)
		options := r.options()
		options.RootCAs = delivertest.NewAuthority(t).Pool() // the machine's do not know the receiver's
		s := newSender(t, options)
		own := targetOf(t, "https://receiver.example/", deliver.Credentials{TLS: deliver.Identity{CA: r.ca.PEM()}})
		if o := send(t, s, own, 1); o.Class != deliver.OK {
			t.Errorf("its own authority: %+v", o)
		}
		if o := send(t, s, target(t, "https://receiver.example/"), 2); o.Class != deliver.TLS {
			t.Errorf("the machine's: %+v", o)
		}
		// They take the place of the machine's.
		options.RootCAs = r.ca.Pool()
		other := targetOf(t, "https://receiver.example/", deliver.Credentials{TLS: deliver.Identity{CA: delivertest.NewAuthority(t).PEM()}})
		if o := send(t, newSender(t, options), other, 3); o.Class != deliver.TLS {
			t.Errorf("another authority: %+v", o)
		}
	})
}

// Connections, and sessions that TLS resumes, are never those of another identity.
func TestIdentitiesShareNoConnection(t *testing.T) {
	for _, proto := range []string{"http/1.1", "h2"} {
		t.Run(proto, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := secure(t, func(c *tls.Config) { c.NextProtos = []string{proto} })
				s := newSender(t, r.options())
				a, b := r.client("a"), r.client("b")
				ca := b
				ca.CA = r.ca.PEM() // another trust is another identity
				targets := map[string]*deliver.Target{"": target(t, "https://receiver.example/")}
				for name, i := range map[string]deliver.Identity{" a": a, " b": b, " b+": ca} {
					targets[name] = targetOf(t, "https://receiver.example/", deliver.Credentials{TLS: i})
				}
				names := []string{"", " a", " b", " b+", " b", " a", ""}
				var want []string
				protocol := map[string]string{"http/1.1": "HTTP/1.1", "h2": "HTTP/2.0"}[proto]
				for round := range 2 {
					for i, name := range names {
						o := send(t, s, targets[name], int64(i))
						if o.Class != deliver.OK || o.Timings.Reused != (i > 3) {
							t.Errorf("round %d, %q: %+v", round, name, o)
						}
						line := protocol + name
						if name == " b+" {
							line = protocol + " b"
						}
						if round > 0 {
							line += " resumed" // with its own session: else the receiver would see another name
						}
						want = append(want, line)
					}
					time.Sleep(5 * time.Second) // the connections end; sessions are kept
				}
				if diff := cmp.Diff(want, r.lines()); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
				// Endpoints with the same identity share.
				send(t, s, targets[" a"], 1)
				if o := send(t, s, targetOf(t, "https://receiver.example/other", deliver.Credentials{TLS: a}), 2); !o.Timings.Reused {
					t.Errorf("the same identity: %+v", o)
				}
			})
		})
	}
}
