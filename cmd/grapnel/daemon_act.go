package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/sqlite"
	"github.com/grapnel-hooks/grapnel/stream"
	"github.com/oklog/ulid/v2"
)

const (
	testType = "webhook.test" // the type of what is sent to try an endpoint
	maxTests = 64             // at once, over all endpoints
	orgTests = maxTests / 8   // of one organization: its receivers may hang
)

// tests are the requests under way that somebody asked for to try an endpoint.
type tests struct {
	ctx  context.Context // ended when the daemon stops
	stop context.CancelFunc

	mu     sync.Mutex
	rows   map[int64]bool // endpoints with one under way
	orgs   map[string]int // how many each organization has
	ending bool
	wg     sync.WaitGroup
}

func newTests() *tests {
	t := &tests{rows: map[int64]bool{}, orgs: map[string]int{}}
	t.ctx, t.stop = context.WithCancel(context.Background())
	return t
}

// begin reports whether a test of the endpoint may begin; if so, done ends it.
func (t *tests) begin(org string, row int64) (done func(), ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ending || t.rows[row] || len(t.rows) >= maxTests || t.orgs[org] >= orgTests {
		return nil, false
	}
	t.rows[row] = true
	t.orgs[org]++
	t.wg.Add(1)
	return func() {
		t.mu.Lock()
		delete(t.rows, row)
		if t.orgs[org]--; t.orgs[org] == 0 {
			delete(t.orgs, org)
		}
		t.mu.Unlock()
		t.wg.Done()
	}, true
}

// end cuts off the tests under way and waits for them.
func (t *tests) end() {
	t.mu.Lock()
	t.ending = true
	t.mu.Unlock()
	t.stop()
	t.wg.Wait()
}

// TestEndpoint sends one request as the lanes do: signed with the endpoint's
// secrets, with its headers, within its timeout, and guarded. Nothing else
// hears of it but the audit: before it is sent, since it may show to the
// receiver that this organization knows its address.
func (d *daemon) TestEndpoint(ctx context.Context, org, id string) (httpapi.Test, error) {
	ep, err := d.store.GetEndpoint(ctx, org, id)
	if err != nil {
		return httpapi.Test{}, answered(err)
	}
	done, ok := d.tests.begin(org, ep.Row)
	if !ok {
		return httpapi.Test{}, fmt.Errorf("test endpoint %s: %w", id, httpapi.ErrBusy)
	}
	defer done()
	target, err := d.formats.Target(ep)
	if errors.Is(err, deliver.ErrFormat) {
		return httpapi.Test{}, fmt.Errorf("%w: %w", httpapi.ErrState, err)
	}
	if err != nil {
		return httpapi.Test{}, err
	}
	if err := d.store.Audited(d.asked(ctx, nil), org, "endpoint.test", id); err != nil {
		return httpapi.Test{}, answered(err)
	}
	sending, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.tests.ctx, cancel)()
	now := time.Now()
	t := httpapi.Test{
		Key:     deliver.Key{Endpoint: ep.Row}, // events are numbered from 1
		Attempt: deliver.Attempt{Number: 1, Trigger: deliver.Test, Started: now},
	}
	p := testPayload(ep, now)
	t.Outcome = d.sender.Send(sending, target, p, t.Key, t.Number, now)
	t.Request.ShownRequest, err = d.formats.Shown(ep.RequestSettings(), p, t.Key, t.Number, now, d.userAgent(now))
	return t, err
}

// testPayload is a made-up event for the endpoint.
func testPayload(ep deliver.Endpoint, now time.Time) *deliver.Payload {
	data, _ := json.Marshal(struct { // texts can always be encoded
		Message    string `json:"message"`
		EndpointID string `json:"endpoint_id"`
	}{"This is a test of your endpoint. Nothing has happened.", ep.ID})
	ev := stream.Event{
		ID: stream.ID(ulid.Make()), Org: ep.Org, Type: testType, Workspace: ep.Workspace, SchemaVersion: "1",
		Stored: now, Time: now.UTC(), Data: data,
	}
	return &deliver.Payload{ID: ev.ID, Org: ev.Org, Type: ev.Type, Stored: now, Body: stream.AppendStandard(nil, &ev)}
}

// RetryDelivery makes a delivery due now.
func (d *daemon) RetryDelivery(ctx context.Context, org string, key deliver.Key) (deliver.Delivery, error) {
	was, _, err := d.store.GetDelivery(ctx, org, key)
	if err != nil {
		return was, answered(err)
	}
	if was.State != deliver.Pending {
		if err := d.payloadLeft(ctx, key.Event); err != nil {
			return was, err
		}
	}
	if _, err := d.store.RetryDelivery(d.asked(ctx, nil), org, key); err != nil {
		return deliver.Delivery{}, inState(err)
	}
	d.lanes.ProbeNow(key.Endpoint)
	now, _, err := d.store.GetDelivery(ctx, org, key)
	return now, answered(err)
}

// CancelDelivery ends a pending delivery in the books, and then in its lane.
func (d *daemon) CancelDelivery(ctx context.Context, org string, key deliver.Key) (deliver.Delivery, error) {
	err := d.store.CancelDelivery(d.asked(ctx, nil), org, key)
	if err != nil && !errors.Is(err, sqlite.ErrState) {
		return deliver.Delivery{}, answered(err)
	}
	now, _, found := d.store.GetDelivery(ctx, org, key)
	switch {
	case found != nil:
		return now, answered(found)
	case err != nil:
		return now, fmt.Errorf("the delivery is %s, and only a pending one can be cancelled: %w", now.State, httpapi.ErrState)
	}
	// Crash here: the lane is gone with its memory.
	d.lanes.Drop(key)
	return now, nil
}

// ReplayEvent makes the deliveries of an event due now.
func (d *daemon) ReplayEvent(ctx context.Context, org string, id stream.ID, endpoint string) ([]deliver.Delivery, deliver.Key, error) {
	none := deliver.Key{}
	if endpoint != "" {
		switch _, err := d.store.GetEndpoint(ctx, org, endpoint); {
		case errors.Is(err, sqlite.ErrNotFound):
			return nil, none, &httpapi.Invalid{Field: "endpoint_id", Detail: "the organization has no such endpoint"}
		case err != nil:
			return nil, none, answered(err)
		}
	}
	known, err := d.store.GetEvent(ctx, org, id)
	if errors.Is(err, sqlite.ErrNotFound) {
		if _, err := d.Event(ctx, org, id); err != nil {
			return nil, none, err
		}
		return nil, none, fmt.Errorf("no endpoint had event %s: %w", id, httpapi.ErrState)
	}
	if err != nil {
		return nil, none, answered(err)
	}
	if err := d.payloadLeft(ctx, known.Event); err != nil {
		return nil, none, err
	}
	keys, err := d.store.ReplayEvent(d.asked(ctx, nil), org, id, endpoint)
	if err != nil {
		return nil, none, inState(err)
	}
	replayed := make(map[deliver.Key]bool, len(keys))
	for _, k := range keys {
		replayed[k] = true
		d.lanes.ProbeNow(k.Endpoint)
	}
	page, next, err := d.store.ListDeliveries(ctx, org, sqlite.Filter{Event: id, Endpoint: endpoint}, sqlite.MaxPage, none)
	if err != nil {
		return nil, none, answered(err)
	}
	var list []deliver.Delivery
	for _, dl := range page {
		if replayed[dl.Key] {
			list = append(list, dl)
		}
	}
	return list, next, nil
}

// payloadLeft says why what was sent once cannot be sent again: neither the
// stream nor the books hold it any more. Whether they do may not be known when
// the broker is away; then the delivery waits for it.
func (d *daemon) payloadLeft(ctx context.Context, event int64) error {
	ctx, cancel := context.WithTimeout(ctx, finishWithin)
	defer cancel()
	found, err := d.source.Payloads(ctx, []int64{event})
	if p, known := found[event]; err == nil && known && p == nil {
		return fmt.Errorf("the event's data are gone: its stream does not hold them any more: %w", httpapi.ErrState)
	}
	return nil
}

// inState turns a refusal of the books into one that can be shown.
func inState(err error) error {
	if errors.Is(err, sqlite.ErrState) {
		return fmt.Errorf("%s: %w", strings.TrimSuffix(err.Error(), ": "+sqlite.ErrState.Error()), httpapi.ErrState)
	}
	return answered(err)
}
