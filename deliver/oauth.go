package deliver

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of the tokens that are fetched for endpoints (RFC 6749, section 4.4).
const (
	tokenTimeout  = 10 * time.Second // of a fetch, everything included
	maxTokenBody  = 64 << 10         // bytes of a token server's answer
	maxToken      = 8 << 10          // bytes of a token
	maxTokens     = 4096             // that are remembered
	tokenLifetime = 5 * time.Minute  // of a token whose server does not say
	tokenLongest  = 24 * time.Hour   // however long its server says
	tokenMargin   = 30 * time.Second // before its end, from when on it is not used; at most a tenth of its life
)

// tokens fetches the tokens of endpoints that authenticate by client credentials,
// and keeps each until shortly before its end. However many deliveries of an
// endpoint wait for one, it is fetched once at a time, and what comes of that is
// everybody's.
//
// A fetch goes the way of all requests: by the guard, the egress proxy and the
// limits, with the machine's authorities and without the endpoint's own TLS
// identity, which is its receiver's business.
type tokens struct {
	stopped   context.Context
	transport *atomic.Pointer[http.Transport] // the Sender's
	userAgent string
	allowHTTP *atomic.Bool // the Sender's
	fetching  sync.WaitGroup

	mu    sync.Mutex
	known map[tokenKey]*tokenState
}

type tokenKey struct {
	endpoint string
	auth     [sha256.Size]byte
}

// tokenState is what is known of the token of one endpoint.
type tokenState struct {
	token   string
	ends    time.Time // when it is not used any more
	refused string    // the last one that a receiver refused
	inBody  bool      // the server wants the client's secret in the body
	call    *tokenCall
	from    *Target // that made was made from
	made    *Target
}

// tokenCall is a fetch under way.
type tokenCall struct {
	done chan struct{} // closed when the rest is there
	err  error
}

// tokenError says why no token came. It counts as the receiver's outcome, whose
// owner chose the token server, unless the cause lies with us.
type tokenError struct {
	class Class
	text  string // as Outcome.Error
	err   error
}

func (e *tokenError) Error() string { return e.text }
func (e *tokenError) Unwrap() error { return e.err }

func newTokens(stopped context.Context, transport *atomic.Pointer[http.Transport], userAgent string, allowHTTP *atomic.Bool) *tokens {
	return &tokens{stopped: stopped, transport: transport, userAgent: userAgent, allowHTTP: allowHTTP, known: map[tokenKey]*tokenState{}}
}

// wait returns when no fetch is under way any more.
func (ts *tokens) wait() { ts.fetching.Wait() }

// with is t with its token. It waits for one at most until ctx ends. Beside ctx's
// the error is a [*tokenError].
func (ts *tokens) with(ctx context.Context, t *Target) (*Target, error) {
	for range 2 { // a token may be refused right after it came
		ts.mu.Lock()
		s := ts.state(t)
		if s.token != "" && time.Now().Before(s.ends) {
			if s.from != t || s.made.token != s.token {
				s.from, s.made = t, t.bearing(s.token)
			}
			made := s.made
			ts.mu.Unlock()
			return made, nil
		}
		call := s.call
		if call == nil {
			call = &tokenCall{done: make(chan struct{})}
			s.call = call
			ts.fetching.Go(func() { ts.fetch(s, call, t.credentials.Auth) })
		}
		ts.mu.Unlock()
		select {
		case <-call.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if call.err != nil {
			return nil, call.err
		}
	}
	return nil, &tokenError{class: HTTP4xx, text: "the receiver refuses the token server's tokens"}
}

// state finds or makes the state of t's token.
func (ts *tokens) state(t *Target) *tokenState {
	key := tokenKey{t.id, t.auth}
	s := ts.known[key]
	if s == nil {
		ts.sweep(time.Now())
		s = &tokenState{}
		ts.known[key] = s
	}
	return s
}

// sweep forgets tokens that have ended, and any if there are too many.
func (ts *tokens) sweep(now time.Time) {
	for key, s := range ts.known {
		if s.call == nil && !now.Before(s.ends) {
			delete(ts.known, key)
		}
	}
	for key, s := range ts.known {
		if len(ts.known) < maxTokens {
			return
		}
		if s.call == nil {
			delete(ts.known, key)
		}
	}
}

// refused drops the token that t bears, after a receiver answered 401: another one
// may be accepted. Each is dropped once, lest a server that always gives the same
// one be asked with every attempt.
func (ts *tokens) refused(t *Target) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	s := ts.known[tokenKey{t.id, t.auth}]
	if s == nil || s.token != t.token || s.refused == t.token {
		return
	}
	s.refused, s.token, s.from, s.made = t.token, "", nil, nil
}

// fetch gets a token and ends the call.
func (ts *tokens) fetch(s *tokenState, call *tokenCall, a Auth) {
	ctx, cancel := context.WithTimeout(ts.stopped, tokenTimeout)
	defer cancel()
	ts.mu.Lock()
	inBody := s.inBody
	ts.mu.Unlock()
	token, lifetime, err := ts.ask(ctx, a, inBody)
	if errors.Is(err, errClient) && !inBody {
		// RFC 6749, section 2.3.1: all servers take the header; yet some take the
		// body only.
		var second error
		if token, lifetime, second = ts.ask(ctx, a, true); second == nil {
			inBody, err = true, nil
		}
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	s.inBody, s.call = inBody, nil
	if call.err = err; err == nil {
		s.token = token
		s.ends = time.Now().Add(lifetime - min(tokenMargin, lifetime/10))
	}
	close(call.done)
}

// errClient: the token server does not know the client, or not in this way.
var errClient = errors.New("the token server refuses the client")

// ask makes one request for a token.
func (ts *tokens) ask(ctx context.Context, a Auth, inBody bool) (token string, lifetime time.Duration, err error) {
	req, err := ts.request(ctx, a, inBody)
	if err != nil {
		return "", 0, err
	}
	res, err := ts.transport.Load().RoundTrip(req)
	if err != nil {
		return "", 0, ts.failure(ctx, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxTokenBody+1))
	if err != nil {
		return "", 0, ts.failure(ctx, err)
	}
	if res.StatusCode != http.StatusOK {
		return "", 0, refusal(res, body)
	}
	return granted(body)
}

func (ts *tokens) request(ctx context.Context, a Auth, inBody bool) (*http.Request, error) {
	u, err := parseURL(a.TokenURL, true)
	if err != nil || u.Scheme != "https" && !ts.allowHTTP.Load() {
		return nil, &tokenError{class: BlockedAddress, text: "token server: " + ErrBlocked.Error(), err: ErrBlocked}
	}
	form := url.Values{"grant_type": {"client_credentials"}}
	if len(a.Scopes) > 0 {
		form.Set("scope", strings.Join(a.Scopes, " "))
	}
	if a.Audience != "" {
		form.Set("audience", a.Audience)
	}
	header := http.Header{
		"Content-Type": {"application/x-www-form-urlencoded"},
		"Accept":       {"application/json"},
		"User-Agent":   {ts.userAgent},
	}
	if inBody {
		form.Set("client_id", a.ClientID)
		form.Set("client_secret", a.ClientSecret.Reveal())
	}
	body := form.Encode()
	req := (&http.Request{
		Method: http.MethodPost, URL: u, Header: header, ContentLength: int64(len(body)),
		Body: io.NopCloser(strings.NewReader(body)),
	}).WithContext(new(trace).context(ctx))
	if !inBody {
		req.SetBasicAuth(url.QueryEscape(a.ClientID), url.QueryEscape(a.ClientSecret.Reveal()))
	}
	return req, nil
}

// failure is the tokenError of a request that got no answer.
func (ts *tokens) failure(ctx context.Context, err error) error {
	var d *dialError
	switch {
	case ts.stopped.Err() != nil:
		return &tokenError{class: Ours, text: "stopped before a token came"}
	case ctx.Err() != nil:
		return &tokenError{class: Timeout, text: fmt.Sprintf("the token server did not answer within %v", tokenTimeout)}
	case errors.As(err, &d):
		return &tokenError{class: d.class, text: "token server: " + d.text, err: err}
	}
	class, text := broken(err)
	return &tokenError{class: class, text: "token server: " + text, err: err}
}

// tokenErrors are the codes of RFC 6749, section 5.2. Nothing else that a server
// sends is repeated.
var tokenErrors = []string{"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope"}

// refusal is the tokenError of an answer that is not 200.
func refusal(res *http.Response, body []byte) error {
	e := &tokenError{class: classOf(res.StatusCode), text: fmt.Sprintf("the token server answered %d", res.StatusCode)}
	if e.class == OK {
		e.class = HTTP5xx // 201 and the like: no token comes so
	}
	var said struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(body, &said) == nil && slices.Contains(tokenErrors, said.Error) {
		e.text += " (" + said.Error + ")"
	}
	if res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusBadRequest {
		e.err = errClient
	}
	return e
}

// granted reads the token and how long it may be used (RFC 6749, section 5.1).
func granted(body []byte) (token string, lifetime time.Duration, err error) {
	var said struct {
		AccessToken string          `json:"access_token"`
		TokenType   string          `json:"token_type"`
		ExpiresIn   json.RawMessage `json:"expires_in"`
	}
	bad := json.Unmarshal(body, &said) != nil || len(body) > maxTokenBody
	if bad || len(said.AccessToken) > maxToken || !isToken(said.AccessToken) || said.TokenType != "" && !strings.EqualFold(said.TokenType, "bearer") {
		return "", 0, &tokenError{class: HTTP5xx, text: "the token server's answer holds no bearer token"}
	}
	lifetime = tokenLifetime
	var seconds float64 // some write it as text
	if json.Unmarshal(bytes.Trim(said.ExpiresIn, `"`), &seconds) == nil {
		lifetime = time.Duration(min(max(seconds, 1), tokenLongest.Seconds()) * float64(time.Second))
	}
	return said.AccessToken, lifetime, nil
}
