package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/nats-io/nats.go"
)

// canaries are texts that must turn up nowhere, by what they are.
type canaries map[string]string

// spellings are the forms in which a canary could turn up: as it is, in hex, and
// in base64 at each of the three offsets.
func spellings(secret string) [][]byte {
	all := [][]byte{[]byte(secret), []byte(hex.EncodeToString([]byte(secret))), []byte(strings.ToUpper(hex.EncodeToString([]byte(secret))))}
	for offset := range 3 {
		text := base64.RawStdEncoding.EncodeToString(append(make([]byte, offset), secret...))
		// What the bytes before and behind it share a character with is cut off.
		text = text[(offset*8+5)/6 : len(text)-1]
		all = append(all, []byte(text), []byte(strings.NewReplacer("+", "-", "/", "_").Replace(text)))
	}
	return all
}

// absent looks for all canaries in what was found in one place.
func (c canaries) absent(t *testing.T, place string, text []byte) {
	t.Helper()
	for what, secret := range c {
		for _, s := range spellings(secret) {
			if i := bytes.Index(text, s); i >= 0 {
				t.Errorf("%s holds %s: …%q", place, what, text[max(0, i-60):min(len(text), i+len(s)+20)])
				break
			}
		}
	}
}

// absentFiles looks for all canaries in the files of a data directory; the file of
// the keys is there to hold secrets.
func (c canaries) absentFiles(t *testing.T, dir string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || d.Name() == "secrets.key" {
			return err
		}
		files++
		text, err := os.ReadFile(path)
		c.absent(t, path, text)
		return err
	})
	if err != nil || files < 3 {
		t.Errorf("%d files: %v", files, err)
	}
}

// add keeps a secret in mind, and what a signing secret decodes to.
func (c canaries) add(what, secret string) string {
	c[what] = secret
	if key, ok := strings.CutPrefix(secret, "whsec_"); ok {
		raw, err := base64.StdEncoding.DecodeString(key)
		if err != nil {
			panic(err) // it is this test's own
		}
		c[what+", decoded"] = string(raw)
		c[what+", without its prefix"] = key
	}
	return secret
}

// parrot is a receiver that fails, and answers with what it was sent.
func parrot(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", r.Header.Get("Authorization"))
	w.Header().Set("X-Request-Id", r.Header.Get("X-Canary"))
	w.WriteHeader(http.StatusInternalServerError)
	r.Header.Write(w)
	json.NewEncoder(w).Encode(r.Header)
}

// canaryRun is a daemon that is used with canaries.
type canaryRun struct {
	t     *testing.T
	c     canaries
	base  string // of the API, over TCP
	token string
}

// ask makes a request and looks for canaries in its answer, unless the answer is
// the one that is to show a secret.
func (r *canaryRun) ask(method, path, body string, shows bool) (status int, out map[string]any) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.base+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+r.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	if !shows {
		r.c.absent(r.t, method+" "+path, append(fmt.Append(nil, resp.Header), text...))
	}
	json.Unmarshal(text, &out)
	return resp.StatusCode, out
}

func (r *canaryRun) must(method, path, body string, shows bool) map[string]any {
	r.t.Helper()
	status, out := r.ask(method, path, body, shows)
	if status >= 300 {
		r.t.Fatalf("%s %s: %d %v", method, path, status, out)
	}
	return out
}

// No secret turns up in the database, in a log, in metrics, errors or lists, not
// even when the receiver sends back what it got. (SEC-13, SEC-23)
func TestNoCanary(t *testing.T) {
	receiver := httptest.NewServer(http.HandlerFunc(parrot))
	defer receiver.Close()
	dir := shortDir(t)
	ctx, stop := context.WithCancel(t.Context())
	log := &lineWriter{hit: make(chan string, 1)}
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"serve", "--data", dir, "--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0", "--nats-sign-in",
			"--allow-http", "--allow-network", "127.0.0.0/8", "--rate-limit", "0", "--log-level", "debug", "--log-format", "json"}, nil, io.Discard, log)
	}()
	var ready struct {
		Health    string
		PublishTo string `json:"publish_to"`
	}
	select {
	case line := <-log.hit:
		if err := json.Unmarshal([]byte(line), &ready); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
	case status := <-ended:
		t.Fatalf("it ended with %d:\n%s", status, log)
	}
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()

	c := canaries{}
	r := &canaryRun{t: t, c: c, base: strings.TrimSuffix(ready.Health, "/healthz")}
	var made bytes.Buffer
	if status := run(t.Context(), []string{"token", "add", "--operator", "--scope", "admin", "--data", dir, "--json"}, nil, &made, io.Discard); status != 0 {
		t.Fatalf("token add: status %d", status)
	}
	var token struct{ Token string }
	if err := json.Unmarshal(made.Bytes(), &token); err != nil || token.Token == "" {
		t.Fatalf("token add: %v", err)
	}
	r.token = c.add("the operator's token", token.Token)
	r.use(receiver.URL)
	r.publish(ready.PublishTo)

	for _, path := range []string{
		"/metrics", "/openapi.json", "/docs", "/api/v1/orgs", "/api/v1/orgs/acme", "/api/v1/orgs/acme/endpoints", "/api/v1/orgs/acme/events",
		"/api/v1/orgs/acme/deliveries", "/api/v1/orgs/acme/rejected", "/api/v1/orgs/acme/gaps", "/api/v1/orgs/acme/cursor", "/api/v1/cursors",
		"/api/v1/orgs/acme/tokens", "/api/v1/tokens", "/api/v1/orgs/acme/audit", "/api/v1/audit", "/api/v1/fsck", "/api/v1/keys", "/readyz",
	} {
		r.must("GET", path, "", false)
	}
	r.guess()
	c.absentFiles(t, dir) // with what is in the WAL
	c.absent(t, "what commands print", []byte(transcript(t, dir, "org list", "endpoint list acme --json", "delivery list acme --json",
		"audit acme --json", "token list acme --json", "keys list --json", "fsck")))
	stop()
	if status := <-ended; status != 0 {
		t.Errorf("it ended with %d", status)
	}
	c.absent(t, "the log", []byte(log.String()))
	c.absentFiles(t, dir)
	if len(c) < 10 {
		t.Errorf("only %d canaries", len(c))
	}
}

// use does what people do, right and wrong.
func (r *canaryRun) use(receiver string) {
	r.t.Helper()
	const org, wrong = "/api/v1/orgs/acme", "hunter-canary-in-a-bad-request"
	secret := func(what string) string {
		return r.c.add(what, "whsec_"+base64.StdEncoding.EncodeToString([]byte(fmt.Sprintf("%-32.32s", what+" canary"))))
	}
	header, another := r.c.add("a header's value", "hunter-canary-of-the-receiver"), r.c.add("another header's value", `hunter"canary<two`)
	r.c.add("what was wrong in a request", wrong)

	r.must("POST", "/api/v1/orgs", `{"id":"acme"}`, false)
	tenant := r.must("POST", org+"/tokens", `{"scopes":["admin"],"name":"tenant"}`, true)
	r.c.add("the tenant's token", tenant["token"].(string))
	quoted, _ := json.Marshal(another)
	made := r.must("POST", org+"/endpoints", fmt.Sprintf(`{"url":%q,"secret":%q,"headers":{"Authorization":"Bearer %s","X-Canary":%s}}`,
		receiver, secret("a secret"), header, quoted), true)
	endpoint := org + "/endpoints/" + made["id"].(string)
	r.must("GET", endpoint, "", false)
	r.must("GET", endpoint+"/secret", "", true)
	r.must("POST", endpoint+"/rotate-secret", fmt.Sprintf(`{"secret":%q,"overlap":"24h"}`, secret("a second secret")), true)
	rotated := r.must("POST", endpoint+"/rotate-secret", `{"overlap":"0s"}`, true)
	r.c.add("a secret that was made", rotated["secret"].(string))
	r.must("PATCH", endpoint, `{"description":"changed","headers":{"Authorization":"[redacted]","X-Canary":"[redacted]"}}`, false)
	r.must("POST", endpoint+"/test", "", false)
	password := r.c.add("a password", "hunter-canary-password")
	r.c.add("a user and password", base64.StdEncoding.EncodeToString([]byte("grapnel:"+password)))
	authenticated := r.must("POST", org+"/endpoints", fmt.Sprintf(`{"url":%q,"event_types":["none"],"auth":{"type":"basic","username":"grapnel","password":%q}}`, receiver, password), true)
	r.must("POST", org+"/endpoints/"+authenticated["id"].(string)+"/test", "", false)
	r.must("PATCH", org+"/endpoints/"+authenticated["id"].(string), `{"auth":{"type":"basic","username":"other"}}`, false)
	r.must("POST", "/api/v1/keys/rotate", "", false)

	r.must("POST", org+"/events", `{"type":"a.b","data":{"x":1}}`, false)
	r.attempted(org)

	for _, bad := range []struct{ method, path, body string }{
		{"POST", org + "/endpoints", `{"url":"https://user:` + wrong + `@hooks.example/"}`},
		{"POST", org + "/endpoints", `{"url":"` + receiver + `","secret":"whsec_` + wrong + `"}`},
		{"POST", org + "/endpoints", `{"url":"` + receiver + `","secret":["` + wrong + `"]}`},
		{"POST", org + "/endpoints", `{"url":"` + receiver + `","headers":{"X-Key":"` + wrong + `\u0001"}}`},
		{"POST", org + "/endpoints", `{"url":"` + receiver + `","headers":{"Host":"` + wrong + `"}}`},
		{"PATCH", endpoint, `{"headers":"` + wrong + `"}`},
		{"PATCH", endpoint, `{"auth":{"type":"bearer","token":"` + wrong + `"}}`}, // beside a header Authorization
		{"PATCH", endpoint, `{"auth":{"type":"basic","username":"x","token":"` + wrong + `"}}`},
		{"PATCH", endpoint, `{"auth":{"type":"bearer","token":"` + wrong + ` \u0001"}}`},
		{"PATCH", endpoint, `{"auth":{"type":"oauth2","client_id":"x","client_secret":"` + wrong + `","token_url":"https://x:` + wrong + `@hooks.example/"}}`},
		{"PATCH", endpoint, `{"tls":{"certificate":"` + wrong + `","key":"` + wrong + `"}}`},
		{"POST", endpoint + "/rotate-secret", `{"secret":"` + wrong + `"}`},
		{"GET", org + "/endpoints?token=" + wrong, ""},
		{"GET", "/" + wrong, ""},
		{"POST", org + "/tokens", `{"scopes":["` + wrong + `"]}`},
		{"POST", org + "/tokens", `{"scopes":` + wrong + `}`},
	} {
		if status, _ := r.ask(bad.method, bad.path, bad.body, false); status < 400 || status >= 500 {
			r.t.Errorf("%s %s: %d", bad.method, bad.path, status)
		}
	}
}

// guess tries a token until no more are looked at.
func (r *canaryRun) guess() {
	r.t.Helper()
	r.token = r.c.add("a wrong token", httpapi.NewTokenText())
	for range 25 {
		r.ask("GET", "/api/v1/orgs", "", false)
	}
}

// attempted waits until the delivery was attempted, and looks at the attempt.
func (r *canaryRun) attempted(org string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		list, _ := r.must("GET", org+"/deliveries", "", false)["data"].([]any)
		if len(list) > 0 && list[0].(map[string]any)["attempt_count"].(float64) > 0 {
			shown := r.must("GET", org+"/deliveries/"+list[0].(map[string]any)["id"].(string), "", false)
			if text, _ := json.Marshal(shown); !bytes.Contains(text, []byte("Authorization: [redacted]")) {
				r.t.Errorf("the attempt does not show what the receiver answered: %s", text)
			}
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			r.t.Fatal("no attempt was made")
		}
	}
}

// publish signs in at the NATS server with the tenant's token, and with others.
func (r *canaryRun) publish(address string) {
	r.t.Helper()
	wrong := r.c.add("a wrong password", httpapi.NewTokenText())
	for _, c := range []struct {
		password string
		holds    bool
	}{{r.c["the tenant's token"], true}, {wrong, false}} {
		conn, err := nats.Connect(address, nats.UserInfo("acme", c.password), nats.NoReconnect())
		if (err == nil) != c.holds {
			r.t.Errorf("sign-in: %v", err)
		}
		if err != nil {
			continue
		}
		if _, err := conn.Request("events.acme.a.b", []byte(`{}`), 10*time.Second); err != nil {
			r.t.Errorf("publish: %v", err)
		}
		conn.Close()
	}
}

// The password of a NATS server that cannot be reached is in no error.
func TestNoCanaryOfTheBroker(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	c := canaries{}
	password := c.add("the broker's password", "hunter-canary-of-the-broker")
	ctx, stop := context.WithTimeout(t.Context(), 3*time.Second)
	defer stop()
	log := &lineWriter{hit: make(chan string, 1)}
	ended := make(chan int, 1)
	dir := shortDir(t)
	go func() {
		ended <- run(ctx, []string{"serve", "--data", dir, "--listen", "off", "--nats-url", "nats://grapnel:" + password + "@" + address,
			"--log-level", "debug", "--log-format", "json"}, nil, io.Discard, log)
	}()
	select {
	case <-log.hit:
		c.absent(t, "what commands print", []byte(transcript(t, dir, "org list", "org add acme", "fsck")))
		stop()
		<-ended
	case <-ended:
	}
	c.absent(t, "the log", []byte(log.String()))
}

// The search finds what it looks for, wherever it begins.
func TestSpellings(t *testing.T) {
	const secret = "hunter-canary-of-the-receiver"
	for before := range 4 {
		whole := strings.Repeat("x", before) + secret + "yz"
		for name, text := range map[string]string{
			"raw": whole, "hex": hex.EncodeToString([]byte(whole)), "base64": base64.StdEncoding.EncodeToString([]byte(whole)),
			"base64 for URLs": base64.RawURLEncoding.EncodeToString([]byte(whole)),
		} {
			found := false
			for _, s := range spellings(secret) {
				found = found || strings.Contains(text, string(s))
			}
			if !found {
				t.Errorf("%s with %d bytes before it is not found", name, before)
			}
		}
	}
}
