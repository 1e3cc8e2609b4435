package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
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
		{"a data directory that is a file", "--data " + file, exitFailed, "data directory"},
	} {
		var out, errs bytes.Buffer
		args := append([]string{"serve", "--data", shortDir(t), "--log-level", "error"}, strings.Fields(c.args)...)
		if status := run(t.Context(), args, nil, &out, &errs); status != c.status || !strings.Contains(errs.String(), c.want) {
			t.Errorf("%s: status %d, want %d with %q:\n%s", c.name, status, c.status, c.want, errs.String())
		}
	}
}
