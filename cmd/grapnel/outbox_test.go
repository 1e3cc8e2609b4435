package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/delivertest"
	"github.com/grapnel-hooks/grapnel/deliver/sign"
	"github.com/grapnel-hooks/grapnel/sqlite"
	"github.com/grapnel-hooks/grapnel/stream"
)

// pretendOutbox is an outbox and the streams behind it.
type pretendOutbox struct {
	mu       sync.Mutex // guards fails
	waiting  map[string][]sqlite.Announcement
	streams  map[string][]string // dedupe keys, in their order
	fails    map[string]error    // of an organization's stream
	rejected map[string]bool     // dedupe keys
	forgets  int                 // removals that do not happen: a crash before each
	tries    int
}

func (p *pretendOutbox) relay(wake chan struct{}) *relay {
	return &relay{
		orgs: func() (orgs []string) {
			for org, list := range p.waiting {
				if len(list) > 0 {
					orgs = append(orgs, org)
				}
			}
			slices.Sort(orgs)
			return orgs
		},
		read: func(_ context.Context, org string, limit int) ([]sqlite.Announcement, error) {
			return slices.Clone(p.waiting[org][:min(limit, len(p.waiting[org]))]), nil
		},
		append: func(_ context.Context, org string, batch []stream.Append) error {
			p.tries++
			p.mu.Lock()
			err := p.fails[org]
			p.mu.Unlock()
			if err != nil {
				return err
			}
			for i, a := range batch {
				if p.rejected[a.DedupeKey] {
					return &stream.BatchError{Index: i, Err: &stream.Rejected{Code: stream.CodeTooLarge, Detail: "too large"}}
				}
			}
			for _, a := range batch {
				p.streams[org] = append(p.streams[org], a.DedupeKey)
			}
			return nil
		},
		remove: func(_ context.Context, org string, upTo int64) error {
			if p.forgets > 0 {
				p.forgets--
				return errors.New("crash")
			}
			p.waiting[org] = slices.DeleteFunc(p.waiting[org], func(a sqlite.Announcement) bool { return a.ID <= upTo })
			return nil
		},
		wake: wake, log: slog.New(slog.DiscardHandler), next: map[string]time.Time{},
	}
}

func announcements(keys ...string) (list []sqlite.Announcement) {
	for i, key := range keys {
		list = append(list, sqlite.Announcement{ID: int64(i + 1), Type: stream.EndpointEnabled, DedupeKey: key, Data: json.RawMessage(`{"endpoint_id":"ep_1"}`)})
	}
	return list
}

// Each organization's events come into its stream in their order, whatever
// happens to the streams of others, to single events, and in between.
func TestRelay(t *testing.T) {
	for _, c := range []struct {
		name string
		box  *pretendOutbox
		want map[string][]string
	}{
		{"in order", &pretendOutbox{}, map[string][]string{"a": {"1", "2", "3"}, "b": {"1"}}},
		{"another's stream is away", &pretendOutbox{fails: map[string]error{"a": stream.ErrUnavailable}}, map[string][]string{"b": {"1"}}},
		{"one can be no event", &pretendOutbox{rejected: map[string]bool{"2": true}}, map[string][]string{"a": {"1", "3"}, "b": {"1"}}},
		{"crash before it is removed", &pretendOutbox{forgets: 1}, map[string][]string{"a": {"1", "2", "3", "1", "2", "3"}, "b": {"1"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c.box.streams = map[string][]string{}
				c.box.waiting = map[string][]sqlite.Announcement{"a": announcements("1", "2", "3"), "b": announcements("1")}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if err := c.box.relay(make(chan struct{})).Run(ctx); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(c.want, c.box.streams); diff != "" {
					t.Errorf("streams (-want +got):\n%s", diff)
				}
				if c.box.tries > 20 {
					t.Errorf("%d appends in a minute", c.box.tries)
				}
			})
		})
	}
}

// A stream that is away gets its events when it is back, without a wake-up.
func TestRelayWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box := &pretendOutbox{streams: map[string][]string{}, fails: map[string]error{"a": stream.ErrUnavailable}}
		wake := make(chan struct{}, 1)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- box.relay(wake).Run(ctx) }()
		synctest.Wait()
		box.waiting = map[string][]sqlite.Announcement{"a": announcements("1")}
		wake <- struct{}{}
		synctest.Wait()
		if len(box.streams["a"]) > 0 {
			t.Fatal("it was appended to a stream that is away")
		}
		box.mu.Lock()
		box.fails = nil
		box.mu.Unlock()
		time.Sleep(relayBackoff + time.Second)
		synctest.Wait()
		if diff := cmp.Diff([]string{"1"}, box.streams["a"]); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

// told is what an endpoint that subscribes to operational events was sent.
func told(t *testing.T, r *delivertest.Receiver) (list []map[string]any) {
	t.Helper()
	for _, q := range r.Requests() {
		var body map[string]any
		if err := json.Unmarshal(q.Body, &body); err != nil {
			t.Fatal(err)
		}
		list = append(list, body)
	}
	return list
}

// What happens to an endpoint is told to those that ask for it by webhook.*, once
// each, and to nobody that asks for *. What happens to the one that is told is
// told to nobody.
func TestOperationalEvents(t *testing.T) {
	secret := sign.NewSecret()
	ops, all := delivertest.NewReceiver(secret), delivertest.NewReceiver(secret)
	all.Script(delivertest.Status(410))
	l := live(t, shortDir(t))
	l.addOrg(t, httpapi.Org{ID: "acme", Payload: "data"})
	with := func(types ...string) func(*httpapi.NewEndpoint) {
		return func(e *httpapi.NewEndpoint) { e.Secret, e.EventTypes = secret.Reveal(), types }
	}
	listener := l.endpoint(t, ops.Start(t), with("webhook.*"))
	ep := l.endpoint(t, all.Start(t), with("*"))

	if _, err := l.Append(t.Context(), "acme", []httpapi.NewEvent{{Type: "invoice.paid", Data: json.RawMessage(`{}`)}}); err != nil {
		t.Fatal(err)
	}
	l.deliveries(t, 1, deliver.Dead)
	off := false
	if _, err := l.ChangeEndpoint(t.Context(), "acme", ep.ID, httpapi.EndpointChange{Disabled: &off}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.RotateSecret(t.Context(), "acme", ep.ID, httpapi.Rotation{Overlap: time.Hour}); err != nil {
		t.Fatal(err)
	}
	want := []string{stream.DeliveryDead, stream.EndpointDisabled, stream.EndpointEnabled, stream.EndpointSecretRotated}
	l.deliveries(t, len(want), deliver.Delivered)

	var types []string
	for _, body := range told(t, ops) {
		types = append(types, body["type"].(string))
		data := body["data"].(map[string]any)
		if body["source"] != stream.OperationalSource || data["endpoint_id"] != ep.ID {
			t.Errorf("%v", body)
		}
	}
	slices.Sort(types)
	if diff := cmp.Diff(want, types); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	if n := len(all.Requests()); n != 1 {
		t.Errorf("who asks for * got %d requests, want the event alone", n)
	}

	// The listener's own receiver goes away while it is told of something: nobody
	// is told of that.
	ops.Script(delivertest.Status(410))
	if _, err := l.RotateSecret(t.Context(), "acme", ep.ID, httpapi.Rotation{Overlap: time.Hour}); err != nil {
		t.Fatal(err)
	}
	until(t, "the listener is disabled", func() bool {
		e, err := l.Endpoint(t.Context(), "acme", listener.ID)
		return err == nil && e.DisabledReason == deliver.DisabledGone
	})
	until(t, "the outbox is empty", func() bool { return l.store.OutboxStats().Waiting == 0 })
	events, _, err := l.Events(t.Context(), "acme", httpapi.EventFilter{Type: "webhook.*"}, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	if len(events) != len(want)+1 {
		t.Errorf("%d operational events, want %d", len(events), len(want)+1)
	}
	l.proven(t)
}

// Nobody else appends events that look like ours.
func TestOperationalTypesAreOurs(t *testing.T) {
	l := live(t, shortDir(t))
	l.addOrg(t, httpapi.Org{ID: "acme", Payload: "data"})
	events := []httpapi.NewEvent{{Type: "invoice.paid", Data: json.RawMessage(`{}`)}, {Type: stream.EndpointDisabled, Data: json.RawMessage(`{}`)}}
	_, err := l.Append(t.Context(), "acme", events)
	var invalid *httpapi.Invalid
	if !errors.As(err, &invalid) || invalid.Field != "events[1].type" {
		t.Errorf("append: %v", err)
	}
}
