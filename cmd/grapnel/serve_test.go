package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/grapnel-hooks/grapnel/cmd/internal/client"
	"github.com/grapnel-hooks/grapnel/sqlite"
)

func TestLockIsExclusive(t *testing.T) {
	dir := shortDir(t) + "/data"
	first, err := lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the data directory: %v %v", info.Mode(), err)
	}
	_, err = lock(dir)
	var held *lockedError
	if !errors.As(err, &held) || held.pid != fmt.Sprint(os.Getpid()) {
		t.Fatalf("a second lock: %v", err)
	}
	first.Close()
	again, err := lock(dir)
	if err != nil {
		t.Fatalf("after it was given back: %v", err)
	}
	again.Close()
}

func TestSecondDaemonIsRefused(t *testing.T) {
	dir := shortDir(t)
	held, err := lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	var out, errs bytes.Buffer
	status := run(t.Context(), []string{"serve", "--data", dir, "--listen", "off", "--nats-listen", "off", "--log-level", "error"}, nil, &out, &errs)
	want := fmt.Sprintf("grapnel: another grapnel (pid %d) is running on %s\n", os.Getpid(), dir)
	if status != exitRunning || errs.String() != want {
		t.Errorf("status %d\n got %s\nwant %s", status, errs.String(), want)
	}
}

func TestServeRefuses(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := shortDir(t) + "/grapnel.yaml"
	if err := os.WriteFile(file, []byte("log_lewel: info\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, args string
		status     int
		want       string
	}{
		{"a wrong flag", "--nats-sync often", exitUsage, "--nats-sync"},
		{"an unknown flag", "--nats-snyc always", exitUsage, "unknown flag"},
		{"an argument", "now", exitUsage, "now"},
		{"a file with an unknown key", "--config " + file, exitConfig, "grapnel.yaml:1: log_lewel: unknown key: did you mean log_level?"},
		{"a port in use", "--listen " + taken.Addr().String(), exitFailed, "--listen " + taken.Addr().String() + ": listen tcp"},
		{"a port in use for health", "--listen off --admin-listen " + taken.Addr().String(), exitFailed, "--admin-listen " + taken.Addr().String() + ": listen tcp"},
		{"a data directory that is a file", "--data " + file, exitFailed, "data directory"},
	} {
		var out, errs bytes.Buffer
		args := append([]string{"serve", "--data", shortDir(t), "--log-level", "error"}, strings.Fields(c.args)...)
		if status := run(t.Context(), args, nil, &out, &errs); status != c.status || !strings.Contains(errs.String(), c.want) {
			t.Errorf("%s: status %d, want %d with %q:\n%s", c.name, status, c.status, c.want, errs.String())
		}
	}
}

// lineWriter hands out what is written to it, and counts as no terminal.
type lineWriter struct {
	mu  sync.Mutex
	all bytes.Buffer
	hit chan string // lines that say it is ready
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all.Write(p)
	if bytes.Contains(p, []byte(`"msg":"ready"`)) {
		w.hit <- string(p)
	}
	return len(p), nil
}

func (w *lineWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all.String()
}

// The daemon as its users meet it: it says where it can be reached, answers
// commands, probes and metrics, refuses a second one, and stops when told.
func TestServe(t *testing.T) {
	dir := shortDir(t)
	ctx, stop := context.WithCancel(t.Context())
	log := &lineWriter{hit: make(chan string, 1)}
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"serve", "--data", dir, "--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0"}, nil, io.Discard, log)
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
	base := strings.TrimSuffix(ready.Health, "/healthz")
	for path, want := range map[string]string{
		"/healthz": `{"status":"ok"}`, "/readyz": `{"status":"ok"}`, "/metrics": "grapnel_nats_connected 1", "/api/v1/orgs": "send a token",
	} {
		resp, err := http.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if !strings.Contains(string(body), want) {
			t.Errorf("GET %s: %s\n%s", path, resp.Status, body)
		}
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	got := transcript(t, dir, "org add acme", "event append acme a.b {}", "event list acme --json", "serve --listen off --nats-listen off --log-level error")
	for _, part := range []string{"Organization acme is made", "is stored at 1", `"seq": 1`, fmt.Sprintf("another grapnel (pid %d) is running", os.Getpid()), "exit status 75"} {
		if !strings.Contains(got, part) {
			t.Errorf("%q is not in:\n%s", part, got)
		}
	}
	stop()
	if status := <-ended; status != 0 {
		t.Errorf("it ended with %d:\n%s", status, log)
	}
	if got := transcript(t, dir, "org list"); !strings.Contains(got, "no grapnel is running") {
		t.Errorf("after the end:\n%s", got)
	}
}

// With --admin-listen, health and metrics are there and on the socket, and the
// address of the API has them no longer; that of health has nothing else.
func TestServeApart(t *testing.T) {
	dir := shortDir(t)
	ctx, stop := context.WithCancel(t.Context())
	log := &lineWriter{hit: make(chan string, 1)}
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"serve", "--data", dir, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--nats-listen", "off"}, nil, io.Discard, log)
	}()
	var ready struct{ API, Health string }
	select {
	case line := <-log.hit:
		if err := json.Unmarshal([]byte(line), &ready); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
	case status := <-ended:
		t.Fatalf("it ended with %d:\n%s", status, log)
	}
	socket := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(dir, client.SocketName))
	}}}
	admin := strings.TrimSuffix(ready.Health, "/healthz")
	for _, c := range []struct {
		by   *http.Client
		url  string
		want int
	}{
		{http.DefaultClient, admin + "/healthz", 200},
		{http.DefaultClient, admin + "/readyz", 200},
		{http.DefaultClient, admin + "/metrics", 200},
		{http.DefaultClient, admin + "/api/v1/orgs", 404},
		{http.DefaultClient, admin + "/openapi.json", 404},
		{http.DefaultClient, ready.API + "/healthz", 404},
		{http.DefaultClient, ready.API + "/readyz", 404},
		{http.DefaultClient, ready.API + "/metrics", 404},
		{http.DefaultClient, ready.API + "/api/v1/orgs", 401},
		{http.DefaultClient, ready.API + "/openapi.json", 200},
		{socket, "http://grapnel/metrics", 200},
		{socket, "http://grapnel/readyz", 200},
		{socket, "http://grapnel/api/v1/orgs", 200},
	} {
		resp, err := c.by.Get(c.url)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("GET %s: %s, want %d", c.url, resp.Status, c.want)
		}
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	socket.CloseIdleConnections()
	stop()
	if status := <-ended; status != 0 {
		t.Errorf("it ended with %d:\n%s", status, log)
	}
}

func TestServeRefusesBadDatabases(t *testing.T) {
	dir := shortDir(t)
	if err := os.WriteFile(dir+"/grapnel.db", bytes.Repeat([]byte("not a database. "), 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	args := []string{"serve", "--data", dir, "--listen", "off", "--nats-listen", "off", "--log-level", "error"}
	if status := run(t.Context(), args, nil, &out, &errs); status != exitCorrupt {
		t.Errorf("status %d, want %d: %s", status, exitCorrupt, errs.String())
	}
}

// SEC-33: what others can open is refused, with what to do.
func TestServeRefusesWhatOthersCanOpen(t *testing.T) {
	for _, c := range []struct {
		name, file string
		mode       os.FileMode
		want       string
	}{
		{"the directory", "", 0o750, "mode 0750"},
		{"the database", sqlite.FileName, 0o644, "chmod 0600"},
		{"its log", sqlite.FileName + "-wal", 0o660, "chmod 0600"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := shortDir(t)
			path := filepath.Join(dir, c.file)
			if c.file != "" {
				if err := os.WriteFile(path, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chmod(path, c.mode); err != nil {
				t.Fatal(err)
			}
			var errs bytes.Buffer
			status := run(t.Context(), []string{"serve", "--data", dir, "--listen", "off", "--nats-listen", "off", "--log-level", "error"}, nil, &errs, &errs)
			if status != exitConfig || !strings.Contains(errs.String(), c.want) || !strings.Contains(errs.String(), path) {
				t.Errorf("status %d: %s", status, errs.String())
			}
		})
	}
}
