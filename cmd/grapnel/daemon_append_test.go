package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/stream"
)

// living is a daemon on a directory that can be lived in again.
type living struct {
	*daemon
	h    http.Handler // of the operator
	end  func()       // once or more
	stop context.CancelFunc
}

// live opens a daemon on dir and runs it until the test, or end, ends it.
func live(t *testing.T, dir string, change ...func(*daemonOptions)) *living {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	o := daemonOptions{Data: dir, Version: "test", NATSListen: "off", NATSSync: time.Minute, AllowHTTP: true, Allow: loopback, Log: log}
	for _, c := range change {
		c(&o)
	}
	d, err := openDaemon(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	for !d.ready.Load() {
		runtime.Gosched()
	}
	gone := false
	l := &living{daemon: d, stop: stop, h: httpapi.Operator(httpapi.Options{Service: d, Log: log, Version: "test"}), end: func() {
		if gone {
			return
		}
		gone = true
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}}
	t.Cleanup(l.end)
	return l
}

// ask makes a request as the operator and decodes its answer.
func (l *living) ask(t *testing.T, method, path, body, key string, out any) int {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	w := httptest.NewRecorder()
	l.h.ServeHTTP(w, r)
	if out != nil {
		if err := json.Unmarshal(w.Body.Bytes(), out); err != nil {
			t.Errorf("%s %s: %d %s", method, path, w.Code, w.Body)
		}
	}
	return w.Code
}

func (l *living) addOrg(t *testing.T, o httpapi.Org) {
	t.Helper()
	if _, err := l.AddOrg(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}

const acmeEvents = "/api/v1/orgs/acme/events"

// The answer to an append names each event as the stream does, with and without
// dedupe keys, whatever the organization's publishers send.
func TestAppendAnswers(t *testing.T) {
	for _, payload := range []string{"data", "envelope"} {
		l := live(t, shortDir(t))
		l.addOrg(t, httpapi.Org{ID: "acme", Payload: payload})
		var got []httpapi.AppendedBody
		if status := l.ask(t, "POST", acmeEvents, `[{"type":"a","data":1},{"type":"b","data":2,"dedupe_key":"k"},{"type":"c","data":3},{"type":"d","data":4,"dedupe_key":"k"}]`, "", &got); status != 201 {
			t.Fatal(status)
		}
		for i, want := range []stream.Seq{1, 2, 3, 2} {
			ev, err := l.EventAt(t.Context(), "acme", want)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(httpapi.AppendedBody{ID: ev.ID.String(), Seq: uint64(want), Duplicate: i == 3}, got[i]); diff != "" {
				t.Errorf("%s, event %d (-want +got):\n%s", payload, i, diff)
			}
		}
		var one httpapi.AppendedBody
		if status := l.ask(t, "POST", acmeEvents, `{"type":"e","data":5}`, "", &one); status != 201 || one.Seq != 4 {
			t.Errorf("%d %+v", status, one)
		}
		// All of a batch are checked before one is stored.
		var p httpapi.Problem
		body := `[{"type":"a","data":1},{"type":"a","data":"` + strings.Repeat("x", 300<<10) + `"}]`
		if status := l.ask(t, "POST", acmeEvents, body, "", &p); status != 422 || len(p.Errors) != 1 || p.Errors[0].Location != "body[1].data" {
			t.Errorf("%d %+v", status, p)
		}
		if st, err := l.broker.State(t.Context(), "EVENTS_acme"); err != nil || st.Last != 4 {
			t.Errorf("the stream ends at %d, %v", st.Last, err)
		}
		l.end()
	}
}

// A request with an Idempotency-Key whose process dies between the stream and
// the answer takes effect once.
func TestAppendOnceThroughACrash(t *testing.T) {
	dir := shortDir(t)
	crash := true
	first := live(t, dir, func(o *daemonOptions) {
		o.Failpoint = func(name string) {
			if name == "append.stored" && crash {
				runtime.Goexit() // nobody answers any more
			}
		}
	})
	first.addOrg(t, httpapi.Org{ID: "acme", Payload: "data"})
	const body = `[{"type":"a","data":1},{"type":"b","data":2,"dedupe_key":"own"},{"type":"a","data":1}]`
	dead := make(chan struct{})
	go func() {
		defer close(dead)
		first.ask(t, "POST", acmeEvents, body, "key-1", nil)
		t.Error("it was answered")
	}()
	<-dead
	first.end()

	l := live(t, dir)
	var again, third []httpapi.AppendedBody
	if status := l.ask(t, "POST", acmeEvents, body, "key-1", &again); status != 201 || len(again) != 3 {
		t.Fatalf("%d %+v", status, again)
	}
	if status := l.ask(t, "POST", acmeEvents, body, "key-1", &third); status != 201 {
		t.Fatal(status)
	}
	if diff := cmp.Diff(again, third); diff != "" {
		t.Errorf("another answer:\n%s", diff)
	}
	for i, a := range again {
		if a.Seq != uint64(i+1) || a.Duplicate != (i == 1) {
			t.Errorf("event %d: %+v", i, a)
		}
		if ev, err := l.EventAt(t.Context(), "acme", stream.Seq(i+1)); err != nil || ev.ID.String() != a.ID {
			t.Errorf("event %d is %s: %v", i, a.ID, err)
		}
	}
	if st, err := l.broker.State(t.Context(), "EVENTS_acme"); err != nil || st.Last != 3 {
		t.Errorf("the stream ends at %d, %v", st.Last, err)
	}
	if status := l.ask(t, "POST", acmeEvents, `{"type":"other","data":1}`, "key-1", nil); status != 422 {
		t.Errorf("another request with the key: %d", status)
	}
	// The same without a key, or with another one, is another event.
	var other []httpapi.AppendedBody
	if l.ask(t, "POST", acmeEvents, body, "key-2", &other); len(other) != 3 || other[0].ID == again[0].ID || other[1].ID != again[1].ID {
		t.Errorf("another key: %+v", other)
	}
}

// A request that is refused has not begun: it can be mended under its key.
func TestAppendRefusedKeepsItsKey(t *testing.T) {
	l := live(t, shortDir(t))
	l.addOrg(t, httpapi.Org{ID: "acme", Payload: "data"})
	if status := l.ask(t, "POST", acmeEvents, `{"type":"a","data":1,"dedupe_key":" k"}`, "key", nil); status != 422 {
		t.Error(status)
	}
	if status := l.ask(t, "POST", acmeEvents, `{"type":"a","data":1,"dedupe_key":"k"}`, "key", nil); status != 201 {
		t.Error(status)
	}
}

// Keys of events are made of when the request was first begun, so that the same key
// on another day is another request.
func TestNameEvents(t *testing.T) {
	named := func(org, key string, at time.Time) []stream.Append {
		batch := []stream.Append{{}, {DedupeKey: "own"}, {}}
		if diff := cmp.Diff([]int{0, 2}, nameEvents(batch, org, key, at)); diff != "" {
			t.Error(diff)
		}
		return batch
	}
	at := time.UnixMilli(1795249631000)
	first := named("acme", "k", at)
	if diff := cmp.Diff(first, named("acme", "k", at)); diff != "" {
		t.Errorf("differs when it is repeated:\n%s", diff)
	}
	seen := map[string]bool{"own": true}
	for _, b := range [][]stream.Append{first, named("acme", "k", at.Add(24*time.Hour)), named("acme", "k2", at), named("beta", "k", at)} {
		for _, i := range []int{0, 2} {
			if key := b[i].DedupeKey; seen[key] || stream.CheckDedupeKey(key) != nil {
				t.Errorf("%q is twice or no key", key)
			} else {
				seen[key] = true
			}
		}
		if b[1].DedupeKey != "own" {
			t.Errorf("an event's own key became %q", b[1].DedupeKey)
		}
	}
}

// Nothing is acknowledged that is not stored: a broker that is away is a 503
// with a word about when to come again.
func TestAppendWithoutBroker(t *testing.T) {
	l := live(t, shortDir(t))
	l.addOrg(t, httpapi.Org{ID: "acme", Payload: "data"})
	l.server.Close()
	for _, body := range []string{`{"type":"a","data":1}`, `[{"type":"a","data":1},{"type":"a","data":2}]`} {
		r := httptest.NewRequestWithContext(t.Context(), "POST", acmeEvents, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		l.h.ServeHTTP(w, r)
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
			t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
		}
	}
}
