package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/delivertest"
	"github.com/grapnel-hooks/grapnel/deliver/sign"
	"github.com/grapnel-hooks/grapnel/stream"
)

// endpoint makes one of acme and returns its id and the way to act on it.
func (l *living) endpoint(t *testing.T, url string, change ...func(*httpapi.NewEndpoint)) httpapi.MadeEndpoint {
	t.Helper()
	e := httpapi.NewEndpoint{
		Org: "acme", URL: url, EventTypes: []string{"*"}, Timeout: deliver.DefaultTimeout, Retry: deliver.DefaultPolicy, Concurrency: 1,
	}
	for _, c := range change {
		c(&e)
	}
	made, err := l.AddEndpoint(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// deliveries waits until so many of acme's are in that state, and lists them.
func (l *living) deliveries(t *testing.T, n int, state deliver.State) []deliver.Delivery {
	t.Helper()
	var ds []deliver.Delivery
	until(t, fmt.Sprintf("%d %v", n, state), func() bool {
		var err error
		if ds, _, err = l.Deliveries(t.Context(), "acme", httpapi.DeliveryFilter{State: &state}, deliver.Key{}, 250); err != nil {
			t.Fatal(err)
		}
		return len(ds) == n
	})
	return ds
}

// until waits for what another goroutine does.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for !is() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not so: %s", what)
		}
	}
}

func path(org, kind, id, act string) string {
	return fmt.Sprintf("/api/v1/orgs/%s/%s/%s/%s", org, kind, id, act)
}

// proven fails the test when fsck finds something.
func (l *living) proven(t *testing.T) {
	t.Helper()
	books, err := l.Fsck(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range books {
		if b.Wrong > 0 {
			t.Errorf("fsck: %v", b.Problems)
		}
	}
}

func TestTestEndpoint(t *testing.T) {
	secret := sign.NewSecret()
	r := delivertest.NewReceiver(secret)
	r.Script(delivertest.Status(204), delivertest.Reply(500, "no", "Server", "x"))
	l := live(t, shortDir(t))
	l.addOrg(t, httpapi.Org{ID: "acme", Payload: "data"})
	ep := l.endpoint(t, r.Start(t), func(e *httpapi.NewEndpoint) { e.Secret, e.Disabled = secret.Reveal(), true })
	test := path("acme", "endpoints", ep.ID, "test")
	for i, want := range []httpapi.AttemptBody{
		{Number: 1, Trigger: "test", StatusCode: 204},
		{Number: 1, Trigger: "test", StatusCode: 500, ErrorClass: "http_5xx", ResponseBody: "no", ResponseHeaders: map[string]string{"content-type": "text/plain; charset=utf-8", "server": "x"}},
	} {
		var got httpapi.AttemptBody
		if status := l.ask(t, "POST", test, "", "", &got); status != 200 {
			t.Fatalf("test %d: %d", i, status)
		}
		if !strings.HasPrefix(got.ID, "att_") || got.Time.IsZero() || got.DurationMS <= 0 {
			t.Errorf("test %d: %+v", i, got)
		}
		if got.Request == nil || got.Request.Headers["webhook-signature"] != "[redacted]" || got.Request.Body == "" || got.Timings == nil || got.RemoteAddress == "" {
			t.Errorf("test %d: %+v", i, got)
		}
		got.Request, got.Timings, got.RemoteAddress = nil, nil, ""
		got.ID, got.Time, got.DurationMS, got.ResponseHeaders = "", time.Time{}, 0, want.ResponseHeaders
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("test %d (-want +got):\n%s", i, diff)
		}
	}
	seen := r.Requests()
	if len(seen) != 2 || seen[0].ID() == seen[1].ID() {
		t.Fatalf("the receiver saw %d requests", len(seen))
	}
	for _, q := range seen {
		if q.Invalid != nil {
			t.Errorf("not verified: %v", q.Invalid)
		}
		var body struct {
			ID, Type string
			Org      string `json:"organization_id"`
			Data     struct {
				Message    string
				EndpointID string `json:"endpoint_id"`
			}
		}
		if err := json.Unmarshal(q.Body, &body); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.ParseID(body.ID); err != nil || body.ID != q.ID() || body.Type != "webhook.test" || body.Org != "acme" || body.Data.EndpointID != ep.ID || body.Data.Message == "" {
			t.Errorf("body %s: %v", q.Body, err)
		}
	}
	// It is no event and no delivery, and does nothing to the endpoint.
	if ds, _, err := l.Deliveries(t.Context(), "acme", httpapi.DeliveryFilter{}, deliver.Key{}, 10); err != nil || len(ds) > 0 {
		t.Errorf("deliveries: %+v, %v", ds, err)
	}
	if st, err := l.broker.State(t.Context(), "EVENTS_acme"); err != nil || st.Last != 0 {
		t.Errorf("the stream ends at %d, %v", st.Last, err)
	}
	if e, err := l.Endpoint(t.Context(), "acme", ep.ID); err != nil || e.Enabled() || !e.FailingSince.IsZero() {
		t.Errorf("endpoint: %+v, %v", e.DisabledReason, err)
	}
	entries, err := l.Audit(t.Context(), "acme", 0, 2)
	if err != nil || len(entries) != 2 || entries[0].Action != "endpoint.test" || entries[1].Target != ep.ID {
		t.Errorf("audit: %+v, %v", entries, err)
	}
	if status := l.ask(t, "POST", path("acme", "endpoints", "ep_none", "test"), "", "", nil); status != 404 {
		t.Errorf("an endpoint that is not there: %d", status)
	}
}

// A receiver that hangs is tested once at a time, and holds up no end.
func TestTestOfAnEndpointThatHangs(t *testing.T) {
	r := delivertest.NewReceiver()
	r.Otherwise(delivertest.Hang())
	l := live(t, shortDir(t))
	l.addOrg(t, httpapi.Org{ID: "acme", Payload: "data"})
	ep := l.endpoint(t, r.Start(t))
	first := make(chan httpapi.Test, 1)
	go func() {
		got, err := l.TestEndpoint(context.WithoutCancel(t.Context()), "acme", ep.ID)
		if err != nil {
			t.Error(err)
		}
		first <- got
	}()
	if _, err := r.Wait(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if status := l.ask(t, "POST", path("acme", "endpoints", ep.ID, "test"), "", "", nil); status != http.StatusTooManyRequests {
		t.Errorf("a second one: %d", status)
	}
	// Whoever asked goes away.
	other := l.endpoint(t, r.Start(t))
	gone, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := l.TestEndpoint(gone, "acme", other.ID)
		left <- err
	}()
	if _, err := r.Wait(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	leave()
	if err := <-left; err != nil {
		t.Error(err)
	}
	l.end()
	if got := <-first; got.Class != deliver.Ours {
		t.Errorf("cut off by the end: %+v", got)
	}
	if _, err := l.TestEndpoint(t.Context(), "acme", ep.ID); err == nil {
		t.Error("tested after the end")
	}
}

// What is cancelled while it waits in memory is not sent; what is under way ends,
// and is not sent again.
func TestCancelDelivery(t *testing.T) {
	r := delivertest.NewReceiver()
	release := make(chan struct{})
	r.Script(delivertest.Hold(release, delivertest.Status(500)))
	dir := shortDir(t)
	l := live(t, dir)
	l.addOrg(t, httpapi.Org{ID: "acme", Payload: "data"})
	l.endpoint(t, r.Start(t))
	if status := l.ask(t, "POST", acmeEvents, `[{"type":"a","data":1},{"type":"b","data":2},{"type":"c","data":3}]`, "", nil); status != 201 {
		t.Fatal(status)
	}
	pending := l.deliveries(t, 3, deliver.Pending) // the newest first
	if _, err := r.Wait(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{2, 1} { // under way, and waiting
		var got httpapi.DeliveryBody
		cancel := path("acme", "deliveries", pending[i].ID(pending[i].Stored), "cancel")
		if status := l.ask(t, "POST", cancel, "", "", &got); status != 200 || got.Status != "cancelled" || got.Reason != "manual" || got.NextAttemptAt != nil {
			t.Errorf("%d %+v", status, got)
		}
		var p httpapi.Problem
		if status := l.ask(t, "POST", cancel, "", "", &p); status != 409 || !strings.Contains(p.Detail, "is cancelled") {
			t.Errorf("again: %d %+v", status, p)
		}
	}
	close(release)
	l.deliveries(t, 1, deliver.Delivered)
	for i, want := range map[int]string{2: "cancelled 1 http_5xx", 1: "cancelled 0 "} {
		until(t, want, func() bool { // the outcome may come to the books a moment later
			d, attempts, err := l.Delivery(t.Context(), "acme", pending[i].Key)
			if err != nil {
				t.Fatal(err)
			}
			class := ""
			if len(attempts) > 0 {
				class = attempts[0].Class.String()
			}
			return fmt.Sprintf("%v %d %s", d.State, d.Attempts, class) == want
		})
	}
	l.proven(t)
	l.end()

	// Neither is sent by the next process; asked for, both are.
	l = live(t, dir)
	for _, i := range []int{2, 1} {
		if _, err := l.RetryDelivery(t.Context(), "acme", pending[i].Key); err != nil {
			t.Fatal(err)
		}
	}
	l.deliveries(t, 3, deliver.Delivered)
	if n := len(r.Requests()); n != 4 {
		t.Errorf("the receiver saw %d requests, want 4", n)
	}
	l.proven(t)
}

func TestReplayEvent(t *testing.T) {
	r := delivertest.NewReceiver()
	l := live(t, shortDir(t))
	l.addOrg(t, httpapi.Org{ID: "acme", Payload: "data"})
	url := r.Start(t)
	one, two := l.endpoint(t, url), l.endpoint(t, url)
	never := l.endpoint(t, url, func(e *httpapi.NewEndpoint) { e.EventTypes = []string{"other"} })
	var made httpapi.AppendedBody
	if status := l.ask(t, "POST", acmeEvents, `{"type":"a","data":1}`, "", &made); status != 201 {
		t.Fatal(status)
	}
	l.deliveries(t, 2, deliver.Delivered)
	replay := path("acme", "events", made.ID, "replay")
	seen := 2
	for _, c := range []struct {
		name, path, body string
		endpoints        []string
	}{
		{"all", replay, "", []string{one.ID, two.ID}},
		{"all, with an empty body", replay, "{}", []string{one.ID, two.ID}},
		{"one", replay, `{"endpoint_id":"` + two.ID + `"}`, []string{two.ID}},
		{"by its sequence", path("acme", "events", "1", "replay"), `{"endpoint_id":"` + one.ID + `"}`, []string{one.ID}},
	} {
		var got httpapi.List[httpapi.DeliveryBody]
		if status := l.ask(t, "POST", c.path, c.body, "", &got); status != 202 {
			t.Fatalf("%s: %d", c.name, status)
		}
		var endpoints []string
		for _, d := range got.Data {
			endpoints = append(endpoints, d.EndpointID)
		}
		if diff := cmp.Diff(c.endpoints, endpoints); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
		seen += len(c.endpoints)
		requests, err := r.Wait(t.Context(), seen)
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range requests {
			if q.ID() != made.ID {
				t.Errorf("%s: webhook-id %s, want %s", c.name, q.ID(), made.ID)
			}
		}
		l.deliveries(t, 2, deliver.Delivered)
	}
	for _, d := range l.deliveries(t, 2, deliver.Delivered) {
		_, attempts, err := l.Delivery(t.Context(), "acme", d.Key)
		if err != nil || len(attempts) != 4 {
			t.Fatalf("%d attempts, %v", len(attempts), err)
		}
		for i, a := range attempts {
			if want := []deliver.Trigger{deliver.First, deliver.Replay}[min(i, 1)]; a.Trigger != want || a.Number != i+1 {
				t.Errorf("attempt %d: %v, number %d", i, a.Trigger, a.Number)
			}
		}
	}

	refused := func(name, path, body string, status int, part string) {
		t.Helper()
		var p httpapi.Problem
		if got := l.ask(t, "POST", path, body, "", &p); got != status || !strings.Contains(p.Error(), part) {
			t.Errorf("%s: %d %s", name, got, p.Error())
		}
	}
	refused("never had it", replay, `{"endpoint_id":"`+never.ID+`"}`, 409, "never had it")
	refused("no endpoint", replay, `{"endpoint_id":"ep_none"}`, 422, "endpoint_id")
	refused("no event", path("acme", "events", stream.KeyID("acme", "x").String(), "replay"), "", 404, "no event")
	if _, err := l.ChangeEndpoint(t.Context(), "acme", one.ID, httpapi.EndpointChange{EventTypes: &[]string{"other"}}); err != nil {
		t.Fatal(err)
	}
	if err := l.RemoveEndpoint(t.Context(), "acme", two.ID); err != nil {
		t.Fatal(err)
	}
	refused("an endpoint that was removed", replay, `{"endpoint_id":"`+two.ID+`"}`, 422, "endpoint_id")
	var nobody httpapi.AppendedBody
	l.ask(t, "POST", acmeEvents, `{"type":"nobody","data":1}`, "", &nobody)
	refused("nobody had it", path("acme", "events", nobody.ID, "replay"), "", 409, "no endpoint had")

	// The stream is made anew: nobody has the data any more.
	if err := errors.Join(l.broker.Remove(t.Context(), "acme"), second(l.broker.Create(t.Context(), stream.OrgStream{Org: "acme"}))); err != nil {
		t.Fatal(err)
	}
	refused("the data are gone", replay, "", 409, "data are gone")
	d := l.deliveries(t, 2, deliver.Delivered)[0]
	refused("nor can a delivery be retried", path("acme", "deliveries", d.ID(d.Stored), "retry"), "", 409, "data are gone")
	if n := len(r.Requests()); n != seen {
		t.Errorf("%d requests, want %d", n, seen)
	}
}

func second[T any](_ T, err error) error { return err }

// Receivers that hang hold some of the requests that may be under way to try
// endpoints, and leave others' theirs.
func TestTestsOfOneOrganization(t *testing.T) {
	tests := newTests()
	defer tests.end()
	var row int64
	fill := func(org string) (ends []func()) {
		for range 2 * maxTests {
			row++
			if done, ok := tests.begin(org, row); ok {
				ends = append(ends, done)
			}
		}
		return ends
	}
	ends := fill("acme")
	if len(ends) != orgTests {
		t.Errorf("one organization has %d tests under way, want %d", len(ends), orgTests)
	}
	others := fill("beta")
	if len(others) != orgTests {
		t.Errorf("another one has %d", len(others))
	}
	for _, done := range append(ends, others...) {
		done()
	}
	if again := fill("acme"); len(again) != orgTests {
		t.Errorf("then %d", len(again))
	} else {
		for _, done := range again {
			done()
		}
	}
}
