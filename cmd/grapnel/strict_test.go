package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout/catalogue"
	"github.com/grapnel-hooks/grapnel/stream"
)

// strictDaemon is a running daemon in a directory, and what ends it.
func strictDaemon(t *testing.T, dir string, strict bool, types ...catalogue.Type) (_ *daemon, end func()) {
	t.Helper()
	d, err := openDaemon(t.Context(), daemonOptions{
		Data: dir, Version: "test", NATSListen: "off", NATSSync: time.Second, AllowHTTP: true,
		Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Strict: strict, EventTypes: types,
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	return d, func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// passed waits until the cursor of acme has passed a sequence.
func passed(t *testing.T, d *daemon, seq stream.Seq) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := d.Cursor(ctx, "acme")
		if err == nil && c.Seq >= seq {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("the cursor did not come to %d: %+v, %v", seq, c, err)
		}
	}
}

// Strict is switched on, off and on again, while services publish what the catalogue
// allows and what not; the books stay provable.
func TestStrict(t *testing.T) {
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer receiver.Close()
	dir := shortDir(t)
	paid := catalogue.Type{Name: "invoice.paid", Schema: json.RawMessage(`{"required":["amount"],"properties":{"amount":{"type":"integer"}}}`)}
	ctx := t.Context()

	d, end := strictDaemon(t, dir, true, paid)
	if _, err := d.AddOrg(ctx, httpapi.Org{ID: "acme", Payload: "data"}); err != nil {
		t.Fatal(err)
	}
	endpoint := func(types ...string) (httpapi.MadeEndpoint, error) {
		return d.AddEndpoint(ctx, httpapi.NewEndpoint{
			Org: "acme", URL: receiver.URL, EventTypes: types,
			Timeout: deliver.DefaultTimeout, Retry: deliver.DefaultPolicy, Concurrency: deliver.DefaultConcurrency,
		})
	}
	if _, err := endpoint("*"); err != nil {
		t.Fatal(err)
	}
	made, err := endpoint("invoice.paid", "other.*")
	if err != nil {
		t.Fatal(err)
	}
	var bad *httpapi.Invalid
	if _, err := endpoint("invoice.paid", "invoice.payd", "task.done"); !errors.As(err, &bad) ||
		bad.Field != "event_types" || !strings.Contains(bad.Detail, "invoice.payd, task.done") {
		t.Errorf("an endpoint for unknown types: %v", err)
	}
	change := []string{"nobody.knows"}
	if _, err := d.ChangeEndpoint(ctx, "acme", made.ID, httpapi.EndpointChange{EventTypes: &change}); !errors.As(err, &bad) || bad.Field != "event_types" {
		t.Errorf("an endpoint changed to unknown types: %v", err)
	}

	refused := func(want string, events ...httpapi.NewEvent) {
		t.Helper()
		var bad *httpapi.Invalid
		if _, err := d.Append(ctx, "acme", events); !errors.As(err, &bad) || bad.Field != want || strings.Contains(bad.Detail, "canary") {
			t.Errorf("append: %v, want it refused for %s", err, want)
		}
	}
	good := httpapi.NewEvent{Type: "invoice.paid", Data: []byte(`{"amount":1}`)}
	refused("type", httpapi.NewEvent{Type: "invoice.payd", Data: []byte(`{}`)})
	refused("schema_version", httpapi.NewEvent{Type: "invoice.paid", SchemaVersion: "7", Data: []byte(`{}`)})
	refused("data.amount", httpapi.NewEvent{Type: "invoice.paid", Data: []byte(`{"amount":"canary"}`)})
	refused("events[1].data.amount", good, httpapi.NewEvent{Type: "invoice.paid", Data: []byte(`{}`)})

	// Services publish what they like.
	publish := func(typ, data string) {
		t.Helper()
		if _, err := d.broker.Append(ctx, "acme", stream.Append{Type: typ, Data: []byte(data)}); err != nil {
			t.Fatal(err)
		}
	}
	publish("invoice.paid", `{"amount":1}`)        // 1
	publish("invoice.paid", `{"amount":"canary"}`) // 2
	publish("invoice.payd", `{}`)                  // 3
	passed(t, d, 3)
	if _, err := d.PutEventType(ctx, catalogue.Type{Name: "invoice.payd", Version: "1"}); err != nil {
		t.Fatal(err)
	}
	publish("invoice.payd", `{}`) // 4: known from now on
	passed(t, d, 4)
	end()

	d, end = strictDaemon(t, dir, false)
	publish("task.done", `{}`) // 5
	passed(t, d, 5)
	if _, err := endpoint("task.done"); err != nil {
		t.Errorf("not strict: %v", err)
	}
	end()

	d, end = strictDaemon(t, dir, true)
	defer func() { end() }()
	publish("task.done", `{}`)              // 6
	publish("invoice.paid", `{"amount":2}`) // 7
	passed(t, d, 7)

	rejected, err := d.Rejected(ctx, "acme", httpapi.Place{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range slices.Backward(rejected) {
		got = append(got, string('0'+rune(r.Seq))+" "+r.Code+" "+r.Detail)
	}
	if diff := cmp.Diff([]string{
		"2 schema /amount: is of type string, want integer",
		"3 unknown_type the catalogue has no event type invoice.payd",
		"6 unknown_type the catalogue has no event type task.done",
	}, got); diff != "" {
		t.Error("rejected: -want +got:\n" + diff)
	}
	books, err := d.Fsck(ctx, "acme")
	if err != nil || len(books) != 1 || books[0].Wrong != 0 || books[0].Rejected != 3 {
		t.Errorf("fsck: %+v, %v", books, err)
	}
}

// The configuration has the last word about the types that it names.
func TestConfiguredEventTypes(t *testing.T) {
	dir := shortDir(t)
	configured := catalogue.Type{Name: "invoice.paid", Group: "billing"}
	d, end := strictDaemon(t, dir, false, configured)
	ctx := t.Context()
	for _, typ := range []catalogue.Type{{Name: "invoice.paid", Version: "1", Group: "changed"}, {Name: "task.done", Version: "1"}} {
		if _, err := d.PutEventType(ctx, typ); err != nil {
			t.Fatal(err)
		}
	}
	end()
	d, end = strictDaemon(t, dir, false, configured)
	defer func() { end() }()
	types, err := d.EventTypes(ctx, httpapi.EventTypeFilter{}, "", 10)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, typ := range types {
		got = append(got, typ.Name+" "+typ.Group)
	}
	if diff := cmp.Diff([]string{"invoice.paid billing", "task.done "}, got); diff != "" {
		t.Error("-want +got:\n" + diff)
	}
	entries, err := d.Audit(ctx, "", 0, 10)
	if err != nil || len(entries) != 4 || entries[0].Actor != "grapnel" || entries[0].Target != "invoice.paid@1" {
		t.Errorf("audit: %+v, %v", entries, err)
	}
}

func TestDataField(t *testing.T) {
	for _, tt := range []struct {
		path []string
		want string
	}{
		{nil, "data"},
		{[]string{"amount"}, "data.amount"},
		{[]string{"lines", "0", "sku"}, "data.lines[0].sku"},
		{[]string{"", "a.b"}, "data..a.b"},
	} {
		if got := dataField(tt.path); got != tt.want {
			t.Errorf("%q: %s, want %s", tt.path, got, tt.want)
		}
	}
	if got := dataField([]string{strings.Repeat("é", 500)}); len(got) > 210 || !strings.HasSuffix(got, "…") {
		t.Errorf("a long name makes %d bytes", len(got))
	}
}
