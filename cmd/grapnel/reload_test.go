package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/cmd/internal/config"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/deliver/delivertest"
	"github.com/spf13/pflag"
)

// configuredBy is what the text of a file and the arguments say, and can be read
// again.
func configuredBy(t *testing.T, text string, args ...string) *configured {
	t.Helper()
	name := filepath.Join(t.TempDir(), "grapnel.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	config.Flags(flags)
	if err := flags.Parse(append(args, "--config", name)); err != nil {
		t.Fatal(err)
	}
	load := func() (config.Serve, error) {
		return config.Load(flags, func(string) (string, bool) { return "", false })
	}
	cfg, err := load()
	if err != nil {
		t.Fatal(err)
	}
	return newConfigured(cfg, load)
}

// reloadable is a running daemon with a file that can be rewritten.
type reloadable struct {
	*daemon
	t    *testing.T
	told *configured
	file string // that it is read from
	log  *syncBuffer
	api  http.Handler // as the network sees it
}

func reloadableDaemon(t *testing.T, text string, args ...string) *reloadable {
	t.Helper()
	r := &reloadable{t: t, log: new(syncBuffer)}
	if !strings.Contains(text, "ballast") { // many daemons at once would write much
		args = append(args, "--ballast", "off")
	}
	r.told = configuredBy(t, "allow_http: true\nallow_network: [127.0.0.0/8]\n"+text, append(args, "--data", shortDir(t), "--nats-listen", "off")...)
	r.file = r.told.cfg.File
	log := slog.New(slog.NewJSONHandler(r.log, &slog.HandlerOptions{Level: r.told.level}))
	o := daemonFrom(r.told.cfg, log)
	o.NATSSync, o.Configured = time.Minute, r.told
	d, err := openDaemon(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	r.daemon = d
	r.api = httpapi.Public(httpapi.Options{
		Service: d, Log: log, Rates: httpapi.UsualRates(r.told.cfg.RateLimit), Proxies: r.told.cfg.TrustedProxies, Tuning: r.told.tuning,
	})
	if _, err := d.AddOrg(t.Context(), httpapi.Org{ID: "acme", Payload: "data"}); err != nil {
		t.Fatal(err)
	}
	return r
}

// write replaces the file.
func (r *reloadable) write(text string) {
	r.t.Helper()
	if err := os.WriteFile(r.file, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// say replaces the file, and has it read.
func (r *reloadable) say(text string) httpapi.Reloaded {
	r.t.Helper()
	r.write("allow_http: true\nallow_network: [127.0.0.0/8]\n" + text)
	out, err := r.Reload(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

// append gives acme one event of so many bytes.
func (r *reloadable) append(event string, bytes int) error {
	data := fmt.Sprintf(`{"n":%q}`, strings.Repeat("x", max(bytes-8, 0)))
	_, err := r.Append(r.t.Context(), "acme", []httpapi.NewEvent{{Type: event, Data: json.RawMessage(data)}})
	return err
}

// request is the answer of the API on the network.
func (r *reloadable) request(method, path, token, body string, header ...string) *httptest.ResponseRecorder {
	q := httptest.NewRequestWithContext(r.t.Context(), method, path, strings.NewReader(body))
	q.RemoteAddr = "192.0.2.1:4000"
	q.Header.Set("Authorization", "Bearer "+token)
	q.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		q.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	r.api.ServeHTTP(w, q)
	return w
}

// token is an operator's.
func (r *reloadable) token() string {
	r.t.Helper()
	made, err := r.AddToken(r.t.Context(), httpapi.Token{Name: "test", Scopes: []httpapi.Scope{httpapi.Admin}, ExpiresAt: time.Now().Add(time.Hour)})
	if err != nil {
		r.t.Fatal(err)
	}
	return made.Text
}

// taken is what the metric says of the last reload.
func (r *reloadable) taken() float64 {
	r.t.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "grapnel_config_last_reload_successful" {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	r.t.Fatal("there is no metric of reloads")
	return 0
}

// OPS-07: what the table says can be reloaded can be.
func TestEffectsOfAReload(t *testing.T) {
	all := configuredBy(t, "").cfg.Effective()
	for _, v := range all {
		effect := effects[v.Key]
		switch {
		case v.Reload && effect == nil:
			t.Errorf("%s can be reloaded, it is said: show its effect in effects", v.Key)
		case !v.Reload && effect != nil:
			t.Errorf("%s has an effect, and the table does not say that it can be reloaded", v.Key)
		case effect != nil:
			t.Run(v.Key, func(t *testing.T) { t.Parallel(); effect(t) })
		}
	}
}

// A file with a mistake changes nothing at all, and is said to be refused until a
// good one is read.
func TestReloadIsAllOrNothing(t *testing.T) {
	r := reloadableDaemon(t, "rate_limit: 7\n")
	for _, c := range []struct{ name, text, want string }{
		{"a wrong value beside a right one", "log_level: debug\nrate_limit: many\n", `grapnel.yaml:2: rate_limit: "many": want`},
		{"an unknown key", "log_level: debug\nrate_limti: 8\n", "grapnel.yaml:2: rate_limti: unknown key: did you mean rate_limit?"},
		{"no YAML", "log_level: [", "grapnel.yaml:1"},
		{"a format that cannot be", "log_level: debug\nformats: {standard: {scheme: sha256-hex, headers: {signature: X-S}, body: data}}\n", "there is one of this name already"},
		{"settings that cannot be had together", "log_level: debug\nnats_creds: /dev/null\n", "is for a NATS server elsewhere"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.write(c.text)
			_, err := r.Reload(t.Context())
			if !errors.Is(err, httpapi.ErrState) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if got := r.told.level.Level(); got != slog.LevelInfo || r.told.cfg.RateLimit != 7 || !r.live.Load().AllowHTTP {
				t.Errorf("a part of it was taken: level %v, %+v", got, r.told.cfg)
			}
			if n := r.taken(); n != 0 {
				t.Errorf("the gauge is %v", n)
			}
			shown, err := r.Configuration(t.Context())
			if err != nil || !strings.Contains(shown.Problem, c.want) {
				t.Errorf("what is shown of the mistake: %q, %v", shown.Problem, err)
			}
		})
	}
	if !strings.Contains(r.log.String(), "configuration is refused") || !strings.Contains(r.log.String(), "grapnel.yaml:2") {
		t.Errorf("the log does not say so:\n%s", r.log.String())
	}
	r.say("rate_limit: 8\n")
	if n := r.taken(); n != 1 || r.told.cfg.RateLimit != 8 {
		t.Errorf("with a good file the gauge is %v, the rate %d", n, r.told.cfg.RateLimit)
	}
}

// A flag stays in force; what needs a restart is named, and not taken; the audit
// has who did it.
func TestReloadSays(t *testing.T) {
	r := reloadableDaemon(t, "rate_limit: 7\nlisten: 127.0.0.1:1\n", "--max-event-size", "2048")
	got := r.say("rate_limit: 8\nlisten: 127.0.0.1:2\nmax_event_size: 9999\n")
	for i := range got.Changed {
		got.Changed[i].Where = filepath.Base(got.Changed[i].Where)
	}
	for i := range got.Restart {
		got.Restart[i].Where = filepath.Base(got.Restart[i].Where)
	}
	want := httpapi.Reloaded{
		Changed: []httpapi.SettingChange{{Key: "rate_limit", From: []string{"7"}, To: []string{"8"}, Where: "grapnel.yaml:3", Reload: true}},
		Restart: []httpapi.SettingChange{{Key: "listen", From: []string{"127.0.0.1:1"}, To: []string{"127.0.0.1:2"}, Where: "grapnel.yaml:4"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if r.maxData() != 2048 || r.told.cfg.Listen != "127.0.0.1:1" {
		t.Errorf("events up to %d bytes, listening at %s", r.maxData(), r.told.cfg.Listen)
	}
	again, err := r.Reload(t.Context())
	if err != nil || len(again.Changed) != 0 || len(again.Restart) != 1 {
		t.Errorf("once more: %+v, %v", again, err)
	}
	entries, err := r.Audit(t.Context(), "", 0, 2)
	if err != nil || len(entries) != 2 || entries[1].Action != "config.reload" || entries[1].Target != "rate_limit" {
		t.Errorf("the audit has %+v, %v", entries, err)
	}
}

// Traffic goes on while the configuration changes again and again, and all of it
// arrives: run with -race.
func TestReloadBesideTraffic(t *testing.T) {
	const head = "rate_limit: 0\n"
	r := reloadableDaemon(t, head)
	receiver := delivertest.NewReceiver()
	url := receiver.Start(t)
	for range 3 {
		if _, err := r.AddEndpoint(t.Context(), newEndpoint(url)); err != nil {
			t.Fatal(err)
		}
	}
	token := r.token()
	var wg sync.WaitGroup
	const events = 100
	wg.Go(func() {
		for range events {
			if err := r.append("a", 100); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Go(func() {
		for range events {
			if w := r.request("GET", "/api/v1/config", token, ""); w.Code != http.StatusOK {
				t.Errorf("GET /config: %d %s", w.Code, w.Body)
				return
			}
		}
	})
	for i := range 30 {
		r.say(head + []string{
			"max_event_size: 4096\npark_after: 10\n", "allow_port: [9443]\nmax_in_flight_per_org: 2\n",
			"formats: {acme: {scheme: sha256-hex, headers: {signature: X-S}, body: data}}\n", "plans: {trial: []}\nretention: {dead: 2h}\n", "",
		}[i%5])
	}
	wg.Wait()
	came(t, receiver, 3*events)
}

// What was not read from anywhere cannot be read again.
func TestReloadOfNothing(t *testing.T) {
	dir := daemonAt(t)
	if text := transcript(t, dir, "reload"); !strings.Contains(text, "not read from anywhere") || !strings.Contains(text, "exit status 1") {
		t.Errorf("got:\n%s", text)
	}
}

// A SIGHUP does what the command does, and goes on after a mistake.
func TestReloadOnHangup(t *testing.T) {
	r := reloadableDaemon(t, "")
	ctx, stop := context.WithCancel(t.Context())
	hangups, ended := make(chan os.Signal), make(chan error, 1)
	go func() { ended <- r.reloadOn(ctx, hangups) }()
	r.write("log_level: loud\n")
	hangups <- syscall.SIGHUP
	hangups <- syscall.SIGHUP // it is heard once the first one is done with
	r.write("log_level: debug\n")
	hangups <- syscall.SIGHUP
	until(t, "the level is another", func() bool { return r.told.level.Level() == slog.LevelDebug })
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
