package stream_test

import (
	"bufio"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/grapnel-hooks/grapnel/stream"
)

func TestPublisherIsAlone(t *testing.T) {
	g := newGuarded(t, stream.ServerOptions{})
	g.create(t, "hooks", "webhook.>")
	var mu sync.Mutex
	var refused []string
	spy, _ := g.publisher(t, "globex", nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		mu.Lock()
		defer mu.Unlock()
		refused = append(refused, err.Error())
	}))
	heard := make(chan *nats.Msg, 1000)
	inbox, err := spy.ChanSubscribe("_INBOX.>", heard) // a client's own answers come here
	if err != nil {
		t.Fatal(err)
	}
	listens := []string{
		">", "events.>", "events.acme.>", "events.globex.>", "wake.>", "wake.acme.x", "_INBOX_acme.>", "_R_.>", "_GR_.>",
		"$JS.>", "$JS.API.>", "$JS.EVENT.>", "$JS.ACK.>", "$SYS.>", "$SYS.ACCOUNT.>", "$G.>", "*.acme.>", "*",
	}
	for _, s := range listens {
		if _, err := spy.ChanSubscribe(s, heard); err != nil {
			t.Fatal(err)
		}
	}
	publishes := []string{
		"events.acme.x", "events.acme", "events.globexx.x", "events.globex.webhook.x", "events.globex.webhook.endpoint.disabled", "events.>", "events.*.x", "wake.acme.x", "wake.globex.x", "webhook.x", "x",
		"$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.INFO.EVENTS_globex", "$JS.API.STREAM.DELETE.EVENTS_globex", "$JS.API.STREAM.PURGE.EVENTS_globex",
		"$JS.API.DIRECT.GET.EVENTS_globex", "$JS.API.CONSUMER.CREATE.EVENTS_globex", "$JS.EVENT.ADVISORY.STREAM.DELETED.EVENTS_acme",
		"$JS.ACK.EVENTS_globex.c.1.1.1.1.0", "$SYS.REQ.SERVER.PING", "$SYS.REQ.ACCOUNT.PING.CONNZ", "$SYS.REQ.USER.INFO", "_INBOX.x", "_R_.x.y",
	}
	for _, s := range publishes {
		if err := spy.PublishRequest(s, "_INBOX.spy.answer", []byte(`{"n":1}`)); err != nil {
			t.Fatal(err)
		}
	}
	// Answers go nowhere but to the publisher itself.
	for _, reply := range []string{"$JS.ACK.EVENTS_acme.c.1.1.1.1.0", "_R_.abc", "_GR_.abc"} {
		if err := spy.PublishRequest("events.globex.x", reply, []byte(`1`)); err != nil {
			t.Fatal(err)
		}
	}
	if err := spy.Flush(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "refusals", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(refused) >= len(listens)+len(publishes)+3
	})
	for i, s := range append(slices.Clone(listens), publishes...) {
		if !slices.ContainsFunc(refused, func(r string) bool {
			return strings.Contains(strings.ToLower(r), "permissions violation") && strings.Contains(r, fmt.Sprintf("%q", s))
		}) {
			t.Errorf("%d: %s was not refused", i, s)
		}
	}

	// While others work, nothing of it is heard.
	_, js := g.publisher(t, "acme")
	for range 20 {
		if _, err := js.Publish(t.Context(), "events.acme.x", []byte(`1`)); err != nil {
			t.Fatal(err)
		}
	}
	g.append(t, "acme", event("y"))
	if err := spy.Flush(); err != nil {
		t.Fatal(err)
	}
	select {
	case m := <-heard:
		t.Errorf("heard %s %q", m.Subject, m.Data)
	default:
	}
	for org, want := range map[string]stream.Seq{"acme": 21, "globex": 0, "hooks": 0} {
		st, err := g.State(t.Context(), "EVENTS_"+org)
		if err != nil || st.Last != want {
			t.Errorf("%s: last %d, want %d; %v", org, st.Last, want, err)
		}
	}
	if err := inbox.Unsubscribe(); err != nil {
		t.Error(err)
	}
	if n := strings.Count(g.logs.String(), "level=WARN"); n > 3 {
		t.Errorf("%d warnings of one address:\n%s", n, g.logs)
	}
}

func TestPublisherSignsInTwice(t *testing.T) {
	g := newGuarded(t, stream.ServerOptions{})
	r := dialRaw(t, g.server.Addr())
	in := bufio.NewReader(r)
	expect := func(want string) {
		t.Helper()
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				t.Fatalf("%s: %v", want, err)
			}
			if strings.Contains(line, want) {
				return
			}
			if strings.HasPrefix(line, "PONG") {
				t.Fatalf("not told %q", want)
			}
		}
	}
	expect("Authorization Violation") // dialRaw gives no name
	r = dialPlain(t, g.server.Addr())
	in = bufio.NewReader(r)
	connectAs := `CONNECT {"headers":true,"no_responders":true,"verbose":false,"user":"%s","pass":"%s-secret"}` + "\r\n"
	fmt.Fprintf(r, connectAs, "acme", "acme")
	fmt.Fprintf(r, connectAs, "globex", "globex")
	fmt.Fprint(r, "SUB _INBOX.me 1\r\nPUB events.acme.x _INBOX.me 1\r\n1\r\nPING\r\n")
	expect(`Permissions Violation for Publish to "events.acme.x"`)
	expect("PONG")
	fmt.Fprint(r, "PUB events.globex.x _INBOX.me 1\r\n1\r\n")
	expect(`"EVENTS_globex"`)
	g.tokens.revoke("globex-secret")
	if n := g.server.Disconnect(func(p stream.Publisher) bool { return p.Org == "acme" }); n != 0 {
		t.Errorf("%d connections of acme", n)
	}
	if n := g.server.Disconnect(func(p stream.Publisher) bool { return p.Org == "globex" }); n != 1 {
		t.Errorf("%d connections of globex", n)
	}
}

func TestPublisherCannotHarmItsStream(t *testing.T) {
	g := newGuarded(t, stream.ServerOptions{})
	nc, _ := g.publisher(t, "acme")
	for range 3 {
		g.append(t, "acme", event("x"))
	}
	for _, h := range []nats.Header{
		{"Nats-Rollup": {"all"}}, {"Nats-Rollup": {"sub"}}, {"Nats-TTL": {"1s"}}, {"Nats-Incr": {"1"}},
		{"Nats-Schedule": {"@at 2020-01-01T00:00:00Z"}, "Nats-Schedule-Target": {"events.globex.x"}},
		{"Nats-Schedule-Target": {"events.acme.x"}, "Nats-Schedule": {"@every 1s"}, "Nats-Schedule-TTL": {"1s"}},
		{"Nats-Expected-Stream": {"EVENTS_globex"}}, {"Nats-Expected-Last-Msg-Id": {"x"}}, {"Nats-Batch-Id": {"b"}, "Nats-Batch-Sequence": {"2"}, "Nats-Batch-Commit": {"1"}},
	} {
		m := nats.NewMsg("events.acme.x")
		m.Data, m.Header = []byte(`0`), h
		r, err := nc.RequestMsg(m, 5*time.Second)
		if err != nil {
			t.Errorf("%v: no answer: %v", h, err)
		} else if !strings.Contains(string(r.Data), `"error"`) {
			t.Errorf("%v: taken: %s", h, r.Data)
		}
	}
	// These are stored as any header is, and mean nothing.
	for _, h := range []nats.Header{
		{"Nats-Request-Info": {`{"acc":"globex","user":"root"}`}}, {"Nats-Stream": {"EVENTS_globex"}, "Nats-Sequence": {"99"}}, {"Nats-Marker-Reason": {"Purge"}},
	} {
		m := nats.NewMsg("events.acme.x")
		m.Data, m.Header = []byte(`9`), h
		if r, err := nc.RequestMsg(m, 5*time.Second); err != nil || strings.Contains(string(r.Data), `"error"`) {
			t.Errorf("%v: %v, %v", h, r, err)
		}
	}
	got := all(t, g.Client, "EVENTS_acme")
	if diff := cmp.Diff([]stream.Seq{1, 2, 3, 4, 5, 6}, seqs(got)); diff != "" {
		t.Errorf("sequences: %s", diff)
	}
	if len(got) > 3 && len(got[3].Header) > 0 {
		t.Errorf("headers %v", got[3].Header)
	}
	if st, err := g.State(t.Context(), "EVENTS_globex"); err != nil || st.Last != 0 {
		t.Errorf("globex: %+v, %v", st, err)
	}
}

func TestPublisherOfExtraSubjects(t *testing.T) {
	g := newGuarded(t, stream.ServerOptions{})
	g.create(t, "crm", "webhook.>")
	g.create(t, "erp", "legacy.*.done")
	for org, extra := range map[string]string{"crm": "webhook.>", "erp": "legacy.*.done"} {
		p := publisher(org)
		p.Subjects = append(p.Subjects, extra)
		g.tokens.set(org+"-secret", p)
	}
	cases := []struct {
		org, subject string
		taken        bool
	}{
		{"crm", "webhook.invoice.paid", true}, {"crm", "events.crm.x", true}, {"crm", "legacy.x.done", false}, {"crm", "webhook", false},
		{"erp", "legacy.x.done", true}, {"erp", "webhook.invoice.paid", false}, {"erp", "legacy.x.begun", false}, {"acme", "webhook.x", false},
	}
	for _, c := range cases {
		t.Run(c.org+" "+c.subject, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			nc, _ := g.publisher(t, c.org, nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) { cancel() }))
			r, err := nc.RequestWithContext(ctx, c.subject, []byte(`1`))
			if taken := err == nil && strings.Contains(string(r.Data), "EVENTS_"+c.org); taken != c.taken {
				t.Errorf("taken %v: %v", taken, err)
			}
		})
	}
}
