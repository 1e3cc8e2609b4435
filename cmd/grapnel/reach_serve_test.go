package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
)

// An operator at the socket makes a token; its text is alone on standard output;
// with it a tenant uses the daemon over TCP, until it is revoked.
func TestTokensAtTheDaemon(t *testing.T) {
	dir := shortDir(t)
	ctx, stop := context.WithCancel(t.Context())
	log := &lineWriter{hit: make(chan string, 1)}
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"serve", "--data", dir, "--listen", "127.0.0.1:0", "--nats-listen", "off"}, nil, io.Discard, log)
	}()
	defer func() {
		stop()
		if status := <-ended; status != 0 {
			t.Errorf("it ended with %d:\n%s", status, log)
		}
	}()
	var ready struct{ Health string }
	select {
	case line := <-log.hit:
		if err := json.Unmarshal([]byte(line), &ready); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
	case status := <-ended:
		ended <- status
		t.Fatalf("it ended:\n%s", log)
	}
	url := strings.TrimSuffix(ready.Health, "/healthz")
	operator := func(line string) (out string) {
		var stdout, stderr bytes.Buffer
		if status := run(t.Context(), append(words(line), "--data", dir), nil, &stdout, &stderr); status != 0 {
			t.Fatalf("%s: status %d: %s", line, status, stderr.String())
		}
		return stdout.String()
	}
	operator("org add acme")
	operator("org add clinic")
	token := strings.TrimSuffix(operator("token add acme --scope events:write --scope webhooks:manage --name shop"), "\n")
	if _, ok := httpapi.TokenHash(token); !ok {
		t.Fatalf("printed beside the token: %q", token)
	}
	var list httpapi.List[httpapi.TokenBody]
	if err := json.Unmarshal([]byte(operator("token list acme --json")), &list); err != nil || len(list.Data) != 1 {
		t.Fatalf("%v: %+v", err, list)
	}
	id := list.Data[0].ID

	tenant := over(t, url, token, "event append acme invoice.paid {} --key in_1", "event list acme --json", "event append clinic invoice.paid {}", "token list acme")
	for _, part := range []string{"is stored at 1", `"dedupe_key": "in_1"`, "there is no organization clinic", "the token lacks the scope admin"} {
		if !strings.Contains(tenant, part) {
			t.Errorf("%q is not in:\n%s", part, tenant)
		}
	}
	operator("token revoke acme " + id)
	if after := over(t, url, token, "event list acme"); !strings.Contains(after, "the token is unknown, expired or revoked") {
		t.Errorf("after it was revoked:\n%s", after)
	}
	audit := operator("audit acme")
	for _, part := range []string{"token.revoke  " + id, "token.add     " + id, "org.add       acme"} {
		if !strings.Contains(audit, part) {
			t.Errorf("%q is not in:\n%s", part, audit)
		}
	}
	if said := tenant + audit + log.String(); strings.Contains(said, token) {
		t.Error("the token is shown")
	}
}
