//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

var withPrometheus = flag.Bool("prometheus", false, "have a Prometheus from the PATH scrape a daemon, and ask it all that rules and dashboard ask")

// A real Prometheus scrapes a real daemon that has something to do. Each series that
// a rule or the dashboard asks for is there, each panel has an answer, every rule is
// evaluated without an error, and nothing that is well raises an alarm. This finds
// what promtool cannot: a label that does not exist, a name that has changed.
func TestPrometheus(t *testing.T) {
	if !*withPrometheus {
		t.Skip("takes half a minute and a Prometheus: use -prometheus, or .ci/monitoring")
	}
	daemon := busyDaemon(t)
	checkScrape(t, daemon)
	p := startPrometheus(t, daemon)
	p.await(t, "min(count_over_time(up[1m])) >= 8")
	p.await(t, "grapnel_streams{state=\"paused\"} > 0 and on (job, instance) grapnel_org_cursor_lag_events > 0")
	p.await(t, "grapnel:first_attempts_late:ratio_rate3d")
	p.await(t, `grapnel_deliveries{state="cancelled"}`)

	_, rules := alertRules(t)
	for _, expr := range rules {
		p.query(t, expr)
		p.wantSeries(t, expr)
	}
	for _, panel := range dashboardPanels(t) {
		for _, q := range panel.Targets {
			expr := strings.NewReplacer("$job", ".+", "$instance", ".+", "$__rate_interval", "10s", "$__range", "1m").Replace(q.Expr)
			p.wantSeries(t, expr)
			if p.query(t, expr) == 0 {
				t.Errorf("the panel %q is empty: %s", panel.Title, expr)
			}
		}
	}
	p.wantWell(t)
}

// busyDaemon runs the program, in this process, with an organization whose deliveries
// arrive, one whose deliveries die, and one whose cursor is paused; and returns the
// address of its metrics.
func busyDaemon(t *testing.T) (address string) {
	t.Helper()
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/gone" {
			w.WriteHeader(http.StatusGone)
		}
	}))
	t.Cleanup(receiver.Close)
	dir := shortDir(t)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	log := &lineWriter{hit: make(chan string, 1)}
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"serve", "--data", dir, "--listen", "127.0.0.1:0", "--nats-listen", "off", "--nats-sync", "1s",
			"--allow-http", "--allow-network", "127.0.0.0/8", "--log-level", "info"}, nil, io.Discard, log)
	}()
	t.Cleanup(func() {
		stop()
		if status := <-ended; status != exitDone {
			t.Errorf("the daemon ended with %d:\n%s", status, log)
		}
	})
	var ready struct{ Health string }
	select {
	case line := <-log.hit:
		if err := json.Unmarshal([]byte(line), &ready); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
	case status := <-ended:
		ended <- status
		t.Fatalf("the daemon ended:\n%s", log)
	}
	lines := []string{
		"org add acme", "org add globex", "org add initech",
		"endpoint add acme " + receiver.URL + "/", "endpoint add globex " + receiver.URL + "/gone", "endpoint add initech " + receiver.URL + "/",
		"cursor pause initech --reason test", "backup " + filepath.Join(t.TempDir(), "backup.db"),
	}
	for i := range 20 {
		lines = append(lines, fmt.Sprintf(`event append acme a.b '{"n":%d}'`, i))
	}
	lines = append(lines, "event append globex a.b {}", "event append initech a.b {}", "delivery list globex")
	if said := transcript(t, dir, lines...); strings.Contains(said, "exit status") {
		t.Fatal(said)
	}
	return strings.TrimSuffix(strings.TrimPrefix(ready.Health, "http://"), "/healthz")
}

// checkScrape has promtool look at what is scraped (OPS-02).
func checkScrape(t *testing.T, daemon string) {
	t.Helper()
	resp, err := http.Get("http://" + daemon + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	check := exec.CommandContext(t.Context(), "promtool", "check", "metrics")
	check.Stdin = resp.Body
	if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

// prometheusServer is one that runs, by its address.
type prometheusServer struct{ url string }

// startPrometheus runs one with the configuration that is shipped, but quicker.
func startPrometheus(t *testing.T, daemon string) prometheusServer {
	t.Helper()
	dir, address := t.TempDir(), freeAddress(t)
	for name, text := range monitoring(t) {
		if filepath.Base(name) == "prometheus.yaml" {
			text = strings.NewReplacer("15s", "500ms", "127.0.0.1:8480", daemon).Replace(text)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var said strings.Builder
	cmd := exec.CommandContext(t.Context(), "prometheus", "--config.file="+filepath.Join(dir, "prometheus.yaml"),
		"--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address, "--log.level=warn")
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // the test's context has ended, and so has it
		if err := cmd.Wait(); err != nil && !errors.Is(err, context.Canceled) || t.Failed() {
			t.Logf("prometheus: %v\n%s", err, said.String())
		}
	})
	p := prometheusServer{"http://" + address}
	until(t, "Prometheus is ready", func() bool {
		resp, err := http.Get(p.url + "/-/ready")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return p
}

// get asks the server's API, and fails the test unless it answers.
func (p prometheusServer) get(t *testing.T, path string, data any) {
	t.Helper()
	resp, err := http.Get(p.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.Status != "success" {
		t.Errorf("%s: %v %s", path, err, answer.Error)
	}
}

// query returns how many series the expression has now.
func (p prometheusServer) query(t *testing.T, expr string) int {
	t.Helper()
	var data struct{ Result []any }
	p.get(t, "/api/v1/query?query="+url.QueryEscape(expr), &data)
	return len(data.Result)
}

func (p prometheusServer) await(t *testing.T, expr string) {
	t.Helper()
	until(t, expr, func() bool { return p.query(t, expr) > 0 })
}

// selector is a metric in an expression, with what it must match.
var selector = regexp.MustCompile(`\b((?:grapnel[_:]|process_|go_)[a-zA-Z0-9_:]+|up)\b(\{[^}]*\})?`)

// wantSeries checks that each metric of an expression is there, label for label.
func (p prometheusServer) wantSeries(t *testing.T, expr string) {
	t.Helper()
	found := selector.FindAllString(expr, -1)
	if len(found) == 0 {
		t.Errorf("no metric is found in %s", expr)
	}
	for _, s := range found {
		if p.query(t, s) == 0 {
			t.Errorf("there is no series %s, of %s", s, expr)
		}
	}
}

// wantWell checks that every rule could be evaluated and that none is about to
// raise an alarm.
func (p prometheusServer) wantWell(t *testing.T) {
	t.Helper()
	var data struct {
		Groups []struct {
			Rules []struct{ Name, Query, Health, LastError, State string }
		}
	}
	p.get(t, "/api/v1/rules", &data)
	n := 0
	for _, g := range data.Groups {
		for _, r := range g.Rules {
			if n++; r.Health != "ok" || r.LastError != "" {
				t.Errorf("rule %s: %s: %s", r.Name, r.Health, r.LastError)
			}
			if r.State == "firing" || r.State == "pending" && !slices.Contains(environmental, r.Name) {
				t.Errorf("%s is %s: %s", r.Name, r.State, r.Query)
			}
		}
	}
	if _, rules := alertRules(t); n != len(rules) {
		t.Errorf("Prometheus has %d rules, the file has %d", n, len(rules))
	}
}

// environmental are alerts that may come of the machine that the test runs on, and of
// the cursor that the test has paused.
var environmental = []string{"GrapnelCursorPaused", "GrapnelDiskLow", "GrapnelCommitsSlow"}
