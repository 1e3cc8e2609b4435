package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/cmd/internal/client"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi/httpapitest"
	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
)

var updateGoldens = flag.Bool("update", false, "write the goldens")

// golden compares with testdata/name, or writes it with -update.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *updateGoldens {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got, -update to accept):\n%s", file, diff)
	}
}

// shortDir is a temporary directory whose path leaves room for a socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "grapnel")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// pretend serves the API of s on the socket of a data directory.
func pretend(t *testing.T, s httpapi.Service) (dir string) {
	t.Helper()
	dir = shortDir(t)
	log := slog.New(slog.DiscardHandler)
	l, err := httpapi.ListenSocket(filepath.Join(dir, client.SocketName))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- httpapi.Serve(ctx, l, httpapi.Operator(httpapi.Options{Service: s, Log: log}), log) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return dir
}

// transcript runs the lines one after the other, as a shell would, and returns
// what a person would see. Without a directory the lines or the environment say
// how to reach the daemon.
func transcript(t *testing.T, dir string, lines ...string) string {
	t.Helper()
	var all strings.Builder
	for _, line := range lines {
		line, stdin, _ := strings.Cut(line, " << ")
		var out, errs bytes.Buffer
		args := words(line)
		if dir != "" {
			args = append(args, "--data", dir)
		}
		status := run(t.Context(), args, strings.NewReader(stdin), &out, &errs)
		fmt.Fprintf(&all, "$ grapnel %s\n%s", line, out.String())
		for l := range strings.Lines(errs.String()) {
			fmt.Fprintf(&all, "stderr: %s", l)
		}
		if status != 0 {
			fmt.Fprintf(&all, "exit status %d\n", status)
		}
		all.WriteString("\n")
	}
	text := varies.ReplaceAllString(all.String(), "${1}${2}…")
	if dir != "" {
		text = strings.ReplaceAll(text, dir, "DATA")
	}
	return text
}

// varies is what is another in each run: when a token ends, and how far that is.
var varies = regexp.MustCompile(`(exported_at": "|expires_at": "|"revoked_at": "| until )20[0-9T:.-]+Z|("request_id": "req_)\w+`)

// words splits a line at its spaces; single quotes keep them.
func words(line string) (out []string) {
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			out = append(out, part)
		} else {
			out = append(out, strings.Fields(part)...)
		}
	}
	return out
}

func TestCommands(t *testing.T) {
	started := httpapitest.New()
	withDeliveries(t, started)
	d := deliveryIDs(t, started)
	for _, c := range []struct {
		name  string
		s     *httpapitest.Service
		lines []string
	}{
		{"org", httpapitest.New(), []string{
			"org list",
			"org list --json",
			"org add acme",
			"org add crm --name 'CRM service' --plan enterprise --payload envelope --subject 'webhook.>' --json",
			"org add acme",
			"org add 'no way'",
			"org add",
			"org list",
			"org list --limit 1",
			"org list --limit 0",
			"org show crm",
			"org show crm --json",
			"org show nobody",
			"org set crm --name '' --plan trial --subject 'webhook.>' --subject 'crm.>'",
			"org set crm --subject '' --payload data --json",
			"org set crm",
			"org set crm --payload xml",
			"org set nobody --plan trial",
			"org remove crm",
			"org remove acme --json",
			"org",
			"org lst",
		}},
		{"endpoint", httpapitest.New(), []string{
			"org add acme",
			"endpoint list acme",
			"endpoint add acme https://hooks.example/in",
			"endpoint add acme https://hooks.example/berlin --type 'invoice.*' --type lead_won --workspace berlin --description 'the second' --timeout 5s --concurrency 2 --retry-initial 1s --retry-attempts 3 --disabled --json",
			"endpoint add acme https://hooks.example/own --secret - << " + httpapitest.Secret + "\n",
			"endpoint add acme https://hooks.example/own --secret whsec_short",
			"endpoint add acme https://hooks.example/own --secret @nonexistent",
			"endpoint add acme http://hooks.example/in",
			"endpoint add acme https://hooks.example/in --timeout 1m",
			"endpoint list acme",
			"endpoint show acme ep_01M7YRRX5R0000000000000002",
			"endpoint enable acme ep_01M7YRRX5R0000000000000002",
			"endpoint disable acme ep_01M7YRRW6G0000000000000001",
			"endpoint list acme",
			"endpoint set acme ep_01M7YRRX5R0000000000000002 --type lead_won --workspace '' --description 'only leads' --timeout 3s --retry-attempts 5",
			"endpoint set acme ep_01M7YRRX5R0000000000000002 --new-url https://hooks.example/v2 --concurrency 1 --retry-initial 2s --retry-multiplier 2 --retry-max-interval 1h --json",
			"endpoint set acme ep_01M7YRRX5R0000000000000002",
			"endpoint set acme ep_01M7YRRX5R0000000000000002 --concurrency 1000",
			"endpoint set acme ep_01M7YRRX5R0000000000000002 --url https://hooks.example/v2",
			"endpoint set acme ep_01M7YRRX5R0000000000000002 --header 'X-Tenant: seven' --header - << Authorization: Bearer a-secret-of-the-receiver\nX-Zone: eu\n",
			"endpoint set acme ep_01M7YRRX5R0000000000000002 --new-url https://elsewhere.example/v2",
			"endpoint set acme ep_01M7YRRX5R0000000000000002 --header 'X-Tenant: [redacted]' --json",
			"endpoint set acme ep_01M7YRRX5R0000000000000002 --header 'Host: x'",
			"endpoint set acme ep_01M7YRRX5R0000000000000002 --header a-secret-of-the-receiver",
			"endpoint set acme ep_01M7YRRX5R0000000000000002 --header 'A: 1' --header 'A: 2'",
			"endpoint set acme ep_01M7YRRX5R0000000000000002 --header ''",
			"endpoint set acme ep_nothing --timeout 5s",
			"endpoint show acme ep_nothing",
			"endpoint set acme ep_01M7YRRX5R0000000000000002 --redact /data/email --redact 'patient.*:/data/name=\"-\"' --filter 'data.amount > 10' --rate-limit 50 --ordered-by /data/customer --disable-after off",
			"endpoint set acme ep_01M7YRRX5R0000000000000002 --redact '' --filter '' --rate-limit 0 --ordered-by '' --ordered --disable-after 48h",
			"endpoint set acme ep_01M7YRRX5R0000000000000002 --redact email",
			"endpoint set acme ep_01M7YRRX5R0000000000000002 --redact /data/email=hidden",
			"endpoint set acme ep_01M7YRRX5R0000000000000002 --disable-after soon",
			"endpoint set acme ep_01M7YRRX5R0000000000000002 --auth basic --auth-username grapnel --auth-secret - << a-secret-of-the-receiver\n",
			"endpoint set acme ep_01M7YRRX5R0000000000000002 --auth basic --auth-username other --tls-ca @../../testdata/credentials/authority.pem --json",
			"endpoint set acme ep_01M7YRRX5R0000000000000002 --new-url https://elsewhere.example/v2",
			"endpoint set acme ep_01M7YRRX5R0000000000000002 --auth oauth2 --auth-client-id grapnel --auth-secret - --auth-token-url https://login.example/token --auth-scope a --auth-scope b << a-secret-of-the-receiver",
			"endpoint set acme ep_01M7YRRX5R0000000000000002 --auth oauth2 --auth-client-id grapnel --auth-token-url https://elsewhere.example/token",
			"endpoint set acme ep_01M7YRRX5R0000000000000002 --auth-username grapnel",
			"endpoint set acme ep_01M7YRRX5R0000000000000002 --auth digest --auth-secret a-secret-of-the-receiver",
			"endpoint set acme ep_01M7YRRX5R0000000000000002 --auth none --tls-ca ''",
			"endpoint pause acme ep_01M7YRRX5R0000000000000002",
			"endpoint resume acme ep_01M7YRRX5R0000000000000002",
			"endpoint test acme ep_01M7YRRX5R0000000000000002",
			"endpoint test acme ep_01M7YRRX5R0000000000000002 --json",
			"endpoint test acme ep_nothing",
			"endpoint secret acme ep_01M7YRRX5R0000000000000002",
			"endpoint rotate-secret acme ep_01M7YRRX5R0000000000000002",
			"endpoint rotate-secret acme ep_01M7YRRX5R0000000000000002 --overlap 7d --secret - --json << " + httpapitest.Secret + "\n",
			"endpoint rotate-secret acme ep_01M7YRRX5R0000000000000002 --overlap 8d",
			"endpoint rotate-secret acme ep_01M7YRRX5R0000000000000002 --overlap soon",
			"endpoint rotate-secret acme ep_01M7YRRX5R0000000000000002 --secret short",
			"endpoint rotate-secret acme ep_01M7YRRX5R0000000000000002 --overlap 0s",
			"endpoint secret acme ep_01M7YRRX5R0000000000000002 --json",
			"endpoint secret acme ep_nothing",
			"endpoint remove acme ep_01M7YRRW6G0000000000000001",
			"org remove acme",
		}},
		{"event", httpapitest.New(), []string{
			"org add acme",
			"event list acme",
			`event append acme invoice.paid '{"invoice":"in_1"}' --key in_1-paid --source billing`,
			`event append acme invoice.paid '{"invoice":"in_1"}' --key in_1-paid`,
			`event append acme lead_won - --workspace berlin --json << {"lead": 7}`,
			"event append acme task.completed",
			"event append acme invoice.paid {invoice:1}",
			"event append acme invoice..paid",
			"event append acme invoice.paid {} --time 2026-11-20T08:00:00+01:00",
			"event list acme",
			"event list acme --workspace berlin --json",
			"event list acme --limit 2",
			"event list acme --since yesterday",
			"event show acme 1",
			"event show acme 2 --json",
			"event show acme 99",
			"event replay acme 1",
		}},
		{"delivery", started, []string{
			"delivery list acme",
			"delivery list acme --status dead",
			"delivery list acme --status dead --json --limit 1",
			"delivery list acme --status lost",
			"delivery list acme --type nothing",
			"delivery show acme " + d[0],
			"delivery show acme " + d[2],
			"delivery show acme dlv_1",
			"delivery retry acme",
			"delivery retry acme --all",
			"delivery retry acme --status dead --all " + d[0],
			"delivery retry acme " + d[0],
			"delivery retry acme --status dead --all",
			"delivery retry acme --status dead --all",
			"delivery list acme --json --limit 1",
			"event replay acme 1",
			"event replay acme 1 --endpoint ep_nothing",
			"event replay acme 99",
			"event replay acme 1 --json",
			"delivery cancel acme " + d[0] + " " + d[1],
			"delivery cancel acme " + d[0],
			"delivery cancel acme " + d[2] + " --json",
			"delivery cancel acme",
		}},
		{"replay", replayable(t), []string{
			"replay list acme",
			"endpoint replay acme ep_01M7YRRW6G0000000000000001 --dry-run",
			"endpoint replay acme ep_01M7YRRW6G0000000000000001 --dry-run --type lead_won --json",
			"endpoint replay acme ep_01M7YRRW6G0000000000000001 --type 'invoice.*' --type nothing --since 2026-11-21T10:00:00Z --rate 20",
			"endpoint replay acme ep_01M7YRRW6G0000000000000001 --json",
			"endpoint replay acme ep_01M7YRRW6G0000000000000001 --status pending",
			"endpoint replay acme ep_01M7YRRW6G0000000000000001 --type 'invoice*'",
			"endpoint replay acme ep_01M7YRRW6G0000000000000001 --since 2026-11-21T10:00:00Z --until 2026-11-21T10:00:00Z",
			"endpoint replay acme ep_01M7YRRW6G0000000000000001 --rate 0",
			"endpoint replay acme ep_01M7YRRW6G0000000000000001 --rate 1001",
			"endpoint replay acme ep_01M7YRRW6G0000000000000001 --status dead,missing",
			"endpoint replay acme ep_01M7YRRW6G0000000000000001 --from-seq 3 --to-seq 1",
			"endpoint replay acme ep_01M7YRRW6G0000000000000001 --dry-run --status dead,cancelled --from-seq 1 --to-seq 3",
			"endpoint recover acme ep_01M7YRRW6G0000000000000001",
			"endpoint recover acme ep_01M7YRRW6G0000000000000001 --since 2026-11-21T10:00:00Z",
			"replay show acme rpl_01M7YRS12R0000000000000002 --watch",
			"endpoint replay acme ep_nothing",
			"endpoint disable acme ep_01M7YRRW6G0000000000000001",
			"endpoint replay acme ep_01M7YRRW6G0000000000000001 --status delivered",
			"endpoint replay acme ep_01M7YRRW6G0000000000000001",
			"replay list acme",
			"replay list acme --json --limit 1",
			"replay show acme rpl_01M7YRS03G0000000000000001",
			"replay pause acme rpl_01M7YRS3180000000000000003",
			"replay show acme rpl_01M7YRS3180000000000000003 --json",
			"replay resume acme rpl_01M7YRS3180000000000000003",
			"replay cancel acme rpl_01M7YRS3180000000000000003",
			"replay cancel acme rpl_01M7YRS3180000000000000003",
			"replay show acme rpl_nothing",
			"replay list nobody",
		}},
		{"token", httpapitest.New(), []string{
			"org add acme",
			"token list acme",
			"token list --operator",
			"token add acme --scope webhooks:manage --scope events:write --name 'the portal' --expires 12h",
			"token add acme --scope webhooks:read --expires 30d --json",
			"token add --operator --scope admin",
			"token add acme",
			"token add acme --scope webhooks:mange",
			"token add acme --scope everything",
			"token add acme --scope admin --expires tomorrow",
			"token add acme --scope admin --expires 400d",
			"token add --scope admin",
			"token add acme --operator --scope admin",
			"token add nobody --scope admin",
			"token list acme",
			"token list acme --json --limit 1",
			"token list --operator",
			"token revoke acme tok_01M7YRRW6G0000000000000001",
			"token revoke --operator tok_01M7YRRY500000000000000003 --json",
			"token revoke acme tok_nothing",
			"token revoke tok_nothing",
			"token list acme",
			"audit acme --limit 1",
			"audit --json --limit 1",
			"audit nobody",
		}},
		{"resume", held(), []string{"resume --json", "resume", "resume --confirm", "resume"}},
		{"log-level", httpapitest.New(), []string{"log-level", "log-level debug --for 10m", "log-level warn --json", "log-level", "log-level configured",
			"log-level loud", "log-level --for 10m", "log-level debug --for 1000h", "log-level configured --for 1m", "audit"}},
		{"keys", httpapitest.New(), []string{"keys list", "keys rotate", "keys rotate --json", "keys list", "keys list --json", "keys"}},
		{"cursor", stuck(t), []string{
			"cursor list",
			"cursor list --json",
			"cursor list --wide",
			"cursor list --org other",
			"cursor list --state lost",
			"cursor list --sort size",
			"cursor list --limit -1",
			"cursor list --org '[a'",
			"cursor list --watch 1ms",
			"cursor list all",
			"cursor show acme",
			"cursor show acme --json",
			"cursor show nobody",
		}},
		{"cursor-pause", stuck(t), []string{
			"cursor pause acme",
			"cursor list",
			"cursor pause acme --json",
			"cursor pause acme --reason 'their database is moved' --until 2096-11-21T12:00:00Z",
			"cursor show acme",
			"cursor pause acme --until yesterday",
			"cursor pause acme --until 2026-11-20T12:00:00Z",
			"cursor resume acme",
			"cursor resume acme --json",
			"cursor pause nobody",
			"cursor pause",
		}},
		{"cursor-reset", stuck(t), []string{
			"cursor reset acme --to-seq 1",
			"cursor reset acme --to-earliest --json",
			"cursor reset acme --to-seq 1 --execute",
			"cursor reset acme --to-seq 1 --execute --reason mended --expect-position 2",
			"cursor reset acme --to-seq 1 --execute --reason mended --expect-position 3",
			"cursor list",
			"cursor reset acme --to-latest",
			"cursor reset acme --to-latest --execute --reason 'not needed' --expect-position 1",
			"cursor reset acme --to-latest --execute --reason 'not needed' --expect-position 1 --allow-skip",
			"cursor reset acme --to-seq 99",
			"cursor reset acme --to-time 2026-11-21T10:00:04Z",
			"cursor reset acme --to-time noon",
			"cursor reset acme",
			"cursor reset acme --to-latest --to-earliest",
			"cursor reset acme --to-latest --execute --reason 'not needed' --expect-position 1 --allow-skip",
			"cursor reset acme --shift-by -2",
			"cursor reset acme --shift-by 0",
			"cursor reset acme --from-file testdata/cursor-export.json",
			"cursor reset other --from-file testdata/cursor-export.json",
			"cursor show acme",
			"cursor gaps acme",
			"cursor gaps acme --json",
		}},
		{"cursor-files", manyCursors(t), []string{
			"cursor export behind",
			"cursor export nobody",
			"cursor import testdata/cursor-export.json",
			"cursor import testdata/cursor-export.json --org acme --json",
			"cursor import testdata/cursor-export.json --execute",
			"cursor import testdata/cursor-export.json --org acme --execute --reason 'the database was lost'",
			"cursor import testdata/cursor-export.json --org acme --execute --reason 'the database was lost'",
			"cursor import testdata/cursor-export.json --org nobody",
			"cursor import testdata/nothing.json",
			"cursor import testdata/commands/cursor.txt",
		}},
		{"cursor-many", manyCursors(t), []string{
			"cursor list --sort lag",
			"cursor list --sort age --limit 2 --wide",
			"cursor list --state behind,stream-missing --json",
			"cursor list --org '*-s*'",
			"cursor show behind",
			"cursor check",
			"cursor check --format nagios",
		}},
		{"cursor-check", stuck(t), []string{
			"cursor check",
			"cursor reset acme --to-seq 1 --execute --reason mended --expect-position 3",
			"cursor check --warn-lag 2",
			"cursor check acme --critical-lag 2 --json",
			"cursor pause acme",
			"cursor check acme",
			"cursor check nobody",
			"cursor check acme --format nagios",
			"cursor check --format prometheus",
			"cursor check nobody --format nagios",
			"cursor check nobody --json",
			"cursor check --format xml",
		}},
		{"cursor-verify", lost(t), []string{
			"cursor verify acme",
			"cursor verify acme --json",
			"cursor verify acme --repair",
			"cursor verify nobody",
		}},
		{"cursor-empty", httpapitest.New(), []string{"cursor list", "fsck"}},
		{"fsck", started, []string{"fsck", "fsck acme --json", "fsck nobody"}},
		{"event-expunge", started, []string{"event expunge acme 1", "event expunge acme 1 --execute", "event expunge acme 1 --json", "event expunge acme 999"}},
		{"fsck-torn", torn(t), []string{"fsck", "fsck --repair --reason why", "fsck --json"}},
		{"fsck-wrong", wrong(t), []string{"fsck", "fsck acme --json", "fsck --reason why"}},
		{"broken", broken(t), []string{"org list", "fsck"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			golden(t, "commands/"+c.name+".txt", transcript(t, pretend(t, c.s), c.lines...))
		})
	}
}

// replayable has two dead deliveries and a pending one.
func replayable(t *testing.T) *httpapitest.Service {
	t.Helper()
	s := httpapitest.New()
	withDeliveries(t, s)
	return s
}

// withDeliveries gives s an organization with an endpoint, two dead deliveries and a
// pending one.
func withDeliveries(t *testing.T, s *httpapitest.Service) {
	t.Helper()
	ctx := context.Background()
	if _, err := s.AddOrg(ctx, httpapi.Org{ID: "acme", Payload: "data"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.AddEndpoint(ctx, httpapi.NewEndpoint{Org: "acme", URL: "https://hooks.example/in", EventTypes: []string{"*"}}); err != nil {
		t.Fatal(err)
	}
	add := func(types ...string) {
		t.Helper()
		for _, typ := range types {
			if _, err := s.Append(ctx, "acme", []httpapi.NewEvent{{Type: typ, Data: []byte(`{}`), DedupeKey: typ}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	add("invoice.paid", "lead_won")
	s.Attempt("acme", deliver.Outcome{Class: deliver.Timeout, Duration: 10 * time.Second, Error: "no answer in 10s"}, deliver.Pending, deliver.NoReason)
	s.Attempt("acme", deliver.Outcome{
		Class: deliver.HTTP5xx, Status: 500, Duration: 35 * time.Millisecond, Truncated: true,
		Header: http.Header{"Content-Type": {"text/html"}}, Body: []byte("<h1>Oh no\x1b[2J</h1>"),
	}, deliver.Dead, deliver.Exhausted)
	add("task.completed")
}

// deliveryIDs are the ids of the deliveries that withDeliveries makes, oldest first.
func deliveryIDs(t *testing.T, s *httpapitest.Service) (ids []string) {
	t.Helper()
	all, _, err := s.Deliveries(context.Background(), "acme", httpapi.DeliveryFilter{}, deliver.Key{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		ids = append([]string{d.ID(d.Stored)}, ids...)
	}
	return ids
}

func stuck(t *testing.T) *httpapitest.Service {
	s := httpapitest.New()
	withDeliveries(t, s)
	s.Missed = []httpapi.Gap{{Gap: cursor.Gap{Incarnation: 1, From: 4, To: 9}, At: httpapitest.Epoch}}
	s.Rejects = []httpapi.Rejected{{Incarnation: 1, Rejected: fanout.Rejected{
		Seq: 3, Stored: httpapitest.Epoch, Subject: "events.acme.x", Code: "not_json", Detail: "the payload is not JSON", Data: []byte("<x>"),
	}}}
	return s
}

// manyCursors has cursors in several states.
func manyCursors(t *testing.T) *httpapitest.Service {
	s := stuck(t)
	at := httpapitest.Epoch
	s.Shown = map[string]httpapi.Cursor{}
	for _, c := range []httpapi.Cursor{
		{Position: cursor.Position{Org: "behind", Seq: 400, Anchor: at, Hash: 0x9f86d081884c7d65}, First: 1, Last: 1400, Lag: 1000, Age: 90 * time.Second,
			StreamCheckedAt: at, VerifiedAt: at, UpdatedAt: at, Pending: 12, Due: 10, OldestDue: 40 * time.Second, Pace: httpapi.Pace{Minute: 20, FiveMinutes: 12},
			State: "behind", Why: "reading 20.0 events/s: done in about 50s if none are added", Since: at},
		{Position: cursor.Position{Org: "crm-stuck", Seq: 7}, First: 1, Last: 9, Lag: 2, Age: 3 * time.Hour, UpdatedAt: at,
			State: "paused", Why: "paused by operator: their database is moved; goes on with grapnel cursor resume crm-stuck", Since: at,
			Pause: &httpapi.CursorPause{By: "operator", Reason: "their database is moved", At: at}},
		{Position: cursor.Position{Org: "gone", Seq: 3}, State: "stream-missing", Why: "the broker has no stream of that name: nothing can be read until it is there again"},
	} {
		if _, err := s.AddOrg(t.Context(), httpapi.Org{ID: c.Org, Payload: "data"}); err != nil {
			t.Fatal(err)
		}
		c.Stream, c.Incarnation, c.Created = "EVENTS_"+c.Org, 1, at
		s.Shown[c.Org] = c
	}
	return s
}

func wrong(t *testing.T) *httpapitest.Service {
	s := httpapitest.New()
	withDeliveries(t, s)
	s.Found = []string{"missing seq 1.2 endpoint 1: somebody was subscribed, and there is no delivery and no reason"}
	return s
}

func torn(t *testing.T) *httpapitest.Service {
	s := httpapitest.New()
	withDeliveries(t, s)
	s.Torn = []httpapi.Broken{
		{Breaks: "an attempt has no delivery", Rows: 2, Event: 17, Stray: true},
		{Breaks: "a delivery has no event", Rows: 1, Event: 18},
	}
	return s
}

func lost(t *testing.T) *httpapitest.Service {
	s := wrong(t)
	s.Lost = 2
	return s
}

func broken(t *testing.T) *httpapitest.Service {
	s := httpapitest.New()
	withDeliveries(t, s)
	s.Err = errors.New("the disk is on fire")
	return s
}

// held is a service that holds still after a restore.
func held() *httpapitest.Service {
	s := httpapitest.New()
	s.SetHold(httpapi.HoldStatus{Held: true, BackupMadeAt: httpapitest.Epoch, Reason: "backup", Unread: 1200, Pending: 3, Unknown: []string{"globex"}})
	return s
}
