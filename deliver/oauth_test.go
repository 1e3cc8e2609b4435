package deliver_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/delivertest"
	"github.com/grapnel-hooks/grapnel/deliver/sign"
)

// login is a token server on a network in memory, beside a receiver.
type login struct {
	n        *delivertest.Network
	receiver *delivertest.Receiver

	mu     sync.Mutex
	asked  []string // user, password and form of each request
	answer http.HandlerFunc
}

func newLogin(t *testing.T) *login {
	l := &login{n: delivertest.NewNetwork(), receiver: delivertest.NewReceiver()}
	l.n.Name("receiver.example", "93.184.215.14")
	l.n.Name("login.example", "93.184.215.15")
	delivertest.Serve(t, l.n.Listen("93.184.215.14:80"), l.receiver)
	delivertest.Serve(t, l.n.Listen("93.184.215.15:80"), l)
	l.answer = l.tokens(`"expires_in":3600`)
	return l
}

// tokens gives token-1, token-2 and so on.
func (l *login) tokens(more string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"access_token":"token-%d","token_type":"Bearer",%s}`, len(l.asked), more)
	}
}

func (l *login) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	user, password, _ := r.BasicAuth()
	if err := r.ParseForm(); err != nil {
		w.WriteHeader(http.StatusTeapot)
		return
	}
	l.asked = append(l.asked, user+" "+password+" "+r.PostForm.Encode())
	l.answer(w, r)
}

func (l *login) times() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.asked)
}

func (l *login) target(t *testing.T) *deliver.Target {
	return targetOf(t, "http://receiver.example/", *atLogin())
}

// atLogin are credentials for the token server.
func atLogin() *deliver.Credentials {
	return &deliver.Credentials{Auth: deliver.Auth{
		Type: deliver.AuthOAuth2, TokenURL: "http://login.example/token", ClientID: "grapnel&co", ClientSecret: hide("of the client+"),
		Scopes: []string{"hooks:write", "b"}, Audience: "https://receiver.example",
	}}
}

// bearers are the tokens that the receiver saw.
func (l *login) bearers() (seen []string) {
	for _, r := range l.receiver.Requests() {
		seen = append(seen, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	}
	return seen
}

func TestTokenIsFetchedOnceAndUsedUntilItsEnd(t *testing.T) {
	for _, tc := range []struct {
		name, answer string
		last         time.Duration // when it is still used
		next         time.Duration // when there is another
	}{
		{"an hour", `"expires_in":3600`, time.Hour - 31*time.Second, time.Hour - 29*time.Second},
		{"a minute", `"expires_in":60`, 53 * time.Second, 55 * time.Second},
		{"as text", `"expires_in":"60"`, 53 * time.Second, 55 * time.Second},
		{"not said", `"scope":"b"`, 4*time.Minute + 29*time.Second, 4*time.Minute + 31*time.Second},
		{"not a number", `"expires_in":{}`, 4*time.Minute + 29*time.Second, 4*time.Minute + 31*time.Second},
		{"for ever", `"expires_in":1e300`, 24*time.Hour - 31*time.Second, 24*time.Hour - 29*time.Second},
		{"nothing", `"expires_in":-5`, 800 * time.Millisecond, time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLogin(t)
				l.answer = l.tokens(tc.answer)
				s, to := newSender(t, inMemory(l.n)), l.target(t)
				start := time.Now()
				for i, at := range []time.Duration{0, tc.last, tc.next} {
					time.Sleep(time.Until(start.Add(at)))
					if o := send(t, s, to, int64(i)); o.Class != deliver.OK {
						t.Errorf("%+v", o)
					}
				}
				if diff := cmp.Diff([]string{"token-1", "token-1", "token-2"}, l.bearers()); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
				want := "grapnel%26co of+the+client%2B audience=https%3A%2F%2Freceiver.example&grant_type=client_credentials&scope=hooks%3Awrite+b"
				if l.asked[0] != want {
					t.Errorf("asked %q, want %q", l.asked[0], want)
				}
			})
		})
	}
}

func TestOneFetchForAllThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLogin(t)
		give := l.answer
		l.answer = func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second)
			give(w, r)
		}
		s, to := newSender(t, inMemory(l.n)), l.target(t)
		var wg sync.WaitGroup
		for i := range int64(50) {
			wg.Go(func() {
				if o := send(t, s, to, i); o.Class != deliver.OK || o.Duration != time.Second {
					t.Errorf("%+v", o)
				}
			})
		}
		wg.Wait()
		if n := l.times(); n != 1 {
			t.Errorf("%d tokens were fetched", n)
		}
		// Another endpoint has its own, also with the same client.
		other, err := deliver.NewTarget(deliver.Endpoint{ID: "ep_2", URL: "http://receiver.example/", Secrets: []deliver.Secret{{Secret: sign.NewSecret()}}, Credentials: atLogin()})
		if err != nil {
			t.Fatal(err)
		}
		if send(t, s, other, 100); l.times() != 2 {
			t.Errorf("%d tokens were fetched for two endpoints", l.times())
		}
	})
}

func TestRefusedTokenIsDroppedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLogin(t)
		s, to := newSender(t, inMemory(l.n)), l.target(t)
		l.receiver.Script(delivertest.Status(204), delivertest.Status(401), delivertest.Status(204), delivertest.Status(403), delivertest.Status(204))
		for i := range int64(5) {
			send(t, s, to, i)
		}
		if diff := cmp.Diff([]string{"token-1", "token-1", "token-2", "token-2", "token-2"}, l.bearers()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		// A server that gives the same one again is not asked with every attempt.
		l.answer = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"access_token":"token-2"}`) }
		l.receiver.Otherwise(delivertest.Status(401))
		before := l.times()
		for i := range int64(10) {
			if o := send(t, s, to, i); o.Class != deliver.HTTP4xx || o.Status != 401 {
				t.Errorf("%+v", o)
			}
		}
		if n := l.times() - before; n != 1 {
			t.Errorf("%d fetches for 10 refusals", n)
		}
	})
}

func TestClientSecretInTheBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLogin(t)
		give := l.tokens(`"expires_in":60`)
		l.answer = func(w http.ResponseWriter, r *http.Request) {
			if r.PostForm.Get("client_secret") == "of the client+" && r.Header.Get("Authorization") == "" {
				give(w, r)
				return
			}
			w.WriteHeader(http.StatusUnauthorized)
		}
		s, to := newSender(t, inMemory(l.n)), l.target(t)
		for i, want := range []int{2, 3} { // it is remembered
			if o := send(t, s, to, int64(i)); o.Class != deliver.OK {
				t.Errorf("%+v", o)
			}
			if l.times() != want {
				t.Errorf("asked %d times, want %d", l.times(), want)
			}
			time.Sleep(time.Minute)
		}
	})
}

func TestNoToken(t *testing.T) {
	says := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}
	}
	for _, tc := range []struct {
		name   string
		change func(t *testing.T, l *login, o *deliver.SenderOptions)
		class  deliver.Class
		text   string
	}{
		{"refused", func(_ *testing.T, l *login, _ *deliver.SenderOptions) {
			l.answer = says(401, `{"error":"invalid_client","error_description":"of the client+ is wrong"}`)
		}, deliver.HTTP4xx, "the token server answered 401 (invalid_client)"},
		{"another error", func(_ *testing.T, l *login, _ *deliver.SenderOptions) {
			l.answer = says(400, `{"error":"xss-canary"}`)
		}, deliver.HTTP4xx, "the token server answered 400"},
		{"gone", func(_ *testing.T, l *login, _ *deliver.SenderOptions) { l.answer = says(410, "") }, deliver.HTTP4xx, "the token server answered 410"},
		{"down", func(_ *testing.T, l *login, _ *deliver.SenderOptions) { l.answer = says(503, "") }, deliver.HTTP5xx, "the token server answered 503"},
		{"redirects", func(_ *testing.T, l *login, _ *deliver.SenderOptions) {
			l.answer = func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "http://receiver.example/", http.StatusTemporaryRedirect)
			}
		}, deliver.Redirect, "the token server answered 307"},
		{"created", func(_ *testing.T, l *login, _ *deliver.SenderOptions) {
			l.answer = says(201, `{"access_token":"x"}`)
		}, deliver.HTTP5xx, "the token server answered 201"},
		{"no JSON", func(_ *testing.T, l *login, _ *deliver.SenderOptions) { l.answer = says(200, "<html>") }, deliver.HTTP5xx, "the token server's answer holds no bearer token"},
		{"another kind of token", func(_ *testing.T, l *login, _ *deliver.SenderOptions) {
			l.answer = says(200, `{"access_token":"x","token_type":"mac"}`)
		}, deliver.HTTP5xx, "the token server's answer holds no bearer token"},
		{"a token with a line break", func(_ *testing.T, l *login, _ *deliver.SenderOptions) {
			l.answer = says(200, `{"access_token":"x\r\nX-Forged: 1"}`)
		}, deliver.HTTP5xx, "the token server's answer holds no bearer token"},
		{"a long token", func(_ *testing.T, l *login, _ *deliver.SenderOptions) {
			l.answer = says(200, `{"access_token":"`+strings.Repeat("x", 9000)+`"}`)
		}, deliver.HTTP5xx, "the token server's answer holds no bearer token"},
		{"a body without end", func(_ *testing.T, l *login, _ *deliver.SenderOptions) {
			l.answer = says(200, `{"access_token":"x","y":"`+strings.Repeat("x", 1<<20)+`"}`)
		}, deliver.HTTP5xx, "the token server's answer holds no bearer token"},
		{"hangs", func(_ *testing.T, l *login, _ *deliver.SenderOptions) {
			l.answer = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
		}, deliver.Timeout, "the token server did not answer within 10s"},
		{"resets", func(_ *testing.T, l *login, _ *deliver.SenderOptions) {
			l.answer = http.HandlerFunc(delivertest.Reset())
		},
			deliver.Reset, "token server: the connection was closed before an answer came"},
		{"has no name", func(_ *testing.T, l *login, o *deliver.SenderOptions) { l.n.Name("login.example") },
			deliver.DNS, "token server: the name has no address"},
		{"is private", func(_ *testing.T, l *login, o *deliver.SenderOptions) { l.n.Name("login.example", "169.254.169.254") },
			deliver.BlockedAddress, "token server: destination not allowed"},
		{"does not listen", func(_ *testing.T, l *login, o *deliver.SenderOptions) { l.n.Name("login.example", "93.184.215.16") },
			deliver.Connect, "token server: connection refused"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLogin(t)
				options := inMemory(l.n)
				tc.change(t, l, &options)
				s, to := newSender(t, options), l.target(t)
				o := send(t, s, to, 1)
				if o.Class != tc.class || o.Error != tc.text || o.Status != 0 || o.RetryAfter != 0 {
					t.Errorf("%+v", o)
				}
				if len(l.receiver.Requests()) != 0 {
					t.Error("a request was sent without a token")
				}
				// It is asked again with the next attempt, once the fetch has ended.
				synctest.Wait()
				l.mu.Lock()
				l.answer = l.tokens(`"expires_in":60`)
				l.mu.Unlock()
				l.n.Name("login.example", "93.184.215.15")
				if o := send(t, s, to, 2); o.Class != deliver.OK {
					t.Errorf("afterwards: %+v", o)
				}
			})
		})
	}
}

func TestShutdownWhileATokenIsFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLogin(t)
		l.answer = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
		s, to := newSender(t, inMemory(l.n)), l.target(t)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(3*time.Second, cancel)
		o := s.Send(ctx, to, payload(1, "{}"), deliver.Key{Event: 1}, 1, time.Now())
		if o.Class != deliver.Ours || o.Duration != 3*time.Second {
			t.Errorf("%+v", o)
		}
	})
}

// A token that the receiver shows is not kept, nor is the client's secret.
func TestTokensAreNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLogin(t)
		l.receiver.Otherwise(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Server", r.Header.Get("Authorization"))
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintf(w, `{"got":%q}`, r.Header.Get("Authorization"))
		})
		o := send(t, newSender(t, inMemory(l.n)), l.target(t), 1)
		if string(o.Body) != `{"got":"[redacted]"}` || o.Header.Get("Server") != "[redacted]" {
			t.Errorf("kept %s, %v", o.Body, o.Header)
		}
	})
}

// An http token URL is as good as an http URL of an endpoint.
func TestTokenURLWithoutTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLogin(t)
		options := inMemory(l.n)
		options.AllowHTTP = false
		to := targetOf(t, "https://receiver.example/", *atLogin())
		if o := send(t, newSender(t, options), to, 1); o.Class != deliver.BlockedAddress || l.times() != 0 {
			t.Errorf("%+v, asked %d times", o, l.times())
		}
	})
}
