package main

import (
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
)

// liveDaemon is a daemon as "grapnel serve" runs it, in this process.
type liveDaemon struct {
	t    *testing.T
	dir  string
	base string // of health and metrics, and unless they are apart of its API, over TCP
	api  string // of its API, over TCP, where that is apart
	nats string // where publishers connect
	log  *lineWriter
	stop func() // ends it and waits; the status must be 0
}

// serveNow runs a daemon that may reach receivers on loopback. It ends with the test.
func serveNow(t *testing.T, args ...string) *liveDaemon {
	t.Helper()
	return serveIn(t, shortDir(t), args...)
}

// serveIn runs one on a data directory that may be there already.
func serveIn(t *testing.T, dir string, args ...string) *liveDaemon {
	t.Helper()
	s := &liveDaemon{t: t, dir: dir, log: &lineWriter{hit: make(chan string, 1)}}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan int, 1)
	args = append([]string{"serve", "--data", s.dir, "--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0", "--nats-sync", "2s",
		"--allow-http", "--allow-network", "127.0.0.0/8", "--rate-limit", "0", "--log-format", "json"}, args...)
	go func() { ended <- run(ctx, args, nil, io.Discard, s.log) }()
	var ready struct {
		Health    string
		API       string
		PublishTo string `json:"publish_to"`
	}
	select {
	case line := <-s.log.hit:
		if err := json.Unmarshal([]byte(line), &ready); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
	case status := <-ended:
		t.Fatalf("it ended with %d:\n%s", status, s.log)
	}
	s.base, s.api, s.nats = strings.TrimSuffix(ready.Health, "/healthz"), ready.API, ready.PublishTo
	stopped := false
	s.stop = func() {
		if stopped {
			return
		}
		stopped = true
		stop()
		if status := <-ended; status != 0 {
			t.Errorf("the daemon ended with %d:\n%s", status, s.log)
		}
	}
	t.Cleanup(s.stop)
	return s
}

// run runs a command that talks to the daemon, and returns what it printed.
func (s *liveDaemon) run(args ...string) string {
	s.t.Helper()
	var out, errs strings.Builder
	if status := run(s.t.Context(), append(args, "--data", s.dir), nil, &out, &errs); status != 0 {
		s.t.Fatalf("grapnel %s: status %d\n%s%s", strings.Join(args, " "), status, &out, &errs)
	}
	return out.String()
}

// try runs a command that may fail, and returns what it printed and its exit status.
func (s *liveDaemon) try(args ...string) (stdout string, status int) {
	s.t.Helper()
	var out, errs strings.Builder
	status = run(s.t.Context(), append(args, "--data", s.dir), nil, &out, &errs)
	return out.String() + errs.String(), status
}
