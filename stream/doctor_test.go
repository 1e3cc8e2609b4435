package stream_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/grapnel-hooks/grapnel/stream"
)

// needed are the daemon's permissions: subject → whether it is subscribed to.
var needed = map[string]bool{
	"_INBOX.>": true, "wake.*.>": true, "$JS.EVENT.ADVISORY.STREAM.CREATED.*": true, "$JS.EVENT.ADVISORY.STREAM.UPDATED.*": true, "$JS.EVENT.ADVISORY.STREAM.DELETED.*": true,
	"events.*.>": false, "$JS.API.INFO": false, "$JS.API.STREAM.LIST": false, "$JS.API.STREAM.NAMES": false,
	"$JS.API.STREAM.INFO.*": false, "$JS.API.STREAM.CREATE.*": false, "$JS.API.STREAM.UPDATE.*": false, "$JS.API.STREAM.DELETE.*": false,
	"$JS.API.STREAM.MSG.GET.*": false, "$JS.API.DIRECT.GET.*": false,
}

// without is a user who has all of those but one.
func without(name, missing string) *server.User {
	var publish, subscribe []string
	for subject, hears := range needed {
		switch {
		case subject == missing:
		case hears:
			subscribe = append(subscribe, subject)
		default:
			publish = append(publish, subject)
		}
	}
	return &server.User{Username: name, Password: "p", Permissions: &server.Permissions{
		Publish: &server.SubjectPermission{Allow: publish}, Subscribe: &server.SubjectPermission{Allow: subscribe},
	}}
}

// What is found is in what the server was told to refuse, one thing at a time.
func TestDiagnosePermissions(t *testing.T) {
	subjects := slices.Sorted(maps.Keys(needed))
	users := []*server.User{{Username: "root", Password: "p"}, without("all", "")}
	for i, s := range subjects {
		users = append(users, without(fmt.Sprint("u", i), s))
	}
	s := natsServer(t, &server.Options{JetStream: true, StoreDir: t.TempDir(), Users: users})
	as := func(user string) string { return "nats://" + user + ":p@" + s.Addr().String() }

	// A stream that takes everything, and an organization's: neither may change.
	root := connect(t, stream.Options{URL: as("root")})
	if _, err := root.Create(t.Context(), stream.OrgStream{Org: "grapnel-doctor"}); err != nil {
		t.Fatal(err)
	}
	before, err := root.State(t.Context(), "EVENTS_grapnel-doctor")
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"root", "all"} {
		if found := connect(t, stream.Options{URL: as(user)}).Diagnose(t.Context()); len(found) > 0 {
			t.Errorf("%s: %v", user, found)
		}
	}
	for i, subject := range subjects {
		t.Run(subject, func(t *testing.T) {
			// Without an answer from JetStream, Connect gives up after its own limit.
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			c, err := stream.Connect(ctx, stream.Options{URL: as(fmt.Sprint("u", i))})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			found := c.Diagnose(t.Context())
			if len(found) != 1 || !strings.HasSuffix(found[0].What, "to "+subject) || found[0].Breaks == "" || found[0].Hint {
				t.Errorf("found %v", found)
			}
		})
	}
	after, err := root.State(t.Context(), "EVENTS_grapnel-doctor")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("the stream has changed: %s", diff)
	}
}

// The first look is by itself, is logged once, and can be asked for.
func TestFindings(t *testing.T) {
	s := natsServer(t, &server.Options{
		JetStream: true, StoreDir: t.TempDir(), MaxPayload: 200 << 10,
		Users: []*server.User{without("daemon", "wake.*.>")},
	})
	l := &logs{}
	c := connect(t, stream.Options{URL: "nats://daemon:hunter2@" + s.Addr().String(), Log: l.logger()})
	eventually(t, "a finding about the user", func() bool { return len(c.Findings()) == 1 })
	if f := c.Findings()[0]; !strings.Contains(f.String(), "refuses the daemon's user") {
		t.Errorf("found %s", f)
	}
	c = connect(t, stream.Options{URL: "nats://daemon:p@" + s.Addr().String(), Log: l.logger()})
	eventually(t, "findings", func() bool { return len(c.Findings()) == 2 })
	for i, want := range []string{"subscribe to wake.*.>", "max_payload"} {
		if f := c.Findings()[i]; !strings.Contains(f.What, want) {
			t.Errorf("found %s, want %s", f, want)
		}
	}
	if n := strings.Count(l.String(), "lacks something"); n != 3 {
		t.Errorf("%d findings logged:\n%s", n, l)
	}
	if strings.Contains(l.String(), "hunter2") {
		t.Errorf("a password was logged:\n%s", l)
	}
}

// Findings are no fault of an embedded server, nor of one that is away.
func TestDiagnoseNothing(t *testing.T) {
	b := newBroker(t)
	if found := b.Diagnose(t.Context()); found != nil {
		t.Errorf("embedded: %v", found)
	}
	away := connect(t, stream.Options{URL: "nats://127.0.0.1:1"})
	if found := away.Diagnose(t.Context()); found != nil {
		t.Errorf("away: %v", found)
	}
}

func TestDiagnoseAnAccountWithoutJetStream(t *testing.T) {
	first := natsServer(t, &server.Options{JetStream: true, StoreDir: t.TempDir()})
	port := portOf(t, first.Addr().String())
	first.Shutdown()
	first.WaitForShutdown()
	c := connect(t, stream.Options{URL: fmt.Sprintf("nats://127.0.0.1:%d", port)})
	natsServer(t, &server.Options{Port: port})
	eventually(t, "a finding", func() bool {
		found := c.Diagnose(t.Context())
		return len(found) == 1 && strings.Contains(found[0].Do, "JetStream is off")
	})
}

// The configuration in the documentation works: with it the daemon can do
// everything, and a publisher only what is its own.
func TestDocumentedServer(t *testing.T) {
	o := documentedServer(t)
	o.StoreDir, o.SyncAlways, o.SyncInterval = t.TempDir(), false, time.Minute
	s := natsServer(t, o)
	as := func(user string) string { return "nats://" + user + ":" + passwords[user] + "@" + s.Addr().String() }
	l := &logs{}
	c := connect(t, stream.Options{URL: as("grapnel"), MaxBytes: 64 << 20, Log: l.logger()})
	if !c.Connected() {
		t.Fatal(c.Err())
	}
	if found := c.Diagnose(t.Context()); len(found) > 0 {
		t.Errorf("found %v", found)
	}
	wakes, streams := make(chan stream.Wake, 16), make(chan string, 16)
	if err := c.OnWake(func(w stream.Wake) { wakes <- w }); err != nil {
		t.Fatal(err)
	}
	if err := c.OnStream(func(org string, _ bool) { streams <- org }); err != nil {
		t.Fatal(err)
	}
	for _, org := range []string{"acme", "globex"} {
		if _, err := c.Create(t.Context(), stream.OrgStream{Org: org}); err != nil {
			t.Fatal(err)
		}
		within(t, "word of the stream", streams)
	}
	if _, err := c.Append(t.Context(), "acme", event("x")); err != nil {
		t.Error(err)
	}
	if _, err := c.AppendBatch(t.Context(), "acme", []stream.Append{event("y"), event("z")}); err != nil {
		t.Error(err)
	}
	within(t, "wake-up", wakes)
	if got := seqs(all(t, c, "EVENTS_acme")); len(got) != 3 {
		t.Errorf("read %v", got)
	}
	if _, err := c.Create(t.Context(), stream.OrgStream{Org: "globex", Subjects: []string{"webhook.>"}}); err != nil {
		t.Errorf("change a stream: %v", err)
	}
	found := 0
	for _, err := range c.Find(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		found++
	}
	if found != 2 {
		t.Errorf("found %d streams", found)
	}

	refused := make(chan error, 100)
	nc, err := nats.Connect(as("billing"), nats.CustomInboxPrefix("_INBOX_billing"), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if ack, err := js.Publish(t.Context(), "events.acme.invoice.paid", []byte(`1`)); err != nil || ack.Sequence != 4 {
		t.Errorf("publish: %+v, %v", ack, err)
	}
	for _, subject := range []string{"events.globex.x", "events.>", "wake.acme.x", "webhook.x", "$JS.API.INFO", "$JS.API.STREAM.DELETE.EVENTS_acme", "_INBOX.x"} {
		if err := nc.Publish(subject, nil); err != nil {
			t.Fatal(err)
		}
		if err := within(t, "refusal of "+subject, refused); !strings.Contains(err.Error(), subject) {
			t.Errorf("%s: %v", subject, err)
		}
	}
	for _, subject := range []string{"events.>", "events.acme.>", "wake.>", "_INBOX.>", ">", "$JS.>"} {
		if _, err := nc.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
		if err := within(t, "refusal of "+subject, refused); !strings.Contains(err.Error(), subject) {
			t.Errorf("%s: %v", subject, err)
		}
	}
	if err := c.Remove(t.Context(), "globex"); err != nil {
		t.Error(err)
	}
	if strings.Contains(l.String(), "level=WARN") {
		t.Errorf("warnings:\n%s", l)
	}
}

// passwords are what the test puts in place of the documentation's.
var passwords = map[string]string{"grapnel": "daemon-password", "billing": "billing-password"}

// documentedServer is the server that the documentation's block configures.
func documentedServer(t *testing.T) *server.Options {
	t.Helper()
	doc, err := os.ReadFile("../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(doc), "```nats-server.conf\n")
	block, _, ok := strings.Cut(block, "```")
	if !ok {
		t.Fatal("docs/operating.md has no block nats-server.conf")
	}
	for user, password := range passwords {
		placeholder := fmt.Sprintf("$%s_PASSWORD", strings.ToUpper(user))
		if !strings.Contains(block, placeholder) {
			t.Fatalf("%s is not in the block", placeholder)
		}
		t.Setenv(placeholder[1:], password)
	}
	file := filepath.Join(t.TempDir(), "nats-server.conf")
	if err := os.WriteFile(file, []byte(block), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := server.ProcessConfigFile(file)
	if err != nil {
		t.Fatal(err)
	}
	o.Port = 0
	return o
}
